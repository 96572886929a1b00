"""How is the server looked at? Health, state, metrics, the description of its interface, a profile."""

from __future__ import annotations

from collections import Counter

from kektordb import __version__
from kektordb.server.calls import Call, Raw, Route
from kektordb.server.openapi import PAGE, describe
from kektordb.server.options import MAX_PROFILE_S
from kektordb.server.profiling import profile
from kektordb.server.replies import Report, Status

__all__ = ["ROUTES"]


def health(call: Call) -> Status:
    """Say that the server answers; it asks for no token."""
    call.service.database.kv.get("")
    return Status("ok")


def stats(call: Call) -> Report:
    """Return counts and bytes of the whole database, and of the server."""
    service = call.service
    found, following = service.database.stats(), service.database._following
    if following is not None and found.get("following", {}).get("error") is not None:
        found["following"]["error"] = type(following.error).__name__  # its text names files; the log has it
    return Report(__version__, service.uptime_s, service.metrics.n_requests, service.n_waiting, found)


def metrics(call: Call) -> Raw:
    """Return counters and sizes as Prometheus reads them."""
    service = call.service
    tasks = Counter((task.kind, task.status) for task in service.database.tasks)
    body = service.metrics.render(service.database.stats(), service.database.metrics(), service.n_waiting, tasks)
    return Raw(body, b"text/plain; version=0.0.4; charset=utf-8")


def openapi(call: Call) -> Raw:
    """Return the description of this interface, OpenAPI 3.1."""
    service = call.service
    if service.document is None:
        service.document = describe(service.routes)
    return Raw(service.document, b"application/json")


def docs(call: Call) -> Raw:
    """Return a page that shows the description; the page asks for the token."""
    return Raw(PAGE, b"text/html; charset=utf-8")


def take_profile(call: Call) -> Raw:
    """Look at all threads for `seconds`, and return where they were, as folded stacks."""
    return Raw(profile(call.query_int("seconds", 5, 1, MAX_PROFILE_S)), b"text/plain; charset=utf-8")


ROUTES = (
    Route("GET", "/healthz", health, gives=Status, is_open=True),
    Route("GET", "/system/stats", stats, gives=Report, threaded=True),
    Route("GET", "/metrics", metrics, threaded=True),
    Route("GET", "/openapi.json", openapi, threaded=True),
    Route("GET", "/docs", docs, is_open=True),
    Route("GET", "/debug/profile", take_profile, writes=True),
)
