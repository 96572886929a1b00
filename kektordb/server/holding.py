"""How is a request held until there is something for it? Without a thread; a write of the database wakes those held."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from kektordb.storage import Store

__all__ = ["Held"]

# What comes without a record, a promotion for example, is looked for so often.
LOOK_S = 1.0


class Held:
    """The requests that wait for something new in a database.

    Parameters
    ----------
    store : Store or None
        Whose appended records wake them; None when there are none.
    limit : int
        Requests beyond it are not held, but answered with what there is.
    """

    def __init__(self, store: Store | None, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: set[asyncio.Future[None]] = set()
        self._released = False
        if store is not None:
            store.watchers = (*store.watchers, self.wake)

    def __len__(self) -> int:
        return len(self._waiting)

    async def hold(self, left_s: Callable[[float], float], gone: asyncio.Future[None]) -> None:
        """Return when `left_s`, given the seconds so far, says 0, when `gone` is done, or after `release`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not gone.done():
            news: asyncio.Future[None] = loop.create_future()
            with self._lock:
                if self._released or len(self._waiting) >= self._limit:
                    return
                self._waiting.add(news)
            try:
                # Looked at after it is in the set: what comes from here on wakes it.
                seconds = left_s(loop.time() - began)
                if seconds <= 0:
                    return
                await asyncio.wait((gone, news), timeout=min(seconds, LOOK_S), return_when=asyncio.FIRST_COMPLETED)
            finally:
                with self._lock:
                    self._waiting.discard(news)

    def wake(self) -> None:
        """Let all look; from any thread, and soon done: a writer waits for it."""
        if not self._waiting:
            return
        with self._lock:
            # Who looks and finds nothing comes back; until then further records need not wake it.
            woken = list(self._waiting)
            self._waiting.clear()
        for news in woken:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                news.get_loop().call_soon_threadsafe(_finish, news)

    def release(self) -> None:
        """Hold nobody any more."""
        with self._lock:
            self._released = True
        self.wake()

    def close(self) -> None:
        """Be woken no more."""
        self.release()
        if self._store is not None:
            self._store.watchers = tuple(watcher for watcher in self._store.watchers if watcher != self.wake)


def _finish(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)
