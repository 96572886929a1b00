"""Every error that kektordb raises, as one tree.

::

    KektorError
    ├── ConfigError (ValueError)      unknown metric; bad option, index name, key or value of the key-value store
    ├── VectorError (ValueError)      wrong dimension, NaN or Inf, wrong dtype
    ├── MetadataError (ValueError)    metadata that is not a JSON object
    ├── IdError (ValueError)          an id that is no string of 1 to 1,024 bytes, or twice in one batch
    ├── DocumentError                 a file that cannot be read as what its name says
    ├── FilterError (ValueError)      .position .line .column, a message with a caret
    ├── IndexNotFound, ItemNotFound (KeyError)
    ├── IndexExists, ItemExists (ValueError)
    ├── DatabaseClosed
    ├── DatabaseLocked                names the process that holds the lock
    ├── ReadOnlyDatabase
    ├── ForkedHandle
    ├── ReplicationError
    │   ├── SnapshotNeeded            the records asked for are in no log any more
    │   └── HistoryDiverged           what was read is not what is there
    ├── TaskFailed                    its cause is what the task failed from
    ├── TaskNotFound (KeyError)
    ├── ServerError                   .status; of `connect` alone
    │   ├── ServerUnreachable (ConnectionError)
    │   └── AccessDenied (PermissionError)   no token, or one that may not do this
    ├── EmbedderError                 .permanent .status; an embedder gives no vectors, or wrong ones
    └── StorageError (OSError)
        ├── StorageFull               nothing moved; goes on when there is room
        ├── StorageFailed             a sync failed; read-only until reopened
        └── CorruptData               .path .offset
            ├── CorruptLog
            └── CorruptSnapshot
"""

from __future__ import annotations

__all__ = [
    "AccessDenied",
    "ConfigError",
    "CorruptData",
    "CorruptLog",
    "CorruptSnapshot",
    "DatabaseClosed",
    "DatabaseLocked",
    "DocumentError",
    "EmbedderError",
    "FilterError",
    "ForkedHandle",
    "HistoryDiverged",
    "IdError",
    "IndexExists",
    "IndexNotFound",
    "ItemExists",
    "ItemNotFound",
    "KektorError",
    "MetadataError",
    "ReadOnlyDatabase",
    "ReplicationError",
    "ServerError",
    "ServerUnreachable",
    "SnapshotNeeded",
    "StorageError",
    "StorageFailed",
    "StorageFull",
    "TaskFailed",
    "TaskNotFound",
    "VectorError",
]


class KektorError(Exception):
    """Base of every error raised by kektordb."""


class ConfigError(KektorError, ValueError):
    """An option, an index name, or a key or value of the key-value store is unknown or impossible."""


class VectorError(KektorError, ValueError):
    """A vector has the wrong dimension or dtype, or holds NaN or Inf."""


class MetadataError(KektorError, ValueError):
    """Metadata is not a JSON object that can be stored exactly."""


class IdError(KektorError, ValueError):
    """An id is not a string of 1 to 1,024 UTF-8 bytes, or stands twice in one batch."""


class FilterError(KektorError, ValueError):
    """A filter does not parse or cannot be evaluated.

    Parameters
    ----------
    message : str
        What was expected and what came.
    text : str
        The whole filter; empty when the filter was built in Python.
    position : int
        Offset of the offending character in `text`, from 0.

    Attributes
    ----------
    position, line, column : int
        Where it is; line and column count from 1.
    """

    def __init__(self, message: str, text: str = "", position: int = 0) -> None:
        self.position = position
        self.line = text.count("\n", 0, position) + 1
        line_start = text.rfind("\n", 0, position) + 1
        self.column = position - line_start + 1
        if text:
            line = text[line_start:].partition("\n")[0]
            message = pointed(f"{message} (line {self.line}, column {self.column})", line, self.column - 1)
        super().__init__(message)


def pointed(message: str, line: str, position: int) -> str:
    """Return a message with the line that it is about, and a caret below a place in it."""
    # A window around the place, so that the caret stays readable under a line of many kilobytes.
    shift = max(0, position - 60)
    window = line[shift : shift + 100].replace("\t", " ")
    return f"{message}\n  {window}\n  {' ' * (position - shift)}^"


class _NotFound(KektorError, KeyError):
    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0]) if self.args else ""


class DocumentError(KektorError):
    """A file is not what its name says, is too large, or needs a package that is not installed."""


class IndexNotFound(_NotFound):
    """No index has this name (any more)."""


class ItemNotFound(_NotFound):
    """No item has this id (any more)."""


class IndexExists(KektorError, ValueError):
    """An index of this name exists already."""


class ItemExists(KektorError, ValueError):
    """An item of this id exists already."""


class DatabaseClosed(KektorError):
    """The database was closed."""


class DatabaseLocked(KektorError):
    """Another process, or this one, has the database open for writing."""


class ReadOnlyDatabase(KektorError):
    """A write to a database that was opened with ``read_only=True``."""


class ForkedHandle(KektorError):
    """A database that was opened before ``fork`` is used in the child process."""


class ReplicationError(KektorError):
    """A database cannot follow another one."""


class SnapshotNeeded(ReplicationError):
    """The records asked for are in no log any more: only a snapshot has what they did."""


class HistoryDiverged(ReplicationError):
    """The records of a follower or reader are not those of the database that it follows."""


class TaskFailed(KektorError):
    """A task that was waited for failed, for the reason that is its cause, or was cancelled."""


class TaskNotFound(_NotFound):
    """No task has this id, or it ended so long ago that it was forgotten."""


class ServerError(KektorError):
    """A server could not do what it was asked for: it is busy, or something is wrong with it.

    Attributes
    ----------
    status : int or None
        Of the HTTP answer; None without one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ServerUnreachable(ServerError, ConnectionError):
    """No answer came from the server in time, or what came is none. A write may have happened."""


class AccessDenied(ServerError, PermissionError):
    """The server asks for a token, or for one that may do more."""


class EmbedderError(KektorError):
    """An embedder gave no vectors for texts, or such that cannot be used; nothing was stored.

    Attributes
    ----------
    permanent : bool
        Another try with the same texts would fail as well: the answer is refused, or has the wrong form or dimension.
    status : int or None
        Of the HTTP answer; None without one.
    retry_after_s : float
        Seconds after which the service wants to be asked again; 0 when it did not say.
    """

    def __init__(
        self, message: str, *, permanent: bool = False, status: int | None = None, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.status = status
        self.retry_after_s = retry_after_s


class StorageError(KektorError, OSError):
    """Reading or writing a file failed."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class StorageFull(StorageError):
    """No room: nothing was written, and writing goes on when there is room."""


class StorageFailed(StorageError):
    """A write could not be made durable; the database is read-only until it is opened again."""


class CorruptData(StorageError):
    """A file holds bytes that are not what was written.

    Attributes
    ----------
    path : str
        The damaged file.
    offset : int
        Where the damage was found.
    """

    def __init__(self, message: str, path: str = "", offset: int = 0) -> None:
        super().__init__(f"{path}: {message} (at byte {offset})" if path else message)
        self.path = path
        self.offset = offset


class CorruptLog(CorruptData):
    """A record of the log that had been made durable is damaged."""


class CorruptSnapshot(CorruptData):
    """A snapshot or the manifest is damaged."""
