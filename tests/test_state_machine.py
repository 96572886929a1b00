"""Any sequence of calls leaves what it leaves in a dict: live, reopened, copied while open, and read beside."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from faults import MemoryBackend
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from reference import matches

import kektordb
from kektordb.database import Database
from kektordb.errors import IndexExists, IndexNotFound, ItemExists, ItemNotFound
from kektordb.kv import AllKeys
from kektordb.links import RESERVED
from kektordb.query.parser import parse
from kektordb.tasks import Control
from kektordb.upkeep.refine import refine
from kektordb.upkeep.vacuum import vacuum

DIM = 3
FILTERS = [
    "n = 1",
    "n < 2",
    "n >= 0 AND tag = a",
    "tag IN (a, b)",
    "EXISTS(list)",
    "list = x OR list = 2",
    "NOT tag = b",
    "n BETWEEN 0 AND 2",
    "tag LIKE 'a%'",
    "deep.k > 0",
    "n IS NULL",
    "flag = true",
    "n != 1 AND flag != false",
]
PARSED = {text: parse(text) for text in FILTERS}

names = st.sampled_from(["p", "p", "p", "q"])
ids = st.sampled_from(["a", "b", "c", "d", "é", "\U0001f600"])
# Multiples of a half: sums of their products are exact in float32, so that ties are ties and order can be compared.
vectors = st.lists(st.integers(-4, 4), min_size=DIM, max_size=DIM).map(lambda v: np.array(v, np.float32) / 2)
numbers = st.integers(-2, 3) | st.sampled_from([0.5, 1.0, -0.0, 2**63, -(2**63)])
metadata = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "n": numbers | st.none(),
        "tag": st.sampled_from(["a", "b", "ab", ""]),
        "list": st.lists(st.sampled_from(["x", "y", 1, 2, True]), max_size=3),
        "flag": st.booleans(),
        "deep": st.fixed_dictionaries({}, optional={"k": numbers, "l": st.just([[1], {"m": None}])}),
    },
)
several = st.lists(st.tuples(ids, vectors, metadata), max_size=6, unique_by=lambda item: item[0])


@dataclass
class ModelItem:
    vector: npt.NDArray[np.float32]
    metadata: dict[str, Any]
    stored: bytes = b""


@dataclass
class ModelIndex:
    metric: str
    items: dict[str, ModelItem] = field(default_factory=dict)

    def put(self, id: str, vector: npt.NDArray[np.float32], data: dict[str, Any] | None) -> None:
        self.items.pop(id, None)
        self.items[id] = ModelItem(vector, json.loads(json.dumps(data or {})))

    def matching(self, text: str) -> list[str]:
        return [id for id, item in self.items.items() if matches(PARSED[text], item.metadata)]

    def distances(self, query: npt.NDArray[np.float32], chosen: list[str]) -> npt.NDArray[np.float64]:
        rows = np.array([self.items[id].vector for id in chosen], np.float64).reshape(-1, DIM)
        if self.metric == "euclidean":
            return np.asarray(((rows - query) ** 2).sum(axis=1))
        if self.metric == "dot":
            return -(rows @ query.astype(np.float64))
        norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
        return 1 - np.divide(rows @ query.astype(np.float64), norms, out=np.zeros(len(rows)), where=norms > 0)


def exactly(value: Any) -> str:
    """1, 1.0 and true are different; so are 0.0 and -0.0."""
    return repr(sorted(value.items())) if isinstance(value, dict) else repr(value)


class Writing(Control):
    """Writes at the check of this number, if there are so many."""

    __slots__ = ("_left", "_write")

    def __init__(self, write: Callable[[], object], at: int) -> None:
        super().__init__()
        self._write = write
        self._left = at

    def check(self) -> None:
        if self._left == 0:
            self._write()
        self._left -= 1


class Machine(RuleBasedStateMachine):
    """One database, its model, and all that may be done to both."""

    @initialize(
        sync=st.sampled_from(["always", "no"]),
        n_threads=st.sampled_from([1, 2]),
        metric=st.sampled_from(["cosine", "euclidean", "dot"]),
        items=several,
    )
    def begin(self, sync: str, n_threads: int, metric: str, items: list[tuple[str, Any, Any]]) -> None:
        self.disk = MemoryBackend()
        self.options: dict[str, Any] = {"sync": sync, "n_threads": n_threads, "autosave": "", "backend": self.disk}
        self.db = Database.open("/db", **self.options)
        self.indexes: dict[str, ModelIndex] = {}
        self.kv: dict[str, bytes] = {}
        self.kept: dict[str, bytes] = {}
        self.create_index("p", metric, 2, False)
        self.put_batch("p", items, False)

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()

    def model(self, name: str) -> ModelIndex | None:
        """Return the model of an index; None, after a look that the database agrees, when there is none."""
        if name not in self.indexes:
            with pytest.raises(IndexNotFound):
                self.db[name]
        return self.indexes.get(name)

    # ----------------------------------------------------------------------------------------------------- indexes

    @rule(
        name=names, metric=st.sampled_from(["cosine", "euclidean", "dot"]), m=st.sampled_from([2, 5]), dim=st.booleans()
    )
    def create_index(self, name: str, metric: str, m: int, dim: bool) -> None:
        if name in self.indexes:
            with pytest.raises(IndexExists):
                self.db.create_index(name)
            return
        self.db.create_index(name, metric=metric, m=m, ef_construction=10, dim=DIM if dim else None)
        self.indexes[name] = ModelIndex(metric)

    @rule(name=names, really=st.integers(0, 3))
    def drop_index(self, name: str, really: int) -> None:
        if self.model(name) is not None and not really:
            self.db.drop_index(name)
            del self.indexes[name]

    # ------------------------------------------------------------------------------------------------------- items

    @rule(name=names, id=ids, vector=vectors, data=metadata)
    def add(self, name: str, id: str, vector: npt.NDArray[np.float32], data: dict[str, Any] | None) -> None:
        model = self.model(name)
        if model is None:
            return
        if id in model.items:
            with pytest.raises(ItemExists):
                self.db[name].add(id, vector, data)
            return
        self.db[name].add(id, vector, data)
        model.put(id, vector, data)

    @rule(name=names, id=ids, vector=vectors, data=metadata)
    def upsert(self, name: str, id: str, vector: npt.NDArray[np.float32], data: dict[str, Any] | None) -> None:
        model = self.model(name)
        if model is not None:
            self.db[name].upsert(id, vector, data)
            model.put(id, vector, data)

    @rule(name=names, items=several, replace=st.booleans())
    def put_batch(self, name: str, items: list[tuple[str, Any, Any]], replace: bool) -> None:
        model = self.model(name)
        if model is None:
            return
        put = self.db[name].upsert_batch if replace else self.db[name].add_batch
        given = [item[0] for item in items], [item[1] for item in items], [item[2] for item in items]
        if not replace and any(item[0] in model.items for item in items):
            with pytest.raises(ItemExists):
                put(*given)
            return
        put(*given)
        for id, vector, data in items:
            model.put(id, vector, data)

    @rule(name=names, id=ids)
    def delete(self, name: str, id: str) -> None:
        model = self.model(name)
        if model is None:
            return
        if id not in model.items:
            with pytest.raises(ItemNotFound):
                self.db[name].delete(id)
            return
        assert self.db[name].delete(id) == 1
        del model.items[id]

    @rule(name=names, text=st.sampled_from(FILTERS))
    def delete_by_filter(self, name: str, text: str) -> None:
        model = self.model(name)
        if model is not None:
            chosen = model.matching(text)
            assert self.db[name].delete(filter=text) == len(chosen)
            for id in chosen:
                del model.items[id]

    @rule(name=names, id=ids, data=metadata.filter(lambda data: data is not None), replace=st.booleans())
    def update_metadata(self, name: str, id: str, data: dict[str, Any], replace: bool) -> None:
        model = self.model(name)
        if model is None:
            return
        if id not in model.items:
            with pytest.raises(ItemNotFound):
                self.db[name].update_metadata(id, data, replace=replace)
            return
        self.db[name].update_metadata(id, data, replace=replace)
        item = model.items[id]
        item.metadata = json.loads(json.dumps(data if replace else {**item.metadata, **data}))

    @rule(key=st.sampled_from(["a", "b", "é"]), value=st.none() | st.binary(max_size=5))
    def set_key(self, key: str, value: bytes | None) -> None:
        if value is not None:
            self.db.kv[key] = value
            self.kv[key] = value
        elif key in self.kv:
            del self.db.kv[key]
            del self.kv[key]
        else:
            with pytest.raises(KeyError):
                del self.db.kv[key]

    @rule(key=st.sampled_from(["a", "b"]), value=st.none() | st.binary(max_size=5))
    def keep(self, key: str, value: bytes | None) -> None:
        """Change what a database keeps for itself among the keys."""
        if value is not None:
            AllKeys(self.db)[RESERVED + key] = self.kept[RESERVED + key] = value
        elif AllKeys(self.db).pop(RESERVED + key, None) is not None:
            del self.kept[RESERVED + key]

    @rule()
    def clear_keys(self) -> None:
        self.db.kv.clear()
        self.kv.clear()

    @rule(name=names, items=several, gone=ids, fails=st.booleans(), value=st.binary(max_size=3))
    def batch(self, name: str, items: list[tuple[str, Any, Any]], gone: str, fails: bool, value: bytes) -> None:
        model = self.model(name)
        if model is None:
            return
        index, before = self.db[name], dict(model.items)
        try:
            with self.db.batch():
                for id, vector, data in items:
                    index.upsert(id, vector, data)
                    model.put(id, vector, data)
                if gone in model.items:
                    index.delete(gone)
                    del model.items[gone]
                for id, _, _ in items[:2]:
                    if id in model.items:
                        index.update_metadata(id, {"n": 3})
                        model.items[id].metadata = {**model.items[id].metadata, "n": 3}
                self.db.kv["batch"] = AllKeys(self.db)[f"{RESERVED}batch"] = value
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            model.items = before
        else:
            self.kv["batch"] = self.kept[f"{RESERVED}batch"] = value

    # --------------------------------------------------------------------------------------------------- durability

    @rule(call=st.sampled_from(["save", "rewrite_aof", "sync"]))
    def make_durable(self, call: str) -> None:
        getattr(self.db, call)()

    @rule(name=names, items=several)
    def save_while_writing(self, name: str, items: list[tuple[str, Any, Any]]) -> None:
        waiting = list(items)

        def write(done: int, total: int) -> None:
            if waiting:
                id, vector, data = waiting.pop()
                self.upsert(name, id, vector, data)
                self.delete(name, id) if len(waiting) % 3 == 2 else None

        self.db.save(progress=write)

    @rule(name=names, items=several, gone=ids, at=st.integers(0, 6))
    def vacuum_while_writing(self, name: str, items: list[tuple[str, Any, Any]], gone: str, at: int) -> None:
        if self.model(name) is None:
            return
        control = Writing(lambda: (self.put_batch(name, items, True), self.delete(name, gone)), at)
        assert vacuum(self.db, name, control)["n_removed"] >= 0

    @rule(name=names, items=several, ef=st.sampled_from([None, 5, 50]))
    def refine_while_writing(self, name: str, items: list[tuple[str, Any, Any]], ef: int | None) -> None:
        if self.model(name) is not None:
            refine(self.db, name, Writing(lambda: self.put_batch(name, items, True), 0), None, ef)

    @rule(name=names)
    def vacuum_as_a_task(self, name: str) -> None:
        if self.model(name) is not None:
            self.db[name].vacuum().wait(60)
            assert self.db[name].stats()["n_tombstones"] == 0

    @rule()
    def reopen(self) -> None:
        self.db.close()
        self.db = Database.open("/db", **self.options)

    @rule()
    def look_at_a_copy(self) -> None:
        """A copy of the files while they are in use is what a kill leaves."""
        with Database.open("/db", **{**self.options, "backend": self.disk.copy()}) as copy:
            self.check(copy)

    @rule()
    def look_beside(self) -> None:
        with Database.open("/db", **self.options, read_only=True) as view:
            self.check(view)

    # -------------------------------------------------------------------------------------------------------- checks

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        if hasattr(self, "db"):
            self.check(self.db)

    def check(self, db: Database) -> None:
        assert list(db) == sorted(self.indexes)
        assert dict(db.kv) == self.kv
        assert dict(AllKeys(db)) == {**self.kv, **self.kept}
        assert (len(db.kv), len(AllKeys(db))) == (len(self.kv), len(self.kv) + len(self.kept))
        for name, model in self.indexes.items():
            index = db[name]
            assert index.ids() == list(model.items)
            assert len(index) == index.count() == len(model.items)
            for id, item in model.items.items():
                self.check_item(index[id], item, model.metric)
            for text in FILTERS:
                assert index.ids(text) == model.matching(text), text
            self.check_search(index, model)

    def check_item(self, found: kektordb.Item, item: ModelItem, metric: str) -> None:
        assert exactly(found.metadata) == exactly(item.metadata)
        stored = found.vector.tobytes()
        if metric == "cosine":
            norm = float(np.linalg.norm(item.vector.astype(np.float64)))
            assert np.abs(found.vector - (item.vector / norm if norm else item.vector)).max() <= 1e-6
        else:
            assert stored == item.vector.tobytes()
        assert item.stored in (b"", stored), "a stored vector never changes, not even in its last bit"
        item.stored = stored

    def check_search(self, index: kektordb.Index, model: ModelIndex) -> None:
        for n, query in enumerate(np.array([[1, 0.5, -1], [0, 0, 0], [-2, 2, 1.5]], np.float32)):
            text = FILTERS[(len(model.items) + n) % len(FILTERS)]
            for filter, chosen in ((None, list(model.items)), (text, model.matching(text))):
                expected = model.distances(query, chosen)
                for k in (3, 1000):
                    hits = index.search(query, k=k, ef_search=1000, filter=filter)
                    assert len(hits) == min(k, len(chosen))
                    assert np.allclose(hits.distances, np.sort(expected)[:k], atol=2e-6)
                    if model.metric != "cosine":
                        assert hits.ids == [chosen[i] for i in np.argsort(expected, kind="stable")[:k]]


SMALL = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def test_any_sequence_of_calls_leaves_what_it_leaves_in_a_dict() -> None:
    run_state_machine_as_test(Machine, settings=SMALL)


@pytest.mark.fuzz
def test_any_sequence_of_calls_for_as_long_as_asked(request: pytest.FixtureRequest) -> None:
    """Runs for KEKTORDB_FUZZ_SECONDS when asked for with -m fuzz."""
    if "fuzz" not in (request.config.getoption("-m") or ""):
        pytest.skip("asked for with -m fuzz")
    end = time.monotonic() + float(os.environ.get("KEKTORDB_FUZZ_SECONDS", "60"))
    many = settings(SMALL, derandomize=False, max_examples=20, stateful_step_count=60, database=None)
    while time.monotonic() < end:
        run_state_machine_as_test(Machine, settings=many)
