"""A database is opened by one, closed once, shared by threads, kept from forks, saved cheaply and found again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import kektordb
from kektordb.errors import (
    ConfigError,
    CorruptLog,
    DatabaseClosed,
    DatabaseLocked,
    ForkedHandle,
    IndexExists,
    IndexNotFound,
    ItemExists,
    ItemNotFound,
    ReadOnlyDatabase,
    StorageError,
)
from kektordb.kv import AllKeys
from kektordb.links import RESERVED

ROOT = Path(kektordb.__file__).parent.parent
JOIN_S = 20.0


def rows(n: int, dim: int = 8, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def names(n: int) -> list[str]:
    return [f"i{i}" for i in range(n)]


def in_child(code: str, *arguments: object) -> str:
    """Run Python in a fresh process; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def contents(db: kektordb.Database) -> dict[str, Any]:
    """Everything a user can see, to be compared."""
    indexes = {}
    for name in db:
        index = db[name]
        indexes[name] = {
            "config": index.config,
            "items": [(item.id, item.vector.tobytes(), item.metadata) for item in map(index.__getitem__, index)],
            "found": index.search(np.ones(index.dim or 1), k=10).ids,
        }
    return {"indexes": indexes, "kv": dict(db.kv)}


def fill(db: kektordb.Database) -> None:
    a = db.create_index("a", metric="euclidean", m=4, ef_construction=30, seed=5)
    a.add_batch(names(300), rows(300), [{"n": i, "tag": f"t{i % 7}"} for i in range(300)])
    a.delete(["i5", "i100"])
    a.upsert("i7", rows(1, seed=2)[0], {"n": -7})
    a.update_metadata("i8", {"x": [1, 2]})
    db.create_index("empty", dim=3)
    db.create_index("b").add("only", [1.0, 2.0])
    db.kv["key"] = b"value"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


# ------------------------------------------------------------------------------------------------------------- opening


def test_a_database_is_made_and_found_again(path: Path) -> None:
    with kektordb.open(path) as db:
        assert db.path == path
        assert not db.read_only
        assert not db.closed
        fill(db)
        before = contents(db)

    assert db.closed
    with kektordb.open(str(path)) as db:
        assert contents(db) == before
        assert list(db) == ["a", "b", "empty"]
        assert len(db) == 3
        assert "a" in db
        assert "c" not in db
        assert db["a"].ids("tag = t3")[:2] == ["i3", "i10"]
        report = db.recovery_report
        assert report is not None
        assert (report.torn_bytes, report.damage) == (0, None)
        assert report.records_replayed > 0


@pytest.mark.parametrize("sync", ["always", "everysec", "no"])
def test_what_was_written_is_there_under_each_policy(path: Path, sync: str) -> None:
    with kektordb.open(path, sync=sync) as db:
        db.create_index("a").add("x", [1.0])
    with kektordb.open(path, sync=sync) as db:
        assert db["a"].ids() == ["x"]


def test_a_database_in_memory_has_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with kektordb.open(":memory:") as db:
        fill(db)
        assert db.path is None
        assert db.recovery_report is None
        assert db.save() is None
        assert db.rewrite_aof() is None
        db.sync()
        assert "log_bytes" not in db.stats()
    assert os.listdir(tmp_path) == []
    with kektordb.open(":memory:") as db:
        assert list(db) == []


def test_files_are_for_their_owner_only(path: Path) -> None:
    with kektordb.open(path) as db:
        fill(db)
        db.save()
        assert path.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o600}


def test_closing_twice_is_closing_once(path: Path) -> None:
    db = kektordb.open(path)
    db.close()
    db.close()
    with pytest.raises(DatabaseClosed), db:
        pass


def test_every_call_on_a_closed_database_says_so(path: Path) -> None:
    db = kektordb.open(path)
    index = db.create_index("a")
    index.add("x", [1.0])
    kv = db.kv
    db.close()

    calls: list[Callable[[], Any]] = [
        lambda: db.create_index("b"),
        lambda: db.drop_index("a"),
        lambda: db.index("a"),
        lambda: db["a"],
        lambda: "a" in db,
        lambda: list(db),
        lambda: len(db),
        lambda: db.batch().__enter__(),
        db.sync,
        db.save,
        db.rewrite_aof,
        db.stats,
        lambda: index.add("y", [1.0]),
        lambda: index.upsert("y", [1.0]),
        lambda: index.add_batch(["y"], [[1.0]]),
        lambda: index.upsert_batch(["y"], [[1.0]]),
        lambda: index.delete("x"),
        lambda: index.delete(filter="a = 1"),
        lambda: index.update_metadata("x", {}),
        lambda: index.search([1.0]),
        lambda: index.search_batch([[1.0]]),
        lambda: index.get("x"),
        lambda: index.get_many(["x"]),
        lambda: index["x"],
        lambda: "x" in index,
        lambda: len(index),
        lambda: list(index),
        index.ids,
        index.count,
        lambda: index.explain("a = 1"),
        index.stats,
        lambda: index.dim,
        lambda: index.config,
        lambda: kv["k"],
        lambda: kv.__setitem__("k", b""),
        lambda: kv.__delitem__("k"),
        lambda: list(kv),
        lambda: "k" in kv,
        lambda: len(kv),
    ]
    for call in calls:
        with pytest.raises(DatabaseClosed, match="was closed"):
            call()
    assert db.closed
    assert "closed" in repr(db)
    assert index.name == "a"


def test_a_second_open_in_the_same_process_is_refused(path: Path) -> None:
    with kektordb.open(path) as db:
        with pytest.raises(DatabaseLocked, match=f"in this process, process {os.getpid()} on"):
            kektordb.open(path)
        db.create_index("still works")
    kektordb.open(path).close()


OPEN_AND_PRINT = """
import sys, kektordb
try:
    kektordb.open(sys.argv[1])
except kektordb.DatabaseLocked as error:
    print(error)
"""


def test_a_second_open_in_another_process_names_the_holder(path: Path) -> None:
    with kektordb.open(path):
        assert f"process {os.getpid()} " in in_child(OPEN_AND_PRINT, path)
    assert in_child(OPEN_AND_PRINT, path) == ""


def test_a_forgotten_database_lets_go_of_its_files(path: Path) -> None:
    import gc

    for sync in ("always", "everysec"):
        db = kektordb.open(path, sync=sync)
        db.kv[sync] = b""
        del db
        gc.collect()
    with kektordb.open(path) as db:
        assert list(db.kv) == ["always", "everysec"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_and_the_parent_goes_on(path: Path) -> None:
    db = kektordb.open(path)
    index = db.create_index("a")
    index.add("x", [1.0, 0.0])
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            calls: list[Callable[[], Any]] = [
                lambda: index.add("child", [1.0, 0.0]),
                lambda: index.search([1.0, 0.0]),
                lambda: db.kv.get("k"),
                lambda: len(index),
                db.save,
                db.sync,
                lambda: db.batch().__enter__(),
            ]
            for call in calls:
                try:
                    call()
                except ForkedHandle:
                    os.write(writer, b"F")
            db.close()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    os.close(writer)
    told = os.read(reader, 100)
    os.close(reader)

    assert os.waitstatus_to_exitcode(status) == 0
    assert told == b"F" * 7
    index.add("parent", [0.0, 1.0])
    assert f"process {os.getpid()} " in in_child(OPEN_AND_PRINT, path)
    db.close()
    with kektordb.open(path) as db:
        assert db["a"].ids() == ["x", "parent"]


def test_a_newer_format_is_refused_with_the_version_needed(path: Path) -> None:
    from xxhash import xxh3_64_intdigest

    with kektordb.open(path) as db:
        fill(db)
    manifest = path / "MANIFEST"
    data = bytearray(manifest.read_bytes())
    data[8:12] = (2).to_bytes(4, "little")
    data[16:24] = xxh3_64_intdigest(bytes(data[:16] + data[24:])).to_bytes(8, "little")
    manifest.write_bytes(data)
    image = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"}

    with pytest.raises(StorageError, match="2"):
        kektordb.open(path)

    assert {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"} == image


def test_what_is_not_a_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_bytes(b"bytes" * 100)

    for path, read_only in [("dir", False), ("dir", True), ("file", False), ("file", True), ("nowhere", True)]:
        with pytest.raises(StorageError, match=path):
            kektordb.open(tmp_path / path, read_only=read_only)
    with pytest.raises(StorageError):
        kektordb.open(tmp_path / "nowhere" / "deeper")

    assert [p.name for p in (tmp_path / "dir").iterdir()] == ["letter.txt"]
    assert (tmp_path / "file").read_bytes() == b"bytes" * 100
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir", "file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do everything")
def test_no_permission_is_a_storage_error(path: Path) -> None:
    kektordb.open(path).close()
    path.chmod(0)
    try:
        with pytest.raises(StorageError, match="ermission"):
            kektordb.open(path)
    finally:
        path.chmod(0o700)


def test_damage_is_refused_and_the_prefix_can_be_had(path: Path) -> None:
    with kektordb.open(path, sync="always") as db:
        index = db.create_index("a")
        for i in range(10):
            index.add(f"i{i}", [1.0, i])
    log = next(path.glob("log-*.aof"))
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)

    for _ in range(2):
        with pytest.raises(CorruptLog) as caught:
            kektordb.open(path)
        assert caught.value.path == str(log)
        assert 64 <= caught.value.offset <= len(data) // 2
        assert log.read_bytes() == data

    with kektordb.open(path, recover="prefix") as db:
        survivors = db["a"].ids()
        assert survivors == names(len(survivors))
        assert 2 < len(survivors) < 8
        report = db.recovery_report
        assert report is not None
        assert report.damage is not None
        assert report.first_lost_seq == len(survivors) + 2
        db["a"].add("after", [1.0, 1.0])
    with kektordb.open(path) as db:
        assert db["a"].ids() == [*survivors, "after"]


# ----------------------------------------------------------------------------------------------------------- read only


def test_read_only_looks_and_does_not_touch(path: Path) -> None:
    with kektordb.open(path) as db:
        fill(db)
        before = contents(db)
    image = {file.name: file.read_bytes() for file in path.iterdir()}

    with kektordb.open(path, read_only=True) as view, kektordb.open(path, read_only=True) as other:
        assert view.read_only
        assert contents(view) == contents(other) == before
        index = view["a"]
        writes: list[Callable[[], Any]] = [
            lambda: view.create_index("new"),
            lambda: view.drop_index("a"),
            lambda: index.add("x", rows(1)[0]),
            lambda: index.upsert("x", rows(1)[0]),
            lambda: index.add_batch(["x"], rows(1)),
            lambda: index.delete("i1"),
            lambda: index.delete(filter="n = 1"),
            lambda: index.update_metadata("i1", {}),
            lambda: view.kv.__setitem__("k", b""),
            lambda: view.kv.__delitem__("key"),
            lambda: view.batch().__enter__(),
            view.save,
            view.rewrite_aof,
        ]
        for write in writes:
            with pytest.raises(ReadOnlyDatabase):
                write()
        view.sync()
        assert contents(view) == before
    assert {file.name: file.read_bytes() for file in path.iterdir()} == image


def test_read_only_beside_a_writer_shows_one_point_in_time(path: Path) -> None:
    with kektordb.open(path) as db:
        fill(db)
        before = contents(db)
        with kektordb.open(path, read_only=True) as view:
            db["a"].add("later", rows(1)[0])
            db.save()
            assert contents(view) == before
        with kektordb.open(path, read_only=True) as view:
            assert contents(view) == contents(db) != before


# -------------------------------------------------------------------------------------------------------------- saving


def graph_of(db: kektordb.Database, name: str) -> list[list[list[int]]]:
    graph = db._live().collection(name).graph
    assert graph is not None
    return [[graph.neighbours(slot, level) for level in range(graph.level(slot) + 1)] for slot in range(len(graph))]


def test_opening_loads_the_graph_and_builds_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kektordb.open(path, n_threads=2) as db:
        fill(db)
        db.save()
        before, graph = contents(db), graph_of(db, "a")
        found = db["a"].search(rows(1, seed=3)[0], k=20, ef_search=20)

    from kektordb.collection import Collection

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is to be put when all is in the snapshot")

    monkeypatch.setattr(Collection, "put", refuse)
    with kektordb.open(path) as db:
        assert contents(db) == before
        assert graph_of(db, "a") == graph
        again = db["a"].search(rows(1, seed=3)[0], k=20, ef_search=20)
        assert (again.ids, again.distances.tolist()) == (found.ids, found.distances.tolist())
        report = db.recovery_report
        assert report is not None
        assert report.records_replayed == 0


def test_replay_joins_writes_and_changes_nothing_by_it(path: Path) -> None:
    """Single items that follow each other are replayed as one batch: only those that may be, and to the same graph."""
    vectors = rows(400)
    with kektordb.open(path, n_threads=1) as db:
        a, b = (
            db.create_index("a", metric="euclidean", m=3, ef_construction=10),
            db.create_index("b", metric="euclidean"),
        )
        for i in range(60):
            a.add(f"i{i}", vectors[i], {"n": i})
        db.save()
        for i in range(60, 300):
            match i % 6:
                case 0 | 1:
                    a.add(f"i{i}", vectors[i], {"n": i})
                case 2:
                    a.upsert(f"i{i % 60}", vectors[i], {"n": -i})
                case 3:
                    a.upsert(f"i{i - 3}", vectors[i], {"n": -i})
                case 4:
                    b.add(f"i{i}", vectors[i])
                    b.upsert(f"i{i}", vectors[i])
                case 5:
                    a.upsert_batch([f"i{i - 4}", f"new{i}"], vectors[i : i + 2])
        before, graph = contents(db), graph_of(db, "a")

    with kektordb.open(path, n_threads=1) as db:
        assert contents(db) == before
        assert graph_of(db, "a") == graph


@pytest.mark.parametrize("call", ["save", "rewrite_aof"])
def test_a_save_starts_the_log_anew(path: Path, call: str) -> None:
    with kektordb.open(path) as db:
        fill(db)
        before, log_bytes = contents(db), db.stats()["log_bytes"]
        generation = db.stats()["generation"]

        report = getattr(db, call)()

        stats = db.stats()
        assert report is not None
        assert report.bytes_written == sum(file.stat().st_size for file in path.glob("snapshot-*"))
        assert stats["log_bytes"] == 64 < log_bytes
        assert stats["generation"] == generation + 1
        assert stats["n_changes_since_save"] == 0
        assert len(list(path.glob("log-*"))) == 1
        assert contents(db) == before
    with kektordb.open(path) as db:
        assert contents(db) == before


def test_a_save_writes_only_what_changed(path: Path) -> None:
    vectors = rows(20_000, dim=64)
    with kektordb.open(path, n_threads=2) as db:
        index = db.create_index("a", metric="euclidean", m=4, ef_construction=8)
        index.add_batch(names(20_000), vectors)
        first = db.save()
        index.add("one more", vectors[0], {"n": 1})
        second = db.save()
        third = db.save()
        assert first is not None
        assert second is not None
        assert third is not None
        assert first.bytes_written > 4_000_000
        assert second.blocks_reused > 0
        assert second.bytes_written < 0.5 * first.bytes_written
        assert third.bytes_written < 0.01 * first.bytes_written
        before = index.search(vectors[5], k=50).ids

    with kektordb.open(path) as db:
        assert db["a"].search(vectors[5], k=50).ids == before
        assert db["a"]["one more"].metadata == {"n": 1}


def test_writes_go_on_during_a_save_and_are_not_lost(path: Path) -> None:
    """The progress function is called while the snapshot is written: each of its writes comes after the frozen view."""
    with kektordb.open(path) as db:
        fill(db)
        index, n = db["a"], 0

        def write(done: int, total: int) -> None:
            nonlocal n
            n += 1
            if n > 6:
                return
            index.add(f"during-{n}", rows(1, seed=n)[0], {"during": n})
            index.delete(f"i{n + 20}")
            index.upsert(f"i{n + 50}", rows(1, seed=100 + n)[0])
            index.update_metadata(f"i{n + 80}", {"during": n})
            db.kv[f"during-{n}"] = b""
            if n == 3:
                db.drop_index("b")
                db.create_index("late").add("x", [1.0])

        db.save(progress=write)
        assert n > 5
        after = contents(db)

    with kektordb.open(path) as db:
        assert contents(db) == after
        db.save()
    with kektordb.open(path) as db:
        assert contents(db) == after


def test_an_error_of_a_progress_function_does_not_stop_a_save(path: Path) -> None:
    def fail(done: int, total: int) -> None:
        raise RuntimeError("mine")

    with kektordb.open(path) as db:
        fill(db)
        before = contents(db)
        with pytest.raises(RuntimeError, match="mine"):
            db.save(progress=fail)
        assert db.stats()["log_bytes"] == 64
        assert db.stats()["n_changes_since_save"] == 0
        db["a"].delete("i1")
        db.save()
        before["indexes"]["a"]["items"] = [item for item in before["indexes"]["a"]["items"] if item[0] != "i1"]
    with kektordb.open(path) as db:
        assert contents(db)["indexes"]["a"]["items"] == before["indexes"]["a"]["items"]


def test_save_reports_its_progress_in_bytes(path: Path) -> None:
    heard: list[tuple[int, int]] = []
    with kektordb.open(path) as db:
        fill(db)
        db.save(progress=lambda done, total: heard.append((done, total)))

    assert heard == sorted(heard)
    assert heard[-1][0] == heard[-1][1] > 0


def test_saving_many_times_keeps_few_files(path: Path) -> None:
    with kektordb.open(path) as db:
        fill(db)
        for i in range(30):
            db["a"].upsert("i7", rows(1, seed=i)[0])
            db.save()
        before = contents(db)
        assert len(list(path.iterdir())) < 22
    with kektordb.open(path) as db:
        assert contents(db) == before


# ------------------------------------------------------------------------------------------------------------- indexes


def test_indexes_are_made_and_dropped(path: Path) -> None:
    with kektordb.open(path) as db:
        a = db.create_index("a")
        with pytest.raises(IndexExists, match="'a'"):
            db.create_index("a", metric="dot")
        with pytest.raises(IndexNotFound, match="'b'"):
            db["b"]
        with pytest.raises(IndexNotFound, match="'b'"):
            db.drop_index("b")
        a.add("x", [1.0])
        db.drop_index("a")
        assert list(db) == []
        db.create_index("a", metric="dot").add("y", [1.0, 2.0])

    with kektordb.open(path) as db:
        assert list(db) == ["a"]
        assert db["a"].ids() == ["y"]
        assert db["a"].config.metric == "dot"


def test_indexes_of_one_database_do_not_mix(path: Path) -> None:
    with kektordb.open(path) as db:
        for i in range(5):
            db.create_index(f"n{i}", metric="euclidean").add("same", [float(i)], {"i": i})
        db.save()
        db["n2"].delete("same")
    with kektordb.open(path) as db:
        assert [db[name].ids() for name in db] == [["same"], ["same"], [], ["same"], ["same"]]
        assert db["n4"]["same"].metadata == {"i": 4}


@pytest.mark.parametrize("name", ["a", "é" * 127, "x" * 255, "a/b/../c", "LOCK", " ", "日本"])
def test_any_text_can_be_the_name_of_an_index(path: Path, name: str) -> None:
    with kektordb.open(path) as db:
        db.create_index(name).add("x", [1.0])
        db.save()
    with kektordb.open(path) as db:
        assert list(db) == [name]
        assert db[name].ids() == ["x"]


# ------------------------------------------------------------------------------------------------------------- batches


@pytest.fixture(params=["memory", "disk"])
def db(request: pytest.FixtureRequest, path: Path) -> Iterator[kektordb.Database]:
    with kektordb.open(":memory:" if request.param == "memory" else path) as database:
        yield database


def test_a_batch_happens_when_it_ends(db: kektordb.Database) -> None:
    a, b = db.create_index("a"), db.create_index("b")
    a.add("old", [1.0, 0.0])
    with db.batch():
        a.add("new", [0.0, 1.0], {"n": 1})
        b.add_batch(["x", "y"], [[1.0], [2.0]])
        a.delete("old")
        a.update_metadata("new", {"m": 2})
        db.kv["key"] = b"value"
        assert (a.ids(), b.ids()) == (["old"], []), "reads of indexes in a batch see the state before"
        assert a.search([0.0, 1.0]).ids == ["old"]

    assert (a.ids(), b.ids(), dict(db.kv)) == (["new"], ["x", "y"], {"key": b"value"})
    assert a["new"].metadata == {"n": 1, "m": 2}
    assert a.dim == 2


def test_keys_in_a_batch_are_those_it_has_written(db: kektordb.Database) -> None:
    rng = random.Random(7)
    keys = [f"{group}/{i}" for group in "abé" for i in range(6)]
    hidden, kept = AllKeys(db), dict[str, bytes]()
    truth = dict.fromkeys(keys[::2], b"old")
    db.kv.update(truth)
    before, seen = dict(truth), list[dict[str, bytes]]()

    with db.batch():
        for step in range(400):
            key = rng.choice(keys)
            own = f"{RESERVED}{key}"
            if rng.random() < 0.5:
                hidden[own] = kept[own] = b"%d" % step
            elif own in kept:
                del hidden[own], kept[own]
            assert (len(hidden), hidden.get(own)) == (len(truth) + len(kept), kept.get(own))
            if rng.random() < 0.5:
                db.kv[key] = truth[key] = b"%d" % step
            elif key in truth:
                del db.kv[key], truth[key]
            else:
                with pytest.raises(KeyError):
                    del db.kv[key]
            assert (db.kv.get(key), db.kv.get_str(key)) == (
                truth.get(key),
                truth.get(key, b"-").decode() if key in truth else None,
            )
            assert (key in db.kv, len(db.kv)) == (key in truth, len(truth))
            assert list(db.kv.items()) == sorted(truth.items())
            assert list(db.kv.prefix("b/")) == sorted(key for key in truth if key.startswith("b/"))
        other = threading.Thread(target=lambda: seen.append(dict(db.kv)))
        other.start()
        other.join(20)
        shown = iter(db.kv)
        assert db.kv.pop("new", b"none") == b"none"
        db.kv["new"] = b"new"
        assert db.kv.pop("new") == b"new"

    assert seen == [before], "other threads see a batch when it has ended"
    assert list(shown) == sorted(truth)
    assert dict(db.kv) == truth
    with db.batch():
        db.kv["new"] = b""
        db.kv.clear()
        assert (len(db.kv), list(db.kv)) == (0, [])
    assert dict(db.kv) == {}
    assert dict(hidden) == kept


def test_keys_of_a_batch_that_failed_are_not_seen(db: kektordb.Database) -> None:
    db.kv["old"] = b"1"

    def fail() -> None:
        with db.batch():
            db.kv["new"] = b"2"
            del db.kv["old"]
            with pytest.raises(ConfigError):
                db.kv["old"] = "\ud800"
            assert dict(db.kv) == {"new": b"2"}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert dict(db.kv) == {"old": b"1"}


def test_a_batch_is_one_record(path: Path) -> None:
    with kektordb.open(path, sync="always") as db:
        a = db.create_index("a")
        seq, n_syncs = db.stats()["last_seq"], db.stats()["n_syncs"]
        with db.batch():
            for i in range(50):
                a.add(f"i{i}", [1.0, i])
                db.kv[str(i)] = b""
        assert db.stats()["last_seq"] == seq + 1
        assert db.stats()["n_syncs"] == n_syncs + 1
        before = contents(db)
        with db.batch():
            pass
        assert db.stats()["last_seq"] == seq + 1
    with kektordb.open(path) as db:
        assert contents(db) == before


def test_an_error_in_a_batch_forgets_all_of_it(db: kektordb.Database) -> None:
    a = db.create_index("a")
    a.add("old", [1.0, 0.0], {"n": 1})
    before = contents(db)

    def fail() -> None:
        with db.batch():
            a.add("new", [0.0, 1.0])
            a.upsert("old", [0.0, 1.0])
            a.delete("old")
            db.kv["key"] = b"value"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert contents(db) == before
    a.add("new", [0.0, 1.0])
    assert a.ids() == ["old", "new"]


def test_a_refused_write_in_a_batch_leaves_the_others(db: kektordb.Database) -> None:
    a = db.create_index("a")
    a.add("old", [1.0, 0.0])

    with db.batch():
        a.add("new", [0.0, 1.0])
        for id in ("old", "new"):
            with pytest.raises(ItemExists):
                a.add(id, [1.0, 1.0])
        with pytest.raises(kektordb.VectorError):
            a.add("wide", [1.0, 1.0, 1.0])
        a.delete("old")
        with pytest.raises(ItemNotFound):
            a.delete("old")
        with pytest.raises(ItemNotFound):
            a.update_metadata("old", {})
        a.add("old", [0.5, 0.5])

    assert a.ids() == ["new", "old"]


def test_the_first_vector_of_a_batch_decides_the_dimension(db: kektordb.Database) -> None:
    a = db.create_index("a")
    with db.batch():
        a.add("x", [1.0, 2.0])
        with pytest.raises(kektordb.VectorError, match="expected 2 dimensions, got 3"):
            a.add("y", [1.0, 2.0, 3.0])
        a.add("z", [3.0, 4.0])
    assert a.ids() == ["x", "z"]


def test_a_forgotten_batch_decides_no_dimension(db: kektordb.Database) -> None:
    a = db.create_index("a")

    def fail() -> None:
        with db.batch():
            a.add("x", [1.0, 2.0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert a.dim is None
    a.add("y", [1.0, 2.0, 3.0])
    assert a.dim == 3


def test_what_cannot_be_in_a_batch_is_refused(db: kektordb.Database) -> None:
    a = db.create_index("a")
    a.add("old", [1.0], {"n": 1})
    calls: list[Callable[[], Any]] = [
        lambda: db.create_index("b"),
        lambda: db.drop_index("a"),
        lambda: a.delete(filter="n = 1"),
        lambda: db.batch().__enter__(),
        db.close,
        db.save,
        db.rewrite_aof,
        db.sync,
    ]
    for pending in (False, True):
        with db.batch():
            if pending:
                a.add("new", [2.0])
            for call in calls:
                with pytest.raises(ConfigError, match="batch"):
                    call()

    assert a.ids() == ["old", "new"]
    assert list(db) == ["a"]


def test_other_threads_wait_until_a_batch_ends(path: Path) -> None:
    db = kektordb.open(path, sync="always")  # the policy under which waiting writes can be seen
    a = db.create_index("a")
    order: list[str] = []

    def write() -> None:
        a.add("other", [1.0])
        order.append("other")

    other = threading.Thread(target=write, daemon=True)
    with db.batch():
        a.add("mine", [1.0])
        other.start()
        # It has queued its write, and cannot go on.
        while not db._commits._queue:
            pass
        assert a.ids() == []
        order.append("mine")
    other.join(JOIN_S)

    assert order == ["mine", "other"]
    assert a.ids() == ["mine", "other"]
    db.close()


def test_a_write_from_a_progress_function_is_refused(db: kektordb.Database) -> None:
    """It would wait for the very write that it reports on."""
    a = db.create_index("a")
    with pytest.raises(ConfigError, match="progress"):
        a.add_batch(names(5), rows(5), progress=lambda done, total: a.delete("i0"))

    assert len(a) == 5
    a.delete("i0")


# --------------------------------------------------------------------------------------------------------------- stats


def test_stats_count_what_is_there(path: Path) -> None:
    with kektordb.open(path) as db:
        fill(db)
        stats = db.stats()
        assert {name: index["n_items"] for name, index in stats["indexes"].items()} == {"a": 298, "b": 1, "empty": 0}
        assert stats["n_keys"] == 1
        assert stats["n_changes_since_save"] >= 300
        assert stats["log_bytes"] == sum(file.stat().st_size for file in path.glob("log-*"))
        assert stats["snapshot_bytes"] == 0
        assert stats["last_seq"] == 9
        db.save()
        assert db.stats()["snapshot_bytes"] > 0
        assert repr(db) == f"<kektordb.Database {str(path)!r}>"


def test_a_progress_that_cannot_be_called_is_refused_before_anything_moved(path: Path) -> None:
    with kektordb.open(path) as db:
        a = db.create_index("a")
        with pytest.raises(ConfigError, match="progress"):
            a.add_batch(["x"], [[1.0]], progress=5)  # type: ignore[arg-type]
        generation = db.stats()["generation"]
        with pytest.raises(ConfigError, match="progress"):
            db.save(progress="yes")  # type: ignore[arg-type]
        assert len(a) == 0
        assert db.stats()["generation"] == generation
