"""How does faiss do it? Its HNSW over float32 rows, and over 8-bit codes without reranking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

from benchmarks.systems.system import BUILD_THREADS, EF_CONSTRUCTION, M, Range, Rows, Search, Setting, System
from benchmarks.truth import Floats

__all__ = ["Faiss", "FaissCodes"]


class Faiss(System):
    """IndexHNSWFlat. Rows of unit length are compared by Euclidean distance, which gives the same order."""

    name = "faiss"
    package = "faiss-cpu"
    note = "row numbers, no metadata; its filter is a bitmap made beforehand"
    has_filter = True
    has_batch = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._index = self._empty()
        self._index.hnsw.efConstruction = EF_CONSTRUCTION

    def _empty(self) -> Any:
        return faiss.IndexHNSWFlat(self.setting.dim, M)

    def add(self, rows: Rows) -> None:
        faiss.omp_set_num_threads(BUILD_THREADS)
        if not self._index.is_trained:
            self._index.train(rows.vectors)
        self._index.add(rows.vectors)

    def searcher(self, ef: int, k: int = 10) -> Search:
        faiss.omp_set_num_threads(1)
        self._index.hnsw.efSearch = max(ef, k)
        search = self._index.search
        return lambda vector: search(vector[None], k)

    def filtered_searcher(self, ef: int, condition: Range, k: int = 10) -> Search:
        faiss.omp_set_num_threads(1)
        selector = faiss.IDSelectorBitmap(np.packbits(condition.mask, bitorder="little"))
        parameters = faiss.SearchParametersHNSW(efSearch=max(ef, k), sel=selector)
        search = self._index.search
        return lambda vector: search(vector[None], k, params=parameters)

    def batch_searcher(self, ef: int, n_threads: int, k: int = 10) -> Callable[[Floats], Any]:
        search = self._index.search
        self._index.hnsw.efSearch = max(ef, k)

        def search_all(vectors: Floats) -> Any:
            faiss.omp_set_num_threads(n_threads)
            return search(vectors, k)

        return search_all

    def rows(self, answer: Any) -> list[int]:
        return [row for row in answer[1][0].tolist() if row >= 0]

    def close(self) -> None:
        faiss.write_index(self._index, str(self.setting.folder / "index"))
        self._index = None

    def open(self) -> None:
        self._index = faiss.read_index(str(self.setting.folder / "index"))


class FaissCodes(Faiss):
    """IndexHNSWSQ with 8 bits: it keeps no exact rows, and so cannot reach every recall."""

    name = "faiss-sq8"
    note = f"{Faiss.note}; keeps 8-bit codes only"

    def _empty(self) -> Any:
        return faiss.IndexHNSWSQ(self.setting.dim, faiss.ScalarQuantizer.QT_8bit, M)
