"""An embedded database from asyncio: the verbs, batches, and what becomes of calls that are cancelled."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kektordb
import kektordb.aio
from kektordb.aio import AsyncDatabase, AsyncIndex

ROWS = np.random.default_rng(9).standard_normal((60, 4)).astype(np.float32)


Work = Callable[[AsyncDatabase], Coroutine[Any, Any, None]]


def run(work: Work, path: str | Path = ":memory:", **options: Any) -> None:
    async def main() -> None:
        async with kektordb.aio.open(path, **options) as db:
            await work(db)
        assert db.closed

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("sync", ["everysec", "always"])
def test_verbs_are_awaited_side_by_side(tmp_path: Path, sync: str) -> None:
    async def work(db: AsyncDatabase) -> None:
        index = await db.create_index("a", metric="euclidean", text_language="english")
        await index.add_batch([f"{i}" for i in range(20)], ROWS[:20])
        await asyncio.gather(*(index.add(f"{i}", ROWS[i], {"n": i}) for i in range(20, 60)))
        found = await asyncio.gather(*(index.search(row, k=1) for row in ROWS))
        assert [hits.ids for hits in found] == [[f"{i}"] for i in range(60)]
        assert await index.count("n >= 50") == 10
        await index.upsert("1", ROWS[1], {"n": 1})
        assert (await index.get("1")).metadata == {"n": 1}  # type: ignore[union-attr]
        assert await index.delete(["1", "2"]) == 2
        assert await db.wait(await index.vacuum(), 60) is not None
        with pytest.raises(kektordb.ItemExists):
            await index.add("3", ROWS[0])
        with pytest.raises(kektordb.IndexNotFound):
            await db.index("none")
        await asyncio.gather(db.kv.set("k", "ü"), db.kv.set("l", b"1"))
        assert await db.kv.get("k") == "ü".encode()
        assert await db.kv.prefix() == ["k", "l"]
        await db.kv.delete("k")
        await db.save()
        assert (await db.check()).verdict == "sound"
        assert (index.name, index.dim, index.config.metric) == ("a", 4, "euclidean")
        assert await db.indexes() == ["a"]

    run(work, tmp_path / "db", sync=sync)
    with kektordb.open(tmp_path / "db", read_only=True) as database:
        assert len(database["a"]) == 58
        assert list(database.kv) == ["l"]


def test_tables(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra arrow")

    async def work(db: AsyncDatabase) -> None:
        index, other = await db.create_index("a"), await db.create_index("b")
        await index.add_batch(["x", "y"], ROWS[:2])
        assert await other.add_arrow(await index.to_arrow()) == 2
        assert await other.export(tmp_path / "a.jsonl") == 2
        assert await index.add_file(tmp_path / "a.jsonl", replace=True) == 2

    run(work)


def test_what_the_sync_ones_have_the_awaited_ones_have() -> None:
    public = {name for name in dir(kektordb.Index) if not name.startswith("_")}
    assert public - set(dir(AsyncIndex)) == {"database", "embedder", "maintenance", "to_arrow_reader"}
    public = {name for name in dir(kektordb.Database) if not name.startswith("_")}
    assert public - set(dir(AsyncDatabase)) - {"kv"} == {"open"}
    for name in ("search", "add_batch", "delete", "to_pandas"):
        assert inspect.signature(getattr(AsyncIndex, name)) == inspect.signature(getattr(kektordb.Index, name))
    assert inspect.signature(kektordb.aio.open) == inspect.signature(kektordb.open)
    for owner in (AsyncDatabase, AsyncIndex):
        for name, value in inspect.getmembers(owner, inspect.isfunction):
            assert name.startswith("_") or inspect.getdoc(value), name
            assert name.startswith("_") or inspect.iscoroutinefunction(value) or name == "batch", name


def test_the_module_is_there_without_an_import_of_its_own() -> None:
    code = "import sys, kektordb; assert 'asyncio' not in sys.modules; kektordb.aio.open"
    environment = {**os.environ, "PYTHONPATH": str(Path(kektordb.__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# ----------------------------------------------------------------------------------------------------- open and close


def test_open_is_awaited_or_entered(tmp_path: Path) -> None:
    async def main() -> None:
        db = await kektordb.aio.open(tmp_path / "db")
        with pytest.raises(kektordb.DatabaseLocked):
            await kektordb.aio.open(tmp_path / "db")
        await db.close()
        await db.close()
        for call in (db.sync, db.kv.prefix, db.stats):
            with pytest.raises(kektordb.DatabaseClosed):
                await call()
        with pytest.raises(kektordb.DatabaseClosed):
            await db.index("a")
        with pytest.raises(kektordb.ConfigError):
            async with kektordb.aio.open(tmp_path / "db", sync="no such"):
                raise AssertionError

    asyncio.run(main())


def test_a_cancelled_open_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    real_open, real_close = kektordb.Database.open, kektordb.Database.close

    def slow(path: Path) -> kektordb.Database:
        begun.set()
        assert go_on.wait(30)
        return real_open(path)

    def close(self: kektordb.Database) -> None:
        real_close(self)
        closed.set()

    monkeypatch.setattr(kektordb.Database, "close", close)

    async def main() -> None:
        opening = asyncio.ensure_future(kektordb.aio.Opening(lambda: slow(tmp_path / "db"))._open())
        assert await asyncio.to_thread(begun.wait, 30)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        go_on.set()
        assert await asyncio.to_thread(closed.wait, 30)
        await (await kektordb.aio.open(tmp_path / "db")).close()

    asyncio.run(main())


def test_a_cancelled_close_closes(tmp_path: Path) -> None:
    async def main() -> None:
        db = await kektordb.aio.open(tmp_path / "db")
        holds = threading.Event()
        slow = asyncio.ensure_future(db.read(holds.wait, 30))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(db.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not db.closed
        holds.set()
        assert await slow
        await asyncio.to_thread(lambda: [None for _ in iter(lambda: db.closed, True)])

    asyncio.run(asyncio.wait_for(main(), 60))


def test_close_waits_for_what_is_under_way() -> None:
    async def main() -> None:
        db = await kektordb.aio.open(":memory:")
        index = await db.create_index("a")
        adding = [asyncio.ensure_future(index.add(f"{i}", ROWS[i])) for i in range(60)]
        await asyncio.sleep(0)
        await db.close()
        assert await asyncio.gather(*adding) == [None] * 60

    asyncio.run(main())


# -------------------------------------------------------------------------------------------------------- cancellation


def test_a_write_that_has_begun_happens_and_one_that_has_not_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kektordb.aio, "N_WRITERS", 1)
    begun, go_on = threading.Event(), threading.Event()

    async def work(db: AsyncDatabase) -> None:
        index = await db.create_index("a")

        def slow(id: str) -> None:
            begun.set()
            assert go_on.wait(30)
            db.database["a"].add(id, [1.0, 2.0])

        first = asyncio.ensure_future(db.write(slow, "begun"))
        second = asyncio.ensure_future(index.add("waits", [1.0, 2.0]))
        assert await asyncio.to_thread(begun.wait, 30)
        for task in (first, second):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        go_on.set()
        await db.kv.set("after", "all")
        assert await index.ids() == ["begun"]

    run(work)


def test_a_timeout_ends_the_waiting_alone() -> None:
    async def work(db: AsyncDatabase) -> None:
        holds = threading.Event()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(db.write(holds.wait, 30), 0.01)
        holds.set()
        await db.kv.set("k", "v")

    run(work)


def test_reads_go_on_while_all_writers_wait() -> None:
    async def work(db: AsyncDatabase) -> None:
        index = await db.create_index("a")
        await index.add("x", [1.0, 2.0])
        async with db.batch():
            outside = [threading.Thread(target=db.database.kv.__setitem__, args=(f"{i}", b"")) for i in range(40)]
            for thread in outside:
                thread.start()
            assert (await index.search([1.0, 2.0])).ids == ["x"]
        for thread in outside:
            await asyncio.to_thread(thread.join)
        assert len(await db.kv.prefix()) == 40

    run(work)


# -------------------------------------------------------------------------------------------------------------- batches


def test_all_of_a_batch_happens_or_none(tmp_path: Path) -> None:
    async def work(db: AsyncDatabase) -> None:
        index = await db.create_index("a")
        async with db.batch():
            await asyncio.gather(*(index.add(f"{i}", ROWS[i]) for i in range(10)))
            await db.kv.set("k", "1")
            assert await db.kv.get("k") == b"1"
            assert db.database.kv.get("k") is None, "others do not see it"
            assert await index.count() == 0
        assert await index.count() == 10

        async def fails(error: Exception | None) -> None:
            async with db.batch():
                await index.add("new", ROWS[0])
                if error is not None:
                    raise error
                await index.add("1", ROWS[0])

        with pytest.raises(ZeroDivisionError):
            await fails(ZeroDivisionError())
        with pytest.raises(kektordb.ItemExists):
            await fails(None)
        assert await index.count() == 10
        for wrong in (lambda: db.create_index("b"), lambda: index.delete(filter="n = 1"), db.save, db.close):
            with pytest.raises(kektordb.ConfigError):
                async with db.batch():
                    await wrong()
        with pytest.raises(kektordb.ConfigError, match="one batch at a time"):
            async with db.batch(), db.batch():
                raise AssertionError
        await db.kv.set("after", "1")

    run(work, tmp_path / "db")
    with kektordb.open(tmp_path / "db", read_only=True) as database:
        assert (len(database["a"]), list(database.kv)) == (10, ["after", "k"])


def test_what_would_wait_for_the_end_of_a_batch_is_refused_in_it() -> None:
    async def work(db: AsyncDatabase) -> None:
        index = await db.create_index("a", dim=4)
        await index.add_batch([f"{i}" for i in range(60)], ROWS)
        done = await index.vacuum()
        await db.wait(done)
        async with db.batch():
            await index.delete("0")
            task = await index.compress("float16")
            for call in (db.check(deep=True), db.wait(task), db.wait(task, 30), db.save()):
                with pytest.raises(kektordb.ConfigError, match="outside"):
                    await asyncio.wait_for(call, 20)
            assert await db.wait(done) == {"n_removed": 0, "reclaimed_bytes": 0}
        await db.wait(task)
        assert (await db.check(deep=True)).verdict == "sound"

    run(work)


def test_others_wait_for_a_batch() -> None:
    async def work(db: AsyncDatabase) -> None:
        begun, order = asyncio.Event(), []

        async def other() -> None:
            await begun.wait()
            await db.kv.set("k", "other")
            order.append("other")

        waiting = asyncio.ensure_future(other())
        async with db.batch():
            begun.set()
            await asyncio.sleep(0.01)
            await db.kv.set("k", "batch")
            order.append("batch")
        await waiting
        assert order == ["batch", "other"]
        assert await db.kv.get("k") == b"other"

    run(work)


def test_batches_of_many_tasks_and_databases() -> None:
    async def work(db: AsyncDatabase) -> None:
        async with kektordb.aio.open(":memory:") as second:

            async def count(one: AsyncDatabase) -> None:
                for _ in range(5):
                    async with one.batch():
                        value = int(await one.kv.get("n") or b"0")
                        await one.kv.set("n", str(value + 1))

            await asyncio.gather(*(count(one) for one in (db, second) for _ in range(8)))
            assert [await one.kv.get("n") for one in (db, second)] == [b"40", b"40"]
            async with db.batch(), second.batch():
                await asyncio.gather(db.kv.set("n", "1"), second.kv.set("n", "2"))
            assert [await one.kv.get("n") for one in (db, second)] == [b"1", b"2"]

    run(work)


def test_a_task_that_outlives_the_batch_writes_on_its_own() -> None:
    async def work(db: AsyncDatabase) -> None:
        ended = asyncio.Event()

        async def later() -> None:
            await ended.wait()
            await db.kv.set("later", "1")

        async with db.batch():
            task = asyncio.ensure_future(later())
        ended.set()
        await task
        assert await db.kv.prefix() == ["later"]

    run(work)


def test_a_batch_that_is_cancelled_leaves_nothing_and_keeps_nobody_waiting() -> None:
    async def work(db: AsyncDatabase) -> None:
        inside = asyncio.Event()

        async def never() -> None:
            async with db.batch():
                await db.kv.set("never", "1")
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(never())
        await inside.wait()
        waits = asyncio.ensure_future(db.batch().__aenter__())
        await asyncio.sleep(0.01)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await db.kv.set("after", "1")
        assert await db.kv.prefix() == ["after"]

    run(work)
