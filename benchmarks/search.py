"""How many queries a second, at which recall? One thread, one call per query, side by side in the same process."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import datasets
from benchmarks.datasets import Dataset
from benchmarks.filling import FIELDS, fill_all, rows_of
from benchmarks.measure import Curve, Stopwatch, ask, interleave, qps_at_recall, recall
from benchmarks.options import Options
from benchmarks.report import table
from benchmarks.systems import PEERS
from benchmarks.systems.system import BUILD_THREADS, EF_CONSTRUCTION, M, System

__all__ = ["run"]

SYSTEMS = ("kektordb", "kektordb-float32", *PEERS)
EF = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400)
TARGETS = (0.90, 0.95, 0.98, 0.99)
# Where the table looks, by the beginning of a data set's name: easy sets differ near the top only.
SHOWN = {"words": (0.90, 0.95), "fashion": (0.98, 0.99)}
BASELINE = "hnswlib"

AtRecall = dict[str, dict[str, dict[str, float | None]]]


def run(options: Options) -> dict[str, Any]:
    """Measure each data set."""
    return {one.name: measure_dataset(one, options) for one in options.load_all(datasets.names())}


def measure_dataset(dataset: Dataset, options: Options) -> dict[str, Any]:
    """Fill all systems, then draw all curves."""
    print(f"\n== {dataset.name}: {len(dataset.train):,} x {dataset.dim}, {len(dataset.test):,} queries", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of(dataset.train)
        systems, builds = fill_all(options.choose(SYSTEMS), dataset, rows, FIELDS, Path(folder))
        curves = measure_curves(dataset, systems, options.passes)
        for system in systems.values():
            system.close()
    at_recall = {name: rates_at_targets(curve) for name, curve in curves.items()}
    show(dataset, builds, curves, at_recall)
    return {
        "rows": len(dataset.train),
        "dim": dataset.dim,
        "m": M,
        "ef_construction": EF_CONSTRUCTION,
        "build_threads": BUILD_THREADS,
        "notes": {name: system.note for name, system in systems.items()},
        "build": {name: {"seconds": watch.wall, "cpu_seconds": watch.all_cpu} for name, watch in builds.items()},
        "curves": {name: asdict(curve) for name, curve in curves.items()},
        "at_recall": at_recall,
    }


def measure_curves(dataset: Dataset, systems: dict[str, System], passes: int) -> dict[str, Curve]:
    """Measure every ef on all systems; within one ef they take turns."""
    curves = {name: Curve() for name in systems}
    queries = list(np.ascontiguousarray(dataset.test))
    for ef in EF:
        due = {name: system for name, system in systems.items() if not (system.is_exact and curves[name].ef)}
        asked = {name: ask([system.searcher(ef)] * len(queries), queries) for name, system in due.items()}
        watches = interleave({name: one.loop for name, one in asked.items()}, passes)
        for name, one in asked.items():
            curve, found = curves[name], [due[name].rows(answer) for answer in one.answers]
            curve.ef.append(ef)
            curve.recall.append(recall(dataset, found, dataset.neighbors))
            qps, qps_cpu = one.rates(watches[name])
            curve.qps.append(qps)
            curve.qps_cpu.append(qps_cpu)
            curve.recall_queries.append(len(found))
            curve.pass_queries.append(one.n_queries)
        print(f"measured: ef {ef}", flush=True)
    return curves


def rates_at_targets(curve: Curve) -> dict[str, dict[str, float | None]]:
    """Return queries per second at each target recall, by the wall's clock and by the CPU's."""
    return {
        str(target): {
            "qps": qps_at_recall(curve.recall, curve.qps, target),
            "qps_cpu": qps_at_recall(curve.recall, curve.qps_cpu, target),
        }
        for target in TARGETS
    }


def show(dataset: Dataset, builds: dict[str, Stopwatch], curves: dict[str, Curve], at_recall: AtRecall) -> None:
    """Print the tables of a data set."""
    title = f"{dataset.name}: build, {BUILD_THREADS} threads"
    table(title, ["", "seconds", "CPU seconds"], [(name, watch.wall, watch.all_cpu) for name, watch in builds.items()])
    for what in ("recall", "qps"):
        points = {name: dict(zip(curve.ef, getattr(curve, what), strict=True)) for name, curve in curves.items()}
        rows = [[name, *(values.get(ef) for ef in EF)] for name, values in points.items()]
        label = "recall@10" if what == "recall" else "queries per second"
        table(f"{dataset.name}: {label} by ef", ["", *map(str, EF)], rows)
    shown = next((targets for start, targets in SHOWN.items() if dataset.name.startswith(start)), (0.95, 0.99))
    headers, rows = [""], [[name] for name in curves]
    for target in map(str, shown):
        headers += [f"QPS at {target}", f"x {BASELINE}", "QPS (CPU)", f"x {BASELINE} (CPU)"]
        for row in rows:
            row += [value for clock in ("qps", "qps_cpu") for value in rate_and_ratio(at_recall, row[0], target, clock)]
    table(f"{dataset.name}: queries per second at recall@10", headers, rows)


def rate_and_ratio(at_recall: AtRecall, name: str, target: str, clock: str) -> tuple[float | None, float | None]:
    """Return a system's rate at a recall and its ratio to the baseline's; None where either is not reached."""
    rate = at_recall[name][target][clock]
    baseline = at_recall[BASELINE][target][clock] if BASELINE in at_recall else None
    return rate, rate / baseline if rate and baseline else None
