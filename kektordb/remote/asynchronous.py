"""How is a database on a server used from asyncio? Each verb is awaited; threads of its own send the requests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from kektordb.remote.database import RemoteDatabase
from kektordb.remote.index import RemoteIndex
from kektordb.remote.tasks import RemoteTask
from kektordb.remote.transport import MAX_KEPT, Transport

__all__ = ["AsyncDatabase", "AsyncIndex", "AsyncKeys", "connect_async"]

P = ParamSpec("P")
T = TypeVar("T")


def connect_async(
    url: str,
    *,
    token: str | None = None,
    timeout: float = 30.0,
    retries: int = 2,
    ca_file: str | os.PathLike[str] | None = None,
    verify: bool = True,
) -> AsyncDatabase:
    """Use a database that a server has from asyncio; see `connect`.

    Parameters
    ----------
    url : str
        Such as ``http://localhost:9091``.
    token : str, optional
    timeout : float
        Seconds.
    retries : int
    ca_file : str or path, optional
    verify : bool

    Returns
    -------
    AsyncDatabase

    Raises
    ------
    ConfigError
    """
    return AsyncDatabase(RemoteDatabase(Transport(url, token, timeout, retries, ca_file=ca_file, verify=verify)))


def _of_index(
    verb: Callable[Concatenate[RemoteIndex, P], T],
) -> Callable[Concatenate[AsyncIndex, P], Coroutine[Any, Any, T]]:
    @wraps(verb)
    async def awaited(self: AsyncIndex, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.run(verb, self._index, *args, **kwargs)

    return awaited


def _of_database(
    verb: Callable[Concatenate[RemoteDatabase, P], T],
) -> Callable[Concatenate[AsyncDatabase, P], Coroutine[Any, Any, T]]:
    @wraps(verb)
    async def awaited(self: AsyncDatabase, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(verb, self._remote, *args, **kwargs)

    return awaited


class AsyncIndex:
    """A handle to one index of a server: the verbs of `RemoteIndex`, awaited."""

    def __init__(self, database: AsyncDatabase, index: RemoteIndex) -> None:
        self._database = database
        self._index = index

    @property
    def name(self) -> str:
        """The name of the index."""
        return self._index.name

    add = _of_index(RemoteIndex.add)
    upsert = _of_index(RemoteIndex.upsert)
    add_batch = _of_index(RemoteIndex.add_batch)
    upsert_batch = _of_index(RemoteIndex.upsert_batch)
    add_texts = _of_index(RemoteIndex.add_texts)
    attach_embedder = _of_index(RemoteIndex.attach_embedder)
    delete = _of_index(RemoteIndex.delete)
    update_metadata = _of_index(RemoteIndex.update_metadata)
    search = _of_index(RemoteIndex.search)
    search_batch = _of_index(RemoteIndex.search_batch)
    get = _of_index(RemoteIndex.get)
    get_many = _of_index(RemoteIndex.get_many)
    ids = _of_index(RemoteIndex.ids)
    count = _of_index(RemoteIndex.count)
    explain = _of_index(RemoteIndex.explain)
    fields = _of_index(RemoteIndex.fields)
    stats = _of_index(RemoteIndex.stats)
    check_recall = _of_index(RemoteIndex.check_recall)
    configure = _of_index(RemoteIndex.configure)
    vacuum = _of_index(RemoteIndex.vacuum)
    refine = _of_index(RemoteIndex.refine)
    calibrate = _of_index(RemoteIndex.calibrate)
    compress = _of_index(RemoteIndex.compress)

    def __repr__(self) -> str:
        return f"<AsyncIndex {self.name!r}>"


class AsyncKeys:
    """The key-value store of a server, awaited."""

    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database
        self._keys = database._remote.kv

    async def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None."""
        return await self._database.run(self._keys.get, key)

    async def set(self, key: str, value: bytes | bytearray | memoryview | str) -> None:
        """Set a key; a str is stored as its UTF-8 bytes."""
        await self._database.run(self._keys.__setitem__, key, value)

    async def delete(self, key: str) -> None:
        """Delete a key. Raises KeyError when it is not there."""
        await self._database.run(self._keys.__delitem__, key)

    async def prefix(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with `prefix`, in key order."""
        return await self._database.run(lambda: [*self._keys.prefix(prefix)])


class AsyncDatabase:
    """A database on a server, with the verbs and errors of `RemoteDatabase`, awaited. Made by `connect_async`.

    Up to 16 requests are under way at a time. One whose awaiting is cancelled goes on to its end. It is an asynchronous
    context manager that closes the connections.
    """

    def __init__(self, remote: RemoteDatabase) -> None:
        self._remote = remote
        self._threads = ThreadPoolExecutor(MAX_KEPT, thread_name_prefix="kektordb-client")
        self.kv = AsyncKeys(self)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in one of the threads that send requests."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    async def close(self) -> None:
        """Close the connections when what is under way has ended."""
        await asyncio.to_thread(self._threads.shutdown)
        self._remote.close()

    async def __aenter__(self) -> AsyncDatabase:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @wraps(RemoteDatabase.create_index)
    async def create_index(self, *args: Any, **kwargs: Any) -> AsyncIndex:
        """Make an index; see `Database.create_index`."""
        return AsyncIndex(self, await self.run(self._remote.create_index, *args, **kwargs))

    async def index(self, name: str) -> AsyncIndex:
        """Return a handle to an index. Raises IndexNotFound."""
        return AsyncIndex(self, await self.run(self._remote.index, name))

    async def indexes(self) -> list[str]:
        """Return the names of the indexes, sorted."""
        return await self.run(lambda: [*iter(self._remote)])

    async def wait(self, task: RemoteTask, timeout: float | None = None) -> dict[str, Any]:
        """Wait until a task has ended; see `RemoteTask.wait`."""
        return await self.run(task.wait, timeout)

    drop_index = _of_database(RemoteDatabase.drop_index)
    sync = _of_database(RemoteDatabase.sync)
    save = _of_database(RemoteDatabase.save)
    rewrite_aof = _of_database(RemoteDatabase.rewrite_aof)
    stats = _of_database(RemoteDatabase.stats)
    promote = _of_database(RemoteDatabase.promote)

    def __repr__(self) -> str:
        return f"<AsyncDatabase of {self._remote!r}>"
