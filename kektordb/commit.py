"""In which order do writes happen? Checked, logged, made durable by policy, applied: one writer at a time.

A write is a function that looks at the state and returns an operation, or raises. The protocol:

1. The caller asks for the commit lock. Under the policy ``always`` it queues its write before that; who gets the lock
   leads, and takes all writes queued by then.
2. For each write: check it against the state and the writes accepted before it; get the memory it will take; append it
   to the log. A write that fails here leaves nothing behind, and the others go on.
3. Make the log durable: once for all of them, under the policy ``always``. If that fails, none of them is applied.
4. Apply them in the order of the log, and let their callers go.

So callers that come while a leader waits for the disk share the next sync, and no reader sees what is not in the log.
Under the other policies a write is applied at once after its append.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any

from kektordb._metrics import Latencies
from kektordb.collection import Collection, Step
from kektordb.errors import ConfigError, KektorError, StorageFailed
from kektordb.interrupts import Uninterrupted
from kektordb.kv import KeyValue, PendingPairs
from kektordb.operations import (
    Convert,
    CreateIndex,
    DeleteItems,
    DeleteKey,
    DropIndex,
    Group,
    Operation,
    PutItems,
    PutKey,
    PutMetadata,
    encode,
)
from kektordb.state import State

if TYPE_CHECKING:
    from kektordb.storage import Store

__all__ = ["Build", "Commits", "Exclusive", "Pending"]

Build = Callable[["Pending"], Operation | None]

_get_ident = threading.get_ident


class Unsettled(Exception):
    """A write cannot be checked before the pending operations are applied."""


class Exclusive:
    """A lock that tells a thread which holds it already, rather than letting it wait for itself for ever.

    ``with exclusive.alone: …`` takes and gives back Python's own lock, without a step of Python's in which an interrupt
    could come after it was taken and before it is known that it must be given back.

    Parameters
    ----------
    why : str
        What to tell it.
    """

    __slots__ = ("_lock", "_why")

    def __init__(self, why: str) -> None:
        self._why = why
        self._lock: Any = threading.RLock()  # it knows its holder; nobody takes it twice

    @property
    def alone(self) -> AbstractContextManager[object]:
        """What to wait for, and to hold, in a ``with``. Raises ConfigError when the calling thread holds it."""
        if self._lock._is_owned():
            raise ConfigError(self._why)
        lock: AbstractContextManager[object] = self._lock
        return lock

    def take_within(self, seconds: float) -> bool:
        """Take the lock unless that takes longer; return whether it was taken."""
        self.refuse_holder()
        taken: bool = self._lock.acquire(timeout=seconds)
        return taken

    def give_back(self) -> None:
        """Give back what `take_within` took."""
        self._lock.release()

    @property
    def is_taken(self) -> bool:
        """Whether some thread holds the lock; may be old news at once, but not of the calling thread."""
        if self._lock._is_owned():
            return True
        if not self._lock.acquire(blocking=False):
            return True
        self._lock.release()
        return False

    def refuse_holder(self) -> None:
        """Raise ConfigError when the calling thread holds the lock."""
        if self._lock._is_owned():
            raise ConfigError(self._why)


class Pending:
    """The items and keys of the state as they will be when the accepted operations are applied.

    Parameters
    ----------
    state : State
    in_batch : bool
        They are applied only when the caller's batch ends.

    Attributes
    ----------
    pairs : PendingPairs or None
        In a batch, which may look at them.
    """

    __slots__ = ("_dims", "_items", "pairs", "state")

    def __init__(self, state: State, in_batch: bool = False) -> None:
        self.state = state
        self._items: dict[tuple[int, str], bytes | None] = {}
        self.pairs = PendingPairs(state.kv) if in_batch else None
        self._dims: dict[int, int] = {}

    def settle(self) -> None:
        """Say that a write needs the state itself. Raises Unsettled when operations on items may be pending."""
        if self._items or self.pairs is not None:
            raise Unsettled

    @property
    def has_items(self) -> bool:
        """Whether operations on items are pending."""
        return bool(self._items)

    def note(self, operation: Operation) -> None:
        """Take in an accepted operation."""
        match operation:
            case PutItems():
                self._dims.setdefault(operation.number, operation.vectors.shape[1])
                for id, blob in zip(operation.ids, operation.metadata, strict=True):
                    self._items[operation.number, id] = blob
            case DeleteItems():
                for id in operation.ids:
                    self._items[operation.number, id] = None
            case PutMetadata():
                self._items[operation.number, operation.id] = operation.metadata
            case PutKey() if self.pairs is not None:
                self.pairs.change(operation.key, operation.value)
            case DeleteKey() if self.pairs is not None:
                self.pairs.change(operation.key, None)
            case Group():
                for member in operation.members():
                    self.note(member)

    def dim(self, number: int, collection: Collection) -> int:
        """Return the dimension of an index; 0 while nothing decides it."""
        return collection.dim or self._dims.get(number, 0)

    def has(self, number: int, collection: Collection, id: str) -> bool:
        """Tell whether an item exists."""
        if self._items and (number, id) in self._items:
            return self._items[number, id] is not None
        return collection.ids.find_str(id) >= 0

    def first_known(self, number: int, collection: Collection, ids: list[str]) -> str | None:
        """Return the first of `ids` of which an item exists, or None."""
        if self._items:
            return next((id for id in ids if self.has(number, collection, id)), None)
        place = collection.ids.find_first(ids)
        return None if place < 0 else ids[place]

    def metadata(self, number: int, id: str) -> bytes | None:
        """Return pending metadata of an item, or None when nothing is pending for it."""
        return self._items.get((number, id))


class _Write:
    """One caller's write on its way."""

    __slots__ = ("build", "done", "error", "n_threads", "operation", "step")

    def __init__(self, build: Build, n_threads: int | None, step: Step | None) -> None:
        self.build = build
        self.n_threads = n_threads
        self.step = step
        self.operation: Operation | None = None
        self.error: BaseException | None = None
        self.done = False


class Commits:
    """The order of writes of one database.

    Parameters
    ----------
    state : State
    store : Store or None
        Where the log is; None for a database in memory.
    share_syncs : bool
        The policy is ``always``: writes that were queued together are made durable together.
    """

    def __init__(self, state: State, store: Store | None, share_syncs: bool) -> None:
        self.lock = Exclusive("expected this call outside of db.batch() and of the progress function of a write")
        self.n_changes = 0
        self.apply_s = 0.0
        self.latencies = Latencies()
        self._state = state
        self._store = store
        self._share_syncs = share_syncs and store is not None
        self._queue: deque[_Write] = deque()
        self._batch: _Batch | None = None
        self._unfinished = False

    def commit(self, build: Build, n_threads: int | None = None, step: Step | None = None) -> Operation | None:
        """Let a write happen, and return its operation; None when there was nothing to do.

        Raises what `build` raises, MemoryError, StorageError: nothing moved.
        """
        batch = self._batch
        if batch is not None and batch.thread == _get_ident():
            return batch.add(build)
        if not self._share_syncs:
            began = perf_counter_ns()
            with Uninterrupted(), self.lock.alone:
                operation = self._commit_alone(build, n_threads, step)
            self.latencies.note(perf_counter_ns() - began)
            return operation
        self.lock.refuse_holder()
        began = perf_counter_ns()
        write = _Write(build, n_threads, step)
        self._queue.append(write)
        with Uninterrupted(), self.lock.alone:
            if not write.done:
                self._lead()
        if write.error is not None:
            raise write.error
        self.latencies.note(perf_counter_ns() - began)
        return write.operation

    def exchange(self, state: State, store: Store | None) -> None:
        """Let another state take the place of the present one; the lock is held."""
        self._state, self._store = state, store

    def require_applied(self) -> None:
        """Raise StorageFailed when the log is ahead of memory: no snapshot and no write may pretend otherwise."""
        if self._unfinished:
            raise StorageFailed("a write was interrupted after it was logged; open the database again: nothing is lost")

    def _commit_alone(self, build: Build, n_threads: int | None, step: Step | None) -> Operation | None:
        """Do all steps for one write; the lock is held."""
        self.require_applied()
        operation = build(Pending(self._state))
        if operation is not None:
            self._append(operation)
            self._make_durable()
            self._apply(operation, n_threads, step)
            self._unfinished = False
            self._state.tidy()
        return operation

    def _lead(self) -> None:
        writes = []
        while self._queue:
            writes.append(self._queue.popleft())
        try:
            self.require_applied()
            self._lead_shared(writes)
        finally:
            for write in writes:
                if not write.done:
                    write.error = write.error or StorageFailed("the writer was interrupted; open the database again")
                    write.done = True

    def _lead_shared(self, writes: list[_Write]) -> None:
        pending = Pending(self._state)
        appended: list[_Write] = []
        for write in writes:
            try:
                try:
                    operation = write.build(pending)
                except Unsettled:
                    self._finish(appended)
                    pending, appended = Pending(self._state), []
                    operation = write.build(pending)
                if operation is None:
                    write.done = True
                    continue
                self._append(operation, [other.operation for other in appended if other.operation is not None])
            except Exception as error:  # belongs to the caller of this write, not to the one that leads
                write.error = error
                write.done = True
                continue
            write.operation = operation
            pending.note(operation)
            appended.append(write)
            if _changes_indexes(operation):
                # Later writes see the indexes as they are now.
                self._finish(appended)
                pending, appended = Pending(self._state), []
        self._finish(appended)

    def _finish(self, appended: list[_Write]) -> None:
        """Steps 3 and 4 for writes that share a sync."""
        if not appended:
            return
        try:
            self._make_durable()
        except KektorError as error:
            for write in appended:
                write.error = error
                write.done = True
            return
        for write in appended:
            assert write.operation is not None
            self._apply(write.operation, write.n_threads, write.step)
            write.done = True
        self._unfinished = False
        self._state.tidy()

    def _append(self, operation: Operation, waiting: Sequence[Operation] = ()) -> None:
        """Step 2 for a checked operation. From here until it is applied the log is ahead of memory.

        Those that wait to be applied need their memory beside it.
        """
        self._state.reserve(Group((*waiting, operation)) if waiting else operation)
        if self._store is not None:
            self._store.append(*encode(operation))
        self._unfinished = True

    def _make_durable(self) -> None:
        if self._store is None:
            return
        try:
            self._store.after_append()
        except KektorError:
            # Nothing of this was applied, and the store refuses all that follows.
            self._unfinished = False
            raise

    def _apply(self, operation: Operation, n_threads: int | None, step: Step | None) -> None:
        start = perf_counter()
        self._state.apply(operation, n_threads, step)
        self.apply_s += perf_counter() - start
        self.n_changes += _n_changes(operation)
        self._count(operation)

    def _count(self, operation: Operation) -> None:
        match operation:
            case PutItems() | DeleteItems():
                collection = self._state.collections.get(operation.number)
                if collection is not None and isinstance(operation, PutItems):
                    collection.tally.n_added += len(operation.ids)
                elif collection is not None:
                    collection.tally.n_deleted += len(operation.ids)
            case Group():
                for member in operation.members():
                    self._count(member)

    # ------------------------------------------------------------------------------------------------------- batches

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Collect the writes of this thread, to let them happen as one; other threads wait. An error forgets them."""
        if self._batch is not None and self._batch.thread == _get_ident():
            raise ConfigError("expected one batch at a time, got db.batch() inside db.batch()")
        with self.lock.alone:
            batch = _Batch(Pending(self._state, in_batch=True))
            try:
                self._batch = batch
                yield
                with Uninterrupted():
                    self._batch = None
                    if batch.operations:
                        group = Group(tuple(batch.operations))
                        self._commit_alone(lambda _: group, None, None)
            finally:
                self._batch = None

    def kv(self) -> KeyValue | PendingPairs:
        """Return the key-value pairs as the calling thread sees them: with the changes of its own batch."""
        batch = self._batch
        own = None if batch is None or batch.thread != _get_ident() else batch.pending.pairs
        return self._state.kv if own is None else own


def _changes_indexes(operation: Operation) -> bool:
    if isinstance(operation, Group):
        return any(map(_changes_indexes, operation.members()))
    return isinstance(operation, CreateIndex | DropIndex | Convert)


def _n_changes(operation: Operation) -> int:
    match operation:
        case PutItems() | DeleteItems():
            return len(operation.ids)
        case Group():
            return sum(map(_n_changes, operation.operations))
    return 1


class _Batch:
    """The writes of a ``with db.batch()``, checked and waiting."""

    def __init__(self, pending: Pending) -> None:
        self.thread = _get_ident()
        self.operations: list[Operation] = []
        self.pending = pending

    def add(self, build: Build) -> Operation | None:
        try:
            operation = build(self.pending)
        except Unsettled:
            raise ConfigError(
                "expected only writes by id in db.batch(), got one that needs what is pending in it: an index to "
                "create or drop, or a filter to delete by"
            ) from None
        if isinstance(operation, CreateIndex | DropIndex):
            raise ConfigError("expected items and keys in a batch, got an index that is created or dropped")
        if operation is not None:
            self.pending.note(operation)
            self.operations += operation.members() if isinstance(operation, Group) else [operation]
        return operation
