"""Does an index stay good? Recall and memory after deletes and a vacuum, after years of turnover, and after a refine.

The measure is always an index built anew of the same items. Run with
``python -m benchmarks.upkeep {delete,churn,refine,waits} [data set …] [--rows N]``.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import kektordb
from benchmarks import datasets
from benchmarks.datasets import Dataset, nearest
from benchmarks.report import table

__all__: list[str] = []

K = 10
EFS = (16, 32, 64, 100, 200)
ROUNDS = 20
SHARE = 0.1
WORDS = [f"word{i}" for i in range(2000)]

Rows = npt.NDArray[np.int64]


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


def delete(data: Dataset) -> None:
    """Delete half of the items, anywhere, and vacuum."""
    n, rng = len(data.train), np.random.default_rng(0)
    rows = np.arange(n)
    gone = rng.permutation(n)[: n // 2]
    kept = np.setdiff1d(rows, gone)
    with tempfile.TemporaryDirectory() as folder, kektordb.open(folder, autosave="") as db:
        index = db.create_index("x", metric=data.metric, text_language="simple")
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
    lines = [["vacuumed", vacuum_s, *rounded(vacuumed)], ["built anew", build_s, *rounded(anew)]]
    lines.append(["difference", None, *rounded([a - b for a, b in zip(vacuumed, anew, strict=True)])])
    table(f"{data.name}: {n // 2:,} of {n:,} deleted", ["", "s", *(f"ef {ef}" for ef in EFS)], lines)
    print(f"memory {after / before - 1:+.1%}, snapshot {file_after / file_before - 1:+.1%}\n", flush=True)


def churn(data: Dataset) -> None:
    """Round after round delete a tenth, add as many others, and vacuum."""
    rng, n = np.random.default_rng(0), len(data.train) // 4
    live = np.arange(n)
    following, spent = n, 0.0
    with kektordb.open(":memory:") as db:
        index = db.create_index("x", metric=data.metric)
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
    lines = [["turned over", spent / ROUNDS, *rounded(turned)], ["built anew", build_s, *rounded(anew)]]
    lines.append(["difference", None, *rounded([a - b for a, b in zip(turned, anew, strict=True)])])
    title = f"{data.name}: {ROUNDS} rounds of {SHARE:.0%} of {n:,} (s: a vacuum, a build)"
    table(title, ["", "s", *(f"ef {ef}" for ef in EFS)], lines)
    print(f"memory {memory / start - 1:+.1%}, rows {len(live) / n - 1:+.1%}\n", flush=True)


def refine(data: Dataset) -> None:
    """Build with ef_construction 40, refine with 200, and again."""
    rows = np.arange(len(data.train))
    lines: list[list[Any]] = []
    with kektordb.open(":memory:") as db:
        index, seconds = fresh(db, data, rows, ef_construction=40)
        lines.append(["built with 40", seconds, *rounded(recalls(index, data, rows))])
        for time_ in range(3):
            seconds = timed(lambda: index.refine(ef_construction=200))
            lines.append([f"refined with 200, pass {time_ + 1}", seconds, *rounded(recalls(index, data, rows))])
    with kektordb.open(":memory:") as db:
        index, seconds = fresh(db, data, rows, ef_construction=200)
        lines.append(["built with 200", seconds, *rounded(recalls(index, data, rows))])
    table(f"{data.name}: {len(rows):,} rows", ["", "s", *(f"ef {ef}" for ef in EFS)], lines)
    print(flush=True)


def waits(data: Dataset) -> None:
    """How long does a search take at most while a vacuum or a refine runs? In ms, of one thread that searches."""
    rows = np.arange(len(data.train))
    lines = []
    with kektordb.open(":memory:") as db:
        index = db.create_index("x", metric=data.metric, text_language="simple")
        index.add_batch(ids_of(rows), data.train, metadata_of(rows))
        lines.append(["nothing", *searched(index, data, lambda: time.sleep(2))])
        lines.append(["refine", *searched(index, data, lambda: timed(lambda: index.refine(ef_construction=200)))])
        index.delete(ids_of(np.random.default_rng(0).permutation(rows)[: len(rows) // 2]))
        lines.append(["vacuum", *searched(index, data, lambda: timed(index.vacuum))])
    headers = ["beside", "s", "searches", "median", "p99", "p99.9", "longest"]
    table(f"{data.name}: {len(rows):,} rows with texts, ms", headers, lines)
    print(flush=True)


def searched(index: kektordb.Index, data: Dataset, run: Callable[[], object]) -> list[float]:
    """Search, one query after the other, while `run` runs."""
    taken: list[float] = []
    stop = threading.Event()
    queries = list(np.ascontiguousarray(data.test))

    def search() -> None:
        i = 0
        while not stop.is_set():
            start = time.perf_counter()
            index.search(queries[i % len(queries)], k=K, ef_search=64)
            taken.append(time.perf_counter() - start)
            i += 1

    thread = threading.Thread(target=search)
    start = time.perf_counter()
    thread.start()
    run()
    seconds = time.perf_counter() - start
    stop.set()
    thread.join()
    ms = 1000 * np.array(taken)
    return [seconds, len(ms), *rounded([*np.percentile(ms, [50, 99, 99.9]), ms.max()])]


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = {run.__name__: run for run in (delete, churn, refine, waits)}
    parser.add_argument("what", choices=list(what))
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rows", type=int, default=None)
    given = parser.parse_args()
    for name in given.names or datasets.names():
        data = datasets.load(name)
        what[given.what](data if given.rows is None else data.head(given.rows, len(data.test)))


if __name__ == "__main__":
    main()
