"""What do smaller precisions cost? Memory, recall at equal ef, speed, and the time that `compress` takes.

One graph, built in float32, is opened several times and compressed; the last index was int8 from the start.
Queries run in turn on all of them, so that a ratio compares neighbours in time. Run with
``python -m benchmarks.precision [data set …] [--folder PATH]``: with a folder, what was built there is used again.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import kektordb
from benchmarks import datasets
from benchmarks.datasets import Dataset
from benchmarks.report import table

K = 10
EFS = (16, 32, 64, 128)
PASSES = 5
SEGMENT = 50
N_QUERIES = 500


def build(data: Dataset, folder: Path) -> None:
    """Make the databases of a data set: one of each precision."""
    ids = [str(i) for i in range(len(data.train))]
    for name in ("float32", "int8 from the start"):
        path = folder / data.name / name
        if path.exists():
            continue
        temporary = folder / data.name / "unfinished"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        with kektordb.open(temporary, autosave="", aof_rewrite_percentage=0) as db:
            index = db.create_index("x", metric=data.metric, dim=data.dim, precision=name.split()[0])
            index.add_batch(ids, data.train)
            print(f"{data.name}, {name}: built in {time.perf_counter() - start:.1f} s", flush=True)
            db.save()
        temporary.rename(path)
    for precision in ("float16", "int8"):
        path = folder / data.name / precision
        if path.exists():
            continue
        shutil.copytree(folder / data.name / "float32", path)
        with kektordb.open(path, autosave="", aof_rewrite_percentage=0) as db:
            start = time.perf_counter()
            db["x"].compress(precision).wait()
            print(f"{data.name}: compressed to {precision} in {time.perf_counter() - start:.2f} s", flush=True)
            db.save()


def measure(data: Dataset, folder: Path) -> list[list[Any]]:
    """Search all precisions in turn; returns a line for each of them."""
    names = ("float32", "float16", "int8", "int8 from the start")
    databases = [kektordb.open(folder / data.name / name, read_only=True) for name in names]
    calls = [db["x"].search for db in databases]
    queries = np.ascontiguousarray(data.test[:N_QUERIES])
    truth = [set(map(str, row[:K])) for row in data.neighbors[:N_QUERIES].tolist()]
    lines: list[list[Any]] = []
    vectors = [db["x"].stats()["memory_bytes"]["vectors"] for db in databases]
    for name, n_bytes in zip(names, vectors, strict=True):
        lines.append([name, round(n_bytes / len(data.train), 1), round(n_bytes / vectors[0], 3)])
    for ef in EFS:
        recalls = [recall(call, queries, truth, ef) for call in calls]
        speeds = in_turn(calls, queries, ef)
        for line, share, speed in zip(lines, recalls, speeds, strict=True):
            line += [f"{share:.4f} ({share - recalls[0]:+.4f})", round(speed, 2)]
    for db in databases:
        db.close()
    return lines


def recall(call: Callable[..., Any], queries: Any, truth: list[set[str]], ef: int) -> float:
    """Return the share of true neighbours that is found."""
    found = [set(call(query, k=K, ef_search=ef).ids) for query in queries]
    return statistics.mean(len(f & t) / K for f, t in zip(found, truth, strict=True))


def in_turn(calls: list[Callable[..., Any]], queries: Any, ef: int) -> list[float]:
    """Return by how much each call is faster than the first: the median over segments of queries."""
    ratios: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    for _ in range(PASSES):
        for start in range(0, len(queries), SEGMENT):
            part = list(queries[start : start + SEGMENT])
            spent = [0.0] * len(calls)
            for i in order:
                call, before = calls[i], time.perf_counter()
                for query in part:
                    call(query, k=K, ef_search=ef)
                spent[i] = time.perf_counter() - before
            for i, seconds in enumerate(spent):
                ratios[i].append(spent[0] / seconds)
            # Whoever comes first meets the queries in cold caches.
            order.append(order.pop(0))
    return [statistics.median(values) for values in ratios]


def main() -> None:
    """Build what is missing, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(datasets.REAL))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only-build", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name in options.names:
            data = datasets.load(name)
            build(data, folder)
            if options.only_build:
                continue
            headers = ["precision", "bytes", "share", *(h for ef in EFS for h in (f"recall, ef {ef}", "speed"))]
            table(f"{name}: bytes of a vector, recall@{K}, speed of float32 = 1", headers, measure(data, folder))


if __name__ == "__main__":
    main()
