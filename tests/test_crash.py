"""A database on a disk that loses power, fails and fills up: what was acknowledged is there, and nothing by halves."""

from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from campaign import Campaign
from faults import Fault, MemoryBackend, crash_states
from writer import vec

import kektordb
from kektordb.database import Database
from kektordb.errors import KektorError, StorageError, StorageFailed, StorageFull
from kektordb.tasks import Control
from kektordb.upkeep.compress import compress

POLICIES = ["always", "everysec", "no"]


def opened(disk: MemoryBackend, sync: str = "no", **options: Any) -> Database:
    return Database.open("/db", backend=disk, sync=sync, autosave="", n_threads=1, **options)


def contents(db: Database) -> str:
    """Everything in a database, as text: indexes with their items in order, and keys."""
    found: dict[str, Any] = {}
    for name in db:
        index = db[name]
        items = [item for item in index.get_many(index.ids()) if item is not None]
        config = index.config
        found[name] = [
            config.metric,
            config.precision,
            index.dim,
            [[i.id, i.vector.tolist(), i.metadata] for i in items],
        ]
    return json.dumps([found, {key: value.hex() for key, value in db.kv.items()}])


def check_searches(db: Database, story: str) -> None:
    """Every item is in the graph and in the columns."""
    for name in db:
        index = db[name]
        if len(index):
            # A writer that is killed late has written more than a thousand.
            k = max(1000, len(index))
            assert sorted(index.search(vec(1, index.dim or 1), k=k, ef_search=1000).ids) == sorted(index.ids()), story
        n = [id for id in index if "n" in index[id].metadata]
        assert index.ids("EXISTS(n)") == n, story


pytestmark = pytest.mark.usefixtures("small_and_still")


class Life:
    """A database whose every state is remembered, and whose every acknowledgement is marked on the disk."""

    def __init__(self, disk: MemoryBackend, sync: str) -> None:
        self.disk = disk
        self.sync = sync
        self.states: list[str] = []
        self.open()

    def open(self) -> None:
        self.db = opened(self.disk, self.sync)
        self.note("durable")

    def note(self, kind: str) -> None:
        state = contents(self.db)
        if not self.states or self.states[-1] != state:
            self.states.append(state)
        self.disk.mark((kind, len(self.states) - 1))

    def do(self, call: Callable[[], Any]) -> None:
        call()
        self.note("acknowledged")

    def durable(self, call: Callable[[], Any]) -> None:
        n = len(self.states) - 1
        call()
        self.disk.mark(("durable", n))


def everything(life: Life) -> None:
    """Use all that touches files, in two lives."""
    db = life.db
    life.do(lambda: db.create_index("a", metric="euclidean", m=4, ef_construction=20))
    a = db["a"]
    life.do(lambda: db.create_index("b", dim=3))
    life.do(lambda: a.add("one", vec(1), {"n": 1, "tags": ["x", "y"]}))
    life.do(lambda: a.add("two", vec(2)))
    life.do(
        lambda: a.add_batch([f"i{i}" for i in range(12)], [vec(i) for i in range(12)], [{"n": i} for i in range(12)])
    )
    life.do(lambda: a.upsert("one", vec(20), {"n": 20}))
    life.do(lambda: db["b"].add("only", [3.0, 4.0, 0.0]))
    life.do(lambda: compress(db, "b", "int8", Control()))
    life.do(lambda: compress(db, "a", "int8", Control()))
    life.do(lambda: a.update_metadata("two", {"n": 2, "text": "é" * 30}))
    life.do(lambda: db.kv.__setitem__("key", b"value"))
    life.do(lambda: a.delete("i3"))
    life.do(lambda: batch(db, 1))
    life.durable(db.sync)
    life.do(lambda: a.add("late", vec(21)))

    during: list[int] = []

    def write(done: int, total: int) -> None:
        if len(during) < 3:
            during.append(done)
            life.do(lambda: a.add(f"during-{len(during)}", vec(30 + len(during)), {"n": len(during)}))
            life.do(lambda: a.delete(f"i{len(during) + 5}"))
            life.do(lambda: compress(db, "a", ("float16", "float32", "int8")[len(during) - 1], Control()))

    life.durable(lambda: db.save(progress=write))
    life.do(lambda: a.upsert_batch(["two", "new"], [vec(40), vec(41)], [None, {"n": 41}]))
    life.do(lambda: a.delete(filter="n >= 9"))
    assert db._store is not None
    life.durable(db._store._syncer.tick)
    life.do(lambda: db.drop_index("b"))
    life.do(lambda: db.kv.__delitem__("key"))
    life.durable(db.rewrite_aof)
    life.do(lambda: db.create_index("b", metric="dot"))
    life.do(lambda: db["b"].add("again", [1.0, 2.0]))
    life.do(lambda: batch(db, 2))
    life.do(lambda: compress(db, "b", "float16", Control()))
    life.do(lambda: compress(db, "a", "float32", Control()))
    life.durable(db.close)
    life.open()
    db = life.db
    life.do(lambda: db["a"].add("third life", vec(50), {"n": 50}))
    life.durable(db.save)
    life.do(lambda: db["a"].delete("third life"))
    life.durable(db.close)


def batch(db: Database, serial: int = 0) -> None:
    """Several things that belong together."""
    with db.batch():
        db["a"].add(f"batched-{serial}", vec(60 + serial), {"n": serial, "text": "t" * 300})
        db["a"].update_metadata(f"batched-{serial}", {"m": 1})
        db["a"].upsert("one", vec(70 + serial))
        db.kv[f"batched-{serial}"] = bytes(100)


@pytest.mark.crash
@pytest.mark.parametrize("sync", POLICIES)
def test_no_crash_loses_what_was_promised(sync: str, campaign: Campaign) -> None:
    disk = MemoryBackend()
    life = Life(disk, sync)
    everything(life)
    n = n_less = 0
    wanted = campaign.count("STATES", 500, 25_000)

    for state in itertools.chain.from_iterable(
        crash_states(disk.history, seed=seed, per_step=2 if wanted < 2000 else 24)
        for seed in itertools.count(len(sync))
    ):
        promise = {"acknowledged": 0, "durable": 0}
        for kind, number in state.marks:
            promise[kind] = max(promise[kind], number)
        last = max(promise.values())
        first = last if sync == "always" or state.story.startswith("killed") else promise["durable"]

        db = opened(state, sync)
        found = contents(db)
        assert found in life.states, f"no state that ever was: {state.story}"
        # What was under way may have happened.
        assert found in life.states[first : last + 2], f"{state.story}: {life.states.index(found)} of {first} to {last}"
        n_less += found not in life.states[last:]
        n += 1
        if n % 7 == 0:
            check_searches(db, state.story)
            db.kv["after"] = b"all"
            db.save()
            db["a"].add("after", vec(99)) if "a" in db else None
            found = contents(db)
            db.close()
            db = opened(state.copy())
            assert contents(db) == found, state.story
        db.close()
        if n >= wanted and state.story.startswith(f"killed after step {len(disk.history)} "):
            break

    campaign.note("crash states", f"database, {sync}", states=n, violations=0, lost_what_was_not_promised=n_less)
    assert n >= wanted
    assert sync == "always" or n_less > 20, "the crashes must cost something, or they test nothing"


def test_damage_by_a_crash_is_never_taken_for_history() -> None:
    """recover="prefix" on a crashed disk finds what a plain open finds: there is nothing to recover from."""
    disk = MemoryBackend()
    life = Life(disk, "no")
    everything(life)
    for n, state in enumerate(crash_states(disk.history, seed=9, per_step=3)):
        if n % 11:
            continue
        plain = opened(state.copy())
        expected = contents(plain)
        plain.close()
        prefix = opened(state.copy(), recover="prefix")
        assert contents(prefix) == expected, state.story
        assert prefix.recovery_report is not None
        assert prefix.recovery_report.damage is None
        prefix.close()


# ------------------------------------------------------------------------------------------------------ failing calls


SHORT: list[Callable[[Database], Any]] = [
    lambda db: db.create_index("a", metric="euclidean"),
    lambda db: db["a"].add("one", vec(1), {"n": 1}),
    lambda db: db["a"].add_batch([f"i{i}" for i in range(8)], [vec(i) for i in range(8)], [{"n": i} for i in range(8)]),
    lambda db: db.save(),
    lambda db: db["a"].upsert("one", vec(2), {"n": 2}),
    lambda db: db["a"].delete("i3"),
    lambda db: batch(db),
    lambda db: db.sync(),
    lambda db: db.kv.__setitem__("k", b"v"),
    lambda db: db.rewrite_aof(),
    lambda db: db["a"].update_metadata("i4", {"m": 4}),
]


def short_life(disk: MemoryBackend, sync: str) -> tuple[str | None, list[str]]:
    """Use a database as if nothing were wrong; return what it accepted, and the kinds of errors."""
    try:
        db = opened(disk, sync)
    except StorageError as error:
        return None, [type(error).__name__]
    accepted, refused = contents(db), []
    for call in SHORT:
        # Once something was refused, what builds on it is refused for another reason.
        kinds = KektorError if refused else StorageError
        try:
            call(db)
        except kinds as error:
            refused.append(type(error).__name__)
        else:
            accepted = contents(db)
    changed = contents(db)
    check_searches(db, "live")
    try:
        db.close()
    except StorageError as error:
        refused.append(type(error).__name__)
    assert changed == accepted, "what was refused changed something"
    return accepted, refused


def n_calls(sync: str) -> int:
    disk = MemoryBackend()
    disk.fault = Fault(1 << 30, errno.EIO)
    assert short_life(disk, sync)[1] == []
    return disk.fault.count


CODES = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EDQUOT": errno.EDQUOT, "EROFS": errno.EROFS, "short": -1}


@pytest.mark.crash
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
@pytest.mark.parametrize("sync", ["always", "no"])
def test_any_failing_call_is_an_error_and_loses_nothing(
    sync: str, code: int, for_ever: bool, campaign: Campaign
) -> None:
    empty = contents(opened(MemoryBackend()))
    n_heard = n_tried = 0
    # The short forms of all kinds together try every call.
    step = campaign.count("CALL_STEP", 8, 1)
    for at in range((list(CODES.values()).index(code) + 2 * for_ever) % step, n_calls(sync), step):
        disk = MemoryBackend()
        disk.fault = Fault(at, code, for_ever, drop=sync == "always")
        accepted, refused = short_life(disk, sync)
        n_heard += bool(refused)
        n_tried += 1

        disk.fault = None
        disk.locked.clear()
        db = opened(disk)
        assert contents(db) == (accepted or empty), f"call {at} of {sync}"
        check_searches(db, f"call {at}")
        db.kv["after"] = b""
        found = contents(db)
        db.close()
        assert contents(opened(disk.copy())) == found
    kind = next(name for name, number in CODES.items() if number == code)
    campaign.note("n-th call fails", f"{kind}, {sync}", for_ever=for_ever, calls=n_tried, heard=n_heard, lost=0)
    assert n_heard > 2, "an error that nobody hears tests nothing"


def fill_up(index: kektordb.Index, prefix: str) -> int:
    """Add items until there is no room; return how many there was room for."""
    for i in range(100):
        try:
            index.add(f"{prefix}-{i}", vec(i), {"n": i})
        except StorageFull:
            return i
    raise AssertionError("there is room for ever")


@pytest.mark.parametrize("sync", POLICIES)
def test_a_full_disk_gives_errors_until_there_is_room(sync: str) -> None:
    disk = MemoryBackend()
    db = opened(disk, sync)
    a = db.create_index("a", metric="euclidean")
    a.add("one", vec(1), {"n": 1})
    db.save()
    for room in range(0, 1500, 61):
        disk.capacity = sum(len(node.data) for node in disk.files.values()) + room
        n_written = fill_up(a, str(room))
        before = contents(db)
        with pytest.raises(StorageFull):
            db.save()
        assert contents(db) == before
        assert contents(opened(disk.copy())) == before
        assert len(a.ids(filter="EXISTS(n)")) == len(a)
        disk.capacity = None
        a.delete([f"{room}-{i}" for i in range(n_written)])
        db.save()
    found = contents(db)
    db.close()
    assert contents(opened(disk.copy())) == found


@pytest.mark.parametrize("sync", ["everysec", "no"])
def test_a_failed_sync_in_the_background_stops_writing_and_not_reading(sync: str) -> None:
    disk = MemoryBackend()
    db = opened(disk, sync)
    a = db.create_index("a", metric="euclidean")
    a.add("one", vec(1))
    db.sync()
    a.add("two", vec(2))
    disk.fault = Fault(0, errno.EIO, calls=frozenset({"sync"}), drop=True)
    assert db._store is not None
    db._store._syncer.tick()

    for call in (lambda: a.add("three", vec(3)), db.save, db.sync, lambda: a.delete("one"), lambda: batch(db)):
        with pytest.raises(StorageFailed):
            call()
    assert a.ids() == ["one", "two"]
    assert a.search(vec(2), k=1).ids == ["two"]
    assert disk.fault.count == 1
    db.close()
    assert opened(disk.copy())["a"].ids() == ["one"]
