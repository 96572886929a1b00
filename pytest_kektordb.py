"""Databases for tests: fixtures of pytest, which finds them when kektordb is installed.

Nothing of kektordb is imported before a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kektordb import Database
    from kektordb.remote import RemoteDatabase

__all__ = ["KektorServer", "kektordb_memory", "kektordb_path", "kektordb_server"]


@pytest.fixture
def kektordb_memory() -> Iterator[Database]:
    """An empty database in memory; closed after the test."""
    import kektordb

    with kektordb.open(":memory:") as database:
        yield database


@pytest.fixture
def kektordb_path(tmp_path: Path) -> Iterator[Path]:
    """The path of a database that is not there yet, for `kektordb.open`; what a test leaves open there is closed."""
    from kektordb.lifetime import open_databases

    path = tmp_path / "kektordb"
    yield path
    for database in list(open_databases):
        if not database.closed and database.path is not None and path in (database.path, *database.path.parents):
            database.close()


class KektorServer:
    """A server that a test has for itself.

    Attributes
    ----------
    url : str
        For any client: ``http://127.0.0.1:PORT``.
    database : Database
        What it serves: an empty database in memory, in which tests arrange and look things up without HTTP.
    """

    def __init__(self, url: str, database: Database, clients: ExitStack) -> None:
        self.url = url
        self.database = database
        self._clients = clients

    def connect(self, *, timeout: float = 30.0, retries: int = 2) -> RemoteDatabase:
        """Return a client of it; see `kektordb.connect`. It is closed after the test."""
        import kektordb

        return self._clients.enter_context(kektordb.connect(self.url, timeout=timeout, retries=retries))

    def __repr__(self) -> str:
        return f"<KektorServer {self.url!r}>"


@pytest.fixture
def kektordb_server(kektordb_memory: Database) -> Iterator[KektorServer]:
    """A server of an empty database, on a free port of this machine; needs ``kektordb[server]``.

    The database is that of `kektordb_memory`, when a test asks for both.
    """
    try:
        from kektordb.server.background import serving
    except ImportError:
        pytest.fail("kektordb_server needs the packages of the server: pip install 'kektordb[server]'", pytrace=False)
    with serving(kektordb_memory) as url, ExitStack() as clients:
        yield KektorServer(url, kektordb_memory, clients)
