"""Do Python threads help, and how long does a search wait while others write?"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
N_SEARCHES = 20_000
SECONDS = 5


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
        db.save()  # else it would be saved in the background, during the measurement
        results["scaling"] = measure_scaling(half, index, options.passes)
        results["latency_ms"] = {
            label: measure_latency(dataset, index, writer_threads, options)
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


def measure_latency(dataset: Dataset, index: kektordb.Index, writer_threads: int, options: Options) -> dict[str, float]:
    """Time single searches while another thread, unless `writer_threads` is 0, adds batches to the same index."""
    queries = list(dataset.test)
    seconds: list[float] = []
    with writing(dataset, index, writer_threads):
        # Items that became visible between the first and the last search: whole batches would count too many.
        size_before, start = len(index), time.perf_counter()
        while len(seconds) < options.size(N_SEARCHES) or time.perf_counter() - start < (
            0 if options.quick else SECONDS
        ):
            query = queries[len(seconds) % len(queries)]
            before = time.perf_counter()
            index.search(query, 10, EF)
            seconds.append(time.perf_counter() - before)
        added, elapsed = len(index) - size_before, time.perf_counter() - start
    p50, p90, p99 = (1000 * float(value) for value in np.percentile(seconds, [50, 90, 99]))
    largest = 1000 * max(seconds)
    n = len(seconds)
    return {"p50": p50, "p90": p90, "p99": p99, "max": largest, "searches": n, "adds_per_second": added / elapsed}


@contextmanager
def writing(dataset: Dataset, index: kektordb.Index, n_threads: int) -> Iterator[None]:
    """Add batches to an index in a thread, one after the other, until the block ends; nothing with 0 threads."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            while not stop.is_set():
                start = len(index)
                rows = np.arange(start, start + BATCH) % len(dataset.train)
                ids = [f"{n_threads}-{number}" for number in range(start, start + BATCH)]
                index.add_batch(ids, dataset.train[rows], n_threads=n_threads)
        except BaseException as error:
            failures.append(error)

    if not n_threads:
        yield
        return
    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()
    if failures:
        raise failures[0]
