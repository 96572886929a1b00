"""A database on a server: what an embedded one answers, the one over HTTP does as well, errors included."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from live import live

import kektordb
from kektordb import F
from kektordb.kv import AllKeys
from kektordb.links import RESERVED
from kektordb.query import ast
from kektordb.query.parser import parse
from kektordb.query.wording import text_of
from kektordb.remote import RemoteDatabase, RemoteIndex, batches, connect, transport
from kektordb.server import Limits, Options

Both = tuple[kektordb.Index, RemoteIndex]
N, DIM = 300, 6


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[kektordb.Database, str]]:
    with kektordb.open(":memory:") as database, live(database) as url:
        yield database, url


@pytest.fixture(name="db")
def _db(served: tuple[kektordb.Database, str]) -> Iterator[RemoteDatabase]:
    database, url = served
    with connect(url) as db:
        yield db
    for name in list(database):
        database.drop_index(name)
    database.kv.clear()


@pytest.fixture(name="both")
def _both(served: tuple[kektordb.Database, str], db: RemoteDatabase) -> Both:
    """Give one index twice: embedded, and over HTTP, where it was made and filled."""
    rng = np.random.default_rng(11)
    index = db.create_index("shoes / ü%2F", metric="euclidean", text_language="english")
    words = ["red shoe", "blue shoe", "red hat", "grüner Schuh"]
    metadata = [{"n": i, "text": words[i % 4], "deep": {"list": [i, None, 2**63]}} if i % 7 else None for i in range(N)]
    index.add_batch([f"id/{i}" for i in range(N)], rng.standard_normal((N, DIM)), metadata)
    return served[0][index.name], index


def query(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


@pytest.mark.parametrize(
    "asked",
    [
        {"vector": query(1), "text": ""},
        {"vector": query(1), "text": "", "snippet": True},
        {"vector": np.zeros(DIM)},
        {"vector": np.zeros(DIM), "explain": True},
        {"vector": np.zeros(DIM), "text": "blue"},
        {"vector": np.zeros(DIM), "text": "blue", "alpha": 1.0},
        {"vector": np.zeros(DIM), "filter": "CONTAINS(text, 'blue')"},
        {"text": ""},
        {"text": "", "filter": "n > 10"},
    ],
)
def test_zeros_and_no_words_mean_what_they_mean_embedded(both: Both, asked: dict[str, Any]) -> None:
    embedded, index = both
    expected, found = embedded.search(**asked), index.search(**asked)
    assert found.ids == expected.ids
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.distances, expected.distances, equal_nan=True)
    assert [hit.text_score for hit in found] == [hit.text_score for hit in expected]
    assert [hit.snippet for hit in found] == [hit.snippet for hit in expected]


def test_items_come_back_as_they_are_stored(both: Both) -> None:
    embedded, index = both
    assert index.ids() == embedded.ids()
    assert len(index) == N
    ids = ["id/5", "none", "id/0", "id/5"]
    for mine, theirs in zip(index.get_many(ids), embedded.get_many(ids), strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert (mine.id, mine.metadata) == (theirs.id, theirs.metadata)
            assert mine.vector.dtype == np.float32
            assert (mine.vector == theirs.vector).all()
    assert index["id/7"].metadata == {}
    assert index.get("none") is None
    assert "id/1" in index
    assert "none" not in index
    assert index.fields() == embedded.fields() == ["deep", "deep.list", "n", "text"]
    with pytest.raises(kektordb.ItemNotFound, match="no item 'none'"):
        index["none"]


SEARCHES: list[dict[str, Any]] = [
    {"vector": query(1)},
    {"vector": query(2), "k": 300, "ef_search": 400},
    {"vector": query(3), "filter": "n < $most", "params": {"most": np.int64(40)}, "include": ("vector", "metadata")},
    {"vector": query(4), "filter": (F("n") > 200) & ~(F("text") == "red hat"), "include": ()},
    {"vector": [0.0] * DIM, "k": 3},
    {"text": "shoes", "k": 5, "snippet": True},
    {"vector": query(5), "text": "red", "alpha": 0.3, "fusion": "rrf"},
    {"vector": query(6), "filter": "CONTAINS(text, 'hats')"},
    {"filter": "CONTAINS(text, 'hats')"},
    {"vector": query(7), "recall": 0.9},
    {"vector": query(8), "recall": 1.0, "filter": "n > 3", "k": 20},
    {"vector": query(9), "explain": True},
    {"text": "red shoes", "explain": True},
    {"vector": query(10), "text": "red shoes", "explain": True, "snippet": True, "recall": 0.9},
]


@pytest.mark.parametrize("search", SEARCHES, ids=range(len(SEARCHES)))
def test_searches_find_the_same(both: Both, search: dict[str, Any]) -> None:
    theirs, mine = (index.search(**search) for index in both)
    assert len(mine) == len(theirs) > 0
    assert mine.ids == theirs.ids
    np.testing.assert_array_equal(mine.distances, theirs.distances)
    np.testing.assert_allclose(mine.scores, theirs.scores, rtol=1e-6)
    assert mine.scores.dtype == theirs.scores.dtype
    assert (mine.text_scores is None) == (theirs.text_scores is None)
    for here, there in zip(mine, theirs, strict=True):
        assert (here.id, here.distance, here.metadata) == (there.id, there.distance, there.metadata)
        assert here.score == pytest.approx(there.score, rel=1e-6)
        assert here.snippet == there.snippet
        assert str(here.explanation) == str(there.explanation)
        assert (here.explanation is not None) == bool(search.get("explain"))
        assert (here.vector is None) == (there.vector is None)
        assert here.vector is None or (here.vector == there.vector).all()
    assert [hit.id for hit in mine[1:3]] == mine.ids[1:3]
    assert mine[-1].id == mine.ids[-1]


def test_batches_of_searches_find_the_same(both: Both) -> None:
    queries = np.stack([query(seed) for seed in range(20)])
    theirs, mine = (index.search_batch(queries, 4, filter="n >= 100") for index in both)
    assert [found.ids for found in mine] == [found.ids for found in theirs]
    assert [found[0].metadata for found in mine] == [found[0].metadata for found in theirs]
    assert both[1].search_batch([], 4) == []


def test_recall_is_checked_and_calibrated_as_it_is_embedded(both: Both, db: RemoteDatabase) -> None:
    embedded, index = both
    queries = np.stack([query(seed) for seed in range(20)])
    for asked in ({"n": 50, "k": 3, "seed": 5}, {"ef_search": 7}, {"recall": 0.9}, {"queries": queries, "k": 1}):
        assert index.check_recall(**asked) == embedded.check_recall(**asked)
    theirs, mine = (one.search_batch(queries, 4, recall=1.0) for one in both)
    assert [found.ids for found in mine] == [found.ids for found in theirs]
    assert index.calibrate().wait(60) == {"curves": {}}  # so few items are all compared
    assert index.calibrate(queries).wait(60) == {"curves": {}}
    assert index.refine(50).wait(60)["n_refined"] == N
    assert index.stats(graph=True)["graph"] == embedded.stats(graph=True)["graph"]
    assert "graph" not in index.stats()
    for act in (
        lambda: index.search(query(1), recall=0.9, ef_search=10),
        lambda: index.search(query(1), recall=0),
        lambda: index.check_recall(0),
        lambda: index.refine(0),
        lambda: db.promote(),
    ):
        with pytest.raises(kektordb.ConfigError):
            act()
    for wrong in ([[float("nan")] * DIM], [[1.0]]):
        with pytest.raises(kektordb.VectorError):
            index.calibrate(wrong)


def test_filters_count_list_explain_and_delete(both: Both) -> None:
    embedded, index = both
    some = F("n").is_in([3, "5", 900]) | F("text").like("gr%") | F("text").ilike("BLUE%")
    assert index.ids(some) == embedded.ids(some)
    assert index.count(some) == embedded.count(some) > 2
    assert index.explain("n < 4") == str(embedded.explain("n < 4"))
    assert index.delete(filter="n < $x", params={"x": 10}) == 8
    assert index.delete(["id/20", "id/22"]) == 2
    assert index.delete("id/23") == 1
    assert len(embedded) == N - 11


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        (kektordb.ItemExists, lambda index: index.add("id/1", query(1))),
        (kektordb.ItemExists, lambda index: index.add_batch(["new", "id/1"], [query(1), query(2)])),
        (kektordb.VectorError, lambda index: index.add("new", [1.0])),
        (kektordb.VectorError, lambda index: index.add("new", [1.0] * (DIM - 1) + [float("nan")])),
        (kektordb.VectorError, lambda index: index.add("new", "text")),
        (kektordb.VectorError, lambda index: index.search([1.0])),
        (kektordb.VectorError, lambda index: index.search()),
        (kektordb.VectorError, lambda index: index.search(filter="n < 1")),
        (kektordb.MetadataError, lambda index: index.add("new", query(1), {"a": object()})),
        (kektordb.MetadataError, lambda index: index.add_batch(["new"], [query(1)], [{}, {}])),
        (kektordb.IdError, lambda index: index.add("", query(1))),
        (kektordb.IdError, lambda index: index.add_batch(["a", "a"], [query(1), query(2)])),
        (kektordb.ConfigError, lambda index: index.search(query(1), k=0)),
        (kektordb.ConfigError, lambda index: index.search(text="red", fusion="none")),
        (kektordb.ConfigError, lambda index: index.compress("float8")),
        (kektordb.ConfigError, lambda index: index.configure(speed=1)),
        (kektordb.ConfigError, lambda index: index.delete()),
        (kektordb.ItemNotFound, lambda index: index.delete(["id/1", "none"])),
        (kektordb.ItemNotFound, lambda index: index.update_metadata("none", {})),
        (kektordb.FilterError, lambda index: index.search(query(1), filter="n <")),
        (kektordb.FilterError, lambda index: index.count("")),
        (kektordb.FilterError, lambda index: index.count(F("n"))),
        (kektordb.IndexExists, lambda index: index.database.create_index(index.name)),
        (kektordb.IndexNotFound, lambda index: index.database.drop_index("none")),
        (kektordb.IndexNotFound, lambda index: index.database["none"]),
    ],
)
def test_errors_are_those_of_an_embedded_database(both: Both, kind: type, act: Callable[[Any], Any]) -> None:
    for index in both:
        with pytest.raises(kind):
            act(index)
        assert len(index) == N, "nothing was stored, nothing was deleted"


def test_a_mistake_in_a_filter_is_shown(both: Both) -> None:
    told = []
    for index in both:
        with pytest.raises(kektordb.FilterError) as error:
            index.count("n = 1 AND\n n <")
        told.append((str(error.value), error.value.position, error.value.line, error.value.column))
    assert told[0] == told[1]
    assert told[0][2] == 2


def test_items_are_replaced_and_changed(both: Both) -> None:
    embedded, index = both
    index.upsert("id/1", query(9), {"a": 1})
    index.update_metadata("id/1", {"b": 2})
    assert embedded["id/1"].metadata == {"a": 1, "b": 2}
    assert (embedded["id/1"].vector == query(9)).all()
    index.update_metadata("id/1", {"c": 3}, replace=True)
    assert embedded["id/1"].metadata == {"c": 3}
    index.upsert_batch(["id/1", "new"], np.stack([query(1), query(2)]))
    assert embedded["id/1"].metadata == {}
    assert "new" in embedded


def test_a_batch_goes_in_several_requests(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BYTES", 3000)
    monkeypatch.setattr(batches, "MAX_ITEMS", 40)
    embedded, index = both
    ids = [f"more {i}" for i in range(200)]
    rows = np.random.default_rng(4).standard_normal((200, DIM)).astype(np.float32)
    metadata = [{"x": "y" * (500 if i % 10 == 0 else 1)} for i in range(200)]
    seen: list[tuple[int, int]] = []
    index.add_batch(ids, rows, metadata, progress=lambda done, total: seen.append((done, total)))
    assert [item.metadata for item in embedded.get_many(ids) if item] == metadata
    assert (np.stack([item.vector for item in embedded.get_many(ids) if item]) == rows).all()
    assert seen[-1] == (200, 200)
    assert len(seen) > 5
    with pytest.raises(kektordb.ItemExists) as error:
        index.add_batch([f"other {i}" for i in range(60)] + ["more 0"], rows[:61])
    assert error.value.__notes__ == ["the first 40 of 61 items were stored before"]
    rows[150, 2] = np.inf
    with pytest.raises(kektordb.VectorError, match="id 'last 150'"):
        index.upsert_batch([f"last {i}" for i in range(200)], rows)
    assert "last 0" not in embedded


def test_indexes_are_made_listed_and_dropped(served: tuple[kektordb.Database, str], db: RemoteDatabase) -> None:
    given: dict[str, Any] = {
        "metric": "dot",
        "dim": 3,
        "m": 8,
        "ef_construction": 50,
        "seed": 4,
        "precision": "float16",
        "traversal": "float32",
        "text_language": "german",
        "text_fields": ["t"],
        "stop_words": ["und"],
        "k1": 1.0,
        "b": 0.5,
        "field_weights": {"t": 2.0},
        "maintenance": {"vacuum_interval": "1h", "delete_threshold": 0.5},
    }
    index = db.create_index("b", **given)
    db.create_index("a")
    assert list(db) == ["a", "b"]
    assert "a" in db
    assert "c" not in db
    assert len(db) == 2
    assert index.config == served[0]["b"].config
    assert served[0]["a"].config == db["a"].config
    assert (index.dim, db["a"].dim) == (3, None)
    assert index.maintenance == served[0]["b"].maintenance
    index.configure(delete_threshold=0.25)
    assert served[0]["b"].maintenance["delete_threshold"] == 0.25
    db.drop_index("b")
    with pytest.raises(kektordb.IndexNotFound):
        index.count()


def test_keys_are_a_mapping(served: tuple[kektordb.Database, str], db: RemoteDatabase) -> None:
    kv = db.kv
    kv["a/b ü%"] = b"\0\xff"
    kv["text"] = "ä"
    assert served[0].kv["a/b ü%"] == b"\0\xff" == kv["a/b ü%"]
    assert kv.get_str("text") == "ä"
    assert kv.get("none") is None
    assert kv.get_str("none", "x") == "x"
    assert list(kv) == ["a/b ü%", "text"]
    assert "text" in kv
    assert "" not in kv
    with pytest.raises(KeyError):
        kv["none"]
    with pytest.raises(KeyError):
        del kv["none"]
    with pytest.raises(kektordb.ConfigError):
        kv[""] = b""
    del kv["text"]
    for i in range(1500):
        served[0].kv[f"p{i:04}"] = b""
    assert len(list(kv.prefix("p"))) == 1500
    assert len(kv) == 1501
    AllKeys(served[0])[RESERVED] = b"kept"
    kv.clear()
    assert (len(served[0].kv), len(kv), len(AllKeys(served[0]))) == (0, 0, 1)
    with pytest.raises(kektordb.ConfigError, match="reserved"):
        kv[RESERVED] = b""
    assert RESERVED not in kv
    del AllKeys(served[0])[RESERVED]


def test_tasks_end_and_are_found_again(both: Both, db: RemoteDatabase) -> None:
    embedded, index = both
    index.delete(filter="n < 100")
    task = index.vacuum()
    assert task.wait(60)["n_removed"] > 50
    assert db.tasks[task.id].status == "completed"
    assert index.refine().wait(60) == index.refine().wait()
    assert index.compress("float16").wait(60)["n_rows"] == len(index)
    assert embedded.config.precision == "float16"
    with pytest.raises(kektordb.TaskFailed, match="another precision"):
        index.compress("float16").wait()
    with pytest.raises(kektordb.TaskNotFound):
        db.tasks["none"]
    assert [(found.kind, found.index, found.status, found.progress) for found in db.tasks][-4:-2] == [
        ("vacuum", index.name, "completed", 1.0),
        ("refine", index.name, "completed", 1.0),
    ]
    assert task in db.tasks
    assert task.id in db.tasks
    assert "none" not in db.tasks
    assert db.tasks[-1].kind == "compress"
    assert [found.id for found in db.tasks[:2]] == [found.id for found in db.tasks][:2]


def test_a_task_is_cancelled(served: tuple[kektordb.Database, str], both: Both, db: RemoteDatabase) -> None:
    embedded, index = both
    began, goes_on = threading.Event(), threading.Event()

    def body(control: Any) -> dict[str, Any]:
        began.set()
        goes_on.wait(30)
        control.check()
        return {}

    first = served[0]._upkeep.submit("first", index.name, body)
    assert began.wait(30)
    task = embedded.vacuum()  # waits for its turn
    mine = db.tasks[task.id]
    assert (mine.status, mine.done) == ("started", False)
    mine.cancel()
    assert (mine.status, mine.done) == ("failed", True)
    with pytest.raises(kektordb.TaskFailed, match="cancelled"):
        mine.wait()
    db.tasks[first.id].cancel()
    goes_on.set()
    with pytest.raises(kektordb.TaskFailed, match="cancelled"):
        db.tasks[first.id].wait(30)
    mine.cancel()  # has ended already
    with pytest.raises(kektordb.TaskNotFound):
        kektordb.remote.RemoteTask(db._transport, "x", {"id": "none", "status": "started"}).cancel()


def test_a_database_is_saved_and_looked_at(tmp_path: Any) -> None:
    with kektordb.open(tmp_path / "db") as database, live(database) as url, connect(url) as db:
        db.create_index("a").add("x", [1.0, 2.0])
        db.sync()
        db.save()
        assert db.rewrite_aof().wait(60) == {}
        assert db.stats()["indexes"]["a"]["n_items"] == 1
        assert not db.closed
    assert db.closed
    with pytest.raises(kektordb.DatabaseClosed):
        list(db)


def test_a_token_is_borne() -> None:
    with kektordb.open(":memory:") as database:
        options = Options(token="write-1", read_only_token="read-1", limits=Limits(max_k=20))
        with live(database, options) as url:
            with connect(url, token="write-1") as db:
                db.create_index("a").add("x", [1.0])
                with pytest.raises(kektordb.ConfigError, match="k from 0 to 20"):
                    db["a"].search([1.0], k=21)
            with connect(url, token="read-1") as reader:
                assert reader["a"].search([1.0]).ids == ["x"]
                with pytest.raises(kektordb.AccessDenied, match="may only read"):
                    reader["a"].add("y", [1.0])
            for other in (connect(url), connect(url, token="wrong")):
                with other, pytest.raises(kektordb.AccessDenied):
                    list(other)


def test_threads_share_a_database(both: Both) -> None:
    embedded, index = both
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(15):
                index.add(f"thread {number} {i}", query(i), {"number": number})
                assert f"id/{i}" in index
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(embedded) == N + 90


# ---------------------------------------------------------------------------------------------- when the way is bad

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]"
BUSY = (
    b"HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n"
    + b'{"error":"no"}'
)


@contextlib.contextmanager
def scripted(*answers: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """Serve one answer on each connection, and close it; None closes without one. Gives the requests that came."""
    listener = socket.create_server(("127.0.0.1", 0))
    came: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                data = connection.recv(65_536)
                while int((re.findall(rb"(?i)content-length: (\d+)", data) or [b"0"])[0]) > len(
                    data.partition(b"\r\n\r\n")[2]
                ):
                    data += connection.recv(65_536)
                came.append(data)
                if answer is not None:
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/below", came
    finally:
        thread.join(10)
        listener.close()


@pytest.fixture(name="pauses")
def _pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", pauses.append)
    return pauses


def test_reads_are_tried_again(pauses: list[float]) -> None:
    with scripted(None, BUSY, OK) as (url, came), connect(url) as db:
        assert "a" not in db
    assert [request.split(b" HTTP")[0] for request in came] == [b"GET /below/vector/indexes"] * 3
    assert pauses == [0.2, 0.4]
    unreachable = pytest.raises(kektordb.ServerUnreachable, match="cannot reach http://127")
    with scripted(None, None) as (url, came), connect(url, retries=1) as db, unreachable:
        db.index("a")
    with scripted(BUSY) as (url, came), connect(url, retries=0) as db, pytest.raises(kektordb.ServerError) as error:
        db.index("a")
    assert error.value.status == 503


def test_writes_are_tried_again_when_they_may_be(pauses: list[float]) -> None:
    with scripted(None) as (url, came), connect(url) as db, pytest.raises(kektordb.ServerUnreachable):
        db.create_index("a")
    assert len(came) == 1
    assert pauses == []
    with scripted(None, OK) as (url, came), connect(url) as db:
        db.kv["a"] = b"x"
    assert len(came) == 2


def test_what_was_never_sent_is_tried_again(pauses: list[float]) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with connect(url, retries=3) as db, pytest.raises(ConnectionError):
        db.create_index("a")
    assert len(pauses) == 3


def test_a_connection_that_the_server_closed_is_not_used() -> None:
    """A write must not fail because the server had let go of an idle connection."""
    with scripted(OK, OK, OK) as (url, came), connect(url, retries=0) as db:
        assert len(db) == 0
        (_, idle), *_ = db._transport._kept
        idle.sock.settimeout(10)
        assert idle.sock.recv(1, socket.MSG_PEEK) == b"", "it has closed"
        assert len(db) == 0
        (_, idle), *_ = db._transport._kept
        assert idle.sock.recv(1, socket.MSG_PEEK) == b""
        db.kv["a"] = b"x"
    assert len(came) == 3


def test_an_answer_that_does_not_come_in_time() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with connect(url, timeout=0.05, retries=0) as db, pytest.raises(kektordb.ServerUnreachable, match=r"0\.05 s"):
            db.index("a")


def test_an_answer_of_somebody_else() -> None:
    page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 3\r\n\r\nabc"
    with scripted(page) as (url, _), connect(url) as db, pytest.raises(kektordb.ServerError, match="no KektorDB's"):
        db.index("a")
    missing = b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 3\r\n\r\nabc"
    with scripted(missing) as (url, _), connect(url) as db, pytest.raises(kektordb.ServerError) as error:
        db.index("a")
    assert error.value.status == 404


def test_a_child_has_connections_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with kektordb.open(":memory:") as database, live(database) as url, connect(url) as db:
        assert len(db) == 0
        ((_, before),) = db._transport._kept
        monkeypatch.setattr(transport.os, "getpid", lambda: -1)
        assert len(db) == 0
        ((_, after),) = db._transport._kept
        assert after is not before
        assert before.sock is None
        assert len(db) == 0
        assert db._transport._kept[0][1] is after


def test_a_server_that_is_none_of_tls(pauses: list[float]) -> None:
    unreachable = pytest.raises(kektordb.ServerUnreachable, match="cannot reach https:")
    with scripted(OK) as (url, _), connect(url.replace("http:", "https:"), retries=0) as db, unreachable:
        db.index("a")


def test_large_bodies_arrive_whole(served: tuple[kektordb.Database, str], db: RemoteDatabase) -> None:
    for n_bytes in (0, transport.MAX_JOINED - 100, transport.MAX_JOINED + 1, 3 << 20):
        db.kv["large"] = bytes(range(256)) * (n_bytes // 256)
        assert served[0].kv["large"] == db.kv["large"] == bytes(range(256)) * (n_bytes // 256)


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("localhost:9091", {}),
        ("ftp://localhost", {}),
        ("http://", {}),
        ("http://a:99999", {}),
        ("http://me:secret@localhost", {}),
        ("http://localhost/?a=b", {}),
        (None, {}),
        ("http://localhost", {"token": "a b"}),
        ("http://localhost", {"token": "a\nb"}),
        ("http://localhost", {"timeout": 0}),
        ("http://localhost", {"retries": -1}),
    ],
)
def test_bad_input_of_connect(url: Any, more: dict[str, Any]) -> None:
    with pytest.raises(kektordb.ConfigError):
        connect(url, **more)


# ----------------------------------------------------------------------------------------------------------- filters


@pytest.mark.parametrize(
    "text",
    [
        "a < 5 AND b = 'it\\'s' OR NOT (c >= 1 AND `x``y z` != \"\\\\\")",
        "a IN (1, 'two, three', $x) AND b NOT IN $list AND NOT NOT c = 1",
        "a BETWEEN -1 AND $high OR a NOT LIKE '%\\%_' OR a IS NOT NULL",
        "a ILIKE 'x%' AND b NOT ILIKE $y",
        "EXISTS(a.b) AND CONTAINS(a, 'x y') AND CONTAINS_ALL(`b,c`, $words)",
        "(a = 1 OR b = 2) AND (c = 3 OR d = 4)",
        "`not` = '' AND `a ` = ' '",
    ],
)
def test_a_filter_that_was_built_is_written_as_text(text: str) -> None:
    node = parse(text)
    assert parse(text_of(node)) == node


def test_an_empty_list_matches_nothing(both: Both) -> None:
    embedded, index = both
    assert index.count(F("n").is_in([])) == 0 == embedded.count(F("n").is_in([]))
    assert index.count(~F("n").is_in([])) == N == embedded.count(~F("n").is_in([]))
    with pytest.raises(kektordb.FilterError):
        text_of(ast.Value("1"))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", 5, None, b"a", "x\ud800", "x" * 70_000], ids=lambda key: repr(key)[:10])
def test_what_cannot_be_a_key_is_none(served: tuple[kektordb.Database, str], db: RemoteDatabase, key: Any) -> None:
    for keys in (served[0].kv, db.kv):
        assert key not in keys
        assert keys.get(key) is None
        assert keys.get_str(key) is None
        assert keys.pop(key, b"other") == b"other"
        with pytest.raises(KeyError):
            keys[key]
        with pytest.raises(KeyError):
            del keys[key]
        with pytest.raises(kektordb.ConfigError):
            keys[key] = b"v"
