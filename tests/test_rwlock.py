"""The readers-writer lock keeps writers alone, lets readers share, and starves nobody."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from kektordb._rwlock import RWLock

JOIN_S = 20.0


def run(*bodies: Callable[[], None]) -> None:
    """Run each body in a thread; fail when one raised or did not end."""
    errors: list[BaseException] = []

    def guarded(body: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            try:
                body()
            except BaseException as error:
                errors.append(error)

        return call

    threads = [threading.Thread(target=guarded(body), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    assert not errors, errors


def spin_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + JOIN_S
    while not condition():
        assert time.monotonic() < end, "never came true"


def let_others_run() -> None:
    """Be a call: threads are switched at calls."""


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize(("n_readers", "n_writers"), [(4, 2), (1, 4), (6, 1), (0, 4)])
def test_readers_never_see_half_a_write_and_no_increment_is_lost(n_readers: int, n_writers: int) -> None:
    lock = RWLock()
    pair = [0, 0]
    n_writes, n_reads = 10_000, 20_000

    def write() -> None:
        for _ in range(n_writes):
            with lock.write:
                seen = pair[0]
                let_others_run()
                pair[0] = seen + 1
                let_others_run()
                assert pair[1] == seen
                pair[1] = seen + 1

    def read() -> None:
        for _ in range(n_reads):
            with lock.read:
                first = pair[0]
                let_others_run()
                second = pair[1]
            assert first == second

    run(*[write] * n_writers, *[read] * n_readers)

    assert pair == [n_writes * n_writers] * 2


def test_switches_inside_the_critical_section_do_not_break_it() -> None:
    """Whoever is inside waits for another thread there, so that all the others reach the lock meanwhile."""
    lock = RWLock()
    pair = [0, 0]

    def write() -> None:
        for _ in range(100):
            with lock.write:
                pair[0] += 1
                with_other_threads()
                pair[1] += 1

    def read() -> None:
        for _ in range(100):
            lock.acquire_read()
            first = pair[0]
            with_other_threads()
            assert pair == [first, first]
            lock.release_read()

    def with_other_threads() -> None:
        other = threading.Thread(target=let_others_run)
        other.start()
        other.join()

    run(write, write, read, read, read)

    assert pair == [200, 200]


def test_readers_share() -> None:
    lock = RWLock()
    meeting = threading.Barrier(3)

    def read() -> None:
        with lock.read:
            meeting.wait(JOIN_S)

    run(read, read, read)


def test_waiting_writer_stops_new_readers_and_gets_in_before_them() -> None:
    lock = RWLock()
    order: list[str] = []

    def write() -> None:
        with lock.write:
            order.append("writer")

    def read() -> None:
        with lock.read:
            order.append("reader")

    def hold() -> None:
        lock.acquire_read()
        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        spin_until(lambda: lock.has_writer)
        readers = [threading.Thread(target=read, daemon=True) for _ in range(3)]
        for reader in readers:
            reader.start()
        spin_until(lambda: lock.n_waiting == 3)
        assert order == []
        lock.release_read()
        for thread in (writer, *readers):
            thread.join(JOIN_S)
            assert not thread.is_alive()

    run(hold)

    assert order == ["writer", "reader", "reader", "reader"]
    assert not lock.has_writer


def test_writer_that_leaves_lets_waiting_readers_in_before_the_next_writer() -> None:
    lock = RWLock()
    order: list[str] = []

    def write() -> None:
        with lock.write:
            order.append("writer")

    def read() -> None:
        with lock.read:
            order.append("reader")

    def hold() -> None:
        lock.acquire_write()
        threads = [threading.Thread(target=body, daemon=True) for body in (write, read, read, write)]
        for thread in threads:
            thread.start()
        spin_until(lambda: lock.n_waiting == 2)
        lock.release_write()
        for thread in threads:
            thread.join(JOIN_S)
            assert not thread.is_alive()

    run(hold)

    assert order == ["reader", "reader", "writer", "writer"]


def test_writer_gets_in_although_readers_overlap_for_ever() -> None:
    lock = RWLock()
    is_done = threading.Event()
    meeting = threading.Barrier(2)

    def read() -> None:
        lock.acquire_read()
        meeting.wait(JOIN_S)
        while not is_done.is_set():
            # Each of the two gives up its turn only to take the next one.
            lock.release_read()
            lock.acquire_read()
        lock.release_read()

    def write() -> None:
        for _ in range(100):
            with lock.write:
                pass
        is_done.set()

    run(read, read, write)


def test_readers_get_in_although_writers_keep_coming() -> None:
    lock = RWLock()
    is_done = threading.Event()

    def write() -> None:
        while not is_done.is_set():
            with lock.write:
                pass

    def read() -> None:
        for _ in range(100):
            with lock.read:
                pass
        is_done.set()

    run(write, write, write, read)


def test_exception_inside_gives_the_lock_back() -> None:
    lock = RWLock()

    for side in (lock.read, lock.write, lock.read):
        with pytest.raises(KeyError), side:
            raise KeyError

    with lock.write:
        pass


def test_release_without_acquire_is_refused_and_harms_nothing() -> None:
    lock = RWLock()

    with pytest.raises(RuntimeError, match="release_read"):
        lock.release_read()
    with pytest.raises(RuntimeError, match="release_write"):
        lock.release_write()
    with lock.read, pytest.raises(RuntimeError, match="release_write"):
        lock.release_write()
    with lock.write, pytest.raises(RuntimeError, match="release_read"):
        lock.release_read()

    run(lock.acquire_write)


def test_sides_are_made_once_and_outlive_the_lock() -> None:
    lock = RWLock()
    side = lock.write

    assert side is lock.write
    assert lock.read is lock.read
    del lock
    with side:
        pass


def test_lock_is_freed_without_the_cycle_collector() -> None:
    class Owner:
        def __init__(self) -> None:
            self.lock = RWLock()

    gc.disable()
    try:
        owner = Owner()
        watch = weakref.ref(owner)
        with owner.lock.read:
            pass
        del owner
        assert watch() is None
    finally:
        gc.enable()


def test_writes_are_counted_when_they_end() -> None:
    lock = RWLock()
    assert lock.n_writes == 0
    with lock.write:
        assert lock.n_writes == 0
    with lock.read:
        assert lock.n_writes == 1
    with pytest.raises(RuntimeError):
        lock.release_write()
    lock.acquire_write()
    lock.release_write()
    assert lock.n_writes == 2
