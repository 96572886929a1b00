"""How does an index come back from what is left of its sections? By its rows; the rest is made anew.

The graph, the columns and the texts say nothing that rows do not say, so that damage there costs time and no data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb._metadata import encode_metadata
from kektordb._scale import Scale
from kektordb._vectors import Vectors
from kektordb.collection import Collection
from kektordb.errors import CorruptSnapshot, MetadataError
from kektordb.kv import LENGTHS, MAX_KEY_BYTES, MAX_VALUE_BYTES
from kektordb.operations import IndexConfig, PutItems
from kektordb.types import SectionReader

__all__ = ["LossyReader", "Lost", "rebuild", "salvage_pairs"]

Ranges = list[tuple[int, int]]
Flags = npt.NDArray[np.bool_]
ABSENT = np.uint64(2**64 - 1)
ROWS = 4096


class LossyReader(SectionReader, Protocol):
    """Sections of which some bytes are lost, and zeros instead."""

    def lost(self, name: str = "", prefix: str = "") -> Ranges:
        """Return the ranges of lost bytes of one section, or of all whose names begin with `prefix`."""
        ...


class Lost(msgspec.Struct, frozen=True):
    """Something that could not be kept.

    Attributes
    ----------
    what : str
        ``items``, ``metadata`` (of items that were kept), ``keys``, ``records`` (of the log), ``snapshot``, ``log``.
    why : str
        What could not be read.
    index : str
        Of which index; empty when it is of none, or not known.
    n : int
        How many; -1 when that cannot be said.
    ids : tuple of str
        Of the items, or the keys, as far as they are known.
    """

    what: str
    why: str
    index: str = ""
    n: int = -1
    ids: tuple[str, ...] = ()


def rebuild(
    name: str,
    config: IndexConfig,
    entry: dict[str, Any],
    reader: LossyReader,
    prefix: str,
    n_threads: int,
    step: Callable[[int], None],
) -> tuple[Collection, list[Lost]]:
    """Make a collection of the rows whose id and vector are there.

    Parameters
    ----------
    name : str
    config : IndexConfig
    entry : dict
        What the catalogue of the snapshot says of the index.
    reader : LossyReader
    prefix : str
        Of the index's sections.
    n_threads : int
    step : callable
        Told how many rows are done.

    Returns
    -------
    Collection
    list of Lost

    Raises
    ------
    CorruptSnapshot, KeyError, TypeError, ValueError
        What the catalogue says cannot be.
    """
    collection = Collection(config)
    if entry["graph"] is None:
        return collection, []
    n, meta, dim = entry["graph"]["n"], entry["graph"].get("vectors"), entry["dim"]
    rows = _Rows(reader, prefix, n)
    vectors, has_vector = _vectors(Vectors(dim, config.metric) if meta is None else _alike(dim, config, meta), rows)
    graph = collection.graph_for(dim)
    graph.exchange(Vectors(dim, config.metric) if meta is None else _alike(dim, config, meta))
    ids, is_named = rows.ids()
    alive = rows.alive()
    metadata, unread = _metadata(rows)
    kept = [slot for slot in range(n) if ids[slot] is not None and has_vector[slot]]
    for start in range(0, len(kept), ROWS):
        slots = kept[start : start + ROWS]
        found = vectors.get(np.array(slots, dtype=np.uint32))
        wanted = [text for slot in slots if (text := ids[slot]) is not None]
        operation = PutItems(0, wanted, found, [metadata[slot] for slot in slots])
        collection.reserve((operation,))
        collection.put(operation, n_threads)
        collection.tidy()
        step(start + len(slots))
    gone = tuple(text for slot in range(n) if (text := ids[slot]) is not None and not has_vector[slot])
    poorer = tuple(text for slot in kept if slot in unread and (text := ids[slot]) is not None)
    nameless = int(np.count_nonzero(~is_named & alive))
    lost = []
    if gone:
        lost.append(Lost("items", "their vectors cannot be read", name, len(gone), gone))
    if nameless:
        lost.append(Lost("items", "their ids cannot be read", name, nameless))
    if poorer:
        lost.append(Lost("metadata", "it cannot be read; the items were kept without", name, len(poorer), poorer))
    return collection, lost


def _alike(dim: int, config: IndexConfig, meta: dict[str, Any]) -> Vectors:
    """Return vectors without rows, of the precision and scale that `meta` says."""
    scale = Scale(config.metric, dim, **meta["scale"], is_final=True) if "scale" in meta else None
    return Vectors(dim, config.metric, meta["precision"], scale)


def _vectors(vectors: Vectors, rows: _Rows) -> tuple[Vectors, Flags]:
    """Load the rows; return them, and which of them are whole. Raises CorruptSnapshot when there are not so many."""
    if rows.size("vectors/rows") != rows.n * vectors.stride * vectors.item_bytes:
        raise CorruptSnapshot(f"vectors/rows: expected {rows.n} rows, got {rows.size('vectors/rows')} bytes")
    vectors.load(rows, rows.n)
    whole = np.ones(rows.n, dtype=np.bool_)
    for section, width in (("vectors/rows", vectors.stride * vectors.item_bytes), ("vectors/factors", 4)):
        for start, stop in rows.lost(section):
            whole[start // width : -(-stop // width)] = False
    return vectors, whole


def _metadata(rows: _Rows) -> tuple[list[bytes], set[int]]:
    """Return the encoded metadata of all rows, empty where there is none; and the rows where it cannot be read."""
    blobs, is_known = rows.blobs("metadata")
    try:
        shapes = msgspec.msgpack.decode(rows.read("metadata/shapes") or b"\x90", type=list[list[str]])
    except (msgspec.DecodeError, ValueError):
        shapes = []
    if rows.lost("metadata/shapes"):
        shapes = []
    found: list[bytes] = []
    unread: set[int] = set()
    for slot, blob in enumerate(blobs):
        encoded = b""
        if not is_known[slot]:
            unread.add(slot)
        elif blob:
            try:
                encoded = encode_metadata(_decode_row(blob, shapes))
            except (msgspec.DecodeError, MetadataError, ValueError, IndexError, TypeError):
                unread.add(slot)
        found.append(encoded)
    return found, unread


def _decode_row(blob: bytes, shapes: list[list[str]]) -> dict[str, Any]:
    at, shape = _leb128(blob, 0)
    found = msgspec.msgpack.decode(blob[at:])
    return dict(zip(shapes[shape - 1], found, strict=True)) if shape else dict(found)


def _leb128(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return where a number ends, and the number. Raises IndexError."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80 or shift > 63:
            return at, value


class _Rows:
    """The sections of one index, by slot."""

    def __init__(self, reader: LossyReader, prefix: str, n: int) -> None:
        self.n = n
        self._reader = reader
        self._prefix = prefix

    def size(self, name: str) -> int:
        return self._reader.size(self._prefix + name)

    def read(self, name: str) -> bytearray:
        return self._reader.read(self._prefix + name)

    def read_into(self, name: str, target: memoryview) -> None:
        self._reader.read_into(self._prefix + name, target)

    def lost(self, name: str) -> Ranges:
        return self._reader.lost(self._prefix + name)

    def alive(self) -> Flags:
        """Return which slots hold an item; those that cannot be read do, for all we know."""
        words = self.read("alive")
        bits = np.unpackbits(np.frombuffer(words, dtype=np.uint8), bitorder="little")[: self.n].astype(np.bool_)
        alive = np.zeros(self.n, dtype=np.bool_)
        alive[: len(bits)] = bits
        for start, stop in self.lost("alive"):
            alive[8 * start : 8 * stop] = True
        return alive

    def blobs(self, name: str) -> tuple[list[bytes], Flags]:
        """Return the bytes of each slot, empty for none, and for which slots they are known."""
        start = np.frombuffer(self.read(f"{name}/start"), dtype="<u8")[: self.n]
        arena = memoryview(self.read(f"{name}/arena"))
        is_known = np.ones(self.n, dtype=np.bool_)
        for first, last in self.lost(f"{name}/start"):
            is_known[first // 8 : -(-last // 8)] = False
        lost = self.lost(f"{name}/arena")
        found = [b""] * self.n
        for slot, place in enumerate(start.tolist()):
            if place == int(ABSENT) or not is_known[slot]:
                continue
            try:
                at, size = _leb128(arena, place)
            except IndexError:
                is_known[slot] = False
                continue
            if at + size > len(arena) or _meets(lost, place, at + size):
                is_known[slot] = False
                continue
            found[slot] = bytes(arena[at : at + size])
        return found, is_known

    def ids(self) -> tuple[list[str | None], Flags]:
        """Return the id of each slot, None where there is none, and for which slots that is known."""
        blobs, is_known = self.blobs("ids")
        found: list[str | None] = []
        for slot, blob in enumerate(blobs):
            try:
                found.append(str(blob, "utf-8") or None)
            except UnicodeDecodeError:
                found.append(None)
                is_known[slot] = False
        return found, is_known


def _meets(ranges: Ranges, start: int, stop: int) -> bool:
    return any(first < stop and start < last for first, last in ranges)


def salvage_pairs(data: bytes | bytearray, lost: Ranges) -> tuple[dict[str, bytes], list[Lost]]:
    """Read the key-value pairs of a section of which some ranges are lost.

    Where the beginning of a pair is lost, reading goes on at the first place from which pairs fit to the end.
    """
    pairs: dict[str, bytes] = {}
    losses: list[Lost] = []
    at, size = 0, len(data)
    while at < size:
        end = _pair_end(data, at)
        if end < 0 or _meets(lost, at, at + LENGTHS.size):
            found = _next_pair(data, at, lost)
            losses.append(Lost("keys", f"{found - at:,} bytes of pairs cannot be read"))
            at = found
            continue
        n_key, _ = LENGTHS.unpack_from(data, at)
        middle = at + LENGTHS.size + n_key
        is_key_lost = _meets(lost, at, middle)
        key = "" if is_key_lost else _key(data[at + LENGTHS.size : middle])
        if key and not _meets(lost, middle, end):
            pairs[key] = bytes(data[middle:end])
        else:
            what = "value" if key else "key"
            losses.append(Lost("keys", f"the {what} cannot be read", n=1, ids=(key,) if key else ()))
        at = end
    return pairs, losses


def _pair_end(data: bytes | bytearray, at: int) -> int:
    """Return where a pair ends; -1 when none begins there."""
    if at + LENGTHS.size > len(data):
        return -1
    n_key, n_value = LENGTHS.unpack_from(data, at)
    end: int = at + LENGTHS.size + n_key + n_value
    return end if 1 <= n_key <= MAX_KEY_BYTES and n_value <= MAX_VALUE_BYTES and end <= len(data) else -1


def _key(data: bytes | bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def _key_bytes(data: bytes | bytearray, at: int) -> bytes | bytearray:
    start = at + LENGTHS.size
    return data[start : start + LENGTHS.unpack_from(data, at)[0]]


def _next_pair(data: bytes | bytearray, at: int, lost: Ranges) -> int:
    """Return the first place behind the loss at `at` from which pairs fit up to the end, or to the next loss."""
    start = max((stop for first, stop in lost if first < at + LENGTHS.size), default=at)
    hopeless: set[int] = set()
    for candidate in _candidates(data, max(start, at + 1)):
        chain: list[int] = []
        place = candidate
        while place < len(data) and not _meets(lost, place, place + LENGTHS.size):
            end = _pair_end(data, place)
            if end < 0 or place in hopeless or not (_meets(lost, place, end) or _key(_key_bytes(data, place))):
                hopeless.update(chain)
                break
            chain.append(place)
            place = end
        else:
            return candidate
    return len(data)


def _candidates(data: bytes | bytearray, start: int) -> Iterator[int]:
    """Yield the places at which a pair may begin: the two high bytes of its key's length are 0, nearly always."""
    at = data.find(b"\0\0", start + 2)
    while at >= 0:
        if _pair_end(data, at - 2) > 0:
            yield at - 2
        at = data.find(b"\0\0", at + 1)
