"""How a large file is written without waiting: one thread writes and syncs behind the one that makes the bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType

from .backend import Buffer, File, write_all
from .workers import Workers

__all__ = ["Pipe"]

MAX_WAITING = 8  # blocks held in memory until they are written
SYNC_BYTES = 64 << 20  # how much the disk may lag behind, so that the last sync has little left to do


class Pipe:
    """An empty file that is filled from its start to its end; used as a context.

    Attributes
    ----------
    end : int
        How much was given to it.
    """

    def __init__(self, file: File, *, threaded: bool) -> None:
        self.end = 0
        self._file = file
        self._unsynced = 0
        self._waiting: deque[Future[None]] = deque()
        self._executor = Workers(1, "kektordb-save") if threaded else None

    def __enter__(self) -> Pipe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def write(self, parts: Sequence[Buffer]) -> int:
        """Append; return the offset at which the first part comes to lie. Raises OSError, maybe of an earlier one."""
        offset = self.end
        self.end += sum(map(len, parts))
        if self._executor is None:
            self._write(parts)
            return offset
        self._waiting.append(self._executor.submit(self._write, parts))
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft().result()
        return offset

    def finish(self) -> None:
        """Wait until everything is written and durable. Raises OSError."""
        while self._waiting:
            self._waiting.popleft().result()
        self._file.sync()

    def _write(self, parts: Sequence[Buffer]) -> None:
        for part in parts:
            write_all(self._file, part)
            self._unsynced += len(part)
        if self._unsynced >= SYNC_BYTES:
            self._unsynced = 0
            self._file.sync()
