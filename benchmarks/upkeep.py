"""Does an index stay good? Recall and memory after deletes and a vacuum, after years of turnover, and after a refine.

The measure is always an index built anew of the same items.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import kektordb
from benchmarks import datasets
from benchmarks.datasets import Dataset, nearest
from benchmarks.options import NO_AUTOSAVE, Options
from benchmarks.report import table

__all__ = ["ids_of", "metadata_of", "run", "timed"]

K = 10
EFS = (16, 32, 64, 100, 200)
ROUNDS = 20
SHARE = 0.1
PASSES = 2
# No vacuum begins by itself.
BY_HAND = {"vacuum_interval": 0}
WORDS = [f"word{i}" for i in range(2000)]

Rows = npt.NDArray[np.int64]


def run(options: Options) -> dict[str, Any]:
    """Measure each data set."""
    return {
        "k": K,
        "ef_search": EFS,
        "datasets": [
            {"dataset": data.name, "delete": delete(data), "churn": churn(data), "refine": refine(data)}
            for data in options.load_all(datasets.names())
        ],
    }


def ids_of(rows: Rows) -> list[str]:
    return [str(row) for row in rows]


def recalls(index: kektordb.Index, data: Dataset, rows: Rows) -> list[float]:
    """Return the recall for each ef; `rows` of the data set are in the index."""
    truth = rows[nearest(data.train[rows], data.test, data.metric, K)]
    found = []
    for ef in EFS:
        results = index.search_batch(data.test, k=K, ef_search=ef, include=())
        hits = [
            len(set(map(int, result.ids)) & set(true)) for result, true in zip(results, truth.tolist(), strict=True)
        ]
        found.append(float(np.mean(hits)) / K)
    return found


def metadata_of(rows: Rows) -> list[dict[str, Any]]:
    """Metadata and texts that take about as much room as in practice."""
    words = np.random.default_rng(0).zipf(1.3, (len(rows), 12)) % len(WORDS)
    return [
        {"n": int(row), "tag": f"t{row % 100}", "text": " ".join(WORDS[word] for word in line)}
        for row, line in zip(rows, words, strict=True)
    ]


def fresh(database: kektordb.Database, data: Dataset, rows: Rows, **options: Any) -> tuple[kektordb.Index, float]:
    """Build an index of `rows`; returns it, and the seconds that took."""
    index = database.create_index("fresh", metric=data.metric, **options)
    start = time.perf_counter()
    index.add_batch(ids_of(rows), data.train[rows])
    return index, time.perf_counter() - start


def timed(run: Callable[[], kektordb.Task]) -> float:
    start = time.perf_counter()
    run().wait()
    return time.perf_counter() - start


def total(index: kektordb.Index) -> int:
    return int(index.stats()["memory_bytes"]["total"])


def rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def compared(title: str, seconds: dict[str, float], found: dict[str, list[float]]) -> dict[str, Any]:
    """Print recalls, the last line being the measure, and how far the one before it is from that."""
    lines: list[list[Any]] = [[name, seconds[name], *rounded(found[name])] for name in found]
    *_, one, measure = found.values()
    difference = rounded([a - b for a, b in zip(one, measure, strict=True)])
    table(title, ["", "s", *(f"ef {ef}" for ef in EFS)], [*lines, ["difference", None, *difference]])
    recalls_of = {name: rounded(values) for name, values in found.items()}
    return {"seconds": seconds, "recall": recalls_of, "difference": difference}


def delete(data: Dataset) -> dict[str, Any]:
    """Delete half of the items, anywhere, and vacuum."""
    n, rng = len(data.train), np.random.default_rng(0)
    rows = np.arange(n)
    gone = rng.permutation(n)[: n // 2]
    kept = np.setdiff1d(rows, gone)
    with tempfile.TemporaryDirectory() as folder, kektordb.open(folder, **NO_AUTOSAVE) as db:
        index = db.create_index("x", metric=data.metric, text_language="simple", maintenance=BY_HAND)
        index.add_batch(ids_of(rows), data.train, metadata_of(rows))
        db.save()
        before, file_before = total(index), db.stats()["snapshot_bytes"]
        index.delete(ids_of(gone))
        vacuum_s = timed(index.vacuum)
        after = total(index)
        db.rewrite_aof()
        file_after = db.stats()["snapshot_bytes"]
        vacuumed = recalls(index, data, kept)
    with kektordb.open(":memory:") as db:
        index, build_s = fresh(db, data, kept)
        anew = recalls(index, data, kept)
    found = compared(
        f"{data.name}: {n // 2:,} of {n:,} deleted",
        {"vacuumed": vacuum_s, "built anew": build_s},
        {"vacuumed": vacuumed, "built anew": anew},
    )
    freed = {"memory": 1 - after / before, "file": 1 - file_after / file_before}
    print("  freed: " + ", ".join(f"{share:.1%} of the {part}" for part, share in freed.items()), flush=True)
    return {**found, "freed": freed}


def churn(data: Dataset) -> dict[str, Any]:
    """Round after round delete a tenth, add as many others, and vacuum."""
    rng, n = np.random.default_rng(0), len(data.train) // 4
    live = np.arange(n)
    following, spent = n, 0.0
    with kektordb.open(":memory:") as db:
        index = db.create_index("x", metric=data.metric, maintenance=BY_HAND)
        index.add_batch(ids_of(live), data.train[live])
        start = total(index)
        for _ in range(ROUNDS):
            live = rng.permutation(live)
            gone, live = live[: int(n * SHARE)], live[int(n * SHARE) :]
            index.delete(ids_of(gone))
            new = np.setdiff1d(np.arange(following, following + int(n * SHARE)) % len(data.train), live)
            following += int(n * SHARE)
            index.add_batch(ids_of(new), data.train[new])
            live = np.concatenate([live, new])
            spent += timed(index.vacuum)
        live = np.sort(live)
        turned, memory = recalls(index, data, live), total(index)
        index, build_s = fresh(db, data, live)
        anew = recalls(index, data, live)
    found = compared(
        f"{data.name}: {ROUNDS} rounds of {SHARE:.0%} of {n:,} (s: a vacuum, a build)",
        {"turned over": spent / ROUNDS, "built anew": build_s},
        {"turned over": turned, "built anew": anew},
    )
    grown = {"memory": memory / start - 1, "rows": len(live) / n - 1}
    print("  grown: " + ", ".join(f"{part} by {share:.1%}" for part, share in grown.items()), flush=True)
    return {**found, "grown": grown}


def refine(data: Dataset) -> dict[str, Any]:
    """Build with ef_construction 40, refine with 200, and again."""
    rows = np.arange(len(data.train))
    seconds: dict[str, float] = {}
    found: dict[str, list[float]] = {}
    with kektordb.open(":memory:") as db:
        index, seconds["built with 40"] = fresh(db, data, rows, ef_construction=40)
        found["built with 40"] = recalls(index, data, rows)
        for turn in range(PASSES):
            name = f"refined with 200, pass {turn + 1}"
            seconds[name] = timed(lambda: index.refine(ef_construction=200))
            found[name] = recalls(index, data, rows)
    with kektordb.open(":memory:") as db:
        index, seconds["built with 200"] = fresh(db, data, rows, ef_construction=200)
        found["built with 200"] = recalls(index, data, rows)
    return compared(f"{data.name}: {len(rows):,} rows", seconds, found)
