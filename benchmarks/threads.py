"""Do Python threads help, and how long does a search wait while others write?"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from measure import interleave, median
from options import Options
from report import table
from rival import AVAILABLE, Rival

import kektordb

__all__ = ["run"]

N_INDEXED = 100_000
EF = 100
N_THREADS = 2
# How the writing thread hands its rows over: one batch after the other until the measurement ends.
BATCH = 5_000


def run(options: Options) -> dict[str, Any]:
    """Measure both questions on one data set."""
    chosen = options.datasets or [name for name in datasets.names() if "-128-" in name]
    dataset = datasets.load(chosen[0])
    n = options.size(N_INDEXED)
    half = dataset.head(n, 500)
    results: dict[str, Any] = {"dataset": dataset.name, "indexed": n, "ef": EF}
    with tempfile.TemporaryDirectory() as folder, kektordb.open(folder) as db:
        index = db.create_index("items", metric=dataset.metric, seed=100)
        index.add_batch(half.ids, half.train, n_threads=N_THREADS)
        results["scaling"] = measure_scaling(half, index, options.passes)
        results["latency_ms"] = {
            f"{label}": measure_latency(dataset, db, index, writer_threads, options)
            for label, writer_threads in (("no writer", 0), ("batch add, 1 thread", 1), ("batch add, 2 threads", 2))
        }
    scaling = results["scaling"]
    table(
        f"{dataset.name}: searches from Python threads, {n:,} items",
        list(scaling[0]),
        [row.values() for row in scaling],
    )
    latency = results["latency_ms"]
    headers = ["beside", *next(iter(latency.values()))]
    table("milliseconds per search", headers, [[name, *values.values()] for name, values in latency.items()])
    return results


def measure_scaling(dataset: Dataset, index: kektordb.Index, passes: int) -> list[dict[str, Any]]:
    """Compare one thread that asks all queries with two that ask all queries each."""
    systems: dict[str, Callable[[Any], Any]] = {"kektordb": lambda vector: index.search(vector, 10, EF)}
    if AVAILABLE:
        systems["hnswlib"] = Rival(dataset, N_THREADS).searcher(EF)
    queries = list(dataset.test)
    rows = []
    for name, search in systems.items():

        def all_queries(search: Callable[[Any], Any] = search) -> None:
            for _ in range(4):
                for query in queries:
                    search(query)

        def in_threads(work: Callable[[], None] = all_queries) -> None:
            threads = [threading.Thread(target=work) for _ in range(N_THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        watches = interleave({"one": all_queries, "many": in_threads}, passes)
        one, many = (median([watch.wall for watch in watches[kind]]) for kind in ("one", "many"))
        n_queries = 4 * len(queries)
        rows.append(
            {
                "system": name,
                "QPS, 1 thread": n_queries / one,
                f"QPS, {N_THREADS} threads": N_THREADS * n_queries / many,
                "speed-up": N_THREADS * one / many,
            }
        )
    return rows


def measure_latency(
    dataset: Dataset, db: kektordb.Database, index: kektordb.Index, writer_threads: int, options: Options
) -> dict[str, float]:
    """Time single searches while another thread adds batches to the same index without a pause."""
    stop = threading.Event()
    added = [0]
    failure: list[BaseException] = []

    def write() -> None:
        try:
            while not stop.is_set():
                start = len(index)
                rows = np.arange(start, start + BATCH) % len(dataset.train)
                ids = [f"{writer_threads}-{row}" for row in range(start, start + BATCH)]
                index.add_batch(ids, dataset.train[rows], n_threads=writer_threads)
                added[0] += BATCH
        except BaseException as error:
            failure.append(error)

    writer = threading.Thread(target=write)
    if writer_threads:
        writer.start()
    seconds = []
    queries = list(dataset.test)
    start = time.perf_counter()
    while len(seconds) < options.size(20_000) or (time.perf_counter() - start < 5 and not options.quick):
        query = queries[len(seconds) % len(queries)]
        before = time.perf_counter()
        index.search(query, 10, EF)
        seconds.append(time.perf_counter() - before)
    elapsed = time.perf_counter() - start
    stop.set()
    if writer_threads:
        writer.join()
    if failure:
        raise failure[0]
    p50, p90, p99 = (1000 * float(value) for value in np.percentile(seconds, [50, 90, 99]))
    return {
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "max": 1000 * max(seconds),
        "searches": len(seconds),
        "adds_per_second": added[0] / elapsed,
    }
