"""How does hnswlib do it? The index that every figure is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hnswlib
import numpy as np

from benchmarks.systems.system import BUILD_THREADS, EF_CONSTRUCTION, M, Range, Rows, Search, Setting, System
from benchmarks.truth import Floats

__all__ = ["Hnswlib"]


class Hnswlib(System):
    """An in-memory index of integer labels; what it saves is one file."""

    name = package = "hnswlib"
    note = "labels, no metadata; its filter is a Python callback"
    has_filter = True
    has_batch = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._index = self._empty()
        self._index.init_index(setting.n, ef_construction=EF_CONSTRUCTION, M=M, random_seed=100)

    def _empty(self) -> Any:
        return hnswlib.Index(space="cosine" if self.setting.metric == "cosine" else "l2", dim=self.setting.dim)

    def add(self, rows: Rows) -> None:
        self._index.add_items(rows.vectors, np.array(rows.numbers), num_threads=BUILD_THREADS)

    def searcher(self, ef: int, k: int = 10) -> Search:
        self._index.set_num_threads(1)
        self._index.set_ef(max(ef, k))
        query = self._index.knn_query
        return lambda vector: query(vector, k)

    def filtered_searcher(self, ef: int, condition: Range, k: int = 10) -> Search:
        self.searcher(ef, k)
        query = self._index.knn_query
        # A list answers a callback faster than an array.
        allowed = condition.mask.tolist().__getitem__

        def search(vector: Any) -> Any:
            try:
                return query(vector, k, 1, allowed)
            except RuntimeError:  # it found fewer than k
                return None

        return search

    def batch_searcher(self, ef: int, n_threads: int, k: int = 10) -> Callable[[Floats], Any]:
        self._index.set_ef(max(ef, k))
        query = self._index.knn_query
        return lambda vectors: query(vectors, k, n_threads)

    def rows(self, answer: Any) -> list[int]:
        return [] if answer is None else answer[0][0].tolist()

    def close(self) -> None:
        self._index.save_index(str(self.setting.folder / "index"))
        self._index = None

    def open(self) -> None:
        self._index = self._empty()
        self._index.load_index(str(self.setting.folder / "index"), max_elements=self.setting.n)
