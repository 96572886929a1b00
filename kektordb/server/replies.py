"""What stands in the bodies of answers? Fields come out in the order in which they are declared."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from kektordb.results import HitExplanation
from kektordb.server.encodings import Vector

__all__ = [
    "Added",
    "Connections",
    "Counted",
    "Edge",
    "Exported",
    "FailedDocument",
    "Failure",
    "Fields",
    "Graph",
    "GraphNode",
    "Hits",
    "Ids",
    "IndexInfo",
    "KeyValuePair",
    "Keys",
    "NodeList",
    "NodeRelations",
    "Place",
    "Plan",
    "Properties",
    "PropertiesOf",
    "Removed",
    "Report",
    "Scored",
    "Sources",
    "Status",
    "Targets",
    "TaskInfo",
    "Traversed",
    "VectorData",
    "VectorizerStatus",
    "Walk",
]

Metadata = dict[str, Any]


class Status(msgspec.Struct):
    """It was done."""

    status: str = "OK"
    message: str | UnsetType = UNSET


class Failure(msgspec.Struct):
    """It was not done. In msgpack `type` names the class of `kektordb.errors`."""

    error: str
    type: str | UnsetType = UNSET
    position: int | UnsetType = UNSET


class Added(msgspec.Struct):
    """How many items were added."""

    vectors_added: int
    status: str = "OK"


class Removed(msgspec.Struct):
    """How many items were deleted."""

    deleted: int
    status: str = "OK"


class KeyValuePair(msgspec.Struct):
    """A key with its value: text in JSON, bytes in msgpack."""

    key: str
    value: Any


class Keys(msgspec.Struct):
    """Keys in order; `next` continues after the last one."""

    keys: list[str]
    next: str | UnsetType = UNSET


class IndexInfo(msgspec.Struct):
    """An index and its effective options; `vector_count` is without deleted items."""

    name: str
    metric: str
    precision: str
    m: int
    ef_construction: int
    vector_count: int
    text_language: str


class VectorData(msgspec.Struct):
    """An item; the vector as it is stored, normalised for cosine."""

    id: str
    vector: Vector
    metadata: Metadata


class TaskInfo(msgspec.Struct):
    """Work in the background: ``started``, ``running``, ``completed`` or ``failed``."""

    id: str
    status: str
    kind: str | UnsetType = UNSET
    index: str | UnsetType | None = UNSET
    automatic: bool | UnsetType = UNSET
    progress: float | UnsetType = UNSET
    progress_message: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    vectors_added: int | UnsetType = UNSET
    vectors_imported: int | UnsetType = UNSET
    result: Metadata | UnsetType = UNSET


class Ids(msgspec.Struct):
    """Ids, the best first."""

    results: list[str]


class Scored(msgspec.Struct):
    """A hit; `score` is larger for better ones, `distance` smaller."""

    id: str
    score: float
    distance: float | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET
    vector: Vector | UnsetType = UNSET
    text_score: float | UnsetType | None = UNSET
    snippet: str | UnsetType | None = UNSET
    explanation: HitExplanation | UnsetType | None = UNSET


class Hits(msgspec.Struct):
    """Hits, the best first."""

    results: list[Scored]


class Counted(msgspec.Struct):
    """How many items match."""

    count: int


class Fields(msgspec.Struct):
    """Names of fields, sorted."""

    fields: list[str]


class Plan(msgspec.Struct):
    """How a filter runs."""

    plan: str


class Place(msgspec.Struct):
    """An item without its vector."""

    id: str
    metadata: Metadata


class Exported(msgspec.Struct):
    """One page of all items."""

    data: list[Place]
    has_more: bool
    next_offset: int
    total_count: int


class Report(msgspec.Struct):
    """The state of the server."""

    version: str
    uptime_s: float
    n_requests: int
    n_waiting: int
    database: Metadata


class FailedDocument(msgspec.Struct):
    """A document that is not in the index as it is now."""

    document: str
    error: str
    n_attempts: int
    retry_in_s: float


class VectorizerStatus(msgspec.Struct):
    """A vectorizer at work; the counts are those of the pass that runs, or of the last one."""

    name: str
    is_running: bool
    last_run: str
    current_state: str
    index: str
    embedder: str
    is_in_step: bool
    error: str | None
    retry_in_s: float | None
    n_documents: int | None
    n_seen: int
    n_changed: int
    n_vanished: int
    n_embedded: int
    n_kept: int
    n_deleted: int
    n_waiting: int
    n_failed: int
    failed: list[FailedDocument]


class Targets(msgspec.Struct):
    """Where the edges of one relation lead."""

    source_id: str
    relation_type: str
    targets: list[str]


class Sources(msgspec.Struct):
    """Where the edges of one relation come from."""

    target_id: str
    relation_type: str
    sources: list[str]


class NodeRelations(msgspec.Struct):
    """All neighbours of a node by relation."""

    node_id: str
    relations: dict[str, list[str]]


class Connections(msgspec.Struct):
    """Neighbours that are items."""

    results: list[VectorData]


class Edge(msgspec.Struct):
    """An edge on a way; `dir` says whether it was walked along (``out``) or against it (``in``)."""

    source: str
    target: str
    relation: str
    dir: str


class Walk(msgspec.Struct):
    """A shortest way."""

    source: str
    target: str
    path: list[str]
    edges: list[Edge]


class Graph(msgspec.Struct):
    """Nodes around a root, and the edges that led to them."""

    root_id: str
    nodes: list[Place]
    edges: list[Edge]


class GraphNode(msgspec.Struct):
    """A node with what it is connected to."""

    id: str
    vector: Vector | None = None
    metadata: Metadata | None = None
    connections: dict[str, list[GraphNode]] = {}


class Traversed(msgspec.Struct):
    """A node and all that was found from it."""

    result: GraphNode


class Properties(msgspec.Struct):
    """The properties of a node."""

    node_id: str
    properties: Metadata
    status: str | UnsetType = UNSET


class PropertiesOf(msgspec.Struct):
    """A node with its properties."""

    id: str
    properties: Metadata


class NodeList(msgspec.Struct):
    """Nodes."""

    nodes: list[PropertiesOf]
