"""How many queries a second, at which recall? One thread, one call per query, beside hnswlib in the same process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from measure import Curve, interleave, median, qps_at_recall, recall, stopwatch
from options import Options
from report import table
from rival import AVAILABLE, EF_CONSTRUCTION, M, Rival

import kektordb

__all__ = ["run"]

EF = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400)
TARGETS = (0.90, 0.95, 0.98, 0.99)
BUILD_THREADS = 2


def run(options: Options) -> dict[str, Any]:
    """Measure each data set."""
    return {name: measure_dataset(options.load(name), options) for name in options.datasets or datasets.names()}


def measure_dataset(dataset: Dataset, options: Options) -> dict[str, Any]:
    """Build on both sides, then draw both curves."""
    print(f"\n== {dataset.name}: {len(dataset.train):,} x {dataset.dim}, {len(dataset.test):,} queries", flush=True)
    rival = Rival(dataset, BUILD_THREADS) if AVAILABLE else None
    seconds_in_memory = build_seconds(":memory:", dataset)
    with tempfile.TemporaryDirectory() as folder, kektordb.open(folder) as db:
        index, durable = build(db, dataset)
        builds = {"kektordb, durable": durable, "kektordb, :memory:": seconds_in_memory}
        builds["hnswlib"] = rival.build.wall if rival else None
        curves = measure_curves(dataset, index, rival, options.passes)
    at_recall = [[target, *(qps_at_recall(curve, target) for curve in curves.values())] for target in TARGETS]
    show(dataset, builds, curves, at_recall)
    return {
        "rows": len(dataset.train),
        "dim": dataset.dim,
        "m": M,
        "ef_construction": EF_CONSTRUCTION,
        "build_threads": BUILD_THREADS,
        "build_seconds": builds,
        "curves": {name: asdict(curve) for name, curve in curves.items()},
        "qps_at_recall": {str(target): dict(zip(curves, rates, strict=True)) for target, *rates in at_recall},
    }


def build_seconds(path: str, dataset: Dataset) -> float:
    """Build once more, only to know how long it takes there."""
    with kektordb.open(path) as db:
        return build(db, dataset)[1]


def build(db: kektordb.Database, dataset: Dataset) -> tuple[kektordb.Index, float]:
    """Add all rows in one batch; return the index and the seconds it took."""
    index = db.create_index(dataset.name, metric=dataset.metric, m=M, ef_construction=EF_CONSTRUCTION, seed=100)
    ids = dataset.ids
    with stopwatch() as watch:
        index.add_batch(ids, dataset.train, n_threads=BUILD_THREADS)
    return index, watch.wall


def measure_curves(dataset: Dataset, index: kektordb.Index, rival: Rival | None, passes: int) -> dict[str, Curve]:
    """Measure every ef on both sides; within one ef the sides take turns."""
    curves = {"kektordb": Curve()} | ({"hnswlib": Curve()} if rival else {})
    queries = list(np.ascontiguousarray(dataset.test))
    for ef in EF:
        searchers: dict[str, Callable[[Any], Any]] = {"kektordb": lambda vector, ef=ef: index.search(vector, 10, ef)}
        rows: dict[str, Callable[[Any], list[int]]] = {"kektordb": lambda results: list(map(int, results.ids))}
        if rival:
            searchers["hnswlib"], rows["hnswlib"] = rival.searcher(ef), rival.rows
        measure_point(dataset, queries, ef, searchers, rows, curves, passes)
    return curves


def measure_point(
    dataset: Dataset,
    queries: list[Any],
    ef: int,
    searchers: dict[str, Callable[[Any], Any]],
    rows: dict[str, Callable[[Any], list[int]]],
    curves: dict[str, Curve],
    passes: int,
) -> None:
    """Append one ef's point to each curve; the first, untimed pass warms up and gives the recall."""

    def all_queries(search: Callable[[Any], Any]) -> Callable[[], None]:
        def loop() -> None:
            for query in queries:
                search(query)

        return loop

    answers = {name: [rows[name](search(query)) for query in queries] for name, search in searchers.items()}
    watches = interleave({name: all_queries(search) for name, search in searchers.items()}, passes)
    for name, curve in curves.items():
        curve.ef.append(ef)
        curve.recall.append(recall(dataset, answers[name], dataset.neighbors))
        curve.qps.append(len(queries) / median([watch.wall for watch in watches[name]]))
        curve.qps_cpu.append(len(queries) / median([watch.cpu for watch in watches[name]]))


def show(
    dataset: Dataset, builds: dict[str, float | None], curves: dict[str, Curve], at_recall: list[list[float | None]]
) -> None:
    """Print the three tables of a data set."""
    table(f"{dataset.name}: build, {BUILD_THREADS} threads", ["", "seconds"], builds.items())
    headers = ["ef"] + [f"{name} {what}" for name in curves for what in ("recall", "QPS", "QPS (CPU)")]
    columns = [column for curve in curves.values() for column in (curve.recall, curve.qps, curve.qps_cpu)]
    table(f"{dataset.name}: recall@10 and queries per second", headers, zip(EF, *columns, strict=True))
    for row in at_recall:
        ours, *theirs = row[1:]
        row.append(ours / theirs[0] if ours and theirs and theirs[0] else None)
    table(f"{dataset.name}: QPS at recall@10", ["recall", *curves, "ratio"], at_recall)
    for row in at_recall:
        row.pop()
