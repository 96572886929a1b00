"""What has happened, for Prometheus: requests and latencies by route, sizes of indexes, the log, tasks."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Metrics"]

# Upper bounds in seconds.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Latencies:
    __slots__ = ("counts", "statuses", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total_s = 0.0
        self.statuses: dict[int, int] = {}


class Metrics:
    """Counts requests. The loop's thread alone writes; a reader sees counts of about the same moment."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], _Latencies] = {}
        self.n_requests = 0
        self.started_s = time.time()

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is that of the route, so that there are few."""
        found = self._routes.get((method, path))
        if found is None:
            found = self._routes[(method, path)] = _Latencies()
        found.counts[bisect_left(BUCKETS, seconds)] += 1
        found.total_s += seconds
        found.statuses[status] = found.statuses.get(status, 0) + 1
        self.n_requests += 1

    def render(
        self, stats: Mapping[str, Any], done: Mapping[str, Any], n_waiting: int, tasks: Mapping[tuple[str, str], int]
    ) -> bytes:
        """Return all of it as Prometheus' text.

        Parameters
        ----------
        stats, done : dict
            As `Database.stats` and `Database.metrics` give them.
        n_waiting : int
            Requests in threads or waiting for one.
        tasks : dict
            How many, by (kind, status).
        """
        lines = [*self._requests(), *_database(stats), *_done(done)]
        lines += _gauge("kektordb_requests_waiting", "Requests in threads or waiting for one.", {"": n_waiting})
        lines += _gauge(
            "kektordb_tasks",
            "Tasks in the background.",
            {_labels(kind=kind, status=status): n for (kind, status), n in sorted(tasks.items())},
        )
        lines += _gauge("kektordb_threads", "Threads of the process.", {"": threading.active_count()})
        lines += _gauge("kektordb_start_time_seconds", "When the server began.", {"": self.started_s})
        return ("\n".join(lines) + "\n").encode()

    def _requests(self) -> Iterator[str]:
        routes = sorted(self._routes.copy().items())
        yield "# HELP kektordb_http_requests_total Requests answered."
        yield "# TYPE kektordb_http_requests_total counter"
        for (method, path), found in routes:
            for status, n in sorted(found.statuses.copy().items()):
                yield f"kektordb_http_requests_total{_labels(method=method, path=path, status=status)} {n}"
        name = "kektordb_http_request_duration_seconds"
        yield f"# HELP {name} From the headers of a request to its answer."
        yield f"# TYPE {name} histogram"
        for (method, path), found in routes:
            so_far = 0
            for bound, n in zip((*BUCKETS, "+Inf"), list(found.counts), strict=True):
                so_far += n
                yield f"{name}_bucket{_labels(method=method, path=path, le=bound)} {so_far}"
            yield f"{name}_sum{_labels(method=method, path=path)} {found.total_s:.9g}"
            yield f"{name}_count{_labels(method=method, path=path)} {so_far}"


OF_INDEX = {
    "n_items": ("kektordb_index_items", "Items of an index."),
    "n_tombstones": ("kektordb_index_tombstones", "Deleted items that were not vacuumed yet."),
    "dim": ("kektordb_index_dimensions", "Components of a vector."),
}
OF_DATABASE = {
    "n_keys": ("kektordb_keys", "Keys of the key-value store."),
    "n_changes_since_save": ("kektordb_changes_since_save", "Changes that are only in the log."),
    "log_bytes": ("kektordb_log_bytes", "Size of the log."),
    "snapshot_bytes": ("kektordb_snapshot_bytes", "Size of the last snapshot."),
    "generation": ("kektordb_generation", "Snapshots that were written."),
    "n_syncs": ("kektordb_log_syncs", "Times that the log was made durable."),
    "last_seq": ("kektordb_log_sequence", "Number of the last record of the log."),
}


def _database(stats: Mapping[str, Any]) -> Iterator[str]:
    indexes: Mapping[str, Any] = stats["indexes"]
    for key, (name, text) in OF_INDEX.items():
        yield from _gauge(name, text, {_labels(index=index): found[key] for index, found in indexes.items()})
    memory = {
        _labels(index=index, part=part): n
        for index, found in indexes.items()
        for part, n in found["memory_bytes"].items()
        if part != "total"
    }
    yield from _gauge("kektordb_index_memory_bytes", "Memory of an index by part.", memory)
    for key, (name, text) in OF_DATABASE.items():
        if key in stats:
            yield from _gauge(name, text, {"": stats[key]})
    if "following" in stats:
        yield from _following(stats["following"])


def _following(found: Mapping[str, Any]) -> Iterator[str]:
    """Say how a follower fares; nothing of what it does not know since it was opened."""
    for key, name, text in (
        ("behind_bytes", "kektordb_following_behind_bytes", "What the leader had more at the last look."),
        ("level_before_s", "kektordb_following_level_before_seconds", "Since this had all that the leader had."),
    ):
        yield from _gauge(name, text, {} if found[key] is None else {"": found[key]})
    failed = int(found["error"] is not None)
    yield from _gauge("kektordb_following_failed", "Whether the last look at the leader failed.", {"": failed})


OF_WORK = {
    "n_added": ("kektordb_index_added_total", "Items added since the database was opened."),
    "n_deleted": ("kektordb_index_deleted_total", "Items deleted."),
    "n_batch_queries": ("kektordb_index_batch_queries_total", "Queries of batches."),
}
QUANTILES = {"0.5": "p50_s", "0.9": "p90_s", "0.99": "p99_s"}


def _done(done: Mapping[str, Any]) -> Iterator[str]:
    """Name what the database has done, whoever asked for it."""
    indexes: Mapping[str, Any] = done["indexes"]
    for key, (name, text) in OF_WORK.items():
        values = {_labels(index=index): found[key] for index, found in indexes.items()}
        yield from _gauge(name, text, values, "counter")
    for key, text in (("search", "Searches without those of batches."), ("add", "Calls that write items.")):
        yield from _summary(f"kektordb_{key}_seconds", text, {index: found[key] for index, found in indexes.items()})
    for key, text in (("commit", "Writes, all that they wait for."), ("save", "Snapshots.")):
        yield from _summary(f"kektordb_{key}_seconds", text, {"": done[key]})
    yield from _gauge(
        "kektordb_saved_bytes_total", "Bytes of snapshots written.", {"": done["n_saved_bytes"]}, "counter"
    )


def _summary(name: str, text: str, values: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} summary"
    for index, found in values.items():
        of_index = {"index": index} if index else {}
        if found["count"]:
            for quantile, key in QUANTILES.items():
                yield f"{name}{_labels(**of_index, quantile=quantile)} {found[key]:.9g}"
        own = _labels(**of_index) if index else ""
        yield f"{name}_sum{own} {found['total_s']:.9g}"
        yield f"{name}_count{own} {found['count']}"


def _gauge(name: str, text: str, values: Mapping[str, float], kind: str = "gauge") -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values.items():
        yield f"{name}{labels} {value}"


def _labels(**labels: object) -> str:
    escaped = (
        (name, str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
