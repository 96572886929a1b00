"""Keep a database safe: back it up while it is in use, check it, lose a few bytes of it, repair it, restore it.

python examples/safekeeping.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import kektordb

N = 6000
DIMENSIONS = 128


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        fill_and_back_up(place)
        damage(place / "shop")
        check(place / "shop")
        repair(place)
        restore(place)


def fill_and_back_up(place: Path) -> None:
    """The backup is what was there when it began; writes go on meanwhile."""
    vectors = np.random.default_rng(1).standard_normal((N, DIMENSIONS), dtype=np.float32)
    with kektordb.open(place / "shop") as db:
        products = db.create_index("products")
        products.add_batch([f"p{i}" for i in range(N)], vectors, [{"price": i % 100} for i in range(N)])
        db.kv["currency"] = b"EUR"
        db.save()
        report = db.backup(place / "shop.kdb")
        products.add("after the backup", vectors[0], {"price": 1})
    print(f"backup   {report.bytes_written:,} bytes in {1000 * report.seconds:.0f} ms")
    print(f"check    {kektordb.check(place / 'shop.kdb', deep=True).verdict}")


def damage(path: Path) -> None:
    """What a bad disk does: a few bytes are not what they were."""
    snapshot = max(path.glob("snapshot-*"))
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 0xFF
    snapshot.write_bytes(data)
    try:
        kektordb.open(path).close()
    except kektordb.CorruptSnapshot as error:
        print(f"open     {type(error).__name__} at byte {error.offset:,}")


def check(path: Path) -> None:
    """A check reads on behind the damage, and names every place."""
    report = kektordb.check(path)
    for file in report.files:
        for place in file.damage:
            print(f"check    {file.verdict}: {file.name}, byte {place.offset:,}: {place.what}")


def repair(place: Path) -> None:
    """A repair makes a new database of what is left, and says what is lost."""
    report = kektordb.repair(place / "shop", place / "mended")
    n_lost = sum(max(lost.n, 0) for lost in report.lost if lost.what == "items")
    print(f"repair   {report.n_items:,} items and {report.n_keys} key kept, {n_lost:,} items lost")
    assert report.n_items + n_lost == N + 1
    with kektordb.open(place / "mended") as db:
        assert "after the backup" in db["products"]


def restore(place: Path) -> None:
    """A backup becomes a database again; every byte is verified before anything is made."""
    kektordb.restore(place / "shop.kdb", place / "restored")
    with kektordb.open(place / "restored") as db:
        print(f"restore  {len(db['products']):,} items, {db.kv['currency'].decode()}")
        assert len(db["products"]) == N


if __name__ == "__main__":
    main()
