"""What schemathesis has to be told: our formats, msgpack, and what no schema can say of a right request.

Loaded by the command line of schemathesis (SCHEMATHESIS_HOOKS); see tests/test_schema.py.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import schemathesis
from hypothesis import strategies as st

# The index that is there: english texts, two dimensions, and these items.
INDEX, DIM, IDS = "shoes", 2, ("p", "q", "x/y")
FLOATS = frozenset({"alpha", "recall", "k1", "b", "delete_threshold"})


# ------------------------------------------------------------------------------------------------------------- formats


def _within(n_bytes: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), max_size=n_bytes).filter(lambda text: len(text.encode()) <= n_bytes)


def _floats(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


_NAMES = st.sampled_from(["price", "text", "`a field`", '"brand"', "size.eu"])
_VALUES = st.one_of(st.integers(-99, 99).map(str), st.sampled_from(["'red'", "red shoe", "'it''s'", "1.5", "true"]))
_CONDITIONS = st.one_of(
    st.tuples(_NAMES, st.sampled_from(["=", "!=", "LIKE"]), _VALUES).map(" ".join),
    st.tuples(_NAMES, st.sampled_from(["<", ">="]), st.integers(-99, 99).map(str)).map(" ".join),
    st.tuples(_NAMES, st.just("IN (1, 'a')")).map(" ".join),
    st.tuples(_NAMES, st.sampled_from(["BETWEEN 1 AND 3", "IS NULL", "IS NOT NULL"])).map(" ".join),
    _NAMES.map(lambda name: f"EXISTS({name})"),
)
FILTERS = st.recursive(
    _CONDITIONS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" AND ", " OR "]), inner).map("".join), inner.map(lambda one: f"NOT ({one})")
    ),
    max_leaves=4,
)

for length in (255, 1024, 65_536):
    schemathesis.openapi.format(f"utf8-{length}", _within(length))
schemathesis.openapi.format("filter", FILTERS)
schemathesis.openapi.format("float32", st.lists(st.floats(-1e4, 1e4, width=32), max_size=8).map(_floats))
schemathesis.openapi.format("word", st.from_regex(r"[a-z]{1,20}", fullmatch=True))
schemathesis.openapi.format("duration-text", st.sampled_from(["0", "5m", "1h30m", "1.5s", "250ms"]))
schemathesis.openapi.format(
    "position", st.builds("{}:{}:{:016x}".format, st.just("00" * 16), st.integers(0, 9), st.integers(0, 2**64 - 1))
)


# ------------------------------------------------------------------------------------------------------------- msgpack


def _as_text(value: Any) -> Any:
    """Return what came as bytes in its JSON form, for which there is a schema."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _as_text(inner) for key, inner in value.items()}
    return [_as_text(inner) for inner in value] if isinstance(value, list) else value


@schemathesis.deserializer("application/msgpack")
def read_msgpack(_: object, response: Any) -> Any:
    return _as_text(msgspec.msgpack.decode(response.content))


@schemathesis.serializer("application/msgpack")
def write_msgpack(_: object, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return msgspec.msgpack.encode(_packable(value, lambda n: float(max(min(n, 10**300), -(10**300)))))


def _clamped(n: int) -> int:
    return max(min(n, 2**64 - 1), -(2**63))


def _packable(value: Any, other: Callable[[int], Any] = _clamped) -> Any:
    """Return what msgpack has a form for, and metadata: with something else in the place of larger integers."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return other(value)
    if isinstance(value, dict):
        return {key: _packable(inner, other) for key, inner in value.items()}
    return [_packable(inner, other) for inner in value] if isinstance(value, list) else value


# ------------------------------------------------------------------------------------------------ what no schema says


@schemathesis.hook
def before_call(_: object, case: Any, kwargs: dict[str, Any]) -> None:
    """Make a right request fit what is there: half of them are about the index that exists."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    key = zlib.crc32(repr((case.path_parameters, case.body)).encode())
    # Steps that follow each other are about what they have made themselves.
    with_index = bool(key % 2) and case.meta.phase.name.name != "STATEFUL"
    if case.method != "DELETE" and "name" in (case.path_parameters or {}) and with_index:
        case.path_parameters["name"] = INDEX
        if "id" in case.path_parameters:
            case.path_parameters["id"] = IDS[key % 3]
    if isinstance(case.body, dict):
        case.body = _agreeing(_with_integers(case.body), with_index)


def _with_integers(body: dict[str, Any]) -> dict[str, Any]:
    """Write integers without a point: to JSON Schema 3.0 is one, to a server that keeps types it is not."""
    found = dict(body)
    for name, value in body.items():
        if isinstance(value, float) and name not in FLOATS and value.is_integer():
            found[name] = int(value)
    if isinstance(body.get("maintenance"), dict):
        found["maintenance"] = _with_integers(body["maintenance"])
    return found


def _agreeing(body: dict[str, Any], with_index: bool) -> dict[str, Any]:
    found: dict[str, Any] = _packable(body)
    if found.get("dim"):
        found["dim"] = DIM  # so that vectors fit, whichever index they come to
    # Others need not have texts.
    with_index |= bool(found.get("query_text") or found.get("snippet") or found.get("as_given"))
    if with_index and isinstance(found.get("index_name"), str) and not found.keys() & {"metric", "m", "dim"}:
        found["index_name"] = INDEX
    if found.get("index_name") == INDEX and "query_text" not in found and not found.get("text_language"):
        found["text_language"] = "english"  # also when somebody has dropped it, and it is made anew
    for name in ("vector", "query_vector"):
        if found.get(name):
            found[name] = _vector(found[name])
    if isinstance(found.get("vectors"), list):
        found["vectors"] = [
            {**item, "id": f"{i}{item['id']}"[:200], "vector": _vector(item["vector"])}
            for i, item in enumerate(found["vectors"])
        ]
    ids, n = found.get("ids"), found.get("n")
    if isinstance(ids, list):
        found["ids"] = ids = [id[:200] for id in dict.fromkeys(ids)]
    if found.get("matrix") is not None:
        rows = n if isinstance(n, int) else len(ids) if isinstance(ids, list) else 0
        rows = min(rows, 20)
        found["matrix"] = [0.5, 1.0] * rows
        if found.get("n_queries") is not None:
            found["n_queries"], found["matrix"] = 2, [0.5, 1.0] * 2
        elif n is not None:
            found["n"] = rows
        elif isinstance(ids, list):
            found["ids"] = ids[:rows]
            if isinstance(found.get("metadata"), list):
                found["metadata"] = [*found["metadata"], *[None] * rows][:rows]
    weights, fields = found.get("field_weights"), found.get("text_fields")
    if isinstance(weights, dict) and isinstance(fields, list):
        found["field_weights"] = {name: weight for name, weight in weights.items() if name in fields}
    return found


def _vector(given: Any) -> Any:
    """Return a vector of the index's dimension, in the form of the given one, with numbers that each precision has."""
    if isinstance(given, str):
        return _floats([0.5, 1.0])
    return [x if 1e-4 < abs(x) < 1e4 else 1.0 for x in [*given, 1.0, 1.0]][:DIM]  # zeros stand for no vector
