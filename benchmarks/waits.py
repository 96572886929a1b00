"""How long does a search take at most while an index is vacuumed, refined or compressed?"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import kektordb
from benchmarks import synthetic
from benchmarks.options import Options
from benchmarks.report import table
from benchmarks.upkeep import BY_HAND, ids_of, metadata_of

__all__ = ["run"]

N_ROWS = 200_000
N_QUERIES = 1_000
DIM = 128
EF = 64
SECONDS = 5.0  # of searches beside nothing, and of a refinement


def run(options: Options) -> dict[str, Any]:
    """Measure with one thread that searches, of an index with texts."""
    n, seconds = options.size(N_ROWS), options.size(int(SECONDS))
    train, test = synthetic.make(n, N_QUERIES, DIM, "euclidean")
    rows = np.arange(n)
    lines = []
    with kektordb.open(":memory:") as db:
        index = db.create_index("x", metric="euclidean", text_language="simple", maintenance=BY_HAND)
        index.add_batch(ids_of(rows), train, metadata_of(rows))
        queries = list(np.ascontiguousarray(test))

        def measure(name: str, work: Callable[[], object]) -> None:
            lines.append({"beside": name, **searched(index, queries, work)})

        def refine() -> None:
            task = index.refine(ef_construction=200)
            time.sleep(seconds)
            task.cancel()

        measure("nothing", lambda: time.sleep(seconds))
        measure("refine", refine)
        for precision in ("float16", "int8", "float32"):
            measure(f"compress to {precision}", lambda precision=precision: index.compress(precision).wait())
        index.delete(ids_of(np.random.default_rng(0).permutation(rows)[: n // 2]))
        measure("vacuum", lambda: index.vacuum().wait())
    title = f"{n:,} rows of {DIM} dimensions with texts: ms that a search takes, ef {EF}"
    table(title, [header.replace("_", " ") for header in lines[0]], [list(line.values()) for line in lines])
    return {"rows": n, "dim": DIM, "ef": EF, "lines": lines}


def searched(index: kektordb.Index, queries: list[Any], work: Callable[[], object]) -> dict[str, Any]:
    """Search, one query after the other, while `work` goes on."""
    taken: list[float] = []
    held: list[float] = []
    stop = threading.Event()

    def search() -> None:
        before = on_processor()
        while not stop.is_set():
            start = time.perf_counter()
            index.search(queries[len(taken) % len(queries)], k=10, ef_search=EF)
            taken.append(time.perf_counter() - start)
            after = on_processor()
            held.append(taken[-1] - (after - before))
            before = after

    thread = threading.Thread(target=search)
    start = time.perf_counter()
    thread.start()
    work()
    seconds = time.perf_counter() - start
    stop.set()
    thread.join()
    ms = 1000 * np.array(taken)
    median, p99, p999 = np.percentile(ms, [50, 99, 99.9]).round(3).tolist()
    found = {"seconds": round(seconds, 2), "searches": len(ms), "median": median, "p99": p99, "p99.9": p999}
    longest_held = round(1000 * max(held), 2) if sys.platform == "linux" else None
    return {**found, "longest": round(float(ms.max()), 2), "longest_for_a_lock": longest_held}


def on_processor() -> float:
    """Return the seconds that this thread was running, or waiting for a processor where the system says so."""
    schedule = Path("/proc/thread-self/schedstat")
    waited = int(schedule.read_text(encoding="ascii").split()[1]) if schedule.exists() else 0
    return time.thread_time() + waited / 1e9
