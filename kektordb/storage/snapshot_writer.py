"""How named sections of bytes become one immutable file that shares unchanged blocks with older files.

A section is cut into blocks of 1 MiB. A block whose content equals the block of the same section and number in the
previous snapshot is not written but referred to where it lies. An older file of which less than half is still
referred to is copied into the new one, block by block as stored, and needed no more.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import msgspec
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from ..errors import StorageError
from ..interrupts import between
from ..types import Section
from .backend import Backend, File
from .codec import (
    BLOCK,
    CODEC_BLOSC2,
    CODEC_RAW,
    FileHeader,
    FileName,
    Footer,
    SectionTable,
    Table,
    encode_footer,
    encode_snapshot_header,
    encode_table,
)
from .directory import naming_errors
from .pipe import Pipe
from .snapshot import ALIGNMENT, N_THREADS, Block, Snapshot, compress, padded
from .workers import Workers

__all__ = ["Progress", "SaveReport", "Written", "write_file"]

Progress = Callable[[int, int], None]

BLOCK_BYTES = 1 << 20  # of raw bytes: a smaller block rewrites less after a change, a larger one compresses no better
MAX_PACKING = 8  # blocks in memory on their way through the packing threads
WORTH_BYTES = 256  # below this the header of a compressed block eats the gain
MAX_OLD_FILES = 16  # more are merged: each costs a handle and a look at open


class SaveReport(msgspec.Struct, frozen=True):
    """What a save cost.

    Attributes
    ----------
    bytes_written, bytes_total : int
        Size of the new file; stored size of everything in the snapshot, wherever it lies.
    blocks_written, blocks_reused : int
        Blocks of the new file, and those that older files hold.
    seconds : float
        By the clock of the store.
    """

    bytes_written: int
    bytes_total: int
    blocks_written: int
    blocks_reused: int
    seconds: float


class Written(msgspec.Struct, frozen=True):
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

    def report(self, seconds: float) -> SaveReport:
        """Return what is of interest outside."""
        return SaveReport(self.bytes_written, self.bytes_total, self.blocks_written, self.blocks_reused, seconds)


def write_file(
    backend: Backend,
    temporary: str,
    path: str,
    header: FileHeader,
    meta: bytes,
    sections: Sequence[Section],
    previous: Snapshot | None,
    progress: Progress | None,
) -> Written:
    """Write a snapshot under a temporary name in the same directory, and rename it when it is durable.

    Parameters
    ----------
    previous : Snapshot, optional
        What it may refer to; without one the file holds everything.
    progress : callable, optional
        Called after each block with the raw bytes done and the raw bytes in all.

    Raises StorageFull or StorageError, CorruptSnapshot when a block that must be copied is damaged; then there is
    neither a temporary file nor a changed `path`, save that a rename that could not be made durable stays.
    """
    with naming_errors(f"cannot write {path}"):
        if backend.is_dir(path):
            raise StorageError(f"{path} is a directory")
        if backend.exists(temporary):
            backend.unlink(temporary)
        file: File | None = None
        try:
            file = backend.open(temporary, "create")
            written = write_sections(file, header, meta, sections, previous, progress)
            file.close()
            backend.replace(temporary, path)
            backend.sync_dir(os.path.dirname(os.path.abspath(path)))
            return written
        except BaseException:
            if file is not None:
                file.close()
            with contextlib.suppress(OSError):
                backend.unlink(temporary)
            raise


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
    threaded = total > 8 * BLOCK_BYTES
    with contextlib.ExitStack() as stack:
        pipe = stack.enter_context(Pipe(file, threaded=threaded))
        pool = Workers(N_THREADS, "kektordb-pack") if threaded else None
        if pool is not None:
            stack.callback(pool.shutdown, cancel_futures=True)
        pipe.write([encode_snapshot_header(header)])
        writer = _Writer(pipe, header.number, previous, pool)
        rows = _write_blocks(writer, sections, total, previous, progress)
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
        sum(padded(block) for blocks in rows for block in blocks),
        writer.n_written,
        writer.n_reused,
    )


def _write_blocks(
    writer: _Writer, sections: Sequence[Section], total: int, previous: Snapshot | None, progress: Progress | None
) -> list[list[Block]]:
    done = 0
    rows: list[list[Block]] = []
    for section in sections:
        old = [] if previous is None else previous.blocks(section.name)
        blocks: list[Block] = []
        if section.read is None:
            blocks = writer.keep(section, old)
            done += section.n_bytes
            rows.append(blocks)
            continue
        for i, start in enumerate(range(0, section.n_bytes, BLOCK_BYTES)):
            stop = min(start + BLOCK_BYTES, section.n_bytes)
            writer.add(section, start, stop, old[i] if i < len(old) else None, blocks)
            done += stop - start
            if progress is not None:
                progress(done, total)
        rows.append(blocks)
    writer.flush()
    return rows


class _Writer:
    """Turns raw blocks into table rows, writing those that are new; packs ahead in other threads."""

    def __init__(self, pipe: Pipe, number: int, previous: Snapshot | None, pool: Workers | None) -> None:
        self.n_written = 0
        self.n_reused = 0
        self._pipe = pipe
        self._number = number
        self._previous = previous
        self._pool = pool
        self._packing: deque[tuple[Future[_Packed], list[Block], int]] = deque()

    def keep(self, section: Section, old: list[Block]) -> list[Block]:
        """Return the rows of a section that is as it was."""
        n_bytes = sum(block.raw_bytes for block in old)
        if n_bytes != section.n_bytes:
            raise ValueError(
                f"section {section.name!r} has {n_bytes} bytes in the snapshot before, not {section.n_bytes}"
            )
        self.n_reused += len(old)
        return list(old)

    def add(self, section: Section, start: int, stop: int, old: Block | None, blocks: list[Block]) -> None:
        """Read a block and append its row to `blocks`, which may be complete only after `flush`."""
        assert section.read is not None
        between()
        read = section.read(start, stop)
        # A copy, for the section may use the memory of the block again before it is packed and written.
        raw = read if type(read) is bytes else bytes(read)
        if len(raw) != stop - start:
            raise ValueError(f"section {section.name!r} gave {len(raw)} bytes where {stop - start} were asked for")
        raw_hash = xxh3_128_digest(raw)
        if old is not None and old.raw_hash == raw_hash and old.raw_bytes == len(raw):
            self.n_reused += 1
            blocks.append(old)
            return
        self.n_written += 1
        blocks.append(Block(self._number, 0, 0, len(raw), 0, CODEC_RAW, 0, raw_hash))
        if self._pool is None:
            self._put(_pack(raw, section.item_bytes), blocks, len(blocks) - 1)
            return
        self._packing.append((self._pool.submit(_pack, raw, section.item_bytes), blocks, len(blocks) - 1))
        while len(self._packing) > MAX_PACKING:
            self._put_next()

    def flush(self) -> None:
        """Write what is still being packed."""
        while self._packing:
            self._put_next()

    def copy_sparse(self, rows: list[list[Block]]) -> tuple[FileName, ...]:
        """Copy what is left of files hardly used into the new one; return the old files that are still needed."""
        if self._previous is None:
            return ()
        live: dict[int, int] = {}
        for blocks in rows:
            for block in blocks:
                if block.file != self._number:
                    live[block.file] = live.get(block.file, 0) + padded(block)
        sizes = {number: self._previous.n_file_bytes(number) for number in live}
        by_size = sorted(live, key=lambda number: live[number], reverse=True)
        kept = [number for number in by_size if 2 * live[number] >= sizes[number]][:MAX_OLD_FILES]
        for blocks in rows:
            for i, block in enumerate(blocks):
                if block.file != self._number and block.file not in kept:
                    blocks[i] = self._copy(self._previous, block)
        return tuple(FileName(number, sizes[number]) for number in sorted(kept))

    def _copy(self, previous: Snapshot, block: Block) -> Block:
        stored = bytes(previous.stored(block, memoryview(bytearray(padded(block)))))
        offset = self._pipe.write([stored])
        self.n_reused -= 1
        self.n_written += 1
        return block._replace(file=self._number, offset=offset)

    def _put_next(self) -> None:
        packing, blocks, i = self._packing.popleft()
        self._put(packing.result(), blocks, i)

    def _put(self, packed: _Packed, blocks: list[Block], i: int) -> None:
        offset = self._pipe.write([packed.data])
        blocks[i] = blocks[i]._replace(
            offset=offset, check=packed.check, stored_bytes=packed.stored_bytes, codec=packed.codec
        )


class _Packed(NamedTuple):
    """A block as it will be stored, with its padding."""

    data: bytes
    stored_bytes: int
    codec: int
    check: int


def _pack(raw: bytes, item_bytes: int) -> _Packed:
    stored, codec = raw, CODEC_RAW
    if len(raw) >= WORTH_BYTES:
        packed = compress(raw, item_bytes)
        if len(packed) < len(raw):
            stored, codec = packed, CODEC_BLOSC2
    padding = -len(stored) % ALIGNMENT
    data = stored + bytes(padding) if padding else stored
    return _Packed(data, len(stored), codec, xxh3_64_intdigest(data))


def _section_table(section: Section, blocks: list[Block]) -> SectionTable:
    packed = b"".join(BLOCK.pack(*block) for block in blocks)
    return SectionTable(section.name, section.item_bytes, section.n_bytes, BLOCK_BYTES, packed)
