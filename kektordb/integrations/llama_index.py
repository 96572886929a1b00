"""How does LlamaIndex keep its nodes in an index? `KektorVectorStore`, which stores them whole.

>>> import kektordb
>>> from kektordb.integrations.llama_index import KektorVectorStore
>>> store = KektorVectorStore(kektordb.open("data"), "docs", text_language="english")
>>> index = VectorStoreIndex.from_documents(documents, StorageContext.from_defaults(vector_store=store))
>>> index.as_retriever(vector_store_query_mode="hybrid", alpha=0.5).retrieve("red shoes")
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from kektordb.errors import ConfigError, FilterError
from kektordb.integrations.conditions import (
    Conditions,
    all_of,
    any_of,
    compare,
    everything,
    is_empty,
    joined,
    substring,
)
from kektordb.integrations.diversity import diverse
from kektordb.integrations.opening import AnyIndex, Source, delete_present, index_of
from kektordb.integrations.operators import Asked
from kektordb.integrations.scores import score_of
from kektordb.query import Expression, F, Filter
from kektordb.results import Hit

__all__ = ["KektorVectorStore"]

# The one key of an item's metadata that is ours; the rest are those of the node, and its text.
NODE = "_node"
NODE_ID = f"{NODE}.id"
REF_DOC_ID = f"{NODE}.ref_doc_id"
# As which stores of LlamaIndex let the document of a node be filtered by.
_REF_DOC_KEYS = ("ref_doc_id", "doc_id", "document_id")

_SIGNS = {
    FilterOperator.EQ: "=",
    FilterOperator.NE: "!=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.CONTAINS: "=",
}
_BY_WORDS = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE)
_BY_BOTH = (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SEMANTIC_HYBRID)
_BY_VECTOR = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)

# Of a search that chooses different ones among its results, unless it is asked otherwise.
MMR_FETCHED = 100
MMR_FACTOR = 4


class KektorVectorStore(BasePydanticVectorStore):
    """Keeps nodes in one index: their metadata as they are, their text under one key, and the rest beside.

    Query modes: ``default``, ``text_search`` and ``sparse`` (by words), ``hybrid`` and ``semantic_hybrid`` (by both),
    ``mmr``. Words need an index with a `text_language`. Similarities are larger for what fits better: the cosine, the
    product for the metric ``dot``, ``1 / (1 + d)`` for ``euclidean``; BM25 by words; both as one in a hybrid search.

    What queries take besides, as ``vector_store_kwargs`` of a retriever: ``filter`` and ``params``, a filter as in
    docs/filters.md; ``fusion`` and ``ef_search`` as in `kektordb.Index.search`; ``mmr_threshold`` (1 for the nearest
    alone, 0 for the most different) and ``mmr_prefetch_k``, the results that it chooses from.

    Parameters
    ----------
    database : Database, RemoteDatabase, Index, RemoteIndex, KektorDBClient, str or path
        An open database, a path, the address of a server, or an index.
    index_name : str, optional
        An index that is not there is made. None when an index was given.
    text_key : str
        The key of an item's metadata that its text is kept under.
    token : str, optional
        For a server.
    settings
        For `Database.create_index`, such as ``metric="cosine"`` and ``text_language="english"``.

    Raises
    ------
    ConfigError
        There is an index of this name with another metric, language or dimension.
    """

    stores_text: bool = True
    text_key: str = "text"

    _index: Any = PrivateAttr()
    _metric: str = PrivateAttr()

    MODES: ClassVar = (*_BY_VECTOR, *_BY_WORDS, *_BY_BOTH)

    def __init__(
        self,
        database: Source,
        index_name: str | None = None,
        *,
        text_key: str = "text",
        token: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(stores_text=True)
        self.text_key = text_key
        index = index_of(database, index_name, text_key, settings, token)
        self._index = index
        self._metric = index.config.metric

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class."""
        return "KektorVectorStore"

    @property
    def client(self) -> AnyIndex:
        """The index, with all that it can do besides."""
        index: AnyIndex = self._index
        return index

    # ------------------------------------------------------------------------------------------------------- writing

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:
        """Add nodes with their embeddings, or replace those whose ids are there; all or none. Return their ids."""
        last = {node.node_id: node for node in nodes}
        if last:
            metadata = [self._metadata(node) for node in last.values()]
            self.client.upsert_batch(list(last), [node.get_embedding() for node in last.values()], metadata)
        return [node.node_id for node in nodes]

    def _metadata(self, node: BaseNode) -> dict[str, Any]:
        rest = node.model_dump(mode="json", exclude={"embedding", "text", "text_resource"})
        metadata: dict[str, Any] = rest.pop("metadata", None) or {}
        for key in (NODE, self.text_key):
            if key in metadata:
                raise ValueError(f"expected metadata without the key {key!r} (node {node.node_id!r}), see text_key")
        # In a list the rest is kept and not looked at, so that it costs no more than its bytes.
        kept = {"id": node.node_id, "ref_doc_id": node.ref_doc_id, "type": node.class_name(), "content": [rest]}
        return {**metadata, self.text_key: node.get_content(metadata_mode=MetadataMode.NONE), NODE: kept}

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document."""
        self.client.delete(filter=F(REF_DOC_ID) == ref_doc_id)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes by ids, that may be missing, by filters, or those of some ids that match."""
        if node_ids is not None and filters is None:
            delete_present(self.client, node_ids)
            return
        found = _asked(filters, node_ids)
        if found.filter is None:
            raise ConfigError("expected ids or filters to delete nodes by; clear() deletes all")
        self.client.delete(filter=found.filter, params=found.params)

    def clear(self) -> None:
        """Delete all nodes."""
        self.client.delete(filter=everything())

    def persist(self, persist_path: str = "", fs: Any = None) -> None:
        """Make what was written durable, where the database is; the path is not used."""
        self.client.database.sync()

    # ------------------------------------------------------------------------------------------------------- reading

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Return nodes by ids, by filters, those of some ids that match, or all; what is not there is left out."""
        ids = node_ids
        if ids is None or filters is not None:
            found = _asked(filters, node_ids)
            ids = self.client.ids(found.filter, found.params)
        return [self._node(item.id, item.metadata) for item in self.client.get_many(ids) if item is not None]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return the nodes that fit a query best, with similarities and ids; for `kwargs` see the class."""
        if query.mode not in self.MODES:
            raise ValueError(f"expected a mode of {', '.join(self.MODES)}, got {query.mode!r}")
        asked_for = (query.filters, query.node_ids or None, query.doc_ids)
        found = _asked(*asked_for, kwargs.pop("filter", None), kwargs.pop("params", None))
        hits = self._diverse(query, found, **kwargs) if query.mode == _MMR else self._hits(query, found, **kwargs)
        return VectorStoreQueryResult(
            nodes=[self._node(hit.id, hit.metadata) for hit in hits],
            similarities=[score_of(hit, self._metric) for hit in hits],
            ids=[hit.id for hit in hits],
        )

    def _hits(
        self,
        query: VectorStoreQuery,
        found: Asked,
        *,
        k: int | None = None,
        fusion: str = "minmax",
        ef_search: int | None = None,
        include: Sequence[str] = ("metadata",),
        mmr_threshold: float | None = None,
        mmr_prefetch_k: int | None = None,
    ) -> list[Hit]:
        vector = None if query.mode in _BY_WORDS else query.query_embedding
        text = None if query.mode in _BY_VECTOR else query.query_str
        if vector is None and query.mode not in _BY_WORDS:
            raise ConfigError(f"expected a query with an embedding for the mode {query.mode.value!r}, got none")
        if text is None and query.mode not in _BY_VECTOR:
            raise ConfigError(f"expected a query with a text for the mode {query.mode.value!r}, got none")
        if k is None:
            own = {_BY_WORDS: query.sparse_top_k, _BY_BOTH: query.hybrid_top_k}
            k = next((n for modes, n in own.items() if query.mode in modes and n), query.similarity_top_k)
        alpha = 0.5 if query.alpha is None else query.alpha
        return list(
            self.client.search(
                vector, k, ef_search, found.filter, found.params, include, text=text, alpha=alpha, fusion=fusion
            )
        )

    def _diverse(self, query: VectorStoreQuery, found: Asked, **kwargs: Any) -> list[Hit]:
        k = query.similarity_top_k
        fetched = kwargs.pop("mmr_prefetch_k", None) or max(MMR_FETCHED, MMR_FACTOR * k)
        threshold = kwargs.pop("mmr_threshold", query.mmr_threshold)
        hits = self._hits(query, found, k=max(k, fetched), include=("metadata", "vector"), **kwargs)
        rows = [hit.vector for hit in hits if hit.vector is not None]
        chosen = diverse(query.query_embedding or [], rows, k, 0.5 if threshold is None else threshold)
        return [hits[i] for i in chosen]

    def _node(self, id: str, metadata: Mapping[str, Any] | None) -> BaseNode:
        rest = dict(metadata or {})
        text = str(rest.pop(self.text_key, ""))
        kept = rest.pop(NODE, None)
        if not isinstance(kept, Mapping) or "content" not in kept:
            return TextNode(id_=id, text=text, metadata=rest)  # it was not LlamaIndex that wrote it
        content = json.dumps({**kept["content"][0], "metadata": rest})
        return metadata_dict_to_node({"_node_content": content, "_node_type": kept["type"]}, text=text)

    # -------------------------------------------------------------------------------------------------------- asyncio

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes; see `add`."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes; see `delete_nodes`."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """Delete all nodes."""
        await asyncio.to_thread(self.clear)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Return nodes; see `get_nodes`."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return the nodes that fit a query best; see `query`."""
        return await asyncio.to_thread(self.query, query, **kwargs)


_MMR = VectorStoreQueryMode.MMR


def _asked(
    filters: MetadataFilters | None,
    node_ids: Sequence[str] | None = None,
    doc_ids: Sequence[str] | None = None,
    filter: Filter | None = None,
    params: Mapping[str, Any] | None = None,
) -> Asked:
    """Return what all of that asks for together, as `Index.search` takes it. Raises FilterError."""
    conditions = Conditions()
    parts: list[Filter] = [] if filter is None else [filter]
    if filters is not None and (expression := _filters(filters, conditions)) is not None:
        parts.append(expression)
    for field, ids in ((NODE_ID, node_ids), (REF_DOC_ID, doc_ids)):
        if ids is not None:
            parts.append(conditions.is_in(field, ids))
    return Asked(joined(parts), {**conditions.params, **(params or {})} or None)


def _filters(given: MetadataFilters, conditions: Conditions) -> Expression | None:
    with conditions.deeper():
        found = [
            _filters(f, conditions) if isinstance(f, MetadataFilters) else _filter(f, conditions) for f in given.filters
        ]
    parts = [part for part in found if part is not None]
    if not parts:
        return None
    match given.condition:
        case FilterCondition.OR:
            return any_of(parts)
        case FilterCondition.NOT:
            return ~any_of(parts)
        case _:
            return all_of(parts)


def _filter(given: MetadataFilter, conditions: Conditions) -> Expression:
    field, value = REF_DOC_ID if given.key in _REF_DOC_KEYS else given.key, given.value
    if given.operator in _SIGNS:
        return compare(field, _SIGNS[given.operator], value)
    match given.operator:
        case FilterOperator.IN | FilterOperator.ANY:
            return conditions.is_in(field, value)
        case FilterOperator.NIN:
            return ~conditions.is_in(field, value)
        case FilterOperator.ALL:
            if not isinstance(value, list):
                raise FilterError(f"expected a list of values for {given.key!r}, got {type(value).__name__}")
            return all_of([compare(field, "=", one) for one in value]) if value else F(field).exists()
        case FilterOperator.TEXT_MATCH:
            return F(field).like(substring(value))
        case FilterOperator.TEXT_MATCH_INSENSITIVE:
            return F(field).ilike(substring(value))
        case FilterOperator.IS_EMPTY:
            return is_empty(field)
    raise FilterError(f"expected an operator of a filter, got {given.operator!r}")
