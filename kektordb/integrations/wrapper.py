"""What do scripts written for the original's LangChain wrapper need? Its class, which knows nothing of LangChain.

>>> from kektordb.client import KektorDBClient, KektorVectorStore
>>> store = KektorVectorStore(KektorDBClient(), "docs", embedder)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from kektordb.client import KektorDBClient, errors_of_client
from kektordb.remote import RemoteDatabase, RemoteIndex

__all__ = ["Embedder", "KektorVectorStore"]

TEXT_KEY = "page_content"


class Embedder(Protocol):
    """What makes vectors of texts."""

    def embed_documents(self, texts: list[str]) -> Sequence[Sequence[float]]:
        """Return a vector for each text."""
        ...

    def embed_query(self, text: str) -> Sequence[float]:
        """Return the vector of a query."""
        ...


class KektorVectorStore:
    """The original's wrapper: texts in, dicts out. `kektordb.integrations.langchain` has the real vector store.

    What went wrong there does not here: results come the best first, metadata that are handed in stay as they are,
    texts may be a generator, and the id of a text without one is the same in every process.

    Parameters
    ----------
    client : KektorDBClient
    index_name : str
        An index that is there.
    embedding_function : object
        With ``embed_documents(texts)`` and ``embed_query(text)``.
    """

    def __init__(self, client: KektorDBClient, index_name: str, embedding_function: Embedder) -> None:
        self.client = client
        self.index_name = index_name
        self.embedding_function = embedding_function

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        ids: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts, or replace those whose ids are there; return their ids.

        Parameters
        ----------
        texts : iterable of str
        metadatas : list of dict, optional
        ids : list of str, optional
            By default made of the texts, so that a text that comes again is there once.

        Raises
        ------
        APIError, ConnectionError, ValueError
        """
        listed = list(texts)
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(listed):
                raise ValueError(f"expected {len(listed)} {name}, one for each text, got {len(given)}")
        named = [self._id_of(text) for text in listed] if ids is None else list(ids)
        vectors = self.embedding_function.embed_documents(listed)
        items = [
            {**(metadata or {}), TEXT_KEY: text}
            for text, metadata in zip(listed, metadatas or [None] * len(listed), strict=True)
        ]
        last = {id: position for position, id in enumerate(named)}
        with errors_of_client():
            self._index().upsert_batch(
                list(last), [vectors[i] for i in last.values()], [items[i] for i in last.values()]
            )
        return named

    def similarity_search(
        self, query: str, k: int = 4, filter: str | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Return what is most similar to a query, the best first: dicts of ``page_content``, ``metadata``, ``id``.

        Raises
        ------
        APIError, ConnectionError
        """
        vector = self.embedding_function.embed_query(query)
        with errors_of_client():
            hits = self._index().search(vector, k, filter=filter or None)
        found = []
        for hit in hits:
            metadata = dict(hit.metadata or {})
            found.append({"page_content": metadata.pop(TEXT_KEY, ""), "metadata": metadata, "id": hit.id})
        return found

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embedder,
        client: KektorDBClient,
        index_name: str,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        **kwargs: Any,
    ) -> KektorVectorStore:
        """Make a store and add texts; the index has to be there."""
        store = cls(client, index_name, embedding)
        store.add_texts(texts, metadatas, **kwargs)
        return store

    def _index(self) -> RemoteIndex:
        transport = self.client._transport
        return RemoteIndex(RemoteDatabase(transport), transport, self.index_name)

    def _id_of(self, text: str) -> str:
        return f"{self.index_name}_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
