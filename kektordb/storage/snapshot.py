"""How the sections of a snapshot are found and read, each block verified before it is unpacked."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from xxhash import xxh3_64_intdigest

from ..errors import CorruptSnapshot, StorageError
from ..interrupts import between
from ..types import Section
from .backend import File
from .codec import (
    BLOCK,
    CODEC_BLOSC2,
    CODEC_RAW,
    FILE_HEADER_BYTES,
    FOOTER_BYTES,
    Footer,
    SectionTable,
    Table,
    decode_footer,
    decode_snapshot_header,
    decode_table,
)
from .workers import Workers

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "ALIGNMENT",
    "N_THREADS",
    "Block",
    "Snapshot",
    "SnapshotFiles",
    "compress",
    "open_alone",
    "open_snapshot",
    "padded",
    "verify_file",
]

MAX_BLOCK_BYTES = 1 << 26
ALIGNMENT = 64
# Blocks are packed and unpacked side by side: threads inside blosc2 would be started anew for each block.
N_THREADS = 2
MIN_THREADED = 8
TURN_BLOCKS = 256  # after so many an interrupt may come
MAX_ITEM_BYTES = 16
# engine.md §8: LZ4 level 5 with bit shuffling saves faster than raw bytes do, and higher levels gain next to nothing.
LEVEL = 5


class Block(NamedTuple):
    """One row of the table; see codec.BLOCK."""

    file: int
    offset: int
    check: int
    raw_bytes: int
    stored_bytes: int
    codec: int
    reserved: int
    raw_hash: bytes


class SnapshotFiles:
    """Opens snapshot files by number, once."""

    def __init__(self, path_of: Callable[[int], str], open_file: Callable[[int], File]) -> None:
        self.path_of = path_of
        self._open_file = open_file
        self._open: dict[int, File] = {}

    def get(self, number: int) -> File:
        """Return the open file. Raises CorruptSnapshot when it is missing."""
        file = self._open.get(number)
        if file is None:
            try:
                file = self._open[number] = self._open_file(number)
            except FileNotFoundError as error:
                raise CorruptSnapshot("a file that the manifest names is missing", self.path_of(number)) from error
        return file

    def close(self, keep: Iterable[int] = ()) -> None:
        """Close all files but those to keep."""
        for number in self._open.keys() - set(keep):
            self._open.pop(number).close()


class Snapshot:
    """The sections of one snapshot; a `SectionReader`.

    Attributes
    ----------
    meta : bytes
        The catalogue that was stored with it.
    seq : int
        The last record it covers.
    stored_bytes : int
        Of all blocks, wherever they lie.
    """

    def __init__(self, number: int, table: Table, files: SnapshotFiles, ends: dict[int, tuple[int, int]]) -> None:
        self.number = number
        self.meta = table.meta
        self.seq = table.seq
        self._files = files
        self._ends = ends  # by file: where its blocks end, and its size
        self._sections = {section.name: section for section in table.sections}
        self.stored_bytes = sum(padded(block) for name in self._sections for block in self.blocks(name))

    def sections(self) -> dict[str, int]:
        """Return the size of each section, by name."""
        return {name: section.n_bytes for name, section in self._sections.items()}

    def size(self, name: str) -> int:
        """Return the size of a section in bytes; 0 when there is none of this name."""
        section = self._sections.get(name)
        return 0 if section is None else section.n_bytes

    def read(self, name: str) -> bytearray:
        """Return a whole section; empty when there is none of this name. Raises CorruptSnapshot."""
        blocks = self.blocks(name)  # checked against the size before anything is allocated
        target = bytearray(self.size(name))
        self._fill(blocks, memoryview(target))
        return target

    def read_into(self, name: str, target: memoryview) -> None:
        """Fill `target`, writable bytes of exactly the section's size.

        Raises CorruptSnapshot; the content of `target` is undefined then.
        """
        view = memoryview(target)
        if view.nbytes != self.size(name):
            raise ValueError(f"section {name!r} has {self.size(name)} bytes, the target {view.nbytes}")
        if view.nbytes:
            self._fill(self.blocks(name), view.cast("B"))

    def blocks(self, name: str) -> list[Block]:
        """Return the table rows of a section, checked against its size and the sizes of the files."""
        section = self._sections.get(name)
        if section is None:
            return []
        path = self._files.path_of(self.number)
        n_blocks = -(-section.n_bytes // section.block_bytes) if 0 < section.block_bytes <= MAX_BLOCK_BYTES else -1
        if len(section.blocks) != n_blocks * BLOCK.size:
            raise CorruptSnapshot(f"section {name!r} does not have the blocks of its size", path)
        blocks = [Block._make(row) for row in BLOCK.iter_unpack(section.blocks)]
        left = section.n_bytes
        for block in blocks:
            fits = (
                block.offset >= FILE_HEADER_BYTES
                and block.offset + padded(block) <= self._ends.get(block.file, (0, 0))[0]
            )
            right = block.raw_bytes == min(left, section.block_bytes) and 0 < block.stored_bytes <= block.raw_bytes
            if not (fits and right and block.codec in (CODEC_RAW, CODEC_BLOSC2)):
                raise CorruptSnapshot(f"section {name!r} has a block that cannot be", path)
            left -= block.raw_bytes
        return blocks

    def stored(self, block: Block, buffer: memoryview) -> memoryview:
        """Read the stored bytes of a block and its padding into `buffer`, verified. Raises CorruptSnapshot."""
        file, view = self._files.get(block.file), buffer[: padded(block)]
        try:
            n = file.pread_into(view, block.offset)
        except OSError as error:
            raise StorageError(f"reading {self._files.path_of(block.file)} failed ({error})") from error
        if n != len(view) or xxh3_64_intdigest(view) != block.check:
            raise CorruptSnapshot("a block is damaged", self._files.path_of(block.file), block.offset)
        return view

    def unpack(self, block: Block, target: memoryview) -> None:
        """Fill `target` with the raw bytes of one block. Raises CorruptSnapshot, StorageError."""
        self._unpack([(block, target)])

    @property
    def n_files(self) -> int:
        """How many files it lies in."""
        return len(self._ends)

    def copied(self) -> list[Section]:
        """Return the sections as what another file can be written of; they are read block by block."""
        return [
            Section(name, section.item_bytes, section.n_bytes, self._copying(section))
            for name, section in self._sections.items()
        ]

    def _copying(self, section: SectionTable) -> Callable[[int, int], memoryview]:
        def read(start: int, stop: int) -> memoryview:
            first, last = start // section.block_bytes, -(-stop // section.block_bytes)
            blocks = self.blocks(section.name)[first:last]
            target = memoryview(bytearray(sum(block.raw_bytes for block in blocks)))
            self._fill(blocks, target)
            start_at = first * section.block_bytes
            return target[start - start_at : stop - start_at]

        return read

    def n_file_bytes(self, number: int) -> int:
        """Return the size of one of the files."""
        return self._ends[number][1]

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _fill(self, blocks: Sequence[Block], target: memoryview) -> None:
        offsets = itertools.accumulate((block.raw_bytes for block in blocks), initial=0)
        pieces = [(block, target[at : at + block.raw_bytes]) for block, at in zip(blocks, offsets, strict=False)]
        if len(pieces) < MIN_THREADED:
            self._unpack(pieces)
            return
        for number in {block.file for block in blocks}:
            self._files.get(number)  # opened here, so that the threads only read the table of open files
        for start in range(0, len(pieces), TURN_BLOCKS):
            between()
            some = pieces[start : start + TURN_BLOCKS]
            with Workers(N_THREADS, "kektordb-load") as pool:
                list(pool.map(self._unpack, (some[i::N_THREADS] for i in range(N_THREADS))))

    def _unpack(self, pieces: Sequence[tuple[Block, memoryview]]) -> None:
        # One buffer for all blocks: a fresh one each would cost more in page faults than the decompression.
        buffer = memoryview(bytearray(max((padded(block) for block, _ in pieces), default=0)))
        for block, piece in pieces:
            if block.codec == CODEC_RAW and padded(block) == block.raw_bytes:
                self.stored(block, piece)
                continue
            stored = self.stored(block, buffer)[: block.stored_bytes]
            if block.codec == CODEC_RAW:
                piece[:] = stored
            else:
                self._decompress(block, stored, piece)

    def _decompress(self, block: Block, stored: memoryview, target: memoryview) -> None:
        # A blosc2 chunk names its raw size at byte 4 and its own at byte 12; both are known here.
        raw_bytes, own_bytes = (int.from_bytes(stored[i : i + 4], "little") for i in (4, 12))
        if (raw_bytes, own_bytes) == (block.raw_bytes, block.stored_bytes):
            try:
                _blosc2().decompress2(stored, dst=target, nthreads=1)
                return
            except (RuntimeError, ValueError):
                pass
        raise CorruptSnapshot("a block cannot be decompressed", self._files.path_of(block.file), block.offset)


def open_snapshot(files: SnapshotFiles, number: int, uuid: bytes | None, check: int | None) -> Snapshot:
    """Open a snapshot: the ends of its files and its table are verified, the blocks when they are read.

    Parameters
    ----------
    uuid, check
        What the manifest says; None for a file that stands on its own.

    Raises CorruptSnapshot; StorageError for a newer format.
    """
    path = files.path_of(number)
    footer, n_bytes = _read_ends(files, number, uuid)
    if check is not None and (footer.table_check, footer.number) != (check, number):
        raise CorruptSnapshot("not the snapshot that the manifest names", path, n_bytes - FOOTER_BYTES)
    table = decode_table(files.get(number).pread(footer.table_bytes, footer.table_offset), footer, path)
    if check is None and table.files:
        raise StorageError(f"{path} refers to other files: open its directory instead")
    ends = {footer.number: (footer.table_offset, n_bytes)}
    for old in table.files:
        old_footer, old_bytes = _read_ends(files, old.number, uuid)
        if old_bytes != old.n_bytes or old_footer.number != old.number:
            raise CorruptSnapshot("not the file that the snapshot refers to", files.path_of(old.number), old_bytes)
        ends[old.number] = (old_footer.table_offset, old_bytes)
    return Snapshot(footer.number, table, files, ends)


def open_alone(files: SnapshotFiles, number: int, uuid: bytes | None) -> tuple[Snapshot, Footer]:
    """Open a snapshot for the sake of the blocks in its own file: those that it refers to are not looked at.

    Raises CorruptSnapshot.
    """
    footer, n_bytes = _read_ends(files, number, uuid)
    path = files.path_of(number)
    table = decode_table(files.get(number).pread(footer.table_bytes, footer.table_offset), footer, path)
    ends = {old.number: (old.n_bytes, old.n_bytes) for old in table.files}
    return Snapshot(footer.number, table, files, {**ends, footer.number: (footer.table_offset, n_bytes)}), footer


def verify_file(files: SnapshotFiles, number: int, uuid: bytes | None) -> None:
    """Check every byte of one snapshot file, also of blocks that nothing refers to any more. Raises CorruptSnapshot."""
    path = files.path_of(number)
    snapshot, footer = open_alone(files, number, uuid)
    number = footer.number
    blocks = [block for name in snapshot.sections() for block in snapshot.blocks(name) if block.file == number]
    buffer = memoryview(bytearray(max(map(padded, blocks), default=0)))
    at = FILE_HEADER_BYTES
    for block in blocks:
        snapshot.stored(block, buffer)
        at = max(at, block.offset + padded(block))
    if at != footer.table_offset:
        raise CorruptSnapshot("there are bytes that belong to no block", path, at)


def padded(block: Block) -> int:
    """Return how many bytes a block takes in its file."""
    return -(-block.stored_bytes // ALIGNMENT) * ALIGNMENT


def _read_ends(files: SnapshotFiles, number: int, uuid: bytes | None) -> tuple[Footer, int]:
    file, path = files.get(number), files.path_of(number)
    header = decode_snapshot_header(file.pread(FILE_HEADER_BYTES, 0), path)
    n_bytes = file.size()
    where = n_bytes - FOOTER_BYTES
    footer = decode_footer(file.pread(FOOTER_BYTES, where) if where >= 0 else b"", n_bytes, path)
    if (header.uuid, header.number) != (footer.uuid, footer.number):
        raise CorruptSnapshot("the two ends of the file do not belong together", path, where)
    if uuid is not None and (header.uuid, header.number) != (uuid, number):
        raise CorruptSnapshot("a file of another database or generation", path)
    return footer, n_bytes


def compress(raw: bytes, item_bytes: int) -> bytes:
    """Return a block as one blosc2 chunk, which may be longer than `raw`."""
    blosc2 = _blosc2()
    if item_bytes > MAX_ITEM_BYTES:  # a row of numbers rather than a number
        item_bytes = 4 if item_bytes % 4 == 0 else 1
    shuffle = blosc2.Filter.BITSHUFFLE if item_bytes > 1 else blosc2.Filter.NOFILTER
    packed: bytes = blosc2.compress2(
        raw,
        codec=blosc2.Codec.LZ4,
        clevel=LEVEL,
        filters=[shuffle],
        filters_meta=[0],
        typesize=item_bytes,
        nthreads=1,
    )
    return packed


def _blosc2() -> ModuleType:
    import blosc2  # 0.6 s, hence only when the first block is packed or unpacked

    blosc2.set_releasegil(True)  # else a background save would stop every other thread for a millisecond per block
    return blosc2  # type: ignore[no-any-return]
