"""Does a database on a server have the verbs of an embedded one? What it lacks or does otherwise stands here."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from kektordb.database import Database
from kektordb.index import Index
from kektordb.kv import KeyValueView
from kektordb.remote import RemoteDatabase, RemoteIndex, RemoteResults, RemoteTask
from kektordb.remote.asynchronous import AsyncDatabase, AsyncIndex
from kektordb.remote.keys import RemoteKeys
from kektordb.remote.tasks import RemoteTasks
from kektordb.results import Results
from kektordb.tasks import Task, Tasks

FILES = "it is about files, which are on the server's machine: the command line there"
CONTEXT = "a block would keep a lock of the server for as long as the client likes: add_batch is one write"

# Names that the remote side lacks, with the reason.
LACKS: dict[type, dict[str, str]] = {
    Database: {
        "open": "connect",
        "path": FILES,
        "backup": FILES,
        "check": FILES,
        "recovery_report": FILES,
        "read_only": "it depends on the token of the client: a write that may not be is AccessDenied",
        "batch": CONTEXT,
        "maintenance": CONTEXT,
        "metrics": "GET /metrics, in the form that is gathered from servers",
        "vectorize": "a server has its own: --vectorizers-config",
        "vectorizers": "GET /system/vectorizers",
        "refresh": "a server that follows another one refreshes by itself",
    },
}
# Names that only the remote side has.
ADDS = {RemoteTask: {"refresh": "what it shows is what the server said last"}}
# Parameters that a remote verb lacks, and other types that it gives.
THREADS = "the server knows how many cores it has"
SIGNATURES: dict[str, tuple[str, str]] = {
    "Index.add_batch": ("n_threads", THREADS),
    "Index.upsert_batch": ("n_threads", THREADS),
    "Index.search_batch": ("n_threads", THREADS),
    "Database.save": ("progress", "it is one answer; the server logs what a save wrote"),
    "Database.rewrite_aof": ("progress", "it goes on in the background: a task is returned"),
}
GIVES: dict[str, tuple[str, str]] = {
    "Index.explain": ("str", "the text of the plan"),
    "Database.save": ("None", "see above"),
    "Database.rewrite_aof": ("RemoteTask", "see above"),
}
PAIRS = [
    (Database, RemoteDatabase),
    (Index, RemoteIndex),
    (Results, RemoteResults),
    (Task, RemoteTask),
    (Tasks, RemoteTasks),
    (KeyValueView, RemoteKeys),
]
VERBS = ("__len__", "__contains__", "__iter__", "__getitem__", "__setitem__", "__delitem__", "__enter__", "__exit__")


def names(kind: type) -> set[str]:
    """Return the public names of a class, and the attributes that its docstring names."""
    found = {name for name in dir(kind) if not name.startswith("_") or name in VERBS}
    attributes = (inspect.getdoc(kind) or "").partition("Attributes\n")[2]
    return found | {name for line in re.findall(r"^(\w[\w, ]*) : ", attributes, re.M) for name in line.split(", ")}


@pytest.mark.parametrize(("embedded", "remote"), PAIRS, ids=lambda kind: kind.__name__)
def test_names_are_the_same_but_for_those_with_a_reason(embedded: type, remote: type) -> None:
    assert names(embedded) - names(remote) == set(LACKS.get(embedded, {}))
    assert names(remote) - names(embedded) == set(ADDS.get(remote, {}))


def verbs() -> list[Any]:
    found = []
    for embedded, remote in PAIRS:
        for name in sorted(names(embedded) & names(remote)):
            one, other = getattr(embedded, name, None), getattr(remote, name, None)
            if one is not other and inspect.isfunction(one) and inspect.isfunction(other):
                found.append(pytest.param(one, other, id=f"{embedded.__name__}.{name}"))
    return found


@pytest.mark.parametrize(("embedded", "remote"), verbs())
def test_parameters_are_the_same_but_for_those_with_a_reason(
    embedded: Any, remote: Any, request: pytest.FixtureRequest
) -> None:
    verb = request.node.callspec.id
    here, there = inspect.signature(embedded), inspect.signature(remote)
    lacking, _ = SIGNATURES.get(verb, ("", ""))
    assert [parameter for parameter in here.parameters.values() if parameter.name != lacking] == list(
        there.parameters.values()
    )
    expected = re.sub(r"\b(Database|Index|Results|Task|Tasks)\b", r"Remote\1", str(here.return_annotation))
    expected = expected.replace("'", "")
    given, _ = GIVES.get(verb, (expected, ""))
    assert str(there.return_annotation) == given


def test_each_exception_is_still_one() -> None:
    """What was a difference once and is none any more goes from the lists."""
    for embedded, lacking in LACKS.items():
        assert set(lacking) <= names(embedded)
    kinds = {embedded.__name__: embedded for embedded, _ in PAIRS}
    for verb, (parameter, _) in SIGNATURES.items():
        kind, _, name = verb.partition(".")
        assert parameter in inspect.signature(getattr(kinds[kind], name)).parameters


ASYNC_LACKS = {
    AsyncDatabase: {"tasks", "closed", *VERBS} - {"__enter__", "__exit__"},
    AsyncIndex: {"database", "config", "dim", "embedder", "maintenance", "to_arrow_reader", *VERBS},
}


@pytest.mark.parametrize(("plain", "awaited"), [(RemoteDatabase, AsyncDatabase), (RemoteIndex, AsyncIndex)])
def test_all_verbs_can_be_awaited_too(plain: type, awaited: type) -> None:
    """Properties and the verbs of containers cannot: `stats`, `get`, `ids`, `count` and `indexes` say the same."""
    missing = {name for name in names(plain) - names(awaited) - {"kv"} if not name.startswith("__")}
    assert missing == {name for name in ASYNC_LACKS[awaited] if not name.startswith("__")}
    for name in names(plain) & names(awaited) - set(VERBS):
        one, other = getattr(plain, name), getattr(awaited, name)
        if inspect.isfunction(one) and inspect.isfunction(other) and name not in ("close", "create_index", "index"):
            assert inspect.iscoroutinefunction(other)
            assert list(inspect.signature(one).parameters) == list(inspect.signature(other).parameters), name
