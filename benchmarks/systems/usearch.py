"""How does usearch do it?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from usearch.index import Index

from benchmarks.systems.system import BUILD_THREADS, EF_CONSTRUCTION, M, Rows, Search, Setting, System
from benchmarks.truth import Floats

__all__ = ["Usearch"]


class Usearch(System):
    """An in-memory index of integer keys over float32 rows; what it saves is one file."""

    name = package = "usearch"
    note = "integer keys, no metadata"
    has_batch = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._index = Index(
            ndim=setting.dim,
            metric="cos" if setting.metric == "cosine" else "l2sq",
            dtype="f32",
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )

    def add(self, rows: Rows) -> None:
        self._index.add(np.array(rows.numbers, dtype=np.uint64), rows.vectors, threads=BUILD_THREADS)

    def searcher(self, ef: int, k: int = 10) -> Search:
        self._index.expansion_search = max(ef, k)
        search = self._index.search
        return lambda vector: search(vector, k, threads=1)

    def batch_searcher(self, ef: int, n_threads: int, k: int = 10) -> Callable[[Floats], Any]:
        self._index.expansion_search = max(ef, k)
        search = self._index.search
        return lambda vectors: search(vectors, k, threads=n_threads)

    def rows(self, answer: Any) -> list[int]:
        return answer.keys.tolist()

    def close(self) -> None:
        self._index.save(str(self.setting.folder / "index"))
        self._index.reset()

    def open(self) -> None:
        self._index = Index.restore(str(self.setting.folder / "index"))
