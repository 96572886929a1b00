"""How does a database follow another one? It asks for records, logs them under the same numbers, and applies them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kektordb.errors import CorruptData, HistoryDiverged, SnapshotNeeded, StorageError
from kektordb.interrupts import LetThrough, Uninterrupted, between
from kektordb.operations import Operation, decoded
from kektordb.state import State, joined
from kektordb.storage import Position, adopt
from kektordb.storage.backend import write_all
from kektordb.storage.codec import Branch, Lineage
from kektordb.storage.directory import naming_errors
from kektordb.storage.feed import HANDOVER_LENGTH, MAX_CHUNK_BYTES, require_within
from kektordb.storage.log import foreseen
from kektordb.storage.shipping import Chunk, Handover, Shipped, decode_message
from kektordb.storage.snapshot import SnapshotFiles, open_snapshot
from kektordb.storage.tail import Place

if TYPE_CHECKING:
    from kektordb.database import Database
    from kektordb.storage import Store

__all__ = ["Following", "Source"]

_log = logging.getLogger("kektordb")

RECEIVED = "tmp-received.kdb"
# After an error the next try waits twice as long as the one before, up to this.
MAX_PAUSE_S = 30.0
MAX_HANDOVER_BYTES = 1 << 20
# A leader may save faster than its snapshots are taken. The save of the third began after the second was published, so
# that it holds all that was there when the first was asked for.
MAX_SNAPSHOTS = 3


class Source(Protocol):
    """Where a follower has its records from: a `Feed`, or something that asks a distant one.

    One that has a number `wait_s` is asked to wait so long for something new, and then from two threads at a time.
    """

    def read(self, position: str, max_bytes: int, timeout: float) -> bytes:
        """See `Feed.read`."""
        ...

    def snapshot(self, write: Callable[[bytes], object]) -> None:
        """See `Feed.snapshot`."""
        ...


class Ahead(NamedTuple):
    """What a source answered to a position, or why it did not, after so many seconds."""

    asked: Position
    message: bytes | Exception
    seconds: float


class Following:
    """The side of a database that follows.

    Parameters
    ----------
    source : Source
    interval_s : float
        How often its thread looks for something new; 0 for no thread.
    close_source : callable, optional
        Called when it follows no more.
    interrupt : callable, optional
        Called before that: a call of the source that is under way need not come to its end.
    clock : callable
        Seconds; passed in by tests.

    Attributes
    ----------
    error : Exception or None
        Why the last look failed.
    """

    def __init__(
        self,
        source: Source,
        interval_s: float,
        close_source: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self.error: Exception | None = None
        self._source = source
        self._interval_s = interval_s
        self._close_source = close_source
        self._interrupt = interrupt
        self._clock = clock
        self._behind_bytes: int | None = None
        self._level_at: float | None = None
        self._n_errors = 0
        # One step at a time: asked for by the thread and by `refresh`.
        self._stepping = threading.Lock()
        self._wait_s: float = getattr(source, "wait_s", 0.0)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # ---------------------------------------------------------------------------------------------------- the thread

    def begin(self, database: Database) -> None:
        """Let a database that was just opened follow; a new one takes in what there is."""
        store = database._store
        assert store is not None
        database._following = self
        if not store.lineage.is_follower:
            self.refresh(database)
        self.start(database)

    def start(self, database: Database) -> None:
        """Begin to look by itself, if it is to."""
        self._stop.clear()
        if self._interval_s > 0:
            thread = threading.Thread(
                target=_run,
                args=(weakref.ref(self), weakref.ref(database), self._stop),
                name="kektordb-follow",
                daemon=True,
            )
            thread.start()
            self._thread = thread

    def stop(self, timeout: float | None = None) -> None:
        """Look no more by itself; waits until a step that is under way has ended."""
        self._stop.set()
        if self._interrupt is not None:
            self._interrupt()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        if self._close_source is not None:
            self._close_source()  # only files that are open: it goes on when it is asked again

    @property
    def waits(self) -> bool:
        """Whether the source may be asked to wait for something new: there is nothing else, and nothing is wrong."""
        return self._wait_s > 0 and self._behind_bytes == 0 and self._n_errors == 0

    def ask_ahead(self, asked: Position) -> Ahead:
        """Ask what comes behind a position, and wait for it: without a lock, so that `refresh` need not."""
        began = self._clock()
        message: bytes | Exception
        try:
            message = self._source.read(str(asked), MAX_CHUNK_BYTES, self._wait_s)
        except Exception as error:  # raised again where it is looked at
            message = error
        return Ahead(asked, message, self._clock() - began)

    def look(self, database: Database, ahead: Ahead | None = None) -> float:
        """Take in what there is, for the thread; return after how many seconds to look again."""
        try:
            n_bytes = self._step(database, ahead)
        except Exception as error:  # the outermost loop of the thread
            self._note_error(database, error)
            self._n_errors += 1
            return min(MAX_PAUSE_S, self._interval_s * float(2 ** min(self._n_errors, 10)))
        self._n_errors = 0
        if self._behind_bytes != 0:
            return 0.0
        if self._wait_s == 0:
            return self._interval_s
        # A source that did not wait, though it had nothing, is not asked without end.
        waited_s = 0.0 if ahead is None else ahead.seconds
        return 0.0 if n_bytes else max(0.0, self._interval_s - waited_s)

    def _note_error(self, database: Database, error: Exception) -> None:
        if repr(error) != repr(self.error) and not database.closed:
            _log.warning("%r does not follow for now: %s", database, error)
        self.error = error

    # --------------------------------------------------------------------------------------------------- following

    def refresh(self, database: Database) -> int:
        """Take in all that the leader had when this was called; return how many records further that is."""
        store = database._store
        assert store is not None
        before = store.last_seq
        try:
            self._catch_up(database)
        except Exception as error:
            self.error = error
            raise
        return store.last_seq - before

    def _catch_up(self, database: Database) -> None:
        left, n_snapshots = None, 0
        while n_snapshots < MAX_SNAPSHOTS:
            n_bytes = self._step(database)
            if n_bytes is None:
                left, n_snapshots = None, n_snapshots + 1
                continue
            left = self._behind_bytes if left is None else left - n_bytes
            if not n_bytes or not self._behind_bytes or not left or left < 0:
                break  # also when it was promoted meanwhile: then nothing comes any more

    def _step(self, database: Database, ahead: Ahead | None = None) -> int | None:
        """Ask once and apply what comes; return how many bytes that was, or None for a snapshot."""
        with self._stepping:
            if database._following is not self:  # it was promoted meanwhile
                return 0
            here = position_of(database)
            try:
                if ahead is None or ahead.asked != here:  # by `refresh`, meanwhile
                    with LetThrough():
                        message = self._source.read(str(here), MAX_CHUNK_BYTES, 0.0)
                elif isinstance(ahead.message, Exception):
                    raise ahead.message
                else:
                    message = ahead.message
            except SnapshotNeeded:
                store = database._store
                assert store is not None
                with naming_errors(f"cannot take a snapshot into {store.path}"):
                    self._take_snapshot(database, store)
                self._behind_bytes = None
                return None
            chunk = decode_message(message, Chunk)
            apply(database, chunk)
            self.error = None
            self._behind_bytes = chunk.behind_bytes
            if not chunk.behind_bytes:
                self._level_at = self._clock()
            return sum(len(record.payload) for record in chunk.records)

    def stats(self) -> dict[str, Any]:
        """Say how far behind the leader this is; None for what is not known since it was opened."""
        return {
            "behind_bytes": self._behind_bytes,
            "level_before_s": None if self._level_at is None else max(0.0, self._clock() - self._level_at),
            "error": None if self.error is None else str(self.error),
        }

    def promote(self, database: Database) -> None:
        """Do what `Database.promote` says."""
        database._refuse_inside_write()
        self.stop()
        try:
            with self._stepping, database._save_lock.alone, database._commits.lock.alone:
                database._live()
                if database._following is self:
                    database._commits.require_applied()
                    store = database._store
                    assert store is not None
                    old = store.lineage
                    branches = (*old.branches, Branch(old.history, store.last_seq))
                    store.begin_save(Lineage(os.urandom(16), False, branches))
                    database._following, database._read_only = None, False
        except BaseException:
            self.start(database)
            raise

    # --------------------------------------------------------------------------------------------------- snapshots

    def _take_snapshot(self, database: Database, store: Store) -> None:
        """Let the leader's newest snapshot take the place of everything; searches under way end in the old state.

        1. Receive it into a temporary file and load it, beside the old state.
        2. Under the locks of a save and of writes: make it the files of this database, and exchange the states.
        """
        backend, path = store._backend, store._require_directory().join(RECEIVED)
        with contextlib.suppress(FileNotFoundError):
            backend.unlink(path)
        try:
            handover = _receive(self._source, store, path)
            files = SnapshotFiles(lambda _: path, lambda _: backend.open(path, "read"))
            snapshot = open_snapshot(files, 0, None, None)
            try:
                require_within(handover.lineage, position_of(database), "the leader")
                if handover.seq < store.last_seq:
                    raise HistoryDiverged(f"the leader has gone back to record {handover.seq}")
                if snapshot.seq != handover.seq:
                    raise CorruptData("the snapshot that was received is not the one that was announced", path)
                state = State(database._state.n_threads)
                state.load(snapshot.meta, snapshot)
                with Uninterrupted(), database._save_lock.alone, database._commits.lock.alone:
                    database._live()
                    adopt(store, snapshot, Place(handover.seq, handover.digest), handover.lineage)
                    state.succeed(database._state)
                    database._state = state
                    database._commits.exchange(state, store)
                    database._commits.n_changes, database._commits.apply_s = 0, 0.0
            finally:
                snapshot.close()
        finally:
            with contextlib.suppress(OSError):
                backend.unlink(path)


def position_of(database: Database) -> Position:
    """Return how far a follower has come."""
    store = database._store
    assert store is not None
    place, lineage = store.place, store.lineage
    return Position(lineage.history if lineage.is_follower else b"", place.seq, place.digest)


def apply(database: Database, chunk: Chunk) -> None:
    """Log the records of a chunk and apply them. Raises HistoryDiverged, MemoryError, StorageError."""
    store = database._store
    assert store is not None
    lineage = chunk.lineage
    require_within(lineage, position_of(database), "the leader")
    if store.lineage != lineage:
        # Before the first record of another history: what follows in the log is that of this one.
        with Uninterrupted(), database._save_lock.alone, database._commits.lock.alone:
            database._live()
            store.begin_save(lineage)
    records, place = chunk.records, store.place
    seq, digest = place.seq, place.digest
    for record in records:
        seq, digest = foreseen(seq, digest, record.type, record.payload)
        if seq != record.seq:
            break
    if (seq, digest) != (chunk.seq, chunk.digest):
        raise HistoryDiverged(f"{database!r} has come to record {place.seq}, and what it received does not go on there")
    start = 0
    for operation, n in joined(decoded(records)):
        between()
        with Uninterrupted(), database._commits.lock.alone:
            database._live()
            _log_and_apply(database, operation, records[start : start + n])
        start += n


def _log_and_apply(database: Database, operation: Operation, records: Sequence[Shipped]) -> None:
    """Log records and apply what they mean together; the commit lock is held. On an error what is logged is applied.

    The same steps as those of a write in `Commits`.
    """
    commits, store, state = database._commits, database._store, database._state
    assert store is not None
    commits.require_applied()
    state.reserve(operation)
    n = 0
    try:
        for record in records:
            store.append(record.type, [record.payload])
            n += 1
    except StorageError:
        # What came before a record that found no room stays: it is applied by itself.
        commits._unfinished = n > 0
        state.replay(decoded(records[:n]))
        commits._unfinished = False
        raise
    commits._unfinished = True
    commits._make_durable()
    commits._apply(operation, None, None)
    commits._unfinished = False
    state.tidy()


def _receive(source: Source, store: Store, path: str) -> Handover:
    """Write the snapshot of a source to a file, and return what it said of it."""
    start = bytearray()
    n_start: int | None = None
    file = store._backend.open(path, "create")

    def write(data: bytes) -> None:
        nonlocal n_start
        between()
        if n_start is None or len(start) < n_start:
            start.extend(data)
            if len(start) < HANDOVER_LENGTH.size:
                return
            n_start = HANDOVER_LENGTH.size + HANDOVER_LENGTH.unpack_from(start)[0]
            if n_start > MAX_HANDOVER_BYTES:
                raise CorruptData("what was received from the leader does not begin as a snapshot does")
            data = bytes(start[n_start:])
            del start[n_start:]
        write_all(file, data)

    try:
        source.snapshot(write)
    finally:
        file.close()
    return decode_message(bytes(start[HANDOVER_LENGTH.size :]), Handover)


def _run(following_ref: weakref.ref[Following], database_ref: weakref.ref[Database], stop: threading.Event) -> None:
    # Weak references, so that a database that was forgotten rather than closed still goes away.
    pause_s, ahead = 0.0, None
    while not stop.wait(pause_s):
        following, database = following_ref(), database_ref()
        if following is None or database is None or database.closed:
            return
        if following.waits and ahead is None:
            asked = position_of(database)
            del database
            ahead, pause_s = following.ask_ahead(asked), 0.0
            continue
        pause_s, ahead = following.look(database, ahead), None
        del following, database
