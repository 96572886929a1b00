"""The graph against exact search: recall, filters, determinism, frozen views, broken snapshots."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from exact import clusters, nearest, recall
from sections import Sections

from kektordb._bitmap import Bitmap
from kektordb._hnsw import Graph
from kektordb._memory import grant
from kektordb._vectors import Vectors
from kektordb.errors import CorruptSnapshot

METRICS = ["cosine", "euclidean", "dot"]


def build(
    rows: np.ndarray, metric: str = "euclidean", m: int = 16, ef: int = 100, seed: int = 1, threads: int = 1
) -> Graph:
    graph = Graph(Vectors(rows.shape[1], metric), m, ef, seed)
    extend(graph, rows, threads)
    return graph


def extend(graph: Graph, rows: np.ndarray, threads: int = 1) -> None:
    prepared, bad = graph.vectors.prepare_rows(rows)
    assert bad == -1
    graph.reserve(len(rows))
    graph.link(graph.append(prepared), len(rows), threads)


def links(graph: Graph) -> list[list[list[int]]]:
    return [[graph.neighbours(i, level) for level in range(graph.level(i) + 1)] for i in range(len(graph))]


def found(graph: Graph, query: np.ndarray, k: int = 10, ef: int = 100, allowed: Bitmap | None = None) -> list[int]:
    slots, distances = graph.search(query, k, ef, allowed)
    assert (np.diff(distances) >= 0).all()
    return slots.tolist()


# Few rows are compared one by one, which is always right: what a test says of the walk needs more rows than that.
N_WALKED = 8000


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_walk_finds_nearly_all_of_the_nearest(metric: str, threads: int) -> None:
    rows, queries = clusters(N_WALKED, 32, 3), clusters(60, 32, 4)
    graph = build(rows, metric, threads=threads)

    recalls = [recall(found(graph, q, 10, 60), nearest(metric, rows, q, 10)) for q in queries]

    assert np.mean(recalls) >= 0.95
    assert graph.fault() == ""


def test_a_walk_that_keeps_more_finds_more() -> None:
    rows, queries = clusters(N_WALKED, 32, 3), clusters(60, 32, 4)
    graph = build(rows, threads=2)

    narrow, wide = (
        [recall(found(graph, q, 10, ef), nearest("euclidean", rows, q, 10)) for q in queries] for ef in (10, 60)
    )

    assert np.mean(narrow) + 0.01 < np.mean(wide)


@pytest.mark.parametrize("metric", METRICS)
def test_few_rows_are_searched_exactly(metric: str) -> None:
    rows, queries = clusters(500, 24, 3), clusters(20, 24, 4)
    graph = build(rows, metric)

    assert all(recall(found(graph, q), nearest(metric, rows, q, 10)) == 1 for q in queries)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 3, 17])
def test_a_walk_that_keeps_all_rows_is_exact(metric: str, dim: int) -> None:
    rng = np.random.default_rng(dim)
    rows = rng.normal(size=(300, dim)).astype(np.float32)
    graph = build(rows, metric)

    for q in rng.normal(size=(10, dim)).astype(np.float32):
        assert recall(found(graph, q, 10, 300), nearest(metric, rows, q, 10)) >= 0.9


def test_the_same_seed_and_order_make_the_same_graph() -> None:
    rows = clusters(700, 8, 5)
    one, other = build(rows), Graph(Vectors(8, "euclidean"), 16, 100, 1)
    for start in range(0, 700, 97):
        extend(other, rows[start : start + 97])

    assert links(one) == links(other)
    assert links(one) != links(build(rows, seed=2))


def test_lists_keep_their_bounds_and_never_name_their_own_row() -> None:
    graph = build(clusters(1500, 6, 6), m=5, threads=2)

    for slot, of_row in enumerate(links(graph)):
        for level, row in enumerate(of_row):
            assert len(row) <= (5 if level else 10)
            assert slot not in row
            assert len(set(row)) == len(row)


def test_levels_fall_off_by_the_logarithm_of_m() -> None:
    graph = Graph(Vectors(2, "euclidean"), 16, 10, 9)
    graph.reserve(40_000)
    graph.append(np.zeros((40_000, 2), np.float32))

    counts = np.bincount([graph.level(i) for i in range(40_000)])

    assert abs(counts[1:].sum() / 40_000 - 1 / 16) < 0.005
    assert abs(counts[2:].sum() / 40_000 - 1 / 256) < 0.002


@pytest.fixture(scope="module")
def wide_rows() -> tuple[np.ndarray, np.ndarray, Graph]:
    """Rows of so many dimensions that half of them are walked through rather than read."""
    rows, queries = clusters(N_WALKED, 256, 7), clusters(20, 256, 8)
    return rows, queries, build(rows, ef=60, threads=2)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.002])
@pytest.mark.parametrize("kind", ["random", "correlated", "far"])
@pytest.mark.parametrize("ef", [10, 50])
def test_a_filtered_search_finds_what_an_exact_one_finds(
    share: float, kind: str, ef: int, wide_rows: tuple[np.ndarray, np.ndarray, Graph]
) -> None:
    rows, queries, graph = wide_rows
    rng = np.random.default_rng(9)
    value = rng.random(len(rows)) if kind == "random" else rows @ rng.normal(size=rows.shape[1])
    if kind == "far":
        value = -((rows - queries.mean(axis=0)) ** 2).sum(axis=1)
    allowed = np.flatnonzero(value < np.quantile(value, share))
    bitmap = Bitmap.from_slots(allowed.tolist(), len(rows))

    recalls = []
    for q in queries:
        hits = found(graph, q, 10, ef, bitmap)
        assert set(hits) <= set(allowed.tolist())
        assert len(hits) == min(10, len(allowed))
        recalls.append(recall(hits, allowed[nearest("euclidean", rows[allowed], q, 10)].tolist()))
    assert np.mean(recalls) >= (0.95 if ef == 50 else 0.8)


@pytest.mark.parametrize("n_allowed", [0, 1, 5])
def test_few_matches_all_come_back(n_allowed: int) -> None:
    rows = clusters(1000, 4, 10)
    graph = build(rows)
    slots = np.random.default_rng(1).choice(1000, n_allowed, replace=False).tolist()

    assert sorted(found(graph, rows[0], 10, 10, Bitmap.from_slots(slots, 1000))) == sorted(slots)


@pytest.mark.parametrize("k", [1, 100, 999, 1000, 5000])
def test_any_k_gives_that_many_rows_once_each(k: int) -> None:
    rows = clusters(1000, 4, 11)
    graph = build(rows, m=2, ef=4)

    hits = found(graph, rows[0], k, 10)

    assert len(hits) == min(k, 1000) == len(set(hits))


def test_above_the_sorted_pool_results_are_sorted_too() -> None:
    rows = clusters(6000, 3, 12)
    graph = build(rows, ef=20, threads=2)

    assert found(graph, rows[5], 5000, 10)[:50] == nearest("euclidean", rows, rows[5], 50)


def test_equal_rows_come_in_the_order_in_which_they_went_in() -> None:
    rows = np.ones((40, 3), np.float32)

    assert found(build(rows), rows[0], 40, 100) == list(range(40))


def test_an_empty_graph_finds_nothing() -> None:
    graph = Graph(Vectors(3, "cosine"), 4, 10, 0)

    assert found(graph, np.ones(3, np.float32)) == []
    assert graph.fault() == ""


def test_a_query_that_is_not_finite_is_refused() -> None:
    graph = build(clusters(10, 3, 1))

    assert graph.search(np.array([1, np.nan, 0], np.float32), 3, 10) == (None, None)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_batch_of_queries_equals_single_ones(threads: int) -> None:
    rows, queries = clusters(2000, 12, 13), clusters(50, 12, 14)
    graph = build(rows)
    queries[7, 0] = np.nan

    slots, distances, counts = graph.search_batch(queries, 5, 50, threads)

    for i, q in enumerate(queries):
        if i == 7:
            assert counts[i] == -1
        else:
            one_slots, one_distances = graph.search(q, 5, 50)
            assert slots[i].tolist() == one_slots.tolist()
            assert distances[i].tolist() == one_distances.tolist()


def test_a_frozen_view_stays_while_rows_are_added() -> None:
    rows = clusters(12_000, 6, 15)
    graph = build(rows[:9000], ef=20, threads=2)
    before, meta = links(graph), graph.meta()

    sections = graph.freeze()
    extend(graph, rows[9000:], 2)
    other = Graph(Vectors(6, "euclidean"), 16, 20, 1)
    other.load(meta, Sections(sections))
    graph.thaw()

    assert links(other) == before
    assert len(graph) == 12_000
    assert other.vectors.get(np.arange(9000, dtype=np.uint32)).tobytes() == rows[:9000].tobytes()


def test_a_view_of_few_changes_names_what_was_saved_whole() -> None:
    rows = clusters(3100, 6, 21)
    graph = build(rows[:3000], ef=20)
    whole = Sections(graph.freeze(whole=False))
    graph.saved()
    graph.thaw()

    for part in (rows[3000:3050], rows[3050:]):
        extend(graph, part)
        before, meta, sections = links(graph), graph.meta(), graph.freeze(whole=False)
        kept = [section for section in sections if section.read is None]
        changes = Sections(sections)
        graph.saved()
        graph.thaw()

        assert [(s.name, s.n_bytes) for s in kept] == [("graph/links", whole.size("graph/links"))]
        assert changes.size("graph/changed_links") < whole.size("graph/links") / 2
        changes.data["graph/links"] = whole.data["graph/links"]
        other = Graph(Vectors(6, "euclidean"), 16, 20, 1)
        other.load(meta, changes)
        assert links(other) == before


def test_a_view_of_many_changes_or_after_a_failed_save_is_whole() -> None:
    rows = clusters(3000, 6, 22)
    graph = build(rows[:1000], ef=20)
    graph.freeze(whole=False)
    graph.thaw()
    assert all(section.read is not None for section in graph.freeze(whole=False))
    graph.saved()
    graph.thaw()

    extend(graph, rows[1000:])

    assert all(section.read is not None for section in graph.freeze(whole=False))
    graph.thaw()


def test_a_loaded_graph_knows_what_has_changed_since_it_was_saved_whole() -> None:
    rows = clusters(3100, 6, 23)
    graph = build(rows[:3000], ef=20)
    data = Sections(graph.freeze()).data
    graph.saved()
    graph.thaw()
    extend(graph, rows[3000:3040])
    meta, sections = graph.meta(), graph.freeze(whole=False)
    reader = Sections(sections)
    reader.data["graph/links"] = data["graph/links"]
    graph.thaw()
    other = Graph(Vectors(6, "euclidean"), 16, 20, 1)
    other.load(meta, reader)

    extend(graph, rows[3040:])
    extend(other, rows[3040:])
    changed = [Sections(g.freeze(whole=False)).data["graph/changed"] for g in (graph, other)]

    assert changed[0] == changed[1]


def test_a_loaded_graph_goes_on_as_the_one_that_was_saved() -> None:
    rows = clusters(600, 5, 16)
    graph = build(rows[:400])
    other = Graph(Vectors(5, "euclidean"), 16, 100, 1)
    other.load(graph.meta(), Sections(graph.freeze()))
    graph.thaw()

    extend(graph, rows[400:])
    extend(other, rows[400:])

    assert links(graph) == links(other)


@pytest.mark.parametrize(
    ("section", "position", "value"),
    [("graph/links", 0, 400), ("graph/links", 40, 0x7FFFFFFF), ("graph/upper_at", 3, 10**6), ("graph/levels", 0, 200)],
)
def test_a_section_that_points_outside_is_refused(section: str, position: int, value: int) -> None:
    graph = build(clusters(400, 5, 17))
    sections = Sections(graph.freeze())
    width = 1 if section == "graph/levels" else 4
    sections.data[section][position * width : (position + 1) * width] = value.to_bytes(width, "little")

    with pytest.raises(CorruptSnapshot, match="damaged"):
        Graph(Vectors(5, "euclidean"), 16, 100, 1).load(graph.meta(), sections)


def test_upper_lists_that_begin_far_behind_the_last_are_refused() -> None:
    """Their end was added up in 32 bits, 2**32 - 1 and a level were 0, and the process died: found by fuzzing."""
    graph = build(clusters(400, 5, 17))
    sections = Sections(graph.freeze())
    slot = next(i for i in range(400) if graph.level(i) == 1)
    sections.data["graph/upper_at"][4 * slot : 4 * slot + 4] = b"\xff" * 4

    with pytest.raises(CorruptSnapshot, match="damaged"):
        Graph(Vectors(5, "euclidean"), 16, 100, 1).load(graph.meta(), sections)


@pytest.mark.parametrize("name", ["n", "n_upper"])
@pytest.mark.parametrize("count", [2**31, 2**60 + 400])
def test_rows_that_are_not_there_take_no_memory(name: str, count: int) -> None:
    """For a count in the catalogue a graph took 64 GB, and only then missed the rows: found by fuzzing."""
    graph = build(clusters(400, 5, 17))
    sections = Sections(graph.freeze())
    other = Graph(Vectors(5, "euclidean"), 16, 100, 1)
    grant(0)
    try:
        with pytest.raises(CorruptSnapshot, match=r"expected .* bytes"):
            other.load({**graph.meta(), name: count}, sections)
    finally:
        grant(-1)


def test_searches_beside_linking_find_every_row_that_was_linked() -> None:
    rows = clusters(6000, 8, 18)
    graph = build(rows[:2000], ef=40)
    prepared, _ = graph.vectors.prepare_rows(rows[2000:])
    graph.reserve(4000)
    first = graph.append(prepared)
    done, misses, n_searches = threading.Event(), [], 0

    def search() -> None:
        nonlocal n_searches
        rng = np.random.default_rng(19)
        while not done.is_set() or n_searches < 50:
            i = int(rng.integers(2000))
            n_searches += 1
            if i not in found(graph, rows[i], 3, 40):
                misses.append(i)

    reader = threading.Thread(target=search)
    reader.start()
    graph.link(first, 4000, 2)
    done.set()
    reader.join()

    assert len(misses) <= n_searches // 100
    assert graph.fault() == ""
    assert all(i in found(graph, rows[i], 3, 40) for i in range(2000, 6000, 37))


@pytest.mark.parametrize("coded", [False, True])
def test_rows_are_linked_from_python_threads_beside_searches_and_a_save(coded: bool) -> None:
    """What OpenMP's threads do, done by Python's, which ThreadSanitizer can follow."""
    rows = clusters(5000, 40, 20)
    graph = build(rows[:2500], ef=40)
    if coded:
        codes = graph.train()
        assert codes is not None
        graph.adopt(codes)
    before = Sections(graph.freeze()).data
    sections = graph.freeze()
    graph.reserve(2500)
    graph.append(graph.vectors.prepare_rows(rows[2500:])[0])
    saved: list[Sections] = []

    def search() -> None:
        for i in range(0, 2500, 5):
            found(graph, rows[i], 3, 40)

    threads = [threading.Thread(target=graph.link, args=(start, 1250, 1)) for start in (2500, 3750)]
    threads += [threading.Thread(target=search), threading.Thread(target=lambda: saved.append(Sections(sections)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert saved[0].data == before
    assert graph.fault() == ""
    lost = [i for i in range(0, 5000, 7) if i not in found(graph, rows[i], 3, 60)]
    assert len(lost) <= 5


def test_a_view_stays_as_it_was_when_rows_come_into_its_last_chunk_and_the_next_one() -> None:
    rows = clusters(8500, 3, 20)
    graph = build(rows[:8000], ef=20)
    before = Sections(graph.freeze()).data
    sections = graph.freeze()
    extend(graph, rows[8000:])

    assert Sections(sections).data == before
    assert graph.fault() == ""


def test_a_view_of_a_row_is_read_without_memory_for_thousands() -> None:
    resource = pytest.importorskip("resource")
    graph = build(clusters(1, 3, 1))
    sections = graph.freeze()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert len(Sections(sections).data["graph/links"]) == 4 * 32

    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 100


@pytest.mark.parametrize("dim", [3, 128])
def test_bringing_pages_in_changes_nothing(dim: int) -> None:
    rows = clusters(5000, dim, 5)
    plain, touched = build(rows[:100], threads=1), build(rows[:100], threads=1)
    for start in range(100, 5000, 700):
        extend(plain, rows[start : start + 700])
        touched.touch(1)
        touched.reserve(700)
        touched.touch(700)
        touched.touch(10_000_000)  # as far as there is room
        touched.link(
            touched.append(touched.vectors.prepare_rows(rows[start : start + 700])[0]),
            len(rows[start : start + 700]),
            1,
        )

    slots = np.arange(5000, dtype=np.uint32)
    assert np.array_equal(touched.vectors.get(slots), plain.vectors.get(slots))
    assert links(touched) == links(plain)
    Graph(Vectors(dim, "dot"), 16, 100, 1).touch(5)
