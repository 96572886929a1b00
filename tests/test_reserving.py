"""A write that gets no memory changes nothing, wherever it fails; once it is logged it needs none any more."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import kektordb
from kektordb import Database, Index
from kektordb._memory import grant
from kektordb._metadata import encode_metadata
from kektordb.errors import CorruptLog, VectorError
from kektordb.operations import CreateIndex, Group, IndexConfig, PutItems, PutMetadata
from kektordb.reserving import changed_parts
from kektordb.state import State

DIM = 4
# Requests of the largest write of these tests are far fewer; a loop that does not end would hang.
MOST = 5_000
WORDS = [f"word{number}" for number in range(400)]


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """Grant all memory again, whatever a test did."""
    yield
    grant(-1)


def text(rng: random.Random, n: int = 30) -> str:
    """Return words, of which few are common and most are rare."""
    return " ".join(WORDS[int(rng.random() ** 3 * len(WORDS))] for _ in range(n))


def metadata(rng: random.Random, number: int) -> dict[str, Any]:
    """Return values of each kind, some of them new."""
    return {
        "text": text(rng),
        "title": f"{text(rng, 3)} only{number}",
        "price": number,
        "large": 2**60 + number,
        "tags": [f"tag{number % 7}", None],
        "nested": {"deep": number % 3 == 0},
    }


def rows(rng: random.Random, first: int, n: int) -> tuple[list[str], Any, list[dict[str, Any]]]:
    """Return ids, vectors and metadata."""
    vectors = np.array([[rng.random() for _ in range(DIM)] for _ in range(n)], np.float32)
    return (
        [f"id{number}" for number in range(first, first + n)],
        vectors,
        [metadata(rng, i) for i in range(first, first + n)],
    )


def filled(n: int = 120) -> tuple[Database, Index]:
    """Return an index with some texts, some of them deleted."""
    db = kektordb.open(":memory:", n_threads=1)
    index = db.create_index("texts", dim=DIM, text_language="english")
    index.add_batch(*rows(random.Random(1), 0, n))
    for number in range(0, n, 10):
        index.delete(f"id{number}")
    return db, index


def seen(index: Index) -> list[Any]:
    """Return whatever shows: items, and what is found by texts, filters and vectors."""
    queries = [" ".join(WORDS[i : i + 2]) for i in range(0, 60, 6)] + ["only3", "fresh", "only9000"]
    filters = [
        "price > 90",
        "title LIKE 'word1%'",
        "tags = 'tag3'",
        "large >= 1152921504606847200",
        "nested.deep = true",
    ]
    texts = index.stats()["texts"]
    return [
        {name: counts for name, counts in texts.items() if counts["n_texts"]},
        [index.get(id) for id in index.ids()],
        [[(hit.id, round(hit.score, 4)) for hit in index.search(text=query, k=20)] for query in queries],
        [sorted(index.ids(filter=each)) for each in filters],
        index.search([0.1, 0.2, 0.3, 0.4], k=20).ids,
    ]


def same(one: list[Any], other: list[Any]) -> bool:
    """Compare what shows; items hold arrays."""
    return repr(one) == repr(other)


def add_one(db: Database, index: Index) -> None:
    """Add an item with new words, fields and strings."""
    index.add("new", [1, 2, 3, 4], {**metadata(random.Random(2), 9000), "other": "fresh words of a field that is new"})


def add_batch(db: Database, index: Index) -> None:
    """Add more than one slice: tails of lists are sealed, and tables grow."""
    index.add_batch(*rows(random.Random(3), 9000, 300))


def replace(db: Database, index: Index) -> None:
    """Replace many items."""
    index.upsert_batch(*rows(random.Random(4), 60, 270))


def update(db: Database, index: Index) -> None:
    """Change a text, whose postings come in the middle of lists."""
    index.update_metadata("id7", metadata(random.Random(5), 9000))


def group(db: Database, index: Index) -> None:
    """Do all of it at once, to the same items as well."""
    rng = random.Random(6)
    with db.batch():
        index.add_batch(*rows(rng, 9000, 40))
        for number in (5, 6, 7, 9001, 9002, 9001):
            index.update_metadata(f"id{number}", metadata(rng, 9100 + number), replace=number % 2 == 0)
        index.delete(["id8", "id9003"])
        index.upsert_batch(*rows(rng, 0, 50))
        index.update_metadata("id7", {"text": text(rng, 200)})


WRITES: list[Callable[[Database, Index], None]] = [add_one, add_batch, replace, update, group]


@pytest.mark.parametrize("write", WRITES)
def test_a_write_without_memory_changes_nothing(write: Callable[[Database, Index], None]) -> None:
    """From the n-th request on there is none, for every n up to where the write passes."""
    db, index = filled()
    before = seen(index)
    n_failed = 0
    for n in range(MOST):
        grant(n)
        try:
            write(db, index)
        except MemoryError:
            n_failed += 1
        else:
            break
        finally:
            grant(-1)
        assert same(seen(index), before), n
        if n % 7 == 0:
            db, index = filled()  # what failed writes have got must not be there each time

    other, expected = filled()
    write(other, expected)
    assert n_failed > 3
    assert same(seen(index), seen(expected))
    assert index.stats()["texts"] == expected.stats()["texts"]
    index.add("later", [1, 1, 1, 1], {"text": "fresh"})
    assert index.search(text="fresh").ids[0] in ("later", "new")


@pytest.mark.parametrize("write", WRITES)
def test_applying_a_write_asks_for_no_memory(write: Callable[[Database, Index], None], monkeypatch: Any) -> None:
    """The log is written, then memory is refused: nothing of that shows."""
    db, index = filled()
    apply = db._commits._apply

    def applied(*args: Any) -> None:
        grant(0)
        apply(*args)

    monkeypatch.setattr(db._commits, "_apply", applied)
    write(db, index)
    grant(-1)

    other, expected = filled()
    write(other, expected)
    assert same(seen(index), seen(expected))


def test_deleting_asks_for_no_memory() -> None:
    _, index = filled()
    grant(0)
    for number in range(1, 120, 2):
        index.delete(f"id{number}")
    grant(-1)

    assert index.ids() == [f"id{number}" for number in range(120) if number % 2 == 0 and number % 10]
    assert not set(index.search(text="word0 word1", k=300).ids) & {f"id{number}" for number in range(1, 120, 2)}


def test_single_writes_without_memory_to_merge_go_on() -> None:
    """Merging a column takes much memory at once, and can wait."""
    _, index = filled(5)
    n_failed = 0
    for number in range(100, 6_100):
        grant(6)
        try:
            index.add(f"n{number}", [1, 2, 3, number], {"price": number})
        except MemoryError:
            n_failed += 1
        finally:
            grant(-1)

    added = len(index) - 4
    assert added == 6_000 - n_failed
    assert len(index.ids(filter="price >= 100")) == added
    assert n_failed < 60


def test_what_is_reserved_for_a_batch_is_given_back() -> None:
    db, index = filled()
    group(db, index)
    replace(db, index)
    parts = index.stats()["memory_bytes"]
    lists = index._collection().texts
    assert lists is not None
    lists.index.compact()

    assert parts["text"] < 1.35 * index.stats()["memory_bytes"]["text"]


def test_rows_of_another_dimension_are_refused_before_anything_is_touched() -> None:
    """Rows of a log or a leader were read as far as the index's dimension says, behind their end: found by fuzzing."""
    state = State(1)
    state.apply(CreateIndex(1, "a", IndexConfig(dim=64)))
    four, three = (PutItems(1, [str(dim)], np.zeros((1, dim), np.float32), [b""]) for dim in (4, 3))

    with pytest.raises(VectorError, match="expected 64 dimensions, got 4"):
        state.reserve(four)
    with pytest.raises(CorruptLog, match="expected 64 dimensions"):
        state.replay(iter([four]))
    state.apply(CreateIndex(1, "a", IndexConfig()))
    with pytest.raises(VectorError, match="expected 4 dimensions, got 3"):
        state.reserve(Group((four, three)))

    assert state.collection("a").n_slots == 0


VALUES = [
    None,
    True,
    1,
    1.0,
    0.0,
    -0.0,
    2**63,
    "",
    "1",
    [1, True, "a"],
    [True, 1, "a"],
    [],
    {"b": 1},
    {"b": True, "c": [2]},
]
KEYS = ["a", "a.b", "d", "", ".x"]


def matches(index: kektordb.Index) -> list[list[str]]:
    fields = ["a", "a.b", "a.c", "d", "d.b", "d.c"]
    tests = ["{} = 1", "{} = true", "{} = 0", "{} = ''", "{} = 'a'", "{} IS NULL", "EXISTS({})", "{} > 1"]
    return [index.ids(test.format(field)) for field in fields for test in tests]


@pytest.mark.parametrize("keys", [KEYS, ["a", "d", "e"]])
@pytest.mark.parametrize("long", [0, 30])
def test_filters_see_what_is_there_whatever_an_update_leaves_alone(
    monkeypatch: pytest.MonkeyPatch, long: int, keys: list[str]
) -> None:
    monkeypatch.setattr("kektordb.reserving.LONG", long)
    rng = random.Random(1)

    def some() -> dict[str, Any]:
        return {key: rng.choice(VALUES) for key in rng.sample(keys, rng.randint(0, len(keys)))}

    with kektordb.open(":memory:") as db:
        index, fresh = db.create_index("updated"), db.create_index("fresh")
        ids = [f"{i}" for i in range(20)]
        index.add_batch(ids, np.ones((20, 2)), [some() for _ in ids])
        for _ in range(20):
            with db.batch() if rng.random() < 0.5 else contextlib.nullcontext():
                for id in rng.choices(ids, k=20):
                    index.update_metadata(id, some(), replace=rng.random() < 0.3)
            fresh.upsert_batch(ids, np.ones((20, 2)), [index[id].metadata for id in ids])
            assert matches(index) == matches(fresh)


def test_an_update_of_much_metadata_indexes_what_it_changes_alone() -> None:
    old: dict[str, Any] = {"words": [f"word {i}" for i in range(1000)], "n": 1, "one": True, "gone": 0}
    update = PutMetadata(1, "a", encode_metadata({"words": old["words"], "n": 2, "one": 1, "new": 3}))

    assert changed_parts(update, old) == ({"n": 1, "one": True, "gone": 0}, {"n": 2, "one": 1, "new": 3})
    dotted = {**old, "words.n": 1}
    assert changed_parts(update, dotted)[0] == dotted
    assert changed_parts(PutMetadata(1, "a", encode_metadata({"n": 2})), {"n": 1}) == ({"n": 1}, None)
