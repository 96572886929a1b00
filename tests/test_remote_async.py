"""A database on a server, from asyncio: many requests at a time, the same answers and errors."""

from __future__ import annotations

import asyncio
import inspect

import numpy as np
import pytest
from live import live

import kektordb
from kektordb.remote import RemoteIndex
from kektordb.remote.asynchronous import AsyncDatabase, AsyncIndex, connect_async


def test_requests_go_side_by_side() -> None:
    rows = np.random.default_rng(5).standard_normal((60, 4)).astype(np.float32)

    async def work(url: str) -> None:
        async with connect_async(url) as db:
            index = await db.create_index("a", metric="euclidean", text_language="english")
            await index.add_batch([f"{i}" for i in range(40)], rows[:40])
            await asyncio.gather(*(index.add(f"{i}", rows[i], {"n": i}) for i in range(40, 60)))
            found = await asyncio.gather(*(index.search(row, k=1) for row in rows))
            assert [hits.ids for hits in found] == [[f"{i}"] for i in range(60)]
            assert await index.count("n >= 50") == 10
            item = await index.get("41")
            assert item is not None
            assert item.metadata == {"n": 41}
            await index.delete("41")
            assert await db.wait(await index.vacuum(), 60) != {}
            with pytest.raises(kektordb.ItemExists):
                await index.add("1", rows[0])
            with pytest.raises(kektordb.IndexNotFound):
                await db.index("none")
            assert (await db.index("a")).name == "a"
            assert await db.indexes() == ["a"]
            await db.kv.set("k", "ü")
            assert await db.kv.get("k") == "ü".encode()
            assert await db.kv.prefix() == ["k"]
            await db.kv.delete("k")
            assert await db.kv.get("k") is None
            assert (await db.stats())["indexes"]["a"]["n_items"] == 59
            await db.drop_index("a")
            assert await db.indexes() == []

    with kektordb.open(":memory:") as database, live(database) as url:
        asyncio.run(work(url))


def test_verbs_have_their_arguments_and_documentation() -> None:
    for name in ("search", "add_batch", "delete"):
        assert inspect.signature(getattr(AsyncIndex, name)) == inspect.signature(getattr(RemoteIndex, name))
    for owner in (AsyncDatabase, AsyncIndex):
        for name, value in inspect.getmembers(owner, inspect.isfunction):
            assert name.startswith("_") or inspect.getdoc(value), name
            assert name.startswith("_") or inspect.iscoroutinefunction(value), name
