"""How does Chroma do it, embedded?"""

from __future__ import annotations

from typing import Any

import chromadb
from chromadb.config import Settings

from benchmarks.systems.system import BUILD_THREADS, EF_CONSTRUCTION, M, Range, Rows, Search, Setting, System

__all__ = ["Chroma"]


class Chroma(System):
    """A collection of a PersistentClient: SQLite, and an HNSW index beside it."""

    name = package = "chromadb"
    note = "durable; one number of threads, 2, for build and search; a change of ef takes effect after a reopen"
    has_filter = True
    has_mixed = True
    _ef = 0

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._client = self._connect()
        configuration = {
            "space": "cosine" if setting.metric == "cosine" else "l2",
            "max_neighbors": M,
            "ef_construction": EF_CONSTRUCTION,
            "num_threads": BUILD_THREADS,
        }
        self._collection = self._client.create_collection(
            "items", configuration={"hnsw": configuration}, embedding_function=None
        )

    def _connect(self) -> Any:
        return chromadb.PersistentClient(self.setting.folder, settings=Settings(anonymized_telemetry=False))

    def add(self, rows: Rows) -> None:
        for part in rows.parts(self._client.get_max_batch_size()):
            self._collection.add(part.ids, embeddings=part.vectors, metadatas=part.metadata)

    def searcher(self, ef: int, k: int = 10) -> Search:
        self._set_ef(max(ef, k))
        query = self._collection.query
        return lambda vector: query(query_embeddings=vector, n_results=k, include=["distances"])

    def filtered_searcher(self, ef: int, condition: Range, k: int = 10) -> Search:
        self._set_ef(max(ef, k))
        query, field = self._collection.query, condition.field
        limits = [("$gte", condition.low), ("$lt", condition.high)]
        parts = [{field: {sign: limit}} for sign, limit in limits if limit is not None]
        where = parts[0] if len(parts) == 1 else {"$and": parts}
        return lambda vector: query(query_embeddings=vector, n_results=k, where=where, include=["distances"])

    def _set_ef(self, ef: int) -> None:
        if ef != self._ef:
            self._collection.modify(configuration={"hnsw": {"ef_search": ef}})
            self.close()
            self.open()
            self._ef = ef

    def rows(self, answer: Any) -> list[int]:
        return list(map(int, answer["ids"][0]))

    def close(self) -> None:
        self._client.close()
        self._client.clear_system_cache()

    def open(self) -> None:
        self._client = self._connect()
        self._collection = self._client.get_collection("items", embedding_function=None)
