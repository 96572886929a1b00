"""A graph that was built in haste becomes a good one, and a good one none the worse; what is stored stays as it is."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from test_vacuum import Hook, everything, fill, make

import kektordb
from kektordb._heal import connect
from kektordb._heal import refine as refine_rows
from kektordb._hnsw import Graph
from kektordb._vectors import Vectors
from kektordb.errors import ConfigError, IndexNotFound
from kektordb.tasks import Cancelled
from kektordb.upkeep.refine import refine
from kektordb.upkeep.vacuum import vacuum

Floats = npt.NDArray[np.float32]

N, N_QUERIES, DIM = 3000, 200, 16


def rows_of(n: int, seed: int = 0) -> Floats:
    """Rows in a few dimensions of many, as real ones are."""
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(99).standard_normal((6, DIM))
    return (rng.standard_normal((n, 6)) @ axes + 0.05 * rng.standard_normal((n, DIM))).astype(np.float32)


ROWS, QUERIES = rows_of(N), rows_of(N_QUERIES, 1)


def graph_of(ef: int, metric: str = "euclidean", precision: str = "float32", coded: bool = True) -> Graph:
    graph = Graph(Vectors(DIM, metric, precision), 6, ef, 0, coded)
    prepared, _ = graph.vectors.prepare_rows(ROWS)
    graph.reserve(N)
    codes = graph.train(prepared)
    if codes is not None:
        graph.adopt(codes)
    graph.link(graph.append(prepared), N, 1)
    return graph


def recall(graph: Graph, ef: int = 12, k: int = 10) -> float:
    all_rows = graph.vectors.get(np.arange(N, dtype=np.uint32))
    if graph.vectors.metric == "euclidean":
        distances = ((QUERIES[:, None, :] - all_rows[None]) ** 2).sum(axis=2)
    else:
        distances = -(QUERIES @ all_rows.T)
    truth = np.argsort(distances, axis=1, kind="stable")[:, :k]
    found, _, _ = graph.search_batch(QUERIES, k, ef, 1)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(found.tolist(), truth.tolist(), strict=True)]))


def every_row() -> npt.NDArray[np.uint32]:
    return np.arange(N, dtype=np.uint32)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
@pytest.mark.parametrize(("precision", "coded"), [("float32", True), ("float32", False), ("float16", True)])
def test_built_in_haste_and_refined_is_as_good_as_built_with_care(metric: str, precision: str, coded: bool) -> None:
    hasty, careful = graph_of(8, metric, precision, coded), graph_of(80, metric, precision, coded)
    before = recall(hasty)
    assert before < recall(careful) - 0.03, "else there is nothing to show"
    refine_rows(hasty, every_row(), 80, 1)
    assert recall(hasty) >= recall(careful) - 0.01
    assert hasty.fault() == ""
    # By products short rows are nobody's neighbours, however a graph is built.
    assert metric == "dot" or connect(hasty, N) == 0, "rows that no walk reaches"


def test_rows_of_bytes() -> None:
    hasty, careful = graph_of(8, "cosine", "int8"), graph_of(80, "cosine", "int8")
    refine_rows(hasty, every_row(), 80, 2)
    assert recall(hasty) >= recall(careful) - 0.01


def test_recall_does_not_fall_from_pass_to_pass() -> None:
    graph = graph_of(40)
    found = [recall(graph)]
    for _ in range(4):
        refine_rows(graph, every_row(), 40, 1)
        found.append(recall(graph))
    assert min(found[1:]) >= found[0]
    assert all(b >= a - 0.005 for a, b in pairwise(found)), found


def test_one_thread_gives_the_same_graph_each_time() -> None:
    both = graph_of(8), graph_of(8)
    for graph in both:
        refine_rows(graph, every_row()[::3].copy(), 30, 1)
    assert all(both[0].neighbours(i) == both[1].neighbours(i) for i in range(N))


def test_a_list_never_names_a_row_twice_or_itself() -> None:
    graph = graph_of(8)
    refine_rows(graph, every_row(), 40, 2)
    for i in range(N):
        for level in range(graph.level(i) + 1):
            neighbours = graph.neighbours(i, level)
            assert len(set(neighbours)) == len(neighbours)
            assert i not in neighbours


def test_a_graph_of_few_rows() -> None:
    for n in range(4):
        graph = Graph(Vectors(DIM, "euclidean"), 4, 10, 0)
        graph.reserve(max(n, 1))
        if n:
            graph.link(graph.append(ROWS[:n]), n, 1)
        refine_rows(graph, np.arange(n, dtype=np.uint32), 20, 1)
        assert graph.fault() == ""
        assert connect(graph, 10) == 0
        found = graph.search(ROWS[0], 5, 10)[0]
        assert found is not None
        assert sorted(found.tolist()) == list(range(n))


def test_equal_rows() -> None:
    """Ties everywhere: there must be links to others."""
    rows = np.repeat(ROWS[:40], 30, axis=0)
    graph = Graph(Vectors(DIM, "euclidean"), 6, 40, 0)
    graph.reserve(len(rows))
    graph.link(graph.append(rows), len(rows), 1)
    refine_rows(graph, np.arange(len(rows), dtype=np.uint32), 40, 1)
    _, distances, _ = graph.search_batch(ROWS[:40], 10, 60, 1)
    assert (distances < 1e-6).mean() > 0.97


# -------------------------------------------------------------------------------------------------- of a whole database


def test_nothing_that_is_stored_changes() -> None:
    with kektordb.open(":memory:") as db:
        index = make(db)
        before = everything(index)
        assert refine(db, "a", Hook()) == {"n_refined": 150}
        assert everything(index) == before


def test_a_pass_goes_on_where_the_last_one_stopped() -> None:
    with kektordb.open(":memory:") as db:
        index = make(db, 100)
        collection = index._collection()
        begun = []
        for _ in range(8):
            begun.append(collection.refined_to)
            assert refine(db, "a", Hook(), n_rows=20, ef_construction=30) == {"n_refined": 20}
        assert begun[:3] == [0, *begun[1:3]]
        assert 0 < begun[1] < begun[2]
        assert begun[3] < begun[2], "it begins anew behind the last row"
        slot = collection.refined_to
        next_id = next(id for id in index.ids() if collection.ids.find_str(id) >= slot)
        index.delete(index.ids()[:5])
        vacuum(db, "a", Hook())
        assert index.ids()[collection.refined_to] == next_id, "the slots are others, the item is the same"


def test_writes_go_on_meanwhile() -> None:
    with kektordb.open(":memory:", n_threads=2) as db:
        index = db.create_index("a", metric="euclidean", m=6, ef_construction=20)
        index.add_batch([str(i) for i in range(2000)], ROWS[:2000])
        faults: list[BaseException] = []

        def write() -> None:
            try:
                for i in range(2000, N):
                    index.add(str(i), ROWS[i])
                    if i % 2:
                        index.delete(str(i - 2000))
            except BaseException as error:
                faults.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        while thread.is_alive():
            refine(db, "a", Hook(), n_rows=300)
        thread.join()
        assert not faults
        hits = index.search_batch(ROWS[2000:], k=1, ef_search=60)
        assert sum(hit.ids == [str(i)] for i, hit in enumerate(hits, 2000)) >= 990


def test_empty_unknown_and_cancelled() -> None:
    with kektordb.open(":memory:") as db:
        with pytest.raises(IndexNotFound):
            refine(db, "a", Hook())
        index = db.create_index("a")
        assert refine(db, "a", Hook()) == {"n_refined": 0}
        fill(index, range(50))

        def stop(n: int) -> None:
            raise Cancelled("stop")

        with pytest.raises(Cancelled):
            refine(db, "a", Hook(stop))
        index.delete(index.ids())
        assert refine(db, "a", Hook()) == {"n_refined": 0}


def test_as_a_task() -> None:
    with kektordb.open(":memory:") as db:
        index = make(db)
        task = index.refine(ef_construction=50)
        task.wait(timeout=60)
        assert task.result == {"n_refined": 150}
        with pytest.raises(ConfigError):
            index.refine(ef_construction=0)
