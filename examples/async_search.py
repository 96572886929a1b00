"""How does an asynchronous program search while it writes? With the same verbs, awaited.

Run it with ``python examples/async_search.py``.
"""

from __future__ import annotations

import asyncio

import numpy as np

import kektordb.aio


async def main() -> None:
    rng = np.random.default_rng(5)
    async with kektordb.aio.open(":memory:") as db:
        items = await db.create_index("items", metric="euclidean")
        await items.add_batch([f"{n}" for n in range(2000)], rng.standard_normal((2000, 16)))

        async def write() -> int:
            for n in range(2000, 2200):
                await items.add(f"{n}", rng.standard_normal(16))
            return 200

        async def search() -> int:
            return sum([len(await items.search(rng.standard_normal(16), k=5)) for _ in range(200)])

        added, hits = await asyncio.gather(write(), search())
        print(f"{added} items were added while {hits} hits were found; there are {await items.count()} now")

        try:
            async with asyncio.timeout(0.05), db.batch():
                await items.delete(["0", "1", "2"])
                await asyncio.sleep(60)
        except TimeoutError:
            print(f"the batch took too long and was forgotten: '0' is there: {await items.get('0') is not None}")


if __name__ == "__main__":
    asyncio.run(main())
