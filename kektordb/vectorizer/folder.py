"""Which files does a folder hold, and what is in them? Nothing outside of it, whatever links say."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kektordb.documents import LIMIT_BYTES, SUFFIXES, Document, parse
from kektordb.errors import ConfigError, DocumentError
from kektordb.vectorizer.patterns import Patterns
from kektordb.vectorizer.sources import Entry, Scan

__all__ = ["FolderSource"]

# A file that changed so short before it was looked at may change again with the same time and size: clocks of file
# systems tick every 2 s on the coarsest.
FRESH_NS = 2_000_000_000


class FolderSource:
    """The files of a folder and of the folders in it.

    A link to a file in the folder is followed; a link that leads out of it, and any link to a folder, is not.

    Parameters
    ----------
    path : str or path
        Of the folder.
    include_patterns : sequence of str
        Files that are meant; see `Patterns`. By default those whose suffix says that there is text in them.
    exclude_patterns : sequence of str
        Files and folders that are not meant.
    include_hidden : bool
        Whether names that begin with a dot are meant.
    limit_bytes : int
        A larger file fails.
    now : callable
        Nanoseconds of the clock that files have.

    Raises
    ------
    ConfigError
        It is not a folder now.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        include_patterns: Sequence[str] = (),
        exclude_patterns: Sequence[str] = (),
        include_hidden: bool = False,
        limit_bytes: int = LIMIT_BYTES,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = Path(path)
        self._include = Patterns(include_patterns)
        self._exclude = Patterns(exclude_patterns)
        self._include_hidden = include_hidden
        self._limit_bytes = limit_bytes
        self._now = now
        if not self._path.is_dir():
            raise ConfigError(f"expected a folder, got {os.fspath(path)!r}")
        self._path = self._path.absolute()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    def scan(self) -> Scan:
        """See `Source`."""
        root = os.path.realpath(self._path)
        entries: dict[str, Entry] = {}
        holes: list[tuple[str, str]] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(root, folder)) as found:
                    for one in found:
                        self._look(one, folder, root, entries, folders, holes)
            except OSError as error:
                if not folder:
                    raise DocumentError(f"the folder cannot be read: {error.strerror}") from error
                if not isinstance(error, FileNotFoundError | NotADirectoryError):
                    holes.append((_readable(folder) + "/", error.strerror or type(error).__name__))
        ordered = [entries[key] for key in sorted(entries)]
        return Scan(ordered, len(ordered), holes)

    def _look(
        self,
        one: os.DirEntry[str],
        folder: str,
        root: str,
        entries: dict[str, Entry],
        folders: list[str],
        holes: list[tuple[str, str]],
    ) -> None:
        path = f"{folder}/{one.name}" if folder else one.name
        if (one.name.startswith(".") and not self._include_hidden) or self._exclude.match(path):
            return
        if one.is_dir(follow_symlinks=False):
            folders.append(path)
            return
        if not self._is_meant(path):
            return
        try:
            if one.is_symlink() and not _is_below(os.path.realpath(one.path), root):
                return
            status = one.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            holes.append((_readable(path), error.strerror or type(error).__name__))
            return
        if stat.S_ISREG(status.st_mode):
            key = _readable(path)
            # Two names that cannot be told apart as text: one of them is left out.
            if key not in entries or key == path:
                entries[key] = Entry(key, self._stamp(status), self._fields(key, status), path)

    def _is_meant(self, path: str) -> bool:
        if len(self._include):
            return self._include.match(path)
        return os.path.splitext(path)[1].lower() in SUFFIXES

    def _stamp(self, status: os.stat_result) -> str:
        if abs(self._now() - status.st_mtime_ns) < FRESH_NS:
            return ""
        return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"

    def _fields(self, key: str, status: os.stat_result) -> dict[str, Any]:
        try:
            mod_time = datetime.fromtimestamp(int(status.st_mtime), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        except (OverflowError, ValueError, OSError):
            mod_time = ""
        return {"file_path": key, "mod_time": mod_time, "file_size": status.st_size}

    def read(self, entry: Entry) -> Document:
        """See `Source`."""
        root = os.path.realpath(self._path)
        # The real path is opened without following a link, and looked at again when it is open: what is read lies in
        # the folder even if somebody puts links in place of files or folders meanwhile.
        path = os.path.realpath(os.path.join(root, entry.given))
        if not _is_below(path, root):
            raise DocumentError("it is a link that leads out of the folder")
        flags = os.O_RDONLY
        for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"):
            flags |= getattr(os, name, 0)
        with open(os.open(path, flags), "rb") as file:
            opened = os.fstat(file.fileno())
            if not stat.S_ISREG(opened.st_mode):
                raise DocumentError("it is no file")
            there = os.stat(os.path.realpath(path))
            if os.path.realpath(path) != path or (there.st_dev, there.st_ino) != (opened.st_dev, opened.st_ino):
                raise FileNotFoundError(f"{entry.key} was replaced while it was opened")
            if opened.st_size > self._limit_bytes:
                raise DocumentError(f"it has {opened.st_size:,} bytes, more than {self._limit_bytes:,}")
            data = file.read(self._limit_bytes + 1)
        return parse(data, entry.key, limit_bytes=self._limit_bytes)


def _is_below(path: str, root: str) -> bool:
    return path.startswith(root if root.endswith(os.sep) else root + os.sep)


def _readable(path: str) -> str:
    """Return a path as text, also where the file system holds bytes that are none."""
    path = path.replace(os.sep, "/")
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    return path
