"""How much slower than `add_batch` from NumPy is `add_arrow`, and how much memory does it take beside the index?

    python -m benchmarks.arrow [--n 100000] [--repeats 2]

Both ways fill indexes of the same rows in turn; CPU time of all threads, since others may use the machine. Memory is
measured in a process of its own that reads batches from a file: the highest resident set less the one at the end, where
`add_batch` of the same batches shows how much is the index's own. Its log is not rewritten
meanwhile, which takes memory of its own (70 MB for 1,000,000 rows) at a moment that differs from run to run.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import kektordb
from benchmarks.measure import stopwatch
from benchmarks.report import table

DIM = 128
SEED = 9


def rows_of(n: int, seed: int = SEED) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return rows around many centres, which are easier to link than noise, and no harder than data."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(SEED).standard_normal((1000, DIM), dtype=np.float32)
    return centres[rng.integers(0, 1000, n)] + 0.5 * rng.standard_normal((n, DIM), dtype=np.float32)


def as_table(ids: list[str], rows: Any, metadata: list[dict[str, Any]] | None) -> pa.Table:
    columns = {"id": ids, "vector": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), DIM)}
    if metadata is not None:
        columns |= {name: [of[name] for of in metadata] for name in metadata[0]}
    return pa.table(columns)


def compare(n: int, repeats: int, with_metadata: bool, on_disk: bool) -> dict[str, Any]:
    """Fill two indexes, in turn first and second; return the mean of the seconds of CPU and their ratio."""
    ids, rows = [f"item-{i}" for i in range(n)], rows_of(n)
    metadata = [{"price": i % 100, "name": f"name {i % 1000}"} for i in range(n)] if with_metadata else None
    data = as_table(ids, rows, metadata)
    ways: list[tuple[str, Callable[[kektordb.Index], Any]]] = [
        ("add_batch", lambda index: index.add_batch(ids, rows, metadata)),
        ("add_arrow", lambda index: index.add_arrow(data)),
    ]
    seconds: dict[str, list[float]] = {name: [] for name, _ in ways}
    for repeat in range(repeats):
        for name, fill in ways[:: 1 if repeat % 2 == 0 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "db") if on_disk else ":memory:"
                with kektordb.open(path, autosave="", aof_rewrite_percentage=0) as database:
                    index = database.create_index("a", metric="cosine")
                    with stopwatch() as watch:
                        fill(index)
                    assert len(index) == n
            seconds[name].append(watch.all_cpu)
    batch, arrow = sum(seconds["add_batch"]) / repeats, sum(seconds["add_arrow"]) / repeats
    return {"add_batch_s": batch, "add_arrow_s": arrow, "speed": batch / arrow, "all": seconds}


# -------------------------------------------------------------------------------------------------------------- memory


def write_stream(path: str, n: int, size: int) -> None:
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, as_table(["a"], rows_of(1), None).schema) as stream:
        for start in range(0, n, size):
            ids = [f"item-{i}" for i in range(start, min(start + size, n))]
            stream.write_table(as_table(ids, rows_of(len(ids), start), None))


def read_stream(path: str, way: str) -> dict[str, Any]:
    """Fill an index from a file, by either way; return megabytes. Runs in a process of its own."""
    pa.set_memory_pool(pa.system_memory_pool())
    with (
        tempfile.TemporaryDirectory() as folder,
        kektordb.open(Path(folder, "db"), autosave="", aof_rewrite_percentage=0) as database,
    ):
        index = database.create_index("a", m=4, ef_construction=8)
        with pa.OSFile(path, "rb") as file, pa.ipc.open_stream(file) as stream:
            if way == "add_arrow":
                index.add_arrow(stream)
            else:
                for batch in stream:
                    rows = batch.column("vector").flatten().to_numpy().reshape(-1, DIM)
                    index.add_batch(batch.column("id").to_pylist(), rows)
                    del batch, rows
        peak, end = resident("VmHWM"), resident("VmRSS")
        ctypes.CDLL(None).malloc_trim(0)
        pa.default_memory_pool().release_unused()
        trimmed = resident("VmRSS")
    return {"peak": peak, "end": end, "trimmed": trimmed, "beside": peak - trimmed}


def resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:"))


def child(n: int, size: int, way: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "stream.arrows"))
        write_stream(path, n, size)
        command = [sys.executable, "-m", "benchmarks.arrow", "--stream", path, "--way", way]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--stream", help="only fill an index from this file, and print the memory")
    parser.add_argument("--way", choices=("add_arrow", "add_batch"), default="add_arrow")
    parser.add_argument("--only", choices=("speed", "memory"))
    options = parser.parse_args()
    if options.stream is not None:
        print(json.dumps(read_stream(options.stream, options.way)))
        return
    if options.only != "memory":
        cases = [(with_metadata, on_disk) for with_metadata in (False, True) for on_disk in (False, True)]
        lines = []
        for with_metadata, on_disk in cases:
            found = compare(options.n, options.repeats, with_metadata, on_disk)
            what = f"{'two columns' if with_metadata else 'no metadata'}, {'on disk' if on_disk else 'in memory'}"
            lines.append([what, found["add_batch_s"], found["add_arrow_s"], found["speed"]])
            print(what, found["all"], flush=True)
        title = f"{options.n:,} x {DIM}: seconds of CPU, and speed of add_arrow by that of add_batch"
        table(title, ["", "add_batch", "add_arrow", "speed"], lines)
    if options.only != "speed":
        lines = []
        for size, way in itertools.product((8_192, 100_000), ("add_batch", "add_arrow")):
            found = child(options.n, size, way)
            batch = size * DIM * 4 / 1e6
            lines.append(
                [f"{size:,}", way, found["peak"], found["trimmed"], found["beside"], batch, found["beside"] / batch]
            )
        headers = ["rows of a batch", "by", "peak MB", "at the end MB", "beside MB", "a batch MB", "in batches"]
        table(f"{options.n:,} x {DIM}, streamed", headers, lines)


if __name__ == "__main__":
    main()
