"""Where are vectors kept that shall not be made twice? In one file, beside any database."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

__all__ = ["FileCache"]

_log = logging.getLogger("kektordb")


class FileCache(MutableMapping[str, bytes]):
    """Pairs in one file, for any number of threads and processes at a time. What is lost with it is only time.

    So a file that is damaged, locked or full is no error, but a warning in the log, and nothing is found in it.

    Parameters
    ----------
    path : str or path
        Of a SQLite database; made when it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self._is_broken = False
        self._has_warned = False

    def _ask(self, command: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Return what a command finds: nothing when the file cannot be used."""
        return self._do(lambda file: file.execute(command, arguments).fetchall())

    def _do(self, work: Callable[[sqlite3.Connection], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
        with self._lock:
            if self._is_broken:
                return []
            try:
                if self._file is None or self._pid != os.getpid():
                    # One that was opened before a fork is the parent's: it is neither used nor closed.
                    self._inherited, self._file, self._pid = self._file, None, os.getpid()
                    self._file = self._opened()
                with self._file:
                    return work(self._file)
            except sqlite3.Error as error:
                if not self._has_warned:
                    self._has_warned = True
                    _log.warning("the cache of embeddings %r cannot be used: %s", self._path, error)
                # A lock or a full disk may be over later; a file that is none is not mended.
                self._is_broken = self._file is None or not isinstance(error, sqlite3.OperationalError)
                return []

    def _opened(self) -> sqlite3.Connection:
        file = sqlite3.connect(self._path, timeout=5.0, check_same_thread=False)
        try:
            # A vector that is lost with the power is made again.
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = OFF")
            file.execute("CREATE TABLE IF NOT EXISTS pairs (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        except sqlite3.Error:
            file.close()
            raise
        return file

    def __getitem__(self, key: str) -> bytes:
        found = self._ask("SELECT value FROM pairs WHERE key = ?", key)
        if not found or not isinstance(found[0][0], bytes):
            raise KeyError(key)
        return found[0][0]

    def __setitem__(self, key: str, value: bytes) -> None:
        self.update({key: value})

    def update(self, pairs: Any = (), /, **more: bytes) -> None:
        """Set many keys in one transaction."""
        rows = list(dict(pairs, **more).items())
        self._do(lambda file: file.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?)", rows).fetchall())

    def __delitem__(self, key: str) -> None:
        self._ask("DELETE FROM pairs WHERE key = ?", key)

    def __iter__(self) -> Iterator[str]:
        return iter([str(key) for (key,) in self._ask("SELECT key FROM pairs ORDER BY key")])

    def __len__(self) -> int:
        found = self._ask("SELECT count(*) FROM pairs")
        return int(found[0][0]) if found else 0

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self.close()

    def __repr__(self) -> str:
        return f"<FileCache {self._path!r}>"
