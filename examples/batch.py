"""How do several writes happen as one? All of them are there after the block, or none.

Run it with ``python examples/batch.py``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import kektordb


def import_page(db: kektordb.Database, number: int, rng: np.random.Generator) -> None:
    """Add one page of items and move the bookmark: neither without the other, whatever happens in between."""
    items = db["items"]
    with db.batch():
        for row in range(5):
            items.upsert(f"page-{number}-{row}", rng.standard_normal(16), {"page": number})
        if number == 2:
            raise ValueError("page 2 cannot be read to its end")
        db.kv["bookmark"] = str(number)


def main() -> None:
    rng = np.random.default_rng(2)
    with tempfile.TemporaryDirectory(prefix="kektordb-") as folder:
        path = Path(folder, "data")

        with kektordb.open(path) as db:
            db.create_index("items", metric="cosine", dim=16)
            for number in range(4):
                try:
                    import_page(db, number, rng)
                except ValueError as error:
                    print(f"stopped: {error}")
                    break
                print(f"page {number}: {len(db['items'])} items, the bookmark is at {db.kv.get_str('bookmark')}")

        with kektordb.open(path) as db:
            items = db["items"]
            print(f"opened again: {len(items)} items, the bookmark is at {db.kv.get_str('bookmark')}")
            print(f"of the page that failed: {items.count('page = 2')}")

            # Many rows of one index need no batch: one call is one write, and it builds on all cores.
            rows = rng.standard_normal((1000, 16))
            done = []
            items.add_batch([f"bulk-{n}" for n in range(1000)], rows, progress=lambda n, total: done.append(n / total))
            print(f"add_batch: {len(items)} items, told {len(done)} times how far it was")
            try:
                items.add_batch(["new", "bulk-7"], rows[:2])
            except kektordb.ItemExists as error:
                print(f"refused as a whole: {error}")
            print(f"'new' is there: {'new' in items}")


if __name__ == "__main__":
    main()
