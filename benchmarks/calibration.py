"""Is the recall that is asked for reached? By queries that the index has neither seen nor was calibrated with.

Some rows of each data set are held out of the index and asked for, and so are its own queries, which may come from
elsewhere. The width that ``search(recall=…)`` chooses is measured on the index alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import kektordb
from benchmarks import datasets
from benchmarks.datasets import Dataset
from benchmarks.measure import stopwatch
from benchmarks.options import NO_AUTOSAVE, Options
from benchmarks.report import table
from benchmarks.truth import Floats, nearest
from kektordb import Index
from kektordb.calibration import classes_of
from kektordb.tasks import Control
from kektordb.upkeep import quality

__all__ = ["run"]

TARGETS = (0.9, 0.95, 0.97, 0.99)
KS = (1, 10, 30, 100)
K = 10
N_HELD_OUT = 4000
SEED = 7
DELETED = 0.1
# What stands for a query, by the weight of the searches that have the row in the graph: see `quality.INSIDE_WEIGHT`.
STANDS = {"row in the graph": 1.0, "row left out": 0.0, "both": quality.INSIDE_WEIGHT}


def run(options: Options) -> dict[str, Any]:
    """Measure each data set."""
    return {data.name: measure(data) for data in options.load_all(datasets.names())}


def measure(data: Dataset) -> dict[str, Any]:
    """Build an index, calibrate it in each of its states, and ask for recalls."""
    order = np.random.default_rng(SEED).permutation(len(data.train))
    n_held_out = min(N_HELD_OUT, len(order) // 10)
    rows = np.ascontiguousarray(data.train[order[n_held_out:]])
    queries = {"rows held out": np.ascontiguousarray(data.train[order[:n_held_out]]), "its queries": data.test}
    found: dict[str, Any] = {"rows": len(rows), "queries": {name: len(part) for name, part in queries.items()}}
    with kektordb.open(":memory:", **NO_AUTOSAVE) as db:
        index = db.create_index("x", metric=data.metric, maintenance={"vacuum_interval": 0})
        with stopwatch() as watch:
            index.add_batch([str(i) for i in range(len(rows))], rows)
        found["build_s"] = watch.wall
        found["stands"] = stands(index, data, rows, queries)
        found["float32"] = asked(index, data, rows, queries, KS)
        index.compress("int8").wait()
        # The recall of a search is about what is stored: bytes that stand for the rows.
        items = index.get_many(index.ids())
        stored = np.stack([item.vector for item in items if item is not None])
        found["int8"] = asked(index, data, stored, queries, (K,))
        gone = np.random.default_rng(SEED).random(len(rows)) < DELETED
        index.delete([str(i) for i in np.flatnonzero(gone)])
        found["int8, 10 % deleted"] = asked(index, data, stored[~gone], queries, (K,))
        index.vacuum().wait()
        found["int8, vacuumed, not calibrated anew"] = asked(index, data, stored[~gone], queries, (K,), anew=False)
    for state in ("float32", "int8", "int8, 10 % deleted", "int8, vacuumed, not calibrated anew"):
        show(f"{data.name}, {len(rows):,} rows, {state}: reached - asked for (ef)", found[state]["asked"])
    lines = [[name, *part.values()] for name, part in found["stands"].items()]
    headers = [f"{name}, {target}" for name in queries for target in TARGETS]
    table(f"{data.name}: what stands for a query, k {K}: reached - asked for", ["", *headers], lines)
    return found


def asked(
    index: Index, data: Dataset, rows: Floats, queries: dict[str, Floats], ks: tuple[int, ...], anew: bool = True
) -> dict[str, Any]:
    """Calibrate, and ask for each recall."""
    found: dict[str, Any] = {"asked": []}
    if anew:
        with stopwatch() as watch:
            quality.calibrate(index._collection(), Control(), ks=tuple(sorted({c for k in ks for c in classes_of(k)})))
        found["calibrate_s"], found["calibrate_cpu_s"] = watch.wall, watch.all_cpu
    for name, part in queries.items():
        truth = nearest(rows, part, data.metric, max(ks))
        limits = distances_of(rows, part, truth, data.metric)
        for k in ks:
            for target in TARGETS:
                got = reached(index, part, limits[:, k - 1], k, target)
                ef = index.check_recall(1, k, recall=target).ef_search
                found["asked"].append({"queries": name, "k": k, "recall": target, "ef": ef, "reached": got})
    return found


def reached(index: Index, queries: Floats, limits: Floats, k: int, target: float) -> float:
    """Return the recall that searches have; what is as near as the k-th is as good as it."""
    results = index.search_batch(queries, k, recall=target, include=())
    slack = 1e-5 * np.abs(limits) + 1e-6
    good = [int((result.distances <= limit).sum()) for result, limit in zip(results, limits + slack, strict=True)]
    return float(np.minimum(good, k).mean()) / k


def distances_of(rows: Floats, queries: Floats, truth: Any, metric: str) -> Floats:
    """Return the distances of the rows of `truth`, (q, k), in float64 on the way."""
    found = np.empty(truth.shape, np.float64)
    for i, query in enumerate(queries.astype(np.float64)):
        near = rows[truth[i]].astype(np.float64)
        if metric == "cosine":
            found[i] = 1 - near @ query / (np.linalg.norm(near, axis=1) * np.linalg.norm(query))
        else:
            found[i] = ((near - query) ** 2).sum(axis=1)
    return found


def stands(index: Index, data: Dataset, rows: Floats, queries: dict[str, Floats]) -> dict[str, dict[str, float]]:
    """Return how far from what was asked for searches are, by what stands for a query in the calibration."""
    limits = {
        name: distances_of(rows, part, nearest(rows, part, data.metric, K), data.metric)[:, -1]
        for name, part in queries.items()
    }
    found: dict[str, dict[str, float]] = {}
    usual = quality.INSIDE_WEIGHT
    try:
        for stand, weight in STANDS.items():
            quality.INSIDE_WEIGHT = weight
            quality.calibrate(index._collection(), Control(), ks=(K,))
            found[stand] = {
                f"{name}, {target}": reached(index, part, limits[name], K, target) - target
                for name, part in queries.items()
                for target in TARGETS
            }
    finally:
        quality.INSIDE_WEIGHT = usual
    return found


def show(title: str, asked_for: list[dict[str, Any]]) -> None:
    """Print one line for each kind of queries and number of results."""
    lines: dict[tuple[str, int], list[Any]] = {}
    for each in asked_for:
        line = lines.setdefault((each["queries"], each["k"]), [each["queries"], each["k"]])
        line.append(f"{each['reached'] - each['recall']:+.4f} ({each['ef']})")
    table(title, ["queries", "k", *map(str, TARGETS)], lines.values())
