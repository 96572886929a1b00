"""Which data make 8-bit codes, or the graph itself, lose rows? Sets made from seeds (docs/decisions/0012)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from kektordb._bitmap import Bitmap
from kektordb._hnsw import Graph
from kektordb._vectors import Vectors

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Rng = np.random.Generator

N_QUERIES = 200
# As `Collection.put` does: so many rows at once, and a look at the codes after each slice.
SLICE = 256
# Distances that differ by less are ties.
TIE = 1e-6


@dataclass(frozen=True)
class HardSet:
    """Rows (n, dim) and queries (200, dim), float32."""

    name: str
    metric: str
    rows: Floats
    queries: Floats

    def distances(self) -> Doubles:
        """Return the true distances of every query to every row, float64 (200, n)."""
        x, q = self.rows.astype(np.float64), self.queries.astype(np.float64)
        if self.metric == "euclidean":
            return cdist(q, x, "sqeuclidean")
        if self.metric == "dot":
            return -q @ x.T
        return 1 - unit(q) @ unit(x).T


def unit(x: Doubles) -> Doubles:
    """Normalise rows; zero rows stay zero."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, lengths, out=np.zeros_like(x), where=lengths > 0)


# ----------------------------------------------------------------------------------------------------- tight clusters


def near_duplicates(radius: float, dim: int, metric: str, size: int = 200, order: str = "shuffled") -> Make:
    """Clusters of `size` rows around normal centres, one after the other or mixed; queries lie in them as rows do."""

    def make(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
        centres = rng.normal(size=(max(2, n // size), dim))
        members = np.sort(np.arange(n) % len(centres))
        if order == "shuffled":
            rng.shuffle(members)
        rows = centres[members] + radius * rng.normal(size=(n, dim))
        at = rng.integers(len(centres), size=N_QUERIES)
        return metric, rows, centres[at] + radius * rng.normal(size=(N_QUERIES, dim))

    return make


def few_near_duplicates(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
    """One row in 20 lies in one of five tight clusters, and so do all queries."""
    centres, rows = rng.normal(size=(5, 48)), rng.normal(size=(n, 48))
    tight = np.arange(0, n, 20)
    rows[tight] = centres[rng.integers(5, size=len(tight))] + 1e-3 * rng.normal(size=(len(tight), 48))
    return "euclidean", rows, centres[rng.integers(5, size=N_QUERIES)] + 1e-3 * rng.normal(size=(N_QUERIES, 48))


def nested_scales(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
    """Lengths over five orders of magnitude: the nearer to zero, the less one unit of a code can tell."""
    both = rng.normal(size=(n + N_QUERIES, 40)) * 10 ** rng.uniform(-5, 0, size=(n + N_QUERIES, 1))
    return "euclidean", both[:n], both[n:]


def flags(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
    """Three components say +1000 or -1000, the others are what neighbours differ in."""
    both = rng.normal(size=(n + N_QUERIES, 30))
    both[:, :3] = 1000 * rng.choice([-1, 1], size=(n + N_QUERIES, 3))
    return "euclidean", both[:n], both[n:]


# ------------------------------------------------------------------------------------------------------ odd components


def normal(dim: int, metric: str = "euclidean", scale: float = 1, offset: float = 0) -> Make:
    """Normal rows and queries."""

    def make(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
        both = offset + scale * rng.normal(size=(n + N_QUERIES, dim))
        return metric, both[:n], both[n:]

    return make


def outlier_dimensions(factor: float, metric: str) -> Make:
    """Three of 64 components are `factor` times as large as the others."""

    def make(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
        both = rng.normal(size=(n + N_QUERIES, 64))
        both[:, [3, 30, 61]] *= factor
        return metric, both[:n], both[n:]

    return make


def heavy_tails(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
    """Components of Student's t with 1.5 degrees of freedom: no variance."""
    return "euclidean", rng.standard_t(1.5, size=(n, 24)), rng.standard_t(1.5, size=(N_QUERIES, 24))


def tails(dim: int, metric: str) -> Make:
    """Clusters, with errors of Student's t with 3 degrees of freedom: a few rows hold one component of great length."""

    def make(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
        centres = rng.normal(size=(20, dim))
        both = centres[rng.integers(20, size=n + N_QUERIES)] + rng.standard_t(2.5, size=(n + N_QUERIES, dim))
        return metric, both[:n], both[n:]

    return make


def skewed_plane(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
    """Two components, exp(3 g): most rows in a corner that is a millionth of the range."""
    return "euclidean", np.exp(3 * rng.normal(size=(n, 2))), np.exp(3 * rng.normal(size=(N_QUERIES, 2)))


def sparse(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
    """Six of 300 components differ from zero, and a little noise."""
    both = np.where(rng.random((n + N_QUERIES, 300)) < 0.02, rng.random((n + N_QUERIES, 300)), 0)
    both += 1e-4 * rng.normal(size=both.shape)
    return "cosine", both[:n], both[n:]


def hot(n_hot: int, noise: float, metric: str = "euclidean") -> Make:
    """One-hot rows and their like."""

    def make(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
        both = noise * rng.normal(size=(n + N_QUERIES, 40)) + 0.0
        for _ in range(n_hot):
            both[np.arange(n + N_QUERIES), rng.integers(40, size=n + N_QUERIES)] += 1
        return metric, both[:n], both[n:]

    return make


def bits(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
    """Components 0 and 1 only: true distances tie everywhere."""
    both = rng.integers(2, size=(n + N_QUERIES, 48)).astype(np.float64)
    return "euclidean", both[:n], both[n:]


def growing_scale(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
    """Each row is a little longer than the one before, the last 50 times as long as the first."""
    rows = rng.normal(size=(n, 64)) * np.geomspace(1, 50, n)[:, None]
    return "euclidean", rows, rng.normal(size=(N_QUERIES, 64)) * np.geomspace(1, 50, N_QUERIES)[:, None]


# ------------------------------------------------------------------------------------------- duplicates and zero rows


def duplicates(copies: int, order: str = "shuffled") -> Make:
    """Every row `copies` times."""

    def make(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
        members = np.repeat(np.arange(n // copies), copies)
        if order == "shuffled":
            rng.shuffle(members)
        return "euclidean", rng.normal(size=(n // copies, 32))[members], rng.normal(size=(N_QUERIES, 32))

    return make


def all_equal(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
    """One row, n times."""
    return "euclidean", np.tile(rng.normal(size=20), (n, 1)), rng.normal(size=(N_QUERIES, 20))


def zero_rows(n_zero: Callable[[int], int]) -> Make:
    """Cosine of isotropic rows, the nearest of which are far, some of them zero: as points, those are nearer."""

    def make(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
        rows = rng.normal(size=(n, 100))
        rows[rng.choice(n, n_zero(n), replace=False)] = 0
        return "cosine", rows, rng.normal(size=(N_QUERIES, 100))

    return make


def clustered_with_zero_rows(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
    """Cosine, clusters, three rows in ten are zero."""
    metric, rows, queries = near_duplicates(0.5, 48, "cosine")(rng, n)
    rows[rng.random(n) < 0.3] = 0
    return metric, rows, queries


# ------------------------------------------------------------------------------------------------------ inner products


def products(spread: float, offset: float = 0) -> Make:
    """Inner products of clustered rows whose lengths vary; with an offset all products are large and alike."""

    def make(rng: Rng, n: int) -> tuple[str, Doubles, Doubles]:
        _, rows, queries = near_duplicates(0.5, 40, "dot")(rng, n)
        return "dot", offset + rows * np.exp(spread * rng.normal(size=(n, 1))), offset + queries

    return make


# ------------------------------------------------------------------------------------------------------------ the list

Make = Callable[[Rng, int], tuple[str, Doubles, Doubles]]

SETS: dict[str, Make] = {
    "near-dup 1e-3": near_duplicates(1e-3, 64, "euclidean"),
    "near-dup 1e-3, ordered": near_duplicates(1e-3, 64, "euclidean", order="ordered"),
    "near-dup 1e-3, cosine": near_duplicates(1e-3, 64, "cosine"),
    "near-dup 1e-3, cosine, ordered": near_duplicates(1e-3, 64, "cosine", order="ordered"),
    "near-dup 1e-3, dot": near_duplicates(1e-3, 64, "dot"),
    "near-dup 1e-5": near_duplicates(1e-5, 64, "euclidean"),
    "near-dup 1e-5, ordered": near_duplicates(1e-5, 64, "euclidean", order="ordered"),
    "near-dup 1e-2": near_duplicates(1e-2, 50, "euclidean"),
    "near-dup 1e-2, ordered": near_duplicates(1e-2, 50, "euclidean", order="ordered"),
    "near-dup 5e-2": near_duplicates(5e-2, 50, "euclidean"),
    "near-dup 5e-2, ordered": near_duplicates(5e-2, 50, "euclidean", order="ordered"),
    "clusters of 50, 5e-2, ordered": near_duplicates(5e-2, 50, "euclidean", size=50, order="ordered"),
    "clusters of 2000, 1e-3": near_duplicates(1e-3, 40, "euclidean", size=2000),
    "5 % near-dup 1e-3": few_near_duplicates,
    "nested scales": nested_scales,
    "flags": flags,
    "outliers x 1000": outlier_dimensions(1000, "euclidean"),
    "outliers x 12, cosine": outlier_dimensions(12, "cosine"),
    "heavy tails": heavy_tails,
    "tails": tails(64, "euclidean"),
    "tails, cosine": tails(100, "cosine"),
    "tails, dot": tails(100, "dot"),
    "d 2, exp": skewed_plane,
    "d 1": normal(1),
    "d 3": normal(3),
    "d 8": normal(8),
    "sparse, cosine": sparse,
    "two-hot + 1e-3": hot(2, 1e-3),
    "two-hot": hot(2, 0),
    "one-hot": hot(1, 0),
    "one-hot, cosine": hot(1, 0, "cosine"),
    "bits": bits,
    "scale x 50": growing_scale,
    "scale 1e-6": normal(32, scale=1e-6),
    "offset 1000": normal(32, offset=1000),
    "each row 20 times": duplicates(20),
    "each row 20 times, ordered": duplicates(20, "ordered"),
    "all equal": all_equal,
    "30 % zero rows": zero_rows(lambda n: n * 3 // 10),
    "25 zero rows": zero_rows(lambda n: 25),
    "clusters, 30 % zero rows": clustered_with_zero_rows,
    "dot": products(0),
    "dot, lengths": products(0.5),
    "dot, great lengths": products(1),
    "dot, offset 5": products(0, 5),
}


def make(name: str, n: int, seed: int = 1) -> HardSet:
    """Make a set of `SETS` of n rows."""
    rng = np.random.default_rng([seed, *name.encode()])
    metric, rows, queries = SETS[name](rng, n)
    return HardSet(name, metric, rows.astype(np.float32), queries.astype(np.float32))


# ------------------------------------------------------------------------------------------------------------ measuring


def build(data: HardSet, traversal: str, precision: str = "float32", ef: int = 200, threads: int = 1) -> Graph:
    """Build a graph as a collection does, slice by slice; one thread makes the same one every time."""
    vectors = Vectors(data.rows.shape[1], data.metric, precision)
    graph = Graph(vectors, 16, ef, 1, traversal == "codes")
    extend(graph, data.rows, threads)
    return graph


def extend(graph: Graph, rows: Floats, threads: int = 1) -> None:
    """Add rows as a collection does."""
    prepared, bad = graph.vectors.prepare_rows(rows)
    assert bad == -1
    graph.reserve(len(rows))
    renew(graph, prepared)
    for start in range(0, len(rows), SLICE):
        part = prepared[start : start + SLICE]
        graph.link(graph.append(part), len(part), threads)
        renew(graph)


def renew(graph: Graph, rows: Floats | None = None) -> None:
    """Let the codes follow the data."""
    codes = graph.train(rows)
    if codes is not None:
        graph.adopt(codes)


def hits(
    distances: Doubles, found: list[npt.NDArray[np.uint32]], k: int, allowed: npt.NDArray[np.bool_] | None = None
) -> Doubles:
    """Return the share of its k nearest allowed rows that each query found; a row as near as the k-th counts."""
    if allowed is not None:
        distances = np.where(allowed, distances, np.inf)
    kth = np.partition(distances, k - 1, axis=1)[:, k - 1]
    limit = kth + TIE * np.abs(kth)
    return np.array([np.count_nonzero(distances[i, slots] <= limit[i]) / k for i, slots in enumerate(found)])


def search(graph: Graph, data: HardSet, k: int, ef: int, allowed: Bitmap | None = None) -> list[npt.NDArray[np.uint32]]:
    """Return the slots that each query finds."""
    found = []
    for query in data.queries:
        slots, _ = graph.search(query, k, ef, allowed)
        assert slots is not None
        found.append(slots)
    return found
