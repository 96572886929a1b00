"""How does hnswlib do it? The index that every figure is compared with; absent, its columns stay empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from measure import Stopwatch, stopwatch

try:
    import hnswlib
except ImportError:
    hnswlib = None

__all__ = ["AVAILABLE", "Rival"]

AVAILABLE = hnswlib is not None
M = 16
EF_CONSTRUCTION = 200


class Rival:
    """An hnswlib index over the rows of a data set, with the labels 0 to n - 1.

    Building uses `n_threads`, searching always one. `build` holds the seconds that building took.
    """

    def __init__(self, dataset: Dataset, n_threads: int) -> None:
        self.build = Stopwatch()
        space = "cosine" if dataset.metric == "cosine" else "l2"
        self.index: Any = hnswlib.Index(space=space, dim=dataset.dim)
        self.index.init_index(len(dataset.train), ef_construction=EF_CONSTRUCTION, M=M, random_seed=100)
        with stopwatch() as self.build:
            self.index.add_items(dataset.train, num_threads=n_threads)
        self.index.set_num_threads(1)

    def searcher(self, ef: int, k: int = 10) -> Callable[[npt.NDArray[np.float32]], Any]:
        """Return a function from a vector to whatever hnswlib returns; `rows` reads it."""
        self.index.set_ef(max(ef, k))
        query = self.index.knn_query
        return lambda vector: query(vector, k)

    def filtered_searcher(
        self, ef: int, allowed: Callable[[int], bool], k: int = 10
    ) -> Callable[[npt.NDArray[np.float32]], Any]:
        """The same among the labels for which `allowed` is true; None when it finds fewer than `k` and raises."""
        self.index.set_ef(max(ef, k))

        def search(vector: npt.NDArray[np.float32]) -> Any:
            try:
                return self.index.knn_query(vector, k, 1, allowed)
            except RuntimeError:
                return None

        return search

    @staticmethod
    def rows(answer: Any) -> list[int]:
        """Return the rows in an answer, best first."""
        return [] if answer is None else answer[0][0].tolist()
