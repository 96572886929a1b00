"""How is a database on a server used from asyncio? Each verb is awaited; threads of its own send the requests."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from kektordb.awaiting import Awaited, Threads, writing
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


class AsyncIndex(Awaited[RemoteIndex]):
    """A handle to one index of a server: the verbs of `RemoteIndex`, awaited."""

    @property
    def name(self) -> str:
        """The name of the index."""
        return self._target.name

    add = writing(RemoteIndex.add)
    upsert = writing(RemoteIndex.upsert)
    add_batch = writing(RemoteIndex.add_batch)
    upsert_batch = writing(RemoteIndex.upsert_batch)
    add_texts = writing(RemoteIndex.add_texts)
    attach_embedder = writing(RemoteIndex.attach_embedder)
    delete = writing(RemoteIndex.delete)
    update_metadata = writing(RemoteIndex.update_metadata)
    search = writing(RemoteIndex.search)
    search_batch = writing(RemoteIndex.search_batch)
    get = writing(RemoteIndex.get)
    get_many = writing(RemoteIndex.get_many)
    ids = writing(RemoteIndex.ids)
    count = writing(RemoteIndex.count)
    explain = writing(RemoteIndex.explain)
    fields = writing(RemoteIndex.fields)
    stats = writing(RemoteIndex.stats)
    configure = writing(RemoteIndex.configure)
    vacuum = writing(RemoteIndex.vacuum)
    refine = writing(RemoteIndex.refine)
    check_recall = writing(RemoteIndex.check_recall)
    calibrate = writing(RemoteIndex.calibrate)
    compress = writing(RemoteIndex.compress)
    add_arrow = writing(RemoteIndex.add_arrow)
    add_file = writing(RemoteIndex.add_file)
    from_pandas = writing(RemoteIndex.from_pandas)
    to_arrow = writing(RemoteIndex.to_arrow)
    to_pandas = writing(RemoteIndex.to_pandas)
    export = writing(RemoteIndex.export)

    def __repr__(self) -> str:
        return f"<AsyncIndex {self.name!r}>"


class AsyncKeys:
    """The key-value store of a server, awaited."""

    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database
        self._keys = database._target.kv

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


def _making(
    verb: Callable[Concatenate[RemoteDatabase, P], RemoteIndex],
) -> Callable[Concatenate[AsyncDatabase, P], Coroutine[Any, Any, AsyncIndex]]:
    @wraps(verb)
    async def awaited(self: AsyncDatabase, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIndex:
        return AsyncIndex(self._threads, await self.run(verb, self._target, *args, **kwargs))

    return awaited


class AsyncDatabase(Awaited[RemoteDatabase]):
    """A database on a server, with the verbs and errors of `RemoteDatabase`, awaited. Made by `connect_async`.

    Up to 16 requests are under way at a time. One whose awaiting is cancelled goes on to its end. It is an asynchronous
    context manager that closes the connections.
    """

    def __init__(self, remote: RemoteDatabase) -> None:
        threads = Threads("kektordb-client", MAX_KEPT)
        super().__init__(threads, remote)
        self._threads = threads
        self.kv = AsyncKeys(self)

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in one of the threads that send requests."""
        return await self._threads.write(call, *args, **kwargs)

    async def close(self) -> None:
        """Close the connections when what is under way has ended."""
        await self._threads.close(self._target.close)

    async def __aenter__(self) -> AsyncDatabase:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    create_index = _making(RemoteDatabase.create_index)

    async def index(self, name: str) -> AsyncIndex:
        """Return a handle to an index. Raises IndexNotFound."""
        return AsyncIndex(self._threads, await self.run(self._target.index, name))

    async def indexes(self) -> list[str]:
        """Return the names of the indexes, sorted."""
        return await self.run(lambda: [*iter(self._target)])

    async def wait(self, task: RemoteTask, timeout: float | None = None) -> dict[str, Any]:
        """Wait until a task has ended; see `RemoteTask.wait`."""
        return await self.run(task.wait, timeout)

    drop_index = writing(RemoteDatabase.drop_index)
    sync = writing(RemoteDatabase.sync)
    save = writing(RemoteDatabase.save)
    rewrite_aof = writing(RemoteDatabase.rewrite_aof)
    stats = writing(RemoteDatabase.stats)
    promote = writing(RemoteDatabase.promote)

    def __repr__(self) -> str:
        return f"<AsyncDatabase of {self._target!r}>"
