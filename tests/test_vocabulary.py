"""The fast way from a text to numbers of terms counts what the analyser says, whatever was counted before."""

# ruff: noqa: RUF001 - characters that look alike are the subject

from __future__ import annotations

import itertools
import random
import sys
import threading
from array import array
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sections import Sections

from kektordb._rwlock import RWLock
from kektordb._vocabulary import Vocabulary
from kektordb.errors import CorruptSnapshot
from kektordb.text import Analyzer

ENGLISH = Analyzer("english")
SIMPLE = Analyzer("simple")

ALPHABET = st.one_of(
    st.characters(),
    st.characters(max_codepoint=127),
    st.sampled_from("aAzZ_09iIİé\u0301\u200c\u200d\u00ad\u00a0ª½東京カｶﾞ한“”’—　、。！Ａ \n\ud800\x00"),
)
TEXTS = st.lists(st.text(ALPHABET, max_size=40), max_size=6)


def counted(vocabulary: Vocabulary, text: str) -> dict[str, int]:
    terms, counts, length = vocabulary.count(text)
    assert list(terms) == sorted(set(terms))
    assert length == sum(counts)
    return {vocabulary.term(term): count for term, count in zip(terms, counts, strict=True)}


@given(TEXTS)
def test_counts_are_those_of_the_analyzer(texts: list[str]) -> None:
    for analyzer in (ENGLISH, SIMPLE):
        vocabulary = Vocabulary(analyzer)
        seen: dict[str, int] = {}
        for text in [*texts, *texts]:
            terms = analyzer.analyse(text)
            assert counted(vocabulary, text) == Counter(terms)
            for term in terms:
                seen.setdefault(term, len(seen))
            assert {term: vocabulary.number(term) for term in seen} == seen
        assert len(vocabulary) == len(seen)


@given(TEXTS, st.text(ALPHABET, max_size=40))
def test_find_gives_the_known_terms_and_adds_none(texts: list[str], query: str) -> None:
    vocabulary = Vocabulary(ENGLISH)
    for text in texts:
        vocabulary.count(text)
    before = (len(vocabulary), vocabulary.memory_bytes())

    found = vocabulary.find(query)

    known = Counter(term for term in ENGLISH.analyse(query) if vocabulary.number(term) >= 0)
    assert found == sorted((vocabulary.number(term), count) for term, count in known.items())
    assert (len(vocabulary), vocabulary.memory_bytes()) == before


def test_every_character_cuts_where_the_analyzer_cuts() -> None:
    vocabulary = Vocabulary(SIMPLE)
    for start in range(0, 0x20000, 64):
        text = " ".join(f"ab{chr(code)}c" for code in range(start, start + 64))
        assert counted(vocabulary, text) == Counter(SIMPLE.analyse(text)), hex(start)


def test_count_is_what_the_interface_says() -> None:
    vocabulary = Vocabulary(ENGLISH)

    terms, counts, length = vocabulary.count("Running shoes: the runner runs in shoes")

    assert (terms, counts, length) == (array("I", [0, 1, 2]), array("I", [2, 2, 1]), 5)
    assert (terms.typecode, counts.typecode) == ("I", "I")
    assert [vocabulary.term(i) for i in range(3)] == ["run", "shoe", "runner"]
    assert vocabulary.find("shoes and boots, shoes") == [(1, 2)]
    assert vocabulary.number("boot") == -1
    with pytest.raises(IndexError, match="below 3"):
        vocabulary.term(3)


@pytest.mark.parametrize("text", ["", "the of and", " \x00\n", "\ud800", "—“”", "x" * 256, "é" * 128])
def test_texts_without_terms(text: str) -> None:
    vocabulary = Vocabulary(ENGLISH)

    assert vocabulary.count(text) == (array("I"), array("I"), 0)
    assert vocabulary.find(text) == []
    assert len(vocabulary) == 0


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("x" * 10_000_000, 0),
        ("ab " * 3_333_333, 1),
        ("東京" * 300_000, 2),
        ("ÄÖ “ü” " * 200_000, 2),
        (" ".join(f"{i:05x}" for i in range(200_000)), 200_000),
    ],
)
def test_long_texts(text: str, n: int) -> None:
    vocabulary = Vocabulary(SIMPLE)

    terms, counts, length = vocabulary.count(text)

    assert len(terms) == len(counts) == len(vocabulary) == n
    assert length == sum(counts)
    assert [count for _, count in vocabulary.find(text)] == list(counts)


def test_forgotten_stretches_are_analysed_again() -> None:
    vocabulary = Vocabulary(ENGLISH, max_stretches=5)
    rng = random.Random(1)
    words = ["running", "Läufer", "the", "a—b", "ab½cd", "東京都", "x", "shoes", "½", "é"]

    for _ in range(300):
        text = " ".join(rng.choice(words) for _ in range(12))
        assert counted(vocabulary, text) == Counter(ENGLISH.analyse(text))


def test_stretches_take_bounded_memory() -> None:
    small, large = Vocabulary(SIMPLE, max_stretches=100), Vocabulary(SIMPLE)
    text = " ".join(f"é{i}" for i in range(20_000))

    small.count(text)
    large.count(text)

    assert len(small) == len(large) == 20_000
    assert small.memory_bytes() < large.memory_bytes() - 20_000 * 10


class Broken(Analyzer):
    """Fails at one word."""

    def term_of(self, word: str) -> str | None:
        if word == "broken":
            raise MemoryError(word)
        return super().term_of(word)

    def iterate(self, text: str, keep_stop_words: bool = False) -> Iterator[str]:
        if "é" in text:
            raise MemoryError(text)
        return super().iterate(text, keep_stop_words)


@pytest.mark.parametrize("word", ["broken", "é", "é" * 300])
def test_a_count_that_fails_leaves_no_counts_behind(word: str) -> None:
    vocabulary = Vocabulary(Broken("english"))

    with pytest.raises(MemoryError):
        vocabulary.count(f"red shoes {word}")

    assert counted(vocabulary, "red cats") == {"red": 1, "cat": 1}


def test_terms_come_back_from_their_sections() -> None:
    vocabulary = Vocabulary(ENGLISH)
    vocabulary.count("red shoes, 東京都, Straße " + " ".join(map(str, range(1000))))
    loaded = Vocabulary(ENGLISH)
    loaded.count("something else")

    loaded.load("terms", Sections(vocabulary.freeze("terms")))

    assert [loaded.term(i) for i in range(len(loaded))] == [vocabulary.term(i) for i in range(len(vocabulary))]
    assert loaded.find("red shoe 東京 else") == vocabulary.find("red shoe 東京")
    assert loaded.count("blue shoes")[0] == array("I", [1, len(vocabulary)])


def test_empty_vocabulary_comes_back_empty() -> None:
    loaded = Vocabulary(ENGLISH)

    loaded.load("t", Sections(Vocabulary(ENGLISH).freeze("t")))

    assert len(loaded) == 0
    assert counted(loaded, "red") == {"red": 1}


def test_frozen_terms_stay_as_they_were() -> None:
    vocabulary, loaded = Vocabulary(SIMPLE), Vocabulary(SIMPLE)
    vocabulary.count("one two")
    sections = vocabulary.freeze("t")

    vocabulary.count(" ".join(map(str, range(50_000))))
    loaded.load("t", Sections(sections))

    assert [loaded.term(i) for i in range(len(loaded))] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("t/start", lambda data: b"\xff" * 8 + data[8:]),  # a number without a term
        ("t/start", lambda data: data[:8] + data[:8]),  # a term twice
        ("t/start", lambda data: data[:-1]),
        ("t/arena", lambda data: b"\x00" + data[1:]),
        ("t/arena", lambda data: data[:-2]),
    ],
)
def test_damaged_sections_are_refused_and_change_nothing(name: str, change: object) -> None:
    source, target = Vocabulary(SIMPLE), Vocabulary(SIMPLE)
    source.count("one two")
    target.count("mine")
    sections = Sections(source.freeze("t"))
    sections.data[name] = change(sections.data[name])  # type: ignore[operator]

    with pytest.raises(CorruptSnapshot):
        target.load("t", sections)

    assert [target.term(i) for i in range(len(target))] == ["mine"]
    assert counted(target, "mine too") == {"mine": 1, "too": 1}


def test_readers_and_a_writer_share_a_vocabulary() -> None:
    """Readers hold the read lock and find what was there when they began; the writer forgets stretches all the time."""
    analyzer = Analyzer("english")
    vocabulary, lock = Vocabulary(analyzer, max_stretches=50), RWLock()
    done, problems = threading.Event(), []
    with lock.write:
        vocabulary.count("connection 東京 straße")

    def read() -> None:
        for i in itertools.count():
            with lock.read:
                found = vocabulary.find(f"connecting connections 東京 “Straße” new{i % 7}x")
            if found[:3] != [(0, 2), (1, 1), (2, 1)]:
                problems.append(found)
            if done.is_set():
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    readers = [threading.Thread(target=read) for _ in range(3)]
    try:
        for reader in readers:
            reader.start()
        for i in range(400):
            with lock.write:
                terms, _, _ = vocabulary.count(f"connected {i}é—{i}b running{i} new{i % 9}x")
            assert terms[0] == 0
    finally:
        done.set()
        for reader in readers:
            reader.join()
        sys.setswitchinterval(interval)

    assert problems == []
    assert vocabulary.term(0) == "connect"
