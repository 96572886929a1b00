"""How much memory does a vector take, with its id, three fields of metadata and its place in the graph?

Each side fills an index in a fresh process that makes its vectors in small slices, so that the growth of the resident
set is the index's and not the input's. The database is measured once more in a process that only opens what was saved.

Code and libraries that a first use loads (some 40 MB, once a process, however many vectors there are) are loaded before
the first reading. The second reading is taken after freed memory that malloc had kept was given back to the system.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
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
    cases: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cases["kektordb, filled"] = child("fill", n, folder)
        cases["kektordb, opened"] = child("open", n, folder)
    if AVAILABLE:
        cases["hnswlib, vectors only"] = child("hnswlib", n, "")
    rows = [(name, values["resident"], values["trimmed"], values.get("accounted")) for name, values in cases.items()]
    headers = ["", "resident set", "after malloc_trim", "of which stats() knows"]
    table(f"bytes per vector, {n:,} x {DIM} float32 ({4 * DIM} bytes each)", headers, rows)
    return {"vectors": n, "dim": DIM, "bytes_per_vector": cases}


def child(case: str, n: int, folder: str) -> dict[str, float]:
    """Run this file for one case; return bytes per vector."""
    command = [sys.executable, __file__, case, str(n), folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {name: n_bytes / n for name, n_bytes in json.loads(done.stdout).items()}


def vectors_of(start: int, stop: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Make the vectors of one slice, in 64 clusters."""
    centres = np.random.default_rng(SEED).standard_normal((64, DIM), dtype=np.float32)
    rng = np.random.default_rng([SEED, start])
    noise = rng.standard_normal((stop - start, DIM), dtype=np.float32)
    return centres[rng.integers(64, size=stop - start)] + 0.7 * noise


def fill_database(n: int, folder: str) -> dict[str, int]:
    """Fill, save for the next case, and measure: no background save is under way then."""
    import kektordb

    warm_up()
    with kektordb.open(folder) as db:
        index = db.create_index("items", metric="euclidean", seed=100)
        before = resident()
        for start in range(0, n, SLICE):
            rows = range(start, min(n, start + SLICE))
            index.add_batch(
                [f"item-{row:06d}" for row in rows], vectors_of(start, rows.stop), list(map(fields_of, rows))
            )
        db.save()
        grown = growth(before)
        accounted = index.stats()["memory_bytes"]["total"]
    return grown | {"accounted": accounted}


def fields_of(row: int) -> dict[str, Any]:
    """Return three fields of metadata."""
    return {"price": row % 1000, "category": f"category-{row % 20}", "rating": row % 50 / 10}


def open_database(n: int, folder: str) -> dict[str, int]:
    """Open what was filled, and search once."""
    import kektordb

    warm_up()
    before = resident()
    with kektordb.open(folder) as db:
        index = db["items"]
        assert len(index) == n
        index.search(vectors_of(0, 1)[0], 10, filter="price < 500")
        return growth(before) | {"accounted": index.stats()["memory_bytes"]["total"]}


def warm_up() -> None:
    """Write, save, open and search something small, so that all code and libraries are loaded."""
    import kektordb

    with tempfile.TemporaryDirectory() as folder:
        with kektordb.open(folder) as db:
            index = db.create_index("warm", metric="euclidean")
            index.add_batch(list(map(str, range(100))), vectors_of(0, 100), list(map(fields_of, range(100))))
            db.save()
        with kektordb.open(folder, read_only=True) as db:
            db["warm"].search(vectors_of(0, 1)[0], 1, filter="price < 5")


def fill_hnswlib(n: int, _folder: str) -> dict[str, int]:
    """Fill an hnswlib index, which keeps neither string ids nor metadata."""
    import hnswlib

    vectors_of(0, SLICE)
    before = resident()
    index = hnswlib.Index(space="l2", dim=DIM)
    index.init_index(n, ef_construction=200, M=16, random_seed=100)
    for start in range(0, n, SLICE):
        stop = min(n, start + SLICE)
        index.add_items(vectors_of(start, stop), np.arange(start, stop))
    return growth(before)


def growth(before: int) -> dict[str, int]:
    """Return by how many bytes the resident set grew, as it is and after malloc gave back what it could."""
    grown = resident() - before
    with contextlib.suppress(AttributeError):  # malloc_trim is glibc's
        ctypes.CDLL(None).malloc_trim(0)
    return {"resident": grown, "trimmed": resident() - before}


def resident() -> int:
    """Return this process's resident set in bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    case = {"fill": fill_database, "open": open_database, "hnswlib": fill_hnswlib}[sys.argv[1]]
    print(json.dumps(case(int(sys.argv[2]), sys.argv[3])))
