"""How long does it take to build, to open again, and how many bytes lie on the disk?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks import datasets
from benchmarks.datasets import Dataset
from benchmarks.filling import FIELDS, fill_all, rows_of
from benchmarks.measure import Stopwatch, median, stopwatch
from benchmarks.options import Options
from benchmarks.report import table
from benchmarks.systems import PEERS
from benchmarks.systems.system import BUILD_THREADS, System

__all__ = ["run"]

SYSTEMS = ("kektordb", "kektordb-memory", "kektordb-graph", "kektordb-float32", *PEERS)
BASELINE = "hnswlib"
# A system is built again, in turn with the others, until it has taken so long or been built so often.
SECONDS = 90.0
ROUNDS = 3


def run(options: Options) -> dict[str, Any]:
    """Measure each data set."""
    return {one.name: measure_dataset(one, options) for one in options.load_all(datasets.names())}


def measure_dataset(dataset: Dataset, options: Options) -> dict[str, Any]:
    """Build all systems in rounds; the first one also tells about opening."""
    print(f"\n== {dataset.name}: {len(dataset.train):,} x {dataset.dim}", flush=True)
    rows = rows_of(dataset.train)
    due = options.choose(SYSTEMS)
    watches: dict[str, list[Stopwatch]] = {}
    reopened: dict[str, dict[str, float]] = {}
    for _ in range(1 if options.quick else ROUNDS):
        for name in due:
            with tempfile.TemporaryDirectory() as folder:
                systems, taken = fill_all([name], dataset, rows, FIELDS, Path(folder))
                if name not in systems:
                    continue
                watches.setdefault(name, []).append(taken[name])
                if name not in reopened:
                    reopened[name] = measure_open(systems[name], dataset)
                else:
                    systems[name].close()
        due = [name for name in watches if sum(watch.wall for watch in watches[name]) < SECONDS]
    lines = {name: line_of(watches[name]) | reopened[name] for name in watches}
    baseline = lines[BASELINE]["seconds"] if BASELINE in lines else None
    for line in lines.values():
        line["ratio"] = line["seconds"] / baseline if baseline else None
    headers = ["seconds", "ratio", "cpu_seconds", "builds", "open_seconds", "disk_bytes"]
    what = f"build with {BUILD_THREADS} threads, ratio to {BASELINE}, open and first search, bytes on disk per row"
    table(
        f"{dataset.name}: {what}",
        ["", *(header.replace("_", " ") for header in headers)],
        [[name, *(line.get(header) for header in headers)] for name, line in lines.items()],
    )
    return {"rows": len(dataset.train), "dim": dataset.dim, "build_threads": BUILD_THREADS, "systems": lines}


def line_of(watches: list[Stopwatch]) -> dict[str, Any]:
    """Return medians over the builds."""
    return {
        "seconds": median([watch.wall for watch in watches]),
        "cpu_seconds": median([watch.all_cpu for watch in watches]),
        "builds": len(watches),
    }


def measure_open(system: System, dataset: Dataset) -> dict[str, float]:
    """Close the system, which saves it, and time opening it and a first search; nothing where nothing is kept."""
    system.close()
    # Blocks, not lengths: some files are reserved far beyond what was written.
    n_bytes = sum(512 * path.stat().st_blocks for path in system.setting.folder.rglob("*") if path.is_file())
    if not n_bytes:
        return {}
    with stopwatch() as watch:
        system.open()
        found = system.rows(system.searcher(100)(dataset.test[0]))
    if len(found) < 10:
        raise RuntimeError(f"{system.name} found {len(found)} rows after it was opened again")
    system.close()
    return {"open_seconds": watch.wall, "disk_bytes": n_bytes / len(dataset.train)}
