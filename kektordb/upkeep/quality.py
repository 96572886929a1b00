"""How much of what is nearest does a search find? Measured on the index itself, by samples.

What is wanted is the recall of queries that are not in the index. Two searches for each sampled row stand for one: in
the first the row is as if it had never come in (`_trials`), which is a little too hard, in the second it is in the
graph, which is far too easy. What both miss, in the mean and weighed in the exponent, comes within 0.01 of what real
queries miss (benchmarks/calibration.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb._census import Census
from kektordb._hnsw import Graph
from kektordb._trials import Trials, links_to
from kektordb.calibration import CLASSES, EXACT, Calibration, Curve, classes_of
from kektordb.collection import Collection
from kektordb.errors import KektorError, VectorError
from kektordb.interrupts import Uninterrupted
from kektordb.tasks import Control
from kektordb.validation import as_rows

if TYPE_CHECKING:
    from kektordb.database import Database

__all__ = ["FEW_ITEMS", "RecallCheck", "calibrate", "estimate", "finite_rows", "survey", "width"]

# So few are compared one by one when a recall is asked for: it takes no longer than a walk, and nothing is measured.
FEW_ITEMS = 2000
# Sampled rows: one standard deviation of a recall of 0.95 is about 0.004 with 1,000.
SAMPLE = 1000
# Weight of the searches that have the row in the graph (benchmarks/calibration.py, ten graphs over three data sets).
INSIDE_WEIGHT = 0.1
# Added to what is missed before it is weighed: none in a sample is not none.
LEAST_MISS = 1e-4
# Widths go up by this factor, to where nothing is missed, or to the widest.
STEP = 1.3
WIDEST = 4096
ENOUGH = 0.9995
# Rows compared with a query, lists looked through, and searches made in one turn under the read lock: a millisecond.
SCAN_ROWS = 4096
LINK_ROWS = 8192
TURN_SEARCHES = 8
TRIES = 5
# Rows counted in one turn.
CENSUS_ROWS = 4096
# An index without a curve and with no more components than this is measured by the search that wants one: up to a
# second, with fewer rows.
QUICK_COMPONENTS = 5_000_000
QUICK_SAMPLE = 400
# Until a larger one has been measured, searches are so wide.
UNMEASURED_EF = 200
UNMEASURED_PER_RESULT = 4


class RecallCheck(msgspec.Struct, frozen=True):
    """A recall, as estimated from a sample.

    Attributes
    ----------
    recall : float
        The share of the `k` nearest items that a search finds, in the mean.
    margin : float
        The true mean lies within so much of it, with a probability of 95 %.
    n : int
        Searches in the sample; less than asked for when there are less items.
    k, ef_search : int
    """

    recall: float
    margin: float
    n: int
    k: int
    ef_search: int


class _Moved(Exception):
    """The rows are no longer where they were: a vacuum or compress has finished meanwhile."""


_Measured = TypeVar("_Measured")
Floats = npt.NDArray[np.float32]
Shares = npt.NDArray[np.float64]


class _Sample:
    """Queries and their true neighbours; rows of the index, or queries from outside.

    Every step takes the read lock for about a millisecond.
    """

    def __init__(self, collection: Collection, n: int, k: int, seed: int, queries: Floats | None, control: Control):
        self._collection = collection
        self._control = control
        with collection.lock.read:
            graph = collection.graph
            assert graph is not None
            self._graph: Graph = graph
            self._vectors = graph.vectors
            living: npt.NDArray[np.uint32] = np.frombuffer(collection.alive.slots(), dtype=np.uint32)
            self._slots: npt.NDArray[np.uint32] | None = None
            if queries is None:
                self._slots = _choose(graph, living, n, seed)
                queries = graph.vectors.get(self._slots)
            self._queries = queries
        self.precision = self._vectors.precision
        self.n = len(self._queries)
        self._best = np.full((self.n, k), np.inf, np.float32)
        self._find_nearest(living)
        self._trials = None if self._slots is None else self._heal(len(graph))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self._control.check()
        with self._collection.lock.read:
            if self._collection.graph is not self._graph or self._graph.vectors is not self._vectors:
                raise _Moved
            yield

    def _find_nearest(self, living: npt.NDArray[np.uint32]) -> None:
        """Fill in the distances of the nearest rows to each query, its own row left out."""
        for start in range(0, len(living), SCAN_ROWS):
            rows = living[start : start + SCAN_ROWS]
            own = None if self._slots is None else np.searchsorted(rows, self._slots)
            for i, query in enumerate(self._queries):
                with self._turn():
                    distances = self._vectors.distances(query, rows)
                assert distances is not None
                if own is not None and self._slots is not None:
                    at = own[i]
                    if at < len(rows) and rows[at] == self._slots[i]:
                        distances[at] = np.inf
                best = self._best[i]
                nearer = distances[distances < best[-1]]
                if len(nearer):
                    self._best[i] = np.sort(np.concatenate([best, nearer]))[: len(best)]
            self._control.report(start + len(rows), 2 * len(living))

    def _heal(self, n_slots: int) -> Trials:
        assert self._slots is not None
        found = []
        for start in range(0, n_slots, LINK_ROWS):
            with self._turn():
                found.append(links_to(self._graph, self._slots, start, min(n_slots, start + LINK_ROWS)))
        with self._turn():
            trials = Trials(self._graph, self._slots, np.sort(np.concatenate(found)))
        for start in range(0, self.n, TURN_SEARCHES):
            with self._turn():
                trials.heal(start, min(self.n, start + TURN_SEARCHES))
        return trials

    def recall(self, k: int, ef: int) -> tuple[float, float]:
        """Return the recall, and how far it may be from the true one, of searches for `k` that are `ef` wide."""
        outside = self._shares(k, ef, False)
        margin = 1.96 * float(outside.std()) / math.sqrt(self.n)
        if self._trials is None:
            return float(outside.mean()), margin
        inside = self._shares(k, ef, True)
        missed = (1 - outside.mean() + LEAST_MISS) ** (1 - INSIDE_WEIGHT)
        missed *= (1 - inside.mean() + LEAST_MISS) ** INSIDE_WEIGHT
        return float(min(1.0, 1 - missed + LEAST_MISS)), margin

    def _shares(self, k: int, ef: int, inside: bool) -> Shares:
        """Return the share of the `k` nearest that was found, for each query."""
        shares = np.empty(self.n)
        limits = np.ascontiguousarray(self._best[:, k - 1])
        for start in range(0, self.n, TURN_SEARCHES):
            stop = min(self.n, start + TURN_SEARCHES)
            with self._turn():
                allowed, n_allowed = self._collection.allowed(None, None)
                if self._trials is not None:
                    shares[start:stop] = self._trials.run(start, stop, k, ef, limits, inside, allowed, n_allowed)
                    continue
                found = self._graph.search_batch(self._queries[start:stop], k, ef, 1, allowed)
            _, distances, counts = found
            is_found = np.arange(distances.shape[1]) < counts[:, None]
            shares[start:stop] = ((distances <= limits[start:stop, None]) & is_found).sum(axis=1) / k
        return shares


def _choose(graph: Graph, living: npt.NDArray[np.uint32], n: int, seed: int) -> npt.NDArray[np.uint32]:
    """Choose up to `n` rows, ascending; of those on level 0 alone, which are as good as any."""
    chosen: list[int] = []
    for slot in np.random.default_rng(seed).permutation(living).tolist():
        if graph.level(slot) == 0:
            chosen.append(slot)
            if len(chosen) == n:
                break
    return np.array(sorted(chosen), np.uint32)


def estimate(
    collection: Collection, n: int, k: int, ef: int, seed: int = 0, queries: Floats | None = None
) -> RecallCheck:
    """Estimate the recall of searches; see `IndexReader.check_recall`."""
    # Of a row taken as a query, the row itself is not looked for.
    k_of_rows = min(k, collection.n_alive - (queries is None))
    if k_of_rows < 1 or ef == EXACT:
        return RecallCheck(1.0, 0.0, 0, k, ef)

    def measure() -> RecallCheck:
        sample = _Sample(collection, n, k_of_rows, seed, queries, Control())
        return RecallCheck(*sample.recall(k_of_rows, ef), sample.n, k, ef) if sample.n else RecallCheck(1, 0, 0, k, ef)

    return _tried(measure)


def calibrate(
    collection: Collection,
    control: Control,
    ks: Sequence[int] = CLASSES,
    n: int = SAMPLE,
    queries: Floats | None = None,
) -> dict[str, Any]:
    """Measure curves of recall, by which the width of searches is chosen from now on; see `IndexCare.calibrate`."""
    tally = collection.tally
    if collection.n_alive <= FEW_ITEMS:
        return {"curves": {}}

    def measure() -> tuple[int, Calibration]:
        n_changed, n_items = tally.n_changed, collection.n_alive
        sample = _Sample(collection, n, ks[-1], 0, queries, control)
        curves = []
        for i, k in enumerate(ks):
            curves.append(_curve(sample, k, min(WIDEST, n_items)))
            control.report(len(ks) + i + 1, 2 * len(ks))
        return n_changed, Calibration(tuple(curves), n_items, sample.precision)

    n_changed, measured = _tried(measure)
    tally.adopt(measured, n_changed)
    return {"curves": {curve.k: dict(zip(curve.ef, curve.recall, strict=True)) for curve in measured.curves}}


def _curve(sample: _Sample, k: int, widest: int) -> Curve:
    efs: list[int] = []
    recalls: list[float] = []
    ef, reached = k, 0.0
    while ef <= max(widest, k) and reached < ENOUGH:
        reached = max(reached, sample.recall(k, ef)[0])
        efs.append(ef)
        recalls.append(reached)
        ef = max(ef + 1, round(ef * STEP))
    return Curve(k, tuple(efs), tuple(recalls))


def _tried(measure: Callable[[], _Measured]) -> _Measured:
    for _ in range(TRIES):
        try:
            return measure()
        except _Moved:
            continue
    raise KektorError("the index was vacuumed or compressed each time while its recall was measured; try again")


def width(database: Database, name: str, collection: Collection, recall: float, k: int) -> int:
    """Return how wide a search for `k` items must be to reach a recall; 0: every item must be compared.

    An index without a curve is measured: at once when that is quick, otherwise in the background, and until then
    searches are as wide as is enough for most. One that has changed too much is measured anew in the background.
    """
    if recall >= 1:
        return EXACT
    n_items, tally = collection.n_alive, collection.tally
    if n_items <= FEW_ITEMS:
        return max(k, n_items)  # a walk that wide is never shorter than comparing all
    calibration = tally.calibration
    if calibration is not None and calibration.has(k):
        if calibration.is_stale(tally.n_changed, collection.precision):
            _ask(database, name, collection)
        return calibration.ef_for(recall, k)
    if n_items * collection.dim > QUICK_COMPONENTS:
        _ask(database, name, collection)
        return max(UNMEASURED_EF, UNMEASURED_PER_RESULT * k)
    with tally.measuring:
        calibration = tally.calibration
        if calibration is None or not calibration.has(k):
            calibrate(collection, Control(), classes_of(k), QUICK_SAMPLE)
            calibration = tally.calibration
    # It may have become too small to be measured.
    return max(k, n_items) if calibration is None else calibration.ef_for(recall, k)


def _ask(database: Database, name: str, collection: Collection) -> None:
    """Have an index measured in the background, unless somebody has asked for that already."""
    tally = collection.tally
    if tally.task is not None and not tally.task.done:
        return
    with Uninterrupted():
        if not tally.measuring.acquire(blocking=False):
            return
        try:
            if tally.task is None or tally.task.done:
                tally.task = database._upkeep.submit("calibrate", name, lambda control: calibrate(collection, control))
        finally:
            tally.measuring.release()


def finite_rows(queries: object, collection: Collection) -> Floats:
    """Return queries as float32 (n, dim), at least one. Raises VectorError, also for NaN and Inf."""
    rows = as_rows(queries, None, collection.dim)
    if len(rows) == 0:
        raise VectorError("expected at least one query, got none")
    if collection.graph is not None:
        _, bad = collection.graph.vectors.prepare_rows(rows)
        if bad >= 0:
            raise VectorError(collection.refused(f"query {bad}"))
    return rows


def survey(collection: Collection) -> dict[str, Any]:
    """Return what the graph looks like; see `IndexReader.stats`."""
    with collection.lock.read:
        graph = collection.graph
        if graph is None:
            return {"levels": [], "degrees": {"min": 0, "mean": 0.0, "max": 0, "counts": []}, "n_unreachable": 0}
        census = Census(graph)
    for start in range(0, census.n, CENSUS_ROWS):
        with collection.lock.read:
            census.count(start, min(census.n, start + CENSUS_ROWS))
    is_left = True
    while is_left:
        with collection.lock.read:
            is_left = census.reach(CENSUS_ROWS)
    with collection.lock.read:
        # A vacuum may have finished meanwhile: then these are the slots of its copy, and nothing can be said of them.
        n_unreachable = census.n_unreachable(collection.alive) if collection.graph is graph else None
    counts = census.degrees
    used = np.flatnonzero(counts)
    degrees = {
        "min": int(used[0]) if len(used) else 0,
        "mean": float(counts @ np.arange(len(counts)) / max(census.n, 1)),
        "max": int(used[-1]) if len(used) else 0,
        "counts": counts.tolist(),
    }
    return {"levels": census.levels.tolist(), "degrees": degrees, "n_unreachable": n_unreachable}
