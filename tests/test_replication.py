"""A database that follows another one: a prefix of it at any moment, whoever is killed, and never a mixture of two."""

from __future__ import annotations

import errno
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faults import Fault, MemoryBackend, crash_states
from partner import Model, running
from states import contents
from steps import prepare, step
from watched import Watched
from writer import vec

import kektordb
from kektordb.database import Database
from kektordb.errors import (
    ConfigError,
    CorruptData,
    DatabaseLocked,
    HistoryDiverged,
    KektorError,
    ReadOnlyDatabase,
    SnapshotNeeded,
    StorageError,
    StorageFull,
)
from kektordb.replicas.following import Source, apply, position_of
from kektordb.replication import Feed, Position, promote
from kektordb.storage.shipping import Chunk, decode_message, encode_message
from kektordb.tasks import Control
from kektordb.upkeep.vacuum import vacuum

pytestmark = pytest.mark.usefixtures("small_and_still")


class Leader:
    """A database that others follow, every state of which is remembered."""

    def __init__(self, disk: MemoryBackend | None = None) -> None:
        self.disk = disk or MemoryBackend()
        self.db = opened(self.disk, "/leader")
        prepare(self.db)
        self.n = 0
        self.states = ["", contents(self.db)]

    def steps(self, n: int) -> None:
        for _ in range(n):
            step(self.db, self.n)
            self.n += 1
            self.states.append(contents(self.db))

    def save(self, times: int = 1) -> None:
        """Save so that a follower who was not there has to take a snapshot."""
        for _ in range(times):
            self.steps(1)
            self.db.save()

    def feed(self, **options: Any) -> Feed:
        return Feed("/leader", **{"backend": self.disk, **options})


def opened(disk: Any, path: str, **options: Any) -> Database:
    return Database.open(path, backend=disk, sync=options.pop("sync", "no"), autosave="", n_threads=1, **options)


def follower_of(source: Source, disk: Any = None, **options: Any) -> Database:
    return opened(disk or MemoryBackend(), "/follower", follow=source, follow_interval=0, **options)


def place(db: Database) -> Any:
    assert db._store is not None
    return db._store.place


# ------------------------------------------------------------------------------------------------------------ following


def test_a_follower_has_what_its_leader_has_under_the_same_numbers() -> None:
    leader = Leader()
    follower = follower_of(leader.feed())
    for n in range(12):
        before = place(leader.db).seq
        leader.steps(n % 4)
        assert follower.refresh() == place(leader.db).seq - before
        assert contents(follower) == leader.states[-1]
        assert place(follower) == place(leader.db)
    assert follower.read_only
    assert follower.stats()["following"]["behind_bytes"] == 0


def test_a_follower_that_comes_late_takes_a_snapshot_and_so_does_one_that_was_away() -> None:
    leader, disk = Leader(), MemoryBackend()
    leader.steps(5)
    leader.save(2)
    leader.steps(2)
    follower = follower_of(leader.feed(), disk)
    index = follower["a"]
    assert contents(follower) == leader.states[-1]
    assert place(follower) == place(leader.db)
    leader.save(3)
    leader.steps(1)
    assert follower.refresh() > 0
    assert contents(follower) == leader.states[-1]
    assert index.ids() == leader.db["a"].ids()
    assert not [name for name in disk.files if "tmp-" in name]
    follower.close()
    follower = follower_of(leader.feed(), disk)
    assert contents(follower) == leader.states[-1], "it has all in its own directory"
    assert follower.refresh() == 0


def test_a_follower_goes_on_where_it_was_after_it_was_closed() -> None:
    leader, disk = Leader(), MemoryBackend()
    for _ in range(4):
        follower = follower_of(leader.feed(), disk)
        found = contents(follower)
        assert found in leader.states
        leader.steps(7)
        follower.refresh()
        assert contents(follower) == leader.states[-1]
        leader.steps(3)
        follower.close()


def test_a_follower_is_a_prefix_after_each_chunk() -> None:
    leader = Leader()
    follower = follower_of(leader.feed())
    leader.steps(9)  # no save among them
    source = leader.feed()
    seen = []
    while True:
        message = source.read(str(position(follower)), 1)
        chunk = decode_message(message, Chunk)
        if not chunk.records:
            assert chunk.behind_bytes == 0
            break
        apply(follower, chunk)
        seen.append(contents(follower))
        assert seen[-1] in leader.states
        assert (chunk.behind_bytes == 0) == (seen[-1] == leader.states[-1])
    assert len(seen) > 5
    assert seen[-1] == leader.states[-1]


def position(db: Database) -> Position:
    return position_of(db)


def test_a_follower_serves_reads_keeps_itself_small_and_refuses_writes() -> None:
    leader, disk = Leader(), MemoryBackend()
    leader.steps(25)
    follower = follower_of(leader.feed(), disk)
    a = follower["a"]
    ids = a.ids()
    refused: list[Callable[[], object]] = [
        lambda: a.add("x", vec(1)),
        lambda: a.delete(ids[0]),
        lambda: a.update_metadata(ids[0], {}),
        lambda: a.configure(delete_threshold=0.5),
        lambda: a.compress("int8"),
        lambda: follower.kv.update(x=b"y"),
        lambda: follower.create_index("b"),
        lambda: follower.drop_index("a"),
        lambda: follower.batch().__enter__(),
    ]
    for call in refused:
        with pytest.raises(ReadOnlyDatabase, match="follows"):
            call()
    before = place(follower)
    assert a.search(vec(1), k=3).ids
    assert a.stats()["n_tombstones"] > 0
    vacuum(follower, "a", Control())
    assert a.stats()["n_tombstones"] == 0
    assert follower.save() is not None
    follower.sync()
    assert place(follower) == before, "its own care is no record"
    leader.steps(10)
    follower.refresh()
    assert contents(follower) == leader.states[-1]
    follower.close()
    assert contents(follower_of(leader.feed(), disk)) == leader.states[-1]


def test_a_follower_may_be_followed() -> None:
    leader, disk = Leader(), MemoryBackend()
    leader.save(2)
    first = follower_of(leader.feed(), disk)
    second = follower_of(Feed("/follower", backend=disk))
    leader.steps(9)
    first.refresh()
    second.refresh()
    assert contents(second) == leader.states[-1]
    assert place(second) == place(leader.db)
    second = follower_of(leader.feed())
    assert place(second) == place(leader.db)


# ------------------------------------------------------------------------------------------------------------ promoting


def test_a_promoted_follower_is_written_to_and_takes_nothing_from_its_former_leader() -> None:
    leader, disk = Leader(), MemoryBackend()
    leader.steps(8)
    follower = follower_of(leader.feed(), disk)
    follower.promote()
    assert not follower.read_only
    follower["a"].add("mine", vec(1))
    leader.steps(3)
    assert follower.refresh() == 0
    found = contents(follower)
    assert "mine" in found
    follower.close()
    with pytest.raises(ConfigError, match="in its own right"):
        follower_of(leader.feed(), disk)
    again = opened(disk, "/follower")
    assert contents(again) == found
    with pytest.raises(ConfigError):
        again.promote()


def test_who_followed_the_former_leader_goes_over_unless_it_has_more() -> None:
    leader, disk = Leader(), MemoryBackend()
    leader.steps(8)
    behind_disk, ahead_disk = MemoryBackend(), MemoryBackend()
    behind = follower_of(leader.feed(), behind_disk)
    leader.steps(2)
    heir = follower_of(leader.feed(), disk)
    ahead = follower_of(leader.feed(), ahead_disk)
    leader.steps(1)
    ahead.refresh()
    before = contents(ahead)
    heir.promote()
    heir["a"].add("new", vec(1))
    for db in (behind, ahead):
        db.close()
    of_heir = Feed("/follower", backend=disk)

    behind = follower_of(of_heir, behind_disk)
    behind.refresh()
    assert contents(behind) == contents(heir)
    ahead = follower_of(of_heir, ahead_disk)
    with pytest.raises(HistoryDiverged, match="went its own way"):
        ahead.refresh()
    assert contents(ahead) == before, "it serves what it has"
    behind.close()
    behind = follower_of(leader.feed(), behind_disk)
    with pytest.raises(HistoryDiverged, match="never was"):
        behind.refresh()
    assert contents(behind) == contents(heir)
    heir.save()
    heir["a"].add("newer", vec(1))
    heir.save()
    with pytest.raises(HistoryDiverged):
        ahead.refresh()
    heir_of_heir = follower_of(of_heir)
    heir_of_heir.promote()
    assert len(heir_of_heir._store.lineage.branches) == 2  # type: ignore[union-attr]


def test_a_promotion_that_finds_no_room_leaves_a_follower() -> None:
    leader, disk = Leader(), MemoryBackend()
    leader.steps(5)
    follower = follower_of(leader.feed(), disk)
    disk.capacity = 0
    with pytest.raises(StorageFull):
        follower.promote()
    disk.capacity = None
    assert follower.read_only
    leader.steps(3)
    follower.refresh()
    assert contents(follower) == leader.states[-1]
    follower.promote()
    assert not follower.read_only


def test_a_follower_is_promoted_without_its_leader(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "leader") as db:
        db.kv["a"] = b"1"
        kektordb.open(tmp_path / "follower", follow=tmp_path / "leader").close()
    for file in (tmp_path / "leader").iterdir():
        file.unlink()
    with pytest.raises(ReadOnlyDatabase):
        kektordb.open(tmp_path / "follower")
    with kektordb.open(tmp_path / "follower", read_only=True) as db:
        assert db.kv["a"] == b"1"
    with kektordb.open(tmp_path / "follower", follow=tmp_path / "leader", follow_interval=0) as db:
        assert db.kv["a"] == b"1"
        with pytest.raises(DatabaseLocked):
            promote(tmp_path / "follower")
        with pytest.raises(StorageError):
            db.refresh()

    promote(tmp_path / "follower")

    with kektordb.open(tmp_path / "follower") as db:
        db.kv["a"] = b"2"
    with pytest.raises(ConfigError):
        promote(tmp_path / "follower")


# ----------------------------------------------------------------------------------------------- what must not be mixed


def test_the_records_of_another_database_are_refused() -> None:
    leader, other, disk = Leader(), Leader(), MemoryBackend()
    leader.steps(5)
    follower_of(leader.feed(), disk).close()
    other.steps(5)
    for times in (0, 3):
        other.save(times)
        follower = follower_of(other.feed(), disk)
        with pytest.raises(HistoryDiverged, match="never was"):
            follower.refresh()
        assert contents(follower) == leader.states[-1]
        follower.close()


def test_a_leader_that_went_backwards_is_refused() -> None:
    leader, disk = Leader(), MemoryBackend()
    leader.steps(5)
    old = leader.disk.copy()
    leader.steps(5)
    follower_of(leader.feed(), disk).close()
    back = Leader.__new__(Leader)
    back.disk, back.db, back.n, back.states = old, opened(old, "/leader"), 1000, []
    for n in (0, 8):  # behind the follower, and then with as many records, but others
        back.steps(n)
        follower = follower_of(back.feed(), disk)
        with pytest.raises(HistoryDiverged):
            follower.refresh()
        assert contents(follower) == leader.states[-1]
        follower.close()


def test_what_is_no_follower_does_not_become_one(tmp_path: Path) -> None:
    leader, disk = Leader(), MemoryBackend()
    db = opened(disk, "/follower")
    db.kv["a"] = b"1"
    db.close()
    with pytest.raises(ConfigError, match="in its own right"):
        follower_of(leader.feed(), disk)
    with pytest.raises(ConfigError):
        kektordb.open(tmp_path / "a", follow=tmp_path / "b" / ".." / "a")
    with pytest.raises(ConfigError):
        kektordb.open(":memory:", follow=tmp_path / "a")
    with pytest.raises(ConfigError):
        kektordb.open(tmp_path / "a", follow=tmp_path / "b", read_only=True)
    for bad in (-1, float("nan"), "1", True):
        with pytest.raises(ConfigError):
            kektordb.open(tmp_path / "a", follow=tmp_path / "b", follow_interval=bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        kektordb.open(tmp_path / "a", follow=3)  # type: ignore[arg-type]
    with pytest.raises(StorageError):
        kektordb.open(tmp_path / "a", follow=tmp_path / "b")
    with kektordb.open(tmp_path / "b") as db:
        db.kv["x"] = b"y"
        with kektordb.open(tmp_path / "a", follow=tmp_path / "b") as follower:
            assert follower.kv["x"] == b"y", "the first try left nothing in the way"


class Between:
    """A source between a follower and its leader, which does something to what passes."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.message: Callable[[bytes], bytes] = lambda data: data
        self.stream: Callable[[bytes], bytes] = lambda data: data

    def read(self, position: str, max_bytes: int, timeout: float) -> bytes:
        return self.message(self.source.read(position, max_bytes, timeout))

    def snapshot(self, write: Callable[[bytes], object]) -> None:
        parts: list[bytes] = []
        self.source.snapshot(parts.append)
        data = self.stream(b"".join(parts))
        for start in range(0, len(data), 7):
            write(data[start : start + 7])


def test_a_message_that_was_changed_on_its_way_is_refused() -> None:
    leader = Leader()
    between = Between(leader.feed())
    follower = follower_of(between)
    before = contents(follower)
    leader.steps(2)
    whole = between.read(str(position(follower)), 1 << 20, 0)
    for at in range(len(whole)):
        for changed in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            between.message = lambda _, changed=changed: changed  # type: ignore[misc]
            with pytest.raises(CorruptData):
                follower.refresh()
    assert contents(follower) == before
    chunk = decode_message(whole, Chunk)
    for bad in (chunk.records[1:], chunk.records[:-1], chunk.records[::-1]):
        changed = encode_message(Chunk(chunk.history, (), bad, chunk.seq, chunk.digest, 0))
        between.message = lambda _, changed=changed: changed  # type: ignore[misc]
        with pytest.raises(HistoryDiverged):
            follower.refresh()
    between.message = lambda data: data
    follower.refresh()
    assert contents(follower) == leader.states[-1]


def test_a_snapshot_that_was_changed_or_cut_on_its_way_is_refused() -> None:
    leader, disk = Leader(), MemoryBackend()
    between = Between(leader.feed())
    leader.steps(3)
    follower = follower_of(between, disk)
    before, files = contents(follower), sorted(disk.files)
    leader.steps(10)
    leader.save(2)
    sizes: list[int] = []
    between.stream = lambda data: (sizes.append(len(data)), data[:-1])[1]
    with pytest.raises(KektorError):
        follower.refresh()
    rng = random.Random(3)
    for at in [*range(8), *(rng.randrange(sizes[0]) for _ in range(150))]:
        for cut in (False, True):

            def changed(data: bytes, at: int = at, cut: bool = cut) -> bytes:
                return data[:at] if cut else data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]

            between.stream = changed
            try:
                follower.refresh()
            except KektorError:
                assert contents(follower) == before
                assert sorted(disk.files) == files
            else:
                raise AssertionError(f"byte {at} of {sizes[0]}, cut {cut}")
    between.stream = lambda data: data
    follower.refresh()
    assert contents(follower) == leader.states[-1]


# ------------------------------------------------------------------------------------------------------------- the feed


def test_a_feed_says_what_it_has_and_what_it_has_not() -> None:
    leader = Leader()
    leader.steps(6)
    feed = leader.feed()
    start = decode_message(feed.read(":0:0000000000000000"), Chunk)
    assert start.seq == place(leader.db).seq
    assert start.digest == place(leader.db).digest
    history = start.history
    assert str(Position.parse(str(Position(history, 3, 5)))) == str(Position(history, 3, 5))
    with pytest.raises(HistoryDiverged):
        feed.read(str(Position(history, 3, 5)))
    with pytest.raises(HistoryDiverged):
        feed.read(str(Position(history, start.seq + 1, 5)))
    with pytest.raises(HistoryDiverged):
        leader.feed().read(str(Position(bytes(16), start.seq, start.digest)))
    for bad in ("", "a:b:c", "1:2", ":-1:0000000000000000", f"{history.hex()}:1:1", "zz:1:0000000000000001"):
        with pytest.raises(ConfigError):
            feed.read(bad)
    leader.save()
    leader.steps(1)
    with pytest.raises(SnapshotNeeded):
        feed.read(":0:0000000000000000")
    with pytest.raises(StorageError):
        Feed("/nowhere", backend=leader.disk).read(":0:0000000000000000")
    assert decode_message(feed.read(str(Position(history, start.seq, start.digest))), Chunk).records
    feed.close()
    assert decode_message(feed.read(str(Position(history, *_of(place(leader.db))))), Chunk).records == []


def _of(found: Any) -> tuple[int, int]:
    return found.seq, found.digest


def test_a_feed_waits_for_the_first_record_and_not_for_ever() -> None:
    leader = Leader()
    now = 0.0
    waits: list[float] = []

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds
        waits.append(seconds)
        if len(waits) == 5:
            leader.steps(1)

    feed = leader.feed(clock=lambda: now, wait=wait)
    here = str(Position(leader.db._store.lineage.history, *_of(place(leader.db))))  # type: ignore[union-attr]
    chunk = decode_message(feed.read(here, timeout=10.0), Chunk)
    assert len(chunk.records) == 1
    assert len(waits) == 5
    here = str(Position(chunk.history, chunk.seq, chunk.digest))
    began = now
    assert decode_message(feed.read(here, timeout=1.0), Chunk).records == []
    assert now - began == pytest.approx(1.0)


def test_many_followers_of_one_feed_each_get_their_own() -> None:
    leader = Leader()
    feed = leader.feed()
    followers = [follower_of(feed) for _ in range(20)]
    rng = random.Random(1)
    for _ in range(60):
        leader.steps(1)
        rng.choice(followers).refresh()
    for follower in followers:
        follower.refresh()
        assert contents(follower) == leader.states[-1]


@pytest.mark.parametrize("act", ["steps", "save"])
def test_a_leader_may_do_anything_between_two_calls_of_its_feed(act: str) -> None:
    for late in (False, True):
        for at in range(200):
            leader = Leader()
            leader.steps(3)
            calls, is_acting = 0, False

            def tell(call: str, path: str, at: int = at, leader: Leader = leader) -> None:
                nonlocal calls, is_acting
                if is_acting and calls in (at, at + 3):
                    is_acting = False
                    getattr(leader, act)(2)
                    is_acting = True
                calls += is_acting

            feed = leader.feed(backend=Watched(leader.disk, tell))
            follower = None if late else follower_of(feed)
            leader.save(2)
            is_acting = True
            if follower is None:
                follower = follower_of(feed)
            else:
                follower.refresh()
            is_acting = False
            assert contents(follower) in leader.states, at
            n_calls = calls
            follower.refresh()
            assert contents(follower) == leader.states[-1], at
            if n_calls <= at:
                assert at > 5
                break
        else:
            raise AssertionError("there were more calls than expected")


# --------------------------------------------------------------------------------------------------- crashes and faults


def life(leader: Leader, disk: MemoryBackend, sync: str) -> None:
    """A follower that applies, saves, takes snapshots, closes and is promoted; marks on its disk say what it had."""
    follower = follower_of(leader.feed(), disk, sync=sync)
    for n in range(10):
        leader.steps(3)
        if n in (4, 7):
            leader.save(3)
        follower.refresh()
        disk.mark(len(leader.states) - 1)
        if n % 4 == 2:
            follower.save()
        if n in (3, 5):
            follower.close()
            disk.mark(("closed", len(leader.states) - 1))
            follower = follower_of(leader.feed(), disk, sync=sync)
    follower.promote()
    follower.close()


@pytest.mark.parametrize("sync", ["no", "always"])
def test_a_follower_is_whole_after_any_crash_of_its_own(sync: str) -> None:
    leader, disk = Leader(), MemoryBackend()
    life(leader, disk, sync)
    n = 0
    for state in crash_states(disk.history, seed=7, per_step=4):
        n += 1
        if n % 3:
            continue
        killed = state.story.startswith("killed")
        had = [mark[1] if isinstance(mark, tuple) else mark for mark in state.marks]
        closed = [mark[1] for mark in state.marks if isinstance(mark, tuple)]
        least = max((had if killed or sync == "always" else closed), default=0)
        if not state.exists("/follower/MANIFEST"):
            assert not least
            continue
        reader = opened(state.copy(), "/follower", read_only=True)
        if len(reader) or len(reader.kv):
            assert contents(reader) in leader.states[least:], state.story
        else:
            assert not least
        try:
            follower = follower_of(leader.feed(), state, sync=sync)
        except ConfigError:
            assert reader._store is not None
            assert reader._store.lineage.branches, "it was promoted"
            continue
        follower.refresh()
        assert contents(follower) == leader.states[-1], state.story
    assert n > 600


@pytest.mark.parametrize("sync", [True, False])
def test_a_leader_that_loses_power_knows_all_that_its_followers_have(sync: bool) -> None:
    leader, disk = Leader(), MemoryBackend()
    feed = leader.feed(sync=sync)
    follower = follower_of(feed, disk)
    for _ in range(8):
        leader.steps(2)
        follower.refresh()
        leader.disk.mark((contents(follower), disk.copy()))
        leader.steps(1)
    leader.save(2)
    follower.refresh()
    leader.disk.mark((contents(follower), disk.copy()))
    n_refused = 0
    for i, state in enumerate(crash_states(leader.disk.history, seed=2, per_step=4)):
        if not state.marks or i % 3:
            continue
        found, followers_disk = state.marks[-1]
        after = Leader.__new__(Leader)
        after.disk, after.db, after.n, after.states = state, opened(state, "/leader"), 500, []
        prepare(after.db)
        after.steps(2)
        follower = follower_of(after.feed(), followers_disk.copy())
        assert contents(follower) == found
        try:
            follower.refresh()
            assert contents(follower) == after.states[-1], state.story
        except HistoryDiverged:
            n_refused += 1
            assert not sync, state.story
            assert contents(follower) == found
    assert (n_refused == 0) == sync, "without syncs there must be something to refuse, or this tests nothing"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, -1], ids=["ENOSPC", "EIO", "short"])
def test_a_failing_disk_of_a_follower_is_an_error_and_made_good(code: int) -> None:
    total = Fault(1 << 30, code)
    for at in range(400):
        leader, disk = Leader(), MemoryBackend()
        leader.steps(2)
        follower = follower_of(leader.feed(), disk, sync="always")
        leader.steps(4)
        fault = disk.fault = Fault(at, code)
        n_failed = 0
        for n in range(3):
            try:
                follower.refresh()
            except StorageError:
                n_failed += 1
            assert contents(follower) in leader.states, (at, n)
            if n == 0:
                leader.save(2)
        disk.fault = None
        with suppress(StorageError):
            follower.close()
        follower = follower_of(leader.feed(), disk, sync="always")
        assert contents(follower) in leader.states
        follower.refresh()
        assert contents(follower) == leader.states[-1], at
        if not fault.n_raised:
            assert at > 20
            return
    raise AssertionError(total)


# ----------------------------------------------------------------------------------------------------------- the thread


class Told:
    """A source that tells when it was asked, and waits for nothing."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.asked = threading.Semaphore(0)
        self.error: Exception | None = None

    def read(self, position: str, max_bytes: int, timeout: float) -> bytes:
        self.asked.release()
        if self.error is not None:
            raise self.error
        return self.source.read(position, max_bytes, timeout)

    def snapshot(self, write: Callable[[bytes], object]) -> None:
        self.source.snapshot(write)

    def wait(self, times: int = 2) -> None:
        """Wait until a look that began after this call has ended."""
        while self.asked.acquire(blocking=False):
            pass
        for _ in range(times):
            assert self.asked.acquire(timeout=30)


def test_a_follower_follows_by_itself_and_says_when_it_cannot() -> None:
    leader, disk = Leader(), MemoryBackend()
    told = Told(leader.feed())
    follower = opened(disk, "/follower", follow=told, follow_interval=0.001)
    for _ in range(5):
        leader.steps(3)
        told.wait()
        assert contents(follower) == leader.states[-1]
    told.error = StorageError("the line is cut")
    told.wait()
    leader.steps(1)
    assert follower.stats()["following"]["error"] == "the line is cut"
    assert contents(follower) == leader.states[-2]
    told.error = None
    told.wait()
    assert contents(follower) == leader.states[-1]
    assert follower.stats()["following"]["error"] is None
    follower.promote()
    assert "following" not in follower.stats()
    follower["a"].add("mine", vec(1))
    follower.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "kektordb-follow"]


def test_followers_in_threads_beside_searches_saves_and_vacuums(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "leader", n_threads=1) as leader:
        a = leader.create_index("a", metric="euclidean", dim=4)
        with kektordb.open(tmp_path / "follower", follow=tmp_path / "leader", follow_interval=0.001) as follower:
            failures: list[BaseException] = []
            done = threading.Event()

            def search() -> None:
                try:
                    n_before = 0
                    while not done.is_set():
                        ids = [int(id) for id in follower["a"].ids()]
                        assert ids == sorted(ids)
                        n = max(ids, default=0)
                        assert n >= n_before
                        n_before = n
                        follower["a"].search(vec(1), k=5)
                except BaseException as error:
                    failures.append(error)

            def care() -> None:
                try:
                    while not done.is_set():
                        follower.save()
                        vacuum(follower, "a", Control())
                except kektordb.IndexNotFound:
                    pass
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=target) for target in (search, search, care)]
            for thread in threads:
                thread.start()
            for n in range(400):
                a.add(str(n), vec(n))
                if n % 7 == 6:
                    a.delete(str(n - 5))
                if n % 50 == 49:
                    leader.save()
            done.set()
            for thread in threads:
                thread.join()
            assert failures == []
            follower.refresh()
            assert contents(follower) == contents(leader)


# ------------------------------------------------------------------------------------------------------------ processes


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")
def test_either_side_may_be_killed_at_any_point(tmp_path: Path) -> None:
    rng = random.Random(11)
    leader, path = tmp_path / "leader", tmp_path / "follower"
    model = Model()
    done = had = asked = 0
    for _ in range(2):
        with running("lead", leader, done) as writer:
            for _ in range(2):
                with running("follow", path, leader) as follower:
                    for _ in range(rng.randrange(1, 6)):
                        n = rng.randrange(3, 12)
                        writer.ask(n)
                        asked += n
                        follower.ask()
                        if rng.random() < 0.7:
                            follower.wait()
                    follower.kill()
                with kektordb.open(path, read_only=True) as db:
                    place = model.place(contents(db), had, asked)
                    assert place is not None
                    had = place
            acknowledged = writer.kill() + 1
        with kektordb.open(leader, read_only=True) as db:
            found = model.place(contents(db), max(had, acknowledged), asked)
            assert found is not None
            done = asked = found
    with kektordb.open(path, follow=leader, follow_interval=0) as db:
        db.refresh()
        assert model.place(contents(db), done, done) == done
        assert done > 5
