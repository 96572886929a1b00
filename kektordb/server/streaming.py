"""How does an answer go out that is larger than memory? Piece by piece, from a thread, as fast as it is taken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kektordb.server.errors import HttpError
from kektordb.server.options import Limits
from kektordb.storage import Position
from kektordb.storage.feed import HANDOVER_LENGTH
from kektordb.storage.shipping import Handover, decode_message

__all__ = ["Stream", "Streams", "gone"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Produce = Callable[[Callable[[bytes], object]], None]


async def gone(receive: Receive) -> None:
    """Return when nobody waits for the answer any more; the body of the request was read or there is none."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Streams:
    """The threads of such answers.

    Parameters
    ----------
    limits : Limits
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.max_snapshots, thread_name_prefix="kektordb-snapshot")
        self._n = 0

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown()

    async def run(self, produce: Produce, stream: Stream) -> None:
        """Let a snapshot be produced in a thread and passed on. Raises HttpError, and what ended it."""
        if self._n >= self._limits.max_snapshots:
            raise HttpError(503, "too many snapshots are being taken", headers=((b"retry-after", b"5"),))
        loop = asyncio.get_running_loop()
        self._n += 1
        future = self._threads.submit(produce, stream.write)
        future.add_done_callback(lambda _: self._leave(loop))
        await asyncio.wrap_future(future)

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # The loop has ended, and with it the count.
            loop.call_soon_threadsafe(self._left)

    def _left(self) -> None:
        self._n -= 1


class Stream:
    """A snapshot on its way to a follower.

    Parameters
    ----------
    receive, send : callable
        Of ASGI.
    is_head : bool
        Only the head is wanted.
    stall_s : float
        A piece that is not taken for so long ends it.

    Attributes
    ----------
    begun : bool
        The head is sent: what goes wrong now can only be shown by an end that is none.
    """

    def __init__(self, receive: Receive, send: Send, is_head: bool, stall_s: float) -> None:
        self.begun = False
        self._send = send
        self._is_head = is_head
        self._stall_s = stall_s
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._gone = asyncio.ensure_future(gone(receive))

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._gone.done()

    def write(self, data: bytes) -> None:
        """Pass a piece on, and wait until the next one may come; called in a thread. Raises ConnectionError."""
        if self._over:
            raise ConnectionAbortedError("the answer was given up")
        future = asyncio.run_coroutine_threadsafe(self._pass(data), self._loop)
        try:
            future.result(self._stall_s)
        except TimeoutError:
            future.cancel()
            raise ConnectionAbortedError("the follower takes nothing") from None

    async def _pass(self, data: bytes) -> None:
        if self._over or self._gone.done():
            raise ConnectionAbortedError("the follower went away")
        if not self.begun:
            headers = [(b"content-type", b"application/octet-stream"), (b"kektordb-position", _position(data))]
            self.begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        if self._is_head:
            raise ConnectionAbortedError("the head is all that was wanted")
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Say that this was all."""
        await self._send({"type": "http.response.body", "body": b""})

    def close(self) -> None:
        """Let no more pass."""
        self._over = True
        if self._gone.done():
            self._gone.exception()  # looked at
        self._gone.cancel()


def _position(start: bytes) -> bytes:
    """Return the position at which a snapshot ends that starts like this."""
    handover = decode_message(start[HANDOVER_LENGTH.size :], Handover)
    return str(Position(handover.history, handover.seq, handover.digest)).encode()
