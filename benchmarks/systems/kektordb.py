"""How is kektordb measured? Through its public calls, as a durable database; and its bare graph, to tell the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import kektordb
from benchmarks.options import NO_AUTOSAVE
from benchmarks.systems.system import BUILD_THREADS, EF_CONSTRUCTION, M, Range, Rows, Search, Setting, System
from benchmarks.truth import Floats
from kektordb.collection import SLICE

__all__ = ["BareGraph", "Kektordb", "KektordbFloat16", "KektordbFloat32", "KektordbMemory"]


class Kektordb(System):
    """One index of a durable database with the default options."""

    name = package = "kektordb"
    note = "durable, string ids, metadata"
    has_filter = True
    has_batch = True
    has_mixed = True
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.db = self._open()
        self.index = self.db.create_index(
            "items",
            metric=setting.metric,
            dim=setting.dim,
            m=M,
            ef_construction=EF_CONSTRUCTION,
            seed=100,
            **self.options,
        )

    def _open(self) -> kektordb.Database:
        return kektordb.open(self.setting.folder, **NO_AUTOSAVE)

    def add(self, rows: Rows) -> None:
        self.index.add_batch(rows.ids, rows.vectors, rows.metadata, n_threads=BUILD_THREADS)

    def add_one(self, rows: Rows) -> None:
        self.index.add(rows.ids[0], rows.vectors[0], rows.metadata[0])

    def searcher(self, ef: int, k: int = 10) -> Search:
        search = self.index.search
        return lambda vector: search(vector, k, ef)

    def filtered_searcher(self, ef: int, condition: Range, k: int = 10) -> Search:
        search, text = self.index.search, condition.text()
        return lambda vector: search(vector, k, ef, text)

    def batch_searcher(self, ef: int, n_threads: int, k: int = 10) -> Callable[[Floats], Any]:
        search = self.index.search_batch
        return lambda vectors: search(vectors, k, ef, n_threads=n_threads)

    def rows(self, answer: Any) -> list[int]:
        return list(map(int, answer.ids))

    def close(self) -> None:
        self.db.save()
        self.db.close()

    def open(self) -> None:
        self.db = self._open()
        self.index = self.db["items"]


class KektordbFloat32(Kektordb):
    """Walks the graph on the float32 rows instead of the codes."""

    name = "kektordb-float32"
    note = f"{Kektordb.note}; traversal float32"
    options = {"traversal": "float32"}


class KektordbFloat16(Kektordb):
    """Keeps the rows as float16."""

    name = "kektordb-float16"
    note = f"{Kektordb.note}; precision float16"
    options = {"precision": "float16"}


class KektordbMemory(Kektordb):
    """The same without files."""

    name = "kektordb-memory"
    note = "string ids, metadata; nothing on disk"

    def _open(self) -> kektordb.Database:
        return kektordb.open(":memory:")

    def close(self) -> None:
        self.db.close()

    def open(self) -> None:
        raise NotImplementedError


class BareGraph(KektordbMemory):
    """The graph alone, filled in the slices in which the database fills it: no ids, no metadata, no log."""

    name = "kektordb-graph"
    note = "the graph module without the database around it"
    has_filter = False
    has_batch = False
    has_mixed = False

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.graph: Any = self.index._collection().graph

    def add(self, rows: Rows) -> None:
        self.graph.reserve(len(rows))
        for part in rows.parts(SLICE):
            first = self.graph.append(part.vectors)
            self.graph.link(first, len(part), BUILD_THREADS)

    def searcher(self, ef: int, k: int = 10) -> Search:
        search = self.graph.search
        return lambda vector: search(vector, k, ef)

    def rows(self, answer: Any) -> list[int]:
        return answer[0].tolist()
