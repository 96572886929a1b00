"""Ctrl-C at every call inside verbs that take locks and begin threads: the process goes on, nothing is half done.

The interrupt comes when a function of Python is called, which is where Python looks for signals. Each verb is run once
to see which calls there are, and once for each of them.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from faults import MemoryBackend

import kektordb
from kektordb.database import Database
from kektordb.interrupts import LetThrough, Uninterrupted, between, wait_for
from kektordb.storage import Feed

OPTIONS: dict[str, Any] = {"n_threads": 1, "autosave": "", "aof_rewrite_percentage": 0}
VECTORS = np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32)
PATIENCE_S = 5.0
# What is called elsewhere is as if it were called a moment before.
WHERE = {"kektordb", "threading.py", "contextlib.py"}


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupting:
    """Press Ctrl-C at the n-th call of a function, counting calls from different places only."""

    def __init__(self, n: int) -> None:
        self.n_calls = 0
        self._n = n
        self._seen: set[object] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if not WHERE & set(Path(frame.f_code.co_filename).parts) or frame.f_code.co_name == "__del__":
            return  # what is raised in a __del__ is lost
        place: list[object] = []
        caller: FrameType | None = frame
        while caller is not None and len(place) < 4:
            place += [caller.f_code, caller.f_lineno]
            caller = caller.f_back
        if tuple(place) in self._seen:
            return
        self._seen.add(tuple(place))
        self.n_calls += 1
        if self.n_calls == self._n + 1:
            signal.raise_signal(signal.SIGINT)

    def run(self, call: Callable[[], object]) -> bool:
        """Return whether the interrupt came."""
        before = sys.gettrace()
        try:
            sys.settrace(self)
            try:
                call()
            finally:
                sys.settrace(before)
        except KeyboardInterrupt:
            return True
        finally:
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        return False


def filled(disk: MemoryBackend) -> None:
    with kektordb.open("/db", backend=disk, sync="no", **OPTIONS) as db:
        a = db.create_index("a", metric="euclidean", dim=4)
        a.add_batch(["0", "1", "2", "3"], VECTORS[:4], [{"n": i} for i in range(4)])
        db.save()
        a.delete("3")
        db.kv["k"] = b"1"


def content(db: Database) -> dict[str, Any]:
    return {"kv": dict(db.kv), **{name: sorted(db[name].ids()) for name in db}}


def batch(db: Database) -> None:
    with db.batch():
        db["a"].add("new", VECTORS[5])
        db.kv["k"] = b"2"


VERBS: dict[str, Callable[[Database], object]] = {
    "add": lambda db: db["a"].add("new", VECTORS[5]),
    "batch": batch,
    "backup": lambda db: db.backup("/copy.kdb"),
    "close": Database.close,
    "create_index": lambda db: db.create_index("b", dim=2),
    "delete by a filter": lambda db: db["a"].delete(filter=kektordb.F("n") == 2),
    "save": Database.save,
    "sync": Database.sync,
    "vacuum": lambda db: db["a"].vacuum().wait(PATIENCE_S),
}


def require_free(db: Database) -> None:
    assert not db._commits.lock.is_taken
    assert not db._save_lock.is_taken
    assert db._upkeep.n_pauses == 0


def go_on(db: Database, with_task: bool) -> None:
    db["a"].upsert("later", VECTORS[6])
    assert db["a"].search(VECTORS[6], k=1)[0].id == "later"
    if with_task:
        db["a"].vacuum().wait(PATIENCE_S)
    db.save()


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_is_interrupted_at_any_call_has_happened_or_not(verb: str) -> None:
    template = MemoryBackend()
    filled(template)
    act = VERBS[verb]
    with kektordb.open("/db", backend=template.copy(), sync="no", **OPTIONS) as db:
        before = content(db)
        seen = Interrupting(-1)
        seen.run(lambda: act(db))
        after = before if db.closed else content(db)
    assert seen.n_calls > 5

    for n in range(seen.n_calls):
        disk = template.copy()
        db = kektordb.open("/db", backend=disk, sync="no", **OPTIONS)
        Interrupting(n).run(lambda db=db: act(db))  # type: ignore[misc]
        require_free(db)
        found = before if db.closed else content(db)
        assert found in (before, after)
        if not db.closed:
            go_on(db, with_task=verb == "vacuum" or n % 8 == 0)
            found = content(db)
        db.close()
        with kektordb.open("/db", backend=disk, **OPTIONS) as again:
            assert content(again) == found
            assert again["a"].search(VECTORS[0], k=1)[0].id == "0"
            assert not [name for name in disk.listdir("/db") if name.startswith("tmp-")]


def test_a_pause_that_is_interrupted_at_any_call_has_not_begun() -> None:
    with kektordb.open(":memory:") as db:
        n, came = 0, True
        while came:
            came = Interrupting(n).run(db.maintenance.pause)
            assert db._upkeep.n_pauses == (not came)
            n += 1
    assert n > 5


def test_an_open_that_is_interrupted_at_any_call_can_be_tried_again() -> None:
    template = MemoryBackend()
    filled(template)

    n, n_calls = -1, 1
    while n < n_calls:  # the first time only to count
        disk, opened = template.copy(), list[Database]()
        seen = Interrupting(n)
        seen.run(lambda disk=disk, opened=opened: opened.append(kektordb.open("/db", backend=disk, **OPTIONS)))  # type: ignore[misc]
        n_calls = seen.n_calls if n < 0 else n_calls
        for db in opened:
            db.close()
        with kektordb.open("/db", backend=disk, **OPTIONS) as db:
            assert content(db) == {"kv": {"k": b"1"}, "a": ["0", "1", "2"]}
        n += 1


def led(disk: MemoryBackend) -> tuple[Database, Database]:
    """Return a leader, and a follower that lacks its last records."""
    leader = kektordb.open("/leader", backend=disk, sync="no", **OPTIONS)
    leader.create_index("a", metric="euclidean", dim=4).add("0", VECTORS[0])
    feed = Feed("/leader", backend=disk)
    follower = kektordb.open("/db", follow=feed, follow_interval=0, backend=disk, sync="no", **OPTIONS)
    leader["a"].add_batch(["1", "2"], VECTORS[1:3])
    leader["a"].delete("0")
    leader.kv["k"] = b"1"
    return leader, follower


@pytest.mark.parametrize("verb", ["refresh", "promote"])
def test_a_follower_that_is_interrupted_at_any_call_goes_on(verb: str) -> None:
    act = Database.refresh if verb == "refresh" else Database.promote
    n, n_calls = -1, 1
    while n < n_calls:  # the first time only to count
        leader, follower = led(MemoryBackend())
        seen = Interrupting(n)
        seen.run(lambda follower=follower: act(follower))  # type: ignore[misc]
        n_calls = seen.n_calls if n < 0 else n_calls
        require_free(follower)
        if follower.read_only:
            follower.refresh()
            assert content(follower) == content(leader)
            follower.promote()
        follower["a"].upsert("1", VECTORS[5])
        assert follower["a"].search(VECTORS[5], k=1)[0].id == "1"
        follower.close()
        leader.close()
        n += 1


def test_an_interrupt_waits_for_the_next_place_between_two_slices() -> None:
    done = []

    def work() -> None:
        with Uninterrupted(in_slices=True):
            signal.raise_signal(signal.SIGINT)
            done.append(1)
            with Uninterrupted():
                between()
                done.append(2)
            between()
            done.append(3)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("is_whole", [False, True])
def test_others_that_are_waited_for_are_interrupted_at_once_unless_all_must_be_whole(is_whole: bool) -> None:
    done = []

    def work() -> None:
        with Uninterrupted(not is_whole), Uninterrupted(in_slices=True), LetThrough():
            signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert len(done) == is_whole
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_wait_for_an_event_ends_with_it_with_its_time_and_with_an_interrupt() -> None:
    event = threading.Event()
    assert not wait_for(event, 0.01)
    ended: list[bool] = []
    pressing = threading.Timer(0.02, signal.raise_signal, (signal.SIGINT,))
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        ended.append(wait_for(event))
    pressing.join()
    event.set()
    assert wait_for(event)
    assert wait_for(event, 0.0)
    assert not ended
