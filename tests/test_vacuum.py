"""A vacuum takes nothing but what is deleted: all is answered as before, whatever happens meanwhile."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from faults import MemoryBackend

import kektordb
from kektordb._heal import connect
from kektordb.database import Database
from kektordb.errors import IndexNotFound
from kektordb.index import Index
from kektordb.tasks import Cancelled, Control
from kektordb.upkeep import copying
from kektordb.upkeep.vacuum import vacuum

Floats = npt.NDArray[np.float32]

DIM = 8
STEP = 16
FILTERS = ["n < 30", "tag = 'a' OR tag = 'only 7'", "deep.k >= 2", "EXISTS(list)", "tag LIKE 'only%'", "n = 5.5"]
WORDS = ["red", "running", "shoe", "wolf", "sings", "night", "river", "slow", "cold", "stone"]
METRICS = ["cosine", "euclidean", "dot"]


class Hook(Control):
    """Calls a function with the number of the slice, which may write, or raise."""

    __slots__ = ("act", "n")

    def __init__(self, act: Callable[[int], object] = lambda n: None) -> None:
        super().__init__()
        self.act = act
        self.n = 0

    def check(self) -> None:
        self.act(self.n)
        self.n += 1
        super().check()


@pytest.fixture(autouse=True)
def slices_of_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast the machine is, there are slices enough to come between."""

    def slices(self: copying.Pace, total: int) -> Iterator[tuple[int, int]]:
        yield from ((start, min(start + STEP, total)) for start in range(0, total, STEP))

    monkeypatch.setattr(copying.Pace, "slices", slices)


def row_of(i: int) -> Floats:
    return np.random.default_rng(i).integers(-6, 7, DIM).astype(np.float32)


def metadata_of(i: int) -> dict[str, Any]:
    words = random.Random(i).choices(WORDS, k=3 + i % 9)
    text = " ".join([*words, f"w{i}"])
    return {"n": i % 60, "tag": f"only {i}" if i % 3 else "a", "deep": {"k": i % 4}, "text": text}


def fill(index: Index, items: range | list[int]) -> None:
    index.upsert_batch([f"i{i}" for i in items], [row_of(i) for i in items], [metadata_of(i) for i in items])


def make(database: Database, n: int = 300, **options: Any) -> Index:
    """An index with texts, of which every other item was deleted, and some were changed."""
    index = database.create_index("a", **{"text_language": "english", "m": 4, "ef_construction": 40, **options})
    fill(index, range(n))
    index.update_metadata("i1", {"text": "cold cold stones", "n": 5.5, "list": ["x", 1]})
    fill(index, [3, 9])
    index.delete([f"i{i}" for i in range(0, n, 2)])
    return index


def everything(index: Index) -> dict[str, Any]:
    """What can be asked of an index, without what depends on a walk."""
    ids = index.ids()
    items = index.get_many(ids)
    texts = index._collection().texts
    found: dict[str, Any] = {
        "ids": ids,
        "vectors": [item.vector.tobytes() for item in items if item is not None],
        "metadata": [repr(item.metadata) for item in items if item is not None],
        "filters": [index.ids(filter) for filter in FILTERS],
        "counts": [index.count(filter) for filter in FILTERS],
        "dim": index.dim,
    }
    if texts is not None:
        found["texts"] = texts.stats()
        found["df"] = {word: texts.estimate("text", word, True) for word in [*WORDS, "w3", "w4", "stones"]}
    if ids:
        query = np.resize(row_of(10**6), index.dim or DIM)
        # A filter that few match is exact, whatever the graph.
        near = index.search(query, k=1000, filter="n >= 0")
        found["near"] = near.ids, near.distances.tolist()
        if texts is not None:
            words = index.search(text="cold running w3 w5", k=1000)
            found["words"] = words.ids, [hit.score for hit in words]
            hybrid = index.search(query, text="night stones", k=20, filter="n < 50")
            found["hybrid"] = hybrid.ids, [hit.score for hit in hybrid]
    return found


def slots(index: Index) -> tuple[int, int]:
    """Slots in use, and living items."""
    return index._collection().n_slots, len(index)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", [{}, {"precision": "float16"}, {"traversal": "float32", "text_language": ""}])
def test_nothing_but_the_deleted_goes(metric: str, options: dict[str, Any]) -> None:
    with kektordb.open(":memory:") as db:
        index = make(db, metric=metric, **options)
        before = everything(index)
        result = vacuum(db, "a", Hook())
        assert everything(index) == before
        assert result["n_removed"] == 152
        assert slots(index) == (150, 150)
        assert index.stats()["n_tombstones"] == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_rows_enough_for_codes_are_moved_bit_for_bit(metric: str, precision: str) -> None:
    n = 1500
    with kektordb.open(":memory:", n_threads=2) as db:
        index = db.create_index("a", metric=metric, precision=precision)
        rows = np.random.default_rng(1).standard_normal((n, 20)).astype(np.float32)
        index.add_batch([f"i{i}" for i in range(n)], rows, [{"n": i} for i in range(n)])
        index.delete([f"i{i}" for i in range(n) if i % 5 < 2])
        before = everything(index)
        vacuum(db, "a", Hook())
        assert everything(index) == before
        assert index.stats()["precision"] == precision
        # It is walked as before, and grows.
        hits = index.search_batch(rows[2::5][:100], k=1, ef_search=50)
        exact = index.search_batch(rows[2::5][:100], k=1, filter="n >= 0")
        assert sum(hit.ids == best.ids for hit, best in zip(hits, exact, strict=True)) >= 98
        index.add_batch([f"j{i}" for i in range(200)], rows[:200] + 3, [{"n": i} for i in range(200)])
        assert index.search(rows[7] + 3, k=1).ids == index.search(rows[7] + 3, k=1, filter="n >= 0").ids
        assert len(index) == 1100


def test_ties_keep_their_order() -> None:
    with kektordb.open(":memory:") as db:
        index = db.create_index("a", metric="euclidean", m=4)
        same = np.ones((400, DIM), np.float32)
        index.add_batch([f"i{i}" for i in range(400)], same, [{"n": i} for i in range(400)])
        index.delete(filter="n < 50 OR n > 300")
        vacuum(db, "a", Hook())
        assert index.search(same[0], k=10, filter="n >= 0").ids == [f"i{i}" for i in range(50, 60)]


def test_every_row_is_found_by_a_walk() -> None:
    """Clusters of which most rows are gone."""
    rng = np.random.default_rng(4)
    centres = 20 * rng.standard_normal((12, DIM))
    rows = (centres[rng.integers(0, 12, 1200)] + rng.standard_normal((1200, DIM))).astype(np.float32)
    with kektordb.open(":memory:", n_threads=2) as db:
        index = db.create_index("a", metric="euclidean", m=5, ef_construction=30)
        index.add_batch([str(i) for i in range(1200)], rows)
        index.delete([str(i) for i in rng.permutation(1200)[:1000]])
        vacuum(db, "a", Hook())
        graph = index._collection().graph
        assert graph is not None
        assert graph.fault() == ""
        assert connect(graph, 1000) == 0, "rows that no walk reaches"


# ------------------------------------------------------------------------------------------------------ small indexes


@pytest.mark.parametrize("dim", [None, DIM])
def test_an_empty_index_has_nothing_to_remove(dim: int | None) -> None:
    with kektordb.open(":memory:") as db:
        index = db.create_index("a", dim=dim)
        assert vacuum(db, "a", Hook()) == {"n_removed": 0, "reclaimed_bytes": 0}
        index.add("x", row_of(1))
        assert vacuum(db, "a", Hook())["n_removed"] == 0


def test_all_deleted_leaves_an_empty_index_of_the_same_dimension() -> None:
    disk = MemoryBackend()
    options: dict[str, Any] = {"autosave": "", "backend": disk}
    with Database.open("/db", **options) as db:
        index = make(db, 40)
        index.delete(filter="EXISTS(n)")
        assert vacuum(db, "a", Hook())["n_removed"] == 42
        assert slots(index) == (0, 0)
        assert index.search(row_of(1)).ids == []
        assert index.search(text="cold").ids == []
        db.save()
    with Database.open("/db", **options) as db:
        index = db["a"]
        assert (index.ids(), index.dim) == ([], DIM)
        fill(index, range(20))
        assert index.search(row_of(3), k=1, filter="n = 3").ids == ["i3"]


def test_an_index_that_is_not_there() -> None:
    with kektordb.open(":memory:") as db, pytest.raises(IndexNotFound):
        vacuum(db, "a", Hook())


def test_deleted_and_added_again_and_vacuumed() -> None:
    """The original found such items no more."""
    with kektordb.open(":memory:") as db:
        index = make(db, 100)
        for _ in range(3):
            fill(index, range(0, 100, 2))
            vacuum(db, "a", Hook())
            assert slots(index) == (100, 100)
            for i in range(100):
                assert index.search(row_of(i), k=1, ef_search=200).distances[0] < 1e-6
            index.delete([f"i{i}" for i in range(0, 100, 2)])
        vacuum(db, "a", Hook())
        assert sorted(index.ids()) == sorted(f"i{i}" for i in range(1, 100, 2))


# ------------------------------------------------------------------------------------------------- writes at any moment


def write_some(index: Index, n: int) -> None:
    """Something else each time, of items that were copied, that will be, and that are new."""
    kind = n % 6
    if kind == 0:
        index.add(f"new{n}", row_of(1000 + n), metadata_of(1000 + n))
    elif kind == 1:
        fill(index, [1 + 2 * (n % 140), 299 - 2 * (n % 140)])
    elif kind == 2:
        index.delete(index.ids()[n % len(index)])
    elif kind == 3:
        index.update_metadata(index.ids()[-1 - n % len(index)], {"text": f"slow wolf w{n}", "n": n, "list": [n]})
    elif kind == 4:
        id = index.ids()[(7 * n) % len(index)]
        item = index[id]
        index.delete(id)
        index.add(id, row_of(2000 + n), item.metadata)
    else:
        with index.database.batch():
            index.upsert(f"i{2 * (n % 100)}", row_of(n), metadata_of(n))
            index.delete(index.ids()[n % 20])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_writes_at_any_moment_are_not_lost(metric: str) -> None:
    with kektordb.open(":memory:") as db:
        index = make(db, metric=metric)
        plain = make(db_plain := kektordb.open(":memory:"), metric=metric)

        def act(n: int) -> None:
            write_some(index, n)
            write_some(plain, n)

        hook = Hook(act)
        vacuum(db, "a", hook)
        assert hook.n > 10, "there were slices enough to come between"
        expected = everything(plain)
        assert everything(index) == expected
        assert index._collection().journal is None
        vacuum(db, "a", Hook())
        assert everything(index) == expected
        db_plain.close()


@pytest.mark.parametrize("at", range(0, 24, 3))
def test_one_write_at_each_slice(at: int) -> None:
    """Each kind of write at each phase, by itself."""
    for kind in range(6):
        with kektordb.open(":memory:") as db, kektordb.open(":memory:") as other:
            index, plain = make(db, 80), make(other, 80)
            done = []

            def act(n: int, *, kind: int = kind, index: Index = index, plain: Index = plain) -> None:
                if n == at or (n > at and not done):  # noqa: B023
                    done.append(n)  # noqa: B023
                    write_some(index, 60 + kind)
                    write_some(plain, 60 + kind)

            vacuum(db, "a", Hook(act))
            if done:
                assert everything(index) == everything(plain)


def test_rows_enough_to_train_come_in_meanwhile() -> None:
    """The rows of the index become bytes in the middle: the copy's do too, and the same ones."""
    rows = np.random.default_rng(2).standard_normal((1300, DIM)).astype(np.float32)
    with kektordb.open(":memory:") as db, kektordb.open(":memory:") as other:
        both = [d.create_index("a", metric="euclidean", precision="int8") for d in (db, other)]
        for index in both:
            index.add_batch([str(i) for i in range(800)], rows[:800], [{"n": i} for i in range(800)])
            index.delete(filter="n < 300")

        def act(n: int) -> None:
            if n == 4:
                for index in both:
                    index.add_batch([f"new{i}" for i in range(500)], rows[800:], [{"n": i} for i in range(500)])

        vacuum(db, "a", Hook(act))
        assert both[0].stats()["precision"] == "int8"
        assert everything(both[0]) == everything(both[1])


def test_searches_and_writes_in_other_threads_go_on() -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((4000, DIM)).astype(np.float32)
    stop, faults, n_searches = threading.Event(), [], [0]
    with kektordb.open(":memory:", n_threads=2) as db:
        index = db.create_index("a", metric="euclidean", m=6, ef_construction=40, text_language="simple")
        ids = [str(i) for i in range(4000)]
        index.add_batch(ids[:3000], rows[:3000], [{"n": i, "t": f"w{i % 50}"} for i in range(3000)])
        index.delete(filter="n < 1500")

        def search() -> None:
            try:
                while not stop.is_set():
                    i = 1500 + n_searches[0] % 1500
                    assert index.search(rows[i], k=1, ef_search=100).ids == [str(i)]
                    hits = index.search(rows[i], text=f"w{i % 50}", k=5, snippet=True)
                    assert all(f"w{i % 50}" == hit.metadata["t"] for hit in hits if hit.snippet)
                    n_searches[0] += 1
            except BaseException as error:
                faults.append(error)

        def write() -> None:
            try:
                for i in range(3000, 4000):
                    index.add(ids[i], rows[i], {"n": i, "t": "w"})
                    if i % 3 == 0:
                        index.delete(ids[i])
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=search), threading.Thread(target=write)]
        for thread in threads:
            thread.start()
        vacuum(db, "a", Hook())
        threads[1].join()
        stop.set()
        threads[0].join()
        assert not faults
        assert n_searches[0] > 0
        expected = [i for i in range(1500, 4000) if i < 3000 or i % 3]
        assert index.ids() == [str(i) for i in expected]
        assert index._collection().graph.fault() == ""  # type: ignore[union-attr]


# -------------------------------------------------------------------------------------------------- failures, and files


@pytest.mark.parametrize("at", [0, 1, 3, 8, 15, 20])
@pytest.mark.parametrize("error", [Cancelled("stop"), MemoryError(), kektordb.StorageError("no room")])
def test_a_failure_in_the_middle_leaves_everything_as_it_was(at: int, error: BaseException) -> None:
    with kektordb.open(":memory:") as db:
        index = make(db, 200)
        before = everything(index)

        def act(n: int) -> None:
            if n == at:
                raise error

        with pytest.raises(type(error)):
            vacuum(db, "a", Hook(act))
        assert everything(index) == before
        assert index._collection().journal is None
        assert slots(index) == (202, 100)
        vacuum(db, "a", Hook())
        assert everything(index) == before


def test_a_database_that_is_closed_in_the_middle_opens_as_it_was() -> None:
    disk = MemoryBackend()
    options: dict[str, Any] = {"autosave": "", "backend": disk}
    db = Database.open("/db", **options)
    before = everything(make(db))
    task = db["a"].vacuum()
    db.close()
    assert task.status in ("completed", "cancelled")
    with Database.open("/db", **options) as db:
        assert everything(db["a"]) == before


def test_an_index_that_is_dropped_in_the_middle() -> None:
    with kektordb.open(":memory:") as db:
        make(db)
        with pytest.raises(IndexNotFound):
            vacuum(db, "a", Hook(lambda n: db.drop_index("a") if n == 3 else None))
        index = make(db, 50)
        assert slots(index) == (52, 25)


def test_as_a_task() -> None:
    with kektordb.open(":memory:") as db:
        index = make(db)
        task = index.vacuum()
        task.wait(timeout=60)
        assert task.result is not None
        assert task.result["n_removed"] == 152
        assert (task.status, task.progress) == ("completed", 1.0)


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_saved_and_opened_again(when: str) -> None:
    """With a snapshot of before the vacuum, and a log that knows nothing of it, too."""
    disk = MemoryBackend()
    options: dict[str, Any] = {"autosave": "", "backend": disk}
    with Database.open("/db", **options) as db:
        index = make(db)
        if when == "before":
            db.save()
        vacuum(db, "a", Hook())
        if when == "between":
            db.save()
        for n in range(40):
            write_some(index, n)
        if when == "after":
            db.save()
        before = everything(index)
    for _ in range(2):
        with Database.open("/db", **options) as db:
            assert everything(db["a"]) == before
            db.save()
            vacuum(db, "a", Hook())
            assert everything(db["a"]) == before
            fill(db["a"], [5, 6])
            before = everything(db["a"])


def test_levels_are_drawn_anew_after_a_vacuum() -> None:
    """With those of the slots that are used again, a graph that is small and turns over would lose its upper levels."""
    disk = MemoryBackend()
    options: dict[str, Any] = {"autosave": "", "backend": disk}
    seen = []
    db = Database.open("/db", **options)
    index = make(db, 60)
    for _ in range(4):
        vacuum(db, "a", Hook())
        graph = index._collection().graph
        assert graph is not None
        start = len(graph)
        fill(index, range(500, 560))
        seen.append([graph.level(i) for i in range(start, start + 60)])
        index.delete([f"i{i}" for i in range(500, 560)])
        vacuum(db, "a", Hook())
        db.save()
        db.close()
        db = Database.open("/db", **options)
        index = db["a"]
    db.close()
    assert len({tuple(levels) for levels in seen}) == 4


def test_while_a_save_is_under_way() -> None:
    """The save goes on with what it has seen, the vacuum waits at its end, and neither is lost."""
    disk = MemoryBackend()
    options: dict[str, Any] = {"autosave": "", "backend": disk}
    waits, ready = threading.Event(), threading.Event()
    with Database.open("/db", **options) as db:
        index = make(db)
        before = everything(index)

        def progress(done: int, total: int) -> None:
            ready.set()
            assert waits.wait(60)

        saving = threading.Thread(target=db.save, kwargs={"progress": progress})
        saving.start()
        assert ready.wait(60)
        task = index.vacuum()
        while task.progress < 1:
            assert task.status in ("started", "running")
        assert slots(index) == (302, 150), "it does not take over before the save is done"
        waits.set()
        saving.join()
        task.wait(timeout=60)
        assert slots(index) == (150, 150)
        assert everything(index) == before
        with Database.open("/db", **{**options, "backend": disk.copy()}) as copy:
            assert everything(copy["a"]) == before
        db.save()
    with Database.open("/db", **options) as db:
        assert slots(db["a"]) == (150, 150)
        assert everything(db["a"]) == before


def test_memory_and_files_become_smaller() -> None:
    disk = MemoryBackend()
    n = 2000
    rng = np.random.default_rng(6)
    with Database.open("/db", autosave="", backend=disk) as db:
        index = db.create_index("a", m=8, ef_construction=30, text_language="simple")
        texts = [" ".join(f"w{i % 97 + j}" for j in range(8)) for i in range(n)]
        metadata = [{"n": i, "name": f"item number {i}", "t": texts[i]} for i in range(n)]
        index.add_batch([f"a rather long id {i}" for i in range(n)], rng.standard_normal((n, 64)), metadata)
        db.save()
        index.delete(filter="n < 1000")
        parts = index.stats()["memory_bytes"]
        assert db.stats()["snapshot_bytes"] > 0
        large = db.stats()["snapshot_bytes"]
        result = vacuum(db, "a", Hook())
        now = index.stats()["memory_bytes"]
        assert result["reclaimed_bytes"] == parts["total"] - now["total"]
        assert now["total"] < 0.55 * parts["total"]
        for part in ("vectors", "graph", "ids", "metadata", "text"):
            assert now[part] < 0.6 * parts[part], part
        report = db.rewrite_aof()
        assert report is not None
        assert db.stats()["snapshot_bytes"] < 0.55 * large


def test_words_that_nobody_has_any_more_are_forgotten() -> None:
    with kektordb.open(":memory:") as db:
        index = make(db)
        texts = index._collection().texts
        assert texts is not None
        n = len(texts.vocabulary)
        vacuum(db, "a", Hook())
        texts = index._collection().texts
        assert texts is not None
        assert texts.vocabulary.number("w4") == -1
        assert texts.vocabulary.number("w5") >= 0
        assert len(texts.vocabulary) < n - 100


def test_results_of_before_can_be_read_after() -> None:
    with kektordb.open(":memory:") as db:
        index = make(db)
        expected = [metadata_of(int(hit.id[1:])) for hit in index.search(row_of(7), k=5)]
        hits = index.search(row_of(7), k=5)
        vacuum(db, "a", Hook())
        for i in range(50):
            index.add(f"other{i}", row_of(i), {f"k{i}": i})
        assert [hit.metadata for hit in hits] == expected


def test_a_refinement_goes_on_where_it_was() -> None:
    with kektordb.open(":memory:") as db:
        index = make(db, 300)
        collection = db._state.collection("a")
        collection.refined_to = 151
        following = index.ids()[collection.alive.slots().tolist().index(151) :]
        vacuum(db, "a", Control())
        assert index.ids()[collection.refined_to :] == following
