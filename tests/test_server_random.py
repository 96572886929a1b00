"""Requests at random, right and wrong by turns: the server never fails, and answers as its description says."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from served import Caller

import kektordb
from kektordb.server import Limits, Options, create_app
from kektordb.server.calls import Route
from kektordb.server.routes import ROUTES

N_OF_ROUTE = 60
STRINGS = ["a", "b", "p", "q", "x/y", "", "ü€", "next", "text", "\0", "n > 1", "n =", "CONTAINS(text, 'red')", "int8"]
STRINGS += [
    "vacuum",
    "AACAPwAAAAA=",
    "x" * 2000,
    "cosine",
    "english",
    "(",
    "minmax",
    "metadata",
    "5m",
    "a.b",
    "%2F",
    "..",
]
NUMBERS = [0, 1, 2, 3, -1, 10**4, 10**5, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, 1e-320, 1.5]


def anything(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.randrange(8 if depth else 5)
    if kind < 2:
        return rng.choice(STRINGS)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind == 4:
        return rng.choice([None, True, False])
    if kind < 7:
        return [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(STRINGS): anything(rng, depth - 1) for _ in range(rng.randrange(4))}


# What makes most requests right ones.
LIKELY: dict[str, list[Any]] = {
    "index_name": ["a", "a", "a", "b", "x/y"],
    "filter": [None, "n > 0", "n = 1 OR n = 2", "CONTAINS(text, 'red')", "", "n ="],
    "property_filter": ["n > 0", "", "n ="],
    "params": [None, {}, {"x": 1}],
    "fusion": [None, "minmax", "rrf", "x"],
    "include": [None, [], ["metadata"], ["vector", "metadata"], ["x"]],
    "include_relations": [None, ["next"], ["x"]],
    "graph_filter": [None, None, None, {}, {"a": 1}],
    "query_vector": [None, [1, 2], [0.5, 0.1], "AACAPwAAAAA=", [0, 0], [1]],
    "matrix": [[1, 2], [1, 2, 3, 4], "AACAPwAAAAA=", None],
    "n": [1, 2, 0],
    "metric": ["cosine", "euclidean", "dot", None, "x"],
    "precision": ["int8", "float16", "float32", "x"],
    "traversal": [None, "codes", "float32"],
    "type": ["vacuum", "refine", "x"],
    "m": [0, 2, 16, None],
    "dim": [None, 2, 0],
    "text_fields": [None, ["text"]],
    "stop_words": [None, ["the"]],
    "field_weights": [None, {"text": 2.0}],
    "maintenance": [None, {}, {"vacuum_interval": "5m"}],
    "source_id": ["p", "q", "x/y", "new"],
    "target_id": ["p", "q", "x/y"],
    "root_id": ["p", "new"],
    "node_id": ["p", "new"],
    "relation_type": ["next", "x"],
    "relations": [None, ["next"], ["x"]],
    "paths": [["next"], ["next.next"], [""], None],
}


def fitting(rng: random.Random, name: str, kind: Any) -> Any:
    """Return what a field is likely to take."""
    if name in LIKELY:
        return rng.choice(LIKELY[name])
    text = str(kind)
    if "ndarray" in text:
        return rng.choice([[1, 2], [0, 0], [0.1, 0.2, 0.3, 0.4], "AACAPwAAAAA=", []])
    if "Item" in text:
        return [{"id": rng.choice(STRINGS), "vector": [1, 2], "metadata": {"n": 1}} for _ in range(rng.randrange(3))]
    if "list[str]" in text:
        return rng.choices(STRINGS, k=rng.randrange(4))
    if "int" in text:
        return rng.choice([0, 1, 2, 5, 100])
    if "float" in text and "dict" not in text:
        return rng.random()
    if "bool" in text:
        return rng.random() < 0.5
    if "dict" in text and "list" not in text:
        return {rng.choice(STRINGS): anything(rng, 1)}
    if "str" in text:
        return rng.choice(STRINGS)
    return anything(rng)


def body_of(rng: random.Random, route: Route) -> Any:
    if route.takes is None or rng.random() < 0.05:
        return anything(rng)
    if not isinstance(route.takes, type) or not issubclass(route.takes, msgspec.Struct):
        return {"vacuum_interval": anything(rng, 0), rng.choice(STRINGS): anything(rng)}
    found = {}
    for field in msgspec.structs.fields(route.takes):
        if rng.random() < 0.75 or field.name == "index_name":
            wrong = rng.random() < 0.04
            found[field.name] = anything(rng) if wrong else fitting(rng, field.name, field.type)
    return found


def target_of(rng: random.Random, route: Route) -> str:
    path = rng.choice([route.path, *route.aliases])
    path = path.replace("{name}", quote(rng.choice(["a", "b", "x/y"]), safe=rng.choice(["", "/"])))
    for part in ("{id}", "{key}"):
        path = path.replace(part, quote(rng.choice(STRINGS), safe=rng.choice(["", "/"])))
    if rng.random() < 0.3:
        path += "?" + rng.choice(
            ["limit=2", "limit=-1", "limit=x&offset=1", "prefix=%ff", "vectors=base64", "a", "&=", "offset=5"]
        )
    return path


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_no_request_makes_the_server_fail(route: Route) -> None:
    if route.path == "/debug/profile":
        pytest.skip("it takes a second each time")
    rng = random.Random(f"{route.method} {route.path}")
    with kektordb.open(":memory:") as database:
        call = Caller(create_app(database, Options(limits=Limits(grace_s=5))))
        fresh(call)
        for i in range(N_OF_ROUTE):
            body, target = body_of(rng, route), target_of(rng, route)
            as_msgpack = rng.random() < 0.3
            kinds = (
                [(b"content-type", b"application/msgpack"), (b"accept", b"application/msgpack")] if as_msgpack else []
            )
            try:
                content = msgspec.msgpack.encode(body) if as_msgpack else json.dumps(body).encode()
            except (OverflowError, ValueError):  # msgpack has no such numbers
                continue
            answer = call(route.method, target, content, headers=kinds)
            shown = (route.method, target, body, answer)
            assert answer.status in (route.status, 400, 404, 405, 409, 501), shown
            if answer.status == route.status and route.gives is not None and answer.body[:1] not in b"#<":
                decoder = msgspec.msgpack if b"msgpack" in answer.headers[b"content-type"] else msgspec.json
                assert decoder.decode(answer.body) is not None, shown
            if i % 10 == 9:
                fresh(call)
        assert call("GET", "/healthz").status == 200
        call.close()


def fresh(call: Caller) -> None:
    """Make the index that most requests name, if it is gone or was made otherwise."""
    call("DELETE", "/vector/indexes/a")
    call("POST", "/vector/actions/create", {"index_name": "a", "text_language": "english"})
    items = [{"id": id, "vector": [1, i], "metadata": {"n": i, "text": "red shoe"}} for i, id in enumerate("pqr")]
    call("POST", "/vector/actions/add-batch", {"index_name": "a", "vectors": items})
    call(
        "POST", "/graph/actions/link", {"index_name": "a", "source_id": "p", "target_id": "q", "relation_type": "next"}
    )
