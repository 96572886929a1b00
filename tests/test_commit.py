"""Writes happen in one order, whole or not at all; those that wait together share a sync; no fault is acknowledged."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from faults import Fault, MemoryBackend

import kektordb
from kektordb.commit import Exclusive
from kektordb.database import Database
from kektordb.errors import (
    ConfigError,
    IndexNotFound,
    ItemExists,
    ItemNotFound,
    KektorError,
    StorageFailed,
    StorageFull,
    VectorError,
)
from kektordb.operations import Operation
from kektordb.state import State

JOIN_S = 20.0


def rows(n: int, dim: int = 8, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


class GatedDisk(MemoryBackend):
    """A disk whose syncs of the log wait, while the gate is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = threading.Event()
        self.is_open.set()
        self.is_waiting = threading.Event()

    def open(self, path: str, mode: Any) -> Any:
        file: Any = super().open(path, mode)
        if "log-" in path:
            sync = file.sync

            def gated() -> None:
                if not self.is_open.is_set():
                    self.is_waiting.set()
                    assert self.is_open.wait(JOIN_S)
                sync()

            file.sync = gated
        return file

    def shut(self) -> None:
        self.is_open.clear()
        self.is_waiting.clear()


class Caller(threading.Thread):
    """Makes one call and keeps what came of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.error: BaseException | None = None
        self.result: Any = None

    def run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error


def together(db: Database, disk: GatedDisk, first: Callable[[], Any], others: list[Callable[[], Any]]) -> list[Caller]:
    """Let `first` wait for the disk until all of `others` are queued, in their order; then let them all go."""
    disk.shut()
    callers = [Caller(first)]
    callers[0].start()
    assert disk.is_waiting.wait(JOIN_S)
    for n, call in enumerate(others, 1):
        callers.append(Caller(call))
        callers[-1].start()
        while len(db._commits._queue) < n:
            assert callers[-1].is_alive() or len(db._commits._queue) == n
    disk.is_open.set()
    for caller in callers:
        caller.join(JOIN_S)
        assert not caller.is_alive(), "deadlock"
    return callers


def errors(callers: list[Caller]) -> list[type[BaseException] | None]:
    return [None if caller.error is None else type(caller.error) for caller in callers]


@pytest.fixture
def disk() -> GatedDisk:
    return GatedDisk()


def opened(disk: MemoryBackend, sync: str = "always") -> Database:
    return Database.open("/db", sync=sync, backend=disk, autosave="", n_threads=2)


# --------------------------------------------------------------------------------------------------------------- syncs


def test_each_call_alone_makes_exactly_one_sync(disk: GatedDisk) -> None:
    with opened(disk) as db:
        a = db.create_index("a")
        calls: list[Callable[[], Any]] = [
            lambda: a.add("x", [1.0, 2.0]),
            lambda: a.upsert("x", [1.0, 2.0], {"n": 1}),
            lambda: a.add_batch(["y", "z"], [[1.0, 2.0], [3.0, 4.0]]),
            lambda: a.update_metadata("x", {"n": 2}),
            lambda: a.delete("y"),
            lambda: a.delete(filter="n = 2"),
            lambda: db.kv.__setitem__("k", b"v"),
            lambda: db.kv.__delitem__("k"),
            lambda: db.create_index("b"),
            lambda: db.drop_index("b"),
        ]
        for call in calls:
            before = db.stats()["n_syncs"]
            call()
            assert db.stats()["n_syncs"] == before + 1


def test_calls_that_change_nothing_make_no_sync(disk: GatedDisk) -> None:
    with opened(disk) as db:
        a = db.create_index("a")
        a.add("x", [1.0, 2.0])
        before = db.stats()["n_syncs"], db.stats()["last_seq"]

        a.search([1.0, 2.0])
        a.delete(filter="n = 1")
        a.delete([])
        a.add_batch([], [])
        with pytest.raises(ItemExists):
            a.add("x", [1.0, 2.0])

        assert (db.stats()["n_syncs"], db.stats()["last_seq"]) == before


def test_without_always_no_call_waits_for_the_disk(disk: GatedDisk) -> None:
    db = opened(disk, sync="no")
    disk.shut()
    a = db.create_index("a")
    for i in range(50):
        a.add(f"i{i}", [1.0, i])
    assert not disk.is_waiting.is_set()
    assert db.stats()["n_syncs"] == 0
    disk.is_open.set()
    db.sync()
    assert db.stats()["n_syncs"] == 1
    db.close()


@pytest.mark.parametrize("n_writers", [1, 2, 30])
def test_writers_that_wait_together_share_a_sync(disk: GatedDisk, n_writers: int) -> None:
    with opened(disk) as db:
        a = db.create_index("a", metric="euclidean")
        before = db.stats()["n_syncs"]

        calls = [lambda i=i: a.add(f"i{i}", [1.0, i]) for i in range(n_writers)]
        callers = together(db, disk, lambda: a.add("first", [0.0, 0.0]), calls)

        assert errors(callers) == [None] * (n_writers + 1)
        assert db.stats()["n_syncs"] == before + 2
        assert a.ids() == ["first", *(f"i{i}" for i in range(n_writers))]
    with opened(disk.copy()) as db:
        assert db["a"].ids() == ["first", *(f"i{i}" for i in range(n_writers))]


def test_free_running_writers_make_no_more_syncs_than_writes(disk: GatedDisk) -> None:
    with opened(disk) as db:
        a = db.create_index("a")
        before = db.stats()["n_syncs"]

        def write(thread: int) -> None:
            for i in range(30):
                a.add(f"{thread}-{i}", [1.0, i])

        callers = [Caller(lambda t=t: write(t)) for t in range(4)]  # type: ignore[misc]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(JOIN_S)

        assert errors(callers) == [None] * 4
        assert len(a) == 120
        assert db.stats()["n_syncs"] - before <= 120
        assert db.stats()["last_seq"] == 121


def test_writes_that_share_a_sync_have_memory_for_all_of_them(disk: GatedDisk) -> None:
    """None is applied before the last is appended: memory for each alone would be memory for one."""
    vectors = rows(3000, dim=40)
    with opened(disk) as db:
        a = db.create_index("a", metric="euclidean", m=4, ef_construction=8)
        calls = [
            lambda i=i: a.add_batch(
                [f"{i}-{j}" for j in range(100)], vectors[i : i + 100], [{"n": i, "s": "x" * 99}] * 100
            )
            for i in range(0, 3000, 100)
        ]
        callers = together(db, disk, lambda: db.kv.__setitem__("k", b""), calls)  # type: ignore[arg-type]

        assert errors(callers) == [None] * 31
        assert len(a) == 3000
        for i in range(0, 3000, 100):
            for j in (0, 99):
                assert np.array_equal(a[f"{i}-{j}"].vector, vectors[i + j])
                assert a[f"{i}-{j}"].metadata["n"] == i
        graph = db._live().collection("a").graph
        assert graph is not None
        assert graph.fault() == ""


def test_writes_that_share_a_sync_are_each_checked_against_those_before(disk: GatedDisk) -> None:
    with opened(disk) as db:
        a = db.create_index("a", metric="euclidean")
        db.create_index("dropped")
        others: list[tuple[Callable[[], Any], Any]] = [
            (lambda: a.add("x", [1.0, 2.0], {"n": 1}), None),
            (lambda: a.add("x", [1.0, 2.0]), ItemExists),
            (lambda: a.add("wide", [1.0, 2.0, 3.0]), VectorError),
            (lambda: a.update_metadata("x", {"m": 2}), None),
            (lambda: a.upsert("y", [3.0, 4.0], {"n": 5}), None),
            (lambda: a.delete("x"), None),
            (lambda: a.update_metadata("x", {}), ItemNotFound),
            (lambda: a.delete("x"), ItemNotFound),
            (lambda: a.add("x", [5.0, 6.0], {"n": 9}), None),
            (lambda: a.delete(filter="n = 5"), None),
            (lambda: a.delete("y"), ItemNotFound),
            (lambda: db.drop_index("dropped"), None),
            (lambda: db["dropped"], IndexNotFound),
            (lambda: db.create_index("made"), None),
            (lambda: db.create_index("made"), kektordb.IndexExists),
        ]
        # A read is not queued, and would see the state before.
        queued = [(call, error) for call, error in others if error is not IndexNotFound]
        callers = together(db, disk, lambda: db.kv.__setitem__("k", b""), [call for call, _ in queued])

        assert errors(callers) == [None, *(error for _, error in queued)]
        assert callers[10 - 1 + 1].result == 1, "the filter saw what was written before it"
        assert {id: a[id].metadata for id in a} == {"x": {"n": 9}}
        assert list(db) == ["a", "made"]
        before = {id: a[id].metadata for id in a}
    with opened(disk.copy()) as db:
        assert {id: db["a"][id].metadata for id in db["a"]} == before
        assert list(db) == ["a", "made"]


def test_a_write_to_an_index_dropped_meanwhile_is_refused(disk: GatedDisk) -> None:
    with opened(disk) as db:
        a = db.create_index("a")
        a.add("old", [1.0])
        calls: list[Callable[[], Any]] = [
            lambda: db.drop_index("a"),
            lambda: a.add("ghost", [1.0]),
            lambda: db.create_index("a"),
            lambda: a.delete("old"),
        ]
        callers = together(db, disk, lambda: db.kv.__setitem__("k", b""), calls)
        # The ghost was checked against the index that is gone, not against the one that took its name.
        assert errors(callers) == [None, None, IndexNotFound, None, IndexNotFound]
        assert a.ids() == []


# -------------------------------------------------------------------------------------------------------------- faults


def test_a_failed_sync_applies_nothing_and_everyone_hears_of_it(disk: GatedDisk) -> None:
    db = opened(disk)
    a = db.create_index("a")
    a.add("before", [1.0, 2.0])
    disk.fault = Fault(0, errno.EIO, calls=frozenset({"sync"}), drop=True)

    calls = [lambda i=i: a.add(f"i{i}", [1.0, i]) for i in range(5)]
    callers = together(db, disk, lambda: a.add("first", [1.0, 1.0]), calls)

    assert errors(callers) == [StorageFailed] * 6
    assert a.ids() == ["before"]
    assert a.search([1.0, 2.0]).ids == ["before"], "reads go on"
    assert disk.fault.count == 1, "a failed sync is never tried again"
    for call in (lambda: a.delete("before"), lambda: db.kv.__setitem__("k", b""), db.save, db.sync):
        with pytest.raises(StorageFailed):
            call()
    db.close()
    disk.fault = None
    with opened(disk.copy()) as db:
        assert db["a"].ids() == ["before"]


def test_a_failed_write_among_others_leaves_none_of_the_refused(disk: GatedDisk) -> None:
    """The write before it, which shares the sync that never comes, is refused as well: it must not be there later."""
    db = opened(disk)
    a = db.create_index("a")
    disk.fault = Fault(2, errno.EIO, calls=frozenset({"writev"}))

    calls = [lambda i=i: a.add(f"i{i}", [1.0, i]) for i in range(3)]
    callers = together(db, disk, lambda: a.add("first", [1.0, 1.0]), calls)

    assert errors(callers) == [None, StorageFailed, StorageFailed, StorageFailed]
    assert a.ids() == ["first"]
    db.close()
    disk.fault = None
    with opened(disk.copy()) as db:
        assert db["a"].ids() == ["first"]


@pytest.mark.parametrize("sync", ["always", "no"])
def test_a_full_disk_leaves_nothing_and_the_next_write_works(disk: GatedDisk, sync: str) -> None:
    db = opened(disk, sync)
    a = db.create_index("a")
    for room in range(0, 200, 13):
        disk.capacity = sum(len(node.data) for node in disk.files.values()) + room
        before = db.stats()["log_bytes"], db.stats()["last_seq"], len(a)
        with pytest.raises(StorageFull):
            a.add("too much", [1.0, 2.0], {"text": "x" * 200})
        assert (db.stats()["log_bytes"], db.stats()["last_seq"], len(a)) == before
        assert "too much" not in a
        disk.capacity = None
        a.add(f"i{room}", [1.0, 2.0])
    a.add("too much", [1.0, 2.0])
    ids = a.ids()
    db.close()
    with opened(disk.copy()) as db:
        assert db["a"].ids() == ids


def test_a_first_vector_that_was_refused_decides_no_dimension(disk: GatedDisk) -> None:
    db = opened(disk)
    a = db.create_index("a")
    disk.capacity = 0
    with pytest.raises(StorageFull):
        a.add("narrow", [1.0, 2.0])
    disk.capacity = None

    assert a.dim is None
    assert a.search([1.0, 2.0, 3.0]).ids == []
    db.save()
    a.add("wide", [1.0, 2.0, 3.0])
    assert a.dim == 3
    db.close()
    with opened(disk.copy()) as db:
        assert db["a"].dim == 3
        assert db["a"].search([1.0, 2.0, 3.0]).ids == ["wide"]


def test_no_memory_leaves_nothing(disk: GatedDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(disk) as db:
        a = db.create_index("a")
        before = db.stats()

        def refuse(self: State, operation: Operation) -> None:
            raise MemoryError("none left")

        with monkeypatch.context() as patch:
            patch.setattr(State, "reserve", refuse)
            with pytest.raises(MemoryError, match="none left"):
                a.add("x", [1.0])
        assert db.stats()["last_seq"] == before["last_seq"]
        a.add("x", [1.0])


def test_an_error_in_the_check_of_one_write_is_not_the_others(disk: GatedDisk) -> None:
    def broken(pending: Any) -> Operation:
        raise ZeroDivisionError("in the check")

    with opened(disk) as db:
        a = db.create_index("a")
        calls: list[Callable[[], Any]] = [
            lambda: a.add("x", [1.0]),
            lambda: db._commits.commit(broken),
            lambda: a.add("y", [1.0]),
        ]
        callers = together(db, disk, lambda: a.add("first", [1.0]), calls)

        assert errors(callers) == [None, None, ZeroDivisionError, None]
        assert a.ids() == ["first", "x", "y"]
        a.add("z", [1.0])


class Interrupt(BaseException):
    """Something that nobody expects."""


@pytest.mark.parametrize("error", [Interrupt, MemoryError, RuntimeError])
@pytest.mark.parametrize("sync", ["always", "no"])
def test_a_write_interrupted_while_it_is_applied_acknowledges_nobody(
    monkeypatch: pytest.MonkeyPatch, sync: str, error: type[BaseException]
) -> None:
    disk = GatedDisk()
    db = opened(disk, sync)
    a = db.create_index("a")
    a.add("before", [1.0])
    apply = State.apply

    def interrupted(self: State, operation: Operation, *rest: Any) -> None:
        if getattr(operation, "ids", None) == ["x"]:
            raise error
        apply(self, operation, *rest)

    monkeypatch.setattr(State, "apply", interrupted)
    if sync == "always":
        calls: list[Callable[[], Any]] = [lambda: a.add("x", [1.0]), lambda: a.add("y", [1.0])]
        callers = together(db, disk, lambda: db.kv.__setitem__("k", b""), calls)
        assert callers[0].error is None
        assert error in errors(callers)[1:]
        assert isinstance(callers[2].error, StorageFailed | error)
    else:
        with pytest.raises(error):
            a.add("x", [1.0])
    monkeypatch.undo()

    # The log is ahead of memory: nothing may be written, and above all no snapshot, which would cover the lost write.
    assert a.ids() == ["before"]
    with pytest.raises(StorageFailed, match="open the database again"):
        a.add("z", [1.0])
    with pytest.raises(StorageFailed, match="open the database again"):
        db.save()
    with pytest.raises(StorageFailed, match="open the database again"):
        write_batch(db, a)
    db.close()
    with opened(disk.copy()) as db:
        assert db["a"].ids()[:2] == ["before", "x"]
        assert "z" not in db["a"]
        assert "batched" not in db["a"]


def write_batch(db: Database, index: kektordb.Index) -> None:
    with db.batch():
        index.add("batched", [1.0])


def test_ctrl_c_waits_until_the_write_is_whole() -> None:
    with kektordb.open(":memory:") as db:
        a = db.create_index("a")
        handler = signal.getsignal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            a.add_batch(
                [str(i) for i in range(600)],
                rows(600),
                progress=lambda done, total: signal.raise_signal(signal.SIGINT) if done < 300 else None,
            )

        assert len(a) == 600
        assert signal.getsignal(signal.SIGINT) is handler
        a.add("after", rows(1)[0])


def test_an_exclusive_lock_tells_its_holder() -> None:
    lock = Exclusive("held by you")
    with lock.alone:
        with pytest.raises(ConfigError, match="held by you"), lock.alone:
            pass
        other = Caller(lock.refuse_holder)
        other.start()
        other.join(JOIN_S)
        assert other.error is None
        assert lock.is_taken
    assert not lock.is_taken


def test_a_batch_that_cannot_be_written_happens_not_at_all(disk: GatedDisk) -> None:
    db = opened(disk)
    a = db.create_index("a")
    disk.capacity = sum(len(node.data) for node in disk.files.values()) + 40
    with pytest.raises(StorageFull):
        write_batch(db, a)
    disk.capacity = None
    assert a.ids() == []
    write_batch(db, a)
    assert a.ids() == ["batched"]
    db.close()
    assert issubclass(StorageFull, KektorError)
