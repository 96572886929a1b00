"""What does a write cost, and what does it cost to come back? Adds, batches, saves, opens and the replay of the log."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kektordb
from benchmarks.datasets import Dataset
from benchmarks.filling import fields_of
from benchmarks.measure import median, stopwatch
from benchmarks.options import NO_AUTOSAVE, Options
from benchmarks.report import table

__all__ = ["run"]

N_SINGLE = 5_000
N_ALWAYS = 500
N_CALLERS = 4
BUILD_THREADS = 2


def run(options: Options) -> dict[str, Any]:
    """Measure everything on one data set of 128 dimensions, whose last rows are added one by one."""
    dataset = options.load_one()
    n = len(dataset.train) - options.size(N_SINGLE) - 2 * options.size(N_ALWAYS)
    results: dict[str, Any] = {"dataset": dataset.name, "indexed": n}
    results |= measure_batch_and_replay(dataset, n)
    results |= measure_adds(dataset, n, options)
    results |= measure_saves(dataset, n)
    table(f"{dataset.name}: writes into {n:,} items", ["", "value"], results.items())
    return results


def fill(db: kektordb.Database, dataset: Dataset, start: int, stop: int) -> kektordb.Index:
    """Add rows of the data set in one batch to the index of this database, which is made when it is not there."""
    index = db["items"] if start else db.create_index("items", metric=dataset.metric, seed=100)
    ids = [f"item-{row:06d}" for row in range(start, stop)]
    vectors = dataset.train[start:stop]
    index.add_batch(ids, vectors, [fields_of(row) for row in range(start, stop)], n_threads=BUILD_THREADS)
    return index


def measure_batch_and_replay(dataset: Dataset, n: int) -> dict[str, Any]:
    """Time a batch, and then the opening of a database that has nothing but a log."""
    with tempfile.TemporaryDirectory() as folder:
        with kektordb.open(folder, **NO_AUTOSAVE) as db, stopwatch() as batch:
            fill(db, dataset, 0, n)
        with stopwatch() as replay:
            db = kektordb.open(folder, **NO_AUTOSAVE)
        with db:
            assert len(db["items"]) == n, "the log did not bring everything back"
            assert db.stats()["snapshot_bytes"] == 0, "not the log was read, but a snapshot"
    return {
        "batch_seconds": batch.wall,
        "batch_cpu_seconds": batch.all_cpu,
        "replay_seconds": replay.wall,
        "replay_cpu_seconds": replay.all_cpu,
        "replay_speedup": batch.wall / replay.wall,
    }


def measure_adds(dataset: Dataset, n: int, options: Options) -> dict[str, Any]:
    """Time single adds into an index of `n`, by sync policy, and count the syncs."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        with kektordb.open(folder) as db:
            fill(db, dataset, 0, n)
            db.save()
        start = n
        for sync, n_adds, n_callers in (
            ("everysec", options.size(N_SINGLE), 1),
            ("always", options.size(N_ALWAYS), 1),
            ("always", options.size(N_ALWAYS), N_CALLERS),
        ):
            with kektordb.open(folder, sync=sync) as db, count_syncs() as syncs, stopwatch() as watch:
                add_singly(db["items"], dataset, start, n_adds, n_callers)
                n_syncs = syncs()
            name = f"{sync}_{n_callers}_callers" if n_callers > 1 else sync
            results[f"adds_per_second_{name}"] = n_adds / watch.wall
            if n_callers == 1:
                results[f"adds_per_cpu_second_{name}"] = n_adds / watch.cpu
            results[f"syncs_per_add_{name}"] = n_syncs / n_adds
            start += n_adds
    return results


def add_singly(index: kektordb.Index, dataset: Dataset, start: int, n_adds: int, n_callers: int) -> None:
    """Add so many rows with one call each, from so many threads."""

    def caller(first: int) -> None:
        for row in range(start + first, start + n_adds, n_callers):
            index.add(f"item-{row:06d}", dataset.train[row], fields_of(row))

    threads = [threading.Thread(target=caller, args=(first,)) for first in range(1, n_callers)]
    for thread in threads:
        thread.start()
    caller(0)
    for thread in threads:
        thread.join()


@contextmanager
def count_syncs() -> Iterator[Callable[[], int]]:
    """Count calls of os.fsync and os.fdatasync inside the block; yields a function that tells the number so far."""
    originals = os.fsync, os.fdatasync
    calls: list[int] = []  # list.append is atomic between threads

    def counted(original: Callable[[Any], None]) -> Callable[[Any], None]:
        def sync(file: Any) -> None:
            calls.append(1)
            original(file)

        return sync

    os.fsync, os.fdatasync = map(counted, originals)
    try:
        yield lambda: len(calls)
    finally:
        os.fsync, os.fdatasync = originals


def measure_saves(dataset: Dataset, n: int) -> dict[str, Any]:
    """Time a first save, one after 1 % more items, and opens of what was saved."""
    with tempfile.TemporaryDirectory() as folder:
        with kektordb.open(folder, **NO_AUTOSAVE) as db:
            fill(db, dataset, 0, n)
            first = db.save()
            fill(db, dataset, n, n + n // 100)
            second = db.save()
        opens = []
        for _ in range(5):
            with stopwatch() as watch:
                db = kektordb.open(folder, **NO_AUTOSAVE)
            with db:
                assert len(db["items"]) == n + n // 100, "the snapshot did not bring everything back"
            opens.append(watch.wall)
        on_disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {
        "save_seconds": first.seconds,
        "save_bytes": first.bytes_written,
        "save_after_1_percent_seconds": second.seconds,
        "save_after_1_percent_bytes": second.bytes_written,
        "save_after_1_percent_share": second.bytes_written / second.bytes_total,
        "bytes_on_disk": on_disk,
        "open_seconds": median(opens),
    }
