"""The recall that is asked for is reached, by queries that were never seen; what is measured is kept and made anew."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from exact import clusters, distances, nearest

import kektordb
from kektordb import ConfigError, Database, Index, TaskFailed, VectorError
from kektordb._census import Census
from kektordb._hnsw import Graph
from kektordb._trials import Trials, links_to
from kektordb.calibration import EXACT, Calibration, Curve, classes_of
from kektordb.tasks import Cancelled, Control
from kektordb.upkeep import quality

N, DIM = 4000, 24
ROWS = clusters(N, DIM, 1)
# Queries that are in no index.
QUERIES = clusters(1500, DIM, 2)

Floats = npt.NDArray[np.float32]


def make(db: Database, rows: Floats = ROWS, **options: Any) -> Index:
    index = db.create_index("x", **{"metric": "euclidean", "m": 6, "ef_construction": 40, **options})
    index.add_batch([str(i) for i in range(len(rows))], rows, n_threads=1)
    return index


@pytest.fixture
def db() -> Iterator[Database]:
    with kektordb.open(":memory:") as database:
        yield database


@pytest.fixture(scope="module")
def shared() -> Iterator[Index]:
    """An index that no test changes."""
    with kektordb.open(":memory:") as database:
        yield make(database)


def graph_of(index: Index) -> Graph:
    graph = index._collection().graph
    assert graph is not None
    return graph


def reached(index: Index, k: int = 10, rows: Floats = ROWS, metric: str = "euclidean", **how: Any) -> float:
    """Return the true recall of searches for queries that are not in the index."""
    found = index.search_batch(QUERIES, k, **how)
    total = 0
    for query, hits in zip(QUERIES, found, strict=True):
        wanted = np.partition(distances(metric, rows, query), k - 1)[k - 1]
        total += int((hits.distances <= wanted + 1e-5 * (1 + abs(wanted))).sum())
    return total / (k * len(QUERIES))


# ------------------------------------------------------------------------------------------------------ trial searches


def links_of(graph: Graph, slots: npt.NDArray[np.uint32], step: int) -> npt.NDArray[np.uint64]:
    n = len(graph)
    return np.sort(np.concatenate([links_to(graph, slots, i, min(n, i + step)) for i in range(0, n, step)]))


@pytest.mark.parametrize("step", [N, 333])
def test_all_lists_that_hold_a_row_are_found(shared: Index, step: int) -> None:
    graph = graph_of(shared)
    slots = np.array([3, 77, 1500, 3999], np.uint32)

    found = links_of(graph, slots, step)

    lists = [set(graph.neighbours(i)) for i in range(N)]
    wanted = [(place, i) for place, slot in enumerate(slots.tolist()) for i in range(N) if slot in lists[i]]
    assert [(int(link) >> 32, int(link) & 0xFFFFFFFF) for link in found] == wanted
    assert wanted


def healed_slowly(graph: Graph, owner: int, gone: int) -> list[int]:
    """Do what the heuristic of insertion would have done, in NumPy."""
    kept = [slot for slot in graph.neighbours(owner) if slot != gone]
    if owner < gone or len(kept) == 12:
        return kept
    others = [slot for slot in graph.neighbours(gone) if slot != owner and slot not in kept]
    for slot in sorted(others, key=lambda slot: float(distances("euclidean", ROWS[[slot]], ROWS[owner])[0])):
        far = float(distances("euclidean", ROWS[[slot]], ROWS[owner])[0])
        if not kept or distances("euclidean", ROWS[kept], ROWS[slot]).min() >= far:
            return [*kept, slot]
    return kept


def test_a_list_heals_by_the_rule_of_insertion(db: Database) -> None:
    graph = graph_of(make(db, traversal="float32"))
    slots = np.array([i for i in range(0, N, 40) if graph.level(i) == 0], np.uint32)
    trials = Trials(graph, slots, links_of(graph, slots, N))

    trials.heal(0, len(slots))

    n_grown = 0
    for i, gone in enumerate(slots.tolist()):
        for owner, links in trials.lists_of(i).items():
            assert links == healed_slowly(graph, owner, gone)
            n_grown += len(links) == len(graph.neighbours(owner))
    assert n_grown > 20


def test_a_trial_finds_the_nearest_others_and_never_the_row_itself(shared: Index) -> None:
    """The graph itself finds the row, at a distance of 0, and a trial that found it would count one neighbour less."""
    graph = graph_of(shared)
    slots = np.array([i for i in range(0, N, 8) if graph.level(i) == 0], np.uint32)
    trials = Trials(graph, slots, links_of(graph, slots, N))
    trials.heal(0, len(slots))
    limits = np.array([np.sort(distances("euclidean", ROWS, ROWS[slot]))[10] for slot in slots], np.float32) * 1.0001

    narrow, wide, inside = (
        trials.run(0, len(slots), 10, ef, limits, is_inside, None, N).mean()
        for ef, is_inside in ((10, False), (150, False), (10, True))
    )

    assert narrow < inside < 1
    assert wide > 0.99
    part = trials.run(5, 9, 10, 10, limits, False, None, N)
    assert part.tolist() == trials.run(0, len(slots), 10, 10, limits, False, None, N)[5:9].tolist()


# -------------------------------------------------------------------------------------------------------- check_recall


@pytest.mark.parametrize("options", [{}, {"metric": "cosine"}, {"metric": "dot"}, {"precision": "float16"}])
def test_check_recall_is_near_the_truth(db: Database, options: dict[str, str]) -> None:
    metric = options.get("metric", "euclidean")
    rows = ROWS.astype(np.float16).astype(np.float32)
    index = make(db, rows, **options)

    for ef in (10, 25):
        truth = reached(index, rows=rows, metric=metric, ef_search=ef)
        of_rows = index.check_recall(1000, ef_search=ef)
        of_queries = index.check_recall(ef_search=ef, queries=QUERIES)
        assert of_queries.recall == pytest.approx(truth, abs=2e-3)
        assert of_rows.recall == pytest.approx(truth, abs=0.025)
        assert 0 < of_rows.margin < 0.03
        assert (of_rows.n, of_rows.k, of_rows.ef_search) == (1000, 10, ef)


def test_check_recall_is_made_of_rows_that_the_seed_chooses(shared: Index) -> None:
    first = shared.check_recall(100, ef_search=10, seed=1)

    assert shared.check_recall(100, ef_search=10, seed=1) == first
    assert shared.check_recall(100, ef_search=10, seed=2) != first


def test_check_recall_of_hardly_anything(db: Database) -> None:
    index = db.create_index("x", metric="euclidean")
    assert index.check_recall().n == 0
    index.add("a", [1.0, 2.0])
    assert index.check_recall().recall == 1.0
    index.add_batch(["b", "c"], [[1.0, 2.0], [3.0, 4.0]])
    index.delete("c")
    assert index.check_recall(k=5).recall == 1.0


def test_deleted_rows_are_neither_queries_nor_answers(db: Database) -> None:
    index = make(db)
    index.delete([str(i) for i in range(0, N, 2)])

    estimate = index.check_recall(1000, ef_search=20)

    assert estimate.recall == pytest.approx(reached(index, rows=ROWS[1::2], ef_search=20), abs=0.025)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"n": 0}, ConfigError),
        ({"n": "9"}, ConfigError),
        ({"k": 0}, ConfigError),
        ({"seed": -1}, ConfigError),
        ({"recall": 0.9, "ef_search": 50}, ConfigError),
        ({"queries": np.full((1, DIM), np.nan)}, VectorError),
        ({"queries": np.ones((2, DIM + 1))}, VectorError),
        ({"queries": np.empty((0, DIM))}, VectorError),
        ({"queries": "abc"}, VectorError),
    ],
)
def test_check_recall_refuses(shared: Index, arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        shared.check_recall(**arguments)


# ------------------------------------------------------------------------------------------------------ search(recall=)


def test_the_recall_that_is_asked_for_is_reached(shared: Index) -> None:
    shared.calibrate().wait()

    for recall in (0.95, 0.97, 0.99):
        assert reached(shared, recall=recall) == pytest.approx(recall, abs=0.02)
    assert reached(shared, k=1, recall=0.95) == pytest.approx(0.95, abs=0.03)
    # No walk is narrower than the number of results, and this one finds more.
    assert reached(shared, k=30, recall=0.95) == pytest.approx(0.99, abs=0.01)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
def test_a_recall_of_one_compares_every_item(db: Database, metric: str, precision: str) -> None:
    rows = np.vstack([ROWS, np.zeros((2, DIM), np.float32)]).astype(np.float16).astype(np.float32)
    index = make(db, rows, metric=metric, precision=precision, m=2, ef_construction=2)

    for query in QUERIES[:60]:
        truth = np.sort(distances(metric, rows, query))[:10]
        assert [hit.distance for hit in index.search(query, recall=1)] == pytest.approx(truth, rel=2e-3, abs=2e-3)
    found = index.search_batch(QUERIES[:60], recall=1.0)
    assert [hits.ids for hits in found] == [index.search(query, recall=1.0).ids for query in QUERIES[:60]]


def test_a_recall_goes_with_filters_and_words(db: Database) -> None:
    index = db.create_index("x", metric="euclidean", text_language="simple")
    metadata = [{"n": i, "t": "red" if i % 3 else "blue"} for i in range(N)]
    index.add_batch([str(i) for i in range(N)], ROWS, metadata)
    for query in QUERIES[:20]:
        wanted = [2000 + i for i in nearest("euclidean", ROWS[2000:], query, 10)]
        assert [int(id) for id in index.search(query, recall=1.0, filter="n >= 2000").ids] == wanted
        by_both = index.search(query, text="blue", recall=1.0, k=5)
        assert by_both.ids == index.search(query, text="blue", ef_search=N, k=5).ids
        assert len(index.search(query, text="blue", recall=0.9, k=5)) == 5


def test_a_small_index_is_compared_as_a_whole(db: Database) -> None:
    index = make(db, ROWS[:500], m=2, ef_construction=2)

    assert reached(index, rows=ROWS[:500], recall=0.5) == 1.0
    assert index.stats()["calibration"] is None
    assert index.calibrate().wait() == {"curves": {}}


@pytest.mark.parametrize("recall", [0, -0.5, 1.5, math.nan, "0.9", True, [0.9]])
def test_a_recall_that_cannot_be_is_refused(shared: Index, recall: Any) -> None:
    with pytest.raises(ConfigError, match="recall"):
        shared.search(QUERIES[0], recall=recall)
    with pytest.raises(ConfigError, match="recall"):
        shared.search_batch(QUERIES, recall=recall)


def test_either_a_recall_or_a_width(shared: Index) -> None:
    with pytest.raises(ConfigError, match="either recall or ef_search"):
        shared.search(QUERIES[0], recall=0.9, ef_search=100)


def test_an_empty_index_has_every_recall(db: Database) -> None:
    index = db.create_index("x")

    assert len(index.search([1.0, 2.0], recall=0.9)) == 0
    assert index.calibrate().wait() == {"curves": {}}


# ----------------------------------------------------------------------------------------------- when it is measured


def test_only_what_is_asked_for_is_measured_at_once(db: Database) -> None:
    index = make(db)

    index.search(QUERIES[0], k=10, recall=0.9)
    assert index.stats()["calibration"] == {"ks": [10], "n_items": N, "is_stale": False}
    index.search(QUERIES[0], k=50, recall=0.9)
    assert index.stats()["calibration"]["ks"] == [10, 100]
    assert not list(db.tasks)


def test_a_large_index_is_measured_in_the_background(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "QUICK_COMPONENTS", N * DIM - 1)
    index = make(db)
    widths: list[int] = []
    search = type(index._collection()).search

    def seen(self: Any, query: Any, k: int, ef: int, *rest: Any) -> Any:
        widths.append(ef)
        return search(self, query, k, ef, *rest)

    monkeypatch.setattr("kektordb.collection.Collection.search", seen, raising=False)
    index.search(QUERIES[0], recall=0.9)
    index.search(QUERIES[0], recall=0.9)
    (task,) = db.tasks
    assert task.kind == "calibrate"
    assert set(task.wait()["curves"]) == {1, 10, 100}
    index.search(QUERIES[0], recall=0.9)
    assert widths[0] == quality.UNMEASURED_EF
    assert 10 <= widths[-1] < 100


def test_an_index_that_has_changed_by_a_fifth_is_measured_anew(db: Database) -> None:
    index = make(db)
    index.search(QUERIES[0], recall=0.9)
    n = N // 10
    index.add_batch([f"new{i}" for i in range(n)], QUERIES[:n])
    index.delete([str(i) for i in range(n)])
    index.search(QUERIES[0], recall=0.9)
    assert not list(db.tasks)

    index.delete([str(n)])

    assert index.stats()["calibration"]["is_stale"]
    index.search(QUERIES[0], recall=0.9)
    (task,) = db.tasks
    task.wait()
    assert index.stats()["calibration"] == {"ks": [1, 10, 100], "n_items": N - 1, "is_stale": False}


def test_a_refined_index_is_measured_anew(db: Database) -> None:
    index = make(db)
    index.calibrate().wait()

    index.refine().wait()

    assert index.stats()["calibration"]["is_stale"]


def test_what_was_measured_is_in_the_snapshot_alone(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db", autosave="", aof_rewrite_percentage=0) as database:
        make(database).calibrate().wait()
    with kektordb.open(tmp_path / "db", autosave="") as database:
        index = database["x"]
        assert index.stats()["calibration"] is None
        index.calibrate().wait()
        index.upsert("0", QUERIES[0])
        known = index._collection().tally.calibration
        database.save()
        index.upsert("1", QUERIES[0])
    with kektordb.open(tmp_path / "db", read_only=True) as database:
        tally = database["x"]._collection().tally
        assert known is not None
        assert tally.calibration is not None
        assert tally.calibration.curves == known.curves
        assert tally.n_changed == 2
        assert len(database["x"].search(QUERIES[0], recall=0.9)) == 10


def test_a_reader_that_loads_anew_goes_on_with_what_it_measured(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db", autosave="", aof_rewrite_percentage=0) as writer:
        index = make(writer)
        writer.save()
        with kektordb.open(tmp_path / "db", read_only=True) as reader:
            reader["x"].search(QUERIES[0], recall=0.9)
            collection = reader["x"]._collection()
            for n in range(3):
                index.add(f"new{n}", QUERIES[n])
                writer.save()
            reader.refresh()
            assert reader["x"]._collection() is not collection
            assert reader["x"].stats()["calibration"] == {"ks": [10], "n_items": N, "is_stale": False}
            assert reader["x"]._collection().tally.n_changed == 3
            assert reader.metrics()["indexes"]["x"]["search"]["count"] == 1
            assert reader["x"].calibrate().wait()["curves"]


def test_queries_from_outside_make_the_curve(db: Database) -> None:
    """Far away from all rows nothing is as it is among them."""
    index = make(db)
    far = QUERIES + 40

    curves = index.calibrate(queries=far).wait()["curves"]

    for ef in (10, 29):
        truth = index.check_recall(ef_search=ef, queries=far).recall
        assert curves[10][next(e for e in curves[10] if e >= ef)] >= truth - 1e-9
    with pytest.raises(VectorError, match="query 1"):
        index.calibrate(queries=np.vstack([QUERIES[:1], np.full((1, DIM), np.inf)]))


def test_a_cancelled_calibration_leaves_the_old_one(db: Database) -> None:
    index = make(db)
    index.search(QUERIES[0], recall=0.9)
    collection = index._collection()
    known = collection.tally.calibration
    control = Control()
    control.cancel()

    with pytest.raises(Cancelled):
        quality.calibrate(collection, control)

    assert collection.tally.calibration is known


class Interrupting(Control):
    """Does something in the midst of the work, some times."""

    def __init__(self, act: Callable[[], None], at: list[int]) -> None:
        super().__init__()
        self._act, self._at, self._n = act, deque(at), 0

    def check(self) -> None:
        super().check()
        self._n += 1
        if self._at and self._n == self._at[0]:
            self._at.popleft()
            self._act()


def test_a_vacuum_in_the_midst_starts_it_again(db: Database) -> None:
    index = make(db)

    def vacuum() -> None:
        index.delete(index.ids()[0])
        index.vacuum().wait()

    found = quality.calibrate(index._collection(), Interrupting(vacuum, [50, 400]), ks=(10,), n=200)

    assert list(found["curves"]) == [10]
    assert index.stats()["n_tombstones"] == 0
    assert index.stats()["n_items"] == N - 2


def test_an_index_that_never_rests_says_so(db: Database) -> None:
    index = make(db)

    def vacuum() -> None:
        index.delete(index.ids()[0])
        index.vacuum().wait()

    control = Interrupting(vacuum, list(range(20, 4000, 20)))
    with pytest.raises(kektordb.KektorError, match="try again"):
        quality.calibrate(index._collection(), control, ks=(10,), n=50)


def test_rows_may_come_and_go_in_the_midst(db: Database) -> None:
    index = make(db)
    fresh = iter(QUERIES)

    def write() -> None:
        row = next(fresh)
        index.add(f"new{row[0]}", row)
        index.delete(index.ids()[7])

    found = quality.calibrate(index._collection(), Interrupting(write, list(range(5, 900, 15))), ks=(10,), n=300)

    assert max(found["curves"][10].values()) > 0.98
    assert index._collection().tally.n_changed > 50


def test_a_dropped_index_ends_its_calibration(db: Database) -> None:
    index = make(db)
    task = index.calibrate()
    db.drop_index("x")

    with suppress(TaskFailed):  # unless it was faster
        task.wait()
    with pytest.raises(kektordb.IndexNotFound):
        index.calibrate()


# ------------------------------------------------------------------------------------------ precisions and upkeep


def stored(index: Index, n: int = N) -> Floats:
    """Return the vectors of items by id, as they come back."""
    return np.stack([item.vector for item in index.get_many([str(i) for i in range(n)]) if item is not None])


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
def test_bytes_are_measured_against_the_rows_that_are_stored(db: Database, metric: str) -> None:
    index = make(db, metric=metric, precision="int8")
    rows = stored(index)

    for ef in (10, 25):
        truth = reached(index, rows=rows, metric=metric, ef_search=ef)
        assert index.check_recall(ef_search=ef, queries=QUERIES).recall == pytest.approx(truth, abs=3e-3)
        assert index.check_recall(1000, ef_search=ef).recall == pytest.approx(truth, abs=0.03)
    index.calibrate().wait()
    assert reached(index, rows=rows, metric=metric, recall=0.97) == pytest.approx(0.97, abs=0.02)
    assert reached(index, rows=rows, metric=metric, recall=1.0) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_another_precision_is_measured_anew(db: Database, precision: str) -> None:
    index = make(db)
    index.search(QUERIES[0], recall=0.9)

    index.compress(precision).wait()

    assert index.stats()["calibration"]["is_stale"]
    assert len(index.search(QUERIES[0], recall=0.9)) == 10
    task = next(task for task in db.tasks if task.kind == "calibrate")
    task.wait()
    assert index.stats()["calibration"] == {"ks": [1, 10, 100], "n_items": N, "is_stale": False}
    assert reached(index, rows=stored(index), recall=0.97) == pytest.approx(0.97, abs=0.02)


def test_bytes_that_wait_for_a_scale_are_exact_rows(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "FEW_ITEMS", 100)
    index = make(db, ROWS[:900], precision="int8")
    index.search(QUERIES[0], recall=0.9)
    assert not index.stats()["calibration"]["is_stale"]

    index.compress("int8").wait()

    assert index.stats()["stored_precision"] == "int8"
    assert index.stats()["calibration"]["is_stale"]


def test_a_compress_in_the_midst_starts_it_again(db: Database) -> None:
    index = make(db)

    def compress() -> None:
        index.compress("int8").wait()

    found = quality.calibrate(index._collection(), Interrupting(compress, [400]), ks=(10,), n=200)

    assert list(found["curves"]) == [10]
    assert not index.stats()["calibration"]["is_stale"]


def test_a_vacuum_keeps_what_was_measured_and_counts_what_it_removed(db: Database) -> None:
    index = make(db)
    index.delete([str(i) for i in range(500)])
    index.calibrate().wait()
    known = index._collection().tally.calibration

    index.vacuum().wait()

    tally = index._collection().tally
    assert tally.calibration is known
    assert tally.n_changed == 500
    assert reached(index, rows=ROWS[500:], recall=0.97) == pytest.approx(0.97, abs=0.02)
    index.delete([str(i) for i in range(500, 801)])
    assert index.stats()["calibration"]["is_stale"]


def test_tombstones_are_there_while_it_is_measured(db: Database) -> None:
    index = make(db)
    index.delete([str(i) for i in range(0, N, 3)])
    rows = np.delete(ROWS, np.arange(0, N, 3), axis=0)

    index.calibrate().wait()

    for recall in (0.95, 0.99):
        assert reached(index, rows=rows, recall=recall) >= recall - 0.02


# -------------------------------------------------------------------------------------------------------------- curves


def test_a_width_is_read_off_a_curve() -> None:
    curve = Curve(10, (10, 20, 40), (0.8, 0.9, 0.99))

    assert curve.ef_for(0.5) == 10
    assert curve.ef_for(0.9) == pytest.approx(20)
    assert curve.ef_for(1 - math.sqrt(0.1 * 0.01)) == pytest.approx(math.sqrt(20 * 40))
    assert curve.ef_for(0.995) is None


@pytest.mark.parametrize(("k", "classes"), [(1, (1,)), (2, (1, 10)), (10, (10,)), (99, (10, 100)), (5000, (100,))])
def test_curves_around_a_number_of_results(k: int, classes: tuple[int, ...]) -> None:
    assert classes_of(k) == classes


def test_widths_between_and_beyond_the_curves() -> None:
    curves = tuple(Curve(k, (k, 4 * k), (0.5, 0.9)) for k in (1, 10, 100))
    known = Calibration(curves, 5000, "float32")

    assert known.ef_for(0.9, 10) == 40
    assert known.ef_for(0.9, 30) == 120
    assert known.ef_for(0.9, 1000) == 4000
    assert known.ef_for(0.1, 3) == 3
    assert known.ef_for(0.95, 10) == EXACT
    assert known.ef_for(1.0, 10) == EXACT
    assert known.has(500)
    assert not Calibration(curves[:2], 5000, "float32").has(30)
    assert [known.is_stale(n, "float32") for n in (1000, 1001)] == [False, True]
    assert known.is_stale(0, "float16")


# --------------------------------------------------------------------------------------------------------------- census


def test_the_graph_is_counted(db: Database) -> None:
    index = make(db, ROWS[:900])
    index.delete(["5", "6"])
    graph = graph_of(index)

    found = index.stats(graph=True)["graph"]

    lists = [graph.neighbours(i) for i in range(900)]
    levels = [graph.level(i) for i in range(900)]
    assert found["levels"] == [levels.count(level) for level in range(max(levels) + 1)]
    counts = found["degrees"]["counts"]
    assert counts == [sum(len(links) == n for links in lists) for n in range(13)]
    assert found["degrees"]["mean"] == pytest.approx(sum(map(len, lists)) / 900)
    assert (found["degrees"]["min"], found["degrees"]["max"]) == (min(map(len, lists)), max(map(len, lists)))
    assert found["n_unreachable"] == 0
    assert "graph" not in index.stats()


def test_rows_are_reached_as_links_lead(shared: Index) -> None:
    graph = graph_of(shared)
    top = max(range(N), key=lambda i: (graph.level(i), -i))
    census = Census(graph)
    entry = graph.meta()["top"] & 0xFFFFFFFF
    assert graph.level(entry) == graph.level(top)
    seen, waiting, is_left = {entry}, deque([entry]), True

    while waiting:
        assert is_left
        is_left = census.reach(5)
        for _ in range(5):
            if not waiting:
                break
            row = waiting.popleft()
            for level in range(graph.level(row) + 1):
                for slot in graph.neighbours(row, level):
                    if slot not in seen:
                        seen.add(slot)
                        waiting.append(slot)
        assert census.n_reached == len(seen)
    assert not is_left
    assert 0 < census.n_unreachable(shared._collection().alive) == N - len(seen) < 20


def test_an_empty_graph_is_counted(db: Database) -> None:
    index = db.create_index("x")
    assert index.stats(graph=True)["graph"]["n_unreachable"] == 0
    db.create_index("y", dim=3)
    assert db["y"].stats(graph=True)["graph"]["levels"] == []
