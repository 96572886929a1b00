"""A deep check finds what does not agree in an index, and nothing in one that is used hard."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sections import Sections
from writer import vec

import kektordb
from kektordb import freezing
from kektordb.collection import Collection
from kektordb.operations import IndexConfig
from kektordb.safety.integrity import faults_of


def filled(**options: Any) -> tuple[kektordb.Database, Collection]:
    db = kektordb.open(":memory:", n_threads=1)
    a = db.create_index("a", m=4, ef_construction=20, text_language="english", **options)
    a.add_batch(
        [f"i{i}" for i in range(80)],
        [vec(i) for i in range(80)],
        [
            {"n": i, "t": f"the fox number{i % 9} runs", "l": ["x", i % 3], "b": i % 2 == 0, "z": None}
            for i in range(80)
        ],
    )
    a.delete([f"i{i}" for i in range(0, 80, 7)])
    a.update_metadata("i5", {"n": "five", "big": 2**63 + 5})
    return db, db._state.collection("a")


def nan(collection: Collection) -> None:
    assert collection.graph is not None
    collection.graph.vectors.put(5, np.full((1, 4), np.nan, dtype=np.float32))


def long(collection: Collection) -> None:
    assert collection.graph is not None
    collection.graph.vectors.put(5, np.full((1, 4), 9, dtype=np.float32))


def text(collection: Collection) -> Any:
    assert collection.texts is not None
    return collection.texts


HARMS: dict[str, tuple[Callable[[Collection], Any], set[str]]] = {
    "a dead item": (lambda c: c.alive.clear(5), {"ids", "texts"}),
    "a living tombstone": (lambda c: c.alive.set(7), {"ids", "texts"}),
    "a lost id": (lambda c: c.ids.remove_number(5), {"ids"}),
    "a wrong count": (lambda c: setattr(c, "n_alive", 3), {"ids"}),
    "other metadata": (lambda c: c.metadata.put(6, {"n": 99, "t": "bear"}), {"columns", "texts"}),
    "a number in a column": (lambda c: c.columns.add(6, {"n": 1000}), {"columns"}),
    "a string in a column": (lambda c: c.columns.add(6, {"t": "and more"}), {"columns"}),
    "a field of its own": (lambda c: c.columns.add(6, {"own": True}), {"columns"}),
    "a string that is not there": (lambda c: c.columns.remove(6, {"l": ["x"]}), {"columns"}),
    "a null that is not there": (lambda c: c.columns.remove(6, {"z": None}), {"columns"}),
    "a text less": (lambda c: text(c).index.remove(0, 6), {"texts"}),
    "a text more": (lambda c: text(c).index.add(2, 4, array("I", [1]), array("I", [2]), 2), {"texts"}),
    "a vector that is none": (nan, {"vectors"}),
    "a vector that is not normalised": (long, {"vectors"}),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_does_not_agree_is_found(harm: str) -> None:
    db, collection = filled()
    with db:
        assert faults_of(collection, nullcontext()) == []
        change, kinds = HARMS[harm]
        change(collection)
        found = faults_of(collection, nullcontext())
        assert kinds <= {fault.partition(":")[0] for fault in found}, found
        report = db.check(deep=True)
        assert report.verdict == "damaged"
        assert not report.ok
        assert report.indexes[0].faults == tuple(found)


def relinked(links: np.ndarray) -> Collection:
    """An index with these lists of level 0."""
    db, collection = filled()
    with db:
        meta, sections = freezing.freeze(collection, whole=True)
        data = Sections(sections)
        freezing.thaw(collection, saved=False)
        data.data["graph/links"] = links.tobytes()
        return freezing.load(IndexConfig.from_dict(collection.config.to_dict()), meta, data)


def test_links_that_should_not_be_are_found() -> None:
    db, collection = filled()
    with db:
        data = Sections(freezing.freeze(collection, whole=True)[1])
    links = np.frombuffer(data.data["graph/links"], dtype=np.uint32).reshape(80, -1)
    assert faults_of(relinked(links), nullcontext()) == []
    itself, twice = links.copy(), links.copy()
    itself[9, 0] = 9
    twice[9, 1] = twice[9, 0]
    for wrong in (itself, twice):
        assert [fault.partition(" links")[0] for fault in faults_of(relinked(wrong), nullcontext())] == [
            "graph: slot 9"
        ]


def test_many_faults_of_a_kind_are_cut_short() -> None:
    db, collection = filled()
    with db:
        for slot in range(80):
            collection.alive.clear(slot)
        found = faults_of(collection, nullcontext())
        assert len([fault for fault in found if fault.startswith("ids")]) == 20
        assert "... and more of ids" in found


STEP = st.tuples(
    st.sampled_from(["put", "delete", "meta", "vacuum", "refine", "compress", "batch"]), st.integers(0, 30)
)


@settings(max_examples=25)
@given(
    st.lists(STEP, max_size=40), st.sampled_from(["cosine", "euclidean", "dot"]), st.sampled_from(["codes", "float32"])
)
def test_nothing_is_found_in_an_index_that_is_used(steps: list[tuple[str, int]], metric: str, traversal: str) -> None:
    with kektordb.open(":memory:", n_threads=1) as db:
        a = db.create_index("a", m=3, ef_construction=10, metric=metric, traversal=traversal, text_language="simple")
        for n, (what, i) in enumerate(steps):
            metadata = {"n": i % 3, "t": f"one two{i} {'three ' * (i % 4)}", "deep": {"er": [i, str(i), None]}}
            match what:
                case "put":
                    a.upsert(f"i{i}", vec(n), metadata if i % 5 else None)
                case "batch":
                    a.upsert_batch([f"i{j}" for j in range(i)], [vec(n + j) for j in range(i)], [metadata] * i)
                case "delete" if f"i{i}" in a:
                    a.delete(f"i{i}")
                case "meta" if f"i{i}" in a:
                    a.update_metadata(f"i{i}", {"t": f"other {n}", "n": None})
                case "vacuum":
                    a.vacuum().wait()
                case "refine":
                    a.refine().wait()
                case "compress" if len(a) and a.config.precision != "int8":
                    a.compress("int8").wait()
        assert db.check(deep=True).indexes[0].faults == ()


def test_nothing_is_found_beside_writers() -> None:
    stop, failures = threading.Event(), []

    def write() -> None:
        i = 0
        try:
            while not stop.is_set():
                i += 1
                a.upsert_batch([f"i{(i + j) % 90}" for j in range(9)], [vec(i + j) for j in range(9)])
                a.upsert(f"t{i % 20}", vec(i), {"n": i, "t": f"fox {i}"})
                if i % 3 == 0:
                    a.update_metadata(f"t{i % 20}", {"t": f"bear {i}"})
                if i % 50 == 0:
                    a.vacuum().wait()
        except Exception as error:
            failures.append(error)

    db, _ = filled()
    with db:
        a = db["a"]
        thread = threading.Thread(target=write)
        thread.start()
        try:
            found = [db.check(deep=True).indexes[0].faults for _ in range(25)]
        finally:
            stop.set()
            thread.join()
    assert failures == []
    assert set(found) == {()}
