"""In which precision are the rows of an index stored, and how do they come into another?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from msgspec import structs

from kektordb._codes import TRAIN_FROM, Codes, choose_scale
from kektordb._hnsw import Graph
from kektordb._scale import Scale
from kektordb._vectors import MAX_HALF, Vectors
from kektordb.errors import VectorError
from kektordb.operations import Convert, IndexConfig

if TYPE_CHECKING:
    from kektordb.collection import Collection

__all__ = [
    "Conversion",
    "conversion_before",
    "convert",
    "first_precision",
    "is_normalised",
    "needs_scale",
    "operation_of",
    "reserve_conversion",
    "same_again",
    "squared_lengths",
]

Rows = npt.NDArray[np.float32]
Squares = npt.NDArray[np.float64]
# Squared lengths of vectors that were normalised before they were rounded to a stored precision.
NORMAL = (0.9, 1.1)


def squared_lengths(rows: Rows) -> Squares:
    """Return the squared length of each row."""
    squares: Squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return squares


def is_normalised(squares: Squares) -> npt.NDArray[np.bool_]:
    """Tell of which squared lengths a row has that was normalised before it was stored."""
    return (squares >= NORMAL[0]) & (squares <= NORMAL[1])


def same_again(vectors: Vectors, rows: Rows) -> npt.NDArray[np.bool_]:
    """Tell which rows, as they are stored, are stored bit for bit as they are when somebody gives them anew.

    All are, in each precision, but for some of few dimensions with the metric ``cosine``: there a length of 1 that was
    rounded may be one in a hundred times rounded once more. From 100 dimensions on none was seen.
    """
    n = len(rows)
    again = Vectors.of_meta(vectors.dim, vectors.metric, vectors.meta())
    prepared, bad = again.prepare_rows(rows)
    if bad >= 0:
        return np.zeros(n, np.bool_)
    again.reserve_more(n)
    again.put(0, prepared)
    stored = again.get(np.arange(n, dtype=np.uint32))
    same: npt.NDArray[np.bool_] = (stored.view(np.uint32) == rows.view(np.uint32)).all(axis=1)
    return same


def needs_scale(metric: str, precision: str) -> bool:
    """Tell whether rows of this precision share one scale, which must be chosen by some of them."""
    return precision == "int8" and metric == "euclidean"


def first_precision(config: IndexConfig) -> str:
    """Return the precision of the first rows: exact ones until there are enough to choose a scale by."""
    return "float32" if needs_scale(config.metric, config.precision) else config.precision


def operation_of(number: int, precision: str, scale: Scale | None) -> Convert:
    """Return the operation that brings an index to a precision, with `scale` where rows share one."""
    if scale is None:
        return Convert(number, precision)
    return Convert(number, precision, scale.low, scale.unit, scale.n_trained, scale.trained_error)


def _scale_of(operation: Convert, metric: str, dim: int) -> Scale | None:
    """Return the scale that an operation brings, a new one; None when it brings none."""
    if not operation.unit:
        return None
    return Scale(
        metric, dim, operation.low, operation.unit, operation.n_trained, operation.trained_error, is_final=True
    )


def conversion_before(collection: Collection, number: int, rows: Rows) -> Convert | None:
    """Return what must happen before `rows` are put: nothing, or a scale is chosen, for the first time or anew."""
    config = collection.config
    if not needs_scale(config.metric, config.precision):
        return None
    graph, n = collection.graph, collection.n_slots
    scale = None if graph is None else graph.vectors.scale
    if n + len(rows) < TRAIN_FROM if scale is None else not scale.drifted(rows):
        return None
    vectors = Vectors(rows.shape[1], config.metric) if graph is None else graph.vectors
    return operation_of(number, config.precision, choose_scale(vectors, n, rows, is_final=True))


def reserve_conversion(collection: Collection, operation: Convert) -> None:
    """Make the rows that applying `operation` exchanges, beside those that are searched.

    Those of ``collection.conversion`` are taken when they are of this operation. VectorError and MemoryError change
    nothing that can be seen.
    """
    graph, n_reserved = collection.converted()
    if collection.conversion is None or collection.conversion[0] is not operation:
        conversion = None
        if graph is not None:
            scale = _scale_of(operation, collection.config.metric, graph.vectors.dim)
            conversion = Conversion(graph, operation.precision, scale)
        collection.conversion = (operation, conversion)
    if collection.conversion[1] is not None:
        collection.conversion[1].finish(n_reserved)


def convert(collection: Collection, operation: Convert) -> None:
    """Apply a `Convert` whose rows were made: searches wait for the exchange of some pointers."""
    collection.note(operation)
    assert collection.conversion is not None
    conversion, collection.conversion = collection.conversion[1], None
    collection.config = structs.replace(collection.config, precision=operation.precision)
    graph, _ = collection.converted()
    if graph is not None and conversion is not None:
        with collection.lock.write:
            graph.exchange(conversion.vectors, conversion.codes)


class Conversion:
    """Rows of a graph on their way into vectors of another precision, in the same slots.

    Parameters
    ----------
    graph : Graph
    precision : str
    scale : Scale or None
        Where rows shall share one; without it they stay exact for the time being.

    Attributes
    ----------
    vectors : Vectors
    codes : Codes or None
        Of all rows, once `finish` has made them.
    done : int
        How many rows are there.
    """

    def __init__(self, graph: Graph, precision: str, scale: Scale | None) -> None:
        source = graph.vectors
        self._graph = graph
        self._source = source
        if scale is None and needs_scale(source.metric, precision):
            precision = "float32"
        self.vectors = Vectors(source.dim, source.metric, precision, scale)
        self.codes: Codes | None = None
        self.done = 0

    @property
    def is_stale(self) -> bool:
        """Whether the graph has other rows by now."""
        return self._graph.vectors is not self._source

    def advance(self, stop: int) -> None:
        """Convert rows up to `stop`; none of the graph's moves meanwhile. Raises VectorError, MemoryError."""
        bad = self.vectors.convert(self._source, self.done, stop)
        if bad >= 0:
            raise VectorError(
                f"float16 holds numbers up to {MAX_HALF:,}, and the vector in slot {bad} has a larger one; "
                "nothing was changed"
            )
        self.done = stop

    def encode(self) -> None:
        """Make the codes that the graph will walk on, of the rows that are there."""
        self.codes = self._graph.codes_of(self.vectors, self.done)

    def finish(self, n_reserved: int) -> None:
        """Convert what is missing, and have room for `n_reserved` rows; the graph does not change meanwhile."""
        n = len(self._graph)
        self.advance(n)
        self.vectors.reserve_more(max(n, n_reserved))
        if self.codes is None:
            self.encode()
        else:
            self.codes.append(n)
        if self.codes is not None:
            self.codes.reserve_more(max(n, n_reserved))
