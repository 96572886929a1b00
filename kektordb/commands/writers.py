"""How are items written to a file? As JSON lines, CSV, .npy or Parquet; `readers` takes all of them back."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kektordb.errors import KektorError, StorageError

if TYPE_CHECKING:
    from kektordb.results import Item

__all__ = ["writing"]

NPY_HEAD = 128

Write = Callable[[Sequence["Item"]], None]


@contextmanager
def writing(path: str, format: str) -> Iterator[Write]:
    """Give what writes items to a new file. A file that was begun and not ended is removed.

    Raises
    ------
    StorageError
        Also when the file is there already.
    """
    begin = {"jsonl": _jsonl, "csv": _csv, "npy": _npy, "parquet": _parquet}[format]
    made = [path, beside_of(path)] if format == "npy" else [path]
    for one in made:
        if os.path.exists(one):
            raise StorageError(f"{one} is there already")
    try:
        with begin(path) as write:
            yield write
    except BaseException as error:
        for one in made:
            if os.path.exists(one):
                os.unlink(one)
        if isinstance(error, OSError) and not isinstance(error, KektorError):
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def beside_of(path: str) -> str:
    """Return the file with ids and metadata that belongs to one of vectors alone."""
    return f"{path}.jsonl"


def _decimals(vector: npt.NDArray[np.float32]) -> list[float]:
    """Return the shortest decimals that are these float32."""
    return [float(str(number)) for number in vector]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def _jsonl(path: str) -> Iterator[Write]:
    with open(path, "x", encoding="utf-8") as file:

        def write(items: Sequence[Item]) -> None:
            for item in items:
                found = {"id": item.id, "vector": _decimals(item.vector), "metadata": item.metadata}
                file.write(_json(found) + "\n")

        yield write


@contextmanager
def _csv(path: str) -> Iterator[Write]:
    """Write ``id``, ``vector`` and ``metadata``, the last two as JSON: the columns of metadata differ by item."""
    with open(path, "x", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "vector", "metadata"))

        def write(items: Sequence[Item]) -> None:
            for item in items:
                metadata = _json(item.metadata) if item.metadata else ""
                rows.writerow((item.id, _json(_decimals(item.vector)), metadata))

        yield write


@contextmanager
def _npy(path: str) -> Iterator[Write]:
    """Write the vectors, and ids with metadata beside them, in a file with ``.jsonl`` at its end."""
    with open(path, "xb") as vectors, open(beside_of(path), "x", encoding="utf-8") as beside:
        n, dim = 0, 0
        vectors.write(bytes(NPY_HEAD))

        def write(items: Sequence[Item]) -> None:
            nonlocal n, dim
            for item in items:
                n, dim = n + 1, len(item.vector)
                vectors.write(np.ascontiguousarray(item.vector, "<f4").tobytes())
                beside.write(_json({"id": item.id, "metadata": item.metadata}) + "\n")

        yield write
        vectors.seek(0)
        vectors.write(_npy_head(n, dim))


def _npy_head(n: int, dim: int) -> bytes:
    """Return the head of an array, of one size for all shapes: how many rows there are is known at the end."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {dim}), }}".encode()
    return b"\x93NUMPY\x01\x00" + (NPY_HEAD - 10).to_bytes(2, "little") + text.ljust(NPY_HEAD - 11) + b"\n"


@contextmanager
def _parquet(path: str) -> Iterator[Write]:
    """Write ``id``, ``vector`` and ``metadata``, which is JSON."""
    from kektordb.dumping import arrow

    pa = arrow()
    types = [("id", pa.string()), ("vector", pa.list_(pa.float32())), ("metadata", pa.string())]
    schema = pa.schema(types)
    with open(path, "xb") as file, pa.parquet.ParquetWriter(file, schema, compression="zstd") as writer:

        def write(items: Sequence[Item]) -> None:
            columns = {
                "id": [item.id for item in items],
                "vector": [item.vector for item in items],
                "metadata": [_json(item.metadata) for item in items],
            }
            writer.write_table(pa.table(columns, schema=schema))

        yield write
