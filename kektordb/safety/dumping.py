"""How do a user's data leave a database, in files that anything reads? Text, arrays, tables; docs/backup.md lists them.

``dump.json`` is written last: without it a dump is unfinished.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb.data.doors import parquet
from kektordb.database import Database
from kektordb.errors import ConfigError, StorageError
from kektordb.index import Index
from kektordb.interrupts import between, in_slices
from kektordb.kv import AllKeys
from kektordb.progress import Progress, check_progress, onward, show
from kektordb.results import Item
from kektordb.storage import OsBackend
from kektordb.storage.backend import File, write_all
from kektordb.storage.directory import naming_errors
from kektordb.validation import check_path

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["FORMATS", "DumpReport", "dump"]

FORMATS = ("npy", "parquet")
VERSION = 1
ROWS = 1024  # in memory at once


class DumpReport(msgspec.Struct, frozen=True):
    """What was written to a dump, or read from one.

    Attributes
    ----------
    path : str
        Of what was made.
    n_indexes, n_items, n_keys : int
    """

    path: str
    n_indexes: int
    n_items: int
    n_keys: int


@in_slices
def dump(
    database: Database | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str = "npy",
    progress: Progress = False,
) -> DumpReport:
    """Write all data of a database to files that need no kektordb to be read. `load` makes a database of them again.

    Memory is bounded: items are written as they are read.

    Parameters
    ----------
    database : Database, str or path
        An open one, to which writes wait meanwhile; or the path of a directory or backup file, which is opened
        read-only, as it is now: then writers go on.
    out : str or path
        A directory that is empty, or not there.
    format : str
        ``npy``: ``vectors.npy`` and ``items.jsonl`` for each index. ``parquet``: ``items.parquet``, with pyarrow.
    progress : bool or callable
        True shows a bar; a function is called with (done, total) items.

    Raises
    ------
    ConfigError, StorageError
        Also when there is anything in the directory. A dump that fails has no ``dump.json`` and is not loaded.
    """
    target = os.path.abspath(check_path(out))
    check_progress(progress)
    if format not in FORMATS:
        raise ConfigError(f"expected format to be one of {', '.join(FORMATS)}, got {format!r:.80}")
    if format == "parquet":
        parquet()
    if isinstance(database, Database):
        database._live()
        database._refuse_inside_write()
        with database._commits.lock.alone:
            return _dump(database, target, format, progress)
    with Database.open(os.path.abspath(check_path(database)), read_only=True) as opened:
        return _dump(opened, target, format, progress)


def _dump(database: Database, target: str, format: str, progress: Progress) -> DumpReport:
    with naming_errors(f"cannot write {target}"):
        _make_empty(target)
        database._live()
        indexes: list[dict[str, Any]] = []
        n_items = sum(len(database[name]) for name in database)
        with show(progress, n_items, "dumping", "items") as step:
            done = 0
            for number, name in enumerate(database, 1):
                folder = f"index-{number:06d}"
                _dump_index(database[name], os.path.join(target, folder), format, onward(step, done))
                done += len(database[name])
                indexes.append({"directory": folder, "name": name, "n_items": len(database[name])})
        n_lines = _dump_keys(database, os.path.join(target, "kv.jsonl"))
        head = {"format": "kektordb dump", "version": VERSION, "items": format, "indexes": indexes, "n_keys": n_lines}
        with _file(os.path.join(target, "tmp-dump.json")) as file:
            file.write(json.dumps(head, ensure_ascii=False, indent=1).encode())
        os.replace(os.path.join(target, "tmp-dump.json"), os.path.join(target, "dump.json"))
        return DumpReport(target, len(indexes), n_items, len(database.kv))


def _make_empty(target: str) -> None:
    if os.path.lexists(target):
        if not os.path.isdir(target) or os.listdir(target):
            raise StorageError(f"{target} is not empty; expected a new or empty directory")
    else:
        os.mkdir(target, 0o700)


def _dump_index(index: Index, folder: str, format: str, step: Callable[[int], None]) -> None:
    os.mkdir(folder, 0o700)
    stats = index.stats()
    config = {"name": index.name, "dim": index.dim, "config": index.config.to_dict(), "n_items": len(index)}
    with _file(os.path.join(folder, "config.json")) as file:
        file.write(json.dumps(config, ensure_ascii=False, indent=1).encode())
    dtype = np.dtype("<f2" if stats["stored_precision"] == "float16" else "<f4")
    write = _write_parquet if format == "parquet" else _write_arrays
    with write(folder, len(index), index.dim or 0, dtype) as rows:
        ids = index.ids()
        for start in range(0, len(ids), ROWS):
            items = [item for item in index.get_many(ids[start : start + ROWS]) if item is not None]
            rows(items, np.array([item.vector for item in items], dtype=dtype))
            step(start + len(items))
            between()


class _Rows(Protocol):
    def __call__(self, items: Sequence[Item], vectors: npt.NDArray[Any], /) -> None: ...


@contextlib.contextmanager
def _write_arrays(folder: str, n: int, dim: int, dtype: np.dtype[Any]) -> Iterator[_Rows]:
    with _file(os.path.join(folder, "items.jsonl")) as lines, _file(os.path.join(folder, "vectors.npy")) as array:
        head = {"descr": dtype.str, "fortran_order": False, "shape": (n, dim)}
        np.lib.format.write_array_header_1_0(array, head)

        def rows(items: Sequence[Item], vectors: npt.NDArray[Any]) -> None:
            for item in items:
                lines.write(_line({"id": item.id, "metadata": item.metadata}))
            array.write(vectors.tobytes())

        yield rows


@contextlib.contextmanager
def _write_parquet(folder: str, n: int, dim: int, dtype: np.dtype[Any]) -> Iterator[_Rows]:
    pa = parquet()
    # Before there is a vector there is no dimension.
    vector = pa.list_(pa.float32(), dim) if dim else pa.list_(pa.float32())
    schema = pa.schema([("id", pa.string()), ("vector", vector), ("metadata", pa.string())])
    with (
        _file(os.path.join(folder, "items.parquet")) as file,
        pa.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):

        def rows(items: Sequence[Item], vectors: npt.NDArray[Any]) -> None:
            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).reshape(-1)), dim)
            metadata = [json.dumps(item.metadata, ensure_ascii=False) for item in items]
            columns = [pa.array([item.id for item in items]), flat, pa.array(metadata)]
            writer.write_table(pa.table(columns, schema=schema))

        yield rows


def _dump_keys(database: Database, path: str) -> int:
    n = 0
    with _file(path) as file:
        for key, value in AllKeys(database).items():
            file.write(_line({"key": key, "value": base64.b64encode(value).decode()}))
            n += 1
    return n


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@contextlib.contextmanager
def _file(path: str) -> Iterator[io.BufferedWriter[_Raw]]:
    """Open a new file; what was written to it is durable at the end."""
    file = OsBackend().open(path, "create")
    try:
        with io.BufferedWriter(_Raw(file)) as buffered:
            yield buffered
        file.sync()
    finally:
        file.close()


class _Raw(io.RawIOBase):
    """A file that takes nothing in a child that is forked meanwhile: there the buffer above it is not its own."""

    def __init__(self, file: File) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        write_all(self._file, view)
        return len(view)
