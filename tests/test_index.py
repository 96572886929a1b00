"""Items go in, change, leave, and are found: one index through its public verbs."""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import kektordb
from kektordb.errors import IdError, IndexNotFound, ItemExists, ItemNotFound, MetadataError, VectorError

METRICS = ["cosine", "euclidean", "dot"]


@pytest.fixture
def db() -> Iterator[kektordb.Database]:
    with kektordb.open(":memory:", n_threads=2) as database:
        yield database


@pytest.fixture
def items(db: kektordb.Database) -> kektordb.Index:
    return db.create_index("items", metric="euclidean")


def rows(n: int, dim: int = 8, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def names(n: int) -> list[str]:
    return [f"i{i}" for i in range(n)]


def distances(metric: str, vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The distances by their definition, in float64."""
    a, b = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return np.asarray(((a - b) ** 2).sum(axis=1))
    if metric == "dot":
        return -(a @ b)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b)
    return 1 - np.divide(a @ b, norms, out=np.zeros(len(a)), where=norms > 0)


# -------------------------------------------------------------------------------------------------------------- adding


def test_an_added_item_comes_back_as_it_was(items: kektordb.Index) -> None:
    items.add("a", [1.5, -2.0], {"n": 1})

    item = items["a"]
    assert (item.id, item.vector.tolist(), item.metadata) == ("a", [1.5, -2.0], {"n": 1})
    assert item.vector.dtype == np.float32
    assert items.dim == 2
    assert len(items) == 1
    assert "a" in items
    assert "b" not in items
    assert 5 not in items


def test_an_item_is_a_copy(items: kektordb.Index) -> None:
    metadata = {"list": [1]}
    vector = np.array([1, 2], np.float32)
    items.add("a", vector, metadata)
    vector[:] = 9
    metadata["list"].append(2)
    item = items["a"]
    item.vector[:] = 7
    item.metadata["list"].append(3)
    hit = items.search([1, 2], include=("metadata", "vector"))[0]
    assert hit.vector is not None
    hit.vector[:] = 5

    assert items["a"].vector.tolist() == [1, 2]
    assert items["a"].metadata == {"list": [1]}


def test_add_refuses_an_id_that_exists(items: kektordb.Index) -> None:
    items.add("a", [1, 0], {"n": 1})

    with pytest.raises(ItemExists, match="'a'"):
        items.add("a", [0, 1])

    assert items["a"].vector.tolist() == [1, 0]
    assert items["a"].metadata == {"n": 1}


def test_upsert_adds_and_replaces_vector_and_metadata(items: kektordb.Index) -> None:
    items.upsert("a", [1, 0], {"n": 1, "old": True})
    items.upsert("b", [5, 5])
    items.upsert("a", [0, 1], {"n": 2})

    assert items["a"].vector.tolist() == [0, 1]
    assert items["a"].metadata == {"n": 2}
    assert items.ids() == ["b", "a"]
    assert items.search([1, 0], k=5).ids == ["a", "b"]
    assert items.ids("old = true") == []
    assert items.ids("n = 2") == ["a"]
    assert items.stats()["n_tombstones"] == 1


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_batch_is_what_single_adds_are(db: kektordb.Database, n_threads: int) -> None:
    vectors, metadata = rows(700), [{"n": i} if i % 3 else None for i in range(700)]
    one, many = db.create_index("one"), db.create_index("many")
    for i in range(700):
        one.add(f"i{i}", vectors[i], metadata[i])
    many.add_batch(names(700), vectors, metadata, n_threads=n_threads)

    assert one.ids() == many.ids() == names(700)
    assert [i.metadata for i in one.get_many(names(700)) if i] == [i.metadata for i in many.get_many(names(700)) if i]
    assert all(np.array_equal(one[id].vector, many[id].vector) for id in names(700))
    if n_threads == 1:
        query = rows(1, seed=9)[0]
        assert one.search(query, k=20, ef_search=20).ids == many.search(query, k=20, ef_search=20).ids


def test_a_batch_of_any_metadata_is_what_single_upserts_are_and_what_a_replay_gives(tmp_path: Path) -> None:
    generator = random.Random(11)
    values = [1, -1, 2.5, 2**53 + 1, 2**64 - 1, -(2**63), True, False, None, "", "1", "é\U0001f600", [], {}]
    values += [[1, "é", None, [2], {"x": 1}], {"deep": {"er": [True, 7]}}, {"deep": 7}, "t" * 300]

    def metadata() -> dict[str, Any] | None:
        keys = generator.sample(["a", "b", "ç", "d.e", "d"], generator.randrange(6))
        return {key: generator.choice(values) for key in keys} if keys else None

    vectors, life, again = rows(900), [metadata() for _ in range(900)], [metadata() for _ in range(300)]
    path = tmp_path / "db"
    with kektordb.open(path, autosave="") as db:
        one, many = db.create_index("one"), db.create_index("many")
        for i in range(900):
            one.upsert(f"é{i}", vectors[i], life[i])
        for i in range(0, 900, 3):
            one.upsert(f"é{i}", -vectors[i], again[i // 3])
        many.add_batch([f"é{i}" for i in range(900)], vectors, life)
        many.upsert_batch([f"é{i}" for i in range(0, 900, 3)], -vectors[::3], again)
        wanted = answers(one)
        assert answers(many) == wanted

    with kektordb.open(path, read_only=True) as db:
        assert answers(db["one"]) == answers(db["many"]) == wanted


def answers(index: kektordb.Index) -> list[Any]:
    """What an index says about its metadata."""
    filters = [
        "a = 1",
        "a = true",
        "b > 0",
        "d.deep = 7",
        "d.deep.er = 7",
        'ç = "é\U0001f600"',
        "a IS NULL",
        "d.e >= ''",
    ]
    filters += ["a = 18446744073709551615", "b = -9223372036854775808", "b = 9007199254740993", "NOT EXISTS(a)"]
    items = [(item.id, repr(item.metadata), item.vector.tolist()) for item in index.get_many(index.ids()) if item]
    return [items, *[index.ids(filter) for filter in filters]]


@pytest.mark.parametrize(
    ("ids", "vectors", "metadata", "error"),
    [
        (["new", "old"], [[1, 2], [3, 4]], None, ItemExists),
        (["new", "new"], [[1, 2], [3, 4]], None, IdError),
        (["new", ""], [[1, 2], [3, 4]], None, IdError),
        (["new", "newer"], [[1, 2]], None, VectorError),
        (["new", "newer"], [[1, 2], [3, math.nan]], None, VectorError),
        (["new", "newer"], [[1, 2, 3], [3, 4, 5]], None, VectorError),
        (["new", "newer"], [[1, 2], [3, 4]], [{}], MetadataError),
        (["new", "newer"], [[1, 2], [3, 4]], [{}, {"a": math.nan}], MetadataError),
    ],
)
def test_a_batch_happens_whole_or_not_at_all(
    items: kektordb.Index, ids: list[str], vectors: Any, metadata: Any, error: type[Exception]
) -> None:
    items.add("old", [0, 0])

    with pytest.raises(error):
        items.add_batch(ids, vectors, metadata)

    assert items.ids() == ["old"]
    assert items.search([1, 2]).ids == ["old"]


def test_upsert_batch_replaces_some_and_adds_the_others(items: kektordb.Index) -> None:
    items.add_batch(names(4), rows(4), [{"life": 1}] * 4)
    fresh = rows(4, seed=2)

    items.upsert_batch(["i2", "new", "i0", "newer"], fresh, [{"life": 2}] * 4)

    assert items.ids() == ["i1", "i3", "i2", "new", "i0", "newer"]
    assert [item.metadata["life"] for item in map(items.__getitem__, items)] == [1, 1, 2, 2, 2, 2]
    assert np.array_equal(items["i0"].vector, fresh[2])


def test_an_empty_batch_is_nothing(items: kektordb.Index) -> None:
    items.add_batch([], [])
    items.add_batch([], np.empty((0, 5), np.float32), [])
    items.upsert_batch([], [])

    assert len(items) == 0
    assert items.dim is None


def test_a_batch_of_one_and_of_many_slices(items: kektordb.Index) -> None:
    items.add_batch(["one"], rows(1, seed=7))
    items.add_batch(names(1000), rows(1000))

    assert len(items) == 1001
    assert items.search(rows(1000)[999], k=1).ids == ["i999"]


def test_a_progress_function_hears_of_all_items(items: kektordb.Index) -> None:
    heard: list[tuple[int, int]] = []

    items.add_batch(names(600), rows(600), progress=lambda done, total: heard.append((done, total)))

    assert [total for _, total in heard] == [600] * len(heard)
    assert [done for done, _ in heard] == sorted({done for done, _ in heard})
    assert heard[-1] == (600, 600)
    assert len(heard) > 1


def test_an_error_of_a_progress_function_does_not_stop_the_batch(items: kektordb.Index) -> None:
    def fail(done: int, total: int) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        items.add_batch(names(600), rows(600), progress=fail)

    assert len(items) == 600


def test_a_bar_is_shown_on_request(items: kektordb.Index, capsys: pytest.CaptureFixture[str]) -> None:
    items.add_batch(names(5), rows(5), progress=True)

    assert "adding" in capsys.readouterr().err


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a.tolist(),
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.int32),
        lambda a: a.astype(">f4"),
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: np.repeat(a, 3, axis=0)[::3],
        lambda a: [list(row) for row in a],
        lambda a: list(a),
        lambda a: a.astype(np.float16),
    ],
)
def test_what_holds_numbers_is_converted(items: kektordb.Index, convert: Any) -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)

    items.add_batch(["a", "b", "c"], convert(vectors))
    items.add("d", convert(vectors + 20)[1])

    assert [item.vector.tolist() for item in items.get_many(["a", "b", "c"]) if item] == vectors.tolist()
    assert items["d"].vector.tolist() == (vectors + 20)[1].tolist()
    assert items.search(convert(vectors)[2], k=1).ids == ["c"]


# ------------------------------------------------------------------------------------------------ deleting and changing


def test_a_deleted_item_is_gone_at_once(items: kektordb.Index) -> None:
    items.add_batch(names(10), rows(10))

    assert items.delete("i3") == 1

    assert "i3" not in items
    assert items.get("i3") is None
    assert "i3" not in items.search(rows(10)[3], k=10).ids
    assert len(items) == items.count() == 9
    assert items.ids() == [id for id in names(10) if id != "i3"]


def test_delete_takes_many_ids_all_or_none(items: kektordb.Index) -> None:
    items.add_batch(names(5), rows(5))

    with pytest.raises(ItemNotFound, match="'nowhere'"):
        items.delete(["i1", "nowhere"])
    assert len(items) == 5

    assert items.delete(["i1", "i4"]) == 2
    assert items.delete([]) == 0
    assert items.ids() == ["i0", "i2", "i3"]


def test_delete_by_filter_says_how_many(items: kektordb.Index) -> None:
    items.add_batch(names(10), rows(10), [{"n": i} for i in range(10)])

    assert items.delete(filter="n >= $low", params={"low": 7}) == 3
    assert items.delete(filter=kektordb.F("n") == 0) == 1
    assert items.delete(filter="n > 100") == 0

    assert items.ids() == [f"i{i}" for i in range(1, 7)]


def test_all_items_can_be_deleted_and_added_again(items: kektordb.Index) -> None:
    items.add_batch(names(20), rows(20))
    items.delete(names(20))
    assert items.search(rows(1)[0]).ids == []
    assert items.ids() == []

    items.add_batch(names(20), rows(20, seed=5))

    assert items.search(rows(20, seed=5)[7], k=1).ids == ["i7"]
    assert len(items) == 20


def test_update_metadata_merges_at_the_top_level(items: kektordb.Index) -> None:
    items.add("a", [1, 2], {"keep": 1, "change": {"x": 1}})
    items.add("bare", [3, 4])

    items.update_metadata("a", {"change": {"y": 2}, "new": None})
    items.update_metadata("bare", {"n": 1})

    assert items["a"].metadata == {"keep": 1, "change": {"y": 2}, "new": None}
    assert items["a"].vector.tolist() == [1, 2]
    assert items["bare"].metadata == {"n": 1}
    assert items.ids("change.x = 1") == []
    assert items.ids("change.y = 2") == ["a"]
    assert items.ids() == ["a", "bare"]


def test_update_metadata_can_replace_everything(items: kektordb.Index) -> None:
    items.add("a", [1, 2], {"old": 1})

    items.update_metadata("a", {"new": 2}, replace=True)
    assert items["a"].metadata == {"new": 2}

    items.update_metadata("a", {}, replace=True)
    assert items["a"].metadata == {}
    assert items.ids("EXISTS(new)") == []


def test_metadata_of_items_pending_in_a_batch_can_be_changed(db: kektordb.Database, items: kektordb.Index) -> None:
    items.add("old", [0, 0], {"a": 0})
    with db.batch():
        items.add("with", [1, 2], {"a": 1})
        items.add("without", [3, 4])
        items.update_metadata("with", {"b": 2})
        items.update_metadata("with", {"c": 3})
        items.update_metadata("without", {"d": 4})
        items.update_metadata("old", {"e": 5})
        items.update_metadata("old", {"f": 6})
        items.upsert("old", [9, 9], {"g": 7})
        items.update_metadata("old", {"h": 8})
        items.delete("without")
        with pytest.raises(ItemNotFound):
            items.update_metadata("without", {"i": 9})

    assert {id: items[id].metadata for id in items} == {"with": {"a": 1, "b": 2, "c": 3}, "old": {"g": 7, "h": 8}}


# ------------------------------------------------------------------------------------------------------------ searching


@pytest.mark.parametrize("metric", METRICS)
def test_search_finds_what_brute_force_finds(db: kektordb.Database, metric: str) -> None:
    vectors = rows(400, seed=3)
    items = db.create_index("all", metric=metric)
    items.add_batch(names(400), vectors)

    for query in rows(10, seed=4):
        expected = distances(metric, vectors, query)
        hits = items.search(query, k=10, ef_search=400)

        assert hits.ids == [f"i{i}" for i in np.argsort(expected, kind="stable")[:10]]
        assert np.allclose(hits.distances, np.sort(expected)[:10], rtol=1e-4, atol=1e-5)
        scores = -hits.distances if metric == "dot" else 1 / (1 + hits.distances)
        assert np.allclose([hit.score for hit in hits], scores, rtol=1e-6)
        assert np.allclose(hits.scores, scores, rtol=1e-6)
        assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_vectors_come_in_the_order_of_their_insertion(db: kektordb.Database, metric: str) -> None:
    items = db.create_index("ties", metric=metric)
    items.add_batch(names(60), np.tile([[3.0, 4.0]], (60, 1)))
    for i in (5, 0, 30):
        items.delete(f"i{i}")
    items.add("i5", [3.0, 4.0])
    expected = [f"i{i}" for i in range(60) if i not in (5, 0, 30)] + ["i5"]

    assert items.search([3.0, 4.0], k=100).ids == expected
    assert items.search([3.0, 4.0], k=100, ef_search=1000).ids == expected


def test_ties_among_others_come_in_the_order_of_their_insertion(db: kektordb.Database) -> None:
    vectors = np.random.default_rng(6).integers(0, 3, (300, 3)).astype(np.float32)
    items = db.create_index("grid", metric="euclidean")
    items.add_batch(names(300), vectors)

    for query in np.random.default_rng(7).integers(0, 3, (10, 3)).astype(np.float32):
        expected = np.argsort(distances("euclidean", vectors, query), kind="stable")
        assert items.search(query, k=300).ids == [f"i{i}" for i in expected]


@pytest.mark.parametrize("k", [5, 6, 1000, 2**31 - 1])
def test_a_k_beyond_the_number_of_items_gives_all(items: kektordb.Index, k: int) -> None:
    items.add_batch(names(5), rows(5))

    assert sorted(items.search(rows(1)[0], k=k).ids) == names(5)
    assert sorted(items.search_batch(rows(1), k=k)[0].ids) == names(5)


def test_an_empty_index_gives_nothing(db: kektordb.Database, items: kektordb.Index) -> None:
    with_dim = db.create_index("with dim", dim=3)

    assert len(items.search([1, 2, 3])) == 0
    assert len(items.search([1, 2, 3], filter="a = 1")) == 0
    assert [len(r) for r in items.search_batch([[1, 2], [3, 4]])] == [0, 0]
    assert len(with_dim.search([1, 2, 3])) == 0
    assert with_dim.search([1, 2, 3]).scores.tolist() == []
    assert items.get("a") is None
    assert items.get_many(["a", "b"]) == [None, None]
    assert items.ids() == []
    assert items.count() == items.count("a = 1") == 0


def test_include_says_what_a_hit_holds(items: kektordb.Index) -> None:
    items.add("a", [1, 2], {"n": 1})

    assert items.search([1, 2])[0].metadata == {"n": 1}
    assert items.search([1, 2])[0].vector is None
    bare = items.search([1, 2], include=())[0]
    assert (bare.id, bare.metadata, bare.vector) == ("a", None, None)
    full = items.search([1, 2], include=["vector", "metadata"])[0]
    assert full.metadata == {"n": 1}
    assert full.vector is not None
    assert full.vector.tolist() == [1, 2]
    only = items.search_batch([[1, 2]], include=("vector",))[0][0]
    assert only.metadata is None
    assert only.vector is not None


def test_a_larger_ef_finds_at_least_as_much(items: kektordb.Index) -> None:
    vectors = rows(1500, dim=24, seed=8)
    items.add_batch(names(1500), vectors)
    queries = rows(30, dim=24, seed=9)
    truth = [{f"i{i}" for i in np.argsort(distances("euclidean", vectors, q))[:10]} for q in queries]

    recall = [
        sum(len(truth[i] & set(items.search(q, k=10, ef_search=ef).ids)) for i, q in enumerate(queries)) / 300
        for ef in (1, 10, 100, 1500)
    ]

    assert recall == sorted(recall)
    assert recall[-1] == 1.0
    assert all(items.search(q).ids == items.search(q, ef_search=100).ids for q in queries)
    assert all(items.search(q, ef_search=1).ids == items.search(q, ef_search=10).ids for q in queries)


def test_filter_and_params_choose_the_items(items: kektordb.Index) -> None:
    items.add_batch(names(100), rows(100), [{"n": i, "even": i % 2 == 0} for i in range(100)])
    query = rows(1, seed=3)[0]

    expected = [id for id in items.search(query, k=100).ids if int(id[1:]) % 2 == 0 and int(id[1:]) < 40]
    assert items.search(query, k=100, filter="even = true AND n < $max", params={"max": 40}).ids == expected
    assert items.search(query, k=3, filter="even = true AND n < 40").ids == expected[:3]
    assert items.search(query, k=100, filter=(kektordb.F("even") == True) & (kektordb.F("n") < 40)).ids == expected  # noqa: E712
    assert items.search(query, filter="n > 1000").ids == []
    assert items.count("n < 40") == 40
    assert items.ids("n < $x", {"x": 3}) == ["i0", "i1", "i2"]


@pytest.mark.parametrize("filter", [None, "n < 100", "n < 5", "n < 0"])
@pytest.mark.parametrize("n_threads", [None, 1, 2])
def test_search_batch_is_many_searches(items: kektordb.Index, filter: str | None, n_threads: int | None) -> None:
    items.add_batch(names(300), rows(300), [{"n": i} for i in range(300)])
    items.delete(["i3", "i77"])
    queries = rows(20, seed=2)

    found = items.search_batch(queries, 7, 30, filter, n_threads=n_threads)

    assert len(found) == 20
    for query, hits in zip(queries, found, strict=True):
        one = items.search(query, 7, 30, filter)
        assert hits.ids == one.ids
        assert hits.distances.tolist() == one.distances.tolist()
        assert list(hits) == list(one)
    assert items.search_batch(np.empty((0, 8), np.float32)) == []
    assert items.search_batch([]) == []


def test_a_zero_vector_is_at_distance_one_under_cosine(db: kektordb.Database) -> None:
    items = db.create_index("cosine")
    items.add("zero", [0, 0])
    items.add("right", [2, 0])
    items.add("left", [-2, 0])

    hits = items.search([1, 0])
    assert [(hit.id, hit.distance) for hit in hits] == [("right", 0.0), ("zero", 1.0), ("left", 2.0)]
    assert [(hit.id, hit.distance) for hit in items.search([0, 0])] == [("zero", 1.0), ("right", 1.0), ("left", 1.0)]
    assert items["zero"].vector.tolist() == [0, 0]
    assert items["right"].vector.tolist() == [1, 0]


def test_results_are_a_sequence_of_hits(items: kektordb.Index) -> None:
    items.add_batch(names(4), rows(4))
    hits = items.search(rows(4)[2], k=4)

    assert len(hits) == 4
    assert hits[0].id == "i2"
    assert hits[-1] == list(hits)[3]
    assert hits[1:3] == list(hits)[1:3]
    assert hits[0] in hits
    assert repr(hits).startswith("<Results 4: 'i2' 1.0000")
    with pytest.raises(IndexError):
        hits[4]


# -------------------------------------------------------------------------------------------------------------- reading


def test_get_many_keeps_order_and_shows_gaps(items: kektordb.Index) -> None:
    items.add_batch(names(3), rows(3), [{"n": i} for i in range(3)])

    found = items.get_many(["i2", "nowhere", "i0", "i2"])

    assert [item and item.id for item in found] == ["i2", None, "i0", "i2"]
    assert [item and item.metadata["n"] for item in found] == [2, None, 0, 2]
    assert items.get_many([]) == []
    with pytest.raises(ItemNotFound, match="'nowhere'"):
        items["nowhere"]


def test_stats_count_what_is_there(items: kektordb.Index) -> None:
    items.add_batch(names(10), rows(10))
    items.delete("i1")

    stats = items.stats()

    assert (stats["n_items"], stats["n_tombstones"], stats["dim"], stats["metric"]) == (9, 1, 8, "euclidean")
    parts = stats["memory_bytes"]
    assert parts["total"] == sum(size for name, size in parts.items() if name != "total")
    assert parts["vectors"] >= 9 * 8 * 4


def test_fields_are_those_that_items_have(items: kektordb.Index) -> None:
    assert items.fields() == []
    items.add("a", rows(1)[0], {"price": 1, "deep": {"x": None, "y": {}}, "tags": ["a"]})
    items.add("b", rows(1)[0], {"price": 2, "ü b": True})
    assert items.fields() == ["deep", "deep.x", "deep.y", "price", "tags", "ü b"]

    items.delete("a")
    items.vacuum().wait()

    assert items.fields() == ["price", "ü b"]


VALUES = {
    "nested": {"a": {"b": {"c": [1, [2, [3, {"d": None}]]]}}},
    "ints": [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1],
    "floats": [0.1, -0.0, 1e308, 5e-324, 1.0, 1e22, math.pi],
    "bools": [True, False],
    "null": None,
    "text": ["", "é", "日本語", "\U0001f600", "a\x00b", "\n\t\"'\\"],
    "empty": [{}, []],
    "": "an empty key",
    "a.b": "a dot in a key",
}


def exactly(value: Any) -> Any:
    """Make 1, 1.0 and True, and 0.0 and -0.0, unequal."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exactly(item) for item in value]
    return type(value).__name__, repr(value)


@pytest.mark.parametrize("name", VALUES)
def test_metadata_comes_back_exactly(items: kektordb.Index, name: str) -> None:
    metadata = {"value": VALUES[name]} if name else VALUES

    items.add("a", [1.0], metadata)
    items.add("b", [1.0], {"other": 1})
    items.update_metadata("b", metadata)

    assert exactly(items["a"].metadata) == exactly(metadata)
    assert exactly(items.search([1.0], k=1)[0].metadata) == exactly(metadata)
    assert exactly(items["b"].metadata) == exactly({"other": 1, **metadata})
    assert list(items["a"].metadata) == list(metadata)


@pytest.mark.parametrize("id", ["a", " ", "a b/c?%2F", "é" * 512, "\U0001f600" * 256, "x" * 1024, "\x00", "a\nb"])
def test_ids_of_up_to_1024_bytes_are_kept_exactly(items: kektordb.Index, id: str) -> None:
    items.add(id, [1, 2], {"n": 1})

    assert items.ids() == [id]
    assert items[id].id == id
    assert items.search([1, 2]).ids == [id]
    assert items.delete(id) == 1


def test_a_handle_shows_its_index(db: kektordb.Database) -> None:
    items = db.create_index("shoes", metric="dot", dim=3, m=8, ef_construction=50, seed=7)

    assert items.name == "shoes"
    assert items.database is db
    assert items.dim == 3
    config = items.config
    assert (config.metric, config.dim, config.m, config.ef_construction, config.seed) == ("dot", 3, 8, 50, 7)
    assert "shoes" in repr(items)


def test_a_handle_goes_by_the_name(db: kektordb.Database, items: kektordb.Index) -> None:
    """It never shows a ghost; when an index of the name is made anew, it is a handle to that one."""
    items.add("old", [1, 2])
    db.drop_index("items")
    for call in (items.ids, items.stats, items.count, lambda: items.add("a", [1, 2]), lambda: items.search([1, 2])):
        with pytest.raises(IndexNotFound, match="'items'"):
            call()
    with pytest.raises(IndexNotFound):
        len(items)

    db.create_index("items", metric="dot", dim=5)

    assert items.ids() == []
    assert items.dim == 5
    assert items.config.metric == "dot"


def test_the_same_seed_makes_the_same_graph(db: kektordb.Database) -> None:
    vectors = rows(500)
    found = []
    for name in ("a", "b"):
        index = db.create_index(name, seed=3, m=6, ef_construction=20)
        index.add_batch(names(500), vectors, n_threads=1)
        graph = db._live().collection(name).graph
        assert graph is not None
        found.append([graph.neighbours(slot) for slot in range(500)])

    assert found[0] == found[1]


# ----------------------------------------------------------------------------------------------------- kinds of strings


class Word(str, enum.Enum):  # noqa: UP042 - str() of it is its name, that of a StrEnum its text
    A, B, INDEX, FIELD, TEXT = "a", "b", "items", "f", "hello"
    FILTER, LANGUAGE, METRIC, FLOAT16, RRF = "f = hello", "english", "euclidean", "float16", "rrf"


@pytest.mark.parametrize("kind", [Word, np.str_])
def test_a_string_of_another_type_is_taken_for_its_text(tmp_path: Path, kind: Callable[[str], str]) -> None:
    """An enum as metric was logged and could not be applied, which ended all writes to the database."""
    with kektordb.open(tmp_path / "db") as db:
        made = db.create_index(
            kind("items"),
            metric=kind("euclidean"),
            dim=2,
            text_language=kind("english"),
            text_fields=[kind("f")],
            field_weights={kind("f"): 2.0},
        )
        assert type(made.config.text_language) is str
        items = db[kind("items")]
        items.add(kind("a"), [0.0, 1.0], {kind("f"): kind("hello")})
        items.upsert_batch([kind("b")], [[1.0, 0.0]])
        items.update_metadata(kind("a"), {"n": 1})
        with db.batch():
            items.upsert(kind("b"), [1.0, 0.0])
            items.update_metadata(kind("b"), {kind("f"): "other"})
        assert kind("a") in items
        assert items[kind("a")].metadata == {"f": "hello", "n": 1}
        assert items.ids(kind("f = hello")) == items.ids(kektordb.F(kind("f")) == kind("hello")) == ["a"]
        assert items.ids("f = $a", {kind("a"): kind("hello")}) == ["a"]
        assert items.search(text=kind("hello")).ids == ["a"]
        assert items.search([0.0, 1.0], text=kind("hello"), fusion=kind("rrf"), k=1).ids == ["a"]
        items.compress(kind("float16")).wait(60)
        db.kv[kind("a")] = kind("hello")
        assert list(db.kv.prefix(kind("a"))) == ["a"]
        items.delete(kind("b"))
    with kektordb.open(tmp_path / "db") as db:
        assert (db["items"].ids(), db.kv["a"]) == (["a"], b"hello")
        assert db["items"].config.metric == "euclidean"
