"""A snapshot is written when it is due, by a clock that the test turns; a failure waits and loses nothing."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from faults import Fault, MemoryBackend

from kektordb import maintenance
from kektordb.database import Database
from kektordb.errors import ConfigError, StorageFull
from kektordb.maintenance import MAX_REPLAY_S, MIN_LOG_BYTES, RETRY_S, Autosave, SavePolicies, parse_policies


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def disk() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def db(disk: MemoryBackend) -> Iterator[Database]:
    with Database.open("/db", backend=disk, sync="no", autosave="") as database:
        database.create_index("a")
        database.save()
        yield database


def watch(db: Database, clock: Clock, pairs: Any, percentage: int = 100) -> Autosave:
    """Look after a database by hand; its own thread has nothing to do."""
    autosave = Autosave(parse_policies(pairs, percentage), clock)
    assert db._autosave is not None
    db._autosave.stop()
    db._autosave = autosave
    return autosave


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
    policies = parse_policies(["60 1000", "900 1"], 100)
    assert policies.is_due(age_s, n_changes, 0, 0, 0.0) is is_due


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
    policies = parse_policies("", percentage)
    assert policies.is_due(0, 1, log_bytes, snapshot_bytes, 0.0) is is_due
    assert not policies.is_due(0, 0, log_bytes, snapshot_bytes, 0.0)


def test_a_log_is_due_by_the_time_of_its_replay() -> None:
    policies = parse_policies("", 100)
    assert not policies.is_due(0, 1, 0, 0, MAX_REPLAY_S)
    assert policies.is_due(0, 1, 0, 0, MAX_REPLAY_S + 0.1)
    assert not parse_policies("", 0).is_due(0, 1, 0, 0, MAX_REPLAY_S + 0.1)


# ------------------------------------------------------------------------------------------------------------- ticks


def test_a_tick_saves_when_it_is_time(db: Database, clock: Clock) -> None:
    autosave = watch(db, clock, "60 5")
    generation = db.stats()["generation"]

    write(db, 5)
    assert not autosave.tick(db)
    clock.now += 59
    assert not autosave.tick(db)
    clock.now += 1
    assert autosave.tick(db)
    assert db.stats()["generation"] == generation + 1
    assert db.stats()["n_changes_since_save"] == 0

    clock.now += 1000
    assert not autosave.tick(db)
    write(db, 4)
    assert not autosave.tick(db)
    write(db, 1)
    assert autosave.tick(db)
    write(db, 5)
    assert not autosave.tick(db), "the time counts from the last save"


def test_all_kinds_of_writes_count(db: Database, clock: Clock) -> None:
    autosave = watch(db, clock, "0 7")
    db["a"].add_batch(["x", "y"], [[1.0, 2.0], [3.0, 4.0]])
    db["a"].delete("x")
    db["a"].update_metadata("y", {"n": 1})
    db.kv["k"] = b""
    db.create_index("b")
    assert db.stats()["n_changes_since_save"] == 6
    assert not autosave.tick(db)
    with db.batch():
        db.kv["l"] = b""
    assert autosave.tick(db)


def test_a_save_by_hand_counts(db: Database, clock: Clock) -> None:
    autosave = watch(db, clock, "60 1")
    write(db, 1)
    clock.now += 59
    db.save()
    write(db, 1)
    clock.now += 30
    assert not autosave.tick(db)
    clock.now += 30
    assert autosave.tick(db)


def test_a_failing_save_waits_before_the_next_try(
    db: Database, disk: MemoryBackend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    autosave = watch(db, clock, "60 1")
    write(db, 3)
    clock.now += 60
    disk.capacity = sum(len(node.data) for node in disk.files.values())

    with caplog.at_level(logging.WARNING, "kektordb"):
        assert not autosave.tick(db)
    assert "nothing is lost" in caplog.text
    n_steps = len(disk.history)
    clock.now += RETRY_S - 1
    assert not autosave.tick(db)
    assert len(disk.history) == n_steps, "it does not try"
    assert db["a"].ids() == ["i0", "i1", "i2"]
    with pytest.raises(StorageFull):
        write(db, 1)

    disk.capacity = None
    write(db, 1)
    clock.now += 1
    assert autosave.tick(db)
    assert db.stats()["log_bytes"] == 64


@pytest.mark.parametrize("error", [MemoryError("none left"), RuntimeError("a bug")])
def test_no_error_ends_the_looking_after(
    db: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    autosave = watch(db, clock, "60 1")
    write(db, 1)
    clock.now += 60

    def fail() -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(db, "save", fail)
        assert not autosave.tick(db)
    assert str(error) in caplog.text
    clock.now += RETRY_S
    assert autosave.tick(db)


def test_a_failed_disk_is_not_beaten(db: Database, disk: MemoryBackend, clock: Clock) -> None:
    autosave = watch(db, clock, "60 1")
    write(db, 1)
    disk.fault = Fault(0, errno.EIO, calls=frozenset({"sync"}))
    for _ in range(10):
        clock.now += 60
        assert not autosave.tick(db)
    assert disk.fault.count == 1
    assert db["a"].ids() == ["i0"]
    disk.fault = None


def test_the_size_of_the_log_and_of_the_snapshot_are_looked_at(
    db: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MIN_LOG_BYTES", 1000)
    autosave = watch(db, clock, "")
    write(db, 5)
    assert not autosave.tick(db)
    write(db, 20)
    assert db.stats()["log_bytes"] > 1000
    assert autosave.tick(db)
    never = watch(db, clock, "", 0)
    write(db, 50)
    assert not never.tick(db)


def test_the_time_of_replay_is_remembered_over_an_open(disk: MemoryBackend, clock: Clock) -> None:
    """A log that took six seconds to read would take six seconds again."""
    with Database.open("/db", backend=disk, autosave="") as db:
        db.create_index("a")
        write(db, 2)
    with Database.open("/db", backend=disk, autosave="") as db:
        assert db._commits.apply_s > 0
        autosave = watch(db, clock, "")
        db._commits.apply_s += MAX_REPLAY_S
        write(db, 1)
        assert autosave.tick(db)
        assert db._commits.apply_s < 1


def test_a_thread_of_its_own_saves_and_ends_with_the_database(
    disk: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    monkeypatch.setattr(maintenance, "TICK_S", 0.001)
    saved = threading.Event()
    save = Database.save

    def noted(self: Database, **options: Any) -> Any:
        report = save(self, **options)
        saved.set()
        return report

    monkeypatch.setattr(Database, "save", noted)
    db = Database.open("/db", backend=disk, sync="no", autosave="0 1")
    thread = next(t for t in threading.enumerate() if t.name == "kektordb-autosave")
    db.create_index("a")
    assert saved.wait(20)
    db.close()
    assert not thread.is_alive()


def test_a_read_only_database_is_not_looked_after(disk: MemoryBackend) -> None:
    Database.open("/db", backend=disk).close()
    with Database.open("/db", backend=disk, read_only=True) as db:
        assert db._autosave is None
