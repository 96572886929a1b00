"""What does a database hold in memory, and what does an operation do to it?

`apply` is the only meaning of an operation: live writes and replay go through it alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np

from kektordb import freezing
from kektordb.collection import Collection, Step
from kektordb.errors import CorruptLog, CorruptSnapshot, IndexNotFound, KektorError, ReplicationError, StorageError
from kektordb.interrupts import between
from kektordb.kv import KeyValue
from kektordb.operations import (
    Configure,
    Convert,
    CreateIndex,
    DeleteItems,
    DeleteKey,
    DropIndex,
    Group,
    IndexConfig,
    Operation,
    PutItems,
    PutKey,
    PutMetadata,
)
from kektordb.precision import convert, reserve_conversion
from kektordb.types import Section, SectionReader

__all__ = ["FrozenState", "Reader", "State", "joined"]

_TAKE_MEMORY = (PutItems, PutMetadata)
# What comes of contents that no version writes, but whose checks are right.
_STRANGE = (KektorError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


class FrozenState(msgspec.Struct, frozen=True):
    """A view of the state as it was at one moment, on its way into a snapshot.

    Attributes
    ----------
    meta : bytes
        The catalogue: what is not in sections.
    sections : list of Section
    collections : list of Collection
        Whose views `thaw` gives up.
    """

    meta: bytes
    sections: list[Section]
    collections: list[Collection]

    def thaw(self, saved: bool) -> None:
        """Give up the view; `saved`: it is in the newest snapshot. Nothing is applied meanwhile."""
        for collection in self.collections:
            freezing.thaw(collection, saved)


class Reader:
    """The sections of one owner: those of a snapshot whose names begin with `prefix`."""

    def __init__(self, snapshot: SectionReader, prefix: str) -> None:
        self._snapshot = snapshot
        self._prefix = prefix

    def size(self, name: str) -> int:
        """See `SectionReader`."""
        return self._snapshot.size(self._prefix + name)

    def read(self, name: str) -> bytearray:
        """See `SectionReader`."""
        return self._snapshot.read(self._prefix + name)

    def read_into(self, name: str, target: memoryview) -> None:
        """See `SectionReader`."""
        self._snapshot.read_into(self._prefix + name, target)


class State:
    """Indexes by name and number, and the key-value pairs.

    Parameters
    ----------
    n_threads : int
        Threads that link the rows of a batch, unless it says otherwise.
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self.numbers: dict[str, int] = {}
        self.collections: dict[int, Collection] = {}
        self.kv = KeyValue()
        self.next_number = 1
        self._untidy: list[Collection] = []

    def collection(self, name: str) -> Collection:
        """Return the index of this name. Raises IndexNotFound."""
        number = self.numbers.get(name) if isinstance(name, str) else None
        # It may be dropped between the two looks.
        found = None if number is None else self.collections.get(number)
        if found is None:
            raise IndexNotFound(f"expected the name of an index, got {name!r:.80}; there are {sorted(self.numbers)}")
        return found

    def indexes(self) -> list[tuple[str, Collection]]:
        """Return the indexes with their names, sorted, as they are now."""
        found = [(name, self.collections.get(number)) for name, number in sorted(self.numbers.items())]
        return [(name, collection) for name, collection in found if collection is not None]

    # ------------------------------------------------------------------------------------------------------ applying

    def reserve(self, operation: Operation) -> None:
        """Get the memory that `apply` will take, so that it cannot fail; MemoryError changes nothing."""
        if isinstance(operation, _TAKE_MEMORY):
            self._collection(operation.number).reserve((operation,))
        elif isinstance(operation, Convert):
            reserve_conversion(self._collection(operation.number), operation)
        elif isinstance(operation, Group):
            self._reserve_members(operation)

    def _reserve_members(self, group: Group) -> None:
        puts: dict[int, list[PutItems | PutMetadata]] = {}
        members = list(group.members())
        for member in members:
            if isinstance(member, _TAKE_MEMORY):
                puts.setdefault(member.number, []).append(member)
        for number, of_index in puts.items():
            self._collection(number).reserve(of_index)
        for member in members:
            if isinstance(member, Convert):
                reserve_conversion(self._collection(member.number), member)

    def apply(self, operation: Operation, n_threads: int | None = None, step: Step | None = None) -> None:
        """Let an operation happen. It was checked against this state, and its memory is reserved."""
        match operation:
            case PutItems():
                self._written(operation.number).put(operation, n_threads or self.n_threads, step)
            case DeleteItems():
                self._written(operation.number).delete(operation)
                if self.kv.links:
                    self._unlink(operation)
            case PutMetadata():
                self._written(operation.number).put_metadata(operation)
            case Convert():
                convert(self._collection(operation.number), operation)
            case Configure():
                collection = self._collection(operation.number)
                collection.config = collection.config.configured(operation.settings, operation.embedder)
            case PutKey():
                self.kv.set(operation.key, operation.value)
            case DeleteKey():
                self.kv.delete(operation.key)
            case CreateIndex():
                self.collections[operation.number] = Collection(operation.config)
                # Replaced, never changed: readers go through it without a lock.
                self.numbers = {**self.numbers, operation.name: operation.number}
                self.next_number = max(self.next_number, operation.number + 1)
            case DropIndex():
                name = self._name(operation.number)
                if name is not None:
                    self._forget(self.kv.links.of_space(name))
                self.numbers = {name: number for name, number in self.numbers.items() if number != operation.number}
                self.collections.pop(operation.number, None)
            case Group():
                for member in operation.operations:
                    self.apply(member, n_threads)

    def _unlink(self, deleted: DeleteItems) -> None:
        name = self._name(deleted.number)
        if name is not None:
            for id in deleted.ids:
                self._forget(self.kv.links.of_id(name, id))

    def _forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.kv.delete(key)

    def _name(self, number: int) -> str | None:
        return next((name for name, other in self.numbers.items() if other == number), None)

    def tidy(self) -> None:
        """Give back what applying left over; all that was reserved is applied. It cannot fail."""
        while self._untidy:
            self._untidy.pop().tidy()

    def _written(self, number: int) -> Collection:
        collection = self._collection(number)
        self._untidy.append(collection)
        return collection

    def _collection(self, number: int) -> Collection:
        try:
            return self.collections[number]
        except KeyError:
            raise KektorError(f"an operation names index number {number}, which does not exist") from None

    def replay(self, operations: Iterator[Operation], step: Callable[[], None] | None = None) -> None:
        """Apply logged operations, one after the other; single items that follow each other as one batch.

        Raises CorruptLog when one cannot be applied, although its check was right; the state is of no use then.
        """
        try:
            self._replay(operations, step)
        except (StorageError, ReplicationError):
            raise
        except _STRANGE as error:
            raise CorruptLog(f"an operation of the log cannot be applied: {error!r:.300}") from error

    def _replay(self, operations: Iterator[Operation], step: Callable[[], None] | None) -> None:
        for operation, n in joined(operations):
            between()
            if isinstance(operation, PutItems):
                self._collection(operation.number)
            self.reserve(operation)
            self.apply(operation)
            self.tidy()
            if step is not None:
                for _ in range(n):
                    step()

    # ---------------------------------------------------------------------------------------------------- snapshots

    def succeed(self, old: State) -> None:
        """Go on with what was counted of the same indexes in the state that this one takes the place of."""
        for number, collection in self.collections.items():
            if number in old.collections:
                collection.succeed(old.collections[number])

    def freeze(self, whole: bool) -> FrozenState:
        """Freeze a view of everything. Nothing is applied meanwhile; afterwards everything may be.

        Unless it must be `whole`, it may name sections of the newest snapshot.
        """
        sections: list[Section] = []
        indexes = []
        frozen: list[Collection] = []
        try:
            for name, number in self.numbers.items():
                collection = self.collections[number]
                frozen.append(collection)
                meta, parts = freezing.freeze(collection, whole)
                indexes.append({"number": number, "name": name, "config": collection.config.to_dict(), **meta})
                sections += [Section(f"{number}/{s.name}", s.item_bytes, s.n_bytes, s.read) for s in parts]
            sections += self.kv.freeze()
            meta_bytes = msgspec.msgpack.encode({"next_number": self.next_number, "indexes": indexes})
            return FrozenState(meta_bytes, sections, frozen)
        except BaseException:
            for collection in frozen:
                freezing.thaw(collection, saved=False)
            raise

    def load(self, meta: bytes, snapshot: SectionReader) -> None:
        """Fill an empty state from a snapshot. Raises CorruptSnapshot."""
        try:
            catalogue: dict[str, Any] = msgspec.msgpack.decode(meta)
            self.next_number = msgspec.convert(catalogue["next_number"], int)
            for entry in catalogue["indexes"]:
                number = msgspec.convert(entry["number"], int)
                config = IndexConfig.from_dict(entry["config"])
                self.collections[number] = freezing.load(config, entry, Reader(snapshot, f"{number}/"))
                self.numbers[msgspec.convert(entry["name"], str)] = number
            self.kv.load(snapshot)
            for space in self.kv.links.spaces() - {"", *self.numbers}:  # of indexes that a repair could not save
                self._forget(self.kv.links.of_space(space))
        except StorageError:
            raise
        except _STRANGE as error:
            raise CorruptSnapshot(f"a snapshot cannot be understood: {error!r:.300}") from error


# Rows that are replayed as one batch: enough for the threads, little enough to hold in memory twice.
_JOIN_ROWS = 4096


def joined(operations: Iterable[Operation]) -> Iterator[tuple[Operation, int]]:
    """Yield operations that mean the same: items that follow each other as one. With each, how many it stands for."""
    waiting: list[PutItems] = []
    seen: set[str] = set()
    for operation in operations:
        if waiting and not (isinstance(operation, PutItems) and _joins(waiting, seen, operation)):
            yield _join(waiting), len(waiting)
            waiting, seen = [], set()
        if isinstance(operation, PutItems):
            waiting.append(operation)
            seen.update(operation.ids)
        else:
            yield operation, 1
    if waiting:
        yield _join(waiting), len(waiting)


def _joins(waiting: list[PutItems], seen: set[str], operation: PutItems) -> bool:
    """Tell whether an operation can be one batch with those that wait."""
    if len(seen) + len(operation.ids) > _JOIN_ROWS:
        return False
    first = waiting[0]
    return (
        first.number == operation.number
        and first.replace == operation.replace
        and first.vectors.shape[1] == operation.vectors.shape[1]
        and seen.isdisjoint(operation.ids)
    )


def _join(puts: list[PutItems]) -> PutItems:
    if len(puts) == 1:
        return puts[0]
    first = puts[0]
    return PutItems(
        first.number,
        [id for put in puts for id in put.ids],
        np.concatenate([put.vectors for put in puts]),
        [blob for put in puts for blob in put.metadata],
        first.replace,
    )
