"""How does LangChain keep its documents in an index? `KektorVectorStore`, a vector store of langchain-core.

>>> import kektordb
>>> from kektordb.integrations.langchain import KektorVectorStore
>>> store = KektorVectorStore(kektordb.open("data"), "docs", embeddings, text_language="english")
>>> store.add_texts(["Red running shoes"], [{"price": 40}], ids=["a"])
>>> store.similarity_search("shoes", k=1, filter={"price": {"$lt": 50}}, mode="hybrid")
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore

from kektordb.errors import ConfigError
from kektordb.index import Index
from kektordb.integrations.conditions import everything
from kektordb.integrations.diversity import diverse
from kektordb.integrations.opening import AnyIndex, Source, delete_present, index_of
from kektordb.integrations.operators import Asked, asked
from kektordb.integrations.scores import score_of
from kektordb.query import Filter
from kektordb.remote import RemoteIndex
from kektordb.results import Hit

__all__ = ["KektorVectorStore"]

MODES = ("vector", "text", "hybrid")

Scored = list[tuple[Document, float]]


class KektorVectorStore(VectorStore):
    """Keeps texts with their vectors and metadata in one index.

    What searches of all kinds take besides LangChain's own arguments, also as ``search_kwargs`` of `as_retriever`:

    filter : str, dict or expression of `kektordb.F`, optional
        Which documents may be found: a filter as in docs/filters.md, or a dict of fields: a value that is wanted, or
        operators: ``$eq $ne $lt $lte $gt $gte $in $nin $between $like $ilike $exists``, under ``$and $or $not``.
    params : dict, optional
        Values for ``$name`` in a filter that is a text.
    mode : str
        ``"vector"`` (the default); ``"text"``, by the words of the query alone; ``"hybrid"``, by both. The latter two
        need an index with a `text_language`.
    alpha, fusion : float, str
        Of hybrid searches, as in `kektordb.Index.search`.
    ef_search : int, optional
        Candidates kept while the graph is walked.

    Scores are larger for what fits better: the cosine, the product for the metric ``dot``, ``1 / (1 + d)`` of the
    squared distance for ``euclidean``; BM25 by words, and the two as one in a hybrid search. Relevance is the score
    between 0 and 1.

    Parameters
    ----------
    database : Database, RemoteDatabase, Index, RemoteIndex, KektorDBClient, str or path
        An open database, a path, the address of a server, or an index.
    index_name : str, optional
        An index that is not there is made. None when an index was given.
    embedding_function : Embeddings
    text_key : str
        The key of an item's metadata that its text is kept under.
    token : str, optional
        For a server.
    settings
        For `Database.create_index`, such as ``metric="cosine"`` and ``text_language="english"``, with which words are
        looked for in the texts.

    Raises
    ------
    ConfigError
        There is an index of this name with another metric, language or dimension.
    """

    def __init__(
        self,
        database: Source,
        index_name: str | None = None,
        embedding_function: Embeddings | None = None,
        *,
        text_key: str = "page_content",
        token: str | None = None,
        **settings: Any,
    ) -> None:
        self._embedding = embedding_function
        self._text_key = text_key
        self._index = index_of(database, index_name, text_key, settings, token)

    @property
    def embeddings(self) -> Embeddings | None:
        """What makes vectors of texts."""
        return self._embedding

    @property
    def index(self) -> AnyIndex:
        """The index, with all that it can do besides."""
        return self._index

    @cached_property
    def _metric(self) -> str:
        return self._index.config.metric

    # ------------------------------------------------------------------------------------------------------- writing

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts, or replace those whose ids are there; all or none. Return their ids.

        Parameters
        ----------
        texts : iterable of str
        metadatas : list of dict, optional
            JSON objects, one for each text, without `text_key`.
        ids : list of str or None, optional
            A text without one gets a new one. When one comes twice, its last text stays.

        Raises
        ------
        ValueError
            There are not as many metadata or ids as texts, or metadata have `text_key`.
        """
        _refuse(kwargs)
        listed = list(texts)
        named, items = self._items(listed, metadatas, ids)
        self._write(named, self._embedder().embed_documents(listed), items)
        return named

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts; see `add_texts`."""
        _refuse(kwargs)
        listed = list(texts)
        named, items = self._items(listed, metadatas, ids)
        vectors = await self._embedder().aembed_documents(listed)
        await run_in_executor(None, self._write, named, vectors, items)
        return named

    def _items(
        self, texts: list[str], metadatas: Sequence[Mapping[str, Any]] | None, ids: Sequence[str | None] | None
    ) -> tuple[list[str], list[dict[str, Any]]]:
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(texts):
                raise ValueError(f"expected {len(texts)} {name}, one for each text, got {len(given)}")
        named = [id or str(uuid.uuid4()) for id in (ids or [None] * len(texts))]
        items = []
        for text, metadata in zip(texts, metadatas or [{}] * len(texts), strict=True):
            if metadata and self._text_key in metadata:
                raise ValueError(
                    f"expected metadata without the key {self._text_key!r}, which holds the text; "
                    "another text_key can be given to the store"
                )
            items.append({**(metadata or {}), self._text_key: text})
        return named, items

    def _write(self, ids: list[str], vectors: Sequence[Sequence[float]], items: list[dict[str, Any]]) -> None:
        if len(set(ids)) < len(ids):
            last = {id: position for position, id in enumerate(ids)}
            ids, vectors, items = list(last), [vectors[i] for i in last.values()], [items[i] for i in last.values()]
        if ids:
            self._index.upsert_batch(ids, vectors, items)

    def delete(
        self,
        ids: Sequence[str] | None = None,
        *,
        filter: Filter | Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> bool | None:
        """Delete documents by ids, those that match a filter, or, without either, all; ids may be missing."""
        _refuse(kwargs)
        if ids is not None and filter is not None:
            raise ConfigError("expected either ids or a filter to delete by, got both")
        if ids is not None:
            delete_present(self._index, ids)
        elif filter is not None:
            found = asked(filter, params)
            if found.filter is None:
                raise ConfigError("expected a filter to delete by, got an empty one; delete() deletes all")
            self._index.delete(filter=found.filter, params=found.params)
        else:
            self._index.delete(filter=everything())
        return True

    # ------------------------------------------------------------------------------------------------------- reading

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents of these ids that are there, each once, in the order of the ids."""
        found = self._index.get_many(ids if isinstance(ids, str) else list(dict.fromkeys(ids)))
        return [self._document(item.id, item.metadata) for item in found if item is not None]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Return the documents that fit a query best; for the arguments see the class."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Return the documents that fit a query best; for the arguments see the class."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        """Return the documents that fit a query best, with their scores: the larger, the better."""
        vector = self._embedder().embed_query(query) if kwargs.get("mode") != "text" else None
        return self._scored(vector, query, k, **kwargs)

    async def asimilarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        """Return the documents that fit a query best, with their scores: the larger, the better."""
        vector = await self._embedder().aembed_query(query) if kwargs.get("mode") != "text" else None
        return await run_in_executor(None, self._scored, vector, query, k, **kwargs)

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """Return the documents whose vectors are nearest to one."""
        return [document for document, _ in self.similarity_search_by_vector_with_score(embedding, k, **kwargs)]

    def similarity_search_by_vector_with_score(self, embedding: list[float], k: int = 4, **kwargs: Any) -> Scored:
        """Return the documents whose vectors are nearest to one, with their scores: the larger, the better."""
        return self._scored(embedding, None, k, **kwargs)

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Return documents that fit a query and are not like each other, out of the `fetch_k` that fit best.

        `lambda_mult` is 1 for the best alone, and 0 for the most different.
        """
        vector = self._embedder().embed_query(query)
        return self._diverse(vector, query, k, fetch_k, lambda_mult, **kwargs)

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Return documents that fit a query and are not like each other; see `max_marginal_relevance_search`."""
        vector = await self._embedder().aembed_query(query)
        return await run_in_executor(None, self._diverse, vector, query, k, fetch_k, lambda_mult, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Return documents that are near a vector and not like each other; see `max_marginal_relevance_search`."""
        return self._diverse(embedding, None, k, fetch_k, lambda_mult, **kwargs)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: min(1.0, max(0.0, score))

    def _scored(self, vector: Sequence[float] | None, query: str | None, k: int, **kwargs: Any) -> Scored:
        hits = self._hits(vector, query, k, **kwargs)
        return [(self._document(hit.id, hit.metadata), score_of(hit, self._metric)) for hit in hits]

    def _diverse(
        self, vector: Sequence[float], query: str | None, k: int, fetch_k: int, lambda_mult: float, **kwargs: Any
    ) -> list[Document]:
        hits = self._hits(vector, query, max(k, fetch_k), include=("metadata", "vector"), **kwargs)
        chosen = diverse(vector, [hit.vector for hit in hits if hit.vector is not None], k, lambda_mult)
        return [self._document(hits[i].id, hits[i].metadata) for i in chosen]

    def _hits(
        self,
        vector: Sequence[float] | None,
        query: str | None,
        k: int,
        *,
        filter: Filter | Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        mode: str = "vector",
        alpha: float = 0.5,
        fusion: str = "minmax",
        ef_search: int | None = None,
        include: Sequence[str] = ("metadata",),
    ) -> list[Hit]:
        if mode not in MODES:
            raise ConfigError(f"expected mode to be one of {', '.join(MODES)}, got {mode!r:.80}")
        if mode != "vector" and query is None:
            raise ConfigError(f"expected a query of words for the mode {mode!r}, got a vector")
        found: Asked = asked(filter, params)
        if mode == "text":
            vector = None
        text = None if mode == "vector" else query
        return list(
            self._index.search(
                vector, k, ef_search, found.filter, found.params, include, text=text, alpha=alpha, fusion=fusion
            )
        )

    def _document(self, id: str, metadata: Mapping[str, Any] | None) -> Document:
        rest = dict(metadata or {})
        text = rest.pop(self._text_key, "")
        return Document(id=id, page_content=text if isinstance(text, str) else str(text), metadata=rest)

    def _embedder(self) -> Embeddings:
        if self._embedding is None:
            raise ConfigError("expected an embedding function, with which texts become vectors; the store has none")
        return self._embedding

    # ------------------------------------------------------------------------------------------------------- making

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        database: Source | None = None,
        client: Source | None = None,
        index_name: str | None = None,
        **kwargs: Any,
    ) -> KektorVectorStore:
        """Make a store and add texts.

        Parameters
        ----------
        texts, metadatas, ids
            As in `add_texts`.
        embedding : Embeddings
        database : optional
            As in the class; without it a new database in memory.
        client
            Another name for `database`.
        index_name : str, optional
            ``"langchain"`` by default.
        kwargs
            As in the class.
        """
        source = database if database is not None else client
        if source is None:
            source = ":memory:"
        if index_name is None and not isinstance(source, Index | RemoteIndex):
            index_name = "langchain"
        store = cls(source, index_name, embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> KektorVectorStore:
        """Make a store and add texts; see `from_texts`."""
        store = await run_in_executor(None, cls.from_texts, [], embedding, **kwargs)
        await store.aadd_texts(texts, metadatas, ids=ids)
        return store


def _refuse(kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise TypeError(f"unexpected arguments: {', '.join(sorted(kwargs))}")
