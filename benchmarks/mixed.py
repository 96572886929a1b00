"""How long does a search wait while another thread writes, and what do searches cost the writer?"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import Dataset
from benchmarks.filling import FIELDS, fields_of, fill_all, rows_of
from benchmarks.options import Options
from benchmarks.report import table
from benchmarks.systems.system import Rows, System

__all__ = ["run"]

# Libraries that forbid a search beside an add (hnswlib, faiss, usearch) are not asked.
SYSTEMS = ("kektordb", "chromadb", "qdrant-edge", "lancedb", "zvec")
SHARE_INDEXED = 0.5
EF = 100
BATCH = 1_000
SECONDS = 5.0
QUICK_SECONDS = 0.5


@dataclass(slots=True)
class Writer:
    """Adds rows that are not there yet, one call after the other, until `stop` is set."""

    system: System
    vectors: Any
    numbers: Any
    size: int
    stop: threading.Event = field(default_factory=threading.Event)
    n_added: int = 0
    seconds: float = 0.0
    failures: list[BaseException] = field(default_factory=list)

    def __call__(self) -> None:
        start = time.perf_counter()
        try:
            while not self.stop.is_set():
                first = next(self.numbers)
                where = np.arange(first, first + self.size) % len(self.vectors)
                rows = Rows(first, self.vectors[where], [fields_of(row) for row in range(first, first + self.size)])
                (self.system.add_one if self.size == 1 else self.system.add)(rows)
                self.n_added += self.size
        except BaseException as error:
            self.failures.append(error)
        self.seconds = time.perf_counter() - start


def run(options: Options) -> dict[str, Any]:
    """Measure one data set: half of it is there, the rest (and then all of it again) is written."""
    dataset = options.load_one()
    n = int(len(dataset.train) * SHARE_INDEXED)
    seconds = QUICK_SECONDS if options.quick else SECONDS
    with tempfile.TemporaryDirectory() as folder:
        systems, _ = fill_all(options.choose(SYSTEMS), dataset, rows_of(dataset.train[:n]), FIELDS, Path(folder))
        lines = [line for name, system in systems.items() for line in measure(name, system, dataset, n, seconds)]
        for system in systems.values():
            system.close()
    title = f"{dataset.name}: one thread searches, ef {EF}, another writes into {n:,} items"
    table(title, [header.replace("_", " ") for header in lines[0]], [list(line.values()) for line in lines])
    return {"dataset": dataset.name, "indexed": n, "ef": EF, "seconds": seconds, "batch": BATCH, "lines": lines}


def measure(name: str, system: System, dataset: Dataset, n: int, seconds: float) -> list[dict[str, Any]]:
    """Return a line for each way to write: latencies in ms, searches and adds per second, adds alone."""
    search, queries = system.searcher(EF), list(np.ascontiguousarray(dataset.test))
    fresh = dataset.train[n:]
    lines = []
    # Steps of a batch's length keep ids apart whatever is added.
    numbers = itertools.count(n, BATCH)
    for label, size in (("nobody", 0), ("single adds", 1), (f"batches of {BATCH:,}", BATCH)):
        line: dict[str, Any] = {"system": name, "beside": label}
        beside = Writer(system, fresh, numbers, size)
        line |= latencies(search, queries, beside, seconds)
        if size:
            alone = Writer(system, fresh, numbers, size)
            threading.Timer(seconds, alone.stop.set).start()
            alone()
            for writer in (beside, alone):
                if writer.failures:
                    raise writer.failures[0]
            line |= {"adds/s": beside.n_added / beside.seconds, "adds/s alone": alone.n_added / alone.seconds}
        else:
            line |= {"adds/s": None, "adds/s alone": None}
        lines.append(line)
    return lines


def latencies(search: Callable[[Any], Any], queries: list[Any], writer: Writer, seconds: float) -> dict[str, float]:
    """Time single searches while the writer, unless it has nothing to write, goes on in a thread."""
    taken: list[float] = []
    thread = threading.Thread(target=writer)
    if writer.size:
        thread.start()
    start = time.perf_counter()
    # The last call to the writer, too, is one with searches beside it.
    while thread.is_alive() or not writer.stop.is_set():
        before = time.perf_counter()
        search(queries[len(taken) % len(queries)])
        after = time.perf_counter()
        taken.append(after - before)
        if after - start > seconds:
            writer.stop.set()
    p50, p99 = (1000 * float(value) for value in np.percentile(taken, [50, 99]))
    rate = len(taken) / (time.perf_counter() - start)
    return {"p50_ms": p50, "p99_ms": p99, "max_ms": 1000 * max(taken), "searches/s": rate}
