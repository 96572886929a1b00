"""Codes: their range, how it follows the data, and that nothing of them is ever seen in results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import adversarial
import numpy as np
import numpy.typing as npt
import pytest
from exact import clusters, distances, nearest, recall

import kektordb
from kektordb import _distance
from kektordb._bitmap import Bitmap
from kektordb._codes import TRAIN_FROM, Codes
from kektordb._hnsw import Graph
from kektordb._vectors import Vectors
from kektordb.errors import VectorError

Floats = npt.NDArray[np.float32]

METRICS = ["cosine", "euclidean", "dot"]
PRECISIONS = ["float32", "float16"]
TRAVERSALS = ["codes", "float32"]
LEVELS = [level for level in ("v2", "v3", "v4") if level <= _distance.isa]


def stored(rows: Floats, metric: str = "euclidean", precision: str = "float32") -> Vectors:
    """Rows in a graph that does not walk them."""
    graph = Graph(Vectors(rows.shape[1], metric, precision), 2, 1, 0, coded=False)
    prepared, bad = graph.vectors.prepare_rows(rows)
    assert bad == -1
    graph.reserve(len(rows))
    graph.append(prepared)
    return graph.vectors


def coded(rows: Floats, metric: str = "euclidean", precision: str = "float32") -> Codes:
    return Codes.train(stored(rows, metric, precision), len(rows))


def codes_of(codes: Codes, n: int) -> npt.NDArray[np.uint8]:
    return np.array([codes.get(i) for i in range(n)])


def grown(metric: str = "euclidean", traversal: str = "codes", precision: str = "float32", dim: int = 40) -> Graph:
    return Graph(Vectors(dim, metric, precision), 16, 100, 1, traversal == "codes")


# ---------------------------------------------------------------------------------------------------- range and codes


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 7, 64, 100])
def test_codes_are_what_numpy_rounds_to(metric: str, precision: str, dim: int) -> None:
    rows = clusters(1500, dim, 3)
    codes = coded(rows, metric, precision)
    x = stored(rows, metric, precision).get(np.arange(1500, dtype=np.uint32)).astype(np.float64)

    wanted = np.clip((x - codes.low) / codes.unit, 0, 255)

    assert (np.abs(codes_of(codes, 1500) - wanted) <= 0.5 + 2e-3).all()


def test_the_range_leaves_out_the_tails_and_clips_them() -> None:
    rows = np.random.default_rng(1).uniform(-1, 1, size=(4000, 20)).astype(np.float32)
    rows[7, 3], rows[9, 4] = 1e6, -1e6

    codes = coded(rows)

    assert codes.low == pytest.approx(-1, abs=0.01)
    assert codes.low + 255 * codes.unit == pytest.approx(1, abs=0.01)
    assert codes.get(7)[3] == 255
    assert codes.get(9)[4] == 0


def test_all_of_the_range_is_used_without_tails() -> None:
    rows = np.random.default_rng(1).uniform(3, 5, size=(2000, 10)).astype(np.float32)

    found = codes_of(coded(rows), 2000)

    assert (found.min(), found.max()) == (0, 255)


def test_for_products_the_range_lies_around_zero() -> None:
    rows = np.random.default_rng(1).uniform(0.5, 3, size=(2000, 10)).astype(np.float32)
    rows[0] = 0

    codes = coded(rows, "dot")

    assert codes.get(0).tolist() == [128] * 10
    assert codes.low + 128 * codes.unit == pytest.approx(0, abs=1e-6)
    assert codes.low + 255 * codes.unit == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("value", [0, -3, 1e-30, 1e18])
@pytest.mark.parametrize("metric", METRICS)
def test_data_without_any_range_has_codes_and_is_found(metric: str, value: float) -> None:
    graph = grown(metric, dim=36)
    rows = np.full((2000, 36), value, np.float32)
    adversarial.extend(graph, rows)

    slots, found = graph.search(rows[0], 10, 20)

    assert graph.codes is not None
    assert np.isfinite([graph.codes.low, graph.codes.unit]).all()
    assert len(set(slots.tolist())) == 10
    np.testing.assert_allclose(found, distances(metric, rows[:1], rows[0]).repeat(10), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e-6, 1e6, 1e17])
@pytest.mark.parametrize("metric", METRICS)
def test_the_scale_of_the_data_does_not_matter(metric: str, scale: float) -> None:
    rows, queries = clusters(2500, 40, 3), clusters(20, 40, 4)
    graph = grown(metric)
    adversarial.extend(graph, rows * np.float32(scale))
    answers = [graph.search(query * np.float32(scale), 10, 100) for query in queries]

    if metric != "cosine" and scale == 1e-30:
        # Squares and products of such numbers are zero in float32: all rows are as near as another.
        assert all((values == 0).all() for _, values in answers)
        return
    assert all(
        recall(a[0].tolist(), nearest(metric, rows, q, 10)) >= 0.9 for q, a in zip(queries, answers, strict=True)
    )


# --------------------------------------------------------------------------------------------------- following the data


def test_codes_begin_with_enough_rows() -> None:
    graph = grown()
    rows = clusters(TRAIN_FROM, 40, 3)
    prepared, _ = graph.vectors.prepare_rows(rows)
    for i in range(TRAIN_FROM):
        graph.reserve(1)
        graph.link(graph.append(prepared[i : i + 1]), 1, 1)
        adversarial.renew(graph)
        assert (graph.codes is None) == (i + 1 < TRAIN_FROM)

    assert graph.fault() == ""
    for q in clusters(20, 40, 4):
        assert recall(graph.search(q, 10, 50)[0].tolist(), nearest("euclidean", rows, q, 10)) >= 0.9


@pytest.mark.parametrize(("precision", "dim"), [("float32", 16), ("float16", 32)])
def test_rows_that_are_as_short_as_codes_have_none(precision: str, dim: int) -> None:
    short, long = grown(precision=precision, dim=dim), grown(precision=precision, dim=dim + 1)
    for graph in short, long:
        adversarial.extend(graph, clusters(1500, graph.vectors.dim, 3))

    assert short.codes is None
    assert long.codes is not None


def test_a_float32_traversal_has_no_codes() -> None:
    graph = grown(traversal="float32")
    adversarial.extend(graph, clusters(1500, 40, 3))

    assert graph.train() is None
    assert graph.codes is None


@pytest.mark.parametrize("step", [1, 7, 100, 256, 1000])
def test_the_range_follows_the_data_however_they_come_in(step: int) -> None:
    """The share of clipped components grows; that has to be seen within some hundred rows."""
    graph = grown(dim=36)
    rng = np.random.default_rng(1)
    first = rng.normal(size=(1000, 36)).astype(np.float32)
    adversarial.extend(graph, first)
    adversarial.extend(graph, first[:50])
    before = graph.codes
    rows = (100 * rng.normal(size=(2000, 36))).astype(np.float32)

    for start in range(0, 2000, step):
        adversarial.extend(graph, rows[start : start + step])
        if graph.codes is not before:
            break

    assert graph.codes is not before
    assert graph.codes is not None
    assert graph.codes.unit > 20 * before.unit
    # A quarter more rows than there were, and a few hundred of the new kind.
    assert graph.codes.n_trained <= 1250 + 2 * adversarial.SLICE + min(step, adversarial.SLICE)


def test_for_products_a_single_long_row_makes_the_range_anew() -> None:
    graph = grown("dot")
    rows = clusters(2000, 40, 3)
    rows[700, 5] = 300
    for start in range(0, 600, 100):
        adversarial.extend(graph, rows[start : start + 100])
    adversarial.extend(graph, rows[600:1900])
    assert graph.codes is not None
    before = graph.codes.low
    rows[1950, 9] = -900

    adversarial.extend(graph, rows[1900:])
    adversarial.extend(graph, clusters(800, 40, 7))

    assert before == pytest.approx(-300, rel=0.02)
    assert graph.codes.low == pytest.approx(-900, rel=0.02)


def test_new_codes_change_no_result() -> None:
    graph = grown(dim=36)
    rng = np.random.default_rng(1)
    rows = np.concatenate([rng.normal(size=(2000, 36)), 30 * rng.normal(size=(1400, 36))]).astype(np.float32)
    queries = np.concatenate([rng.normal(size=(20, 36)), 30 * rng.normal(size=(20, 36))]).astype(np.float32)
    adversarial.extend(graph, rows[:2000])
    prepared, _ = graph.vectors.prepare_rows(rows[2000:])
    graph.reserve(1400)
    graph.link(graph.append(prepared), 1400, 1)
    wanted = [nearest("euclidean", rows, q, 10) for q in queries]
    before = [graph.search(q, 10, 300) for q in queries]
    codes = Codes.train(graph.vectors, len(graph))
    assert graph.codes is not None
    assert codes.unit > 10 * graph.codes.unit

    graph.adopt(codes)

    after = [graph.search(q, 10, 300) for q in queries]
    for found in before, after:
        assert np.mean([recall(f[0].tolist(), w) for f, w in zip(found, wanted, strict=True)]) >= 0.99
    for b, a in zip(before, after, strict=True):
        shared = np.isin(b[0], a[0])
        assert b[1][shared].tolist() == a[1][np.isin(a[0], b[0])].tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_a_range_that_fits_is_kept(metric: str) -> None:
    graph = grown(metric)
    rows = clusters(8000, 40, 3)
    adversarial.extend(graph, rows[:1000])
    first = graph.codes

    for start in range(1000, 8000, 500):
        adversarial.extend(graph, rows[start : start + 500])

    assert graph.codes is first


def test_rows_are_searched_whether_they_came_before_or_after_their_codes() -> None:
    """New codes cover rows that are there, and the memory that was reserved for others."""
    graph = grown()
    rows = clusters(3000, 40, 3)
    prepared, _ = graph.vectors.prepare_rows(rows)
    graph.reserve(3000)
    for start, stop in [(0, 900), (900, 1700), (1700, 3000)]:
        graph.link(graph.append(prepared[start:stop]), stop - start, 1)
        adversarial.renew(graph)

    assert graph.fault() == ""
    assert all(graph.search(rows[i], 1, 50)[0].tolist() == [i] for i in range(0, 3000, 50))


# ------------------------------------------------------------------------------------------------------------- results


def float32_distances(metric: str, rows: Floats, query: Floats, precision: str) -> npt.NDArray[np.float64]:
    """The distances to rows as they are stored, of a query as it is searched for."""
    vectors = Vectors(rows.shape[1], metric, precision)
    x = vectors.prepare_rows(rows)[0]
    q = Vectors(rows.shape[1], metric).prepare_rows(query[None, :])[0][0]
    if metric == "cosine":
        return np.clip(1 - x.astype(np.float64) @ q.astype(np.float64), 0, 2)
    return distances(metric, x, q)


@pytest.mark.parametrize("traversal", TRAVERSALS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_those_of_the_stored_precision_and_nearly_all_rows_are_found(
    metric: str, precision: str, traversal: str
) -> None:
    rows, queries = clusters(4000, 40, 3), clusters(25, 40, 4)
    some = np.random.default_rng(5).random(4000) < 0.4
    allowed = Bitmap.from_slots(np.flatnonzero(some).tolist(), 4000)

    for threads in (1, 2):
        graph = grown(metric, traversal, precision, 40)
        adversarial.extend(graph, rows, threads)
        recalls = []
        for q in queries:
            true = float32_distances(metric, rows, q, precision)
            # At ef 10 the graph is walked, at 100 all codes are read.
            for ef, bitmap in [(10, None), (100, None), (10, allowed), (100, allowed)]:
                slots, values = graph.search(q, 10, ef, bitmap)
                np.testing.assert_allclose(values, true[slots], rtol=1e-5, atol=2e-6)
                assert (np.diff(values) >= 0).all()
                assert bitmap is None or some[slots].all()
                if ef == 100:
                    wanted = np.argsort(true if bitmap is None else np.where(some, true, np.inf))[:10]
                    recalls.append(recall(slots.tolist(), wanted.tolist()))
        assert np.mean(recalls) >= 0.95
        assert graph.fault() == ""


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_query_finds_the_same_from_any_address(metric: str, precision: str) -> None:
    rows = clusters(3000, 37, 3)
    graph = grown(metric, precision=precision, dim=37)
    adversarial.extend(graph, rows)
    room = np.zeros(37 * 4 + 64, np.uint8)

    for offset in (4, 12, 20, 60):
        query = room[offset : offset + 37 * 4].view(np.float32)
        query[:] = rows[5]
        slots, values = graph.search(query, 10, 30)
        batch_slots, batch_values, _ = graph.search_batch(query[None, :], 10, 30, 1)
        aligned = graph.search(rows[5].copy(), 10, 30)
        assert slots.tolist() == aligned[0].tolist() == batch_slots[0].tolist()
        assert values.tolist() == aligned[1].tolist() == batch_values[0].tolist()


@pytest.mark.parametrize("level", LEVELS)
def test_every_kernel_set_walks_on_codes(level: str) -> None:
    """The codes of rows do not depend on the kernel set, and neither does what is found."""
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import numpy as np\n"
        "import test_codes as t\n"
        "from kektordb import build_info\n"
        f"assert build_info()['isa'] == {level!r}\n"
        "for metric, precision in zip(t.METRICS, ['float32', 'float16', 'float32']):\n"
        "    t.test_codes_are_what_numpy_rounds_to(metric, precision, 100)\n"
        "    t.test_distances_are_those_of_the_stored_precision_and_nearly_all_rows_are_found(\n"
        "        metric, precision, 'codes')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "KEKTORDB_ISA": level})


# ------------------------------------------------------------------------------------------------------------- float16


@pytest.mark.parametrize("metric", METRICS)
def test_halves_come_back_rounded_once(metric: str) -> None:
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(300, 21)) * 10.0 ** rng.uniform(-9, 4, size=(300, 21))).astype(np.float32)
    rows[0, :5] = [6e-8, -6e-8, 2e-8, 6.1e-5, -0.0]

    found = stored(rows, metric, "float16").get(np.arange(300, dtype=np.uint32))

    exact = Vectors(21, metric).prepare_rows(rows)[0]
    assert found.view(np.uint32).tolist() == exact.astype(np.float16).astype(np.float32).view(np.uint32).tolist()


def test_halves_round_to_even_and_to_the_largest() -> None:
    row = np.array([[2049, 2051, 65504, 65519, -65519, 1 + 2**-11, 1 + 3 * 2**-11]], np.float32)

    found = stored(row, "euclidean", "float16").get(np.array([0], np.uint32))

    assert found.tolist() == [[2048, 2052, 65504, 65504, -65504, 1, 1 + 2**-9]]


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_what_no_half_can_hold_is_refused_with_its_id(metric: str) -> None:
    with kektordb.open(":memory:") as db:
        index = db.create_index("halves", metric=metric, precision="float16")
        rows = np.ones((4, 3), np.float32)
        rows[2, 1] = 65520

        with pytest.raises(VectorError, match="'c'"):
            index.add_batch(["a", "b", "c", "d"], rows)
        with pytest.raises(VectorError, match="'e'"):
            index.add("e", [0, 0, -1e5])

        assert len(index) == 0
        index.add("a", [65504, 0, 1])
        assert index["a"].vector.tolist() == [65504, 0, 1]


def test_halves_of_cosine_hold_any_length() -> None:
    with kektordb.open(":memory:") as db:
        index = db.create_index("halves", metric="cosine", precision="float16")
        index.add("a", [1e30, 0])
        index.add("b", [0, 1e-30])

        assert index.search([3, 1], k=2).ids == ["a", "b"]


# ----------------------------------------------------------------------------------------------------------- databases


def answers(index: kektordb.Index, queries: Floats) -> list[tuple[list[str], list[float]]]:
    results = [index.search(q, k=10, ef_search=ef) for q in queries for ef in (12, 100)]
    return [(r.ids, r.distances.tolist()) for r in results]


@pytest.mark.parametrize("traversal", TRAVERSALS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_saved_database_searches_as_before(metric: str, precision: str, traversal: str, tmp_path: Path) -> None:
    rows, queries = clusters(2500, 40, 3), clusters(15, 40, 4)
    with kektordb.open(tmp_path / "db", n_threads=1) as db:
        index = db.create_index("i", metric=metric, precision=precision, traversal=traversal)
        index.add_batch([str(i) for i in range(2500)], rows)
        index.delete([str(i) for i in range(0, 2500, 3)])
        before = answers(index, queries)
        db.save()

    with kektordb.open(tmp_path / "db", n_threads=1) as db:
        graph = db["i"]._collection().graph
        assert graph is not None
        assert (graph.codes is not None) == (traversal == "codes")
        assert answers(db["i"], queries) == before


def test_codes_are_not_saved() -> None:
    graphs = [grown(traversal=traversal) for traversal in TRAVERSALS]
    for graph in graphs:
        adversarial.extend(graph, clusters(1500, 40, 3))

    sizes = [{s.name: s.n_bytes for s in graph.freeze()} for graph in graphs]

    assert sizes[0].keys() == sizes[1].keys()
    assert sum(sizes[0].values()) == pytest.approx(sum(sizes[1].values()), rel=0.01)


def test_the_range_is_saved_and_goes_on_following_the_data(tmp_path: Path) -> None:
    rows = clusters(1500, 40, 3)
    with kektordb.open(tmp_path / "db", n_threads=1) as db:
        index = db.create_index("i", metric="euclidean")
        index.add_batch([f"a{i}" for i in range(1500)], rows)
        before = index._collection().graph.codes.meta()
        codes = [index._collection().graph.codes.get(i).tolist() for i in range(1500)]
        db.save()

    with kektordb.open(tmp_path / "db", n_threads=1) as db:
        graph = db["i"]._collection().graph
        assert graph.codes.meta() == before
        assert [graph.codes.get(i).tolist() for i in range(1500)] == codes
        db["i"].add_batch([f"b{i}" for i in range(1500)], 50 * rows)
        assert graph.codes.unit > 10 * before["unit"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_log_makes_the_same_index_again(precision: str, tmp_path: Path) -> None:
    rows, queries = clusters(1800, 40, 3), clusters(15, 40, 4)
    with kektordb.open(tmp_path / "db", n_threads=1) as db:
        index = db.create_index("i", metric="euclidean", precision=precision)
        for i in range(1200):
            index.add(f"a{i}", rows[i])
        index.add_batch([f"b{i}" for i in range(600)], rows[1200:])
        before = answers(index, queries)

    with kektordb.open(tmp_path / "db", n_threads=1) as db:
        assert db["i"]._collection().graph.codes is not None
        for (ids, values), (ids_before, values_before) in zip(answers(db["i"], queries), before, strict=True):
            # Replayed writes are joined, so the range was chosen from other rows and another graph may be walked.
            assert recall(ids, ids_before) >= 0.8
            shared = set(ids) & set(ids_before)
            found, again = dict(zip(ids_before, values_before, strict=True)), dict(zip(ids, values, strict=True))
            assert [found[id] for id in shared] == [again[id] for id in shared]
