"""How named sections of bytes become one immutable file that shares unchanged blocks with older files.

A section is cut into blocks of 1 MiB. A block whose content equals the block of the same section and number in the
previous snapshot is not written but referred to where it lies. An older file of which less than half is still
referred to is copied into the new one, block by block as stored, and needed no more.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest, xxh3_128_digest

from ..errors import StorageError
from ..types import Section
from .backend import Backend, Buffer, File
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
from .snapshot import ALIGNMENT, Block, Snapshot, compress, padded

__all__ = ["Progress", "Written", "write_file"]

Progress = Callable[[int, int], None]

BLOCK_BYTES = 1 << 20  # of raw bytes: a smaller block rewrites less after a change, a larger one compresses no better
WORTH_BYTES = 256  # below this the header of a compressed block eats the gain
MAX_OLD_FILES = 16  # more are merged: each costs a handle and a look at open


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
        sum(padded(block) for blocks in rows for block in blocks),
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
        stored = compress(view, section.item_bytes) if n >= WORTH_BYTES else None
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

    def _put(self, stored: bytes, raw_bytes: int, codec: int, raw_hash: bytes) -> Block:
        padding = bytes(-len(stored) % ALIGNMENT)
        padded = stored + padding if padding else stored
        offset = self._pipe.write([padded])
        return Block(self._number, offset, xxh3_64_intdigest(padded), raw_bytes, len(stored), codec, 0, raw_hash)


def _section_table(section: Section, blocks: list[Block]) -> SectionTable:
    packed = b"".join(BLOCK.pack(*block) for block in blocks)
    return SectionTable(section.name, section.item_bytes, section.n_bytes, BLOCK_BYTES, packed)
