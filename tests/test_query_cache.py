"""What filters matched is kept for as long as it is true, and told apart from what looks alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import kektordb
from kektordb._bitmap import Bitmap
from kektordb.errors import FilterError
from kektordb.query import F, Filter, Plan, ast, cache, compile_filter
from kektordb.query.cache import MatchCache

Params = dict[str, Any] | None


class Runs:
    """Stands for the evaluation: counts, and remembers the parameters that it was given."""

    def __init__(self, n_bits: int = 100) -> None:
        self.n_bits = n_bits
        self.given: list[Params] = []

    def __call__(self, plan: Plan, params: Params) -> Bitmap:
        self.given.append(params)
        return Bitmap.from_slots([len(self.given)], self.n_bits)


def find(kept: MatchCache, runs: Runs, filter: Filter, params: Params = None, version: int = 0) -> int:
    """Return which of the runs made the matches."""
    rows, n = kept.find(compile_filter(filter), params, version, runs)
    assert n == rows.count() == 1
    return int(rows.slots()[0])


def test_a_filter_is_evaluated_once_for_each_version() -> None:
    kept, runs = MatchCache(), Runs()

    assert [find(kept, runs, "n = 1", version=version) for version in (0, 0, 1, 1, 0)] == [1, 1, 2, 2, 3]
    assert find(kept, runs, "n = 2") == 4
    assert find(kept, runs, "n = 1") == 3
    assert find(kept, runs, "n = 1", {"m": 5}) == 3


def test_an_expression_that_is_made_anew_is_the_same_filter() -> None:
    kept, runs = MatchCache(), Runs()

    def made(n: object) -> Filter:
        return (F("n") == n) & ~F("color").is_in(["red", None])

    assert compile_filter(made(1)) is compile_filter(made(1))
    assert [find(kept, runs, made(n)) for n in (1, 1, 2, True, "1", 1.0)] == [1, 1, 2, 3, 1, 4]


APART = [
    (1, True),
    (0, False),
    (1, 1.0),
    (0.0, -0.0),
    (0, 0.0),
    ("", "''"),
    ("1", 1),
    (None, "None"),
    (None, False),
    ([1], [True]),
    ([1], [1, 1]),
    ([], [None]),
    (["a", "b"], ["ab"]),
    (["a"], "a"),
    ([0.0], [-0.0]),
    (np.float32(0.1), 0.1),
    (np.int64(1), np.float64(1)),
]


@pytest.mark.parametrize(("one", "other"), APART, ids=repr)
def test_parameters_of_another_meaning_are_told_apart(one: object, other: object) -> None:
    kept, runs = MatchCache(), Runs()

    assert [find(kept, runs, "n = $a", {"a": value}) for value in (one, other, one, other)] == [1, 2, 1, 2]


def test_parameters_of_the_same_meaning_share() -> None:
    kept, runs = MatchCache(), Runs()

    assert [find(kept, runs, "n IN $a", {"a": value}) for value in ([1, "x"], (1, "x"), [np.int8(1), "x"])] == [1, 1, 2]
    assert find(kept, runs, "n = $a", {"a": 5, "b": [1]}) == 3
    assert find(kept, runs, "n = $a", {"a": np.int64(5), "b": [1]}) == 3
    assert find(kept, runs, "n = $a", {"a": 5, "b": [2]}) == 4
    assert find(kept, runs, "n = $b", {"a": 5, "b": [1]}) == 5
    assert find(kept, runs, "EXISTS(n)", {"a": object()}) == find(kept, runs, "EXISTS(n)")


class Text(str):
    """A type that may compare as it likes."""


NOT_KEPT: list[object] = [
    {1, 2},
    np.array([1, 2]),
    np.array(1),
    Text("a"),
    object(),
    [[1]],
    [object()],
    "x" * 1025,
    list(range(65)),
    ["x" * 1025],
]


@pytest.mark.parametrize("value", NOT_KEPT, ids=lambda value: f"{type(value).__name__} {value!r:.20}")
def test_what_has_no_cheap_key_is_evaluated_each_time(value: object) -> None:
    kept, runs = MatchCache(), Runs()

    assert [find(kept, runs, "n IN $a", {"a": value}) for _ in range(2)] == [1, 2]
    assert runs.given[0] is not None
    assert runs.given[0]["a"] is value
    assert kept.memory_bytes() == 0


def test_a_list_that_changes_during_the_call_is_kept_under_what_was_evaluated() -> None:
    kept, wanted = MatchCache(), [1, 2]
    given = {"a": wanted, "b": 1}

    class Meddling(Runs):
        def __call__(self, plan: Plan, params: Params) -> Bitmap:
            wanted.append(3)
            given["b"] = 2
            return super().__call__(plan, params)

    runs = Meddling()
    assert find(kept, runs, "n IN $a AND m = $b", given) == 1
    assert runs.given == [{"a": [1, 2], "b": 1}]
    assert find(kept, runs, "n IN $a AND m = $b", {"a": [1, 2], "b": 1}) == 1
    assert find(kept, runs, "n IN $a AND m = $b", given) == 2


def test_the_least_recently_used_goes_first() -> None:
    kept, runs = MatchCache(), Runs()
    for n in range(cache.MAX_ENTRIES):
        find(kept, runs, f"n = {n}")
    assert find(kept, runs, "n = 0") == 1

    find(kept, runs, "n = 'one more'")

    assert find(kept, runs, "n = 0") == 1
    assert find(kept, runs, "n = 2") == 3
    assert find(kept, runs, "n = 1") == cache.MAX_ENTRIES + 2


def test_bytes_are_bounded_and_a_new_version_frees_them() -> None:
    kept, runs = MatchCache(), Runs(cache.MAX_BYTES * 8 // 3)
    for n in range(5):
        find(kept, runs, f"n = {n}")
        assert kept.memory_bytes() <= cache.MAX_BYTES
    assert [find(kept, runs, f"n = {n}") for n in (4, 3)] == [5, 4]
    huge = Runs(cache.MAX_BYTES * 9)
    assert [find(kept, huge, "n = 7") for _ in range(2)] == [1, 1]

    find(kept, Runs(64), "n = 1", version=1)

    assert kept.memory_bytes() < 100


def test_an_error_is_raised_each_time() -> None:
    with kektordb.open(":memory:") as db:
        items = db.create_index("items")
        items.add("a", [1], {"n": 1})
        for _ in range(2):
            with pytest.raises(FilterError, match=r"no value for the parameter \$m"):
                items.count("n = $m", {"x": 1})
            with pytest.raises(FilterError, match="got list"):
                items.count("n < $m", {"m": [1]})
            with pytest.raises(FilterError, match="NaN"):
                items.count("n < $m", {"m": float("nan")})
        assert items.count("n = $m", {"m": 1}) == 1


def test_large_and_deep_expressions_are_not_kept_and_do_no_harm() -> None:
    long = F("n").is_in(range(5000))
    text = F("n") == "x" * 5000
    deep = F("n") == 1
    for _ in range(100_000):
        deep = ~deep

    assert compile_filter(long) is not compile_filter(long)
    assert compile_filter(text) is not compile_filter(text)
    with pytest.raises(FilterError, match="operators deep"):
        compile_filter(deep)
    while isinstance(deep.node, ast.Not):  # freed from the outside in: its destructor recurses
        deep.node = deep.node.operand


def test_a_tree_made_by_hand_means_what_it_says() -> None:
    with kektordb.open(":memory:") as db:
        items = db.create_index("items")
        items.add_batch(["a", "b"], [[1], [2]], [{"n": 5}, {"n": 7}])
        assert [items.ids(ast.Compare("n", "=", ast.Value("x", number))) for number in (5, 7)] == [["a"], ["b"]]


# ----------------------------------------------------------------------------------------------------- through an index


QUESTIONS: list[tuple[Filter, Params]] = [
    ("group = 1", None),
    ("group = $g", {"g": 2}),
    ("NOT group IN $g", {"g": [0, 1]}),
    (F("group") > 1, None),
    ("EXISTS(extra) OR group = 0", None),
]


@pytest.fixture
def db() -> Iterator[kektordb.Database]:
    with kektordb.open(":memory:", n_threads=1) as database:
        yield database


def truths(items: dict[str, dict[str, Any]]) -> list[list[str]]:
    return [
        [id for id, m in items.items() if m["group"] == 1],
        [id for id, m in items.items() if m["group"] == 2],
        [id for id, m in items.items() if m["group"] not in (0, 1)],
        [id for id, m in items.items() if m["group"] > 1],
        [id for id, m in items.items() if "extra" in m or m["group"] == 0],
    ]


def check(index: kektordb.Index, items: dict[str, dict[str, Any]]) -> None:
    for (filter, params), truth in zip(QUESTIONS, truths(items), strict=True):
        assert sorted(index.ids(filter, params)) == sorted(truth)
        assert index.count(filter, params) == len(truth)
        hits = index.search(np.zeros(4), max(1, len(items)), filter=filter, params=params)
        assert sorted(hits.ids) == sorted(truth)
        assert all(hit.metadata == items[hit.id] for hit in hits)
        assert index.search_batch(np.zeros((1, 4)), 1000, filter=filter, params=params, n_threads=1)[0].ids == hits.ids


@pytest.mark.parametrize("seed", range(4))
def test_every_kind_of_change_is_seen_by_the_next_filter(db: kektordb.Database, seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = db.create_index("items", metric="euclidean")
    items: dict[str, dict[str, Any]] = {}
    check(index, items)
    for step in range(60):
        known = list(items)
        some = known[int(rng.integers(len(known)))] if known else ""
        metadata = {"group": int(rng.integers(4)), **({"extra": step} if step % 3 == 0 else {})}
        kind = int(rng.integers(7)) if known else 0
        if kind == 0:
            index.add(f"a{step}", rng.random(4), metadata)
            items[f"a{step}"] = metadata
        elif kind == 1:
            ids = [f"b{step}.{i}" for i in range(5)]
            index.add_batch(ids, rng.random((5, 4)), [metadata] * 5)
            items.update(dict.fromkeys(ids, metadata))
        elif kind == 2:
            index.upsert(some, rng.random(4), metadata)
            items[some] = metadata
        elif kind == 3:
            index.update_metadata(some, metadata)
            items[some] = {**items[some], **metadata}
        elif kind == 4:
            index.update_metadata(some, metadata, replace=True)
            items[some] = metadata
        elif kind == 5:
            index.delete(some)
            del items[some]
        else:
            gone = truths(items)[1]
            assert index.delete(filter="group = $g", params={"g": 2}) == len(gone)
            for id in gone:
                del items[id]
        check(index, items)


def test_slices_of_a_running_batch_are_seen_one_by_one(db: kektordb.Database) -> None:
    index = db.create_index("items", metric="euclidean")
    vectors = np.random.default_rng(0).random((1000, 4))
    seen: list[tuple[int, int, int]] = []

    def look(done: int, total: int) -> None:
        found = index.search(vectors[0], 2000, filter="n >= 0").ids
        seen.append((done, index.count("n >= 0"), len(found)))

    index.add_batch([str(i) for i in range(1000)], vectors, [{"n": i} for i in range(1000)], progress=look)

    assert len(seen) > 2
    assert all(done == counted == found for done, counted, found in seen)


def test_a_reopened_index_has_nothing_of_the_old_matches(tmp_path: Any) -> None:
    for n in range(4):
        with kektordb.open(tmp_path / "db") as db:
            index = db.create_index("items", dim=1) if n == 0 else db["items"]
            assert index.count("n >= 0") == n
            index.add(str(n), [n], {"n": n})
            assert index.count("n >= 0") == n + 1
            if n % 2:
                db.save()
    with kektordb.open(tmp_path / "db") as db:
        assert db["items"].ids("n >= 0") == ["0", "1", "2", "3"]
        db.drop_index("items")
        assert db.create_index("items").count("n >= 0") == 0


def test_stats_count_the_kept_matches(db: kektordb.Database) -> None:
    index = db.create_index("items")
    index.add("a", [1], {"n": 1})
    assert index.stats()["memory_bytes"]["filters"] == 0

    index.count("n = 1")

    assert 0 < index.stats()["memory_bytes"]["filters"] < 100
