"""What stands in the bodies of requests? Unknown fields are ignored: clients of all versions are served."""

from __future__ import annotations

from typing import Any

import msgspec

from kektordb.server.encodings import Matrix, Vector

__all__ = [
    "AddBatch",
    "AddItem",
    "CheckRecall",
    "Compress",
    "Connected",
    "Count",
    "CreateIndex",
    "DeleteItems",
    "Explain",
    "GetItems",
    "Import",
    "Incoming",
    "IndexName",
    "Item",
    "KeyValue",
    "Link",
    "Node",
    "NodeProperties",
    "Nodes",
    "Outgoing",
    "Path",
    "Relations",
    "Search",
    "SearchBatch",
    "StartMaintenance",
    "Subgraph",
    "Traverse",
    "UpdateMetadata",
]

Metadata = dict[str, Any]


class KeyValue(msgspec.Struct):
    """A value: text in JSON; in msgpack also bytes."""

    value: Any = ""


class IndexName(msgspec.Struct):
    """Which index."""

    index_name: str = ""


class CreateIndex(msgspec.Struct):
    """A new index; numbers up to 0 mean the defaults."""

    index_name: str = ""
    metric: str | None = None
    precision: str | None = None
    m: int | None = None
    ef_construction: int | None = None
    text_language: str | None = None
    maintenance: Metadata | None = None
    dim: int | None = None
    seed: int | None = None
    traversal: str | None = None
    text_fields: list[str] | None = None
    stop_words: list[str] | None = None
    k1: float | None = None
    b: float | None = None
    field_weights: dict[str, float] | None = None
    embedder: str | None = None


class Item(msgspec.Struct):
    """One item of a batch."""

    id: str = ""
    vector: Vector | None = None
    metadata: Metadata | None = None


class AddItem(msgspec.Struct):
    """An item; `replace` takes the place of one with the same id."""

    index_name: str = ""
    id: str = ""
    vector: Vector | None = None
    metadata: Metadata | None = None
    replace: bool | None = None


class AddBatch(msgspec.Struct):
    """Items one by one in `vectors`; or by column: `ids`, `matrix` (their rows of float32 in one), `metadata`."""

    index_name: str = ""
    vectors: list[Item] | None = None
    ids: list[str] | None = None
    matrix: Matrix | None = None
    metadata: list[Metadata | None] | None = None
    replace: bool | None = None


class Import(AddBatch):
    """As AddBatch, and not empty."""


class Search(msgspec.Struct):
    """A search by vector, filter, words, or several of them."""

    index_name: str = ""
    k: int | None = None
    query_vector: Vector | None = None
    filter: str | None = None
    params: Metadata | None = None
    ef_search: int | None = None
    alpha: float | None = None
    fusion: str | None = None
    query_text: str | None = None
    include: list[str] | None = None
    include_relations: list[str] | None = None
    hydrate_relations: bool | None = None
    hydrate: bool | None = None
    explain: bool | None = None
    recall: float | None = None
    graph_filter: Metadata | None = None
    snippet: bool | None = None
    as_given: bool | None = None


class SearchBatch(msgspec.Struct):
    """Many searches by vector: `matrix` holds `n` queries one after the other."""

    index_name: str = ""
    n: int = 0
    matrix: Matrix | None = None
    k: int | None = None
    filter: str | None = None
    params: Metadata | None = None
    ef_search: int | None = None
    recall: float | None = None
    include: list[str] | None = None


class CheckRecall(msgspec.Struct):
    """How well an index is searched: by `n` of its rows, or by `n_queries` queries that stand in `matrix`."""

    n: int | None = None
    k: int | None = None
    ef_search: int | None = None
    recall: float | None = None
    seed: int | None = None
    n_queries: int = 0
    matrix: Matrix | None = None


class Count(msgspec.Struct):
    """Which items to count or list; all without a filter."""

    index_name: str = ""
    filter: str | None = None
    params: Metadata | None = None


class Explain(Count):
    """Which filter to explain."""


class DeleteItems(msgspec.Struct):
    """An id, which may be unknown; or ids, all known; or a filter."""

    index_name: str = ""
    id: str = ""
    ids: list[str] | None = None
    filter: str | None = None
    params: Metadata | None = None


class GetItems(msgspec.Struct):
    """Ids of items."""

    index_name: str = ""
    ids: list[str] | None = None


class UpdateMetadata(msgspec.Struct):
    """Metadata for an item that exists: merged, or with `replace` in the place of the old."""

    index_name: str = ""
    id: str = ""
    metadata: Metadata | None = None
    replace: bool | None = None


class Compress(msgspec.Struct):
    """The precision to bring an index to."""

    index_name: str = ""
    precision: str = ""


class StartMaintenance(msgspec.Struct):
    """``vacuum``; ``refine``, with the candidates for links; or ``calibrate``, with queries if there are some."""

    type: str = ""
    ef_construction: int | None = None
    n_queries: int = 0
    matrix: Matrix | None = None


class Link(msgspec.Struct):
    """An edge between two nodes, and with an inverse relation the one back."""

    index_name: str | None = None
    source_id: str = ""
    target_id: str = ""
    relation_type: str = ""
    inverse_relation_type: str | None = None


class Outgoing(msgspec.Struct):
    """The edges of one relation that go out from a node."""

    index_name: str | None = None
    source_id: str = ""
    relation_type: str = ""


class Connected(Outgoing):
    """The items that edges lead to: of one index."""


class Incoming(msgspec.Struct):
    """The edges of one relation that come to a node."""

    index_name: str | None = None
    target_id: str = ""
    relation_type: str = ""


class Relations(msgspec.Struct):
    """A node."""

    index_name: str | None = None
    node_id: str = ""


class Node(Relations):
    """An item of an index."""


class Path(msgspec.Struct):
    """From where to where; over all relations when none is named."""

    index_name: str | None = None
    source_id: str = ""
    target_id: str = ""
    relations: list[str] | None = None
    max_depth: int | None = None


class Subgraph(msgspec.Struct):
    """What lies around a node."""

    index_name: str | None = None
    root_id: str = ""
    relations: list[str] | None = None
    max_depth: int | None = None


class Traverse(msgspec.Struct):
    """Ways from a node, each a row of relations with dots between: ``parent.next``."""

    index_name: str | None = None
    source_id: str = ""
    paths: list[str] | None = None


class NodeProperties(msgspec.Struct):
    """Properties of a node: metadata that is merged; the node is made when there is none."""

    index_name: str = ""
    node_id: str = ""
    properties: Metadata | None = None


class Nodes(msgspec.Struct):
    """Nodes by a filter on their properties."""

    index_name: str = ""
    property_filter: str = ""
    limit: int | None = None
