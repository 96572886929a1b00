"""Files: an append-only log of records, snapshots of named sections of bytes, and the directory that holds them."""

from .adopting import adopt
from .archive import restore_archive, write_archive, write_directory
from .backend import Backend, File, Lock, OsBackend
from .feed import Feed
from .inspection import Damage, FileReport, inspect_files
from .log import Record
from .shipping import Position
from .snapshot import Snapshot
from .store import RecoveryReport, Save, SaveReport, Store

__all__ = [
    "Backend",
    "Damage",
    "Feed",
    "File",
    "FileReport",
    "Lock",
    "OsBackend",
    "Position",
    "Record",
    "RecoveryReport",
    "Save",
    "SaveReport",
    "Snapshot",
    "Store",
    "adopt",
    "inspect_files",
    "restore_archive",
    "write_archive",
    "write_directory",
]
