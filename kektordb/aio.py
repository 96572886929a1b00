"""How is an embedded database used from asyncio? The verbs of `Database` and `Index`, awaited.

>>> import asyncio
>>> import kektordb.aio
>>> async def nearest(query):
...     async with kektordb.aio.open(":memory:") as db:
...         shoes = await db.create_index("shoes", metric="euclidean")
...         await shoes.add("red", [1.0, 0.0], {"price": 40})
...         return (await shoes.search(query, k=1)).ids
>>> asyncio.run(nearest([1.0, 0.1]))
['red']

Threads of the database make the calls; what is checked, given and raised is what the verbs of the same names do.

Cancellation: a call that is cancelled before a thread took it never happens. One that a thread has begun goes on to its
end, a write too, and nobody hears of its result. Cancelled in ``async with db.batch()``, none of the block's writes
happen, unless it was ending already. A cancelled `open` closes what it opened, a cancelled `close` closes all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from kektordb.awaiting import Awaited, Threads, once_begun, reading, submit, writing
from kektordb.database import Database
from kektordb.errors import ConfigError
from kektordb.index import Index
from kektordb.kv import KeyValueView
from kektordb.reading import n_cores
from kektordb.tasks import Task

if TYPE_CHECKING:
    from kektordb.operations import IndexConfig
    from kektordb.storage import RecoveryReport
    from kektordb.tasks import Tasks
    from kektordb.upkeep.maintenance import Maintenance
    from kektordb.vectorizer.fleet import Fleet

__all__ = ["AsyncBatch", "AsyncDatabase", "AsyncIndex", "AsyncKeys", "Opening", "open"]

P = ParamSpec("P")
T = TypeVar("T")

# Writes happen one after the other; so many may share a sync under the policy "always".
N_WRITERS = 16

# The batches that the running task is in, also when a task outside made it.
_batches: ContextVar[tuple[AsyncBatch, ...]] = ContextVar("_batches", default=())


class AsyncIndex(Awaited[Index]):
    """A handle to one index: the verbs of `Index`, awaited."""

    @property
    def name(self) -> str:
        """The name of the index."""
        return self._target.name

    @property
    def dim(self) -> int | None:
        """Components of a vector; None until the first vector decides."""
        return self._target.dim

    @property
    def config(self) -> IndexConfig:
        """What the index was created with."""
        return self._target.config

    add = writing(Index.add)
    upsert = writing(Index.upsert)
    add_batch = writing(Index.add_batch)
    upsert_batch = writing(Index.upsert_batch)
    delete = writing(Index.delete)
    update_metadata = writing(Index.update_metadata)
    configure = writing(Index.configure)
    add_arrow = writing(Index.add_arrow)
    add_file = writing(Index.add_file)
    from_pandas = writing(Index.from_pandas)
    add_texts = writing(Index.add_texts)
    attach_embedder = writing(Index.attach_embedder)
    search = reading(Index.search)
    search_batch = reading(Index.search_batch)
    get = reading(Index.get)
    get_many = reading(Index.get_many)
    ids = reading(Index.ids)
    count = reading(Index.count)
    explain = reading(Index.explain)
    fields = reading(Index.fields)
    stats = reading(Index.stats)
    check_recall = reading(Index.check_recall)
    calibrate = reading(Index.calibrate)
    to_arrow = reading(Index.to_arrow)
    to_pandas = reading(Index.to_pandas)
    export = reading(Index.export)
    vacuum = writing(Index.vacuum)
    refine = writing(Index.refine)
    compress = writing(Index.compress)

    def __repr__(self) -> str:
        return f"<AsyncIndex {self.name!r}>"


class AsyncKeys(Awaited[KeyValueView]):
    """The key-value store of a database, awaited."""

    # Reads as well: those of a batch see what it has written.
    async def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None."""
        return await self._runs.write(self._target.get, key)

    async def set(self, key: str, value: bytes | bytearray | memoryview | str) -> None:
        """Set a key; a str is stored as its UTF-8 bytes."""
        await self._runs.write(self._target.__setitem__, key, value)

    async def delete(self, key: str) -> None:
        """Delete a key. Raises KeyError when it is not there."""
        await self._runs.write(self._target.__delitem__, key)

    async def prefix(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with `prefix`, in key order."""
        return await self._runs.write(lambda: [*self._target.prefix(prefix)])


def _making(
    verb: Callable[Concatenate[Database, P], Index],
) -> Callable[Concatenate[AsyncDatabase, P], Coroutine[Any, Any, AsyncIndex]]:
    @wraps(verb)
    async def awaited(self: AsyncDatabase, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIndex:
        return AsyncIndex(self, await self.write(verb, self._target, *args, **kwargs))

    return awaited


def _looking(
    verb: Callable[Concatenate[Database, P], T],
) -> Callable[Concatenate[AsyncDatabase, P], Coroutine[Any, Any, T]]:
    @wraps(verb)
    async def awaited(self: AsyncDatabase, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.look(verb, self._target, *args, **kwargs)

    return awaited


class AsyncDatabase(Awaited[Database]):
    """An embedded database with the verbs of `Database`, awaited; made by `open`. It is usable from any event loop."""

    def __init__(self, database: Database) -> None:
        super().__init__(self, database)
        self._threads = Threads("kektordb-aio", min(32, n_cores() + 4), N_WRITERS)
        self.kv = AsyncKeys(self, database.kv)

    async def read(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that changes nothing in one of the threads."""
        return await self._threads.read(call, *args, **kwargs)

    async def write(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that may write in one of the threads, in a batch in that of the batch."""
        batch = self._batch()
        return await (self._threads if batch is None else batch).write(call, *args, **kwargs)

    async def look(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that changes nothing and may wait for the end of writes.

        In a batch its thread calls it, which is told that it would wait for itself.
        """
        batch = self._batch()
        return await (self.read if batch is None else batch.write)(call, *args, **kwargs)

    def _batch(self) -> AsyncBatch | None:
        return next((batch for batch in _batches.get() if batch.database is self and batch.is_open), None)

    @property
    def database(self) -> Database:
        """The database itself, whose verbs wait."""
        return self._target

    async def close(self) -> None:
        """Close it when the calls under way have ended; see `Database.close`. Raises ConfigError inside of a batch."""
        if self._batch() is not None:
            raise ConfigError("expected close() outside of db.batch()")
        await self._threads.close(self._target.close)

    async def __aenter__(self) -> AsyncDatabase:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def batch(self) -> AsyncBatch:
        """Make the writes of an ``async with`` block one: all or none happen, when it ends; see `Database.batch`.

        All that the task of the block writes with this database is in it, and what tasks write that it makes there.
        Writes of others wait until the block ends.
        """
        return AsyncBatch(self)

    create_index = _making(Database.create_index)

    async def index(self, name: str) -> AsyncIndex:
        """Return a handle to an index. Raises IndexNotFound."""
        return AsyncIndex(self, self._target.index(name))

    async def indexes(self) -> list[str]:
        """Return the names of the indexes, sorted."""
        return [*iter(self._target)]

    async def wait(self, task: Task, timeout: float | None = None) -> Any:
        """Wait until a task has ended; see `Task.wait`. Raises ConfigError in a batch, whose end the task waits for."""
        return await self.look(task.wait, timeout)

    @property
    def vectorizers(self) -> Fleet:
        """The vectorizers at work; their verbs are not awaited."""
        return self._target.vectorizers

    vectorize = writing(Database.vectorize)
    drop_index = writing(Database.drop_index)
    sync = writing(Database.sync)
    save = writing(Database.save)
    rewrite_aof = writing(Database.rewrite_aof)
    backup = writing(Database.backup)
    refresh = writing(Database.refresh)
    promote = writing(Database.promote)
    check = _looking(Database.check)
    stats = reading(Database.stats)
    metrics = reading(Database.metrics)

    @property
    def tasks(self) -> Tasks:
        """The tasks in the background: all that have not ended, and the last 256."""
        return self._target.tasks

    @property
    def maintenance(self) -> Maintenance:
        """What the database does by itself, and how it is paused."""
        return self._target.maintenance

    @property
    def path(self) -> Path | None:
        """The directory, or file; None for a database in memory."""
        return self._target.path

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return self._target.read_only

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._target.closed

    @property
    def recovery_report(self) -> RecoveryReport | None:
        """What was read, and what was torn, when it was opened."""
        return self._target.recovery_report

    def __repr__(self) -> str:
        return f"<AsyncDatabase of {self._target!r}>"


class AsyncBatch:
    """The writes of an ``async with db.batch()``; they have a thread of their own."""

    def __init__(self, database: AsyncDatabase) -> None:
        self.database = database
        self.is_open = False
        self._block: AbstractContextManager[None] | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def write(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the thread of the batch."""
        assert self._thread is not None
        return await asyncio.wrap_future(submit(self._thread, call, *args, **kwargs))

    async def __aenter__(self) -> None:
        if self._thread is not None or self.database._batch() is not None:
            raise ConfigError("expected one batch at a time, got db.batch() inside db.batch()")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kektordb-aio-batch")
        block = self.database.database.batch()
        entering = self._thread.submit(block.__enter__)
        try:
            await once_begun(entering)
        except BaseException as error:
            # It may still wait for its turn, and would keep all others from writing when it comes.
            self._thread.submit(_leave, block, entering, error)
            self._thread.shutdown(wait=False)
            raise
        self._block = block
        self.is_open = True
        _batches.set((*_batches.get(), self))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        assert self._block is not None
        self.is_open = False
        _batches.set(tuple(batch for batch in _batches.get() if batch is not self))
        leaving = self._thread.submit(_exit, self._block, error)
        self._thread.shutdown(wait=False)
        await once_begun(leaving)


def _exit(block: AbstractContextManager[None], error: BaseException | None) -> None:
    """Leave a batch: with all its writes, or after an error with none."""
    if error is None:
        block.__exit__(None, None, None)
        return
    with suppress(type(error)):
        block.__exit__(type(error), error, error.__traceback__)


def _leave(block: AbstractContextManager[None], entering: Future[None], error: BaseException) -> None:
    if entering.exception() is None:
        _exit(block, error)


class Opening:
    """A database that is being opened: to be awaited, or to stand in ``async with``, which closes it."""

    def __init__(self, call: Callable[[], Database]) -> None:
        self._call = call
        self._database: AsyncDatabase | None = None

    async def _open(self) -> AsyncDatabase:
        thread = ThreadPoolExecutor(1, thread_name_prefix="kektordb-aio-open")
        opening = thread.submit(self._call)
        thread.shutdown(wait=False)
        try:
            return AsyncDatabase(await once_begun(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise

    def __await__(self) -> Generator[Any, None, AsyncDatabase]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncDatabase:
        self._database = await self._open()
        return self._database

    async def __aexit__(self, *_: object) -> None:
        assert self._database is not None
        await self._database.close()


def _close_opened(opening: Future[Database]) -> None:
    if opening.exception() is None:
        opening.result().close()


def _awaited(verb: Callable[P, Database]) -> Callable[P, Opening]:
    @wraps(verb)
    def opening(*args: P.args, **kwargs: P.kwargs) -> Opening:
        return Opening(partial(verb, *args, **kwargs))

    opening.__doc__ = (
        "Open a database, with the arguments of `kektordb.open`: ``db = await open(path)``, to be closed, "
        "or ``async with open(path) as db``. What is wrong with them is raised when it is awaited."
    )
    return opening


open = _awaited(Database.open)
