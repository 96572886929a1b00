"""What has a database done since it was opened? Counters and latencies as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kektordb._metrics import Latencies

if TYPE_CHECKING:
    from kektordb.collection import Collection
    from kektordb.database import Database

__all__ = ["metrics"]

QUANTILES = {"p50_s": 0.5, "p90_s": 0.9, "p99_s": 0.99}


def metrics(database: Database) -> dict[str, Any]:
    """Return what `Database.metrics` says."""
    state, store = database._live(), database._store
    found: dict[str, Any] = {
        "indexes": {name: _of_index(collection) for name, collection in state.indexes()},
        "commit": summary(database._commits.latencies),
        "save": summary(database._upkeep.saves),
        "n_saved_bytes": database._upkeep.n_saved_bytes,
        "tasks": _of_tasks(database),
    }
    if store is not None:
        found |= {"n_syncs": store.n_syncs, "log_bytes": store.log_bytes, "snapshot_bytes": store.snapshot_bytes}
    return found


def _of_index(collection: Collection) -> dict[str, Any]:
    return {
        "n_items": collection.n_alive,
        "n_added": collection.tally.n_added,
        "n_deleted": collection.tally.n_deleted,
        "n_batch_queries": collection.n_batch_queries,
        "search": summary(collection.searches),
        "add": summary(collection.tally.adds),
    }


def _of_tasks(database: Database) -> dict[str, int]:
    counts: dict[str, int] = {}
    for task in database._upkeep.tasks:
        counts[task.status] = counts.get(task.status, 0) + 1
    return counts


def summary(latencies: Latencies) -> dict[str, Any]:
    """Return count, sum and quantiles, and the buckets: pairs of an upper bound in seconds and the calls below it."""
    return {
        "count": latencies.count,
        "total_s": latencies.total_s,
        "max_s": latencies.longest_s,
        **{name: latencies.quantile(share) for name, share in QUANTILES.items()},
        "buckets": latencies.buckets(),
    }
