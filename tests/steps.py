"""A life of a database of which each step can be told from its number."""

from __future__ import annotations

from writer import vec

import kektordb
from kektordb.tasks import Control
from kektordb.upkeep.compress import compress

__all__ = ["prepare", "step"]


def step(db: kektordb.Database, n: int) -> None:
    """Do the n-th thing of a life that can be told from its number."""
    a = db["a"]
    match n % 10:
        case 4:
            a.add_batch([f"b{n}-{j}" for j in range(3)], [vec(n + j) for j in range(3)])
        case 5:
            a.delete(f"s{n - 5}")
        case 6:
            a.upsert(f"s{n - 5}", vec(n), {"n": n})
        case 7:
            db.kv[f"k{n}"] = str(n).encode()
        case 8:
            with db.batch():
                a.add(f"g{n}", vec(n))
                db.kv["last"] = str(n).encode()
                a.update_metadata(f"s{n - 6}", {"m": n})
        case 9:
            db.save()
        case 3:
            compress(db, "a", ("int8", "float16", "float32")[n // 10 % 3], Control())
        case _:
            a.add(f"s{n}", vec(n), {"n": n})


def prepare(db: kektordb.Database) -> None:
    if "a" not in db:
        db.create_index("a", metric="euclidean", m=4, ef_construction=20)
