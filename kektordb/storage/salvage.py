"""What can still be read of damaged files? Every block and record whose check is right; the rest is told.

1. The newest snapshot whose table can be read is taken, also when its ends, or the manifest, are damaged or gone.
2. Its sections are read block by block; what damaged blocks held is zeros, and listed.
3. The logs after it are read in order. Behind a bad place reading goes on at the next record whose checks are right.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import NamedTuple, Self

from xxhash import xxh3_64_intdigest

from ..errors import CorruptData, StorageError
from .backend import Backend, File, OsBackend
from .codec import (
    BLOCK,
    FILE_HEADER_BYTES,
    FOOTER_BYTES,
    FOOTER_MAGIC,
    MAX_PART_BYTES,
    RECORD,
    FileHeader,
    Footer,
    Manifest,
    SectionTable,
    decode_log_header,
    decode_snapshot_header,
    decode_table,
)
from .directory import LOCK, NUMBERED, Directory, log_name, naming_errors
from .log import LogReader, Record
from .opening import backup_file, snapshot_files
from .snapshot import ALIGNMENT, Block, Snapshot, SnapshotFiles, open_alone

__all__ = ["Gap", "Pieces", "Salvage"]

WINDOW_BYTES = 4 << 20
TABLE_BYTES = 64 << 20  # no table is larger
TABLE_BEGIN = b"\x84\xa3seq"
_WORD = Struct("<Q")


class Gap(NamedTuple):
    """Records that cannot be read.

    Attributes
    ----------
    file : str
        Name of the log.
    offset, n_bytes : int
        Where they were.
    first, last : int
        Their sequence numbers; `last` is 0 when it is not known.
    """

    file: str
    offset: int
    n_bytes: int
    first: int
    last: int


class Pieces:
    """The sections of a snapshot as far as their blocks are sound; a `SectionReader`. What was lost is zeros."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.meta = snapshot.meta
        self.seq = snapshot.seq
        self.number = snapshot.number
        self._snapshot = snapshot
        self._blocks: dict[str, list[tuple[int, Block]]] = {}
        self._lost: dict[str, list[tuple[int, int]]] = {}
        for name, size in snapshot.sections().items():
            self._look(name, size)

    def size(self, name: str) -> int:
        """Return the size of a section in bytes; 0 when there is none of this name."""
        return self._snapshot.size(name)

    def read(self, name: str) -> bytearray:
        """Return a whole section."""
        target = bytearray(self.size(name))
        self.read_into(name, memoryview(target))
        return target

    def read_into(self, name: str, target: memoryview) -> None:
        """Fill `target`, writable bytes of exactly the section's size."""
        view = memoryview(target).cast("B") if target.nbytes else memoryview(bytearray())
        for at, block in self._blocks.get(name, ()):
            piece = view[at : at + block.raw_bytes]
            try:
                self._snapshot.unpack(block, piece)
            except StorageError:
                piece[:] = bytes(len(piece))
                self._lost[name].append((at, at + block.raw_bytes))
        for start, stop in self._lost.get(name, ()):
            view[start:stop] = bytes(stop - start)

    def lost(self, name: str = "", prefix: str = "") -> list[tuple[int, int]]:
        """Return the ranges of bytes that are lost of one section, or of all whose names begin with `prefix`."""
        if name:
            return self._lost.get(name, [])
        return [place for name, places in self._lost.items() if name.startswith(prefix) for place in places]

    def _look(self, name: str, size: int) -> None:
        self._lost[name], self._blocks[name] = [], []
        try:
            blocks = self._snapshot.blocks(name)
        except CorruptData:
            self._lost[name].append((0, size))
            return
        at, buffer = 0, bytearray()
        for block in blocks:
            if len(buffer) < block.stored_bytes + ALIGNMENT:
                buffer = bytearray(block.stored_bytes + ALIGNMENT)
            try:
                self._snapshot.stored(block, memoryview(buffer))
                self._blocks[name].append((at, block))
            except StorageError:
                self._lost[name].append((at, at + block.raw_bytes))
            at += block.raw_bytes


class Salvage:
    """The readable parts of a database directory or a backup.

    Attributes
    ----------
    pieces : Pieces or None
        Of the newest snapshot that can be read; None when there is none.
    passed_over : list of str
        Newer snapshots, of which nothing can be read.
    unverified : list of str
        Snapshots of whose table no check is left: nobody knows whether it is as it was written.
    foreign : list of str
        Logs of another database, or that cannot be read without knowing of which.
    """

    def __init__(self, files: SnapshotFiles, directory: Directory | None) -> None:
        self.pieces: Pieces | None = None
        self.passed_over: list[str] = []
        self.unverified: list[str] = []
        self.foreign: list[str] = []
        self._files = files
        self._directory = directory
        self._manifest: Manifest | None = None
        self._uuid: bytes | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str, backend: Backend | None = None) -> Iterator[Self]:
        """Open what there is; nothing is changed, and no writer may be at work. Raises DatabaseLocked, StorageError."""
        absolute, files = os.path.abspath(path), backend or OsBackend()
        with contextlib.ExitStack() as stack, naming_errors(f"cannot read {absolute}"):
            if files.exists(absolute) and not files.is_dir(absolute):
                found = cls(backup_file(absolute, files), None)
            else:
                directory = Directory(absolute, files, read_only=True)
                found = cls(snapshot_files(directory), directory)
                stack.callback(found._lock())
            stack.callback(found._files.close)
            found._find()
            yield found

    def _lock(self) -> Callable[[], None]:
        """Keep writers out, where there may be any; return what lets them in again."""
        assert self._directory is not None
        path = self._directory.join(LOCK)
        if self._directory.backend.exists(path):
            with contextlib.suppress(OSError):  # a medium that cannot be written to has no writer
                return self._directory.backend.lock(path).release
        return lambda: None

    def _find(self) -> None:
        if self._directory is None:
            self._take(0, None)
            return
        try:
            self._directory.require_manifest()
        except CorruptData:
            pass
        else:
            with contextlib.suppress(CorruptData):
                self._directory.open()
                self._manifest = self._directory.manifest
                self._uuid = self._manifest.uuid
        newest = 0 if self._manifest is None else self._manifest.snapshot
        if self._manifest is not None and newest == 0:
            return
        for number in sorted({newest, *self._numbers("snapshot")} - {0}, reverse=True):
            check = self._manifest.snapshot_check if self._manifest is not None and number == newest else None
            # What is newer than the manifest says is unfinished.
            if (self._manifest is None or number <= newest) and self._take(number, check):
                return

    def _numbers(self, kind: str) -> list[int]:
        assert self._directory is not None
        found = map(NUMBERED.fullmatch, self._directory.backend.listdir(self._directory.path))
        return sorted(int(match[2]) for match in found if match is not None and match[1] == kind)

    def _take(self, number: int, check: int | None) -> bool:
        try:
            snapshot = self._open_snapshot(number, check)
        except StorageError:
            self.passed_over.append(os.path.basename(self._files.path_of(number)))
            return False
        self.pieces = Pieces(snapshot)
        return True

    def _open_snapshot(self, number: int, check: int | None) -> Snapshot:
        try:
            snapshot, footer = open_alone(self._files, number, None)
            if check is not None and footer.table_check != check:
                raise StorageError(f"{self._files.path_of(number)}: not the snapshot that the manifest names")
            self._uuid = self._uuid or footer.uuid
            return snapshot
        except CorruptData:
            file = self._files.get(number)
            with contextlib.suppress(CorruptData):
                path = self._files.path_of(number)
                self._uuid = self._uuid or decode_snapshot_header(file.pread(FILE_HEADER_BYTES, 0), path).uuid
            snapshot, is_verified = _snapshot_by_table(self._files, number, check)
            if not is_verified:
                self.unverified.append(os.path.basename(self._files.path_of(number)))
            return snapshot

    def records(self) -> Iterator[Record | Gap]:
        """Yield what the logs hold after the snapshot, and what is missing between; may be called once."""
        if self._directory is None:
            return
        seq = 0 if self.pieces is None else self.pieces.seq
        first = 0 if self.pieces is None else self.pieces.number + 1
        named = {} if self._manifest is None else {log.number: log.seq for log in self._manifest.logs}
        for number in sorted({*named, *self._numbers("log")}):
            if number < first:
                continue
            try:
                file = self._directory.open_file(log_name(number), "read")
            except OSError:
                yield Gap(log_name(number), 0, 0, max(seq, named.get(number, seq)) + 1, 0)
                continue
            try:
                for found in self._read(file, number, max(seq, named.get(number, 0)), seq):
                    seq = max(seq, found.seq if isinstance(found, Record) else found.last)
                    yield found
            finally:
                file.close()

    def _read(self, file: File, number: int, starts_at: int, seq: int) -> Iterator[Record | Gap]:
        """Read one log; it should begin behind `starts_at`, and records up to `seq` are known."""
        assert self._directory is not None
        name = log_name(number)
        header = self._header(file, name)
        if header is not None and self._uuid is None:
            self._uuid = header.uuid
        if self._uuid is None or (header is not None and header.uuid != self._uuid):
            self.foreign.append(name)
            return
        if header is not None:
            starts_at = header.seq
        if starts_at > seq:
            yield Gap(name, 0, 0, seq + 1, starts_at)
        for found in _records(file, name, self._uuid, number, starts_at):
            if isinstance(found, Gap) or found.seq > seq:
                yield found

    def _header(self, file: File, name: str) -> FileHeader | None:
        assert self._directory is not None
        try:
            return decode_log_header(file.pread(FILE_HEADER_BYTES, 0), self._directory.join(name))
        except CorruptData:
            return None


def _snapshot_by_table(files: SnapshotFiles, number: int, check: int | None) -> tuple[Snapshot, bool]:
    """Find the table of a snapshot whose ends do not say where it is; tell also whether a check of it was left.

    Raises CorruptData, OSError.
    """
    file, path = files.get(number), files.path_of(number)
    size = file.size()
    start = max(FILE_HEADER_BYTES, size - TABLE_BYTES) // ALIGNMENT * ALIGNMENT
    tail = file.pread(size - start, start) if size > start else b""
    for at, body, is_verified in _tables(tail, -start % ALIGNMENT, check):
        footer = Footer(start + at, len(body), xxh3_64_intdigest(body), b"", number)
        with contextlib.suppress(CorruptData):
            table = decode_table(body, footer, path)
            ends = {old.number: (old.n_bytes, old.n_bytes) for old in table.files}
            own = number or max(_file_numbers(table.sections), default=1)
            return Snapshot(own, table, files, {**ends, own: (start + at, size)}), is_verified
    raise CorruptData("there is no table", path, size)


def _tables(tail: bytes, phase: int, check: int | None) -> Iterator[tuple[int, bytes, bool]]:
    """Yield what may be tables: where, the bytes, and whether a check says so; those first of which one does."""
    places = []
    at = tail.rfind(TABLE_BEGIN)
    while at >= 0:
        if at % ALIGNMENT == phase:
            # Where the end is cut, so many bytes of it are missing.
            places += [(at, stop) for stop in range(max(at, len(tail) - FOOTER_BYTES), len(tail) + 1)]
        at = tail.rfind(TABLE_BEGIN, 0, at)
    is_told = check is not None
    for at, stop in places:
        found, end = xxh3_64_intdigest(tail[at:stop]), tail[stop : stop + FOOTER_BYTES]
        told = int.from_bytes(end[24:32], "little") if len(end) >= 32 else None
        # The end is damaged somewhere: perhaps in a bit or two of what it says of the table.
        if found == check or (check is None and told is not None and (found ^ told).bit_count() <= 4):
            yield at, tail[at:stop], True
        is_told |= end[:8] == FOOTER_MAGIC and told is not None
    if not is_told:
        yield from ((at, tail[at:stop], False) for at, stop in places)


def _file_numbers(sections: Iterable[SectionTable]) -> Iterator[int]:
    """Yield the numbers of the files that blocks of a backup lie in: its own."""
    for section in sections:
        for row in BLOCK.iter_unpack(section.blocks[: len(section.blocks) // BLOCK.size * BLOCK.size]):
            yield row[0]


def _records(file: File, name: str, uuid: bytes, number: int, seq: int) -> Iterator[Record | Gap]:
    at = FILE_HEADER_BYTES
    while True:
        reader = LogReader(file, uuid, number, seq, None)
        reader.good_end = reader.stop_end = at
        yield from reader.records()
        if reader.good_end >= reader.size:
            return
        found = _next_record(file, reader)
        if found is None:
            yield Gap(name, reader.good_end, reader.size - reader.good_end, reader.good_seq + 1, 0)
            return
        at, next_seq = found
        yield Gap(name, reader.good_end, at - reader.good_end, reader.good_seq + 1, next_seq - 1)
        seq = next_seq - 1


def _next_record(file: File, reader: LogReader) -> tuple[int, int] | None:
    """Return where the next whole record behind the place at which a reader stopped lies, and its sequence number."""
    seed, size = reader.seed, reader.size
    first = reader.stop_seq + 1
    last = first + (size - reader.stop_end) // 32
    at, skip = reader.stop_end, reader.stop_end
    head = file.pread(32, at)
    if _is_header(head, seed) and _fields(head)[1] == first:
        # Only its payload is damaged: what is in there is not ours to interpret.
        skip = at + 32 + ((_fields(head)[2] + 7) & ~7)
    while at + 32 <= size:
        window = file.pread(min(WINDOW_BYTES + 32, size - at), at)
        for i, (word,) in enumerate(_WORD.iter_unpack(window[: len(window) & ~7])):
            start = at + 8 * (i - 1)
            if not first <= word <= last or start < skip or not i:
                continue
            head = window[8 * i - 8 : 8 * i + 24]
            if len(head) < 32 or not _is_header(head, seed):
                continue
            check, seq, n, *_ = _fields(head)
            stop = start + 32 + ((n + 7) & ~7)
            if n > MAX_PART_BYTES or stop > size:
                continue
            if xxh3_64_intdigest(file.pread(stop - start - 32, start + 32)) == check:
                return start, seq
            skip = stop
        at += WINDOW_BYTES
    return None


def _is_header(head: bytes, seed: int) -> bool:
    return len(head) == 32 and (xxh3_64_intdigest(head[:28], seed) & 0xFFFFFFFF) == RECORD.unpack(head)[6]


def _fields(head: bytes) -> tuple[int, int, int, int, int, int, int]:
    found: tuple[int, int, int, int, int, int, int] = RECORD.unpack(head)
    return found
