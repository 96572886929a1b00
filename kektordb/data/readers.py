"""Which items does a file hold? JSON lines, CSV, .npy, .fvecs, .ivecs and Parquet, read in parts of bounded size."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from kektordb.data.formats import format_of
from kektordb.data.incoming import Source
from kektordb.data.parts import Part, id_of, matrix, rows_at_once
from kektordb.errors import ConfigError, StorageError

__all__ = ["ARRAYS", "file_source", "n_items_of", "read_parts", "read_vectors"]

# Formats that hold vectors alone.
ARRAYS = ("npy", "fvecs", "ivecs")
# CSV fields may hold whole vectors as text.
MAX_FIELD = 16 << 20
# Integers up to here fit in 64 bits.
MAX_DIGITS = 18
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def file_source(
    path: str | os.PathLike[str],
    format: str | None = None,
    ids: str | os.PathLike[str] | None = None,
    metadata: str | os.PathLike[str] | None = None,
    counted: bool = False,
) -> Source:
    """Return the items of a file; how many they are only when it is `counted`, since lines must be read for it.

    Raises as `read_parts`.
    """
    name = os.fspath(path)
    kind = format_of(name, format)
    beside = [None if one is None else os.fspath(one) for one in (ids, metadata)]
    return Source(read_parts(name, kind, *beside), n_items_of(name, kind) if counted else 0)


def read_parts(path: str, format: str, ids: str | None = None, metadata: str | None = None) -> Iterator[Part]:
    """Give the items of a file.

    Parameters
    ----------
    path, format : str
    ids, metadata : str, optional
        Files with an id, a JSON object, in each line, for formats that hold vectors alone; ids count from 0 otherwise.

    Raises
    ------
    StorageError
        A file cannot be read.
    ConfigError, IdError, VectorError, MetadataError
        It holds something else; the message names the line.
    """
    if format not in ARRAYS and (ids is not None or metadata is not None):
        raise ConfigError("ids and metadata in files of their own are for files of vectors alone: .npy, .fvecs, .ivecs")
    with _naming(path):
        if format in ARRAYS:
            yield from _with_columns(path, read_vectors(path, format), ids, metadata)
        elif format == "parquet":
            yield from _parquet(path)
        else:
            yield from _lines(path, format)


def n_items_of(path: str, format: str) -> int:
    """Return how many items a file has, empty lines as well: for a bar. Raises as `read_parts`."""
    with _naming(path):
        if format in ARRAYS:
            return len(read_vectors(path, format))
        if format == "parquet":
            with _parquet_file(path) as file:
                return int(file.metadata.num_rows)
        with open(path, "rb") as file:
            return sum(1 for _ in file)


def read_vectors(path: str | os.PathLike[str], format: str | None = None) -> npt.NDArray[Any]:
    """Return the vectors of an .npy, .fvecs or .ivecs file as an array (n, dim) that is read where it is looked at.

    Raises ConfigError, StorageError.
    """
    name = os.fspath(path)
    kind = format_of(name, format)
    if kind not in ARRAYS:
        raise ConfigError(f"expected a file of vectors alone ({', '.join(ARRAYS)}), got {kind}")
    with _naming(name):
        return _npy(name) if kind == "npy" else _vecs(name, "<f4" if kind == "fvecs" else "<i4")


@contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected UTF-8") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


# ---------------------------------------------------------------------------------------------------- lines of items

Item = tuple[str, Any, dict[str, Any] | None]


def _lines(path: str, format: str) -> Iterator[Part]:
    with open(path, encoding="utf-8-sig", newline="" if format == "csv" else None) as file:
        items = _csv_items(path, file) if format == "csv" else _json_items(path, file)
        for first in items:
            size = rows_at_once(np.size(first[1]))
            some = [first, *itertools.islice(items, size - 1)]
            ids = [id for id, _, _ in some]
            yield Part(ids, matrix([vector for _, vector, _ in some], ids, path), [of for _, _, of in some])


def _json_items(path: str, file: TextIO) -> Iterator[Item]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield _json_item(line)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ConfigError(f"{path}, line {number}: expected an object with id and vector: {error!r}") from None


def _json_item(line: str) -> Item:
    found = json.loads(line)
    # As an array at once: the numbers of thousands of vectors would be eight times as large.
    return id_of(found["id"], "id"), np.array(found["vector"], np.float32), found.get("metadata")


def _csv_items(path: str, file: TextIO) -> Iterator[Item]:
    """Give the rows: columns ``id`` and ``vector``, or one column for each component; the others are metadata."""
    csv.field_size_limit(MAX_FIELD)
    rows = csv.reader(file)
    try:
        head = next(rows, [])
        if "id" not in head:
            raise ConfigError(f"{path}: expected a first line with the names of columns, id among them")
        components = [i for i, name in enumerate(head) if name[:1] == "v" and name[1:].isdigit()]
        if "vector" not in head and not components:
            raise ConfigError(f"{path}: expected a column vector, or columns v0, v1, …")
        taken = {"id", "vector"} if "vector" in head else {"id", *(head[i] for i in components)}
        for row in rows:
            if len(row) != len(head):
                raise ConfigError(f"{path}, line {rows.line_num}: expected {len(head)} columns, got {len(row)}")
            cells = dict(zip(head, row, strict=True))
            try:
                text = cells["vector"] if "vector" in head else None
                vector = np.array([row[i] for i in components], np.float32) if text is None else _vector(text)
            except ValueError as error:
                raise ConfigError(f"{path}, line {rows.line_num}: expected numbers as vector: {error}") from None
            of = {name: _value(cell) for name, cell in cells.items() if name not in taken and cell != ""}
            own = of.pop("metadata", "")
            yield cells["id"], vector, {**_own(path, rows.line_num, own), **of} or None
    except csv.Error as error:
        raise ConfigError(f"{path}, line {rows.line_num}: {error}") from None


def _own(path: str, line: int, cell: Any) -> dict[str, Any]:
    """Return what a column metadata holds: a JSON object, or anything else under that name."""
    if not isinstance(cell, str) or not cell.startswith("{"):
        return {"metadata": cell} if cell != "" else {}
    try:
        found: dict[str, Any] = json.loads(cell)
    except ValueError as error:
        raise ConfigError(f"{path}, line {line}: expected metadata as JSON: {error}") from None
    return found


def _vector(text: str) -> npt.NDArray[np.float32]:
    return np.array(text.strip().strip("[]").replace(",", " ").split(), np.float32)


def _value(cell: str) -> Any:
    """Return a number where a cell is written like one, true or false, else the text: 007 is a text."""
    if cell in ("true", "false"):
        return cell == "true"
    found = _NUMBER.fullmatch(cell)
    if found is None or cell == "-0":
        return cell
    if found[1] or found[2]:
        value = float(cell)
        return value if math.isfinite(value) else cell
    return int(cell) if len(cell) <= MAX_DIGITS else cell


# --------------------------------------------------------------------------------------------- vectors, the rest beside


def _npy(path: str) -> npt.NDArray[Any]:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise ConfigError(f"{path}: expected an .npy file of numbers") from None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise ConfigError(f"{path}: expected an array of numbers with two axes (n, dim)")
    return rows


def _vecs(path: str, kind: str) -> npt.NDArray[Any]:
    """Return the rows of a file in which each begins with its number of components, as an int32."""
    n_bytes = os.path.getsize(path)
    if n_bytes == 0:
        return np.empty((0, 1), kind)
    with open(path, "rb") as file:
        dim = int.from_bytes(file.read(4), "little")
    if not 1 <= dim <= 65_536 or n_bytes % (4 * dim + 4):
        raise ConfigError(f"{path}: expected rows of {dim} components, each after its number as an int32")
    rows = np.memmap(path, "<i4", "r").reshape(-1, dim + 1)
    if not (rows[:, 0] == dim).all():
        raise ConfigError(f"{path}: expected all rows to have {dim} components")
    return rows[:, 1:].view(kind)


def _with_columns(path: str, rows: npt.NDArray[Any], ids: str | None, metadata: str | None) -> Iterator[Part]:
    names: Iterator[str] = map(str, range(len(rows))) if ids is None else _texts(ids)
    beside = itertools.repeat(None) if metadata is None else _objects(metadata)
    size = rows_at_once(rows.shape[1])
    for start in range(0, len(rows), size):
        part = np.asarray(rows[start : start + size], np.float32)
        some = list(itertools.islice(names, len(part)))
        of = list(itertools.islice(beside, len(part)))
        if len(some) < len(part) or len(of) < len(part):
            short = ids if len(some) < len(part) else metadata
            raise ConfigError(f"{short}: expected a line for each of the {len(rows)} rows of {path}")
        if start + size >= len(rows):
            _require_end(names, ids, path, len(rows))
            _require_end(beside if metadata is not None else iter(()), metadata, path, len(rows))
        yield Part(some, part, of)


def _require_end(left: Iterator[Any], name: str | None, path: str, n_rows: int) -> None:
    """Refuse a file beside one of vectors that has more lines, but for empty ones: it belongs to another."""
    if any(line not in (None, "") for line in left):
        raise ConfigError(f"{name}: expected a line for each of the {n_rows} rows of {path}, got more")


def _texts(path: str) -> Iterator[str]:
    """Give the lines; of an export, which has objects with id and metadata in them, the ids."""
    for line in _raw_lines(path):
        yield id_of(json.loads(line)["id"], path) if line.startswith('{"id": ') else line


def _raw_lines(path: str) -> Iterator[str]:
    with _naming(path), open(path, encoding="utf-8-sig") as file:
        for line in file:
            yield line.rstrip("\n")


def _objects(path: str) -> Iterator[dict[str, Any] | None]:
    for number, line in enumerate(_raw_lines(path), 1):
        try:
            found = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
        # A line of an export names the id as well.
        yield found["metadata"] if isinstance(found, dict) and set(found) == {"id", "metadata"} else found


def _parquet(path: str) -> Iterator[Part]:
    """Give the rows: ``id``, ``vector`` (a list of numbers), ``metadata`` (JSON text or a struct), or other columns."""
    from kektordb.data.columns import choose, part_of

    with _parquet_file(path) as file:
        names = file.schema_arrow.names
        if "id" not in names or "vector" not in names:
            raise ConfigError(f"{path}: expected columns id and vector, got {', '.join(names):.200}")
        columns, first = choose(names), 0
        for batch in file.iter_batches(batch_size=_rows_of_parquet(file)):
            if batch.num_rows:
                yield part_of(batch, columns, first)
            first += batch.num_rows


def _rows_of_parquet(file: Any) -> int:
    """Return how many rows are read at once; how long lists are is known by their number in the first rows."""
    n_rows, schema = file.metadata.num_rows, file.metadata.schema
    leaves = [schema.column(i).path for i in range(len(schema))]
    at = next((i for i, leaf in enumerate(leaves) if leaf.partition(".")[0] == "vector"), None)
    if not n_rows or at is None:
        return rows_at_once(0)
    group = file.metadata.row_group(0)
    return rows_at_once(group.column(at).num_values // max(1, group.num_rows))


def _parquet_file(path: str) -> Any:
    from kektordb.data.doors import parquet

    pa = parquet()
    try:
        return pa.parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{path}: expected a Parquet file: {error}") from None
