"""A program that writes for ever and says what was acknowledged, to be killed by a test; and what it writes."""

from __future__ import annotations

import os
import sys

import numpy as np
import numpy.typing as npt

import kektordb
from kektordb.compress import compress
from kektordb.tasks import Control


def vec(n: int, dim: int = 4) -> npt.NDArray[np.float32]:
    """Return the n-th vector."""
    return np.random.default_rng(n).standard_normal(dim).astype(np.float32)


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


def child(path: str, sync: str, start: int) -> None:
    """Write for ever, and say the number of each step that was acknowledged."""
    db = kektordb.open(path, sync=sync, autosave="", n_threads=1)
    prepare(db)
    os.write(1, b"ready\n")
    for n in range(start, 1_000_000):
        step(db, n)
        os.write(1, b"%d\n" % n)


if __name__ == "__main__":
    child(sys.argv[1], sys.argv[2], int(sys.argv[3]))
