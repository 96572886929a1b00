"""How much memory does a vector take, with its id, three fields of metadata and its place in the graph?

Each system is filled in a fresh process that makes its vectors in small slices, so that the growth of the resident
set is the system's and not the input's, and measured once more in a process that only opens what was saved.

Code and libraries that a first use loads (however many vectors there are) are loaded before the first reading. The last
reading is taken after freed memory that malloc had kept was given back to the system.
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

from benchmarks.filling import FIELDS, fill, rows_of
from benchmarks.options import Options
from benchmarks.report import table
from benchmarks.systems import OURS, PEERS, available
from benchmarks.systems.kektordb import Kektordb
from benchmarks.systems.system import Setting, System
from benchmarks.truth import Floats

__all__ = ["run"]

SYSTEMS = ("kektordb", "kektordb-float16", *PEERS)
N_VECTORS = 200_000
N_WARM_UP = 500
DIM = 128
SLICE = 10_000
SEED = 20
METRIC = "euclidean"
# What a library without ids and metadata has as well.
BARE_PARTS = ("ids", "metadata", "columns", "total")


def run(options: Options) -> dict[str, Any]:
    """Measure each system in processes of its own."""
    n = options.size(N_VECTORS)
    cases: dict[str, dict[str, Any]] = {}
    for kind in available(options.choose(SYSTEMS)):
        with tempfile.TemporaryDirectory() as folder:
            try:
                cases[f"{kind.name}, filled"] = child("filled", kind.name, n, folder)
                cases[f"{kind.name}, opened"] = child("opened", kind.name, n, folder)
            except subprocess.CalledProcessError:
                if kind.name in OURS:
                    raise
                print(f"left out: {kind.name} (its process failed)", flush=True)
    headers = ["resident", "trimmed", "accounted", "accounted_bare"]
    titles = ["", "resident set", "after malloc_trim", "its own account", "without ids and metadata"]
    rows = [[name, *(values.get(header) for header in headers)] for name, values in cases.items()]
    table(f"bytes per vector, {n:,} x {DIM} float32 ({4 * DIM} bytes each)", titles, rows)
    return {"vectors": n, "dim": DIM, "bytes_per_vector": cases}


def child(case: str, name: str, n: int, folder: str) -> dict[str, float]:
    """Run this module for one case in a fresh process; return bytes per vector."""
    command = [sys.executable, "-m", "benchmarks.memory", case, name, str(n), folder]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root)
    return {part: n_bytes / n for part, n_bytes in json.loads(done.stdout.splitlines()[-1]).items()}


def vectors_of(start: int, stop: int) -> Floats:
    """Make the vectors of one slice, in 64 clusters."""
    centres = np.random.default_rng(SEED).standard_normal((64, DIM), dtype=np.float32)
    rng = np.random.default_rng([SEED, start])
    noise = rng.standard_normal((stop - start, DIM), dtype=np.float32)
    return centres[rng.integers(64, size=stop - start)] + np.float32(0.7) * noise


def filled(kind: type[System], n: int, folder: Path) -> dict[str, int]:
    """Fill a system in slices and save it."""
    warm_up(kind)
    before = resident()
    system = kind(Setting(METRIC, DIM, n, folder, FIELDS))
    for start in range(0, n, SLICE):
        system.add(rows_of(vectors_of(start, min(n, start + SLICE)), start))
    system.finish()
    if isinstance(system, Kektordb):
        system.db.save()
    grown = growth(before) | account(system)
    system.close()
    return grown


def opened(kind: type[System], n: int, folder: Path) -> dict[str, int]:
    """Open what was filled, and search once."""
    warm_up(kind)
    before = resident()
    # Made for the same folder, without making anything in it.
    system = kind.__new__(kind)
    System.__init__(system, Setting(METRIC, DIM, n, folder, FIELDS))
    system.open()
    assert len(system.rows(system.searcher(100)(vectors_of(0, 1)[0]))) == 10
    grown = growth(before) | account(system)
    system.close()
    return grown


def warm_up(kind: type[System]) -> None:
    """Fill, save, open and search something small, so that all code and libraries are loaded."""
    with tempfile.TemporaryDirectory() as folder:
        system, _ = fill(kind, METRIC, rows_of(vectors_of(0, N_WARM_UP)), FIELDS, Path(folder))
        system.close()
        system.open()
        system.searcher(100)(vectors_of(0, 1)[0])
        system.close()


def account(system: System) -> dict[str, int]:
    """Return what the system itself says that it holds; only ours tells parts."""
    if not isinstance(system, Kektordb):
        return {}
    parts = system.index.stats()["memory_bytes"]
    return {
        "accounted": parts["total"],
        "accounted_bare": sum(n_bytes for part, n_bytes in parts.items() if part not in BARE_PARTS),
        **{f"accounted_{part}": n_bytes for part, n_bytes in parts.items() if part != "total"},
    }


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
    measured = {"filled": filled, "opened": opened}[sys.argv[1]]
    kind = available([sys.argv[2]])[0]
    print(json.dumps(measured(kind, int(sys.argv[3]), Path(sys.argv[4]))))
