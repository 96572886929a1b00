"""What went wrong in the original must go right here: each failure a test with its story."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import kektordb
from kektordb.errors import ConfigError, ItemExists


def rows(n: int, dim: int = 8, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def test_vectors_added_after_a_save_survive(tmp_path: Path) -> None:
    """The original cut its log at a snapshot, and ignored every later vector at the next start."""
    vectors = rows(20)
    with kektordb.open(tmp_path / "db") as db:
        items = db.create_index("items")
        items.add_batch([f"before-{i}" for i in range(10)], vectors[:10])
        db.save()
        for i in range(10, 20):
            items.add(f"after-{i}", vectors[i])

    with kektordb.open(tmp_path / "db") as db:
        assert db["items"].ids() == [f"before-{i}" for i in range(10)] + [f"after-{i}" for i in range(10, 20)]
        assert db["items"].search(vectors[15], k=1).ids == ["after-15"]


def test_a_vector_without_metadata_ends_nothing(tmp_path: Path) -> None:
    """The original logged a nil that its own reader refused: all that followed was lost, keys included."""
    with kektordb.open(tmp_path / "db") as db:
        items = db.create_index("items", metric="euclidean")
        items.add("with", [1.0, 0.0], {"a": 1})
        items.add("without", [0.0, 1.0])
        items.add("with too", [1.0, 1.0], {"a": 2})
        db.kv["key"] = b"value"

    with kektordb.open(tmp_path / "db") as db:
        items = db["items"]
        assert items.ids() == ["with", "without", "with too"]
        assert [items[id].metadata for id in items] == [{"a": 1}, {}, {"a": 2}]
        assert db.kv["key"] == b"value"


def test_what_was_deleted_after_a_save_stays_deleted(tmp_path: Path) -> None:
    """In the original deleted vectors and keys came back, because only the snapshot was read."""
    with kektordb.open(tmp_path / "db") as db:
        items = db.create_index("items")
        items.add_batch(["keep", "drop"], rows(2))
        db.kv["keep"], db.kv["drop"] = b"1", b"2"
        db.create_index("gone").add("x", [1.0])
        db.save()
        items.delete("drop")
        del db.kv["drop"]
        db.drop_index("gone")

    for _ in range(2):
        with kektordb.open(tmp_path / "db") as db:
            assert db["items"].ids() == ["keep"]
            assert db["items"].search(rows(2)[1]).ids == ["keep"]
            assert list(db.kv) == ["keep"]
            assert list(db) == ["items"]
            db.save()


@pytest.mark.parametrize("saved", [False, True])
def test_an_id_can_be_added_again_after_it_was_deleted(tmp_path: Path, saved: bool) -> None:
    """In the original the new vector disappeared with the tombstone of the old one."""
    with kektordb.open(tmp_path / "db") as db:
        items = db.create_index("items", metric="euclidean")
        items.add("a", [1.0, 0.0], {"life": 1})
        items.add("b", [5.0, 5.0])
        if saved:
            db.save()
        items.delete("a")
        items.add("a", [0.0, 1.0], {"life": 2})

    with kektordb.open(tmp_path / "db") as db:
        items = db["items"]
        assert items["a"].metadata == {"life": 2}
        assert items["a"].vector.tolist() == [0.0, 1.0]
        hits = items.search([0.0, 1.0], k=10)
        assert hits.ids == ["a", "b"]
        assert hits[0].distance == 0.0
        assert items.count() == len(items) == 2


def test_lists_in_metadata_do_not_stop_saving(tmp_path: Path) -> None:
    """In the original a list or an object in the metadata made every later snapshot fail."""
    metadata: dict[str, Any] = {
        "tags": ["red", "new"],
        "size": {"w": 1, "h": [2, 3.5]},
        "mixed": [1, "a", True, None, []],
    }
    with kektordb.open(tmp_path / "db") as db:
        db.create_index("items").add("a", [1.0, 2.0], metadata)
        db.save()
        db.save()

    with kektordb.open(tmp_path / "db") as db:
        assert db["items"]["a"].metadata == metadata
        assert db["items"].ids("tags = red AND size.w = 1") == ["a"]


def test_a_refused_duplicate_is_not_replayed(tmp_path: Path) -> None:
    """The original logged a write before it found that it was impossible; the log then held what never was."""
    with kektordb.open(tmp_path / "db") as db:
        items = db.create_index("items", metric="euclidean")
        items.add("a", [1.0, 1.0], {"n": 1})
        before = db.stats()["log_bytes"]
        with pytest.raises(ItemExists):
            items.add("a", [2.0, 2.0], {"n": 2})
        with pytest.raises(ItemExists):
            items.add_batch(["new", "a"], [[3.0, 3.0], [4.0, 4.0]])
        assert db.stats()["log_bytes"] == before

    with kektordb.open(tmp_path / "db") as db:
        assert db["items"].ids() == ["a"]
        assert db["items"]["a"].vector.tolist() == [1.0, 1.0]
        assert db["items"]["a"].metadata == {"n": 1}


def test_a_parallel_batch_after_single_adds_overwrites_nothing(tmp_path: Path) -> None:
    """In the original the batch began at the slot of the last single add, and overwrote that vector."""
    vectors = rows(600, seed=2)
    with kektordb.open(tmp_path / "db", n_threads=2) as db:
        items = db.create_index("items", metric="euclidean")
        for i in range(5):
            items.add(f"i{i}", vectors[i])
        items.add_batch([f"i{i}" for i in range(5, 600)], vectors[5:], n_threads=2)
        check_each_finds_itself(items, vectors)

    with kektordb.open(tmp_path / "db") as db:
        check_each_finds_itself(db["items"], vectors)


def check_each_finds_itself(items: kektordb.Index, vectors: npt.NDArray[np.float32]) -> None:
    assert len(items) == len(vectors)
    for i in [*range(10), len(vectors) - 1]:
        assert np.array_equal(items[f"i{i}"].vector, vectors[i])
        hit = items.search(vectors[i], k=1)[0]
        assert (hit.id, hit.distance) == (f"i{i}", 0.0)


@pytest.mark.parametrize("k", [-1, 0])
def test_a_k_below_one_is_an_error(k: int) -> None:
    """k=-1 or ef_search=-1 ended the original's whole process."""
    with kektordb.open(":memory:") as db:
        items = db.create_index("items")
        items.add("a", [1.0])
        with pytest.raises(ConfigError, match=f"got {k}"):
            items.search([1.0], k=k)
        with pytest.raises(ConfigError, match=f"got {k}"):
            items.search([1.0], ef_search=k)
        assert items.search([1.0]).ids == ["a"]


def test_a_first_vector_of_another_size_leaves_no_ghost() -> None:
    """The original answered 500 to a vector of the wrong size, and yet counted and returned it."""
    with kektordb.open(":memory:") as db:
        items = db.create_index("items")
        items.add("a", [1.0, 0.0])
        with pytest.raises(kektordb.VectorError, match="expected 2 dimensions, got 3"):
            items.add("ghost", [1.0, 0.0, 0.0])
        assert "ghost" not in items
        assert items.ids() == ["a"]


@pytest.mark.parametrize("n_matches", [0, 1, 5, 20, 400])
def test_a_filter_gives_all_matches_or_k(n_matches: int) -> None:
    """The original walked only through matching nodes: 2.26 of 10 came back on average where 20 matched of 2,000."""
    vectors = rows(2000, dim=16, seed=3)
    chosen = set(np.random.default_rng(4).choice(2000, n_matches, replace=False).tolist())
    with kektordb.open(":memory:") as db:
        items = db.create_index("items", metric="euclidean", ef_construction=40)
        items.add_batch([str(i) for i in range(2000)], vectors, [{"hit": int(i in chosen)} for i in range(2000)])

        for query in rows(10, dim=16, seed=5):
            hits = items.search(query, k=10, filter="hit = 1")
            assert len(hits) == min(10, n_matches)
            assert {int(id) for id in hits.ids} <= chosen
