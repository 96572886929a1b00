"""How does sqlite-vec do it? It compares with every row, inside SQLite."""

from __future__ import annotations

from typing import Any

import apsw
import sqlite_vec

from benchmarks.systems.system import Range, Rows, Search, Setting, System

__all__ = ["SqliteVec"]

TYPES = {int: "integer", str: "text", bool: "boolean"}


class SqliteVec(System):
    """A virtual table in a database file, through apsw: not every Python's own sqlite3 loads extensions."""

    name = package = "sqlite-vec"
    note = "durable; exact: no graph, no ef; builds on one thread"
    is_exact = True
    has_filter = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.open()
        metric = "cosine" if setting.metric == "cosine" else "l2"
        columns = [f"vector float[{setting.dim}] distance_metric={metric}"]
        columns += [f"{name} {TYPES[kind]}" for name, kind in setting.fields.items()]
        self._connection.execute(f"create virtual table items using vec0({', '.join(columns)})")

    def add(self, rows: Rows) -> None:
        places = ", ".join("?" * (2 + len(self.setting.fields)))
        columns = ", ".join(["rowid", "vector", *self.setting.fields])
        items = zip(rows.numbers, rows.vectors, rows.metadata, strict=True)
        values = ((number, vector.tobytes(), *item.values()) for number, vector, item in items)
        with self._connection:
            self._connection.executemany(f"insert into items({columns}) values({places})", values)

    def searcher(self, ef: int, k: int = 10) -> Search:
        return self._search("", k)

    def filtered_searcher(self, ef: int, condition: Range, k: int = 10) -> Search:
        return self._search(f"and {condition.text()}", k)

    def _search(self, condition: str, k: int) -> Search:
        query = f"select rowid, distance from items where vector match ? and k = ? {condition}"
        execute = self._connection.execute
        return lambda vector: execute(query, (vector.tobytes(), k)).fetchall()

    def rows(self, answer: Any) -> list[int]:
        return [row for row, _ in answer]

    def close(self) -> None:
        self._connection.close()

    def open(self) -> None:
        self._connection = apsw.Connection(str(self.setting.folder / "items.db"))
        self._connection.enable_load_extension(True)
        self._connection.load_extension(sqlite_vec.loadable_path())
