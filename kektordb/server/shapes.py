"""What may stand in a request beyond the types of its fields? For its description; handlers refuse what does not fit.

The structs decode what any version of a client sends, and handlers answer what is wrong in the words of the original.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kektordb._vectors import METRICS, PRECISIONS
from kektordb.fusion import METHODS
from kektordb.server.calls import MAX_SECONDS
from kektordb.server.options import MAX_LISTED, MAX_PROFILE_S, Limits
from kektordb.settings import MAX_NS, MAX_ROWS
from kektordb.storage.feed import MAX_CHUNK_BYTES
from kektordb.text import languages
from kektordb.validation import (
    INCLUDES,
    LINE,
    MAX_EF,
    MAX_EMBEDDER_NAME,
    MAX_ID_BYTES,
    MAX_M,
    MAX_NAME_BYTES,
    TRAVERSALS,
)

__all__ = ["NEEDED_QUERIES", "PARTS", "QUERIES", "describe_body"]

Schema = dict[str, Any]

_LIMITS = Limits()
MAX_RELATIONS = 16
# Each component of a vector; its squared norm has a bound too, which no schema can say.
LARGEST_FLOAT32 = 3.4028234e38


def _text(n_bytes: int, least: int = 1) -> Schema:
    """Return what has at most so many UTF-8 bytes: `maxLength` counts characters, so the format says it as well."""
    return {"type": "string", "minLength": least, "maxLength": n_bytes, "format": f"utf8-{n_bytes}"}


def _integer(low: int | None, high: int | None) -> Schema:
    bounds = {"minimum": low, "maximum": high}
    return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}


def _one_of(*names: str) -> Schema:
    return {"type": "string", "enum": list(names)}


def _list(of: Schema, least: int = 0, most: int | None = None) -> Schema:
    found = {"type": "array", "items": of, "minItems": least}
    return found if most is None else {**found, "maxItems": most}


def _floats(least: int, most: int | None) -> Schema:
    number = {"type": "number", "minimum": -LARGEST_FLOAT32, "maximum": LARGEST_FLOAT32}
    packed = {"type": "string", "contentEncoding": "base64", "format": "float32", "minLength": 8 * least}
    return {
        "description": "Numbers; or base64 of little-endian float32; in msgpack also the float32 themselves.",
        "anyOf": [_list(number, least, most), packed],
    }


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_NAME = _text(MAX_NAME_BYTES)
_ID = _text(MAX_ID_BYTES)
# In the language of docs/filters.md; "" is none.
_FILTER: Schema = {"type": "string", "format": "filter"}
_RELATION_WAY = rf"^[^.]+(\.[^.]+){{0,{MAX_RELATIONS - 1}}}$"
_DURATION: Schema = {
    "description": "As in 1h30m, or nanoseconds.",
    "anyOf": [{"type": "string", "format": "duration-text"}, _integer(0, MAX_NS), {"type": "null"}],
}
_SETTINGS: Schema = {
    "type": "object",
    "properties": {
        "vacuum_interval": _DURATION,
        "delete_threshold": _or_null({"type": "number", "minimum": 0, "maximum": 1}),
        "refine_enabled": _or_null({"type": "boolean"}),
        "refine_interval": _DURATION,
        "refine_batch_size": _or_null(_integer(1, MAX_ROWS)),
        "refine_ef_construction": _or_null(_integer(0, MAX_EF)),
    },
}
_METADATA: Schema = {"type": "object", "maxProperties": _LIMITS.max_keys}

# By struct and field, or by field alone.
SHAPES: dict[str, Schema] = {
    "index_name": _NAME,
    "id": _ID,
    "IndexName.index_name": {"type": "string", "description": "Whatever it is: all indexes have one log."},
    "DeleteItems.id": {"type": "string"},
    "ids": _list(_ID, 0, _LIMITS.max_batch),
    "vector": _floats(1, _LIMITS.max_dim),
    "matrix": _floats(0, None),
    "query_vector": _floats(0, _LIMITS.max_dim),
    "metadata": _METADATA,
    "properties": _METADATA,
    "AddBatch.metadata": _list(_or_null(_METADATA), 0, _LIMITS.max_batch),
    "k": _integer(0, _LIMITS.max_k),
    "CheckRecall.k": _integer(1, _LIMITS.max_k),
    "CheckRecall.n": _integer(1, _LIMITS.max_k),
    "n_queries": _integer(0, _LIMITS.max_k),
    "recall": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "ef_search": _integer(0, MAX_EF),
    "alpha": {"type": "number", "minimum": 0, "maximum": 1},
    "fusion": _one_of(*METHODS, ""),
    "include": _list(_one_of(*sorted(INCLUDES))),
    "graph_filter": {"type": "object", "maxProperties": 0, "description": "Not served but when it is empty."},
    "filter": _FILTER,
    "property_filter": _FILTER,
    "Explain.filter": {**_FILTER, "minLength": 1},
    "SearchBatch.n": _integer(0, _LIMITS.max_batch),
    "metric": _one_of(*METRICS, ""),
    "CreateIndex.precision": _one_of(*PRECISIONS, ""),
    "m": {**_integer(None, MAX_M), "not": {"const": 1}},
    "ef_construction": _integer(None, MAX_EF),
    "StartMaintenance.ef_construction": _integer(1, MAX_EF),
    "dim": _integer(1, _LIMITS.max_dim),
    "seed": _integer(0, 2**64 - 1),
    "traversal": _one_of(*TRAVERSALS),
    "stop_words": _list({"type": "string", "format": "word", "minLength": 1}),
    "k1": {"type": "number", "minimum": 0, "maximum": 1000},
    "b": {"type": "number", "minimum": 0, "maximum": 1},
    "field_weights": {
        "type": "object",
        "additionalProperties": {"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000},
        "description": "Of text_fields, when these are named.",
    },
    "embedder": {"type": "string", "maxLength": MAX_EMBEDDER_NAME, "pattern": f"^{LINE}$"},
    "maintenance": _SETTINGS,
    "Compress.precision": {"type": "string", "description": f"One of {', '.join(PRECISIONS)}, or the task fails."},
    "StartMaintenance.type": _one_of("vacuum", "refine", "calibrate"),
    "KeyValue.value": {"type": "string", "description": "In msgpack also bytes."},
    "source_id": _ID,
    "target_id": _ID,
    "root_id": _ID,
    "node_id": _ID,
    "relation_type": _ID,
    "inverse_relation_type": _text(MAX_ID_BYTES, 0),
    "paths": _list({"type": "string", "pattern": _RELATION_WAY}),
}

# What may not be left out.
NEEDED: dict[str, tuple[str, ...]] = {
    "CreateIndex": ("index_name",),
    "Item": ("id", "vector"),
    "AddItem": ("index_name", "id", "vector"),
    "AddBatch": ("index_name",),
    "Import": ("index_name",),
    "Search": ("index_name",),
    "SearchBatch": ("index_name", "matrix"),
    "Count": ("index_name",),
    "Explain": ("index_name", "filter"),
    "DeleteItems": ("index_name",),
    "GetItems": ("index_name",),
    "UpdateMetadata": ("index_name", "id", "metadata"),
    "Compress": ("index_name",),
    "StartMaintenance": ("type",),
    "Link": ("source_id", "target_id", "relation_type"),
    "Outgoing": ("source_id", "relation_type"),
    "Connected": ("index_name", "source_id", "relation_type"),
    "Incoming": ("target_id", "relation_type"),
    "Relations": ("node_id",),
    "Node": ("index_name", "node_id"),
    "Path": ("source_id", "target_id"),
    "Subgraph": ("index_name", "root_id"),
    "Traverse": ("index_name", "source_id"),
    "NodeProperties": ("index_name", "node_id"),
    "Nodes": ("index_name",),
}
_NO_TEXT: Schema = {"type": "string", "maxLength": 0}
_SOME_TEXT: Schema = {"type": "string", "minLength": 1}
_VECTOR = _floats(1, _LIMITS.max_dim)
_SOME_IDS = _list(_ID, 1, _LIMITS.max_batch)
_ABSENT: Schema = {"type": "null"}
_EITHER_TEXTS: list[dict[str, Schema]] = [
    {"text_language!": _one_of(*languages())},
    {"text_fields": _ABSENT, "stop_words": _ABSENT, "field_weights": _ABSENT},
]
# Several ways to say what is wanted; "!" for what must stand there.
WAYS: dict[str, list[dict[str, Schema]]] = {
    "CreateIndex": _EITHER_TEXTS,
    "AddBatch": [
        {"vectors!": {"type": "array"}},
        {"vectors": _ABSENT, "ids!": {"type": "array"}, "matrix!": _floats(0, None)},
    ],
    "Import": [
        {"vectors!": {"type": "array", "minItems": 1}},
        {"vectors": _ABSENT, "ids!": _SOME_IDS, "matrix!": _VECTOR},
    ],
    "DeleteItems": [
        {"ids!": {"type": "array"}},
        {"ids": _ABSENT, "filter!": _SOME_TEXT},
        {"ids": _ABSENT, "filter": _or_null(_NO_TEXT), "id!": _ID},
    ],
    "Search": [
        {"query_vector!": _VECTOR},
        {"query_text!": _SOME_TEXT},
        {"filter!": _SOME_TEXT},
        {"as_given!": {"const": True}, "query_text!": {"type": "string"}},
    ],
}

_QUERIES: list[dict[str, Schema]] = [{"matrix": _ABSENT}, {"n_queries!": _integer(1, None), "matrix!": _VECTOR}]
WAYS |= {"CheckRecall": _QUERIES, "StartMaintenance": _QUERIES}
# What says the same thing twice.
_BOTH: Schema = {
    "required": ["recall", "ef_search"],
    "properties": {"recall": {"type": "number"}, "ef_search": _integer(1, None)},
}
NOT = {"Search": _BOTH, "SearchBatch": _BOTH, "CheckRecall": _BOTH}

# Parameters of the URL by path.
QUERIES: dict[str, dict[str, Schema]] = {
    "/kv": {"prefix": {"type": "string"}, "after": {"type": "string"}, "limit": _integer(1, MAX_LISTED)},
    "/vector/indexes/{name}/export": {"limit": _integer(1, _LIMITS.max_batch), "offset": _integer(0, 2**31 - 1)},
    "/vector/indexes/{name}/stats": {"graph": {"type": "string", "enum": ["true", "false"]}},
    "/debug/profile": {"seconds": _integer(1, MAX_PROFILE_S)},
    "/replicate": {
        "position": {"type": "string", "format": "position", "description": "As history:number:digest."},
        "max_bytes": _integer(1, MAX_CHUNK_BYTES),
        "wait": {"type": "number", "minimum": 0, "maximum": MAX_SECONDS},
    },
}
NEEDED_QUERIES = frozenset({("/replicate", "position")})
# Parts of paths.
PARTS: dict[str, Schema] = {"name": _NAME, "id": _ID, "key": {"type": "string", "minLength": 1}}


def describe_body(kind: Any, schema: Schema) -> Schema:
    """Return the schema of a struct of a request with what is known of its fields."""
    if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
        return {**schema, **_SETTINGS}
    name, properties = kind.__name__, dict(schema["properties"])
    needed = NEEDED.get(name, ())
    for field in msgspec.structs.fields(kind):
        names = [f"{base.__name__}.{field.name}" for base in kind.__mro__]
        known = next((SHAPES[one] for one in (*names, field.name) if one in SHAPES), None)
        if known is None:
            continue
        if field.name in needed:
            properties[field.name] = known
        elif field.name == "index_name" and field.default is None:  # an empty one is none
            properties[field.name] = {**_or_null(_text(MAX_NAME_BYTES, 0)), "default": field.default}
        elif field.default is None:
            properties[field.name] = {**_or_null(known), "default": None}
        else:
            properties[field.name] = {**known, "default": field.default}
    found = {**schema, "properties": properties, "required": list(needed)}
    if name in WAYS:
        found["anyOf"] = [_way(way) for way in WAYS[name]]
    if name in NOT:
        found["not"] = NOT[name]
    return found


def _way(fields: dict[str, Schema]) -> Schema:
    needed = [name[:-1] for name in fields if name.endswith("!")]
    found: Schema = {"properties": {name.rstrip("!"): schema for name, schema in fields.items()}}
    return {**found, "required": needed} if needed else found
