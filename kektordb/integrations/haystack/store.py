"""How does Haystack keep documents in an index? `KektorDocumentStore`, with all that its public suites ask for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from haystack import default_from_dict, default_to_dict
from haystack.dataclasses import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.utils import Secret

from kektordb.errors import ItemExists, ItemNotFound
from kektordb.index import Index
from kektordb.integrations.conditions import Conditions, everything, joined
from kektordb.integrations.haystack.documents import CONTENT, document_of, item_of, with_embedding
from kektordb.integrations.haystack.filters import Filters, asked, with_errors_of_haystack
from kektordb.integrations.haystack.surveys import count_values, min_and_max, types_of, unique_values
from kektordb.integrations.opening import AnyIndex, Source, address_of, delete_present, index_of, made_anew
from kektordb.integrations.operators import Asked
from kektordb.integrations.scores import score_of
from kektordb.remote import RemoteIndex
from kektordb.results import Hit, Item

__all__ = ["KektorDocumentStore"]

# Items that are looked at together where all are.
SLICE = 1000
TOKEN = Secret.from_env_var("KEKTORDB_TOKEN", strict=False)

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def _in_thread(verb: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Return a coroutine function that calls a verb in a thread."""

    @wraps(verb)
    async def awaited(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(verb, self, *args, **kwargs)

    return awaited


class KektorDocumentStore:
    """Keeps documents in one index: content and ``meta`` as metadata, and the embedding as the vector.

    A document without an embedding has zeros for one; it is found by filters and words alone. Every verb also has a
    name with ``_async``, that is awaited. Filters are Haystack's dicts, or our own with the fields ``content``, ``id``
    and ``meta.…``.

    Parameters
    ----------
    database : str, path, Database, RemoteDatabase, Index or RemoteIndex
        A path or the address of a server, which is opened when it is first needed; or what is open.
    index_name : str, optional
        An index that is not there is made. It is not looked at when an index was given.
    embedding_dim : int
        Components of an embedding.
    metric : str
        ``cosine``, ``dot`` or ``euclidean``.
    text_language : str
        By which words of the content are found; empty for none.
    exact_embeddings : bool
        Whether embeddings come back to the last bit. Otherwise they come back as they are searched: float32, and of
        length 1 for the metric ``cosine``. Takes about 9 bytes more for each component.
    token : Secret, optional
        For a server; by default what ``KEKTORDB_TOKEN`` of the environment says.
    settings : dict, optional
        More for `Database.create_index`.
    """

    def __init__(
        self,
        database: Source = ":memory:",
        index_name: str = "haystack",
        *,
        embedding_dim: int = 768,
        metric: str = "cosine",
        text_language: str = "english",
        exact_embeddings: bool = False,
        token: Secret | None = TOKEN,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._database = database
        self._index_name = index_name
        self._embedding_dim = embedding_dim
        self._metric = metric
        self._text_language = text_language
        self._exact = exact_embeddings
        self._token = token
        self._settings = dict(settings or {})
        self._opening = threading.Lock()
        self._opened: AnyIndex | None = None

    @property
    def index(self) -> AnyIndex:
        """The index, with all that it can do besides; it is opened or made when it is first asked for."""
        with self._opening:
            if self._opened is None:
                wanted = {"metric": self._metric, "text_language": self._text_language, "dim": self._embedding_dim}
                token = None if self._token is None else self._token.resolve_value()
                name = None if isinstance(self._database, Index | RemoteIndex) else self._index_name
                self._opened = index_of(self._database, name, CONTENT, wanted | self._settings, token)
            return self._opened

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` makes such a store of; a database in memory becomes an empty one."""
        return default_to_dict(
            self,
            database=address_of(self._database),
            index_name=self._database.name if isinstance(self._database, Index | RemoteIndex) else self._index_name,
            embedding_dim=self._embedding_dim,
            metric=self._metric,
            text_language=self._text_language,
            exact_embeddings=self._exact,
            token=None if self._token is None else self._token.to_dict(),
            settings=self._settings or None,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> KektorDocumentStore:
        """Make a store of what `to_dict` gave. Stores of one path in one process share its database."""
        parameters = dict(data.get("init_parameters", {}))
        if isinstance(parameters.get("token"), dict):
            parameters["token"] = Secret.from_dict(parameters["token"])
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    # ------------------------------------------------------------------------------------------------------- writing

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents and count them.

        Parameters
        ----------
        documents : list of Document
        policy : DuplicatePolicy
            What becomes of documents whose ids are there: ``SKIP`` keeps the old, ``OVERWRITE`` replaces them, ``FAIL``
            and ``NONE`` refuse all.

        Raises
        ------
        DuplicateDocumentError, ValueError
            Nothing was written.
        """
        if isinstance(documents, str) or not isinstance(documents, Sequence):
            raise ValueError(f"expected a list of documents, got {type(documents).__name__}")
        for document in documents:
            if not isinstance(document, Document):
                raise ValueError(f"expected documents, got {type(document).__name__} {document!r:.80}")
        by_id: dict[str, Document] = {}
        for document in documents:
            if policy == DuplicatePolicy.OVERWRITE or document.id not in by_id:
                by_id[document.id] = document
            elif policy != DuplicatePolicy.SKIP:
                raise DuplicateDocumentError(f"the id {document.id!r} comes twice")
        if policy == DuplicatePolicy.OVERWRITE:
            self._put(by_id, replace=True)
            return len(documents)
        if policy == DuplicatePolicy.SKIP:
            return self._put_new(by_id)
        try:
            self._put(by_id, replace=False)
        except ItemExists as error:
            raise DuplicateDocumentError(str(error)) from error
        return len(by_id)

    def _put(self, documents: Mapping[str, Document], replace: bool) -> None:
        if documents:
            pairs = [item_of(document, self._embedding_dim, self._exact) for document in documents.values()]
            put = self.index.upsert_batch if replace else self.index.add_batch
            put(list(documents), [vector for vector, _ in pairs], [metadata for _, metadata in pairs])

    def _put_new(self, documents: Mapping[str, Document]) -> int:
        """Write the documents whose ids are not there, and count them."""
        conditions = Conditions()
        known = conditions.is_in("id", list(documents))
        while True:
            there = set(self.index.ids(known, conditions.params))
            new = {id: document for id, document in documents.items() if id not in there}
            try:
                self._put(new, replace=False)
            except ItemExists:
                continue  # somebody was faster
            return len(new)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents; ids may be missing."""
        delete_present(self.index, document_ids)

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """Delete all documents, or, which is faster and frees all memory at once, make the index anew."""
        if recreate_index:
            anew = made_anew(self.index)
            with self._opening:
                self._opened = anew
        else:
            self.index.delete(filter=everything())

    def delete_by_filter(self, filters: Filters) -> int:
        """Delete the documents that match a filter, and count them."""
        found = _wanted(filters)
        with with_errors_of_haystack():
            return self.index.delete(filter=found.filter, params=found.params)

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Set keys of ``meta`` of the documents that match a filter, and count these.

        In a database of this process all of them are changed or none, after an error or a crash as well, and other
        writers wait until it is done; it cannot be used inside ``db.batch()``. On a server one is changed after the
        other: an error leaves those before it changed, and a key that somebody else sets meanwhile may be lost.
        """
        found, index = _wanted(filters), self.index
        with index.database.batch() if isinstance(index, Index) else nullcontext():
            return self._update(found, meta)

    def _update(self, found: Asked, meta: Mapping[str, Any]) -> int:
        n = 0
        for item in self._items(found):
            try:
                self.index.update_metadata(item.id, {"meta": {**item.metadata.get("meta", {}), **meta}})
            except ItemNotFound:
                continue  # deleted meanwhile
            n += 1
        return n

    # ------------------------------------------------------------------------------------------------------- reading

    def count_documents(self) -> int:
        """Count all documents."""
        return len(self.index)

    def count_documents_by_filter(self, filters: Filters) -> int:
        """Count the documents that match a filter."""
        found = asked(filters)
        with with_errors_of_haystack():
            return self.index.count(found.filter, found.params)

    def filter_documents(self, filters: Filters | None = None) -> list[Document]:
        """Return the documents that match a filter, or all, in the order in which they came in."""
        return [document_of(item.id, item.metadata, item.vector) for item in self._items(asked(filters))]

    def _items(self, found: Asked) -> Iterator[Item]:
        with with_errors_of_haystack():
            ids = self.index.ids(found.filter, found.params)
        for start in range(0, len(ids), SLICE):
            yield from (item for item in self.index.get_many(ids[start : start + SLICE]) if item is not None)

    def _metas(self, filters: Filters | None = None) -> Iterator[Mapping[str, Any]]:
        return (item.metadata.get("meta", {}) for item in self._items(asked(filters)))

    def count_unique_metadata_by_filter(self, filters: Filters, metadata_fields: list[str]) -> dict[str, int]:
        """Count the different values of some fields of ``meta``, over the documents that match a filter."""
        return count_values(self._metas(filters), metadata_fields)

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Return the ``type`` of each field of ``meta``: keyword, int, float or boolean."""
        return types_of(self._metas())

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Return the ``min`` and ``max`` of a field of ``meta``, None when no document has it."""
        return min_and_max(self._metas(), metadata_field)

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters | None = None,
    ) -> tuple[list[Any], int]:
        """Return some of the different values of a field of ``meta``, ordered by their texts, and how many there are.

        `search_term` leaves those that contain it, without regard to upper and lower case.
        """
        found = unique_values(self._metas(filters), metadata_field, search_term)
        return found[from_ : from_ + size], len(found)

    # ----------------------------------------------------------------------------------------------------- searching

    def embedding_retrieval(
        self,
        query_embedding: Sequence[float],
        filters: Filters | None = None,
        top_k: int = 10,
        return_embedding: bool = False,
    ) -> list[Document]:
        """Return the documents whose embeddings are nearest, with scores: the cosine for that metric."""
        found = asked(filters)
        with with_errors_of_haystack():
            both = joined([with_embedding()] if found.filter is None else [found.filter, with_embedding()])
        return self._search(query_embedding, None, Asked(both, found.params), top_k, return_embedding)

    def bm25_retrieval(self, query: str, filters: Filters | None = None, top_k: int = 10) -> list[Document]:
        """Return the documents that words fit best, with scores of BM25; only those that have one of the words."""
        return self._search(None, query, asked(filters), top_k, False)

    def hybrid_retrieval(
        self,
        query: str,
        query_embedding: Sequence[float],
        filters: Filters | None = None,
        top_k: int = 10,
        alpha: float = 0.5,
        fusion: str = "minmax",
        return_embedding: bool = False,
    ) -> list[Document]:
        """Return the documents that words and an embedding fit best together; see `kektordb.Index.search`."""
        return self._search(query_embedding, query, asked(filters), top_k, return_embedding, alpha, fusion)

    def _search(
        self,
        vector: Sequence[float] | None,
        text: str | None,
        found: Asked,
        top_k: int,
        return_embedding: bool,
        alpha: float = 0.5,
        fusion: str = "minmax",
    ) -> list[Document]:
        if top_k == 0:
            return []
        include = ("metadata", "vector") if return_embedding else ("metadata",)
        with with_errors_of_haystack():
            hits: Sequence[Hit] = self.index.search(
                vector, top_k, None, found.filter, found.params, include, text=text, alpha=alpha, fusion=fusion
            )
        return [document_of(hit.id, hit.metadata, hit.vector, score_of(hit, self._metric)) for hit in hits]

    # -------------------------------------------------------------------------------------------------------- asyncio

    write_documents_async = _in_thread(write_documents)
    delete_documents_async = _in_thread(delete_documents)
    delete_all_documents_async = _in_thread(delete_all_documents)
    delete_by_filter_async = _in_thread(delete_by_filter)
    update_by_filter_async = _in_thread(update_by_filter)
    count_documents_async = _in_thread(count_documents)
    count_documents_by_filter_async = _in_thread(count_documents_by_filter)
    filter_documents_async = _in_thread(filter_documents)
    count_unique_metadata_by_filter_async = _in_thread(count_unique_metadata_by_filter)
    get_metadata_fields_info_async = _in_thread(get_metadata_fields_info)
    get_metadata_field_min_max_async = _in_thread(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = _in_thread(get_metadata_field_unique_values)
    embedding_retrieval_async = _in_thread(embedding_retrieval)
    bm25_retrieval_async = _in_thread(bm25_retrieval)
    hybrid_retrieval_async = _in_thread(hybrid_retrieval)


def _wanted(filters: Filters) -> Asked:
    """Return a filter that is there. Raises FilterError."""
    found = asked(filters)
    if found.filter is None:
        raise FilterError("expected a filter, got an empty one; delete_all_documents() deletes all")
    return found
