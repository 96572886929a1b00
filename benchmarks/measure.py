"""How long did it take, and how good was the answer?

Every time is taken on the wall and on the CPU clocks of the thread and of the process. Where others use the machine the
CPU clocks are the steadier; a difference between wall and thread says that a single-threaded run was disturbed.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.datasets import Dataset

__all__ = ["Asked", "Curve", "Stopwatch", "ask", "interleave", "median", "qps_at_recall", "recall", "stopwatch"]

# A system that is asked for the first time goes through the queries until this time is over; a pass takes about the
# other one: a fast system asks each query several times, a slow one only some of them. Never fewer than so many.
ASK_SECONDS = 1.5
PASS_SECONDS = 0.2
FEWEST = 20


@dataclass(slots=True)
class Stopwatch:
    """Seconds on the wall, on this thread's CPU clock, and on the CPU clock of all threads of this process."""

    wall: float = 0.0
    cpu: float = 0.0
    all_cpu: float = 0.0


@contextmanager
def stopwatch() -> Any:
    """Yield a Stopwatch that holds its readings when the block ends."""
    watch = Stopwatch()
    wall, cpu, all_cpu = time.perf_counter(), time.thread_time(), time.process_time()
    try:
        yield watch
    finally:
        watch.wall, watch.cpu = time.perf_counter() - wall, time.thread_time() - cpu
        watch.all_cpu = time.process_time() - all_cpu


@dataclass(slots=True)
class Curve:
    """One system's points: for each ef, recall and queries per second (medians over the passes).

    Attributes
    ----------
    qps_cpu : list of float
        Queries per second of CPU time, that of all threads: some systems search in threads of their own.
    recall_queries, pass_queries : list of int
        How many queries the recall was averaged over, and how many each timed pass asked.
    """

    ef: list[int] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    qps: list[float] = field(default_factory=list)
    qps_cpu: list[float] = field(default_factory=list)
    recall_queries: list[int] = field(default_factory=list)
    pass_queries: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Asked:
    """What came back for the first of the queries, and a pass over as many of them as fit into its time."""

    answers: list[Any]
    n_queries: int
    loop: Callable[[], None]

    def rates(self, watches: Sequence[Stopwatch]) -> tuple[float, float]:
        """Return queries per second of wall and of CPU time, medians over timed passes."""
        wall, cpu = (median([getattr(watch, clock) for watch in watches]) for clock in ("wall", "all_cpu"))
        return self.n_queries / wall, self.n_queries / cpu


def ask(searches: Sequence[Callable[[Any], Any]], queries: Sequence[Any]) -> Asked:
    """Ask each query with its search until the time is over; return the answers and a pass to be timed."""
    answers: list[Any] = []
    start = time.perf_counter()
    for search, query in zip(searches, queries, strict=True):
        answers.append(search(query))
        if len(answers) >= FEWEST and time.perf_counter() - start > ASK_SECONDS:
            break
    rate = len(answers) / (time.perf_counter() - start)
    wanted = max(FEWEST, round(rate * PASS_SECONDS))
    pairs = list(zip(searches, queries, strict=True))
    rounds = max(1, round(wanted / len(pairs)))
    asked = pairs[:wanted] * rounds

    def loop() -> None:
        for search, query in asked:
            search(query)

    return Asked(answers, len(asked), loop)


def interleave(systems: dict[str, Callable[[], None]], passes: int) -> dict[str, list[Stopwatch]]:
    """Run each system once per pass, in an order that turns round, so that a slow moment of the machine hits all.

    Python's garbage collector waits meanwhile: it would charge one system for what all of them keep in memory.
    """
    watches: dict[str, list[Stopwatch]] = {name: [] for name in systems}
    order = list(systems)
    gc.collect()
    gc.disable()
    try:
        for _ in range(passes):
            for name in order:
                with stopwatch() as watch:
                    systems[name]()
                watches[name].append(watch)
            order.reverse()
    finally:
        gc.enable()
    return watches


def median(values: Sequence[float]) -> float:
    """Return the median of some values."""
    return float(statistics.median(values))


def recall(dataset: Dataset, found: Sequence[Sequence[int]], truth: npt.NDArray[np.int32], k: int = 10) -> float:
    """Return the share of the `k` true neighbours that was found, averaged over the queries.

    A row that is as near as the last true neighbour counts: which of two equals is found must not matter. Where fewer
    than `k` rows exist, `truth` holds -1 in the places that stay empty.
    """
    shares = []
    for query, rows, true_rows in zip(dataset.test, found, truth[:, :k], strict=False):
        wanted = true_rows[true_rows >= 0]
        if not len(wanted):
            continue
        got = np.unique(np.fromiter(rows, dtype=np.int64, count=len(rows)))
        limit = exact_distances(dataset, query, wanted[-1:])[0]
        near = exact_distances(dataset, query, got) <= limit + 1e-6 * max(1.0, abs(limit))
        shares.append(min(1.0, int(near.sum()) / len(wanted)))
    return float(np.mean(shares))


def exact_distances(
    dataset: Dataset, query: npt.NDArray[np.float32], rows: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Return the distances of a query to some rows in double precision."""
    vectors, point = dataset.train[rows].astype(np.float64), query.astype(np.float64)
    if dataset.metric == "cosine":
        return np.asarray(1 - vectors @ point)
    return np.asarray(((vectors - point) ** 2).sum(axis=1))


def qps_at_recall(recalls: Sequence[float], rates: Sequence[float], target: float) -> float | None:
    """Return the queries per second at a recall, interpolated on a logarithmic scale; None where it is not reached.

    Below the first point the best rate measured is returned, which is less than the true one.
    """
    best: float | None = None
    points = sorted(zip(recalls, rates, strict=True))
    if points and points[0][0] >= target:
        return max(rate for _, rate in points)
    for (low, fast), (high, slow) in itertools.pairwise(points):
        if low < target <= high:
            share = (target - low) / (high - low)
            rate = float(np.exp(np.log(fast) * (1 - share) + np.log(slow) * share))
            best = rate if best is None else max(best, rate)
    return best
