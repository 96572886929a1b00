"""Which vectors does a benchmark run on, and what are their true neighbours?

Real data lies beside the repository, in ``../shared/data/*.npz``, when it is there. Otherwise, and under ``synthetic``,
clustered vectors are made from a seed and their neighbours found by comparing with every row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["Dataset", "Floats", "distances_to_rows", "load", "names", "nearest", "synthetic"]

FOLDER = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
REAL = ("words-100-cosine", "sift-128-euclidean", "fashion-784-euclidean")
SYNTHETIC = ("synthetic-100-cosine", "synthetic-128-euclidean")
# Squared distances of 64 queries to 200,000 rows are 51 MB.
BLOCK = 64

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Vectors to index, (n, dim) float32, and queries, (q, dim) float32, with the rows that answer them.

    Attributes
    ----------
    metric : str
        ``euclidean`` (squared L2) or ``cosine`` (rows have unit length).
    neighbors : array
        (q, >= 10) int32, the nearest rows of `train`, best first.
    """

    name: str
    metric: str
    train: Floats
    test: Floats
    neighbors: npt.NDArray[np.int32]

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        return self.train.shape[1]

    @property
    def ids(self) -> list[str]:
        """The id under which each row is added."""
        return [str(row) for row in range(len(self.train))]

    def head(self, n: int, n_queries: int) -> Dataset:
        """Return the first `n` rows and `n_queries` queries; the neighbours are found anew when rows are left out."""
        test = self.test[:n_queries]
        if n >= len(self.train):
            return replace(self, test=test, neighbors=self.neighbors[:n_queries])
        train = self.train[:n]
        return replace(self, train=train, test=test, neighbors=nearest(train, test, self.metric, 10))


def names() -> list[str]:
    """Return the data sets to use by default: the real ones that are there, or else the synthetic ones."""
    return [name for name in REAL if (FOLDER / f"{name}.npz").is_file()] or list(SYNTHETIC)


def load(name: str) -> Dataset:
    """Load a real data set, or make a synthetic one such as ``synthetic-128-euclidean``."""
    family, dim, metric = name.split("-")
    if family == "synthetic":
        return synthetic(100_000, int(dim), metric, n_queries=500, seed=20)
    with np.load(FOLDER / f"{name}.npz") as arrays:
        train, test = (np.ascontiguousarray(arrays[part], dtype=np.float32) for part in ("train", "test"))
        return Dataset(name, metric, train, test, arrays["neighbors"])


def synthetic(n: int, dim: int, metric: str, n_queries: int, seed: int) -> Dataset:
    """Make clustered vectors: as many clusters as the square root of `n`, with overlap, some wider than others.

    Uniformly random vectors would be useless here: all their distances are alike, which real data's never are.
    """
    rng = np.random.default_rng(seed)
    n_clusters = max(1, int(n**0.5))
    centres = rng.standard_normal((n_clusters, dim), dtype=np.float32)
    widths = rng.uniform(0.3, 0.8, n_clusters).astype(np.float32)
    member = rng.integers(n_clusters, size=n + n_queries)
    rows = centres[member] + widths[member, None] * rng.standard_normal((n + n_queries, dim), dtype=np.float32)
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    train, test = rows[:n].copy(), rows[n:].copy()
    return Dataset(f"synthetic-{dim}-{metric}", metric, train, test, nearest(train, test, metric, 10))


def nearest(train: Floats, test: Floats, metric: str, k: int) -> npt.NDArray[np.int32]:
    """Return the `k` nearest rows of `train` for each row of `test`, (q, k), best first, by comparing with all."""
    found = []
    for start in range(0, len(test), BLOCK):
        distances = distances_to_rows(train, test[start : start + BLOCK], metric)
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
