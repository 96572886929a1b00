"""How named sections of bytes are written as one immutable file, sharing unchanged blocks with older files, and read.

A section is cut into blocks of 1 MiB. A block whose content equals the block of the same section and number in the
previous snapshot is not written but referred to where it lies. An older file of which less than half is still
referred to is copied into the new one, block by block as stored, and needed no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from xxhash import xxh3_64_intdigest, xxh3_128_digest

from ..errors import CorruptSnapshot, StorageError
from ..types import Section
from .backend import Buffer, File
from .codec import (
    BLOCK,
    CODEC_BLOSC2,
    CODEC_RAW,
    FILE_HEADER_BYTES,
    FOOTER_BYTES,
    FileHeader,
    FileName,
    Footer,
    SectionTable,
    Table,
    decode_footer,
    decode_snapshot_header,
    decode_table,
    encode_footer,
    encode_snapshot_header,
    encode_table,
)
from .pipe import Pipe

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Progress", "Snapshot", "SnapshotFiles", "Written", "open_snapshot", "verify_snapshot", "write_sections"]

Progress = Callable[[int, int], None]

BLOCK_BYTES = 1 << 20  # of raw bytes: a smaller block rewrites less after a change, a larger one compresses no better
MAX_BLOCK_BYTES = 1 << 26
ALIGNMENT = 64
WORTH_BYTES = 256  # below this the header of a compressed block eats the gain
N_THREADS = 2
MAX_OLD_FILES = 16  # more are merged: each costs a handle and a look at open
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


@dataclass(frozen=True, slots=True)
class Written:
    """What a snapshot came to.

    Attributes
    ----------
    check : int
        Of its table, for the manifest.
    files : tuple of FileName
        The file itself and the older ones that it refers to.
    bytes_written, bytes_total : int
        Size of the new file; stored bytes of all blocks, wherever they lie.
    """

    check: int
    files: tuple[FileName, ...]
    bytes_written: int
    bytes_total: int
    blocks_written: int
    blocks_reused: int


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
    """

    def __init__(self, number: int, table: Table, files: SnapshotFiles, ends: dict[int, tuple[int, int]]) -> None:
        self.number = number
        self.meta = table.meta
        self.seq = table.seq
        self._files = files
        self._ends = ends  # by file: where its blocks end, and its size
        self._sections = {section.name: section for section in table.sections}

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
                and block.offset + _padded(block) <= self._ends.get(block.file, (0, 0))[0]
            )
            right = block.raw_bytes == min(left, section.block_bytes) and 0 < block.stored_bytes <= block.raw_bytes
            if not (fits and right and block.codec in (CODEC_RAW, CODEC_BLOSC2)):
                raise CorruptSnapshot(f"section {name!r} has a block that cannot be", path)
            left -= block.raw_bytes
        return blocks

    def stored(self, block: Block, buffer: memoryview) -> memoryview:
        """Read the stored bytes of a block and its padding into `buffer`, verified. Raises CorruptSnapshot."""
        file, view = self._files.get(block.file), buffer[: _padded(block)]
        try:
            n = file.pread_into(view, block.offset)
        except OSError as error:
            raise StorageError(f"reading {self._files.path_of(block.file)} failed ({error})") from error
        if n != len(view) or xxh3_64_intdigest(view) != block.check:
            raise CorruptSnapshot("a block is damaged", self._files.path_of(block.file), block.offset)
        return view

    def n_file_bytes(self, number: int) -> int:
        """Return the size of one of the files."""
        return self._ends[number][1]

    def n_stored_bytes(self) -> int:
        """Return the stored bytes of all blocks, wherever they lie."""
        return sum(_padded(block) for name in self._sections for block in self.blocks(name))

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _fill(self, blocks: Sequence[Block], target: memoryview) -> None:
        # One buffer for all blocks: a fresh one each would cost more in page faults than the decompression.
        buffer = memoryview(bytearray(max((_padded(block) for block in blocks), default=0)))
        at = 0
        for block in blocks:
            piece = target[at : at + block.raw_bytes]
            at += block.raw_bytes
            if block.codec == CODEC_RAW and _padded(block) == block.raw_bytes:
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
                _blosc2().decompress2(stored, dst=target, nthreads=N_THREADS)
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


def verify_snapshot(snapshot: Snapshot) -> None:
    """Read and check every block of every section, without decompressing. Raises CorruptSnapshot."""
    buffer = memoryview(bytearray(MAX_BLOCK_BYTES if snapshot.sections() else 0))
    for name in snapshot.sections():
        for block in snapshot.blocks(name):
            snapshot.stored(block, buffer)


def write_sections(
    file: File,
    header: FileHeader,
    meta: bytes,
    sections: Sequence[Section],
    previous: Snapshot | None,
    progress: Progress | None,
) -> Written:
    """Write a snapshot to an empty file and make its content durable.

    Raises OSError of the backend, CorruptSnapshot when a block that must be copied is damaged.
    """
    total = sum(section.n_bytes for section in sections)
    if len({section.name for section in sections}) != len(sections):
        raise ValueError("two sections have the same name")
    with Pipe(file, threaded=total > 8 * BLOCK_BYTES) as pipe:
        pipe.write([encode_snapshot_header(header)])
        writer = _Writer(pipe, header.number, previous)
        done = 0
        rows: list[list[Block]] = []
        for section in sections:
            old = [] if previous is None else previous.blocks(section.name)
            blocks: list[Block] = []
            for start in range(0, section.n_bytes, BLOCK_BYTES):
                stop = min(start + BLOCK_BYTES, section.n_bytes)
                number = len(blocks)
                raw = section.read(start, stop)
                blocks.append(writer.block(raw, stop - start, section, old[number] if number < len(old) else None))
                done += stop - start
                if progress is not None:
                    progress(done, total)
            rows.append(blocks)
        old_files = writer.copy_sparse(rows)
        table = encode_table(Table(header.seq, meta, old_files, tuple(map(_section_table, sections, rows))))
        check = xxh3_64_intdigest(table)
        footer = encode_footer(Footer(pipe.end, len(table), check, header.uuid, header.number))
        pipe.write([table, footer])
        pipe.finish()
    return Written(
        check,
        (FileName(header.number, pipe.end), *old_files),
        pipe.end,
        sum(_padded(block) for blocks in rows for block in blocks),
        writer.n_written,
        writer.n_reused,
    )


class _Writer:
    """Turns raw blocks into table rows, writing those that are new."""

    def __init__(self, pipe: Pipe, number: int, previous: Snapshot | None) -> None:
        self.n_written = 0
        self.n_reused = 0
        self._pipe = pipe
        self._number = number
        self._previous = previous

    def block(self, raw: Buffer, n: int, section: Section, old: Block | None) -> Block:
        view = memoryview(raw)
        if view.nbytes != n:
            raise ValueError(f"section {section.name!r} gave {view.nbytes} bytes where {n} were asked for")
        raw_hash = xxh3_128_digest(view)
        if old is not None and old.raw_hash == raw_hash and old.raw_bytes == n:
            self.n_reused += 1
            return old
        self.n_written += 1
        stored = _compress(view, section.item_bytes) if n >= WORTH_BYTES else None
        if stored is not None and len(stored) < n:
            return self._put(stored, n, CODEC_BLOSC2, raw_hash)
        # The pipe may write later than the section's buffer is valid.
        return self._put(bytes(view), n, CODEC_RAW, raw_hash)

    def copy_sparse(self, rows: list[list[Block]]) -> tuple[FileName, ...]:
        """Copy what is left of files hardly used into the new one; return the old files that are still needed."""
        if self._previous is None:
            return ()
        live: dict[int, int] = {}
        for blocks in rows:
            for block in blocks:
                if block.file != self._number:
                    live[block.file] = live.get(block.file, 0) + _padded(block)
        sizes = {number: self._previous.n_file_bytes(number) for number in live}
        by_size = sorted(live, key=lambda number: live[number], reverse=True)
        kept = [number for number in by_size if 2 * live[number] >= sizes[number]][:MAX_OLD_FILES]
        for blocks in rows:
            for i, block in enumerate(blocks):
                if block.file != self._number and block.file not in kept:
                    blocks[i] = self._copy(self._previous, block)
        return tuple(FileName(number, sizes[number]) for number in sorted(kept))

    def _copy(self, previous: Snapshot, block: Block) -> Block:
        stored = bytes(previous.stored(block, memoryview(bytearray(_padded(block)))))
        offset = self._pipe.write([stored])
        self.n_reused -= 1
        self.n_written += 1
        return block._replace(file=self._number, offset=offset)

    def _put(self, stored: bytes, raw_bytes: int, codec: int, raw_hash: bytes) -> Block:
        padding = bytes(-len(stored) % ALIGNMENT)
        padded = stored + padding if padding else stored
        offset = self._pipe.write([padded])
        return Block(self._number, offset, xxh3_64_intdigest(padded), raw_bytes, len(stored), codec, 0, raw_hash)


def _padded(block: Block) -> int:
    return -(-block.stored_bytes // ALIGNMENT) * ALIGNMENT


def _section_table(section: Section, blocks: list[Block]) -> SectionTable:
    packed = b"".join(BLOCK.pack(*block) for block in blocks)
    return SectionTable(section.name, section.item_bytes, section.n_bytes, BLOCK_BYTES, packed)


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


def _compress(raw: memoryview, item_bytes: int) -> bytes:
    blosc2 = _blosc2()
    shuffle = blosc2.Filter.BITSHUFFLE if item_bytes > 1 else blosc2.Filter.NOFILTER
    packed: bytes = blosc2.compress2(
        raw,
        codec=blosc2.Codec.LZ4,
        clevel=LEVEL,
        filters=[shuffle],
        filters_meta=[0],
        typesize=min(item_bytes, 255),
        nthreads=N_THREADS,
    )
    return packed


def _blosc2() -> ModuleType:
    import blosc2  # 0.6 s, hence only when the first block is packed or unpacked

    return blosc2  # type: ignore[no-any-return]
