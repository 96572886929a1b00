"""What is public is what is meant to be: the names, their documentation, their types, the tree of errors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import kektordb
from kektordb import errors
from kektordb.care import IndexCare
from kektordb.data.verbs import Tabular
from kektordb.database import Database
from kektordb.embedding import IndexOfTexts
from kektordb.feeding import DatabaseFeeding
from kektordb.keeping import DatabaseCare
from kektordb.kv import KeyValueView
from kektordb.metrics import Measured
from kektordb.query import Explanation, Expression
from kektordb.reading import IndexReader
from kektordb.replicas.refreshing import Refreshable
from kektordb.replication import Feed, HttpSource, Position, Source
from kektordb.results import HitExplanation, TermScore
from kektordb.safety.checking import CheckReport, IndexReport
from kektordb.safety.dumping import DumpReport
from kektordb.safety.rebuilding import Lost
from kektordb.safety.repairing import RepairReport
from kektordb.storage import Damage, FileReport, RecoveryReport, SaveReport
from kektordb.tasks import Tasks
from kektordb.upkeep.maintenance import Maintenance

ERRORS: dict[str, tuple[type[Exception], ...]] = {
    "KektorError": (Exception,),
    "ConfigError": (errors.KektorError, ValueError),
    "VectorError": (errors.KektorError, ValueError),
    "MetadataError": (errors.KektorError, ValueError),
    "IdError": (errors.KektorError, ValueError),
    "DocumentError": (errors.KektorError,),
    "FilterError": (errors.KektorError, ValueError),
    "IndexNotFound": (errors.KektorError, KeyError),
    "ItemNotFound": (errors.KektorError, KeyError),
    "IndexExists": (errors.KektorError, ValueError),
    "ItemExists": (errors.KektorError, ValueError),
    "DatabaseClosed": (errors.KektorError,),
    "DatabaseLocked": (errors.KektorError,),
    "ReadOnlyDatabase": (errors.KektorError,),
    "ForkedHandle": (errors.KektorError,),
    "ReplicationError": (errors.KektorError,),
    "SnapshotNeeded": (errors.ReplicationError,),
    "HistoryDiverged": (errors.ReplicationError,),
    "TaskFailed": (errors.KektorError,),
    "TaskNotFound": (errors.KektorError, KeyError),
    "ServerError": (errors.KektorError,),
    "ServerUnreachable": (errors.ServerError, ConnectionError),
    "AccessDenied": (errors.ServerError, PermissionError),
    "EmbedderError": (errors.KektorError,),
    "StorageError": (errors.KektorError, OSError),
    "StorageFull": (errors.StorageError,),
    "StorageFailed": (errors.StorageError,),
    "CorruptData": (errors.StorageError,),
    "CorruptLog": (errors.CorruptData,),
    "CorruptSnapshot": (errors.CorruptData,),
}
NAMES = {
    *("Database", "F", "Hit", "Index", "Item", "RecallCheck", "Results", "Task"),
    *(
        "__version__",
        "build_info",
        "check",
        "connect",
        "connect_async",
        "dump",
        "load",
        "open",
        "repair",
        "restore",
        *ERRORS,
    ),
}

METHODS = {
    kektordb.Database: {
        *("backup", "batch", "check", "close", "closed", "create_index", "drop_index", "index", "kv", "maintenance"),
        *("metrics", "open", "promote"),
        *(
            "path",
            "read_only",
            "recovery_report",
            "refresh",
            "rewrite_aof",
            "save",
            "stats",
            "sync",
            "tasks",
            "vectorize",
            "vectorizers",
        ),
    },
    kektordb.Index: {
        *("add", "add_batch", "config", "count", "database", "delete", "dim", "explain", "fields", "get"),
        *("get_many", "ids"),
        *("calibrate", "check_recall", "compress", "configure", "maintenance", "name", "refine", "search"),
        *("search_batch", "stats", "update_metadata", "upsert", "upsert_batch", "vacuum"),
        *("add_texts", "attach_embedder", "embedder"),
        *("add_arrow", "add_file", "export", "from_pandas", "to_arrow", "to_arrow_reader", "to_pandas"),
    },
    kektordb.Results: {"count", "distances", "ids", "index", "scores", "text_scores"},
    kektordb.Hit: {"distance", "explanation", "id", "metadata", "score", "snippet", "text_score", "vector"},
    kektordb.Item: {"id", "metadata", "vector"},
    kektordb.Task: {"cancel", "done", "error", "message", "progress", "result", "status", "wait"},
    Maintenance: {"pause", "paused", "resume"},
    Feed: {"close", "read", "snapshot"},
    HttpSource: {"close", "interrupt", "probe", "read", "snapshot"},
    Position: {"digest", "history", "parse", "place", "seq"},
    Source: {"read", "snapshot"},
}
# What public calls give back.
GIVEN = [
    *(KeyValueView, Explanation, Expression, HitExplanation, Maintenance, RecoveryReport, SaveReport, Tasks),
    *(CheckReport, Damage, DumpReport, FileReport, IndexReport, Lost, RepairReport, TermScore),
    *(Feed, HttpSource, Position, Source),
]


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """List the public members that a class defines itself, or that its other halves do."""
    halves = {
        kektordb.Index: (IndexOfTexts, IndexReader, IndexCare, Tabular),
        kektordb.Database: (DatabaseCare, DatabaseFeeding, Refreshable, Measured),
    }.get(owner, ())
    own = {name: value for part in (*halves, owner) for name, value in vars(part).items()}
    for name, value in own.items():
        if not name.startswith("_"):
            yield name, inspect.unwrap(value.__func__ if isinstance(value, classmethod | staticmethod) else value)


def documented() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [(name, getattr(kektordb, name)) for name in sorted(NAMES - {"__version__"})]
    for owner in {value for _, value in found if inspect.isclass(value)} | set(GIVEN):
        found.append((owner.__name__, owner))
        for name, value in members(owner):
            if callable(value) or isinstance(value, property):
                found.append((f"{owner.__name__}.{name}", value))
    return sorted(found, key=lambda pair: pair[0])


def test_the_public_names_are_these() -> None:
    assert sorted(kektordb.__all__) == sorted(NAMES)
    assert all(hasattr(kektordb, name) for name in NAMES)


@pytest.mark.parametrize("owner", METHODS, ids=lambda owner: owner.__name__)
def test_the_public_members_are_these(owner: type) -> None:
    assert {name for name in dir(owner) if not name.startswith("_")} == METHODS[owner]


@pytest.mark.parametrize(("name", "value"), documented(), ids=[name for name, _ in documented()])
def test_everything_public_is_documented(name: str, value: Any) -> None:
    text = inspect.getdoc(value)
    assert text, f"{name} has no docstring"
    assert text[0].isupper() or text[0] == "`"
    first = text.splitlines()[0]
    assert first.rstrip().endswith((".", ":", "::")) or "\n\n" in text, first


@pytest.mark.parametrize(
    ("name", "value"),
    [pair for pair in documented() if inspect.isfunction(pair[1])],
    ids=[name for name, value in documented() if inspect.isfunction(value)],
)
def test_every_public_function_has_its_types(name: str, value: Any) -> None:
    signature = inspect.signature(value)
    assert signature.return_annotation is not inspect.Signature.empty, name
    for parameter in signature.parameters.values():
        is_typed = parameter.annotation is not inspect.Parameter.empty
        assert is_typed or parameter.name in ("self", "cls"), (name, parameter)


@pytest.mark.parametrize("name", ERRORS)
def test_the_errors_are_a_tree(name: str) -> None:
    assert getattr(kektordb, name) is getattr(errors, name)
    bases = [base.__bases__ if base.__name__.startswith("_") else (base,) for base in getattr(errors, name).__bases__]
    assert tuple(base for group in bases for base in group) == ERRORS[name]


def test_every_error_is_public_and_in_the_tree() -> None:
    assert sorted(errors.__all__) == sorted(ERRORS)
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value) and not name.startswith("_")}
    assert defined == set(ERRORS)
    assert all(name in (errors.__doc__ or "") for name in ERRORS), "the docstring shows the tree"


def test_errors_say_what_they_know() -> None:
    filter_error = errors.FilterError("expected a value", "a = 1 AND\nb >", 13)
    assert (filter_error.position, filter_error.line, filter_error.column) == (13, 2, 4)
    assert str(filter_error).splitlines()[-1].index("^") == 2 + 3
    damage = errors.CorruptLog("a bad record", "/db/log-000001.aof", 96)
    assert (damage.path, damage.offset) == ("/db/log-000001.aof", 96)
    assert str(damage) == "/db/log-000001.aof: a bad record (at byte 96)"
    assert str(errors.ItemNotFound("no item 'a'")) == "no item 'a'", "KeyError would put it in quotes"
    assert str(errors.StorageFull("no room")) == "no room"


def test_open_is_database_open() -> None:
    assert inspect.signature(kektordb.open) == inspect.signature(Database.open)
    with kektordb.open(":memory:") as db:
        assert isinstance(db, kektordb.Database)


def test_build_info_says_what_was_chosen() -> None:
    info = kektordb.build_info()
    assert set(info) == {"version", "isa", "openmp", "compiler"}
    assert info["version"] == kektordb.__version__
    assert isinstance(info["openmp"], bool)
    assert info["isa"]
