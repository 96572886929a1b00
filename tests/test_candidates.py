"""A search by vector and words ranks as if every candidate had been compared, whatever it did not read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

import kektordb
from kektordb._bounds import bounds
from kektordb._hnsw import Graph
from kektordb.fusion import METHODS, fuse

DIM = 40
N = 2400
N_CANDIDATES = 100
Floats = npt.NDArray[np.float32]


def spread(rng: np.random.Generator) -> Floats:
    return rng.standard_normal((N, DIM)).astype(np.float32)


def clusters(rng: np.random.Generator) -> Floats:
    """Rows that codes cannot tell apart, in tight heaps."""
    centres = rng.standard_normal((12, DIM)) * 20
    return (centres[rng.integers(12, size=N)] + 0.01 * rng.standard_normal((N, DIM))).astype(np.float32)


def outliers(rng: np.random.Generator) -> Floats:
    """A few rows whose codes are clipped, and equal rows."""
    rows = spread(rng)
    rows[::300] *= 1000
    rows[1::7] = rows[1]
    return rows


def zeros(rng: np.random.Generator) -> Floats:
    """Rows without a direction."""
    rows = spread(rng)
    rows[::50] = 0
    return rows


DATA: dict[str, Callable[[np.random.Generator], Floats]] = {
    "spread": spread,
    "clusters": clusters,
    "outliers": outliers,
    "zeros": zeros,
}


@pytest.fixture(params=[(metric, kind) for metric in ("euclidean", "cosine") for kind in DATA], ids="-".join)
def made(request: pytest.FixtureRequest) -> Iterator[tuple[kektordb.Index, Floats]]:
    metric, kind = request.param
    rng = np.random.default_rng(len(kind))
    rows = DATA[kind](rng)
    words = rng.integers(0, 40, (N, 5))
    words[::3] = words[::-1][::3] % 7
    with kektordb.open(":memory:", n_threads=1) as db:
        index = db.create_index("x", metric=metric, text_language="simple", m=8, ef_construction=40)
        index.add_batch([str(i) for i in range(N)], rows, [{"t": " ".join(f"w{w}" for w in line)} for line in words])
        yield index, rows


def queries(rows: Floats) -> list[Floats]:
    rng = np.random.default_rng(3)
    near = rows[rng.integers(N, size=3)] + 0.1 * rng.standard_normal((3, DIM)).astype(np.float32)
    return [*near, rng.standard_normal(DIM).astype(np.float32), rows[5], np.zeros(DIM, np.float32)]


def graph_of(index: kektordb.Index) -> Graph:
    graph = index._collection().graph
    assert graph is not None
    return graph


def distances_of(index: kektordb.Index, query: Floats) -> npt.NDArray[np.float32]:
    found = graph_of(index).vectors.distances(query, np.arange(N, dtype=np.uint32))
    assert found is not None
    return found


def expected(
    index: kektordb.Index, query: Floats, text: str, k: int, alpha: float, fusion: str
) -> list[tuple[str, float, float, float]]:
    """Rank by comparing the query with every row and every text."""
    distances, scores = distances_of(index, query), np.zeros(N, np.float32)
    for hit in index.search(text=text, k=N):
        scores[int(hit.id)] = hit.score
    places = np.arange(N)
    near = np.lexsort((places, distances))[:N_CANDIDATES]
    best = [i for i in np.lexsort((places, -scores))[:N_CANDIDATES] if scores[i] > 0]
    candidates = np.union1d(near, best).astype(int)
    fused = fuse(fusion, distances[candidates], scores[candidates], alpha)
    order = np.lexsort((candidates, -fused))[:k]
    return [(str(i), fused[at], distances[i], scores[i]) for at, i in zip(order, candidates[order], strict=True)]


@pytest.mark.parametrize("fusion", [method for method in METHODS if method != "legacy"])
def test_hits_are_those_of_comparing_everything(made: tuple[kektordb.Index, Floats], fusion: str) -> None:
    index, rows = made
    for query in queries(rows):
        for text, k, alpha in [("w1 w20", 10, 0.5), ("w33", 1, 0.9), ("w2 w3 w39", 25, 0.05), ("unheard", 10, 0.5)]:
            hits = index.search(query, k, ef_search=N, text=text, alpha=alpha, fusion=fusion)
            found = [(hit.id, hit.score, hit.distance, hit.text_score) for hit in hits]
            wanted = expected(index, query, text, k, alpha, fusion)

            assert [hit[0] for hit in found] == [hit[0] for hit in wanted], (text, k, alpha)
            for one, other in zip(found, wanted, strict=True):
                assert one[1:] == pytest.approx(other[1:], rel=1e-12, abs=1e-12)


def test_bounds_hold(made: tuple[kektordb.Index, Floats]) -> None:
    index, rows = made
    graph = graph_of(index)
    for query in queries(rows):
        distances = distances_of(index, query)
        low, high = bounds(graph, query, np.arange(N, dtype=np.uint32))
        if low is None or high is None:
            assert not query.any(), "only a query without a direction has none"
            continue
        assert (low <= distances).all()
        assert (distances <= high).all()


def test_bounds_are_narrow_where_codes_are_good() -> None:
    rng = np.random.default_rng(1)
    with kektordb.open(":memory:", n_threads=1) as db:
        index = db.create_index("x", metric="euclidean")
        index.add_batch([str(i) for i in range(N)], spread(rng))
        low, high = bounds(graph_of(index), spread(rng)[0], np.arange(N, dtype=np.uint32))

    assert low is not None
    assert high is not None
    assert np.median(high / low) < 1.15


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_bounds_of_other_rows(metric: str, precision: str) -> None:
    rng = np.random.default_rng(2)
    with kektordb.open(":memory:", n_threads=1) as db:
        index = db.create_index("x", metric=metric, precision=precision)
        index.add_batch([str(i) for i in range(N)], rng.random((N, DIM)) + 1)
        graph, query = graph_of(index), rng.random(DIM).astype(np.float32)
        low, high = bounds(graph, query, np.arange(N, dtype=np.uint32))

        # Codes of products bound nothing, nor are there any of rows that are as short.
        assert (low is None) == (metric == "dot")
        if low is not None and high is not None:
            distances = distances_of(index, query)
            assert (low <= distances).all()
            assert (distances <= high).all()
        assert bounds(graph, np.full(DIM, np.nan, np.float32), np.zeros(1, np.uint32)) == (None, None)


@pytest.mark.parametrize("k", [1, 30, 200, 3000])
def test_equal_scores_come_in_the_order_of_adding(k: int) -> None:
    with kektordb.open(":memory:", n_threads=1) as db:
        index = db.create_index("x", metric="euclidean", text_language="simple")
        rows = np.repeat(np.arange(5, dtype=np.float32)[:, None], 3, axis=1)[np.arange(400) % 5]
        index.add_batch([str(i) for i in range(400)], rows, [{"t": f"w{i % 3}"} for i in range(400)])

        hits = index.search([0, 0, 0], k, ef_search=400, text="w1")
        keys = [(-hit.score, int(hit.id)) for hit in hits]

        assert len(hits) == min(k, 400 if k > 100 else len(hits))
        assert keys == sorted(keys)


def test_a_search_by_both_knows_the_nearest_as_one_by_vector_does() -> None:
    """Candidates come of a walk on codes that does not compare them; the nearest are among them all the same."""
    rng = np.random.default_rng(4)
    basis = rng.standard_normal((8, 64))
    rows = (rng.standard_normal((6000, 8)) @ basis + 0.1 * rng.standard_normal((6000, 64))).astype(np.float32)
    with kektordb.open(":memory:", n_threads=1) as db:
        index = db.create_index("x", text_language="simple", m=8, ef_construction=60)
        index.add_batch([str(i) for i in range(6000)], rows, [{"t": "word"}] * 6000)
        by_vector = by_both = 0
        for query in rows[:60] + np.float32(0.3):
            directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            truth = {str(i) for i in np.argsort(-(directions @ query))[:10]}
            by_vector += len(truth & set(index.search(query, 10).ids))
            by_both += len(truth & set(index.search(query, 10, text="unheard").ids))

    assert by_vector >= 500
    assert by_both >= by_vector
