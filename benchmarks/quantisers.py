"""Which bytes should stand for a vector? Recall of exhaustive search over rows that were encoded and decoded.

Queries stay float32, as they do when an int8 index compares its candidates. So this is the ceiling of any graph over
such rows. Run with ``python -m benchmarks.quantisers``; the table is in docs/precision.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks import datasets
from benchmarks.report import table

Floats = npt.NDArray[np.float32]
Quantiser = Callable[[Floats], Floats]

K = 10
N_QUERIES = 500
TAIL = 1e-4


def levels(rows: Floats, low: npt.ArrayLike, high: npt.ArrayLike) -> Floats:
    """Encode on 256 levels from `low` to `high`, clipped, and decode."""
    low, high = np.float32(low), np.float32(high)
    unit = np.maximum((high - low) / np.float32(255), np.float32(1e-30))
    codes = np.clip(np.rint((rows - low) / unit), 0, 255)
    return (low + codes * unit).astype(np.float32)


def tails(values: Floats, share: float) -> tuple[np.float32, np.float32]:
    """Return the ends of a range that leaves out a share at either end."""
    last = values.size - 1
    parted = np.partition(values.ravel(), (int(share * last), last - int(share * last)))
    return parted[int(share * last)], parted[last - int(share * last)]


def symmetric(rows: Floats) -> Floats:
    """One scale around zero: the 99.9th percentile of the absolute components is 127."""
    size = np.abs(rows).ravel()
    top = np.partition(size, int(0.999 * size.size))[int(0.999 * size.size)]
    return (np.clip(np.rint(rows / top * 127), -127, 127) * (top / 127)).astype(np.float32)


def one_range(rows: Floats) -> Floats:
    """One range for all components, without 0.01 % at either end."""
    return levels(rows, *tails(rows, TAIL))


def all_of_it(rows: Floats) -> Floats:
    """One range from the least to the largest component."""
    return levels(rows, rows.min(), rows.max())


def around_zero(rows: Floats) -> Floats:
    """One range around zero that holds all components."""
    top = np.abs(rows).max()
    return levels(rows, -top * 128 / 127, top)


def offsets(rows: Floats) -> Floats:
    """An offset for each dimension, one unit for all: squared distances of codes are those of rows."""
    middle = (rows.min(axis=0) + rows.max(axis=0)) / 2
    return levels(rows - middle, *tails(rows - middle, TAIL)) + middle


def by_dimension(rows: Floats) -> Floats:
    """A range for each dimension, without 0.01 % at either end."""
    ends = np.array([tails(column, TAIL) for column in rows.T])
    return levels(rows, ends[:, 0], ends[:, 1])


def by_vector(rows: Floats) -> Floats:
    """A range for each vector, 8 bytes a row more."""
    return levels(rows, rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True))


def by_vector_around_zero(rows: Floats) -> Floats:
    """A range around zero for each vector, 4 bytes a row more: products need nothing but that factor."""
    unit = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, np.float32(1e-30))
    return (np.rint(rows / unit) * unit).astype(np.float32)


def multiples(rows: Floats) -> Floats:
    """A range for each dimension, its unit a small multiple of the least: distances of codes stay whole numbers."""
    ends = np.array([tails(column, TAIL) for column in rows.T])
    least = (ends[:, 1] - ends[:, 0]).max() / 255 / 8
    unit = least * np.clip(np.ceil((ends[:, 1] - ends[:, 0]) / 255 / least), 1, 8)
    low = (ends[:, 0] + ends[:, 1] - 255 * unit) / 2
    return levels(rows, low, low + 255 * unit)


def rotated(rows: Floats) -> Floats:
    """A random rotation, then one range as above; turned back."""
    dim = rows.shape[1]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(dim, dim)))[0].astype(np.float32)
    return one_range(rows @ turn) @ turn.T


QUANTISERS: list[Quantiser] = [
    symmetric,
    one_range,
    all_of_it,
    around_zero,
    offsets,
    by_dimension,
    multiples,
    by_vector,
    by_vector_around_zero,
    rotated,
]


def nearest(rows: Floats, queries: Floats, metric: str) -> npt.NDArray[np.int64]:
    """Return the K nearest rows of each query, (q, K), in no order."""
    found = []
    squares = np.einsum("ij,ij->i", rows, rows)
    if metric == "cosine":
        rows = rows / np.maximum(np.sqrt(squares), 1e-30)[:, None]
    for query in np.array_split(queries, max(1, len(queries) // 50)):
        keys = -(query @ rows.T)
        if metric in ("euclidean", "length"):
            keys = squares + 2 * keys
        found.append(np.argpartition(keys, K, axis=1)[:, :K])
    return np.concatenate(found)


def recall(found: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> float:
    """Return the share of true neighbours among those found."""
    return float(np.mean([len(set(f) & set(t)) for f, t in zip(found.tolist(), truth.tolist(), strict=True)])) / K


def run(names: list[str]) -> None:
    """Print a table for each data set: quantisers by metrics."""
    for name in names:
        data = datasets.load(name)
        queries = data.test[:N_QUERIES]
        unit_rows = data.train / np.maximum(np.linalg.norm(data.train, axis=1, keepdims=True), np.float32(1e-30))
        unit_queries = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), np.float32(1e-30))
        # For cosine rows have unit length before they are encoded, and not quite afterwards: as the metric compares
        # decoded rows, or by plain products or squared distances, which need no norm.
        sets = {
            "euclidean": (data.train, queries, "euclidean"),
            "dot": (data.train, queries, "dot"),
            "cosine": (unit_rows, unit_queries, "cosine"),
            "cosine, product": (unit_rows, unit_queries, "dot"),
            "cosine, squared distance": (unit_rows, unit_queries, "length"),
        }
        if data.metric == "cosine":
            del sets["euclidean"], sets["dot"]
        lines: list[list[object]] = [[one.__name__.replace("_", " ")] for one in QUANTISERS]
        for rows, wanted, metric in sets.values():
            truth = nearest(rows, wanted, metric)
            for line, quantiser in zip(lines, QUANTISERS, strict=True):
                line.append(f"{recall(nearest(quantiser(rows), wanted, metric), truth):.4f}")
        table(f"{name}: recall@{K}", ["quantiser", *sets], lines)


if __name__ == "__main__":
    run(sys.argv[1:] or list(datasets.REAL))
