"""A database written by the first release of format 1 opens for ever: ids, vectors, graph, metadata, keys, log."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from exact import distances

import kektordb

GOLDEN = Path(__file__).parent / "golden" / "database-1"
N = 60


def vector(n: int) -> np.ndarray:
    """Numbers that every machine makes alike."""
    return np.array([n % 7, n % 11, n % 13, n % 5, 1], np.float32) / 8


def metadata(n: int) -> dict[str, object]:
    return {
        "n": n,
        "name": f"item {n}",
        "tags": ["even" if n % 2 == 0 else "odd"],
        "deep": {"half": n / 2},
        "big": 2**60 + n,
    }


def write(path: Path) -> None:
    """Write the database: a whole snapshot, one with changed lists, and a log behind it. Run once, for format 1."""
    with kektordb.open(path, autosave="", aof_rewrite_percentage=0, n_threads=1) as db:
        for metric in ("cosine", "euclidean", "dot"):
            index = db.create_index(metric, metric=metric, m=4, ef_construction=20, seed=7)
            index.add_batch(
                [f"id-{n}" for n in range(40)], [vector(n) for n in range(40)], [metadata(n) for n in range(40)]
            )
        db.kv["key"] = b"\x00value"
        db.save()
        for index in map(db.index, db):
            index.add("id-40", vector(40), metadata(40))
        db.save()
        for index in map(db.index, db):
            for n in range(41, N):
                index.add(f"id-{n}", vector(n), metadata(n))
            index.upsert("id-3", vector(3), metadata(3))
            index.delete("id-5")
            index.update_metadata("id-6", {"new": True})
        with db.batch():
            db.kv["other"] = "text"
            db["dot"].delete("id-7")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_of_format_1_opens_with_all_that_was_written(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "db"
    shutil.copytree(GOLDEN, path)

    with kektordb.open(path, read_only=read_only) as db:
        assert list(db) == ["cosine", "dot", "euclidean"]
        assert dict(db.kv) == {"key": b"\x00value", "other": b"text"}
        for name in db:
            index = db[name]
            gone = {5, 7} if name == "dot" else {5}
            there = [n for n in range(N) if n not in gone]
            assert sorted(index) == sorted(f"id-{n}" for n in there)
            for n in there:
                item = index[f"id-{n}"]
                assert item.metadata == metadata(n) | ({"new": True} if n == 6 else {})
                if name != "cosine":
                    assert item.vector.tobytes() == vector(n).tobytes()
            assert set(index.ids("tags = odd AND n < 10")) == {f"id-{n}" for n in there if n % 2 and n < 10}
            assert index.ids(f"big = {2**60 + 9}") == ["id-9"]
            rows = [vector(n) for n in there]
            nearest_distance = distances(name, rows, vector(17)).min()
            assert index.search(vector(17), k=1)[0].distance == pytest.approx(nearest_distance, abs=1e-6)
            assert len(index.search(vector(17), k=100)) == len(there)
