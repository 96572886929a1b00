"""How does a verb that waits become one that is awaited? Threads of the database's own call it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from kektordb.errors import DatabaseClosed

__all__ = ["Awaited", "Runs", "Threads", "once_begun", "reading", "writing"]

P = ParamSpec("P")
T = TypeVar("T")
Target = TypeVar("Target")
Target_co = TypeVar("Target_co", covariant=True)


class Runs(Protocol):
    """What calls functions in threads of its own."""

    async def read(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what changes nothing."""
        ...

    async def write(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what may wait for other writes."""
        ...


class Awaited(Generic[Target_co]):
    """What has the verbs of a target, awaited."""

    def __init__(self, runs: Runs, target: Target_co) -> None:
        self._runs = runs
        self._target = target


def reading(
    verb: Callable[Concatenate[Target, P], T],
) -> Callable[Concatenate[Awaited[Target], P], Coroutine[Any, Any, T]]:
    """Return a verb of the target that changes nothing, awaited."""

    @wraps(verb)
    async def awaited(self: Awaited[Target], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._runs.read(verb, self._target, *args, **kwargs)

    return awaited


def writing(
    verb: Callable[Concatenate[Target, P], T],
) -> Callable[Concatenate[Awaited[Target], P], Coroutine[Any, Any, T]]:
    """Return a verb of the target that may wait for other writes, awaited."""

    @wraps(verb)
    async def awaited(self: Awaited[Target], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._runs.write(verb, self._target, *args, **kwargs)

    return awaited


class Threads:
    """Threads that call functions for coroutines.

    A call whose awaiting is cancelled before a thread took it never begins; one that began goes on to its end.

    Parameters
    ----------
    name : str
        The threads' names begin with it.
    n_readers : int
    n_writers : int
        Threads for writes alone, which may all wait while reads go on; 0 to share those for reading.
    """

    def __init__(self, name: str, n_readers: int, n_writers: int = 0) -> None:
        self._readers = ThreadPoolExecutor(n_readers, thread_name_prefix=name)
        self._writers = ThreadPoolExecutor(n_writers, f"{name}-writer") if n_writers else self._readers

    async def read(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what changes nothing."""
        return await asyncio.wrap_future(submit(self._readers, call, *args, **kwargs))

    async def write(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what may wait for other writes."""
        return await asyncio.wrap_future(submit(self._writers, call, *args, **kwargs))

    async def close(self, close: Callable[[], object]) -> None:
        """Wait until what is under way has ended, then call `close`; both happen even when this is cancelled."""

        def end() -> None:
            self._writers.shutdown()
            self._readers.shutdown()
            close()

        with_end = ThreadPoolExecutor(1)
        future = with_end.submit(end)
        with_end.shutdown(wait=False)
        await once_begun(future)


async def once_begun(future: Future[T]) -> T:
    """Wait for what goes on to its end even when this is cancelled, also before it began."""
    return await asyncio.shield(asyncio.wrap_future(future))


def submit(threads: ThreadPoolExecutor, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Let a thread make a call. Raises DatabaseClosed when there are none any more."""
    try:
        return threads.submit(partial(call, *args, **kwargs))
    except RuntimeError:
        raise DatabaseClosed("the database was closed") from None
