"""How every header, table and manifest is laid out in bytes, and how it is checked; see docs/format.md.

Nothing here touches a file. Decoders take the bytes and the name of the file for the error message.
"""

from __future__ import annotations

from struct import Struct
from typing import Annotated, TypeVar

import msgspec
from xxhash import xxh3_64_intdigest

from ..errors import CorruptData, CorruptLog, CorruptSnapshot, StorageError

__all__ = [
    "BLOCK",
    "CODEC_BLOSC2",
    "CODEC_RAW",
    "FILE_HEADER_BYTES",
    "FOOTER_BYTES",
    "FOOTER_MAGIC",
    "MAX_PART_BYTES",
    "MORE_FOLLOWS",
    "RECORD",
    "RECORD_HEAD",
    "Branch",
    "CloseNote",
    "FileHeader",
    "FileName",
    "Footer",
    "Lineage",
    "LogName",
    "Manifest",
    "SectionTable",
    "Table",
    "decode_footer",
    "decode_log_header",
    "decode_manifest",
    "decode_snapshot_header",
    "decode_table",
    "encode_footer",
    "encode_log_header",
    "encode_manifest",
    "encode_snapshot_header",
    "encode_table",
    "record_seed",
]

FORMAT_VERSION = 1

LOG_MAGIC = b"\x93KEKTLOG"
SNAPSHOT_MAGIC = b"\x93KEKTSNP"
FOOTER_MAGIC = b"\x93KEKTEND"
MANIFEST_MAGIC = b"\x93KEKTMAN"

_FILE_HEADER = Struct("<8sII16sQQQ")  # magic, version, flags, uuid, number, previous bytes, seq; then the check
_CHECK = Struct("<Q")
FILE_HEADER_BYTES = _FILE_HEADER.size + _CHECK.size

_FOOTER = Struct("<8sQQQ16sQ")  # magic, table offset, table bytes, table check, uuid, number; then the check
FOOTER_BYTES = _FOOTER.size + _CHECK.size

_MANIFEST_FRAME = Struct("<8sIIQ")  # magic, version, body bytes, check of the first 16 bytes and the body
MAX_MANIFEST_BYTES = 1 << 24

# A record: check of the payload and its padding, seq, payload bytes, lag, type, flags, check of these 28 bytes.
# The lag is seq minus the highest seq known to be synced, so that "durable" fits into four bytes.
RECORD = Struct("<QQIIHHI")
RECORD_HEAD = Struct("<QQIIHH")
MAX_PART_BYTES = 64 << 20
MAX_LAG = 0xFFFFFFFF
MORE_FOLLOWS = 1  # flag: the next record continues this one

# A block: file number, offset, check of the stored bytes, raw bytes, stored bytes, codec, reserved, hash of the raw.
BLOCK = Struct("<QQQIIII16s")
CODEC_RAW = 0
CODEC_BLOSC2 = 1

_S = TypeVar("_S", bound=msgspec.Struct)

# What is decoded from the contents of a file fits into the headers that are made of it.
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
Check = Annotated[int, msgspec.Meta(ge=0)]
Uuid = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class FileHeader(msgspec.Struct, frozen=True):
    """The first 64 bytes of a log or a snapshot.

    Attributes
    ----------
    uuid : bytes
        Of the database.
    number : int
        Of the file.
    previous_bytes : int
        Log: the final size of the log before it. Snapshot: 0.
    seq : int
        Log: the last sequence number before it. Snapshot: the last one it covers.
    """

    uuid: bytes
    number: int
    previous_bytes: int
    seq: int


class Footer(msgspec.Struct, frozen=True):
    """The last 64 bytes of a snapshot: where its table is."""

    table_offset: int
    table_bytes: int
    table_check: int
    uuid: bytes
    number: int


class FileName(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot file that is needed, with its size."""

    number: Count
    n_bytes: Count


class LogName(msgspec.Struct, frozen=True, array_like=True):
    """A log that is needed, with the last sequence number before it, and the digest of the history up to there."""

    number: Count
    seq: Count
    digest: Check = 0


class CloseNote(msgspec.Struct, frozen=True, array_like=True):
    """How a log stood when it was closed cleanly: all of it was durable.

    `chain` is the check over the headers of all its records, each seeding the next.
    """

    log: Count
    n_bytes: Count
    seq: Count
    chain: Check


class Branch(msgspec.Struct, frozen=True, array_like=True):
    """A history that another one goes on from, and its last record that belongs to both."""

    history: bytes
    seq: int


class Lineage(msgspec.Struct, frozen=True, array_like=True):
    """Whose records these are.

    Attributes
    ----------
    history : bytes
        16 random bytes that stand for one row of records, wherever they lie: the uuid of the database in which they
        were written first, or what a follower was given when it was promoted.
    is_follower : bool
        Records come from another database only.
    branches : tuple of Branch
        The histories that this one goes on from, oldest first.
    """

    history: bytes
    is_follower: bool = False
    branches: tuple[Branch, ...] = ()


class Manifest(msgspec.Struct, frozen=True):
    """Which files make up the database.

    Attributes
    ----------
    generation : int
        Number of the newest log; grows by one with each save.
    snapshot : int
        Number of the newest snapshot; 0 when there is none.
    snapshot_check : int
        Its table's check, so that no other file can take its place.
    files : tuple
        The newest snapshot and the older ones it refers to.
    logs : tuple
        What happened after the snapshot, oldest first.
    lineage : Lineage or None
        None: the history is the uuid's own.
    """

    uuid: Uuid
    generation: Count
    snapshot: Count
    snapshot_check: Check
    files: tuple[FileName, ...]
    logs: tuple[LogName, ...]
    close: CloseNote | None = None
    lineage: Lineage | None = None

    def whose(self) -> Lineage:
        """Return whose records these are."""
        return Lineage(self.uuid) if self.lineage is None else self.lineage


class SectionTable(msgspec.Struct, frozen=True, array_like=True):
    """Where the blocks of one section lie; `blocks` are packed `BLOCK` rows."""

    name: str
    item_bytes: Count
    n_bytes: Count
    block_bytes: Count
    blocks: bytes


class Table(msgspec.Struct, frozen=True):
    """The contents of a snapshot."""

    seq: Count
    meta: bytes
    files: tuple[FileName, ...]
    sections: tuple[SectionTable, ...]


def record_seed(uuid: bytes, number: int) -> int:
    """Return the seed of a log's header checks, so that a record of another log or database is not taken for ours."""
    return xxh3_64_intdigest(uuid + _CHECK.pack(number))


def encode_log_header(header: FileHeader) -> bytes:
    """Return the 64 bytes at the start of a log."""
    return _encode_header(LOG_MAGIC, header)


def encode_snapshot_header(header: FileHeader) -> bytes:
    """Return the 64 bytes at the start of a snapshot."""
    return _encode_header(SNAPSHOT_MAGIC, header)


def decode_log_header(data: bytes, path: str) -> FileHeader:
    """Read the start of a log. Raises CorruptLog; StorageError when the format is newer."""
    return _decode_header(data, LOG_MAGIC, path, CorruptLog)


def decode_snapshot_header(data: bytes, path: str) -> FileHeader:
    """Read the start of a snapshot. Raises CorruptSnapshot; StorageError when the format is newer."""
    return _decode_header(data, SNAPSHOT_MAGIC, path, CorruptSnapshot)


def encode_footer(footer: Footer) -> bytes:
    """Return the 64 bytes at the end of a snapshot."""
    packed = _FOOTER.pack(
        FOOTER_MAGIC, footer.table_offset, footer.table_bytes, footer.table_check, footer.uuid, footer.number
    )
    return packed + _CHECK.pack(xxh3_64_intdigest(packed))


def decode_footer(data: bytes, n_file_bytes: int, path: str) -> Footer:
    """Read the end of a snapshot of `n_file_bytes` bytes. Raises CorruptSnapshot."""
    where = max(0, n_file_bytes - FOOTER_BYTES)
    if len(data) != FOOTER_BYTES or _CHECK.unpack_from(data, _FOOTER.size)[0] != xxh3_64_intdigest(data[:-8]):
        raise CorruptSnapshot("the end of the snapshot is missing or damaged", path, where)
    magic, table_offset, table_bytes, table_check, uuid, number = _FOOTER.unpack_from(data)
    if magic != FOOTER_MAGIC or table_offset < FILE_HEADER_BYTES or table_offset + table_bytes != where:
        raise CorruptSnapshot("the footer does not fit the file", path, where)
    return Footer(table_offset, table_bytes, table_check, uuid, number)


def encode_table(table: Table) -> bytes:
    """Return a snapshot's table."""
    return msgspec.msgpack.encode(table)


def decode_table(data: bytes, footer: Footer, path: str) -> Table:
    """Read a snapshot's table. Raises CorruptSnapshot."""
    if len(data) != footer.table_bytes or xxh3_64_intdigest(data) != footer.table_check:
        raise CorruptSnapshot("the table of the snapshot is damaged", path, footer.table_offset)
    return _decode_body(data, Table, path, footer.table_offset)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of a manifest file."""
    body = msgspec.msgpack.encode(manifest)
    start = _MANIFEST_FRAME.pack(MANIFEST_MAGIC, FORMAT_VERSION, len(body), 0)[:16]
    return start + _CHECK.pack(xxh3_64_intdigest(start + body)) + body


def decode_manifest(data: bytes, path: str) -> Manifest:
    """Read a manifest file. Raises CorruptSnapshot; StorageError when the format is newer."""
    if len(data) < _MANIFEST_FRAME.size:
        raise CorruptSnapshot("the manifest is cut short", path, len(data))
    magic, version, n_body, check = _MANIFEST_FRAME.unpack_from(data)
    body = data[_MANIFEST_FRAME.size :]
    if magic != MANIFEST_MAGIC or n_body != len(body) or check != xxh3_64_intdigest(data[:16] + body):
        raise CorruptSnapshot("the manifest is damaged, or not one of kektordb", path, 0)
    _refuse_newer(version, 0, path)
    return _decode_body(body, Manifest, path, _MANIFEST_FRAME.size)


def _encode_header(magic: bytes, header: FileHeader) -> bytes:
    packed = _FILE_HEADER.pack(magic, FORMAT_VERSION, 0, header.uuid, header.number, header.previous_bytes, header.seq)
    return packed + _CHECK.pack(xxh3_64_intdigest(packed))


def _decode_header(data: bytes, expected: bytes, path: str, error: type[CorruptData]) -> FileHeader:
    if len(data) < FILE_HEADER_BYTES or data[:8] != expected:
        raise error("not a file of kektordb, or its first bytes are damaged", path, 0)
    if _CHECK.unpack_from(data, _FILE_HEADER.size)[0] != xxh3_64_intdigest(data[: _FILE_HEADER.size]):
        raise error("the header of the file is damaged", path, 0)
    _, version, flags, uuid, number, previous_bytes, seq = _FILE_HEADER.unpack_from(data)
    _refuse_newer(version, flags, path)
    return FileHeader(uuid, number, previous_bytes, seq)


def _refuse_newer(version: int, flags: int, path: str) -> None:
    if version != FORMAT_VERSION or flags:
        raise StorageError(
            f"{path}: written in format version {version} (flags {flags}), this kektordb reads version "
            f"{FORMAT_VERSION}; open it with a newer kektordb"
        )


def _decode_body(data: bytes, kind: type[_S], path: str, offset: int) -> _S:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptSnapshot(f"not understood ({error})", path, offset) from error
