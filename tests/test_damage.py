"""Damage of a closed database: no bit that flips and no byte that goes is overlooked."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign import Campaign
from faults import MemoryBackend
from states import contents
from stored import verified
from writer import vec

import kektordb
from kektordb.database import Database
from kektordb.errors import CorruptData
from kektordb.storage import Backend, Store

pytestmark = pytest.mark.crash


@pytest.fixture(autouse=True)
def _small_and_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kektordb.upkeep.maintenance.Upkeep.start", lambda *_: None)
    monkeypatch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", 512)
    monkeypatch.setattr("kektordb.storage.sync.INTERVAL_S", 3600.0)


def opened(disk: MemoryBackend) -> Database:
    return Database.open("/db", backend=disk, sync="no", autosave="", n_threads=1)


def closed() -> MemoryBackend:
    """A small closed database with two snapshot files and a log behind them."""
    disk = MemoryBackend()
    db = opened(disk)
    a = db.create_index("a", metric="euclidean", m=4, ef_construction=20, text_language="english")
    a.add_batch([f"i{i}" for i in range(40)], [vec(i) for i in range(40)], [{"n": i, "t": "a fox"} for i in range(40)])
    db.kv["key"] = bytes(range(256))
    db.save()
    a.delete("i3")
    db.create_index("b", precision="int8").add("x", vec(1))
    db.save()
    a.add("late", vec(50), {"n": 50, "t": "a dog"})
    db.kv["late"] = b"value"
    db.close()
    return disk.copy()


def damage_in(path: str, backend: Backend | None = None) -> bool:
    """Tell whether opening or a check of every byte finds something wrong."""
    try:
        store = Store.open(path, backend=backend, read_only=True)
    except CorruptData:
        return True
    try:
        for _ in store.replay():
            pass
        return any(error is not None for error in verified(store))
    except CorruptData:
        return True
    finally:
        store.close()


def ours(disk: MemoryBackend) -> dict[str, bytes]:
    return {path: data for path, data in disk.image().items() if not path.endswith("LOCK")}


def test_every_flipped_bit_of_a_closed_database_is_found(campaign: Campaign) -> None:
    disk = closed()
    assert not damage_in("/db", disk)
    step = campaign.count("BIT_STEP", 251, 1)
    n = 0
    for path, data in ours(disk).items():
        assert len(data) < 20_000
        state = disk.copy()
        found = state.files[path].data
        for bit in range(n % step, 8 * len(data), step):
            found[bit // 8] ^= 1 << bit % 8
            assert damage_in("/db", state), f"bit {bit} of {path}"
            found[bit // 8] ^= 1 << bit % 8
            n += 1
    campaign.note("one-bit flips", "small, closed", flips=n, bits=8 * sum(map(len, ours(disk).values())), silent=0)
    assert n > 300


def test_a_closed_database_cut_at_any_length_is_a_named_error(campaign: Campaign) -> None:
    disk = closed()
    step = campaign.count("CUT_STEP", 41, 1)
    n = 0
    for path, data in ours(disk).items():
        state = disk.copy()
        for size in range(len(data) - 1, -1, -step):
            del state.files[path].data[size:]
            assert damage_in("/db", state), f"{path} of {size} bytes"
            n += 1
    campaign.note("cuts", "small, closed", cuts=n, silent=0)
    assert n > 200


def test_an_open_log_cut_at_any_length_gives_the_longest_prefix(campaign: Campaign) -> None:
    disk = MemoryBackend()
    db = opened(disk)
    log = disk.files["/db/log-000001.aof"].data
    ends, states = [len(log)], [contents(db)]
    a = db.create_index("a", metric="euclidean", m=4, ef_construction=20)

    def note() -> None:
        ends.append(len(log))
        states.append(contents(db))

    note()
    for i in range(6):
        a.add(f"i{i}", vec(i), {"n": i})
        note()
        with db.batch():
            a.upsert(f"i{i}", vec(i + 10))
            db.kv[f"k{i}"] = bytes(30)
        note()
    a.delete(["i1", "i2"])
    note()
    whole = disk.copy()

    step = campaign.count("CUT_STEP", 17, 1)
    for size in range(ends[0], ends[-1] + 1, step):
        state = whole.copy()
        del state.files["/db/log-000001.aof"].data[size:]
        found = opened(state)
        assert contents(found) == states[sum(end <= size for end in ends) - 1], size
        found.close()
    campaign.note("cuts", "log of a killed writer", cuts=(ends[-1] - ends[0]) // step + 1, not_the_longest_prefix=0)


@pytest.fixture
def large(tmp_path: Path, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, int]:
    """A closed database of many megabytes on the real disk."""
    monkeypatch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", 1 << 20)
    n_mb = campaign.count("LARGE_MB", 3, 100)
    options: dict[str, Any] = {"m": 4, "ef_construction": 8, "traversal": "float32"}
    rng = np.random.default_rng(1)
    with kektordb.open(tmp_path / "db", autosave="", aof_rewrite_percentage=0) as db:
        a = db.create_index("a", metric="euclidean", dim=1024, **options)
        for start in range(0, 100 * n_mb, 500):
            ids = [f"i{i}" for i in range(start, min(start + 500, 100 * n_mb))]
            a.add_batch(ids, rng.standard_normal((len(ids), 1024)).astype(np.float32), [{"id": id} for id in ids])
        for i in range(n_mb // 2):
            db.kv[f"k{i}"] = rng.bytes(1 << 20)
        db.save()
        for i in range(n_mb // 10 + 1):
            db.kv[f"late{i}"] = rng.bytes(1 << 20)
    return tmp_path / "db", sum(file.stat().st_size for file in (tmp_path / "db").iterdir())


def test_random_flips_of_a_large_database_are_found(large: tuple[Path, int], campaign: Campaign) -> None:
    path, n_bytes = large
    files = [file for file in sorted(path.iterdir()) if file.name != "LOCK"]
    rng, n = random.Random(7), campaign.count("FLIPS", 40, 1000)
    assert not damage_in(str(path))
    for i in range(n):
        # Every tenth in a small file: by size alone hardly any would fall there.
        file = rng.choice(files) if i % 10 == 0 else rng.choices(files, [f.stat().st_size for f in files])[0]
        bit = rng.randrange(8 * file.stat().st_size)
        flip(file, bit)
        if i % 20 == 0:
            with pytest.raises(CorruptData) as caught:
                kektordb.open(path, autosave="").close()
            assert caught.value.path in (str(file), str(path))
        assert damage_in(str(path)), f"bit {bit} of {file.name}"
        flip(file, bit)
    assert not damage_in(str(path))
    campaign.note("one-bit flips", "large, closed", flips=n, megabytes=n_bytes // 1_000_000, silent=0)


def flip(file: Path, bit: int) -> None:
    descriptor = os.open(file, os.O_RDWR)
    old = os.pread(descriptor, 1, bit // 8)[0]
    os.pwrite(descriptor, bytes([old ^ 1 << bit % 8]), bit // 8)
    os.close(descriptor)
