"""How does LanceDB do it? Its HNSW over float32 rows, in one partition."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.systems.system import BUILD_THREADS, EF_CONSTRUCTION, M, Range, Rows, Search, Setting, System

# Both are read when the library is loaded.
os.environ.setdefault("LANCE_CPU_THREADS", str(BUILD_THREADS))
os.environ.setdefault("LANCE_LOG", "error")

import lancedb
import pyarrow as pa
from lancedb.index import BTree, HnswFlat

__all__ = ["LanceDB"]


class LanceDB(System):
    """A table in a local folder; the graph is built when all rows are in, rows added later are scanned."""

    name = package = "lancedb"
    note = "durable, reads from disk; build and search share a pool of 2 threads; the graph is built after the adds"
    has_filter = True
    has_mixed = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        types = {int: pa.int64(), str: pa.string(), bool: pa.bool_()}
        fields = [("id", pa.int64()), *((name, types[kind]) for name, kind in setting.fields.items())]
        self._schema = pa.schema([*fields, ("vector", pa.list_(pa.float32(), setting.dim))])
        self._table = lancedb.connect(str(setting.folder)).create_table("items", schema=self._schema)

    @property
    def _metric(self) -> str:
        return "cosine" if self.setting.metric == "cosine" else "l2"

    def add(self, rows: Rows) -> None:
        columns = [pa.array([item[name] for item in rows.metadata]) for name in self.setting.fields]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.reshape(-1)), self.setting.dim)
        arrays = [pa.array(list(rows.numbers)), *columns, vectors]
        self._table.add(pa.Table.from_arrays(arrays, schema=self._schema))

    def finish(self) -> None:
        config = HnswFlat(distance_type=self._metric, num_partitions=1, m=M, ef_construction=EF_CONSTRUCTION)
        self._table.create_index("vector", config=config)
        for name, kind in self.setting.fields.items():
            if kind is int:
                self._table.create_index(name, config=BTree())

    def searcher(self, ef: int, k: int = 10) -> Search:
        ef = max(ef, k)
        return lambda vector: self._query(vector, ef, k).to_arrow()

    def filtered_searcher(self, ef: int, condition: Range, k: int = 10) -> Search:
        ef, text = max(ef, k), condition.text()
        return lambda vector: self._query(vector, ef, k).where(text).to_arrow()

    def _query(self, vector: Any, ef: int, k: int) -> Any:
        query = self._table.search(vector, vector_column_name="vector").distance_type(self._metric)
        return query.limit(k).ef(ef).nprobes(1).select(["id", "_distance"])

    def rows(self, answer: Any) -> list[int]:
        return answer["id"].to_pylist()

    def close(self) -> None:
        self._table = None

    def open(self) -> None:
        self._table = lancedb.connect(str(self.setting.folder)).open_table("items")
