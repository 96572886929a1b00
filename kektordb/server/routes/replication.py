"""How do other databases follow this one over HTTP? They ask for records, and for snapshots when those are gone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from kektordb import errors
from kektordb.server.calls import Call, Raw, Route
from kektordb.server.errors import HttpError
from kektordb.server.replies import Status
from kektordb.storage import Feed, Position
from kektordb.storage.feed import MAX_CHUNK_BYTES

__all__ = ["ROUTES"]

OCTETS = b"application/octet-stream"


def replicate(call: Call) -> Raw:
    """Return the records behind a position, as a message for a follower; waits for the first one."""
    max_bytes = call.query_int("max_bytes", MAX_CHUNK_BYTES, 1, MAX_CHUNK_BYTES)
    with _explained():
        return Raw(_feed(call).read(call.query("position"), max_bytes, 0.0), OCTETS)


def snapshot(call: Call) -> Callable[[Callable[[bytes], object]], None]:
    """Hand over the newest snapshot, for a follower; the header `kektordb-position` says where it ends."""
    feed, store = _feed(call), call.service.database._store
    if store is None or not store.snapshot_bytes:
        raise HttpError(404, "there is no snapshot yet: the log has all records")
    return feed.snapshot


def promote(call: Call) -> Status:
    """Let a server that follows another one do so no more, and take writes."""
    service = call.service
    try:
        service.database.promote()
    except errors.ConfigError:
        raise HttpError(409, "this server follows no other one", "ConfigError") from None
    return Status(message="Promoted")


def held_s(call: Call, waited_s: float) -> float:
    """Tell how many seconds more a follower waits that has all there is; 0 when there is something for it."""
    feed, database = _feed(call), call.service.database
    assert feed is not None
    longest_s = min(call.query_seconds("wait"), call.service.limits.max_wait_s)
    wanted = Position.parse(call.query("position"))
    database._live()
    store = database._store
    assert store is not None
    if wanted.history != store.lineage.history or wanted.seq != store.last_seq:
        return 0.0
    return max(0.0, longest_s - waited_s)


def _feed(call: Call) -> Feed:
    feed = call.service.feed
    if feed is None:
        raise HttpError(404, "this database has no log that another one could follow")
    return feed


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Say without names of files why a follower is sent away."""
    try:
        yield
    except errors.SnapshotNeeded:
        raise HttpError(410, "these records are in no log any more: take the snapshot", "SnapshotNeeded") from None
    except errors.HistoryDiverged:
        raise HttpError(409, "this database never was at that position", "HistoryDiverged") from None


# They give away everything, also what only the server itself may read, and take a connection for long: a token for
# reading does not do.
ROUTES = (
    Route("GET", "/replicate", replicate, writes=True, holds=held_s),
    Route("GET", "/replicate/snapshot", snapshot, writes=True, streams=True),
    Route("POST", "/system/promote", promote, gives=Status, writes=True),
)
