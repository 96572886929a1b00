"""Is a database as it was written? Its files byte by byte, and, when asked, what they hold against itself."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from kektordb.database import Database
from kektordb.errors import ConfigError, KektorError
from kektordb.safety.integrity import faults_of
from kektordb.storage import FileReport, inspect_files
from kektordb.storage.inspection import DAMAGED, MISSING, SOUND, TORN
from kektordb.validation import check_path

__all__ = ["CheckReport", "IndexReport", "check", "check_open"]


class IndexReport(msgspec.Struct, frozen=True):
    """What a deep check found in one index.

    Attributes
    ----------
    name : str
    n_items, n_slots : int
        Items, and slots in use, those of deleted items included.
    faults : tuple of str
        What does not hold; empty when everything does.
    """

    name: str
    n_items: int
    n_slots: int
    faults: tuple[str, ...]


class CheckReport(msgspec.Struct, frozen=True):
    """What a check found.

    Attributes
    ----------
    path : str
    verdict : str
        ``sound``; ``torn tail``: the last bytes of the log were never promised, and the next writer cuts them off;
        ``damaged``.
    files : tuple of FileReport
        Empty for a database in memory.
    indexes : tuple of IndexReport
        Of a deep check.
    faults : tuple of str
        Why there was no deep check, though one was asked for.
    """

    path: str
    verdict: str
    files: tuple[FileReport, ...]
    indexes: tuple[IndexReport, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged; a torn tail is no damage."""
        return self.verdict != DAMAGED

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def check(path: str | os.PathLike[str], *, deep: bool = False) -> CheckReport:
    """Check a database directory or backup file; another process may be writing to it. Nothing is changed.

    Parameters
    ----------
    path : str or path
    deep : bool
        Load it as well, and check what it holds: the graphs' invariants, ids against slots, columns and texts against
        metadata. That takes the memory and some times the time of opening it.

    Returns
    -------
    CheckReport
        With every damaged place that was found.

    Raises
    ------
    StorageError
        There is no database, reading fails, or it was written by a newer version.
    """
    target, deep = os.path.abspath(check_path(path)), _check_flag(deep)
    files = inspect_files(target)
    if not deep:
        return _report(target, files)
    try:
        database = Database.open(target, read_only=True)
    except KektorError as error:
        return _report(target, files, faults=(f"it cannot be opened: {error}",))
    with database:
        return _report(target, files, _look_into(database))


def check_open(database: Database, deep: bool) -> CheckReport:
    """Do what `Database.check` says."""
    _check_flag(deep)
    database._live()
    store = database._store
    database._refuse_inside_write()
    files = () if store is None else inspect_files(store.path, store.backend, store.log_end)
    return _report(database._path if store is None else store.path, files, _look_into(database) if deep else ())


def _check_flag(deep: object) -> bool:
    if not isinstance(deep, bool):
        raise ConfigError(f"expected deep to be True or False, got {deep!r:.80}")
    return deep


def _look_into(database: Database) -> tuple[IndexReport, ...]:
    writes = database._commits.lock.alone
    return tuple(
        IndexReport(name, len(collection), collection.n_slots, tuple(faults_of(collection, writes)))
        for name, collection in database._live().indexes()
    )


def _report(
    path: str, files: tuple[FileReport, ...], indexes: tuple[IndexReport, ...] = (), faults: tuple[str, ...] = ()
) -> CheckReport:
    verdict = SOUND
    if any(file.verdict == TORN for file in files):
        verdict = TORN
    if faults or any(index.faults for index in indexes) or any(file.verdict in (DAMAGED, MISSING) for file in files):
        verdict = DAMAGED
    return CheckReport(path, verdict, files, indexes, faults)
