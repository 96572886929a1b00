"""Which files are opened together with a store, and what must hold between them."""

from __future__ import annotations

import msgspec

from ..errors import CorruptData, CorruptSnapshot
from .backend import Backend
from .directory import Directory, naming_errors, snapshot_name
from .recovery import Replay
from .snapshot import Snapshot, SnapshotFiles, open_snapshot

__all__ = ["Opened", "backup_file", "open_files", "open_newest", "snapshot_files"]

# A reader may come between the publications of a busy writer; this often in a row it is something else.
READ_ONLY_TRIES = 10


class Opened(msgspec.Struct, frozen=True):
    """What `open_files` found; a backup file has neither directory nor replay, a new directory no snapshot."""

    directory: Directory | None
    snapshot: Snapshot | None
    replay: Replay | None


def open_files(path: str, backend: Backend, *, read_only: bool, recover: bool) -> Opened:
    """Open a directory, or with `read_only` perhaps a backup file. On an error nothing stays open or locked.

    Raises DatabaseLocked, CorruptData, StorageError.
    """
    if read_only and backend.exists(path) and not backend.is_dir(path):
        with naming_errors(f"cannot open {path}"):
            return Opened(None, open_snapshot(backup_file(path, backend), 0, None, None), None)
    directory = Directory(path, backend, read_only)
    directory.open()
    tries = READ_ONLY_TRIES if read_only else 1
    try:
        while True:
            try:
                return _open_named(directory, recover)
            except CorruptData:
                # A writer may have published a new set and removed the old one between our looks at it.
                tries -= 1
                if not tries or not _has_moved(directory):
                    raise
    except BaseException:
        directory.unlock()
        raise


def open_newest(directory: Directory, number: int, check: int) -> Snapshot:
    """Open the snapshot of this number, whose table has this check. Raises CorruptSnapshot, StorageError."""
    files = snapshot_files(directory)
    try:
        with naming_errors(f"cannot open {files.path_of(number)}"):
            return open_snapshot(files, number, directory.manifest.uuid, check)
    except BaseException:
        files.close()
        raise


def _open_named(directory: Directory, recover: bool) -> Opened:
    manifest = directory.manifest
    snapshot = None
    try:
        if manifest.snapshot:
            snapshot = open_newest(directory, manifest.snapshot, manifest.snapshot_check)
        covered = 0 if snapshot is None else snapshot.seq
        if not manifest.logs or manifest.logs[0].seq != covered:
            raise CorruptSnapshot("the snapshot and the logs do not meet", directory.path)
        with naming_errors(f"cannot open the logs of {directory.path}"):
            replay = Replay(directory, recover)
    except BaseException:
        if snapshot is not None:
            snapshot.close()
        raise
    return Opened(directory, snapshot, replay)


def _has_moved(directory: Directory) -> bool:
    old = directory.manifest
    directory.open()
    return directory.manifest != old


def snapshot_files(directory: Directory) -> SnapshotFiles:
    """Return the snapshot files of a directory, by number."""
    return SnapshotFiles(
        lambda number: directory.join(snapshot_name(number)),
        lambda number: directory.open_file(snapshot_name(number), "read"),
    )


def backup_file(path: str, backend: Backend) -> SnapshotFiles:
    """Return a backup, whatever number it is asked for by."""
    return SnapshotFiles(lambda _: path, lambda _: backend.open(path, "read"))
