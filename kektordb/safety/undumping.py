"""How does a dump become a database again? In memory first, so that the new directory is there whole, or not at all."""

from __future__ import annotations

import base64
import itertools
import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb._metadata import encode_many
from kektordb.commit import Pending
from kektordb.data.doors import parquet
from kektordb.database import Database
from kektordb.errors import ConfigError, CorruptData, ItemExists, StorageError
from kektordb.index import Index, prepare
from kektordb.interrupts import between, in_slices
from kektordb.kv import AllKeys
from kektordb.operations import Group, Operation, PutItems
from kektordb.precision import conversion_before, is_normalised, squared_lengths
from kektordb.progress import Progress, check_progress, onward, show
from kektordb.safety.backup import require_empty
from kektordb.safety.dumping import VERSION, DumpReport
from kektordb.storage import write_directory
from kektordb.storage.directory import naming_errors
from kektordb.validation import as_rows, check_embedder_name, check_ids, check_path

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["load"]

T = TypeVar("T")

ROWS = 4096
Slice = tuple[list[str], npt.NDArray[np.float32], list[dict[str, Any] | None]]


class _Entry(msgspec.Struct):
    directory: str
    name: str
    n_items: int


class _Head(msgspec.Struct):
    format: str
    version: int
    items: str
    indexes: list[_Entry]
    n_keys: int


class _IndexHead(msgspec.Struct):
    name: str
    config: dict[str, Any]
    n_items: int


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    metadata: dict[str, Any] | None = None


class _Pair(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    value: str


@in_slices
def load(dump: str | os.PathLike[str], path: str | os.PathLike[str], *, progress: Progress = False) -> DumpReport:
    """Make a database of a dump. Vectors are those of the dump, bit by bit; graphs and text indexes are built.

    Parameters
    ----------
    dump : str or path
        What `dump` wrote, or something that looks like it.
    path : str or path
        A directory that is empty, or not there. A process that is killed leaves nothing in it that opens.
    progress : bool or callable
        True shows a bar; a function is called with (done, total) items.

    Raises
    ------
    CorruptData
        A file of the dump cannot be understood.
    StorageError, StorageFull, ConfigError, VectorError, MetadataError, IdError, ItemExists
        Nothing was made.
    """
    source, target = os.path.abspath(check_path(dump)), os.path.abspath(check_path(path))
    check_progress(progress)
    require_empty(target)
    with naming_errors(f"cannot read {source}"), Database.open(":memory:") as database:
        head = _read_head(source)
        n_items = sum(entry.n_items for entry in head.indexes)
        with show(progress, n_items, "loading", "items") as step:
            done = 0
            for entry in head.indexes:
                _load_index(database, os.path.join(source, entry.directory), entry, head.items, onward(step, done))
                done += entry.n_items
        n_lines = _load_keys(database, os.path.join(source, "kv.jsonl"))
        if n_lines != head.n_keys:
            raise CorruptData(f"expected {head.n_keys} keys, got {n_lines}", os.path.join(source, "kv.jsonl"))
        frozen = database._state.freeze(whole=True)
        write_directory(target, 0, frozen.meta, frozen.sections, None)
        return DumpReport(target, len(head.indexes), n_items, len(database.kv))


def _read_head(source: str) -> _Head:
    path = os.path.join(source, "dump.json")
    if not os.path.isfile(path):
        raise StorageError(f"{source} is no dump, or an unfinished one: there is no dump.json")
    head = _decode(_read(path), _Head, path)
    if head.format != "kektordb dump" or head.version != VERSION or head.items not in ("npy", "parquet"):
        raise StorageError(f"{path}: expected a dump of version {VERSION}, got {head.format!r:.40} {head.version}")
    for entry in head.indexes:
        if os.path.basename(entry.directory) != entry.directory or entry.directory in ("", ".", ".."):
            raise CorruptData(f"expected the name of a directory in the dump, got {entry.directory!r:.80}", path)
    return head


def _load_index(database: Database, folder: str, entry: _Entry, items: str, step: Callable[[int], None]) -> None:
    path = os.path.join(folder, "config.json")
    head = _decode(_read(path), _IndexHead, path)
    options = {**head.config, "dim": head.config.get("dim") or None}
    embedder = options.pop("embedder", "")
    try:
        index = database.create_index(entry.name, **options)
    except TypeError as error:
        raise ConfigError(f"{path}: {error}") from error
    if embedder:
        # A name, of which no embedder is made here.
        index._name_embedder(check_embedder_name(embedder))
    read = _parquet if items == "parquet" else _arrays
    done = 0
    for ids, vectors, metadata in read(folder):
        _put(index, ids, vectors, metadata)
        done += len(ids)
        step(done)
        between()
    if done != entry.n_items:
        raise CorruptData(f"expected {entry.n_items} items, got {done}", folder)


def _put(index: Index, ids: list[str], vectors: npt.NDArray[np.float32], metadata: Sequence[Any]) -> None:
    """Add items as they were stored: what was normalised is not normalised again, which would change its last bits."""
    collection = index._collection()
    checked, rows = check_ids(ids), as_rows(vectors, len(ids), collection.dim)
    prepared = prepare(collection, checked, rows)
    if collection.config.metric == "cosine":
        normal = is_normalised(squared_lengths(rows))[:, None]
        prepared = np.ascontiguousarray(np.where(normal, rows, prepared), dtype=np.float32)
    blobs = encode_many(metadata, checked)

    def build(pending: Pending) -> Operation:
        number = pending.state.numbers[index.name]
        known = pending.first_known(number, collection, checked)
        if known is not None:
            raise ItemExists(f"expected each id once in a dump, got {known!r} twice")
        put = PutItems(number, checked, prepared, blobs)
        before = conversion_before(collection, number, prepared)
        return put if before is None else Group((before, put))

    index.database._commit(build)


def _arrays(folder: str) -> Iterator[Slice]:
    path = os.path.join(folder, "vectors.npy")
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CorruptData(f"not an array ({error})", path) from error
    if vectors.ndim != 2 or vectors.dtype not in (np.float16, np.float32):
        raise CorruptData(f"expected (n, dim) float32 or float16, got {vectors.shape} {vectors.dtype}", path)
    start = 0
    with open(os.path.join(folder, "items.jsonl"), "rb") as lines:
        while some := list(itertools.islice(lines, ROWS)):
            if start + len(some) > len(vectors):
                raise CorruptData(f"{len(vectors)} vectors for more items", path)
            items = [_decode(line, _Item, lines.name) for line in some]
            rows = np.array(vectors[start : start + len(items)], dtype=np.float32)
            yield [item.id for item in items], rows, [item.metadata or None for item in items]
            start += len(items)
    if start != len(vectors):
        raise CorruptData(f"{len(vectors)} vectors for {start} items", path)


def _parquet(folder: str) -> Iterator[Slice]:
    path = os.path.join(folder, "items.parquet")
    pa = parquet()
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=["id", "vector", "metadata"]):
                ids, texts = batch.column("id").to_pylist(), batch.column("metadata").to_pylist()
                flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
                rows = np.array(flat, dtype=np.float32).reshape(len(ids), -1)
                yield ids, rows, [json.loads(text) if text else None for text in texts]
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise CorruptData(f"not a table of items ({error})", path) from error


def _load_keys(database: Database, path: str) -> int:
    n, keys = 0, AllKeys(database)
    with open(path, "rb") as lines:
        for line in lines:
            pair = _decode(line, _Pair, path)
            try:
                keys[pair.key] = base64.b64decode(pair.value, validate=True)
            except ValueError as error:
                raise CorruptData(f"the value of key {pair.key!r:.80}: {error}", path) from error
            n += 1
    return n


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _decode(data: bytes, kind: type[T], path: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"not understood ({error}): {data[:80]!r}", path) from error
