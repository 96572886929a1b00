"""What does `Index.search` cost above the call to the graph that it wraps?"""

from __future__ import annotations

import operator
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import Dataset
from benchmarks.filling import FIELDS, fill, rows_of
from benchmarks.options import Options
from benchmarks.report import table
from benchmarks.systems.kektordb import Kektordb

__all__ = ["run"]

N_TINY = 1_000
K = 10
EF = 50
# A segment is short enough to fall between two disturbances; the median over many of them is steady.
SEGMENT = 20
SEGMENTS = 1_000


def run(options: Options) -> dict[str, Any]:
    """Measure a tiny index, where little hides the difference, and a large one, where caches are cold."""
    dataset = options.load_one()
    tiny = dataset.head(N_TINY, len(dataset.test))
    lines = [line for part in (tiny, dataset) for line in measure(part, options.size(SEGMENTS))]
    title = (
        f"{dataset.name}: microseconds of CPU per call, k = {K}, ef = {EF}, {SEGMENTS:,} segments of {SEGMENT} calls"
    )
    table(title, list(lines[0]), [list(line.values()) for line in lines])
    return {"dataset": dataset.name, "k": K, "ef": EF, "lines": lines}


def measure(dataset: Dataset, n_segments: int) -> list[dict[str, Any]]:
    """Return the time of the bare call, and of each way to call the index."""
    rows = rows_of(dataset.train)
    with tempfile.TemporaryDirectory() as folder:
        system, _ = fill(Kektordb, dataset.metric, rows, FIELDS, Path(folder))
        search, bare = system.index.search, system.index._collection().graph.search
        calls: dict[str, Callable[[Any], Any]] = {
            "Graph.search": lambda query: bare(query, K, EF),
            "Index.search": lambda query: search(query, K, EF),
            "Index.search, ids read": lambda query: search(query, K, EF).ids,
            "Index.search, all hits and metadata": lambda query: [hit.metadata for hit in search(query, K, EF)],
        }
        micros = in_turn(calls, list(np.ascontiguousarray(dataset.test)), n_segments)
        system.close()
    return [
        {
            "call": name,
            "rows": len(rows),
            "median": statistics.median(values),
            "least": min(values),
            "above": statistics.median(map(operator.sub, values, micros["Graph.search"])),
        }
        for name, values in micros.items()
    ]


def in_turn(calls: dict[str, Callable[[Any], Any]], queries: list[Any], n_segments: int) -> dict[str, list[float]]:
    """Run segments of the calls in turn, each on the same queries; return microseconds per call of each segment."""
    micros: dict[str, list[float]] = {name: [] for name in calls}
    # The order turns round: whoever comes first in a segment meets the queries' rows in cold caches.
    order = list(calls.items())
    for number in range(n_segments):
        start = number * SEGMENT % len(queries)
        segment = (queries + queries)[start : start + SEGMENT]
        for name, call in order:
            before = time.thread_time_ns()
            for query in segment:
                call(query)
            micros[name].append((time.thread_time_ns() - before) / 1000 / SEGMENT)
        order.append(order.pop(0))
    return micros
