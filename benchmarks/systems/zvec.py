"""How does zvec do it?"""

from __future__ import annotations

from typing import Any

import zvec

from benchmarks.systems.system import BUILD_THREADS, EF_CONSTRUCTION, M, Range, Rows, Search, Setting, System

__all__ = ["Zvec"]

PART = 1_000
TYPES = {int: zvec.DataType.INT64, str: zvec.DataType.STRING, bool: zvec.DataType.BOOL}

# Once a process: it refuses a second time.
zvec.init(query_threads=1, optimize_threads=BUILD_THREADS, log_level=zvec.LogLevel.ERROR)


class Zvec(System):
    """A collection in a local folder; the graph is built by optimize(), when all rows are in."""

    name = package = "zvec"
    note = "durable; the graph is built by optimize(), after the adds"
    has_filter = True
    has_mixed = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        metric = zvec.MetricType.COSINE if setting.metric == "cosine" else zvec.MetricType.L2
        graph = zvec.HnswIndexParam(metric_type=metric, m=M, ef_construction=EF_CONSTRUCTION)
        ranges = zvec.InvertIndexParam(enable_range_optimization=True)
        schema = zvec.CollectionSchema(
            name="items",
            fields=[
                zvec.FieldSchema(name, TYPES[kind], **({"index_param": ranges} if kind is int else {}))
                for name, kind in setting.fields.items()
            ],
            vectors=zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, setting.dim, index_param=graph),
        )
        self._collection = zvec.create_and_open(self._path, schema)

    @property
    def _path(self) -> str:
        return str(self.setting.folder / "collection")

    def add(self, rows: Rows) -> None:
        for part in rows.parts(PART):
            items = zip(part.ids, part.vectors, part.metadata, strict=True)
            docs = [zvec.Doc(id=id, vectors={"vector": vector}, fields=item) for id, vector, item in items]
            refused = [status for status in self._collection.insert(docs) if not status.ok()]
            if refused:
                raise RuntimeError(f"zvec refused rows: {refused[0]}")

    def finish(self) -> None:
        self._collection.optimize(zvec.OptimizeOption(concurrency=BUILD_THREADS))

    def searcher(self, ef: int, k: int = 10) -> Search:
        return self._search(ef, k, None)

    def filtered_searcher(self, ef: int, condition: Range, k: int = 10) -> Search:
        return self._search(ef, k, condition.text())

    def _search(self, ef: int, k: int, condition: str | None) -> Search:
        query, make, param = self._collection.query, zvec.Query, zvec.HnswQueryParam(ef=max(ef, k))
        return lambda vector: query(
            make("vector", vector=vector, param=param), topk=k, filter=condition, output_fields=[]
        )

    def rows(self, answer: Any) -> list[int]:
        return [int(doc.id) for doc in answer]

    def close(self) -> None:
        self._collection.flush()
        self._collection.close()

    def open(self) -> None:
        self._collection = zvec.open(self._path)
