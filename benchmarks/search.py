"""How many queries a second, at which recall? One thread, one call per query, beside hnswlib in the same process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from measure import Curve, Stopwatch, interleave, median, qps_at_recall, recall, stopwatch
from options import NO_AUTOSAVE, Options
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
    builds: dict[str, Stopwatch] = {}
    with kektordb.open(":memory:") as db:
        _, builds["kektordb, :memory:"] = build(db, dataset)
    with tempfile.TemporaryDirectory() as folder, kektordb.open(folder, **NO_AUTOSAVE) as db:
        index, builds["kektordb, durable"] = build(db, dataset)
        rival = Rival(dataset, BUILD_THREADS) if AVAILABLE else None
        if rival:
            builds["hnswlib"] = rival.build
        curves = measure_curves(dataset, index, rival, options.passes)
    at_recall = {name: rates_at_targets(curve) for name, curve in curves.items()}
    show(dataset, builds, curves, at_recall)
    return {
        "rows": len(dataset.train),
        "dim": dataset.dim,
        "m": M,
        "ef_construction": EF_CONSTRUCTION,
        "build_threads": BUILD_THREADS,
        "build": {name: {"seconds": watch.wall, "cpu_seconds": watch.all_cpu} for name, watch in builds.items()},
        "curves": {name: asdict(curve) for name, curve in curves.items()},
        "at_recall": at_recall,
    }


def build(db: kektordb.Database, dataset: Dataset) -> tuple[kektordb.Index, Stopwatch]:
    """Add all rows in one batch; return the index and the time it took."""
    index = db.create_index(dataset.name, metric=dataset.metric, m=M, ef_construction=EF_CONSTRUCTION, seed=100)
    ids = dataset.ids
    with stopwatch() as watch:
        index.add_batch(ids, dataset.train, n_threads=BUILD_THREADS)
    return index, watch


def rates_at_targets(curve: Curve) -> dict[str, dict[str, float | None]]:
    """Return queries per second at each target recall, by the wall's clock and by the CPU's."""
    return {
        str(target): {
            "qps": qps_at_recall(curve.recall, curve.qps, target),
            "qps_cpu": qps_at_recall(curve.recall, curve.qps_cpu, target),
        }
        for target in TARGETS
    }


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
    dataset: Dataset,
    builds: dict[str, Stopwatch],
    curves: dict[str, Curve],
    at_recall: dict[str, dict[str, dict[str, float | None]]],
) -> None:
    """Print the three tables of a data set."""
    title = f"{dataset.name}: build, {BUILD_THREADS} threads"
    table(title, ["", "seconds", "CPU seconds"], [(name, watch.wall, watch.all_cpu) for name, watch in builds.items()])
    headers = ["ef"] + [f"{name} {what}" for name in curves for what in ("recall", "QPS", "QPS (CPU)")]
    columns = [column for curve in curves.values() for column in (curve.recall, curve.qps, curve.qps_cpu)]
    table(f"{dataset.name}: recall@10 and queries per second", headers, zip(EF, *columns, strict=True))
    rows = []
    for target in map(str, TARGETS):
        row: list[Any] = [target]
        for clock in ("qps", "qps_cpu"):
            rates = [points[target][clock] for points in at_recall.values()]
            row += [*rates, rates[0] / rates[1] if len(rates) > 1 and rates[0] and rates[1] else None]
        rows.append(row)
    headers = [f"{name}{suffix}" for suffix in ("", " (CPU)") for name in (*curves, "ratio")]
    table(f"{dataset.name}: QPS at recall@10", ["recall", *headers], rows)
