"""The REST interface of the original: status, body and text of every route, for clients of all its versions."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from served import Caller

import kektordb
from kektordb.kv import AllKeys
from kektordb.server import Limits, Options, create_app

ACTIONS = "/vector/actions"


@pytest.fixture
def database() -> Iterator[kektordb.Database]:
    with kektordb.open(":memory:") as database:
        yield database


@pytest.fixture
def call(database: kektordb.Database) -> Iterator[Caller]:
    caller = Caller(create_app(database))
    yield caller
    caller.close()


def fill(call: Caller, name: str = "a", metric: str = "euclidean", **more: Any) -> None:
    call.ok("POST", f"{ACTIONS}/create", {"index_name": name, "metric": metric, **more})
    items = [
        {"id": "p", "vector": [0, 0.1], "metadata": {"n": 1, "text": "red shoe"}},
        {"id": "q", "vector": [1, 0], "metadata": {"n": 2, "text": "blue shoe"}},
        {"id": "r", "vector": [5, 5], "metadata": {"n": 3, "text": "red hat"}},
    ]
    assert call.ok("POST", f"{ACTIONS}/add-batch", {"index_name": name, "vectors": items}) == {
        "vectors_added": 3,
        "status": "OK",
    }


# -------------------------------------------------------------------------------------------------------- keys


def test_keys_are_set_read_and_deleted(call: Caller) -> None:
    assert call("GET", "/kv/k").status == 404
    assert call("GET", "/kv/k").json == {"error": "key not found"}
    assert call.ok("POST", "/kv/k", {"value": "a<b>&c"}) == {"status": "OK"}
    answer = call("GET", "/kv/k")
    assert answer.body == b'{"key":"k","value":"a\\u003cb\\u003e\\u0026c"}\n'
    assert call.ok("PUT", "/kv/k", {}) == {"status": "OK"}
    assert call.ok("GET", "/kv/k") == {"key": "k", "value": ""}
    assert call.ok("DELETE", "/kv/k") == {"status": "OK"}
    assert call.ok("DELETE", "/kv/k") == {"status": "OK"}
    assert call("GET", "/kv/k").status == 404


def test_a_value_that_is_no_string_is_refused(call: Caller) -> None:
    for value in (1, None, ["a"], {"a": 1}):
        assert call("POST", "/kv/k", {"value": value}).status == 400
    assert call("GET", "/kv/k").status == 404


def test_keys_may_hold_slashes_percents_and_any_letter(call: Caller) -> None:
    for target, key in [("a/b", "a/b"), ("a%2Fb%20c", "a/b c"), ("%25", "%"), ("%E2%82%AC", "€"), ("/x//y", "/x//y")]:
        call.ok("POST", f"/kv/{target}", {"value": key})
        assert call.ok("GET", f"/kv/{target}") == {"key": key, "value": key}
    assert call("GET", "/kv/%ff").status == 400
    assert call("GET", "/kv/").status == 404


def test_keys_are_listed_in_pages(call: Caller) -> None:
    for key in ("b1", "b2", "b3", "a", "c"):
        call.ok("POST", f"/kv/{key}", {"value": "x"})

    assert call.ok("GET", "/kv?prefix=b&limit=2") == {"keys": ["b1", "b2"], "next": "b2"}
    assert call.ok("GET", "/kv?prefix=b&limit=2&after=b2") == {"keys": ["b3"]}
    assert call("GET", "/kv?limit=x").status == 400


def test_bytes_come_and_go_in_msgpack(call: Caller) -> None:
    assert call.packed("/kv/k", {"value": b"\xff\x00"}).msgpack == {"status": "OK"}
    accept = [(b"accept", b"application/msgpack")]
    assert call("GET", "/kv/k", headers=accept).msgpack == {"key": "k", "value": b"\xff\x00"}
    assert call.ok("GET", "/kv/k")["value"] == "�\x00"


def test_the_keys_of_the_server_are_hidden(call: Caller, database: kektordb.Database) -> None:
    call.ok("POST", "/graph/actions/link", {"source_id": "a", "target_id": "b", "relation_type": "r"})
    (key,) = AllKeys(database)
    target = "/kv/" + key.replace("\0", "%00")

    assert call.ok("GET", "/kv") == {"keys": []}
    assert call("GET", target).status == 404
    for answer in (call("DELETE", target), call("POST", target, {"value": ""}), call("DELETE", f"{target}x")):
        assert answer.status == 400
        assert answer.json["error"].startswith("this key is reserved")
    assert list(AllKeys(database)) == [key]


# ----------------------------------------------------------------------------------------------------- indexes


def test_an_index_is_made_with_the_defaults_of_the_original(call: Caller) -> None:
    for target in (f"{ACTIONS}/create", "/vector/indexes", "/vector/create"):
        name = target.replace("/", "")
        answer = call("POST", target, {"index_name": name, "m": 0, "ef_construction": -1})
        assert answer.body == b'{"status":"OK","message":"Index created"}\n'
        assert call("GET", f"/vector/indexes/{name}").body.decode() == (
            f'{{"name":"{name}","metric":"euclidean","precision":"float32","m":16,"ef_construction":200,'
            '"vector_count":0,"text_language":""}\n'
        )


def test_indexes_are_listed_by_name(call: Caller) -> None:
    assert call("GET", "/vector/indexes").body == b"[]\n"
    for name in ("b", "c", "a"):
        call.ok("POST", f"{ACTIONS}/create", {"index_name": name, "metric": "cosine", "precision": "int8"})
    assert [info["name"] for info in call.ok("GET", "/vector/indexes")] == ["a", "b", "c"]
    assert call.ok("GET", "/vector/indexes")[0]["precision"] == "int8"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "index_name required"),
        ({"index_name": ""}, 400, "index_name required"),
        ({"index_name": "there"}, 409, "index 'there' already exists"),
        ({"index_name": "x", "metric": "manhattan"}, 400, "metric"),
        ({"index_name": "x", "precision": "float8"}, 400, "precision"),
        ({"index_name": "x", "maintenance": {"vacuum_interval": "soon"}}, 400, "vacuum_interval"),
        ({"index_name": 5}, 400, "invalid JSON: "),
    ],
)
def test_an_index_that_cannot_be_is_refused(call: Caller, body: dict[str, Any], status: int, text: str) -> None:
    call.ok("POST", f"{ACTIONS}/create", {"index_name": "there"})
    answer = call("POST", f"{ACTIONS}/create", body)
    assert answer.status == status
    assert text in answer.json["error"]
    assert [info["name"] for info in call.ok("GET", "/vector/indexes")] == ["there"]


def test_fields_of_other_versions_are_passed_over(call: Caller) -> None:
    body = {"index_name": "a", "auto_links": [{"x": 1}], "memory_config": None, "text_language": "klingon"}
    call.ok("POST", f"{ACTIONS}/create", body)
    assert call.ok("GET", "/vector/indexes/a")["text_language"] == ""


def test_a_dropped_index_is_gone_with_its_links(call: Caller, database: kektordb.Database) -> None:
    fill(call)
    call.ok(
        "POST", "/graph/actions/link", {"index_name": "a", "source_id": "p", "target_id": "q", "relation_type": "r"}
    )

    answer = call("DELETE", "/vector/indexes/a")

    assert (answer.status, answer.body) == (204, b"")
    assert call("GET", "/vector/indexes/a").json == {"error": "index 'a' not found"}
    assert call("DELETE", "/vector/indexes/a").status == 404
    assert list(AllKeys(database)) == []


def test_maintenance_settings_are_merged(call: Caller, database: kektordb.Database) -> None:
    fill(call, maintenance={"delete_threshold": 0.3, "unknown": 1})
    answer = call.ok("POST", "/vector/indexes/a/config", {"vacuum_interval": "1m30s", "unknown": 2})
    assert answer == {"status": "OK", "message": "Configuration updated"}
    settings = database["a"].maintenance
    assert (settings["delete_threshold"], settings["vacuum_interval"]) == (0.3, "1m30s")
    assert call.ok("GET", "/vector/indexes/a/config") == settings
    assert call("POST", "/vector/indexes/a/config", {"vacuum_interval": "x"}).status == 400
    assert call("POST", "/vector/indexes/b/config", {}).status == 404


def test_short_tasks_have_ended_when_they_are_answered(call: Caller) -> None:
    fill(call)
    call.ok("POST", f"{ACTIONS}/delete_vector", {"index_name": "a", "id": "p"})
    for kind in ("vacuum", "refine"):
        answer = call("POST", "/vector/indexes/a/maintenance", {"type": kind})
        assert answer.status == 202
        assert (answer.json["status"], answer.json["progress_message"]) == ("completed", f"{kind} cycle completed")
        assert call.ok("GET", f"/system/tasks/{answer.json['id']}") == answer.json
    assert call("POST", "/vector/indexes/a/maintenance", {"type": "x"}).json == {"error": "invalid maintenance type"}
    assert call("POST", "/vector/indexes/b/maintenance", {"type": "vacuum"}).status == 404
    assert call("GET", "/system/tasks/none").json == {"error": "task not found"}


def test_compress_answers_with_a_task_whatever_was_asked(call: Caller) -> None:
    fill(call)
    answer = call("POST", f"{ACTIONS}/compress", {"index_name": "a", "precision": "float16"})
    assert (answer.status, answer.json["status"]) == (202, "completed")
    assert call.ok("GET", "/vector/indexes/a")["precision"] == "float16"
    for precision in ("float8", "float16", ""):
        answer = call("POST", f"{ACTIONS}/compress", {"index_name": "a", "precision": precision})
        assert (answer.status, answer.json["status"]) == (202, "failed")
        assert "precision" in answer.json["error"]
        assert call.ok("GET", f"/system/tasks/{answer.json['id']}")["status"] == "failed"
    assert call("POST", f"{ACTIONS}/compress", {"index_name": "b", "precision": "int8"}).status == 404


# ------------------------------------------------------------------------------------------------------- items


def test_an_item_comes_back_as_it_is_stored(call: Caller) -> None:
    call.ok("POST", f"{ACTIONS}/create", {"index_name": "a", "metric": "cosine"})
    body = {"index_name": "a", "id": "x", "vector": [3, 4], "metadata": {"z": [1, {"y": None}], "b": 0.1, "a": True}}
    assert call.ok("POST", f"{ACTIONS}/add", body) == {"status": "OK"}
    answer = call("GET", "/vector/indexes/a/vectors/x")
    assert answer.body == b'{"id":"x","vector":[0.6,0.8],"metadata":{"a":true,"b":0.1,"z":[1,{"y":null}]}}\n'


def test_numbers_have_the_digits_that_tell_float32_apart(call: Caller) -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate(
        [
            np.array([0.1, -0.3, 1e-7, 123456.79, 16777216, 3.4e18, 1.17e-30, 0, 2**-40, 1 / 3], np.float32),
            rng.standard_normal(200).astype(np.float32),
            np.exp(rng.uniform(-60, 40, 200)).astype(np.float32),
        ]
    )
    call.ok("POST", f"{ACTIONS}/create", {"index_name": "a"})
    call.ok("POST", f"{ACTIONS}/add", {"index_name": "a", "id": "x", "vector": values.tolist()})
    found = call.ok("GET", "/vector/indexes/a/vectors/x")["vector"]
    assert found == [float(str(value)) for value in values]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"id": "x", "vector": [1]}, 400, "missing fields: index_name, id, or vector"),
        ({"index_name": "a", "vector": [1]}, 400, "missing fields: index_name, id, or vector"),
        ({"index_name": "a", "id": "x"}, 400, "missing fields: index_name, id, or vector"),
        ({"index_name": "a", "id": "x", "vector": []}, 400, "missing fields: index_name, id, or vector"),
        ({"index_name": "b", "id": "x", "vector": [1]}, 404, "index not found"),
        ({"index_name": "a", "id": "p", "vector": [1, 2]}, 409, "ID 'p' already exists"),
        ({"index_name": "a", "id": "x", "vector": [1]}, 400, "vector dimension mismatch: expected 2, got 1"),
        ({"index_name": "a", "id": "x", "vector": [1, None]}, 400, None),
        ({"index_name": "a", "id": "x", "vector": [1, "2"]}, 400, None),
        ({"index_name": "a", "id": "x", "vector": [1, 1e39]}, 400, None),
        ({"index_name": "a", "id": "x", "vector": [1, [2]]}, 400, None),
        ({"index_name": "a", "id": 7, "vector": [1, 2]}, 400, None),
        ({"index_name": "a", "id": "x", "vector": [1, 2], "metadata": [1]}, 400, None),
        ({"index_name": "a", "id": "x" * 1025, "vector": [1, 2]}, 400, None),
    ],
)
def test_an_item_that_cannot_be_is_refused(call: Caller, body: dict[str, Any], status: int, text: str | None) -> None:
    fill(call)
    answer = call("POST", f"{ACTIONS}/add", body)
    assert answer.status == status
    assert text is None or answer.json == {"error": text}
    assert call.ok("GET", "/vector/indexes/a")["vector_count"] == 3


def test_a_batch_comes_in_whole_or_not_at_all(call: Caller) -> None:
    fill(call)
    fresh = {"id": "x", "vector": [1, 2]}
    for bad, status in [
        ({"id": "p", "vector": [1, 2]}, 409),
        ({"id": "x", "vector": [1, 2]}, 400),
        ({"id": "y", "vector": [1, 2, 3]}, 400),
        ({"id": "", "vector": [1, 2]}, 400),
        ({"id": "y"}, 400),
    ]:
        for action in ("add-batch", "import"):
            assert call("POST", f"{ACTIONS}/{action}", {"index_name": "a", "vectors": [fresh, bad]}).status == status
    assert call.ok("GET", "/vector/indexes/a")["vector_count"] == 3
    assert call.ok("POST", f"{ACTIONS}/add-batch", {"index_name": "a", "vectors": []})["vectors_added"] == 0
    assert call("POST", f"{ACTIONS}/add-batch", {"index_name": "b", "vectors": []}).status == 404


def test_an_import_answers_as_every_version_expects_it(call: Caller) -> None:
    fill(call)
    items = [{"id": "x", "vector": [1, 2]}, {"id": "y", "vector": [1, 2]}]
    answer = call("POST", f"{ACTIONS}/import", {"index_name": "a", "vectors": items})
    assert answer.status == 202
    task = answer.json
    assert task == {
        "id": task["id"],
        "status": "completed",
        "kind": "import",
        "progress_message": "Imported 2 vectors",
        "vectors_added": 2,
        "vectors_imported": 2,
    }
    assert call.ok("GET", f"/system/tasks/{task['id']}") == task
    assert call.ok("POST", f"{ACTIONS}/import/commit", {"index_name": "a"})["status"] == "OK"
    assert call("POST", f"{ACTIONS}/import", {"index_name": "a"}).json == {"error": "Missing index_name or vectors"}
    failed = call("POST", f"{ACTIONS}/import", {"index_name": "b", "vectors": items})
    assert (failed.status, failed.json["status"]) == (202, "failed")


def test_replace_takes_the_place_of_an_item(call: Caller) -> None:
    fill(call)
    call.ok("POST", f"{ACTIONS}/add", {"index_name": "a", "id": "p", "vector": [7, 7], "replace": True})
    call.ok(
        "POST", f"{ACTIONS}/add-batch", {"index_name": "a", "vectors": [{"id": "q", "vector": [8, 8]}], "replace": True}
    )
    assert call.ok("GET", "/vector/indexes/a/vectors/p") == {"id": "p", "vector": [7.0, 7.0], "metadata": {}}
    assert call.ok("GET", "/vector/indexes/a/vectors/q")["vector"] == [8.0, 8.0]


def test_items_are_deleted(call: Caller) -> None:
    fill(call)
    for target in (f"{ACTIONS}/delete_vector", "/vector/delete"):
        assert call.ok("POST", target, {"index_name": "a", "id": "p"}) == {"status": "OK"}
    assert call("POST", f"{ACTIONS}/delete_vector", {"index_name": "b", "id": "p"}).status == 404
    assert call("POST", f"{ACTIONS}/delete_vector", {"index_name": "a"}).status == 400
    assert call("POST", f"{ACTIONS}/delete_vector", {"index_name": "a", "ids": ["q", "none"]}).status == 404
    assert call.ok("POST", f"{ACTIONS}/delete_vector", {"index_name": "a", "filter": "n >= 2"})["deleted"] == 2
    assert call.ok("GET", "/vector/indexes/a")["vector_count"] == 0


def test_items_come_back_in_the_order_of_their_ids(call: Caller) -> None:
    fill(call)
    found = call.ok("POST", f"{ACTIONS}/get-vectors", {"index_name": "a", "ids": ["r", "none", "p", "r"]})
    assert [item["id"] for item in found] == ["r", "p", "r"]
    assert found[1] == {"id": "p", "vector": [0.0, 0.1], "metadata": {"n": 1, "text": "red shoe"}}
    assert call("POST", f"{ACTIONS}/get-vectors", {"index_name": "b", "ids": []}).status == 404


def test_what_is_not_there_has_the_text_of_the_original(call: Caller) -> None:
    fill(call)
    answer = call("GET", "/vector/indexes/a/vectors/b")
    assert (answer.status, answer.json) == (404, {"error": "vector with ID 'b' not found in index 'a'"})
    assert call("GET", "/vector/indexes/x/vectors/b").json == {"error": "index 'x' not found"}


@pytest.mark.parametrize(
    "id", ["a/b", "/home/x/y.md-chunk-0", "ü €", "50%", "a%2Fb", "?x=1", "#", "..", "a/../b", "\x00"]
)
def test_ids_may_be_anything(call: Caller, id: str) -> None:
    fill(call)
    call.ok("POST", f"{ACTIONS}/add", {"index_name": "a", "id": id, "vector": [1, 2]})
    escaped = "".join(f"%{byte:02X}" for byte in id.encode())
    assert call.ok("GET", f"/vector/indexes/a/vectors/{escaped}")["id"] == id
    if id.isascii() and not set(id) & set("%?#\x00"):
        assert call.ok("GET", f"/vector/indexes/a/vectors/{id}")["id"] == id


def test_names_of_indexes_may_hold_slashes(call: Caller) -> None:
    fill(call, "x/y")
    assert call.ok("GET", "/vector/indexes/x%2Fy")["name"] == "x/y"
    assert call.ok("GET", "/vector/indexes/x/y")["name"] == "x/y"
    assert call.ok("GET", "/vector/indexes/x/y/vectors/p")["id"] == "p"
    assert call.ok("POST", "/vector/indexes/x%2Fy/config", {})["status"] == "OK"


def test_an_export_has_pages(call: Caller) -> None:
    fill(call)
    first = call.ok("GET", "/vector/indexes/a/export?limit=2")
    assert [item["id"] for item in first["data"]] == ["p", "q"]
    assert (first["has_more"], first["next_offset"], first["total_count"]) == (True, 2, 3)
    last = call.ok("GET", "/vector/indexes/a/export?limit=2&offset=2")
    assert last["data"] == [{"id": "r", "metadata": {"n": 3, "text": "red hat"}}]
    assert (last["has_more"], last["next_offset"]) == (False, 3)


def test_metadata_is_changed_without_the_vector(call: Caller) -> None:
    fill(call)
    call.ok("POST", f"{ACTIONS}/update-metadata", {"index_name": "a", "id": "p", "metadata": {"n": 9}})
    assert call.ok("GET", "/vector/indexes/a/vectors/p")["metadata"] == {"n": 9, "text": "red shoe"}
    call.ok("POST", f"{ACTIONS}/update-metadata", {"index_name": "a", "id": "p", "metadata": {"b": 1}, "replace": True})
    assert call.ok("GET", "/vector/indexes/a/vectors/p")["metadata"] == {"b": 1}
    assert call("POST", f"{ACTIONS}/update-metadata", {"index_name": "a", "id": "x", "metadata": {}}).status == 404


# ------------------------------------------------------------------------------------------------------ search


def search(call: Caller, **body: Any) -> list[Any]:
    found = call.ok("POST", f"{ACTIONS}/search", {"index_name": "a", **body})["results"]
    assert isinstance(found, list)
    return found


def test_a_search_finds_the_nearest_first(call: Caller) -> None:
    fill(call)
    assert search(call, k=2, query_vector=[0.1, 0]) == ["p", "q"]
    assert search(call, query_vector=[4, 4], ef_search=0, filter="") == ["r", "q", "p"]
    assert search(call, k=0, query_vector=[1, 1]) == []
    assert search(call, k=3, query_vector=[1, 1], filter="n > 2") == ["r"]
    assert search(call, k=3, query_vector=[1, 1], filter="n = $n", params={"n": 2}) == ["q"]
    assert (
        call("POST", "/vector/search", {"index_name": "a", "k": 1, "query_vector": [5, 4]}).body
        == b'{"results":["r"]}\n'
    )


def test_no_vector_leaves_the_filter(call: Caller) -> None:
    fill(call)
    for vector in (None, [], [0, 0]):
        assert search(call, k=2, query_vector=vector, filter="n < 3") == ["p", "q"]
    assert search(call, k=1, filter="n < 3") == ["p"]
    assert call("POST", f"{ACTIONS}/search", {"index_name": "a", "k": 1}).status == 400


def test_words_are_searched(call: Caller) -> None:
    fill(call, text_language="english")
    assert search(call, k=5, filter="CONTAINS(text, 'red')", query_vector=[5, 5]) == ["r", "p"]
    assert set(search(call, k=5, filter="CONTAINS(text, 'red')")) == {"p", "r"}
    assert search(call, k=5, query_text="hat") == ["r"]
    assert search(call, k=1, query_text="hat", query_vector=[0, 0.1], alpha=0.0) == ["r"]
    assert search(call, k=1, query_text="hat", query_vector=[0, 0.1], alpha=1.0) == ["p"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"index_name": "b", "query_vector": [1, 1]}, 404),
        ({"index_name": "a", "k": -1, "query_vector": [1, 1]}, 400),
        ({"index_name": "a", "k": 10_001, "query_vector": [1, 1]}, 400),
        ({"index_name": "a", "k": 10**30, "query_vector": [1, 1]}, 400),
        ({"index_name": "a", "ef_search": -1, "query_vector": [1, 1]}, 400),
        ({"index_name": "a", "ef_search": 2**40, "query_vector": [1, 1]}, 400),
        ({"index_name": "a", "alpha": 2, "query_vector": [1, 1]}, 400),
        ({"index_name": "a", "query_vector": [1, 1, 1]}, 400),
        ({"index_name": "a", "query_vector": [1, 1], "filter": "n ="}, 400),
        ({"index_name": "a", "query_vector": [1, 1], "filter": "n = $x"}, 400),
        ({"index_name": "a", "query_vector": [1, 1], "graph_filter": {"root_id": "p"}}, 501),
        ({"index_name": "a", "query_vector": "###"}, 400),
        ({"index_name": "a", "query_vector": [1, 1], "fusion": "x"}, 400),
    ],
)
def test_a_search_that_cannot_be_is_refused(call: Caller, body: dict[str, Any], status: int) -> None:
    fill(call)
    for action in ("search", "search-with-scores"):
        if not (action == "search-with-scores" and status == 501):
            answer = call("POST", f"{ACTIONS}/{action}", body)
            assert answer.status == status
            assert set(answer.json) == {"error"}


def test_a_missing_alpha_is_one_half(call: Caller, database: kektordb.Database) -> None:
    fill(call, text_language="english")
    body = {"query_text": "hat", "query_vector": [0, 0.1], "k": 3}
    wanted = database["a"].search([0, 0.1], 3, text="hat", alpha=0.5)
    assert search(call, **body) == wanted.ids == search(call, **body, alpha=0.5)


def test_scores_come_with_what_was_asked_for(call: Caller, database: kektordb.Database) -> None:
    fill(call)
    body = {"index_name": "a", "k": 2, "query_vector": [0.2, 0]}
    wanted = database["a"].search([0.2, 0], 2)
    found = call.ok("POST", f"{ACTIONS}/search-with-scores", body)["results"]
    assert [set(hit) for hit in found] == [{"id", "score"}] * 2
    assert [(hit["id"], np.float32(hit["score"])) for hit in found] == list(zip(wanted.ids, wanted.scores, strict=True))
    (first, _) = call.ok("POST", f"{ACTIONS}/search-with-scores", {**body, "include": ["metadata", "vector"]})[
        "results"
    ]
    assert first["metadata"] == {"n": 1, "text": "red shoe"}
    assert first["vector"] == [0.0, 0.1]
    assert np.float32(first["distance"]) == wanted.distances[0]


def test_whole_items_come_when_they_are_asked_for(call: Caller) -> None:
    fill(call)
    (hit,) = search(call, k=1, query_vector=[0, 0.1], hydrate=True)
    assert (hit["id"], hit["score"]) == ("p", 1.0)
    assert hit["node"] == {"id": "p", "vector": [0.0, 0.1], "metadata": {"n": 1, "text": "red shoe"}, "connections": {}}


def test_a_long_search_runs_in_a_thread_and_finds_the_same(database: kektordb.Database) -> None:
    caller = Caller(create_app(database, Options(limits=Limits(inline_us=0, inline_body_bytes=10))))
    fill(caller)
    assert search(caller, k=2, query_vector=[0.1, 0]) == ["p", "q"]
    assert caller.app.service.n_waiting == 0
    caller.close()


def test_many_searches_go_in_one_request(call: Caller) -> None:
    fill(call)
    matrix = np.array([[0, 0.1], [5, 5]], np.float32)
    found = call.packed(
        f"{ACTIONS}/search-batch", {"index_name": "a", "n": 2, "k": 1, "matrix": matrix.tobytes()}
    ).msgpack
    assert [[hit["id"] for hit in hits["results"]] for hits in found] == [["p"], ["r"]]
    assert call("POST", f"{ACTIONS}/search-batch", {"index_name": "a", "n": 3, "matrix": [1, 2]}).status == 400


def test_items_are_counted_listed_and_explained(call: Caller) -> None:
    fill(call)
    assert call.ok("POST", f"{ACTIONS}/count", {"index_name": "a"}) == {"count": 3}
    assert call.ok("POST", f"{ACTIONS}/count", {"index_name": "a", "filter": "n > 1"}) == {"count": 2}
    assert call.ok("POST", f"{ACTIONS}/list-ids", {"index_name": "a", "filter": "n > 1"}) == {"results": ["q", "r"]}
    assert "n" in call.ok("POST", f"{ACTIONS}/explain", {"index_name": "a", "filter": "n > 1"})["plan"]


# --------------------------------------------------------------------------------------------------- encodings


def test_vectors_may_be_base64(call: Caller) -> None:
    fill(call)
    vector = base64.b64encode(np.array([5, 4], "<f4").tobytes()).decode()
    assert search(call, k=1, query_vector=vector) == ["r"]
    call.ok("POST", f"{ACTIONS}/add", {"index_name": "a", "id": "x", "vector": vector})
    assert call.ok("GET", "/vector/indexes/a/vectors/x")["vector"] == [5.0, 4.0]
    assert call.ok("GET", "/vector/indexes/a/vectors/x?vectors=base64")["vector"] == vector
    for bad in ("AAA", "AAAA", "ä", base64.b64encode(np.array([np.nan, 1], "<f4").tobytes()).decode()):
        assert call("POST", f"{ACTIONS}/add", {"index_name": "a", "id": "y", "vector": bad}).status == 400


def test_bodies_may_be_msgpack(call: Caller) -> None:
    fill(call)
    vector = np.array([5, 4], "<f4").tobytes()
    assert call.packed(f"{ACTIONS}/search", {"index_name": "a", "k": 1, "query_vector": vector}).msgpack == {
        "results": ["r"]
    }
    assert call.packed(f"{ACTIONS}/search", {"index_name": "a", "k": 1, "query_vector": [5, 4.0]}).msgpack == {
        "results": ["r"]
    }
    (item,) = call.packed(f"{ACTIONS}/get-vectors", {"index_name": "a", "ids": ["r"]}).msgpack
    assert np.frombuffer(item["vector"], "<f4").tolist() == [5.0, 5.0]
    assert call.packed(f"{ACTIONS}/search", {"index_name": "x"}).msgpack == {
        "error": "index 'x' not found",
        "type": "IndexNotFound",
    }
    wrong = call.packed(f"{ACTIONS}/search", {"index_name": "a", "query_vector": vector, "filter": "n ="})
    assert (wrong.msgpack["type"], wrong.msgpack["position"]) == ("FilterError", 3)


def test_a_batch_may_come_by_columns(call: Caller, database: kektordb.Database) -> None:
    fill(call)
    matrix = np.arange(6, dtype="<f4")
    body = {"index_name": "a", "ids": ["x", "y", "z"], "matrix": matrix.tobytes(), "metadata": [{"n": 1}, None, {}]}
    for action in ("add-batch", "import"):
        assert call.packed(f"{ACTIONS}/{action}", body).msgpack["vectors_added"] == 3
        assert database["a"]["y"].vector.tolist() == [2.0, 3.0]
        assert database["a"]["x"].metadata == {"n": 1}
        database["a"].delete(["x", "y", "z"])
    as_json = {**body, "matrix": base64.b64encode(matrix.tobytes()).decode()}
    assert call.ok("POST", f"{ACTIONS}/add-batch", as_json)["vectors_added"] == 3
    for change in (
        {"ids": ["x"] * 3},
        {"ids": ["v", "w"], "metadata": None, "matrix": matrix[:3].tobytes()},
        {"metadata": [{}]},
    ):
        assert call.packed(f"{ACTIONS}/add-batch", {**body, **change}).status == 400


# ------------------------------------------------------------------------------------------------------- links


def graph(call: Caller, action: str, **body: Any) -> Any:
    return call.ok("POST", f"/graph/actions/{action}", {"index_name": "a", **body})


def test_links_are_made_followed_and_removed(call: Caller) -> None:
    fill(call)
    made = graph(call, "link", source_id="p", target_id="q", relation_type="next", inverse_relation_type="prev")
    assert made == {"status": "OK", "message": "Link created"}
    graph(call, "link", source_id="p", target_id="none", relation_type="next")

    assert graph(call, "get-links", source_id="p", relation_type="next") == {
        "source_id": "p",
        "relation_type": "next",
        "targets": ["q", "none"],
    }
    assert graph(call, "get-links", source_id="x", relation_type="next")["targets"] == []
    connected = graph(call, "get-connections", source_id="p", relation_type="next")["results"]
    assert [item["id"] for item in connected] == ["q"]
    assert graph(call, "get-incoming", target_id="q", relation_type="next")["sources"] == ["p"]
    assert graph(call, "get-all-relations", node_id="q") == {"node_id": "q", "relations": {"prev": ["p"]}}
    assert graph(call, "get-all-incoming", node_id="q") == {"node_id": "q", "relations": {"next": ["p"]}}

    for _ in range(2):
        removed = graph(
            call, "unlink", source_id="p", target_id="q", relation_type="next", inverse_relation_type="prev"
        )
        assert removed == {"status": "OK", "message": "Link removed"}
    assert graph(call, "get-all-relations", node_id="q")["relations"] == {}
    assert graph(call, "get-all-relations", node_id="p")["relations"] == {"next": ["none"]}


def test_clients_that_name_no_index_make_links_too(call: Caller) -> None:
    fill(call)
    call.ok("POST", "/graph/actions/link", {"source_id": "p", "target_id": "q", "relation_type": "r"})
    assert call.ok("POST", "/graph/actions/get-links", {"source_id": "p", "relation_type": "r"})["targets"] == ["q"]
    assert graph(call, "get-links", source_id="p", relation_type="r")["targets"] == ["q"]
    assert (
        call(
            "POST", "/graph/actions/link", {"index_name": "x", "source_id": "p", "target_id": "q", "relation_type": "r"}
        ).status
        == 404
    )
    assert call("POST", "/graph/actions/link", {"source_id": "p", "relation_type": "r"}).status == 400


def test_ways_between_nodes(call: Caller) -> None:
    fill(call)
    graph(call, "link", source_id="p", target_id="q", relation_type="next")
    graph(call, "link", source_id="r", target_id="q", relation_type="next")
    found = graph(call, "find-path", source_id="p", target_id="r")
    assert found["path"] == ["p", "q", "r"]
    assert found["edges"] == [
        {"source": "p", "target": "q", "relation": "next", "dir": "out"},
        {"source": "r", "target": "q", "relation": "next", "dir": "in"},
    ]
    none = call(
        "POST", "/graph/actions/find-path", {"index_name": "a", "source_id": "p", "target_id": "r", "relations": ["x"]}
    )
    assert (none.status, none.json) == (404, {"error": "path not found"})
    assert graph(call, "find-path", source_id="p", target_id="p") == {
        "source": "p",
        "target": "p",
        "path": ["p"],
        "edges": [],
    }

    around = graph(call, "extract-subgraph", root_id="p", relations=["next"], max_depth=1)
    assert [node["id"] for node in around["nodes"]] == ["p", "q"]
    assert len(graph(call, "extract-subgraph", root_id="p", max_depth=2)["edges"]) == 2
    tree = graph(call, "traverse", source_id="p", paths=["next"])["result"]
    assert tree["id"] == "p"
    assert [node["id"] for node in tree["connections"]["next"]] == ["q"]


def test_a_search_shows_links(call: Caller) -> None:
    fill(call)
    graph(call, "link", source_id="p", target_id="q", relation_type="next")
    (hit,) = search(call, k=1, query_vector=[0, 0.1], include_relations=["next", "prev"], hydrate_relations=True)
    assert hit["relations"] == {"next": ["q"]}
    assert [item["id"] for item in hit["hydrated_relations"]["next"]] == ["q"]
    assert hit["node"]["connections"]["next"][0]["metadata"]["n"] == 2


def test_links_are_durable(tmp_path: Any) -> None:
    for n in range(2):
        with kektordb.open(tmp_path / "db") as database:
            call = Caller(create_app(database))
            if n == 0:
                fill(call)
                graph(call, "link", source_id="p", target_id="1:q", relation_type="next")
                graph(call, "link", source_id="p", target_id="r", relation_type="next")
                graph(call, "unlink", source_id="p", target_id="r", relation_type="next")
            assert graph(call, "get-all-relations", node_id="p")["relations"] == {"next": ["1:q"]}
            call.close()


def test_nodes_have_properties(call: Caller) -> None:
    fill(call)
    assert graph(call, "set-node-properties", node_id="p", properties={"n": 7}) == {
        "node_id": "p",
        "properties": {"n": 7, "text": "red shoe"},
        "status": "updated",
    }
    graph(call, "set-node-properties", node_id="new", properties={"n": 8})
    assert graph(call, "get-node-properties", node_id="new") == {"node_id": "new", "properties": {"n": 8}}
    assert call("POST", "/graph/actions/get-node-properties", {"index_name": "a", "node_id": "x"}).status == 404
    assert graph(call, "search-nodes", property_filter="n > 6", limit=1)["nodes"] == [
        {"id": "p", "properties": {"n": 7, "text": "red shoe"}}
    ]
    call.ok("POST", f"{ACTIONS}/create", {"index_name": "empty"})
    body = {"index_name": "empty", "node_id": "x", "properties": {}}
    assert call("POST", "/graph/actions/set-node-properties", body).status == 409


# ------------------------------------------------------------------------------------------------------ system


def test_the_database_is_saved_and_its_log_rewritten(tmp_path: Any) -> None:
    with kektordb.open(tmp_path / "db") as database:
        call = Caller(create_app(database))
        fill(call)
        assert call.ok("POST", "/system/save") == {"status": "OK", "message": "Snapshot created"}
        answer = call("POST", "/system/aof-rewrite")
        assert (answer.status, answer.json["status"]) == (202, "completed")
        assert call.ok("GET", f"/system/tasks/{answer.json['id']}") == answer.json
        assert call.ok("POST", "/system/sync") == {"status": "OK"}
        report = call.ok("GET", "/system/stats")
        assert report["database"]["indexes"]["a"]["n_items"] == 3
        assert str(tmp_path) not in json.dumps(report)
        call.close()


def test_there_are_no_vectorizers(call: Caller) -> None:
    assert call("GET", "/system/vectorizers").body == b"[]\n"
    assert call("POST", "/system/vectorizers/x/trigger").status == 404


def test_other_paths_answer_as_the_original_does(call: Caller) -> None:
    answer = call("GET", "/nothing")
    assert (answer.status, answer.headers[b"content-type"], answer.body) == (
        404,
        b"text/plain; charset=utf-8",
        b"404 page not found\n",
    )
    answer = call("PATCH", "/kv/a")
    assert (answer.status, answer.body) == (405, b"Method Not Allowed\n")
    assert answer.headers[b"allow"] == b"DELETE, GET, HEAD, POST, PUT"
    assert call("GET", f"{ACTIONS}/search").status == 405
    for path in ("/rag/retrieve", "/sessions", "/ui/", "/graph/actions/get-edges", "/vector/actions/evolve"):
        assert call("POST", path, {}).status == 501
    assert call("GET", "/debug/pprof/").status == 404
    assert call("GET", "/debug/profile").status == 404
    assert call("HEAD", "/vector/indexes").body == b""


def test_metrics_count_what_was_asked(call: Caller) -> None:
    fill(call)
    for _ in range(3):
        search(call, query_vector=[1, 1])
    call("GET", "/nothing")
    answer = call("GET", "/metrics")
    lines = answer.body.decode().splitlines()
    assert 'kektordb_http_requests_total{method="POST",path="/vector/actions/search",status="200"} 3' in lines
    assert 'kektordb_http_requests_total{method="GET",path="other",status="404"} 1' in lines
    assert 'kektordb_index_items{index="a"} 3' in lines
    assert 'kektordb_index_added_total{index="a"} 3' in lines
    assert 'kektordb_search_seconds_count{index="a"} 3' in lines
    assert "kektordb_commit_seconds_count 2" in lines
    for line in lines:
        assert line.startswith("# ") or len(line.rsplit(" ", 1)) == 2
        if not line.startswith("# "):
            float(line.rsplit(" ", 1)[1])


def test_the_interface_describes_itself(call: Caller) -> None:
    document = json.loads(call("GET", "/openapi.json").body)
    assert document["openapi"] == "3.1.0"
    for route in call.app.table.routes:
        operation = document["paths"][route.path][route.method.lower()]
        assert operation["summary"].endswith(".")
        assert str(route.status) in operation["responses"]
    refs = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            refs.add(value.get("$ref"))
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(document)
    assert {ref.rsplit("/", 1)[1] for ref in refs - {None}} <= set(document["components"]["schemas"])
    page = call("GET", "/docs")
    assert page.headers[b"content-type"] == b"text/html; charset=utf-8"
    assert b"http://" not in page.body
    assert b"https://" not in page.body


def test_it_may_be_mounted_under_a_path(call: Caller) -> None:
    assert call.ok("POST", "/kv/a/b", {"value": "x"}, root="/database") == {"status": "OK"}
    assert call.ok("GET", "/kv/a/b")["value"] == "x"


def test_a_closed_database_is_no_fault_of_the_client(call: Caller, database: kektordb.Database) -> None:
    database.close()
    answer = call("GET", "/vector/indexes")
    assert answer.status == 503
    assert call("GET", "/healthz").status == 503
