"""How do many items come in, part by part? From Arrow, data frames and files; two parts at a time are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from kektordb.data.columns import Columns, choose, dim_of, part_of
from kektordb.data.doors import arrow
from kektordb.data.parts import Part, id_of, matrix, plain, rows_at_once
from kektordb.errors import ConfigError, IdError, KektorError
from kektordb.progress import Progress, check_progress, show

if TYPE_CHECKING:
    Vectors = npt.NDArray[Any]

__all__ = ["Source", "Takes", "arrow_source", "frame_source", "put_parts"]


class Takes(Protocol):
    """What items are put into."""

    def add_batch(
        self, ids: Sequence[str], vectors: npt.ArrayLike, metadata: Sequence[Mapping[str, Any] | None] | None = None
    ) -> None:
        """Add many items."""
        ...

    def upsert_batch(
        self, ids: Sequence[str], vectors: npt.ArrayLike, metadata: Sequence[Mapping[str, Any] | None] | None = None
    ) -> None:
        """Add or replace many items."""
        ...


class Source(NamedTuple):
    """Where items come from, and how many they are; 0 when that is not known."""

    parts: Iterable[Part]
    total: int


def put_parts(index: Takes, source: Source, replace: bool, progress: Progress, what: str = "adding") -> int:
    """Add all items of a source, each part whole or not at all, and count them.

    Raises
    ------
    KektorError
        A note says how many items came in before, if any did.
    """
    check_progress(progress)
    put = index.upsert_batch if replace else index.add_batch
    n = 0
    try:
        with show(progress, source.total, what, "items") as step:
            for part in source.parts:
                put(part.ids, part.vectors, part.metadata)
                n += len(part.ids)
                del part  # before the next one is read
                if step is not None:
                    step(n)
    except KektorError as error:
        if n:
            error.add_note(f"the first {n} items were stored before")
        raise
    return n


# --------------------------------------------------------------------------------------------------------------- Arrow


def arrow_source(data: Any, id: str, vector: str, metadata: str | None, columns: Sequence[str] | None) -> Source:
    """Return the items of a table, a reader, or anything that has ``__arrow_c_stream__``. Raises ConfigError."""
    pa = arrow()
    if hasattr(data, "scanner"):  # a dataset
        data = data.scanner()
    if hasattr(data, "to_reader") and not hasattr(data, "__arrow_c_stream__"):
        data = data.to_reader()
    total = len(data) if hasattr(data, "__len__") else 0
    if hasattr(data, "__arrow_c_stream__"):
        reader = data if isinstance(data, pa.RecordBatchReader) else pa.RecordBatchReader.from_stream(data)
    elif hasattr(data, "__arrow_c_array__"):
        batch = pa.record_batch(data)
        reader = pa.RecordBatchReader.from_batches(batch.schema, [batch])
    else:
        raise ConfigError(f"expected a table or anything with __arrow_c_stream__, got {type(data).__name__}")
    chosen = choose(reader.schema.names, id, vector, metadata, columns)
    return Source(_arrow_parts(reader, chosen), total)


def _arrow_parts(reader: Any, columns: Columns) -> Iterator[Part]:
    """Give parts of one size, however large or small the batches are; one that lies in a batch is not copied."""
    size = rows_at_once(dim_of(reader.schema.field(columns.vector).type))
    waiting: list[Part] = []
    n, first = 0, 0
    for batch in reader:
        start = 0
        while start < batch.num_rows:
            piece = batch.slice(start, size - n)
            waiting.append(part_of(piece, columns, first + start))
            start, n = start + piece.num_rows, n + piece.num_rows
            if n == size:
                yield _joined(waiting)
                n = 0
        first += batch.num_rows
        del batch, piece  # before the next one is read
    if waiting:
        yield _joined(waiting)


def _joined(waiting: list[Part]) -> Part:
    """Return parts as one, and let go of them."""
    if len(waiting) == 1:
        return waiting.pop()
    parts = waiting[:]
    waiting.clear()
    ids = [id for part in parts for id in part.ids]
    dims = {part.vectors.shape[1] for part in parts}
    vectors = np.concatenate([part.vectors for part in parts]) if len(dims) == 1 else _uneven(parts, ids)
    return Part(ids, vectors, [of for part in parts for of in part.metadata])


def _uneven(parts: list[Part], ids: list[str]) -> Vectors:
    return matrix([row for part in parts for row in part.vectors], ids, "the table")


# -------------------------------------------------------------------------------------------------------------- pandas


def frame_source(
    frame: Any, id: str | None, vector: str | Sequence[str], metadata: str | None, columns: Sequence[str] | None
) -> Source:
    """Return the items of a pandas.DataFrame. Raises ConfigError."""
    if not all(hasattr(frame, name) for name in ("columns", "iloc", "index")):
        raise ConfigError(f"expected a pandas.DataFrame, got {type(frame).__name__}")
    names = [name for name in frame.columns.tolist() if isinstance(name, str)]
    components = [vector] if isinstance(vector, str) else list(vector)
    in_index = id is None or (id not in names and frame.index.name == id)
    all_others = columns is None
    if columns is None:
        given = {id, *components, metadata}
        columns = [name for name in names if name not in given]
    own = metadata if metadata in names else None
    for name in (*([] if in_index else [id]), *components, *columns):
        if names.count(str(name)) != 1:
            raise ConfigError(f"expected one column {name!r:.80}, got {', '.join(names):.200}")
    unnamed = [name for name in frame.columns.tolist() if not isinstance(name, str)]
    if all_others and unnamed:
        raise ConfigError(f"expected strings as names of columns, got {unnamed[0]!r:.80}; rename it, or give columns=")
    if not components:
        raise ConfigError("expected vector to be the name of a column, or of several, got none")
    chosen = _Frame(frame, None if in_index else id, components, own, list(columns))
    return Source(chosen.parts(), len(frame))


class _Frame:
    """A data frame whose columns were chosen."""

    def __init__(self, frame: Any, id: str | None, vector: list[str], metadata: str | None, keys: list[str]) -> None:
        self._frame = frame
        self._id = id
        self._vector = vector
        self._metadata = metadata
        self._keys = keys

    def parts(self) -> Iterator[Part]:
        size = rows_at_once(len(self._vector) if len(self._vector) > 1 else self._dim())
        for start in range(0, len(self._frame), size):
            frame = self._frame.iloc[start : start + size]
            column = frame.index if self._id is None else frame[self._id]
            ids = _frame_ids(column.tolist(), start)
            if len(self._vector) > 1:
                vectors = frame[self._vector].to_numpy()
            else:
                vectors = matrix(frame[self._vector[0]].tolist(), ids, "the data frame")
            yield Part(ids, vectors, self._metadata_of(frame, ids))

    def _dim(self) -> int:
        return int(np.size(self._frame[self._vector[0]].iloc[0])) if len(self._frame) else 0

    def _metadata_of(self, frame: Any, ids: list[str]) -> list[dict[str, Any] | None]:
        found: list[dict[str, Any] | None] = [None] * len(ids)
        if self._metadata is not None:
            for i, value in enumerate(frame[self._metadata].tolist()):
                if not _is_missing(value):
                    if not isinstance(value, dict):
                        raise ConfigError(f"metadata of id {ids[i]!r}: expected a dict, got {value!r:.80}")
                    found[i] = value
        columns = [frame[name].tolist() for name in self._keys]
        for i, row in enumerate(zip(*columns, strict=True)):
            of = {key: plain(value) for key, value in zip(self._keys, row, strict=True) if not _is_missing(value)}
            if of:
                found[i] = {**(found[i] or {}), **of}
        return found


def _frame_ids(values: list[Any], first: int) -> list[str]:
    for i, value in enumerate(values):
        if _is_missing(value):
            raise IdError(f"row {first + i}: expected an id, got {value!r}")
    return [id_of(value, f"row {first + i}") for i, value in enumerate(values)]


def _is_missing(value: object) -> bool:
    """Tell whether a cell is empty: None, NaN, NaT or pandas.NA, of which none is equal to itself."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value
