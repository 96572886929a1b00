"""How are vectors made that behave like real ones? From a seed, in any number."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.truth import Floats, nearest

__all__ = ["make", "true_neighbors"]

SEED = 20
N_NEIGHBORS = 10
# Real descriptors have many components and few degrees of freedom. These make hnswlib need about the same ef for a
# recall as on SIFT descriptors of the same number; independent random components would make all distances alike.
LATENT_DIM = 19
N_CLUSTERS = 300
SPREAD = 0.95
N_WAVES = 256
NOISE = 0.12
# Rows made at once.
BLOCK = 50_000


def make(n: int, n_queries: int, dim: int, metric: str) -> tuple[Floats, Floats]:
    """Make (n, dim) rows and (n_queries, dim) queries of the same kind.

    A point in a space of LATENT_DIM dimensions, from one of N_CLUSTERS overlapping clusters, some wider than others, is
    bent into `dim` dimensions by random waves, and gets a little noise.
    """
    rng = np.random.default_rng(SEED)
    centres = rng.standard_normal((N_CLUSTERS, LATENT_DIM), dtype=np.float32)
    widths = SPREAD * rng.uniform(0.7, 1.3, N_CLUSTERS).astype(np.float32)
    directions = rng.standard_normal((LATENT_DIM, N_WAVES), dtype=np.float32) / np.float32(LATENT_DIM**0.5)
    phases = rng.uniform(-np.pi, np.pi, N_WAVES).astype(np.float32)
    mix = rng.standard_normal((N_WAVES, dim), dtype=np.float32) / np.float32(N_WAVES**0.5)
    made = np.empty((n + n_queries, dim), dtype=np.float32)
    for start in range(0, len(made), BLOCK):
        rows = made[start : start + BLOCK]
        member = rng.integers(N_CLUSTERS, size=len(rows))
        latent = rng.standard_normal((len(rows), LATENT_DIM), dtype=np.float32)
        latent = centres[member] + widths[member, None] * latent
        np.matmul(np.sin(latent @ directions + phases), mix, out=rows)
        rows += np.float32(NOISE) * rng.standard_normal(rows.shape, dtype=np.float32)
        if metric == "cosine":
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return made[:n], made[n:]


def true_neighbors(name: str, train: Floats, test: Floats, metric: str) -> npt.NDArray[np.int32]:
    """Return the nearest rows of each query; found once, then kept in the user's cache.

    What was kept for rows made in another way is not used: the nearest rows of the first queries must be the same.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kektordb-bench"
    path = folder / f"{name}-{len(test)}.npy"
    if path.is_file():
        kept = np.load(path)
        if np.array_equal(kept[:3, :1], nearest(train, test[:3], metric, 1)):
            return kept
    found = nearest(train, test, metric, N_NEIGHBORS)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(path, found)
    return found
