"""What do all handlers share? The database, the tasks, the edges, the options."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kektordb import errors
from kektordb.database import Database
from kektordb.index import Index
from kektordb.server.calls import Route
from kektordb.server.edges import Edges
from kektordb.server.errors import HttpError
from kektordb.server.jobs import Jobs
from kektordb.server.metrics import Metrics
from kektordb.server.options import Options
from kektordb.storage import Feed

__all__ = ["Service"]


class Service:
    """One database as it is served.

    Attributes
    ----------
    database : Database
    options : Options
    routes : sequence of Route
    jobs : Jobs
    edges : Edges
    metrics : Metrics
    feed : Feed or None
        For followers; None when there are no files that they could follow.
    n_waiting : int
        Requests that wait for a thread or run in one.
    """

    def __init__(self, database: Database, options: Options, routes: Sequence[Route]) -> None:
        self.database = database
        self.options = options
        self.routes = routes
        self.limits = options.limits
        self.jobs = Jobs(database, options.limits.grace_s)
        self.edges = Edges(database)
        self.metrics = Metrics()
        store = database._store
        self.feed = None if store is None or store.is_file else Feed(store.path, backend=store._backend)
        self.n_waiting = 0
        self._handles: dict[str, Index] = {}
        self._started_s = time.monotonic()
        self.document: bytes | None = None  # of the interface; made when it is first asked for

    @property
    def uptime_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started_s

    @property
    def follows(self) -> bool:
        """Whether the database follows another one."""
        return self.database._following is not None

    def index(self, name: str) -> Index:
        """Return an index. Raises HttpError 400 without a name, 404 when there is none."""
        handle = self._handles.get(name)
        if handle is not None and name in self.database:
            return handle
        if not name:
            raise HttpError(400, "index_name required", "ConfigError")
        try:
            handle = self._handles[name] = self.database.index(name)
        except errors.IndexNotFound:
            self._handles.pop(name, None)
            raise HttpError(404, f"index '{name}' not found", "IndexNotFound") from None
        return handle
