"""What is due is done, by a clock that the test turns: saves, vacuums, refines; a failure waits and loses nothing."""

from __future__ import annotations

import errno
import gc
import logging
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from faults import Fault, MemoryBackend

from kektordb.database import Database
from kektordb.errors import ConfigError, StorageFull
from kektordb.tasks import Control
from kektordb.upkeep import policies
from kektordb.upkeep.policies import (
    MAX_REPLAY_S,
    MIN_LOG_BYTES,
    RETRY_S,
    Refining,
    SavePolicies,
    Saving,
    Vacuuming,
    leaves_work,
    parse_policies,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads look only when a test says so."""
    monkeypatch.setattr("kektordb.upkeep.maintenance.TICK_S", 3600.0)


@pytest.fixture
def disk() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def db(disk: MemoryBackend) -> Iterator[Database]:
    with Database.open("/db", backend=disk, sync="no", autosave="") as database:
        database.create_index("a")
        database.save()
        yield database


def watch(db: Database, clock: Clock, pairs: Any, percentage: int = 100) -> Callable[[], bool]:
    """Return a look at whether to save, which tells whether it did."""
    saving = Saving(parse_policies(pairs, percentage), clock())
    db._upkeep.clock, db._upkeep._saving, db._upkeep._policies = clock, saving, [saving]

    def look() -> bool:
        generation = db.stats()["generation"]
        db._upkeep.look()
        return bool(db.stats()["generation"] > generation)

    return look


def write(db: Database, n: int) -> None:
    start = len(db["a"])
    for i in range(start, start + n):
        db["a"].add(f"i{i}", [1.0, i])


# ------------------------------------------------------------------------------------------------------------- parsing


@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        ("60 1000", ((60, 1000),)),
        ("  5   1 ", ((5, 1),)),
        ("", ()),
        (" ", ()),
        ([], ()),
        (["900 1", "300 10"], ((900, 1), (300, 10))),
        (("900 1", ""), ((900, 1),)),
        ("0 0", ((0, 0),)),
    ],
)
def test_policies_are_read(given: Any, pairs: Any) -> None:
    assert parse_policies(given, 50) == SavePolicies(pairs, 50)


@pytest.mark.parametrize(
    "given", ["60", "60 1000 5", "a b", "60,1000", "-60 1", "1.5 3", "1e3 5", "9999999999 1", 5, None, [5], [None]]
)
def test_what_is_no_policy_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected autosave.*got "):
        parse_policies(given, 100)


@pytest.mark.parametrize("percentage", [-1, 1.5, "100", None, True])
def test_what_is_no_percentage_is_refused(percentage: Any) -> None:
    with pytest.raises(ConfigError, match=r"aof_rewrite_percentage.*got "):
        parse_policies("60 1000", percentage)


# -------------------------------------------------------------------------------------------------------------- due


@pytest.mark.parametrize(
    ("age_s", "n_changes", "is_due"),
    [(59.9, 5000, False), (60, 999, False), (60, 1000, True), (899, 1, False), (900, 1, True), (9e9, 0, False)],
)
def test_a_pair_is_due_when_time_and_changes_have_come(age_s: float, n_changes: int, is_due: bool) -> None:
    pairs = parse_policies(["60 1000", "900 1"], 100)
    assert pairs.is_due(age_s, n_changes, 0, 0, 0.0) is is_due


@pytest.mark.parametrize(
    ("log_bytes", "snapshot_bytes", "percentage", "is_due"),
    [
        (MIN_LOG_BYTES, 0, 100, False),
        (MIN_LOG_BYTES + 1, 0, 100, True),
        (MIN_LOG_BYTES + 1, MIN_LOG_BYTES + 1, 100, False),
        (MIN_LOG_BYTES + 2, MIN_LOG_BYTES + 1, 100, True),
        (10 * MIN_LOG_BYTES, 11 * MIN_LOG_BYTES, 100, False),
        (10 * MIN_LOG_BYTES, 11 * MIN_LOG_BYTES, 50, True),
        (10**15, 0, 0, False),
    ],
)
def test_a_log_is_due_by_its_size(log_bytes: int, snapshot_bytes: int, percentage: int, is_due: bool) -> None:
    parsed = parse_policies("", percentage)
    assert parsed.is_due(0, 1, log_bytes, snapshot_bytes, 0.0) is is_due
    assert not parsed.is_due(0, 0, log_bytes, snapshot_bytes, 0.0)


def test_a_log_is_due_by_the_time_of_its_replay() -> None:
    parsed = parse_policies("", 100)
    assert not parsed.is_due(0, 1, 0, 0, MAX_REPLAY_S)
    assert parsed.is_due(0, 1, 0, 0, MAX_REPLAY_S + 0.1)
    assert not parse_policies("", 0).is_due(0, 1, 0, 0, MAX_REPLAY_S + 0.1)


# ------------------------------------------------------------------------------------------------------------- ticks


def test_a_tick_saves_when_it_is_time(db: Database, clock: Clock) -> None:
    look = watch(db, clock, "60 5")
    generation = db.stats()["generation"]

    write(db, 5)
    assert not look()
    clock.now += 59
    assert not look()
    clock.now += 1
    assert look()
    assert db.stats()["generation"] == generation + 1
    assert db.stats()["n_changes_since_save"] == 0

    clock.now += 1000
    assert not look()
    write(db, 4)
    assert not look()
    write(db, 1)
    assert look()
    write(db, 5)
    assert not look(), "the time counts from the last save"


def test_all_kinds_of_writes_count(db: Database, clock: Clock) -> None:
    look = watch(db, clock, "0 7")
    db["a"].add_batch(["x", "y"], [[1.0, 2.0], [3.0, 4.0]])
    db["a"].delete("x")
    db["a"].update_metadata("y", {"n": 1})
    db.kv["k"] = b""
    db.create_index("b")
    assert db.stats()["n_changes_since_save"] == 6
    assert not look()
    with db.batch():
        db.kv["l"] = b""
    assert look()


def test_a_save_by_hand_counts(db: Database, clock: Clock) -> None:
    look = watch(db, clock, "60 1")
    write(db, 1)
    clock.now += 59
    db.save()
    write(db, 1)
    clock.now += 30
    assert not look()
    clock.now += 30
    assert look()


def test_a_failing_save_waits_before_the_next_try(
    db: Database, disk: MemoryBackend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    look = watch(db, clock, "60 1")
    write(db, 3)
    clock.now += 60
    disk.capacity = sum(len(node.data) for node in disk.files.values())

    with caplog.at_level(logging.WARNING, "kektordb"):
        assert not look()
    assert "nothing is lost" in caplog.text
    n_steps = len(disk.history)
    clock.now += RETRY_S - 1
    assert not look()
    assert len(disk.history) == n_steps, "it does not try"
    assert db["a"].ids() == ["i0", "i1", "i2"]
    with pytest.raises(StorageFull):
        write(db, 1)

    disk.capacity = None
    write(db, 1)
    clock.now += 1
    assert look()
    assert db.stats()["log_bytes"] == 64


@pytest.mark.parametrize("error", [MemoryError("none left"), RuntimeError("a bug")])
def test_no_error_ends_the_looking_after(
    db: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    look = watch(db, clock, "60 1")
    write(db, 1)
    clock.now += 60

    def fail() -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(db, "save", fail)
        assert not look()
    assert str(error) in caplog.text
    clock.now += RETRY_S
    assert look()


def test_a_failed_disk_is_not_beaten(db: Database, disk: MemoryBackend, clock: Clock) -> None:
    look = watch(db, clock, "60 1")
    write(db, 1)
    disk.fault = Fault(0, errno.EIO, calls=frozenset({"sync"}))
    for _ in range(10):
        clock.now += 60
        assert not look()
    assert disk.fault.count == 1
    assert db["a"].ids() == ["i0"]
    disk.fault = None


def test_the_size_of_the_log_and_of_the_snapshot_are_looked_at(
    db: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "MIN_LOG_BYTES", 1000)
    look = watch(db, clock, "")
    write(db, 5)
    assert not look()
    write(db, 20)
    assert db.stats()["log_bytes"] > 1000
    assert look()
    never = watch(db, clock, "", 0)
    write(db, 50)
    assert not never()


def test_the_time_of_replay_is_remembered_over_an_open(disk: MemoryBackend, clock: Clock) -> None:
    """A log that took six seconds to read would take six seconds again."""
    with Database.open("/db", backend=disk, autosave="") as db:
        db.create_index("a")
        write(db, 2)
    with Database.open("/db", backend=disk, autosave="") as db:
        assert db._commits.apply_s > 0
        look = watch(db, clock, "")
        db._commits.apply_s += MAX_REPLAY_S
        write(db, 1)
        assert look()
        assert db._commits.apply_s < 1


def test_a_save_that_is_due_does_not_wait_for_the_end_of_a_task(db: Database, clock: Clock) -> None:
    watch(db, clock, "60 3")
    db._upkeep._looked_between = clock()
    before = db.stats()["generation"]

    def saves(control: Control) -> int:
        clock.now += 3600
        generation = db.stats()["generation"]
        control.check()
        return int(db.stats()["generation"] - generation)

    def body(control: Control) -> dict[str, Any]:
        found = {"nothing to save": saves(control)}
        write(db, 3)
        with db._save_lock.alone:
            found["under the lock of saves"] = saves(control)
        with db._upkeep._changed:
            db._upkeep._n_pauses += 1
        found["paused"] = saves(control)
        db.maintenance.resume()
        found["due"] = saves(control)
        found["again"] = saves(control)
        return found

    found = db._upkeep.submit("test", None, body).wait(20)
    assert found == {"nothing to save": 0, "under the lock of saves": 0, "paused": 0, "due": 1, "again": 0}
    assert db.stats()["generation"] == before + 1


def test_a_save_between_slices_that_fails_leaves_the_task_alone(
    db: Database, clock: Clock, disk: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    watch(db, clock, "60 3")
    db._upkeep._looked_between = clock()
    write(db, 3)

    def body(control: Control) -> dict[str, Any]:
        clock.now += 3600
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Database, "save", _fail)
            control.check()
        return {"done": True}

    with caplog.at_level(logging.WARNING, "kektordb"):
        assert db._upkeep.submit("test", None, body).wait(20) == {"done": True}
    assert "no space" in caplog.text


def _fail(_: Database) -> None:
    raise StorageFull("no space left")


def test_pausing_waits_for_a_save_between_slices(db: Database, clock: Clock) -> None:
    watch(db, clock, "60 3")
    db._upkeep._looked_between = clock()
    write(db, 3)
    begun, go, paused = threading.Event(), threading.Event(), threading.Event()

    def save(_: Database) -> None:
        begun.set()
        assert go.wait(20)
        assert not paused.is_set()

    def body(control: Control) -> dict[str, Any]:
        clock.now += 3600
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Database, "save", save)
            control.check()
        return {}

    def pause() -> None:
        db.maintenance.pause()
        paused.set()

    task = db._upkeep.submit("test", None, body)
    assert begun.wait(20)
    thread = threading.Thread(target=pause)
    thread.start()
    while db._upkeep.n_pauses == 0:
        pass
    assert not paused.is_set()
    go.set()
    thread.join()
    task.wait(20)
    db.maintenance.resume()


# ------------------------------------------------------------------------------------------------- vacuum and refine


class Bodies:
    """What stands in for the work itself: it says what was asked of it, and fails when it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.result: dict[str, Any] = {}

    def vacuum(self, database: Database, name: str, control: Control) -> dict[str, Any]:
        self.calls.append(("vacuum", name))
        control.check()
        if self.error is not None:
            raise self.error
        return {"n_removed": 1, "reclaimed_bytes": 2}

    def refine(
        self, database: Database, name: str, control: Control, n_rows: int | None, ef: int | None
    ) -> dict[str, Any]:
        self.calls.append(("refine", name, n_rows, ef))
        return self.result


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> Bodies:
    found = Bodies()
    for name in ("vacuum", "refine"):
        module = types.ModuleType(f"kektordb.upkeep.{name}")
        setattr(module, name, getattr(found, name))
        monkeypatch.setitem(sys.modules, f"kektordb.upkeep.{name}", module)
    return found


@pytest.fixture
def kept(db: Database, clock: Clock, bodies: Bodies) -> Database:
    """A database in which the test's clock says when an index is looked at; it has been seen once."""
    db._upkeep.clock, db._upkeep._policies = clock, [Vacuuming(), Refining()]
    db["a"].configure(vacuum_interval="5m", delete_threshold=0.3)
    db._upkeep.look()
    return db


def bury(db: Database, n_items: int, n_dead: int, index: str = "a") -> None:
    db[index].upsert_batch([f"i{i}" for i in range(n_items)], [[1.0, i] for i in range(n_items)])
    if n_dead:
        db[index].delete([f"i{i}" for i in range(n_dead)])


@pytest.mark.parametrize(("n_dead", "is_due"), [(0, False), (1, False), (2, False), (3, True), (10, True)])
def test_a_vacuum_is_due_by_the_share_of_real_rows(
    kept: Database, clock: Clock, bodies: Bodies, n_dead: int, is_due: bool
) -> None:
    bury(kept, 10, n_dead)
    clock.now += 299
    kept._upkeep.look()
    assert bodies.calls == []
    clock.now += 1
    kept._upkeep.look()
    assert bodies.calls == ([("vacuum", "a")] if is_due else [])


def test_a_vacuum_waits_for_its_interval_again_whatever_came_of_it(
    kept: Database, clock: Clock, bodies: Bodies, caplog: pytest.LogCaptureFixture
) -> None:
    bury(kept, 10, 5)
    bodies.error = MemoryError("none left")
    clock.now += 300
    with caplog.at_level(logging.WARNING, "kektordb"):
        kept._upkeep.look()
    assert "none left" in caplog.text
    task = kept.tasks[-1]
    assert (task.kind, task.index, task.automatic, task.status) == ("vacuum", "a", True, "failed")

    bodies.error = None
    clock.now += 299
    kept._upkeep.look()
    assert len(bodies.calls) == 1
    clock.now += 1
    kept._upkeep.look()
    assert len(bodies.calls) == 2
    assert kept.tasks[-1].result == {"n_removed": 1, "reclaimed_bytes": 2}
    assert list(kept.tasks) == [kept.tasks[-1]], "of what happens by itself the newest is kept"


def test_a_threshold_of_nothing_still_needs_something_to_remove(kept: Database, clock: Clock, bodies: Bodies) -> None:
    kept["a"].configure(delete_threshold=0)
    bury(kept, 10, 0)
    clock.now += 300
    kept._upkeep.look()
    assert bodies.calls == []
    bury(kept, 1, 1)
    kept._upkeep.look()
    assert bodies.calls == [("vacuum", "a")]


def test_an_interval_of_nothing_is_never(kept: Database, clock: Clock, bodies: Bodies) -> None:
    kept["a"].configure(vacuum_interval=0, refine_enabled=True, refine_interval="0s")
    bury(kept, 10, 5)
    clock.now += 10**9
    kept._upkeep.look()
    assert bodies.calls == []


def test_rows_on_their_way_in_are_not_taken_for_deleted_ones(kept: Database, clock: Clock, bodies: Bodies) -> None:
    """While a batch is applied its rows are in slots and not alive: the look waits for the writer, and looks again."""
    bury(kept, 10, 2)
    clock.now += 300
    collection = kept._state.collection("a")
    looked = threading.Event()
    is_wasteful = policies._is_wasteful

    def noted(looked_at: Any) -> bool:
        found = is_wasteful(looked_at)
        looked.set()
        return found

    with pytest.MonkeyPatch.context() as patch, kept._commits.lock.alone:
        patch.setattr(policies, "_is_wasteful", noted)
        collection.n_alive -= 2
        thread = threading.Thread(target=kept._upkeep.look)
        thread.start()
        assert looked.wait(20)
        collection.n_alive += 2
    thread.join()
    assert bodies.calls == []


def test_refine_happens_in_batches_when_it_is_wanted(kept: Database, clock: Clock, bodies: Bodies) -> None:
    bury(kept, 10, 0)
    clock.now += 3600
    kept._upkeep.look()
    assert bodies.calls == [], "not by default"
    kept["a"].configure(refine_enabled=True, refine_interval="30s", refine_batch_size=7)
    kept._upkeep.look()
    clock.now += 29
    kept._upkeep.look()
    assert bodies.calls == [("refine", "a", 7, None)]
    kept["a"].configure({"refine_ef_construction": 50})
    clock.now += 1
    kept._upkeep.look()
    assert bodies.calls == [("refine", "a", 7, None), ("refine", "a", 7, 50)]


def test_refine_rests_when_it_has_been_round_until_enough_has_changed(
    kept: Database, clock: Clock, bodies: Bodies
) -> None:
    def n_refines(n_looks: int) -> int:
        bodies.calls.clear()
        for _ in range(n_looks):
            clock.now += 30
            kept._upkeep.look()
        return len(bodies.calls)

    bury(kept, 100, 0)
    kept["a"].configure(refine_enabled=True, refine_interval="30s", refine_batch_size=40)
    bodies.result = {"n_refined": 40}
    assert n_refines(5) == 3
    n_changes = int(policies.REST * 100) - 1
    bury(kept, n_changes, 0)
    assert n_refines(5) == 0
    kept["a"].delete(["i99"])
    assert n_refines(5) == 3, "as many changes as it takes"
    assert n_refines(5) == 0, "they count once"
    kept["a"].configure(refine_ef_construction=50)
    assert n_refines(5) == 3, "with more care"
    assert n_refines(5) == 0


def test_what_changes_during_a_round_counts_for_the_next(kept: Database, clock: Clock, bodies: Bodies) -> None:
    bury(kept, 100, 0)
    kept["a"].configure(refine_enabled=True, refine_interval="30s", refine_batch_size=60)
    bodies.result = {"n_refined": 60}
    for _ in range(8):
        clock.now += 30
        kept._upkeep.look()
        if len(bodies.calls) == 1:
            bury(kept, 10, 0)
    assert len(bodies.calls) == 4


def test_each_index_has_its_own_time(kept: Database, clock: Clock, bodies: Bodies) -> None:
    bury(kept, 10, 5)
    clock.now += 200
    kept.create_index("b", maintenance={"vacuum_interval": "150s"})
    bury(kept, 10, 5, "b")
    kept._upkeep.look()
    clock.now += 100
    kept._upkeep.look()
    assert bodies.calls == [("vacuum", "a")]
    clock.now += 50
    kept._upkeep.look()
    assert bodies.calls == [("vacuum", "a"), ("vacuum", "b")]

    kept.drop_index("b")
    kept.create_index("b", maintenance={"vacuum_interval": "150s"})
    bury(kept, 10, 5, "b")
    clock.now += 140
    kept._upkeep.look()
    clock.now += 149
    kept._upkeep.look()
    assert bodies.calls[2:] == [("vacuum", "a")], "a new index of the name is new"


def test_what_leaves_work() -> None:
    from kektordb.operations import CreateIndex, DeleteItems, IndexConfig, PutItems, PutKey
    from kektordb.settings import MaintenanceConfig

    rows = np.ones((1, 1), np.float32)
    assert leaves_work(DeleteItems(1, ["a"]))
    assert leaves_work(PutItems(1, ["a"], rows, [b""], True))
    assert not leaves_work(PutItems(1, ["a"], rows, [b""], False))
    assert not leaves_work(CreateIndex(1, "a", IndexConfig()))
    assert leaves_work(CreateIndex(1, "a", IndexConfig(maintenance=MaintenanceConfig(refine_enabled=True))))
    assert not leaves_work(PutKey("k", b""))
    assert not leaves_work(None)


# --------------------------------------------------------------------------------------------------------- the thread


def test_the_thread_saves_and_ends_with_the_database(disk: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kektordb.upkeep.maintenance.TICK_S", 0.001)
    saved = threading.Event()
    save = Database.save

    def noted(self: Database, **options: Any) -> Any:
        report = save(self, **options)
        saved.set()
        return report

    monkeypatch.setattr(Database, "save", noted)
    db = Database.open("/db", backend=disk, sync="no", autosave="0 1")
    thread = db._upkeep._thread
    assert thread is not None
    db.create_index("a")
    assert saved.wait(20)
    db.close()
    assert not thread.is_alive()


def test_a_read_only_database_is_not_looked_after(disk: MemoryBackend) -> None:
    Database.open("/db", backend=disk).close()
    with Database.open("/db", backend=disk, read_only=True) as db:
        assert not db._upkeep.started
        assert db._upkeep._policies == []


def test_a_database_in_memory_has_a_thread_when_there_may_be_work() -> None:
    with Database.open(":memory:") as db:
        index = db.create_index("a")
        index.add("x", [1.0])
        db.kv["k"] = b""
        assert not db._upkeep.started
        index.delete("x")
        assert db._upkeep.started
    with Database.open(":memory:") as db:
        db.create_index("a", maintenance={"refine_enabled": True})
        assert db._upkeep.started


def test_a_forgotten_database_is_not_held_by_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kektordb.upkeep.maintenance.TICK_S", 0.001)
    db = Database.open(":memory:")
    db.create_index("a", maintenance={"refine_enabled": True})
    thread = db._upkeep._thread
    assert thread is not None
    del db
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()


def test_a_policy_that_fails_does_not_end_the_others(
    kept: Database, clock: Clock, bodies: Bodies, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def tick(self, database: Database, now: float) -> None:
            raise RuntimeError("a bug")

    kept._upkeep._policies.insert(0, Broken())
    bury(kept, 10, 5)
    clock.now += 300
    with caplog.at_level(logging.WARNING, "kektordb"):
        kept._upkeep.look()
    assert "Broken failed" in caplog.text
    assert bodies.calls == [("vacuum", "a")]


# -------------------------------------------------------------------------------------------------------------- pause


def test_nothing_happens_by_itself_in_a_pause(kept: Database, clock: Clock, bodies: Bodies) -> None:
    bury(kept, 10, 5)
    with kept.maintenance.pause():
        assert kept.maintenance.paused
        with kept.maintenance.pause():
            clock.now += 300
            kept._upkeep.look()
        kept._upkeep.look()
        assert bodies.calls == []
        assert kept["a"].vacuum().wait(20) == {"n_removed": 1, "reclaimed_bytes": 2}, "what is asked for is done"
    assert not kept.maintenance.paused
    kept.maintenance.resume()
    kept._upkeep.look()
    assert bodies.calls == [("vacuum", "a"), ("vacuum", "a")]
    kept.maintenance.pause()
    kept.maintenance.resume()
    assert not kept.maintenance.paused


def test_a_pause_cancels_what_began_by_itself_and_waits_for_its_end(
    kept: Database, clock: Clock, bodies: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def endless(database: Database, name: str, control: Control) -> dict[str, Any]:
        begun.set()
        while True:
            control.check()

    monkeypatch.setattr(sys.modules["kektordb.upkeep.vacuum"], "vacuum", endless)
    bury(kept, 10, 5)
    clock.now += 300
    looking = threading.Thread(target=kept._upkeep.look)
    looking.start()
    assert begun.wait(20)
    kept.maintenance.pause()
    assert kept.tasks[-1].status == "cancelled"
    assert kept.tasks[-1].error == "cancelled: maintenance was paused"
    looking.join()


def test_a_pause_that_would_wait_for_its_caller_is_refused(db: Database) -> None:
    with db.batch(), pytest.raises(ConfigError, match=r"outside of db.batch"):
        db.maintenance.pause()
    refused = []

    def progress(done: int, total: int) -> None:
        try:
            db.maintenance.pause()
        except ConfigError as error:
            refused.append(error)

    db.save(progress=progress)
    assert refused
    assert not db.maintenance.paused
    assert "active" in repr(db.maintenance)
