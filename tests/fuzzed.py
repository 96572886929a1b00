"""What fuzzers damage, and what they ask of it afterwards: small databases of one kind each, and one of everything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from faults import MemoryBackend
from fuzz import Chance

from kektordb.database import Database
from kektordb.errors import KektorError
from kektordb.index import Index
from kektordb.state import State
from kektordb.tasks import Control
from kektordb.upkeep.compress import compress

__all__ = ["SMALL", "Fill", "filled", "handle", "named", "opened", "use", "use_some", "vectors"]

Fill = Callable[[Database], None]
SMALLEST: dict[str, Any] = {"metric": "euclidean", "m": 4, "ef_construction": 20}
TEXTS = ["the quick brown fox", "jumped over", "the lazy dogs", "", "10"]


def vectors(n: int, dim: int = 4) -> Any:
    return np.random.default_rng(n).standard_normal((n, dim)).astype(np.float32)


def items(n: int) -> list[dict[str, Any]]:
    return [{"n": i, "t": TEXTS[i % 5], "l": ["x", i % 3], "o": {"f": i / 7, "b": i % 2 == 0}} for i in range(n)]


def opened(disk: MemoryBackend) -> Database:
    return Database.open("/db", backend=disk, sync="no", autosave="", n_threads=1)


def handle(state: State) -> Database:
    """Return a database without files of a state that was read."""
    return Database(":memory:", None, state, False, False, None)


def filled(db: Database) -> None:
    """Something of everything that is stored."""
    a = db.create_index("a", text_language="english", **SMALLEST)
    b = db.create_index("b", precision="int8", dim=4, m=4, ef_construction=20)
    c = db.create_index("c", precision="float16", traversal="float32", **SMALLEST)
    a.add_batch([f"a{i}" for i in range(40)], vectors(40), items(40))
    b.add_batch([f"b{i}" for i in range(30)], vectors(30))
    c.add_batch([f"c{i}" for i in range(20)], vectors(20), items(20))
    a.add("one", vectors(1)[0], {"n": 7})
    a.delete(["a3", "a4"])
    a.update_metadata("a5", {"n": 99, "t": "a fox again"})
    a.upsert("a6", vectors(1)[0], {"n": 6})
    a.configure({"refine_enabled": False})
    compress(db, "b", "float32", Control())
    with db.batch():
        a.add("grouped", vectors(2)[1], {"n": 8})
        db.kv["batch"] = b"value"
    db.kv["key"] = bytes(100)
    del db.kv["batch"]
    db.create_index("gone")
    db.drop_index("gone")


def _of_texts(db: Database) -> None:
    a = db.create_index("a", text_language="english", **SMALLEST)
    a.add_batch([f"a{i}" for i in range(5)], vectors(5), items(5))
    a.update_metadata("a1", {"n": 99, "t": "a fox again"})
    a.delete("a3")


def _of_changes(db: Database) -> None:
    a = db.create_index("a", **SMALLEST)
    a.add_batch([f"a{i}" for i in range(9)], vectors(9), items(9))
    a.add("one", vectors(1)[0], {"n": 7})
    a.delete(["a3", "a4"])
    a.upsert("a6", vectors(1)[0], {"n": 6})
    a.configure({"refine_enabled": False})


def _of_codes(db: Database) -> None:
    b = db.create_index("b", precision="int8", dim=4, m=4, ef_construction=20)
    b.add_batch([f"b{i}" for i in range(6)], vectors(6))
    compress(db, "b", "float32", Control())


def _of_bytes(db: Database) -> None:
    b = db.create_index("b", metric="dot", m=4, ef_construction=20)
    b.add_batch([f"b{i}" for i in range(12)], vectors(12), items(12))
    compress(db, "b", "int8", Control())


def _of_halves(db: Database) -> None:
    c = db.create_index("c", precision="float16", traversal="float32", **SMALLEST)
    c.add_batch([f"c{i}" for i in range(4)], vectors(4), items(4))
    with db.batch():
        c.add("grouped", vectors(2)[1], {"n": 8})
        db.kv["batch"] = b"value"


def _of_keys(db: Database) -> None:
    db.kv["key"] = bytes(100)
    db.kv["other"] = b"value"
    del db.kv["other"]
    db.create_index("gone")
    db.drop_index("gone")
    db.create_index("empty", dim=4, text_language="german", stop_words=["und"], field_weights={"t": 2.0})


SMALL: tuple[Fill, ...] = (_of_texts, _of_changes, _of_codes, _of_bytes, _of_halves, _of_keys)


def _calls(index: Index) -> list[Callable[[], Any]]:
    vector = np.ones(index.dim or 4, np.float32)
    return [
        lambda: index.search(vector, k=5, ef_search=20),
        lambda: index.search(vector, k=5, filter="n > 3 OR t = x"),
        lambda: index.search(text="fox 10", k=5),
        lambda: index.get_many(index.ids()),
        lambda: index.ids("EXISTS(n) AND NOT l = x"),
        lambda: index.upsert("a7", vector, {"t": "fox"}),
        lambda: index.delete(index.ids()[:1]),
        lambda: index.update_metadata(index.ids()[0], {"n": 1, "t": "dog"}) if len(index) else None,
        lambda: index.stats(),
    ]


def _use_keys(db: Database) -> None:
    db.kv["k"] = dict(db.kv).get("key", b"")


def use(db: Database) -> None:
    """All that may be asked of a database; a named error is an answer."""
    for name in db:
        for call in _calls(db[name]):
            named(call)
    named(lambda: _use_keys(db))


def use_some(db: Database, rng: Chance) -> None:
    """Three things that may be asked of one of its indexes, or of its keys."""
    names = list(db)
    if not names or rng.random() < 0.05:
        named(lambda: _use_keys(db))
        return
    calls = _calls(db[rng.choice(names)])
    for _ in range(3):
        named(rng.choice(calls))


def named(call: Callable[[], Any]) -> None:
    with contextlib.suppress(KektorError, MemoryError):
        call()
