"""Do threads help? Two Python threads that search one by one, and one call that searches many on two threads."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import Dataset
from benchmarks.filling import FIELDS, fill_all, rows_of
from benchmarks.measure import ask, interleave, median
from benchmarks.options import Options
from benchmarks.report import table
from benchmarks.systems.system import System

__all__ = ["run"]

SYSTEMS = ("kektordb", "kektordb-float32", "hnswlib", "faiss", "usearch")
EF = 100
N_THREADS = 2
# A pass of a batch takes the queries so often, so that starting threads is not what is measured.
ROUNDS = 4


def run(options: Options) -> dict[str, Any]:
    """Measure one data set."""
    dataset = options.load_one()
    with tempfile.TemporaryDirectory() as folder:
        systems, _ = fill_all(options.choose(SYSTEMS), dataset, rows_of(dataset.train), FIELDS, Path(folder))
        calls = [measure_calls(name, system, dataset, options.passes) for name, system in systems.items()]
        batches = [measure_batches(name, system, dataset, options.passes) for name, system in systems.items()]
        for system in systems.values():
            system.close()
    for what, lines in (("single calls from Python threads", calls), ("calls with many queries", batches)):
        title = f"{dataset.name}: {what}, {len(dataset.train):,} items, ef {EF}"
        table(title, list(lines[0]), [list(line.values()) for line in lines])
    return {"dataset": dataset.name, "rows": len(dataset.train), "ef": EF, "calls": calls, "batches": batches}


def measure_calls(name: str, system: System, dataset: Dataset, passes: int) -> dict[str, Any]:
    """Compare one thread that asks all queries with two that ask all queries each."""
    queries = list(np.ascontiguousarray(dataset.test))
    asked = ask([system.searcher(EF)] * len(queries), queries)

    def in_threads() -> None:
        threads = [threading.Thread(target=asked.loop) for _ in range(N_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return compare(name, asked.loop, in_threads, asked.n_queries, N_THREADS * asked.n_queries, passes)


def measure_batches(name: str, system: System, dataset: Dataset, passes: int) -> dict[str, Any]:
    """Compare calls with all queries on one thread and on two."""
    queries = np.tile(dataset.test, (ROUNDS, 1))

    def call(n_threads: int) -> Callable[[], None]:
        search = system.batch_searcher(EF, n_threads)

        def once() -> None:
            search(queries)

        return once

    return compare(name, call(1), call(N_THREADS), len(queries), len(queries), passes)


def compare(
    name: str, one: Callable[[], None], many: Callable[[], None], n_one: int, n_many: int, passes: int
) -> dict[str, Any]:
    """Time both in turn; return queries per second and their ratio."""
    watches = interleave({"one": one, "many": many}, passes)
    qps_one, qps_many = (
        n / median([watch.wall for watch in watches[kind]]) for kind, n in (("one", n_one), ("many", n_many))
    )
    return {
        "system": name,
        "QPS, 1 thread": qps_one,
        f"QPS, {N_THREADS} threads": qps_many,
        "speed-up": qps_many / qps_one,
    }
