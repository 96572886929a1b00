"""The way in and out of a search: queries of every form, results that stay what they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import kektordb
from kektordb._search import is_query
from kektordb.errors import VectorError

DIM = 5
N = 300


@pytest.fixture
def db() -> Iterator[kektordb.Database]:
    with kektordb.open(":memory:", n_threads=1) as database:
        yield database


@pytest.fixture
def vectors() -> npt.NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((N, DIM)).astype(np.float32)


def name(i: int) -> str:
    """Ids of 1 to 1,024 bytes, of every width that UTF-8 has."""
    return f"{i}" + "aé€😀"[i % 4] * (i % 251)


def metadata(i: int) -> dict[str, Any]:
    return {} if i % 3 == 0 else {"n": i, "text": "ü" * (i % 40)} if i % 3 == 1 else {str(i): [i, None, {"deep": True}]}


@pytest.fixture
def items(db: kektordb.Database, vectors: npt.NDArray[np.float32]) -> kektordb.Index:
    index = db.create_index("items", metric="euclidean")
    index.add_batch([name(i) for i in range(N)], vectors, [metadata(i) or None for i in range(N)])
    return index


def unaligned(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    block = np.zeros(row.nbytes + 1, np.uint8)
    made: npt.NDArray[np.float32] = np.ndarray(row.shape, np.float32, block.data, 1)
    made[:] = row
    return made


class Labelled(np.ndarray):  # type: ignore[type-arg]
    """A subclass of array."""


def read_only(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    row = row.copy()
    row.flags.writeable = False
    return row


# Name, what it makes of a row, and whether a graph takes it as it is.
FORMS: dict[str, tuple[Any, bool]] = {
    "as it is": (lambda row: row.copy(), True),
    "part of an array": (lambda row: np.stack([row, row])[1], True),
    "read-only": (read_only, True),
    "every other": (lambda row: np.repeat(row, 2)[::2], False),
    "backwards": (lambda row: row[::-1].copy()[::-1], False),
    "unaligned": (unaligned, False),
    "other byte order": (lambda row: row.astype(row.dtype.newbyteorder()), False),
    "float64": (lambda row: row.astype(np.float64), False),
    "a subclass": (lambda row: row.copy().view(Labelled), False),
    "masked": (lambda row: np.ma.masked_array(row), False),
    "memoryview": (lambda row: memoryview(row), False),
    "list": (lambda row: row.tolist(), False),
    "tuple of scalars": (lambda row: tuple(row), False),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_query_of_any_form_finds_the_same(items: kektordb.Index, vectors: npt.NDArray[np.float32], form: str) -> None:
    make, fits = FORMS[form]
    query = vectors[7] + np.float32(0.25)
    expected = items.search(query)

    assert is_query(make(query), DIM) == fits
    assert items.search(make(query)).ids == expected.ids
    assert items.search(make(query)).distances.tolist() == expected.distances.tolist()


@pytest.mark.parametrize(
    "query",
    [
        np.zeros(DIM + 1, np.float32),
        np.zeros((1, DIM), np.float32),
        np.float32(1),
        np.zeros((), np.float32),
        np.zeros(0, np.float32),
        np.zeros(DIM, complex),
        np.zeros(DIM, "M8[s]"),
        np.zeros(DIM, object),
        np.zeros(DIM, np.dtype([("a", "f4")])),
        np.full(DIM, np.nan, np.float32),
        "words",
        None,
    ],
    ids=repr,
)
def test_what_is_no_query_is_refused(items: kektordb.Index, query: Any) -> None:
    assert not is_query(query, DIM) or np.isnan(query).all()
    with pytest.raises(VectorError):
        items.search(query)


def test_an_array_of_float32_rows_may_be_unaligned(db: kektordb.Database, vectors: npt.NDArray[np.float32]) -> None:
    index = db.create_index("unaligned", metric="euclidean")
    index.add_batch([str(i) for i in range(N)], unaligned(vectors))
    index.add("one", unaligned(vectors[0] * 2))

    assert index["17"].vector.tolist() == vectors[17].tolist()
    assert index["one"].vector.tolist() == (vectors[0] * 2).tolist()
    assert [hits.ids for hits in index.search_batch(unaligned(vectors[:9]), 1)] == [[str(i)] for i in range(9)]


# -------------------------------------------------------------------------------------------------------------- results


def truth(vectors: npt.NDArray[np.float32], query: npt.NDArray[np.float32], k: int) -> list[int]:
    return [int(i) for i in np.argsort(((vectors - query) ** 2).sum(axis=1), kind="stable")[:k]]


@pytest.mark.parametrize("include", [("metadata",), (), ("vector",), ["vector", "metadata"], {"metadata"}])
@pytest.mark.parametrize("k", [1, 10, N, 2 * N])
def test_hits_hold_what_was_asked_for(
    items: kektordb.Index, vectors: npt.NDArray[np.float32], k: int, include: Any
) -> None:
    near = truth(vectors, vectors[3], k)

    for hits in (items.search(vectors[3], k, include=include), items.search_batch(vectors[3:4], k, include=include)[0]):
        assert len(hits) == len(near) == min(k, N)
        assert hits.ids == [name(i) for i in near]
        assert hits.ids is hits.ids
        for hit, i, distance, score in zip(hits, near, hits.distances, hits.scores, strict=True):
            assert hit.id == name(i)
            assert hit.metadata == (metadata(i) if "metadata" in include else None)
            assert (hit.vector is None) == ("vector" not in include)
            assert hit.vector is None or hit.vector.tolist() == vectors[i].tolist()
            assert hit.distance == distance
            assert hit.score == pytest.approx(float(score), rel=1e-6)
        assert hits[-1].id == hits[len(hits) - 1].id == hits[-2:][-1].id == name(near[-1])


def test_results_stay_what_they_were(items: kektordb.Index, vectors: npt.NDArray[np.float32]) -> None:
    query = vectors[3]
    near = truth(vectors, query, N)
    one = items.search(query, N)
    many = items.search_batch(np.stack([query, query]), N)

    for i in range(N):
        items.update_metadata(name(i), {"changed": "x" * 9000}, replace=True)
    for i in range(N):
        items.upsert(name(i), -vectors[i], {"again": i})
    items.delete([name(i) for i in range(0, N, 2)])
    items.database.drop_index("items")

    for hits in (one, *many):
        assert [hit.id for hit in hits] == [name(i) for i in near]
        assert [hit.metadata for hit in hits] == [metadata(i) for i in near]


def test_nothing_found_is_empty(db: kektordb.Database, items: kektordb.Index) -> None:
    empty = db.create_index("empty")
    zeros = np.zeros((3, DIM), np.float32)

    for found in (
        [empty.search(zeros[0])],
        empty.search_batch(zeros),
        [items.search(zeros[0], filter="n = none")],
        items.search_batch(zeros, filter="n = none"),
    ):
        for hits in found:
            assert (len(hits), hits.ids, list(hits), hits[:]) == (0, [], [], [])
            assert hits.distances.shape == hits.scores.shape == (0,)
            assert hits.distances.dtype == hits.scores.dtype == np.float32
    assert len(empty.search_batch(zeros)) == len(items.search_batch(zeros, filter="n = none")) == 3


def test_the_score_of_a_product_is_the_product(db: kektordb.Database) -> None:
    index = db.create_index("dot", metric="dot")
    index.add_batch(["a", "b"], [[2, 0], [-3, 1]])

    for hits in (index.search([2, 1]), index.search_batch([[2, 1]])[0]):
        assert hits.scores.tolist() == [hit.score for hit in hits] == [4.0, -5.0]


def test_a_batch_names_the_query_that_is_bad(items: kektordb.Index) -> None:
    queries = np.zeros((4, DIM), np.float32)
    queries[2, 1] = np.inf
    with pytest.raises(VectorError, match="query 2"):
        items.search_batch(queries)


def test_an_error_gives_the_lock_back(items: kektordb.Index) -> None:
    for _ in range(3):
        with pytest.raises(VectorError):
            items.search(np.full(DIM, np.nan, np.float32))
        with pytest.raises(kektordb.FilterError):
            items.search(np.zeros(DIM, np.float32), filter="n = $missing")
    items.add("after", np.zeros(DIM))
    assert items.search(np.zeros(DIM, np.float32), 1).ids == ["after"]


def test_filtered_hits_match_their_filter_while_a_writer_moves_them(db: kektordb.Database) -> None:
    """Bitmap, ids and metadata of one search are of one moment: a stale bitmap gives a hit of another group."""
    rng = np.random.default_rng(1)
    index = db.create_index("moving", metric="euclidean")
    index.add_batch([str(i) for i in range(60)], rng.random((60, DIM)), [{"group": i % 3} for i in range(60)])
    done = threading.Event()
    wrong: list[Any] = []

    def read(seed: int) -> None:
        queries = np.random.default_rng(seed).random((50, DIM)).astype(np.float32)
        while not done.is_set() and not wrong:
            for group in range(3):
                found = [index.search(queries[0], 100, filter="group = $g", params={"g": group})]
                found += index.search_batch(queries[:2], 100, filter=kektordb.F("group") == group, n_threads=1)
                wrong.extend(hit for hits in found for hit in hits if (hit.metadata or {})["group"] != group)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in (1, 2)]
    for reader in readers:
        reader.start()
    try:
        for step in range(1500):
            id = str(int(rng.integers(60)))
            if step % 5 == 0:
                index.upsert(id, rng.random(DIM), {"group": step % 3})
            else:
                index.update_metadata(id, {"group": step % 3})
    finally:
        done.set()
        for reader in readers:
            reader.join()

    assert wrong == []
