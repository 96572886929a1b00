"""How is the answer of a stranger read? A socket that gives no more bytes, and waits no longer, than it may."""

from __future__ import annotations

import io
import math
import socket
import time

__all__ = ["BoundedSocket", "TooMuch"]


class TooMuch(OSError):
    """More bytes came than may."""


class BoundedSocket(io.RawIOBase):
    """The reading side of a socket for one answer, head included, in place of the socket of `http.client`.

    Parameters
    ----------
    sock : socket
    seconds : float
        For all of it, beside a second for each `min_bytes_per_s` that came.
    max_bytes : int
    min_bytes_per_s : int

    Raises, when it is read, TimeoutError and TooMuch.
    """

    def __init__(self, sock: socket.socket, seconds: float, max_bytes: int, min_bytes_per_s: int) -> None:
        self._sock = sock
        # Also keeps the socket open when the connection closes before the answer was read.
        self._raw = sock.makefile("rb", buffering=0)
        self._until = time.monotonic() + seconds
        self._max_bytes = max_bytes
        self._min_bytes_per_s = min_bytes_per_s
        self._n_bytes = 0

    def makefile(self, mode: str) -> io.BufferedReader:
        """Do what that of a socket does, for the answer."""
        assert mode == "rb"
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        left = self._until + self._n_bytes / self._min_bytes_per_s - time.monotonic()
        if left <= 0 or not math.isfinite(left):
            raise TimeoutError("it comes too slowly")
        if self._n_bytes >= self._max_bytes:
            raise TooMuch(f"more than {self._max_bytes:,} bytes come")
        self._sock.settimeout(left)
        n: int | None = self._raw.readinto(buffer)
        self._n_bytes += n or 0
        return n

    def close(self) -> None:
        self._raw.close()
        super().close()
