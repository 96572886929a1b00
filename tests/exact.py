"""The slow truth of vector search: distances to all rows in float64, in plain NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def distances(metric: str, rows: npt.ArrayLike, query: npt.ArrayLike) -> Array:
    """Return the metric's distance of a query to each row, float64 (n,)."""
    x, q = np.asarray(rows, np.float64), np.asarray(query, np.float64)
    if metric == "euclidean":
        return ((x - q) ** 2).sum(axis=1)
    if metric == "dot":
        return -(x @ q)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(q)
    cosines = np.divide(x @ q, lengths, out=np.zeros(len(x)), where=lengths > 0)
    return 1 - cosines


def nearest(metric: str, rows: npt.ArrayLike, query: npt.ArrayLike, k: int) -> list[int]:
    """Return the positions of the `k` nearest rows, ties by position."""
    return np.argsort(distances(metric, rows, query), kind="stable")[:k].tolist()


def recall(found: list[int], wanted: list[int]) -> float:
    """Return the share of `wanted` that was found."""
    return len(set(found) & set(wanted)) / len(wanted)


def clusters(n: int, dim: int, seed: int, n_clusters: int = 50) -> npt.NDArray[np.float32]:
    """Make rows around centres that depend on `dim` only: real embeddings and queries are neither uniform nor apart."""
    centres = np.random.default_rng(dim).normal(size=(n_clusters, dim))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(n_clusters, size=n)] + 0.4 * rng.normal(size=(n, dim))).astype(np.float32)
