"""Which vectors does a benchmark run on, and what are their true neighbours?

Real data lies beside the repository, in ``../shared/data/*.npz``, when it is there, or in a file of ann-benchmarks,
named by its path. Otherwise, and under names like ``synthetic-1m-128-euclidean``, vectors are made from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import synthetic
from benchmarks.truth import Floats, nearest

__all__ = ["Dataset", "load", "names"]

FOLDER = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
REAL = ("words-100-cosine", "sift-128-euclidean", "fashion-784-euclidean")
SYNTHETIC = ("synthetic-100k-100-cosine", "synthetic-100k-128-euclidean")
N_QUERIES = 1_000


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

    def head(self, n: int, n_queries: int) -> Dataset:
        """Return the first `n` rows and `n_queries` queries; the neighbours are found anew when rows are left out."""
        test = self.test[:n_queries]
        if n >= len(self.train):
            return replace(self, test=test, neighbors=self.neighbors[:n_queries])
        train = self.train[:n]
        return replace(self, train=train, test=test, neighbors=nearest(train, test, self.metric, 10))


def names(dim: int | None = None) -> list[str]:
    """Return the data sets to use by default, those of `dim` only: real ones that are there, or else synthetic ones."""
    wanted = "-" if dim is None else f"-{dim}-"
    chosen = [name for name in REAL if wanted in name and (FOLDER / f"{name}.npz").is_file()]
    return chosen or [name for name in SYNTHETIC if wanted in name]


def load(name: str) -> Dataset:
    """Load a data set: the name of a real one, ``synthetic-<rows>-<dim>-<metric>``, or the path of an HDF5 file."""
    if name.endswith((".hdf5", ".h5")):
        return from_hdf5(Path(name))
    if name.startswith("synthetic-"):
        _, rows, dim, metric = name.split("-")
        train, test = synthetic.make(number(rows), N_QUERIES, int(dim), metric)
        return Dataset(name, metric, train, test, synthetic.true_neighbors(name, train, test, metric))
    with np.load(FOLDER / f"{name}.npz") as arrays:
        train, test = (np.ascontiguousarray(arrays[part], dtype=np.float32) for part in ("train", "test"))
        return Dataset(name, name.split("-")[-1], train, test, arrays["neighbors"])


def number(text: str) -> int:
    """Return what ``20000``, ``100k`` or ``1m`` means."""
    factor = {"k": 1_000, "m": 1_000_000}.get(text[-1], 1)
    return int(text if factor == 1 else text[:-1]) * factor


def from_hdf5(path: Path) -> Dataset:
    """Load a file of ann-benchmarks: ``train``, ``test`` and ``neighbors``, with the attribute ``distance``.

    Rows of an ``angular`` file get unit length, and are compared by cosine distance, which leaves their order.
    """
    import h5py

    with h5py.File(path) as file:
        distance = file.attrs["distance"]
        if distance not in ("angular", "euclidean"):
            raise ValueError(f"{path.name}: expected the distance angular or euclidean, got {distance!r}")
        train = np.ascontiguousarray(file["train"], dtype=np.float32)
        test = np.ascontiguousarray(file["test"][:N_QUERIES], dtype=np.float32)
        neighbors = np.asarray(file["neighbors"][:N_QUERIES], dtype=np.int32)
    metric = "cosine" if distance == "angular" else "euclidean"
    if metric == "cosine":
        for rows in (train, test):
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-30))
    return Dataset(path.stem, metric, train, test, neighbors)
