"""What is gone takes no memory: not even until the garbage of cycles is collected, which may be hours later."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import kektordb
from kektordb.collection import Collection
from kektordb.state import State


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def n_of(kind: type) -> int:
    return sum(type(one) is kind for one in gc.get_objects())


def filled(db: kektordb.Database) -> kektordb.Index:
    index = db.create_index("a", metric="euclidean", text_language="english")
    vectors = np.random.default_rng(0).standard_normal((600, 4)).astype(np.float32)
    index.add_batch([f"i{i}" for i in range(600)], vectors, [{"n": i, "t": f"text {i}"} for i in range(600)])
    return index


@pytest.mark.usefixtures("_no_collector")
def test_the_copies_of_maintenance_go_when_it_ends() -> None:
    with kektordb.open(":memory:") as db:
        index = filled(db)
        before = n_of(Collection)
        index.delete(filter="n < 300")
        index.vacuum().wait(60)
        index.refine().wait(60)
        index.compress("int8").wait(60)
        assert n_of(Collection) == before
        db.drop_index("a")
        assert n_of(Collection) == before - 1


@pytest.mark.usefixtures("_no_collector")
def test_a_closed_database_lets_go_though_there_are_handles(tmp_path: Path) -> None:
    before = n_of(Collection)
    db = kektordb.open(tmp_path / "db")
    index, keys = filled(db), db.kv
    db.save()
    db.close()
    assert n_of(Collection) == before
    for call in (lambda: index.search(text="text"), lambda: len(keys), lambda: db.stats(), lambda: len(db)):
        with pytest.raises(kektordb.DatabaseClosed):
            call()


@pytest.mark.usefixtures("_no_collector")
def test_a_database_that_was_forgotten_goes_by_itself() -> None:
    before = n_of(State)
    db = kektordb.open(":memory:")
    filled(db).search(text="text", k=3, filter="n > 3")
    db.kv["a"] = b"b"
    assert n_of(State) == before + 1
    del db
    assert n_of(State) == before
