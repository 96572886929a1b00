"""How are items written to a file? As JSON lines, CSV, .npy or Parquet, which come back, or for other systems."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from kektordb.data.elsewhere import decimals, pgvector, qdrant
from kektordb.data.formats import WRITTEN, format_of
from kektordb.data.outgoing import Exported, Rows, rows_of
from kektordb.errors import ConfigError, KektorError, StorageError
from kektordb.progress import Progress, check_progress, show

if TYPE_CHECKING:
    from kektordb.query import Filter

__all__ = ["export"]

NPY_HEAD = 128

Write = Callable[[Rows], None]


def export(
    index: Exported,
    path: str | os.PathLike[str],
    format: str | None,
    filter: Filter | None,
    params: Mapping[str, Any] | None,
    progress: Progress,
) -> int:
    """Write items to a new file; see `Tabular.export`."""
    check_progress(progress)
    name = os.fspath(path)
    kind = format if format in WRITTEN else format_of(name, format)
    if kind not in WRITTEN:
        raise ConfigError(f"expected one of {', '.join(WRITTEN)} to write, got {kind}")
    ids = index.ids(filter, params)
    n, done = 0, 0
    with writing(name, kind, index) as write, show(progress, len(ids), "exporting", "items") as step:
        for rows in rows_of(index, ids):
            write(rows)
            n += len(rows.ids)
            done = min(done + len(rows.ids), len(ids))
            if step is not None:
                step(done)
    return n


@contextmanager
def writing(path: str, format: str, index: Exported) -> Iterator[Write]:
    """Give what writes items to a new file. A file that was begun and not ended is removed.

    Raises
    ------
    StorageError
        Also when the file is there already.
    """
    begin, ending = _WRITERS[format]
    made = [path, path + ending] if ending else [path]
    for one in made:
        if os.path.exists(one):
            raise StorageError(f"{one} is there already")
    try:
        with begin(path, index) as write:
            yield write
    except BaseException as error:
        for one in made:
            if os.path.exists(one):
                os.unlink(one)
        if isinstance(error, OSError) and not isinstance(error, KektorError):
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def _jsonl(path: str, _: Exported) -> Iterator[Write]:
    with open(path, "x", encoding="utf-8") as file:

        def write(rows: Rows) -> None:
            for id, vector, metadata in zip(*rows, strict=True):
                file.write(_json({"id": id, "vector": decimals(vector), "metadata": metadata}) + "\n")

        yield write


@contextmanager
def _csv(path: str, _: Exported) -> Iterator[Write]:
    """Write ``id``, ``vector`` and ``metadata``, the last two as JSON: the columns of metadata differ by item."""
    with open(path, "x", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("id", "vector", "metadata"))

        def write(rows: Rows) -> None:
            for id, vector, metadata in zip(*rows, strict=True):
                lines.writerow((id, _json(decimals(vector)), _json(metadata) if metadata else ""))

        yield write


@contextmanager
def _npy(path: str, _: Exported) -> Iterator[Write]:
    """Write the vectors, and ids with metadata beside them, in a file with ``.jsonl`` at its end."""
    with open(path, "xb") as vectors, open(path + ".jsonl", "x", encoding="utf-8") as beside:
        n, dim = 0, 0
        vectors.write(bytes(NPY_HEAD))

        def write(rows: Rows) -> None:
            nonlocal n, dim
            n, dim = n + len(rows.ids), rows.vectors.shape[1]
            vectors.write(np.ascontiguousarray(rows.vectors, "<f4").data.cast("B"))
            for id, metadata in zip(rows.ids, rows.metadata, strict=True):
                beside.write(_json({"id": id, "metadata": metadata}) + "\n")

        yield write
        vectors.seek(0)
        vectors.write(_npy_head(n, dim))


def _npy_head(n: int, dim: int) -> bytes:
    """Return the head of an array, of one size for all shapes: how many rows there are is known at the end."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {dim}), }}".encode()
    return b"\x93NUMPY\x01\x00" + (NPY_HEAD - 10).to_bytes(2, "little") + text.ljust(NPY_HEAD - 11) + b"\n"


@contextmanager
def _parquet(path: str, index: Exported) -> Iterator[Write]:
    """Write ``id``, ``vector`` and ``metadata``, which is JSON."""
    from kektordb.data.doors import parquet
    from kektordb.data.outgoing import arrow_batch, arrow_schema

    pa = parquet()
    schema = arrow_schema(index.dim)
    with open(path, "xb") as file, pa.parquet.ParquetWriter(file, schema, compression="zstd") as writer:

        def write(rows: Rows) -> None:
            writer.write_batch(arrow_batch(rows, schema))

        yield write


_WRITERS: dict[str, tuple[Callable[[str, Exported], AbstractContextManager[Write]], str]] = {
    "jsonl": (_jsonl, ""),
    "csv": (_csv, ""),
    "npy": (_npy, ".jsonl"),
    "parquet": (_parquet, ""),
    "qdrant": (qdrant, ".collection.json"),
    "pgvector": (pgvector, ".sql"),
}
