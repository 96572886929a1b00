"""The text index scores as a walk over all texts does, whatever was added, removed, compacted and loaded before."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import threading
from array import array
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sections import Sections

import kektordb
from kektordb._bitmap import Bitmap
from kektordb._bm25 import TextIndex
from kektordb.errors import ConfigError, CorruptSnapshot

Query = list[tuple[int, int, float]]


class Truth:
    """BM25 by the book over a dict of texts."""

    def __init__(self, k1: float = 1.2, b: float = 0.75) -> None:
        self.k1, self.b = k1, b
        self.texts: dict[tuple[int, int], list[int]] = {}

    def parts(self, query: Query, slot: int) -> Iterable[float]:
        for field, term, weight in query:
            lengths = [len(text) for (other, _), text in self.texts.items() if other == field]
            tf = self.texts.get((field, slot), []).count(term)
            if not tf:
                continue
            df, n = self.df(field, term), len(lengths)
            average = sum(lengths) / n
            idf = math.log(1 + (n - df + 0.5) / (df + 0.5))
            norm = self.k1 * (1 - self.b + self.b * len(self.texts[field, slot]) / average)
            yield weight * idf * tf / (tf + norm)

    def df(self, field: int, term: int) -> int:
        return sum(term in text for (other, _), text in self.texts.items() if other == field)

    def search(self, query: Query, k: int, allowed: set[int] | None = None) -> list[tuple[int, float]]:
        slots = {slot for _, slot in self.texts if allowed is None or slot in allowed}
        scored = [(slot, math.fsum(self.parts(query, slot))) for slot in slots]
        return sorted(((s, x) for s, x in scored if x > 0), key=lambda pair: (-np.float32(pair[1]), pair[0]))[:k]


class Both:
    """An index and its truth, changed together."""

    def __init__(self, k1: float = 1.2, b: float = 0.75) -> None:
        self.index, self.truth = TextIndex(k1, b), Truth(k1, b)

    def add(self, field: int, slot: int, text: list[int]) -> None:
        if (field, slot) in self.truth.texts:
            self.remove(field, slot)
        add(self.index, field, slot, text)
        self.truth.texts[field, slot] = text

    def remove(self, field: int, slot: int) -> None:
        assert self.index.remove(field, slot) == (self.truth.texts.pop((field, slot), None) is not None)


def counted(text: list[int]) -> tuple[array[int], array[int]]:
    counts = Counter(text)
    return array("I", sorted(counts)), array("I", [counts[term] for term in sorted(counts)])


def add(index: TextIndex, field: int, slot: int, text: list[int]) -> None:
    index.add(field, slot, *counted(text), len(text))


def check_search(both: Both, query: Query, k: int, allowed: set[int] | None = None, n_slots: int = 4096) -> None:
    bitmap = None if allowed is None else Bitmap.from_slots(allowed, n_slots)
    slots, scores = both.index.search(query, k, bitmap)
    everything = both.truth.search(query, 10**9, allowed)
    truth = dict(everything)

    assert len(slots) == min(k, len(everything))
    np.testing.assert_allclose(scores, [score for _, score in everything[: len(slots)]], rtol=2e-6)
    np.testing.assert_allclose(scores, [truth[slot] for slot in slots.tolist()], rtol=2e-6)
    pairs = list(zip(-scores, slots.tolist(), strict=True))
    assert pairs == sorted(pairs)
    np.testing.assert_array_equal(both.index.scores(query, slots), scores)


def check_statistics(both: Both, n_terms: int) -> None:
    for field in range(both.index.n_fields):
        texts = [text for (other, _), text in both.truth.texts.items() if other == field]
        stats = both.index.stats(field)
        assert (stats["n_docs"], stats["total_length"]) == (len(texts), sum(map(len, texts)))
        assert stats["n_postings"] == sum(len(set(text)) for text in texts)
        for term in range(n_terms):
            assert both.index.df(field, term) == both.truth.df(field, term)


def zipf_text(rng: random.Random, n_terms: int, longest: int) -> list[int]:
    return [int(n_terms ** rng.random()) - 1 for _ in range(rng.randint(0, longest))]


def filled(n: int, seed: int, n_fields: int = 2, n_terms: int = 60, longest: int = 12) -> Both:
    rng = random.Random(seed)
    both = Both()
    for slot in range(n):
        for field in range(n_fields):
            if rng.random() < 0.9:
                both.add(field, slot, zipf_text(rng, n_terms, longest))
    return both


def loaded(index: TextIndex, n_slots: int, **changed: bytes) -> TextIndex:
    fresh = TextIndex(index.k1, index.b)
    fresh.load("text", Sections(index.freeze("text"), **changed), n_slots)
    return fresh


# --------------------------------------------------------------------------------------------------- random sequences

SLOTS = st.sampled_from([0, 1, 2, 3, 63, 64, 2047, 2048, 4000])
TEXTS = st.lists(st.integers(0, 7), max_size=9)
EVENTS = st.lists(
    st.tuples(st.just("add"), st.integers(0, 1), SLOTS, TEXTS)
    | st.tuples(st.just("remove"), st.integers(0, 1), SLOTS, st.just([]))
    | st.sampled_from([("compact", 0, 0, []), ("reload", 0, 0, [])]),
    max_size=40,
)
WEIGHTS = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 7.25])
QUERIES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), WEIGHTS), max_size=6)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    EVENTS, QUERIES, st.integers(0, 12), st.none() | st.sets(SLOTS), st.sampled_from([(1.2, 0.75), (0, 0.5), (2, 0)])
)
def test_any_sequence_scores_as_the_truth(
    events: list[tuple[str, int, int, list[int]]],
    query: Query,
    k: int,
    allowed: set[int] | None,
    options: tuple[float, float],
) -> None:
    both = Both(*options)
    for event, field, slot, text in events:
        if event == "add":
            both.add(field, slot, text)
        elif event == "remove":
            both.remove(field, slot)
        elif event == "compact":
            both.index.compact()
        else:
            both.index = loaded(both.index, 4001)

    check_search(both, query, k, allowed)
    check_statistics(both, 8)


@pytest.mark.parametrize("seed", range(2))
def test_long_lists_with_changes_everywhere(seed: int) -> None:
    """Lists of many blocks: appended, inserted into, struck, split, compacted and loaded."""
    rng = random.Random(seed)
    both = Both()
    for step in range(2500):
        slot = step if rng.random() < 0.7 else rng.randrange(step + 1)
        both.add(0, slot, zipf_text(rng, 40, 8))
        if rng.random() < 0.25:
            both.remove(0, rng.randrange(step + 1))
        if step in (1100, 1900):
            both.index = loaded(both.index, 2500)
    check_statistics(both, 41)
    half = {slot for slot in range(2500) if rng.random() < 0.5}
    for allowed in (None, half, set(range(0, 2500, 40)), {7, 900}):
        check_search(both, [(0, 0, 1), (0, 3, 1), (0, 17, 1), (0, 35, 2)], 20, allowed)
        check_search(both, [(0, 39, 1)], 3000, allowed)

    both.index.compact()

    assert both.index.stats(0)["n_stale_postings"] == 0
    assert both.index.stats(0)["wasted_bytes"] == 0
    check_statistics(both, 41)
    check_search(both, [(0, 0, 1), (0, 3, 1), (0, 17, 1), (0, 35, 2)], 20)


@pytest.mark.parametrize("k", [1, 10, 100, 10_000])
@pytest.mark.parametrize("share", [None, 0.5, 0.05, 0.004])
def test_pruning_loses_nothing(k: int, share: float | None) -> None:
    both, rng = CORPUS, random.Random(k)
    allowed = None if share is None else {slot for slot in range(7000) if rng.random() < share}
    for _ in range(12):
        query = [(rng.randrange(2), int(60 ** rng.random()) - 1, rng.choice([1.0, 1.0, 3.0])) for _ in range(4)]
        slots, scores = both.index.search(query, k, None if allowed is None else Bitmap.from_slots(allowed, 7000))
        everything = np.arange(7000, dtype=np.uint32)
        exact = both.index.scores(query, everything)
        if allowed is not None:
            exact[[slot for slot in range(7000) if slot not in allowed]] = 0
        order = np.lexsort((everything, -exact))[:k]
        order = order[exact[order] > 0]
        np.testing.assert_array_equal(slots, order)
        np.testing.assert_array_equal(scores, exact[order])


CORPUS = filled(7000, seed=5)


# -------------------------------------------------------------------------------------------------------- single facts


def test_ties_come_in_the_order_of_slots() -> None:
    index = TextIndex()
    for slot in range(5000):
        add(index, 0, slot, [slot % 2, 2, 3])

    slots, scores = index.search([(0, 1, 1), (0, 0, 1), (0, 2, 1)], 7)

    assert slots.tolist() == list(range(7))
    assert len(set(scores.tolist())) == 1


def test_repeated_words_count_repeatedly() -> None:
    once = CORPUS.index.search([(0, 5, 1), (0, 9, 1)], 5)
    twice = CORPUS.index.search([(0, 5, 1), (0, 9, 1), (0, 9, 1)], 5)
    weighted = CORPUS.index.search([(0, 5, 1), (0, 9, 2)], 5)

    assert twice[1].tolist() == weighted[1].tolist()
    assert twice[0].tolist() == weighted[0].tolist()
    assert once[1].tolist() != twice[1].tolist()


@pytest.mark.parametrize(
    "query", [[], [(0, 999_999, 1.0)], [(5, 0, 1.0)], [(0, 1, 0.0)], [(-1, 0, 1.0)], [(0, -1, 1.0)]]
)
def test_nothing_to_find(query: Query) -> None:
    slots, scores = CORPUS.index.search(query, 5)

    assert slots.dtype == np.uint32
    assert scores.dtype == np.float32
    assert len(slots) == len(scores) == 0
    assert CORPUS.index.scores(query, array("I", [1, 2])).tolist() == [0, 0]


def test_no_results_wanted_and_nothing_allowed() -> None:
    assert len(CORPUS.index.search([(0, 1, 1)], 0)[0]) == 0
    assert len(CORPUS.index.search([(0, 1, 1)], 5, Bitmap(7000))[0]) == 0
    assert len(CORPUS.index.search([(0, 1, 1)], 5, Bitmap(0))[0]) == 0
    assert len(TextIndex().search([(0, 1, 1)], 5)[0]) == 0


def test_scores_of_slots_in_any_order() -> None:
    query = [(0, 3, 1.0), (1, 30, 2.0)]
    slots = np.random.default_rng(1).integers(0, 7100, 400, dtype=np.uint32)

    scores = CORPUS.index.scores(query, slots)

    truth = [math.fsum(CORPUS.truth.parts(query, slot)) for slot in slots[:25].tolist()]
    np.testing.assert_allclose(scores[:25], truth, rtol=2e-6)
    every = CORPUS.index.scores(query, np.arange(7100, dtype=np.uint32))
    np.testing.assert_array_equal(scores, every[slots])


def test_explanation_adds_up_to_the_score() -> None:
    query = [(0, 3, 1.0), (1, 30, 2.0), (0, 7, 1.0), (0, 7, 1.0), (0, 12345, 1.0)]
    slots, scores = CORPUS.index.search(query, 10)
    for slot, score in zip(slots.tolist(), scores.tolist(), strict=True):
        parts = CORPUS.index.explain(query, slot)
        assert sum(part["score"] for part in parts) == pytest.approx(score, rel=1e-5)
        for part in parts:
            text = CORPUS.truth.texts.get((part["field"], slot))
            assert part["tf"] == (text or []).count(part["term"])
            assert part["df"] == CORPUS.truth.df(part["field"], part["term"])
            assert part["length"] == (None if text is None else len(text))
        assert [part["weight"] for part in parts] == [1.0, 2.0, 2.0, 1.0]


@pytest.mark.parametrize("terms", [[], [3], [3, 17], [3, 17, 40], [3, 999], [3, 3]])
def test_contains(terms: list[int]) -> None:
    texts = {slot: set(text) for (field, slot), text in CORPUS.truth.texts.items() if field == 0}
    for every, match in ((False, any), (True, all)):
        rows = Bitmap.from_slots([6], 6500)
        CORPUS.index.contains(0, terms, every, rows)
        expected = {slot for slot, text in texts.items() if terms and match(term in text for term in terms)}
        assert set(rows.slots()) == {slot for slot in expected | {6} if slot < 6500}
    CORPUS.index.contains(9, [1], False, rows)


def test_removed_texts_leave_no_trace_at_once() -> None:
    both = Both()
    for slot in range(300):
        both.add(0, slot, [1, 2, slot])
    for slot in range(0, 300, 3):
        both.remove(0, slot)
        assert both.index.df(0, 1) == 299 - slot // 3
    rows = Bitmap(300)
    both.index.contains(0, [1], False, rows)

    assert both.index.terms(0, 0) == []
    assert both.index.terms(0, 1) == [1, 2]
    assert both.index.length(0, 0) is None
    assert both.index.length(0, 5) == 3
    assert rows.count() == 200
    check_statistics(both, 300)
    check_search(both, [(0, 1, 1), (0, 4, 1), (0, 3, 1)], 10)


def test_remove_all_fields_of_a_slot() -> None:
    index = TextIndex()
    for field in (0, 1, 4):
        add(index, field, 3, [field, 7])

    assert index.remove_all(3) == 3
    assert index.remove_all(3) == 0
    assert index.n_fields == 5
    assert [index.stats(field)["n_docs"] for field in range(5)] == [0] * 5


def test_a_text_without_words_counts_as_a_text() -> None:
    both = Both()
    both.add(0, 0, [1, 2])
    both.add(0, 1, [])
    check_search(both, [(0, 1, 1)], 5)
    check_statistics(both, 3)
    both.remove(0, 1)
    check_search(both, [(0, 1, 1)], 5)


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 0, [2, 1], [1, 1], 2),
        (0, 0, [1, 1], [1, 1], 2),
        (0, 0, [1, 2], [1], 2),
        (0, 0, [1], [0], 2),
        (0, 0, [1], [2**24 + 1], 2),
        (0, 0, [2**32 - 1], [1], 1),
        (0, 0, [1], [1], -1),
        (0, 0, [1], [1], 2**24 + 1),
        (-1, 0, [1], [1], 1),
        (65536, 0, [1], [1], 1),
        (0, -1, [1], [1], 1),
        (0, 2**32 - 1, [1], [1], 1),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple[int, int, list[int], list[int], int]) -> None:
    index = TextIndex()
    field, slot, terms, counts, length = arguments
    with pytest.raises(ValueError, match="expected"):
        index.add(field, slot, array("I", terms), array("I", counts), length)
    assert index.n_fields == 0


def test_a_slot_has_one_text_in_a_field() -> None:
    index = TextIndex()
    add(index, 0, 3, [1])
    with pytest.raises(ValueError, match="slot 3 has a text in field 0"):
        add(index, 0, 3, [2])
    assert index.df(0, 2) == 0


@pytest.mark.parametrize(("k1", "b"), [(-1, 0.5), (math.nan, 0.5), (1, 1.5), (1, -0.1), (1, math.nan)])
def test_options_that_make_no_sense(k1: float, b: float) -> None:
    with pytest.raises(ConfigError):
        TextIndex(k1, b)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_that_make_no_sense(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        CORPUS.index.search([(0, 1, weight)], 5)


def test_extreme_counts_and_lengths() -> None:
    both = Both()
    both.add(0, 0, [1] * 70_000)
    both.add(0, 1, [1] * 300 + [2] * 5)
    both.add(0, 2, [1, 2])
    for slot in range(3, 400):
        both.add(0, slot, [1] * (slot % 7) + [3] * (slot % 5))
    check_search(both, [(0, 1, 1), (0, 2, 1)], 10)
    check_search(both, [(0, 1, 1)], 1)


def test_many_words_in_one_query() -> None:
    query = [(field, term, 1.0) for field in range(2) for term in range(150)]
    check_search(CORPUS_SMALL, query, 10, None)
    check_search(CORPUS_SMALL, query, 10, set(range(0, 120, 3)))


CORPUS_SMALL = filled(120, seed=8, n_terms=150)


# -------------------------------------------------------------------------------------------------- memory and threads


def test_postings_take_few_bytes() -> None:
    rng = random.Random(3)
    index = TextIndex()
    for slot in range(20_000):
        add(index, 0, slot, zipf_text(rng, 30_000, 60))
    stats = index.stats(0)

    assert stats["list_bytes"] / stats["n_postings"] < 6
    assert stats["forward_bytes"] / stats["n_postings"] < 3
    assert index.memory_bytes() == sum(stats[part] for part in ("list_bytes", "forward_bytes", "length_bytes"))


def test_deleting_everything_gives_the_postings_memory_back() -> None:
    index = filled(3000, seed=4).index
    before = index.memory_bytes()
    for slot in range(3000):
        index.remove_all(slot)
    index.compact()

    assert index.stats(0)["n_postings"] == index.stats(0)["n_stale_postings"] == 0
    assert index.memory_bytes() < before / 2
    assert not index.is_wasteful()
    assert len(index.search([(0, 1, 1)], 5)[0]) == 0


STARVED = """
import resource, sys
from array import array
import numpy as np
from kektordb._bm25 import TextIndex
from test_bm25 import loaded
rng = np.random.default_rng(int(sys.argv[1]))
index = TextIndex()
texts = [np.unique(rng.integers(0, 20_000, 500, dtype=np.uint32)) for _ in range(8_000)]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.RLIM_INFINITY))
failed = None
for slot, terms in enumerate(texts):
    try:
        index.add(0, slot, terms, np.ones_like(terms), len(terms))
    except MemoryError:
        failed = slot
        break
for slot in range(0, failed, 3):
    index.remove(0, slot)
before = index.stats(0)
try:
    index.add(0, failed, texts[failed], np.ones_like(texts[failed]), len(texts[failed]))
except MemoryError:
    assert index.stats(0)["n_docs"] == before["n_docs"]
    assert index.stats(0)["n_postings"] == before["n_postings"]
else:
    index.remove(0, failed)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
kept = [len(texts[slot]) for slot in range(failed) if slot % 3]
assert loaded(index, len(texts)).stats(0)["n_postings"] == index.stats(0)["n_postings"] == sum(kept)
assert failed > 100
for slot in range(failed, failed + 500):
    index.add(0, slot, texts[slot], np.ones_like(texts[slot]), len(texts[slot]))
index.compact()
loaded(index, len(texts))
print("sound")
"""


@pytest.mark.skipif(sys.platform != "linux" or "LD_PRELOAD" in os.environ, reason="limits of the address space")
@pytest.mark.parametrize("seed", [1, 2])
def test_without_memory_nothing_changes(seed: int) -> None:
    """`load` checks each list against the forward lists, so that a text that went in halfway would be found."""
    done = subprocess.run(
        [sys.executable, "-c", STARVED, str(seed)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stdout == "sound\n", done.stderr


def test_searches_run_beside_one_another() -> None:
    queries = [[(0, term, 1.0), (1, term // 2, 1.0), (0, 59 - term, 1.0)] for term in range(40)]
    expected = [CORPUS.index.search(query, 20) for query in queries]
    failures: list[int] = []

    def work(first: int) -> None:
        for number in [*range(first, 40), *range(first)]:
            slots, scores = CORPUS.index.search(queries[number], 20)
            if slots.tolist() != expected[number][0].tolist() or scores.tolist() != expected[number][1].tolist():
                failures.append(number)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


# ----------------------------------------------------------------------------------------------------------- snapshots


def test_a_frozen_view_stays_as_it_was() -> None:
    both = filled(900, seed=2)
    sections = both.index.freeze("text")
    for slot in range(900, 1500):
        both.index.add(0, slot, array("I", [1, 2]), array("I", [1, 1]), 2)
    for slot in range(0, 900, 2):
        both.index.remove_all(slot)
    both.index.compact()

    fresh = TextIndex()
    fresh.load("text", Sections(sections), 900)
    both.index = fresh

    check_statistics(both, 61)
    check_search(both, [(0, 1, 1), (1, 20, 1), (0, 50, 1)], 20)


def test_what_was_loaded_goes_on() -> None:
    both = filled(1000, seed=6)
    for slot in range(0, 1000, 5):
        both.remove(0, slot)
    both.index = loaded(both.index, 1000)
    rng = random.Random(1)
    for slot in [*range(0, 1000, 7), *range(1000, 1400)]:
        both.add(0, slot, zipf_text(rng, 60, 10))
    check_statistics(both, 61)
    check_search(both, [(0, 1, 1), (0, 20, 1), (1, 50, 1)], 20)
    assert loaded(both.index, 1400).freeze("text")[0].n_bytes == both.index.freeze("text")[0].n_bytes


def test_an_empty_index_is_saved_and_loaded() -> None:
    assert loaded(TextIndex(), 0).n_fields == 0
    index = TextIndex()
    add(index, 1, 0, [])
    assert loaded(index, 1).stats(1)["n_docs"] == 1


def test_damaged_sections_are_refused_or_harmless() -> None:
    """No change of bytes may lead outside an array: each is refused, or the index can be used all the same."""
    index = filled(700, seed=9, n_fields=1, n_terms=20).index
    index.remove(0, 3)
    whole = Sections(index.freeze("text")).data
    rng = random.Random(0)
    refused = 0
    for name in sorted(whole):
        for _ in range(25):
            data = bytearray(whole[name])
            if rng.random() < 0.2:
                del data[rng.randrange(len(data)) :]
            else:
                for _ in range(rng.randint(1, 4)):
                    data[rng.randrange(len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
            if data == whole[name]:
                continue
            try:
                other = loaded(index, 700, **{name: bytes(data)})
            except CorruptSnapshot:
                refused += 1
                continue
            except MemoryError:
                continue
            other.search([(0, term, 1.0) for term in range(20)], 5)
            other.scores([(0, term, 1.0) for term in range(20)], np.arange(700, dtype=np.uint32))
            for slot in range(0, 700, 9):
                other.remove_all(slot)
            other.compact()
    assert refused > 80


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text/fields", b""),
        ("text/fields", b"\xff\xff\xff\xff"),
        ("text/fields", b"\xff\xff\0\0"),  # was read: 65,535 fields of nothing, in a second
        ("text/0/lists", b"\x00" * 24),
        ("text/0/cells", b""),
        ("text/0/cells", b"\x01" + b"\x00" * 7),
        ("text/0/lists", b"\x00" * 27),
        ("text/0/lengths", b"\x00" * 4 * 701),
        ("text/0/lengths", b"\x00" * 4 * 700),
        ("text/0/bytes", b""),
        ("text/0/blocks", b""),
        ("text/0/terms/start", b"\xff" * 8 * 700),
    ],
)
def test_sections_that_cannot_be_are_refused(name: str, data: bytes) -> None:
    index = filled(700, seed=9, n_fields=1, n_terms=20).index
    with pytest.raises(CorruptSnapshot):
        loaded(index, 700, **{name: data})


def test_an_index_in_a_cycle_is_collected_whole() -> None:
    """The collector cleared a field's memory before its lists in it were freed: a crash at the end of some programs."""
    code = """
import gc
from array import array
from kektordb._bm25 import TextIndex
for _ in range(20):
    index = TextIndex()
    for slot in range(50):
        for field in range(3):
            index.add(field, slot, array("I", [1, 2, slot + 3]), array("I", [1, 1, 1]), 3)
    cycle = [index]
    cycle.append(cycle)
    del index, cycle
    gc.collect()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(kektordb.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
