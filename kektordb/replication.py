"""How does one database follow another, here or far away? What a program needs that carries records between them.

A follower on the machine of its leader needs none of this: ``kektordb.open(path, follow=leader)``. For one far away, a
`Feed` beside the leader answers `read` and `snapshot`, and the follower is opened with ``follow=`` an object that has
these two methods and asks it (`Source`), of which `HttpSource` is the one that asks a leader's server. Positions are
text, answers are bytes, and both check themselves.
"""

from __future__ import annotations

import os

from kektordb.database import Database
from kektordb.errors import ConfigError, StorageError
from kektordb.replicas.following import Source
from kektordb.replicas.http_source import HttpSource
from kektordb.storage import Feed, OsBackend, Position
from kektordb.storage.directory import Directory
from kektordb.validation import check_path

__all__ = ["Feed", "HttpSource", "Position", "Source", "promote"]


class _Nowhere:
    """A leader that is gone."""

    def read(self, position: str, max_bytes: int, timeout: float) -> bytes:
        raise StorageError("there is no leader")

    def snapshot(self, write: object) -> None:
        raise StorageError("there is no leader")


def promote(path: str | os.PathLike[str]) -> None:
    """Make a database that followed another one, and is not open, a database in its own right; see `Database.promote`.

    Raises
    ------
    ConfigError
        It follows nothing.
    DatabaseLocked, CorruptLog, CorruptSnapshot, StorageError
    """
    place = os.path.abspath(check_path(path))
    directory = Directory(place, OsBackend(), read_only=True)
    directory.require_manifest()  # nothing is made of a name that is spelled wrong
    directory.open()
    if not directory.manifest.whose().is_follower:
        raise ConfigError(f"expected a database that follows another one, got {place!r}")
    with Database.open(path, follow=_Nowhere(), follow_interval=0) as database:
        database.promote()
