"""How is a database made of what is left of a damaged one? In a new place; the damaged files stay as they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from kektordb import freezing
from kektordb.collection import Collection
from kektordb.errors import KektorError
from kektordb.interrupts import between, in_slices
from kektordb.kv import KeyValue
from kektordb.operations import (
    Configure,
    Convert,
    CreateIndex,
    DeleteItems,
    DropIndex,
    Group,
    IndexConfig,
    Operation,
    PutItems,
    PutMetadata,
    decode,
)
from kektordb.progress import Progress, check_progress, onward, show
from kektordb.reading import n_cores
from kektordb.safety.backup import require_empty
from kektordb.safety.rebuilding import Lost, rebuild, salvage_pairs
from kektordb.state import Reader, State
from kektordb.storage import FileReport, inspect_files, write_directory
from kektordb.storage.inspection import TORN
from kektordb.storage.salvage import Gap, Pieces, Salvage
from kektordb.validation import check_path

__all__ = ["RepairReport", "repair"]


class RepairReport(msgspec.Struct, frozen=True):
    """What a repair kept, and what it could not keep.

    Attributes
    ----------
    path, out : str
        The damaged database, and the new one.
    files : tuple of FileReport
        Every damaged place of the old one.
    n_indexes, n_items, n_keys : int
        What the new one holds.
    n_records : int
        Records of the log that were applied.
    rebuilt : tuple of str
        Indexes whose graph, columns and texts were made anew from their items.
    lost : tuple of Lost
        Empty when nothing was lost.
    """

    path: str
    out: str
    files: tuple[FileReport, ...]
    n_indexes: int
    n_items: int
    n_keys: int
    n_records: int
    rebuilt: tuple[str, ...]
    lost: tuple[Lost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


@in_slices
def repair(path: str | os.PathLike[str], out: str | os.PathLike[str], *, progress: Progress = False) -> RepairReport:
    """Make a new database of everything that can still be read of a damaged one, and say what cannot.

    Every record of the log and every block of the snapshot whose check is right is used. An item is kept when its id
    and vector are; graphs, columns and texts are made anew where they are damaged. Records behind a gap are applied
    where they have a meaning without it.

    Parameters
    ----------
    path : str or path
        The database, which nobody has open for writing, or a backup file. It is not changed.
    out : str or path
        A directory that is empty, or not there. A process that is killed leaves nothing in it that opens.
    progress : bool or callable
        True shows a bar; a function is called with (done, total) rows.

    Raises
    ------
    StorageError, StorageFull, DatabaseLocked, ConfigError
        There is no database, `out` is not empty, or cannot be written. Nothing was made.
    """
    source, target = os.path.abspath(check_path(path)), os.path.abspath(check_path(out))
    check_progress(progress)
    require_empty(target)
    with Salvage.open(source) as salvage:
        files = inspect_files(source)
        patient = _Patient(salvage.pieces, is_verified=not salvage.unverified)
        with show(progress, patient.n_rows, "repairing", "rows") as step:
            patient.load(step or (lambda _: None))
        patient.replay(salvage, {file.name for file in files if file.verdict == TORN})
    lost = [Lost("snapshot", f"{name} cannot be read; what is in no older one is lost") for name in salvage.passed_over]
    lost += [
        Lost("snapshot", f"{name}: no check is left of its table, it may be damaged") for name in salvage.unverified
    ]
    lost += [Lost("log", f"{name} belongs to another database, or cannot be read") for name in salvage.foreign]
    state = patient.state
    frozen = state.freeze(whole=True)
    write_directory(target, patient.seq, frozen.meta, frozen.sections, None)
    n_items = sum(len(collection) for _, collection in state.indexes())
    return RepairReport(
        source,
        target,
        files,
        len(state.numbers),
        n_items,
        state.kv.n_own,
        patient.n_records,
        tuple(patient.rebuilt),
        (*lost, *patient.lost),
    )


class _Catalogue(msgspec.Struct):
    next_number: int
    indexes: list[dict[str, Any]]


# What comes of a catalogue that is not as it was written.
_IMPOSSIBLE = (KektorError, KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError)


def _n_rows(entry: dict[str, Any]) -> int:
    return 0 if entry["graph"] is None else int(entry["graph"]["n"])


class _Patient:
    """A state on its way back, and what is lost of it."""

    def __init__(self, pieces: Pieces | None, is_verified: bool) -> None:
        self.state = State(n_cores())
        self.lost: list[Lost] = []
        self.rebuilt: list[str] = []
        self.n_records = 0
        self.seq = 0 if pieces is None else pieces.seq
        self._pieces = pieces
        self._is_verified = is_verified
        self._next_number = 1
        self._entries: list[tuple[dict[str, Any], int]] = []  # with the number of rows
        if pieces is not None:
            try:
                catalogue = msgspec.msgpack.decode(pieces.meta, type=_Catalogue)
                self._entries = [(entry, _n_rows(entry)) for entry in catalogue.indexes]
                self._next_number = catalogue.next_number
            except _IMPOSSIBLE as error:
                self.lost.append(Lost("snapshot", f"its catalogue cannot be read: {error!r}"))
        self.n_rows = sum(n for _, n in self._entries)

    # ---------------------------------------------------------------------------------------------------- the snapshot

    def load(self, step: Callable[[int], None]) -> None:
        """Load what the snapshot holds; `step` is told how many rows are done."""
        pieces, done = self._pieces, 0
        if pieces is None:
            return
        self.state.next_number = self._next_number
        for entry, n in self._entries:
            try:
                collection = self._index(entry, pieces, onward(step, done))
                self.state.numbers[entry["name"]] = entry["number"]
                self.state.collections[entry["number"]] = collection
            except _IMPOSSIBLE as error:
                name = str(entry.get("name", ""))
                self.lost.append(Lost("items", f"what the catalogue says of the index cannot be: {error!r}", name, n))
            done += n
            step(done)
        self._keys(pieces)

    def _index(self, entry: dict[str, Any], pieces: Pieces, step: Callable[[int], None]) -> Collection:
        config, prefix = IndexConfig.from_dict(entry["config"]), f"{entry['number']}/"
        if self._is_verified and not pieces.lost(prefix=prefix):
            try:
                return freezing.load(config, entry, Reader(pieces, prefix))
            except KektorError:
                pass  # the bytes are those that were written, but they were wrong then already
        collection, lost = rebuild(entry["name"], config, entry, pieces, prefix, self.state.n_threads, step)
        self.rebuilt.append(entry["name"])
        self.lost += lost
        return collection

    def _keys(self, pieces: Pieces) -> None:
        ranges = pieces.lost("kv/pairs")
        try:
            if not ranges:
                self.state.kv.load(pieces)
                return
        except KektorError:
            pass
        pairs, lost = salvage_pairs(pieces.read("kv/pairs"), ranges)
        self.state.kv = KeyValue()
        for key, value in pairs.items():
            self.state.kv.set(key, value)
        self.lost += lost

    # --------------------------------------------------------------------------------------------------------- the log

    def replay(self, salvage: Salvage, torn: set[str]) -> None:
        """Apply what the logs hold after the snapshot; what is missing at the end of a torn one was never promised."""
        for found in salvage.records():
            if isinstance(found, Gap):
                if found.file not in torn:
                    self._note_gap(found)
                continue
            self.seq = max(self.seq, found.seq)
            try:
                operations = list(_single(decode(found.type, found.payload)))
            except KektorError as error:
                self.lost.append(Lost("records", f"record {found.seq}: {error}", n=1))
                continue
            self.n_records += 1
            between()
            for operation in operations:
                why = self._apply(operation)
                if why:
                    self.lost.append(self._refused(operation, f"record {found.seq}: {why}"))

    def _note_gap(self, gap: Gap) -> None:
        n = gap.last - gap.first + 1 if gap.last else -1
        self.seq = max(self.seq, gap.last)
        records = f"records {gap.first} to {gap.last}" if gap.last else f"records from {gap.first} on"
        where = f"{gap.n_bytes:,} bytes at byte {gap.offset:,} of {gap.file}" if gap.n_bytes else f"{gap.file}"
        self.lost.append(Lost("records", f"{records}, {where}", n=n))

    def _apply(self, operation: Operation) -> str:
        """Apply an operation if it has a meaning without what is lost; return why not."""
        state = self.state
        number = getattr(operation, "number", None)
        if isinstance(operation, CreateIndex):
            if number in state.collections:
                return "an index of this number is there already"
            if operation.name in state.numbers:  # that it was dropped is lost
                state.apply(DropIndex(state.numbers[operation.name]))
        elif isinstance(operation, PutItems | DeleteItems | PutMetadata | Convert | Configure):
            collection = state.collections.get(operation.number)
            if collection is None:
                return "it is of an index whose beginning is lost, or that was dropped"
            if isinstance(operation, PutItems):
                if collection.dim not in (0, operation.vectors.shape[1]):
                    return f"vectors of {operation.vectors.shape[1]} dimensions, the index has {collection.dim}"
                # That an item of the same id was deleted may be lost.
                operation = msgspec.structs.replace(operation, replace=True)
            elif isinstance(operation, PutMetadata) and not collection.has(operation.id):
                return "the item is lost"
        try:
            state.reserve(operation)
            state.apply(operation)
            state.tidy()
        except KektorError as error:
            return str(error)
        return ""

    def _refused(self, operation: Operation, why: str) -> Lost:
        number = getattr(operation, "number", -1)
        name = next((name for name, found in self.state.numbers.items() if found == number), "")
        if isinstance(operation, PutItems):
            return Lost("items", why, name, len(operation.ids), tuple(operation.ids))
        if isinstance(operation, PutMetadata):
            return Lost("metadata", why, name, 1, (operation.id,))
        return Lost("records", f"{why} ({type(operation).__name__})", name, 1)


def _single(operation: Operation) -> Iterator[Operation]:
    if isinstance(operation, Group):
        yield from operation.members()
    else:
        yield operation
