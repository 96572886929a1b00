"""Which rows are truly nearest to a query? By comparing with every row, in blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "distances_to_rows", "nearest"]

Floats = npt.NDArray[np.float32]

# Distances in memory at once: 64 MB of them, beside two temporary arrays of that size.
BLOCK_DISTANCES = 1 << 24


def nearest(train: Floats, test: Floats, metric: str, k: int) -> npt.NDArray[np.int32]:
    """Return the `k` nearest rows of `train` for each row of `test`, (q, k), best first."""
    block = max(1, BLOCK_DISTANCES // len(train))
    found = []
    for start in range(0, len(test), block):
        distances = distances_to_rows(train, test[start : start + block], metric)
        part = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, part, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(part, order, axis=1))
    return np.concatenate(found).astype(np.int32)


def distances_to_rows(train: Floats, queries: Floats, metric: str) -> Floats:
    """Return the distances of each query to each row, (q, n) float32; squared ones for ``euclidean``."""
    products = queries @ train.T
    if metric == "cosine":
        return 1 - products
    squares = np.einsum("ij,ij->i", train, train)
    return squares[None, :] - 2 * products + np.einsum("ij,ij->i", queries, queries)[:, None]
