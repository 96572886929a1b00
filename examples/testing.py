"""How does a program's test suite get databases? By fixtures that come with kektordb.

Run it with ``python examples/testing.py``, or with ``pytest examples/testing.py``. Needs: pytest, uvicorn
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

import kektordb

if TYPE_CHECKING:
    from pytest_kektordb import KektorServer


def remember(db: kektordb.Database, id: str, vector: list[float]) -> None:
    """Stand for the program that is tested."""
    index = db["notes"] if "notes" in db else db.create_index("notes")
    index.upsert(id, vector)
    db.kv["last"] = id


def test_the_last_one_is_remembered(kektordb_memory: kektordb.Database) -> None:
    remember(kektordb_memory, "a", [1.0, 0.0])
    remember(kektordb_memory, "b", [0.0, 1.0])
    assert kektordb_memory.kv["last"] == b"b"
    assert kektordb_memory["notes"].search([1.0, 0.1], k=1).ids == ["a"]


def test_it_is_there_after_a_restart(kektordb_path: Path) -> None:
    with kektordb.open(kektordb_path) as db:
        remember(db, "a", [1.0, 0.0])
    with kektordb.open(kektordb_path) as db:
        assert db["notes"].ids() == ["a"]


def test_clients_find_it(kektordb_server: KektorServer) -> None:
    remember(kektordb_server.database, "a", [1.0, 0.0])
    client = kektordb_server.connect()
    assert client["notes"].search([1.0, 0.0]).ids == ["a"]


if __name__ == "__main__":
    # Where kektordb is installed pytest finds the plugin by itself; beside a build in place it is named.
    points = [point for one in distributions() for point in one.entry_points]
    installed = any((point.group, point.name) == ("pytest11", "kektordb") for point in points)
    plugins = [] if installed else ["-p", "pytest_kektordb"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins, __file__]
    sys.exit(subprocess.call(command))
