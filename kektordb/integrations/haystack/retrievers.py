"""How do pipelines of Haystack search? A component for each way: by embedding, by words, by both."""

from __future__ import annotations

from typing import Any, TypeVar

from haystack import component, default_from_dict, default_to_dict
from haystack.dataclasses import Document
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from kektordb.integrations.haystack.store import KektorDocumentStore

__all__ = ["KektorBM25Retriever", "KektorEmbeddingRetriever", "KektorHybridRetriever"]

R = TypeVar("R", bound="_Retriever")

# @component makes another class of the one under it, in which super() is that of the first.


class _Retriever:
    """What all three have.

    Parameters
    ----------
    document_store : KektorDocumentStore
    filters : dict, optional
        Which documents may be found, unless a run says otherwise.
    top_k : int
        How many are wanted, likewise.
    filter_policy : FilterPolicy
        Whether the filters of a run replace those given here, or are merged with them.
    more
        What one kind of retriever has besides.
    """

    def __init__(
        self,
        document_store: KektorDocumentStore,
        filters: dict[str, Any] | None,
        top_k: int,
        filter_policy: FilterPolicy,
        **more: Any,
    ) -> None:
        if not isinstance(document_store, KektorDocumentStore):
            raise ValueError(f"expected a KektorDocumentStore, got {type(document_store).__name__}")
        if top_k <= 0:
            raise ValueError(f"expected top_k to be at least 1, got {top_k}")
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.filter_policy = filter_policy
        self.more = more

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` makes such a component of."""
        return default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=self.filter_policy.value,
            **self.more,
        )

    @classmethod
    def from_dict(cls: type[R], data: dict[str, Any]) -> R:
        """Make a component of what `to_dict` gave."""
        parameters = dict(data["init_parameters"])
        if isinstance(parameters["document_store"], dict):
            parameters["document_store"] = KektorDocumentStore.from_dict(parameters["document_store"])
        parameters["filter_policy"] = FilterPolicy.from_str(parameters["filter_policy"])
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    def _asked(self, filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
        }


@component
class KektorEmbeddingRetriever(_Retriever):
    """Finds the documents whose embeddings are nearest.

    Parameters
    ----------
    document_store : KektorDocumentStore
    filters : dict, optional
    top_k : int
    filter_policy : FilterPolicy
    return_embedding : bool
        Whether documents come with their embeddings.
    """

    def __init__(
        self,
        document_store: KektorDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
        return_embedding: bool = False,
    ) -> None:
        _Retriever.__init__(self, document_store, filters, top_k, filter_policy, return_embedding=return_embedding)

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Return ``documents``, the best first."""
        asked = self._asked(filters, top_k)
        return {"documents": self.document_store.embedding_retrieval(query_embedding, **asked, **self.more)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Return ``documents``, the best first."""
        asked = self._asked(filters, top_k)
        found = await self.document_store.embedding_retrieval_async(query_embedding, **asked, **self.more)
        return {"documents": found}


@component
class KektorBM25Retriever(_Retriever):
    """Finds the documents whose content words fit best.

    Parameters
    ----------
    document_store : KektorDocumentStore
        With a `text_language`.
    filters : dict, optional
    top_k : int
    filter_policy : FilterPolicy
    """

    def __init__(
        self,
        document_store: KektorDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        _Retriever.__init__(self, document_store, filters, top_k, filter_policy)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Return ``documents``, the best first."""
        return {"documents": self.document_store.bm25_retrieval(query, **self._asked(filters, top_k))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Return ``documents``, the best first."""
        return {"documents": await self.document_store.bm25_retrieval_async(query, **self._asked(filters, top_k))}


@component
class KektorHybridRetriever(_Retriever):
    """Finds the documents that words and an embedding fit best together, in one search.

    Parameters
    ----------
    document_store : KektorDocumentStore
        With a `text_language`.
    filters : dict, optional
    top_k : int
    filter_policy : FilterPolicy
    alpha : float
        Weight of the embedding beside the words: 1 for the embedding alone, 0 for the words.
    fusion : str
        How both become one score: ``minmax``, ``rrf`` or ``dbsf``, see docs/text.md.
    return_embedding : bool
        Whether documents come with their embeddings.
    """

    def __init__(
        self,
        document_store: KektorDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
        alpha: float = 0.5,
        fusion: str = "minmax",
        return_embedding: bool = False,
    ) -> None:
        more = {"alpha": alpha, "fusion": fusion, "return_embedding": return_embedding}
        _Retriever.__init__(self, document_store, filters, top_k, filter_policy, **more)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Return ``documents``, the best first."""
        asked = self._asked(filters, top_k)
        return {"documents": self.document_store.hybrid_retrieval(query, query_embedding, **asked, **self.more)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Return ``documents``, the best first."""
        asked = self._asked(filters, top_k)
        found = await self.document_store.hybrid_retrieval_async(query, query_embedding, **asked, **self.more)
        return {"documents": found}
