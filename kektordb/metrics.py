"""How much is there in a database, and what has it done since it was opened? As plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kektordb._metrics import Latencies
from kektordb.markup import Stats

if TYPE_CHECKING:
    from kektordb.collection import Collection
    from kektordb.commit import Commits
    from kektordb.replicas.following import Following
    from kektordb.state import State
    from kektordb.storage import Store
    from kektordb.upkeep.maintenance import Upkeep

__all__ = ["Measured"]

QUANTILES = {"p50_s": 0.5, "p90_s": 0.9, "p99_s": 0.99}


class Measured:
    """The part of `Database` that says how much there is, and what was done."""

    if TYPE_CHECKING:
        _commits: Commits
        _following: Following | None
        _store: Store | None
        _upkeep: Upkeep

        def _live(self) -> State: ...

    def stats(self) -> dict[str, Any]:
        """Return counts and bytes of the whole database."""
        state, store = self._live(), self._store
        stats: dict[str, Any] = {
            "indexes": {name: collection.stats() for name, collection in state.indexes()},
            "n_keys": state.kv.n_own,
            "n_changes_since_save": self._commits.n_changes,
        }
        if store is not None:
            stats |= {
                "log_bytes": store.log_bytes,
                "snapshot_bytes": store.snapshot_bytes,
                "generation": store.generation,
                "n_syncs": store.n_syncs,
                "last_seq": store.last_seq,
            }
        if (following := self._following) is not None:
            stats["following"] = following.stats()
        return Stats(stats)

    def metrics(self) -> dict[str, Any]:
        """Return what was done since the database was opened: counters, and how long calls took.

        Returns
        -------
        dict
            By index: ``n_added``, ``n_deleted``, ``n_batch_queries``, and the latencies of ``search`` (single searches)
            and ``add`` (calls that write items). Of the database: those of ``commit`` and ``save``, bytes saved, tasks
            by status, with files ``n_syncs`` and bytes, and of a follower ``following``, as in `stats`. Latencies are
            ``count``, ``total_s``, ``max_s``, ``p50_s``, ``p90_s``, ``p99_s``, and ``buckets``: pairs of seconds and
            the calls that took less, see docs/recall.md.
        """
        state, store, upkeep = self._live(), self._store, self._upkeep
        found: dict[str, Any] = {
            "indexes": {name: _of_index(collection) for name, collection in state.indexes()},
            "commit": summary(self._commits.latencies),
            "save": summary(upkeep.saves),
            "n_saved_bytes": upkeep.n_saved_bytes,
            "tasks": _of_tasks(upkeep),
        }
        if (following := self._following) is not None:
            found["following"] = following.stats()
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


def _of_tasks(upkeep: Upkeep) -> dict[str, int]:
    counts: dict[str, int] = {}
    for task in upkeep.tasks:
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
