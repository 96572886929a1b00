"""How much memory does a vector take, with its id, three fields of metadata and its place in the graph?

Each side fills an index in a fresh process that makes its vectors in small slices, so that the growth of the resident
set is the index's and not the input's. The database is measured once more in a process that only opens what was saved.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from options import Options
from report import table
from rival import AVAILABLE

__all__ = ["run"]

N_VECTORS = 200_000
DIM = 128
SLICE = 10_000
SEED = 20


def run(options: Options) -> dict[str, Any]:
    """Measure each case in a process of its own."""
    n = options.size(N_VECTORS)
    with tempfile.TemporaryDirectory() as folder:
        grown = {"kektordb, filled": child("fill", n, folder), "kektordb, opened": child("open", n, folder)}
    grown["hnswlib, vectors only"] = child("hnswlib", n, "") if AVAILABLE else None
    per_vector = {name: bytes_grown / n if bytes_grown is not None else None for name, bytes_grown in grown.items()}
    raw = 4 * DIM
    rows = [(name, value, value - raw if value else None) for name, value in per_vector.items()]
    table(f"resident memory, {n:,} x {DIM} float32", ["", "bytes per vector", f"beyond the {raw} of the vector"], rows)
    return {"vectors": n, "dim": DIM, "bytes_per_vector": per_vector}


def child(case: str, n: int, folder: str) -> int:
    """Run this file for one case; return by how many bytes its resident set grew."""
    command = [sys.executable, __file__, case, str(n), folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def vectors_of(start: int, stop: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Make the vectors of one slice, in 64 clusters."""
    centres = np.random.default_rng(SEED).standard_normal((64, DIM), dtype=np.float32)
    rng = np.random.default_rng([SEED, start])
    noise = rng.standard_normal((stop - start, DIM), dtype=np.float32)
    return centres[rng.integers(64, size=stop - start)] + 0.7 * noise


def fill_database(n: int, folder: str) -> int:
    """Fill, measure, and save for the next case."""
    import kektordb

    with kektordb.open(folder) as db:
        index = db.create_index("items", metric="euclidean", seed=100)
        warm = db.create_index("warm", metric="euclidean")
        warm.add_batch(["a", "b"], vectors_of(0, 2), [{"price": 1}, {"price": 2}])
        warm.search(vectors_of(0, 1)[0], 1, filter="price < 5")
        before = resident()
        for start in range(0, n, SLICE):
            stop = min(n, start + SLICE)
            metadata = [
                {"price": row % 1000, "category": f"category-{row % 20}", "rating": row % 50 / 10}
                for row in range(start, stop)
            ]
            index.add_batch([f"item-{row:06d}" for row in range(start, stop)], vectors_of(start, stop), metadata)
        del metadata
        grown = resident() - before
        db.save()
    return grown


def open_database(n: int, folder: str) -> int:
    """Open what was filled, and search once."""
    import kektordb

    with kektordb.open(":memory:") as db:
        warm = db.create_index("warm", metric="euclidean")
        warm.add_batch(["a", "b"], vectors_of(0, 2), [{"price": 1}, {"price": 2}])
    before = resident()
    with kektordb.open(folder) as db:
        assert len(db["items"]) == n
        db["items"].search(vectors_of(0, 1)[0], 10)
        return resident() - before


def fill_hnswlib(n: int, _folder: str) -> int:
    """Fill an hnswlib index, which keeps neither string ids nor metadata."""
    import hnswlib

    vectors_of(0, SLICE)
    before = resident()
    index = hnswlib.Index(space="l2", dim=DIM)
    index.init_index(n, ef_construction=200, M=16, random_seed=100)
    for start in range(0, n, SLICE):
        stop = min(n, start + SLICE)
        index.add_items(vectors_of(start, stop), np.arange(start, stop))
    return resident() - before


def resident() -> int:
    """Return this process's resident set in bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    case = {"fill": fill_database, "open": open_database, "hnswlib": fill_hnswlib}[sys.argv[1]]
    print(case(int(sys.argv[2]), sys.argv[3]))
