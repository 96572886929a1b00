"""What becomes of a connection whose other side reads no more? It is ended when its answer lies there for too long."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Drain"]

# An answer that is taken more slowly than this, after its first seconds, is given up.
MIN_BYTES_PER_S = 16 << 10


class Drain:
    """Looks at the connections of a server, all of them with one timer, while there are any.

    Parameters
    ----------
    seconds : float
        For an answer to be taken, beside a second for each 16 KiB of it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadlines: dict[asyncio.Transport, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connections: set[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look at protocols, those that come to the set as well."""
        if self._timer is None:
            self._timer = loop.call_later(self._seconds / 4, self._look, connections, loop)

    def progressed(self, transport: asyncio.Transport) -> None:
        """Note that what was waiting on a connection was taken."""
        self._deadlines.pop(transport, None)

    def _look(self, connections: set[Any], loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        waiting = {}
        for protocol in list(connections):
            transport = protocol.transport
            n_bytes = transport.get_write_buffer_size()
            if not n_bytes:
                continue
            deadline = self._deadlines.get(transport, now + self._seconds + n_bytes / MIN_BYTES_PER_S)
            if now < deadline:
                waiting[transport] = deadline
            else:
                transport.abort()  # `close` would wait until the rest is taken
        self._deadlines = waiting
        self._timer = None
        if connections:
            self.watch(connections, loop)
