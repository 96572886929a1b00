"""How does qdrant do it, embedded? A shard of qdrant-edge-py."""

from __future__ import annotations

from typing import Any

import qdrant_edge as qdrant

from benchmarks.systems.system import BUILD_THREADS, EF_CONSTRUCTION, M, Range, Rows, Search, Setting, System

__all__ = ["QdrantEdge"]

PART = 1_000
# In kilobytes: one segment holds everything, even a small one gets a graph, and few rows (its default) are scanned.
ONE_SEGMENT, ANY_SIZE, SCANNED = 10**9, 1, 10_000


class QdrantEdge(System):
    """A durable shard with a write-ahead log; the graph is built when all rows are in."""

    name = "qdrant-edge"
    package = "qdrant-edge-py"
    note = "durable; the graph is built by optimize(), after the adds"
    has_filter = True
    has_mixed = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        distance = qdrant.Distance.Cosine if setting.metric == "cosine" else qdrant.Distance.Euclid
        config = qdrant.EdgeConfig(
            vectors=qdrant.EdgeVectorParams(size=setting.dim, distance=distance),
            hnsw_config=qdrant.HnswIndexConfig(M, EF_CONSTRUCTION, SCANNED, max_indexing_threads=BUILD_THREADS),
            optimizers=qdrant.EdgeOptimizersConfig(
                default_segment_number=1, max_segment_size=ONE_SEGMENT, indexing_threshold=ANY_SIZE
            ),
            max_search_threads=1,
        )
        self._shard = qdrant.EdgeShard.create(str(setting.folder), config)
        for field, kind in setting.fields.items():
            if kind is int:
                index = qdrant.UpdateOperation.create_field_index(field, qdrant.PayloadSchemaType.Integer)
                self._shard.update(index)

    def add(self, rows: Rows) -> None:
        for part in rows.parts(PART):
            points = zip(part.numbers, part.vectors.tolist(), part.metadata, strict=True)
            operation = qdrant.UpdateOperation.upsert_points([qdrant.Point(*point) for point in points])
            self._shard.update(operation)

    def finish(self) -> None:
        self._shard.optimize()

    def searcher(self, ef: int, k: int = 10) -> Search:
        return self._search(ef, k, None)

    def filtered_searcher(self, ef: int, condition: Range, k: int = 10) -> Search:
        within = qdrant.RangeFloat(gte=condition.low, lt=condition.high)
        return self._search(ef, k, qdrant.Filter(must=[qdrant.FieldCondition(condition.field, range=within)]))

    def _search(self, ef: int, k: int, condition: Any) -> Search:
        search, request, nearest = self._shard.search, qdrant.SearchRequest, qdrant.Query.Nearest
        params = qdrant.SearchParams(hnsw_ef=max(ef, k))
        return lambda vector: search(request(nearest(vector), k, None, condition, params))

    def rows(self, answer: Any) -> list[int]:
        return [point.id for point in answer]

    def close(self) -> None:
        self._shard.flush()
        self._shard.close()
        self._shard = None

    def open(self) -> None:
        self._shard = qdrant.EdgeShard.load(str(self.setting.folder))
