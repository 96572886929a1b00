"""A disk that tells of each call before it is made, so that a test can let something happen between any two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from faults import MemoryBackend

from kektordb.storage.backend import Buffer, File, Mode

__all__ = ["Watched"]


class Watched:
    """A backend that tells a function of each call before it is made."""

    def __init__(self, disk: MemoryBackend, tell: Callable[[str, str], None]) -> None:
        self._disk = disk
        self._tell = tell

    def __getattr__(self, name: str) -> Any:
        def call(path: str, *args: Any) -> Any:
            self._tell(name, path)
            return getattr(self._disk, name)(path, *args)

        return call

    def open(self, path: str, mode: Mode) -> File:
        self._tell("open", path)
        return _WatchedFile(self._disk.open(path, mode), path, self._tell)


class _WatchedFile:
    def __init__(self, file: File, path: str, tell: Callable[[str, str], None]) -> None:
        self._file = file
        self._path = path
        self._tell = tell

    def pread(self, n: int, offset: int) -> bytes:
        self._tell("pread", self._path)
        return self._file.pread(n, offset)

    def pread_into(self, target: memoryview, offset: int) -> int:
        self._tell("pread_into", self._path)
        return self._file.pread_into(target, offset)

    def size(self) -> int:
        self._tell("size", self._path)
        return self._file.size()

    def writev(self, parts: Sequence[Buffer]) -> int:
        raise AssertionError("a reader writes nothing")

    def truncate(self, size: int) -> None:
        raise AssertionError("a reader writes nothing")

    def sync(self) -> None:
        self._tell("sync", self._path)
        self._file.sync()

    def close(self) -> None:
        self._file.close()
