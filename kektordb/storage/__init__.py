"""Files: an append-only log of records, snapshots of named sections of bytes, and the directory that holds them."""

from .backend import Backend, File, Lock, OsBackend
from .log import Record
from .snapshot import Snapshot
from .store import RecoveryReport, Save, SaveReport, Store

__all__ = [
    "Backend",
    "File",
    "Lock",
    "OsBackend",
    "Record",
    "RecoveryReport",
    "Save",
    "SaveReport",
    "Snapshot",
    "Store",
]
