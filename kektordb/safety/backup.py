"""How does a database become one file while it is in use, and such a file a database again?"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from kektordb.errors import StorageError
from kektordb.interrupts import Uninterrupted, in_slices
from kektordb.progress import Progress, check_progress, show
from kektordb.storage import OsBackend, SaveReport, restore_archive, write_archive
from kektordb.storage.codec import FileHeader
from kektordb.storage.directory import Directory
from kektordb.validation import check_path

if TYPE_CHECKING:
    from kektordb.database import Database

__all__ = ["backup", "require_empty", "restore"]

# Files that are being written, so that two threads do not write the same one.
_targets: set[str] = set()
_targets_lock = threading.Lock()


def backup(database: Database, path: str | os.PathLike[str], progress: Progress) -> SaveReport:
    """Do what `Database.backup` says."""
    check_progress(progress)
    # A link is followed: the file that it names is replaced, not the link.
    target = os.path.realpath(check_path(path))
    database._live()
    database._commits.lock.refuse_holder()
    with database._save_lock.alone, Uninterrupted(in_slices=True), _Target(target):
        # Under the commit lock, shortly: freeze a view of the state.
        with database._commits.lock.alone:
            database._live()
            database._commits.require_applied()
            store = database._store
            # What is needed of the store now: a refresh may exchange it meanwhile.
            header, backend = FileHeader(os.urandom(16), 1, 0, 0), None
            if store is not None:
                header, backend = store.backup_header(target, store.last_seq), store.backend
            frozen = database._state.freeze(whole=True)
        try:
            total = sum(section.n_bytes for section in frozen.sections)
            with show(progress, total, "backing up", "B") as step:
                told = None if step is None else lambda done, _: step(done)
                started_at = time.monotonic()
                written = write_archive(target, header, frozen.meta, frozen.sections, told, backend)
                return written.report(time.monotonic() - started_at)
        finally:
            with database._commits.lock.alone:
                frozen.thaw(saved=False)


class _Target:
    """A file that is being written by one backup at a time."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        with _targets_lock:
            if self._path in _targets:
                raise StorageError(f"a backup to {self._path} is being written already")
            _targets.add(self._path)

    def __exit__(self, *_: object) -> None:
        with _targets_lock:
            _targets.discard(self._path)


def require_empty(path: str) -> None:
    """Raise StorageError unless a directory may become a database: it is not there, empty, or was left unfinished."""
    Directory(path, OsBackend(), read_only=False).require_empty()


@in_slices
def restore(file: str | os.PathLike[str], path: str | os.PathLike[str], *, progress: Progress = False) -> None:
    """Make a database directory of a backup.

    Every byte of the backup is verified first. If the process is killed meanwhile, what is there does not open, and
    `restore` may be called again.

    Parameters
    ----------
    file : str or path
        What `Database.backup` wrote.
    path : str or path
        A directory that is empty, or not there.
    progress : bool or callable
        True shows a bar; a function is called with (done, total) bytes.

    Raises
    ------
    CorruptSnapshot
        A byte of the backup is damaged; `repair` makes a database of what is left.
    StorageError, StorageFull, DatabaseLocked, ConfigError
        Also when there is anything in the directory. Nothing was made.
    """
    source, target = os.path.abspath(check_path(file)), os.path.abspath(check_path(path))
    check_progress(progress)
    try:
        total = os.stat(source).st_size
    except OSError as error:
        raise StorageError(f"cannot read {source}: {error.strerror or error}") from error
    with show(progress, total, "restoring", "B") as step:
        restore_archive(source, target, None if step is None else lambda done, _: step(done))
