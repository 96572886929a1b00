"""A reader beside a writer: what it sees is always what the writer had at some moment, and it comes to see the rest."""

from __future__ import annotations

import errno
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from faults import Fault, MemoryBackend
from partner import Model, running
from states import contents
from steps import prepare, step
from stored import write_backup
from watched import Watched
from writer import vec

import kektordb
from kektordb.database import Database
from kektordb.errors import CorruptLog, StorageFailed
from kektordb.storage.log import LogReader, look_onward
from kektordb.tasks import Control
from kektordb.upkeep.vacuum import vacuum

pytestmark = pytest.mark.usefixtures("small_and_still")


def opened(disk: Any, **options: Any) -> Database:
    return Database.open("/db", backend=disk, sync=options.pop("sync", "no"), autosave="", n_threads=1, **options)


def reader_of(disk: Any) -> Database:
    return opened(disk, read_only=True)


def written() -> tuple[MemoryBackend, Database]:
    disk = MemoryBackend()
    db = opened(disk)
    prepare(db)
    return disk, db


def test_a_refresh_shows_what_was_written_since() -> None:
    disk, db = written()
    reader = reader_of(disk)
    for n in range(40):
        step(db, n)
        if n % 3 == 0:
            before = reader.stats()["last_seq"]
            assert reader.refresh() == db.stats()["last_seq"] - before
            assert contents(reader) == contents(db)
            assert reader.refresh() == 0


def test_a_refresh_reads_on_through_one_save_and_loads_anew_after_two() -> None:
    disk, db = written()
    reader = reader_of(disk)
    state = reader._state
    db["a"].add("one", vec(1))
    db.save()
    db["a"].add("two", vec(2))

    assert reader.refresh() == 2
    assert reader._state is state
    assert contents(reader) == contents(db)

    for n in range(2):
        db["a"].add(f"three{n}", vec(3))
        db.save()
    index = reader["a"]
    assert reader.refresh() == 2
    assert reader._state is not state
    assert contents(reader) == contents(db)
    assert index.ids() == db["a"].ids(), "a handle from before sees the new state"
    assert reader.refresh() == 0


def test_a_refresh_costs_few_calls_when_nothing_is_new() -> None:
    disk, _ = written()
    reader = reader_of(disk)
    calls: list[str] = []
    reader._store._directory.backend = Watched(disk, lambda call, path: calls.append(call))  # type: ignore[union-attr]
    assert reader.refresh() == 0
    assert calls.count("open") == 1, "the manifest"
    assert len(calls) < 8


def test_a_vacuum_and_a_conversion_of_the_writer_are_no_news_and_news() -> None:
    disk, db = written()
    reader = reader_of(disk)
    db["a"].add_batch([f"x{n}" for n in range(20)], [vec(n) for n in range(20)])
    db["a"].delete([f"x{n}" for n in range(10)])
    reader.refresh()
    vacuum(db, "a", Control())
    assert reader.refresh() == 0
    step(db, 13)  # a conversion
    assert reader.refresh() == 1
    assert reader["a"].config.precision == db["a"].config.precision
    assert contents(reader) == contents(db)
    db.save()
    db["a"].add("y", vec(3))
    db.save()
    assert reader.refresh() == 1
    assert contents(reader) == contents(db)


def test_a_record_on_its_way_is_no_damage_and_seen_when_it_is_whole() -> None:
    disk, db = written()
    db["a"].add("one", vec(1))
    path = next(name for name in disk.files if name.endswith(".aof"))
    node = disk.files[path]
    reader = reader_of(disk)
    n_before = len(node.data)
    with db.batch():
        for n in range(30):  # several records that continue each other
            db["a"].add(f"more{n}", vec(n))
    whole = bytes(node.data)
    for end in range(n_before, len(whole)):
        node.data[:] = whole[:end]
        assert reader.refresh() == 0
        assert reader["a"].ids() == ["one"]
    node.data[:] = whole
    assert reader.refresh() > 1
    assert contents(reader) == contents(db)


def test_what_a_writer_appends_while_a_reader_looks_makes_no_damage_of_what_was_on_its_way() -> None:
    disk = MemoryBackend()
    db = opened(disk, sync="always")
    prepare(db)
    path = "/db/log-000001.aof"
    n_before = len(disk.files[path].data)
    for n in range(3):
        db["a"].add(f"x{n}", vec(n))
    file = disk.open(path, "read")
    node = disk.files[path]
    whole = bytes(node.data)
    node.data[:] = whole[: n_before + 40]  # the first of the three, in part
    assert db._store is not None
    reader = LogReader(file, db._store._require_directory().manifest.uuid, 1, 0, None)
    n_read = len(list(reader.records()))
    node.data[:] = whole  # and then all of them

    assert n_read == 1
    assert look_onward(reader, file).durable == 0


def test_a_damaged_record_that_was_durable_is_named_and_what_was_seen_stays() -> None:
    disk, db = written()
    reader = reader_of(disk)
    db["a"].add("one", vec(1))
    reader.refresh()
    node = disk.files["/db/log-000001.aof"]
    at = len(node.data)
    for name in ("two", "three", "four"):
        db["a"].add(name, vec(2))
        db.sync()
    node.data[at + 50] ^= 1

    for _ in range(2):
        with pytest.raises(CorruptLog) as caught:
            reader.refresh()
        assert (caught.value.path, caught.value.offset) == ("/db/log-000001.aof", at)
    assert reader["a"].ids() == ["one"]
    node.data[at + 50] ^= 1
    assert reader.refresh() == 3
    assert contents(reader) == contents(db)


def test_a_reader_follows_a_writer_that_had_to_go_back() -> None:
    """Under ``always`` a write that could not be made durable is cut off again, though a reader may have seen it."""
    disk = MemoryBackend()
    db = opened(disk, sync="always")
    prepare(db)
    db["a"].add("one", vec(1))
    reader = reader_of(disk)
    seen: list[int] = []

    class Peeking(Fault):
        def strikes(self, call: str) -> bool:
            if call == "sync":
                seen.append(reader.refresh())
            return super().strikes(call)

    disk.fault = Peeking(0, errno.EIO, calls=frozenset({"sync"}))
    with pytest.raises(StorageFailed):
        db["a"].add("two", vec(2))
    disk.fault = None
    assert seen == [1]
    db.close()
    db = opened(disk, sync="always")
    assert reader.refresh() == -1
    assert contents(reader) == contents(db)
    db["a"].add("other", vec(2))
    assert reader.refresh() == 1
    assert contents(reader) == contents(db)


def test_a_reader_follows_a_writer_that_gave_up_what_was_damaged() -> None:
    disk, db = written()
    for name in ("one", "two", "three"):
        db["a"].add(name, vec(1))
        db.sync()
    reader = reader_of(disk)
    db.close()
    node = disk.files["/db/log-000001.aof"]
    at = node.data.rindex(b"two")
    node.data[at] ^= 1
    db = opened(disk, recover="prefix")
    assert db["a"].ids() == ["one"]
    db["a"].add("other", vec(2))

    assert reader.refresh() == -1
    assert contents(reader) == contents(db)
    db["a"].add("another", vec(3))
    assert reader.refresh() == 1
    assert contents(reader) == contents(db)


def test_another_database_in_its_place_is_loaded_instead() -> None:
    disk, db = written()
    db["a"].add("one", vec(1))
    reader = reader_of(disk)
    db.close()
    for path in [path for path in disk.files if path.startswith("/db/")]:
        del disk.files[path]
    disk.locked.clear()
    db = opened(disk)
    db.create_index("b")
    reader.refresh()
    assert list(reader) == ["b"]


def test_what_cannot_grow_is_refreshed_for_nothing() -> None:
    with kektordb.open(":memory:") as db:
        assert db.refresh() == 0
    disk, db = written()
    assert db.refresh() == 0
    frozen = db._state.freeze(whole=True)
    assert db._store is not None
    write_backup(db._store, "/backup.kdb", frozen.meta, frozen.sections)
    backup = Database.open("/backup.kdb", backend=disk, read_only=True)
    assert backup.refresh() == 0
    backup.close()
    with pytest.raises(kektordb.DatabaseClosed):
        backup.refresh()


def test_a_failed_refresh_is_made_good_by_the_next() -> None:
    disk, db = written()
    reader = reader_of(disk)
    before = contents(reader)
    for n in range(3):
        step(db, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader._state, "replay", lambda operations: fail(next(operations)))
        with pytest.raises(MemoryError):
            reader.refresh()
    assert contents(reader) == before
    reader.refresh()
    assert contents(reader) == contents(db)


def fail(*_: object) -> None:
    raise MemoryError


# -------------------------------------------------------------------------------------------------------- between calls


class Writer:
    """A writer that remembers each of its states."""

    def __init__(self) -> None:
        self.disk = MemoryBackend()
        self.db = opened(self.disk)
        prepare(self.db)
        self.states = [contents(self.db)]

    def step(self, n: int) -> None:
        step(self.db, n)
        self.states.append(contents(self.db))

    def add(self, n: int) -> None:
        self.db["a"].add(f"between{n}", vec(n), {"n": n})
        self.states.append(contents(self.db))

    def save(self, n: int) -> None:
        self.add(n)
        self.db.save()
        self.add(n + 1)

    def save_twice(self, n: int) -> None:
        self.save(n)
        self.save(n + 2)

    def reopen(self, n: int) -> None:
        self.db.close()
        self.db = opened(self.disk)
        self.save(n)


@pytest.mark.parametrize("often", [False, True], ids=["once", "often"])
@pytest.mark.parametrize("what", ["open", "refresh", "reload"])
@pytest.mark.parametrize("act", ["add", "save", "save_twice", "reopen"])
def test_a_writer_may_do_anything_between_two_calls_of_a_reader(act: str, what: str, often: bool) -> None:
    for at in range(0, 200, 7 if often else 1):
        writer = Writer()
        for n in range(6):
            writer.step(n)
        calls = 0
        is_acting = False

        def tell(call: str, path: str, at: int = at, writer: Writer = writer) -> None:
            nonlocal calls, is_acting
            if is_acting and (calls == at or (often and at < calls < at + 8)):
                is_acting = False
                getattr(writer, act)(1000 + 10 * calls)
                is_acting = True
            calls += is_acting

        watched = Watched(writer.disk, tell)
        is_acting = what == "open"
        reader = reader_of(watched)
        for n in range(100, {"open": 100, "refresh": 110, "reload": 130}[what], 10):
            writer.save(n)
        is_acting = True
        if what != "open":
            reader.refresh()
        is_acting = False
        assert contents(reader) in writer.states, at
        n_calls = calls
        reader.refresh()
        assert contents(reader) == contents(writer.db), at
        if n_calls <= at:
            assert at > 5
            return
    raise AssertionError("there were more calls than expected")


# --------------------------------------------------------------------------------------------------- two real processes


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")
def test_a_reader_beside_a_real_writer_that_is_killed(tmp_path: Path) -> None:
    rng = random.Random(5)
    path = tmp_path / "db"
    model = Model()
    reader: Database | None = None
    done = asked = 0
    for _ in range(2):
        with running("lead", path, done) as writer:
            reader = reader or Database.open(path, read_only=True)
            for _ in range(rng.randrange(10, 30)):
                n = rng.randrange(1, 8)
                writer.ask(n)
                asked += n
                said = writer.wait(rng.randrange(n + 1))
                reader.refresh()
                assert model.place(contents(reader), max(done, said + 1), asked) is not None
            said = writer.kill()
        reader.refresh()
        place = model.place(contents(reader), said + 1, asked)
        assert place is not None
        done = asked = place
    assert reader is not None
    reader.close()
