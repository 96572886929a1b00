"""A snippet is the best passage, with the original words marked; a phrase is found where its words stand together."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kektordb.text import Analyzer, contains_phrase, snippet

ENGLISH = Analyzer("english")
SIMPLE = Analyzer("simple")
FILLER = "lorem ipsum dolor sit amet consectetur "


def terms_of(text: str) -> set[str]:
    return set(ENGLISH.analyse(text))


def unmarked(text: str) -> str:
    return text.replace("<b>", "").replace("</b>", "").removeprefix("…").removesuffix("…")


def test_original_words_are_marked() -> None:
    found = snippet("The Runner was running in red SHOES.", terms_of("run shoe"), ENGLISH)

    assert found == "The Runner was <b>running</b> in red <b>SHOES</b>."


def test_marks_are_what_was_asked_for() -> None:
    assert snippet("a cat", {"cat"}, ENGLISH, mark=("[", "]")) == "a [cat]"


def test_passage_with_more_different_terms_wins() -> None:
    text = "cat cat cat cat " + FILLER * 20 + "a cat and a dog " + FILLER * 20

    found = snippet(text, {"cat", "dog"}, ENGLISH, width=60)

    assert "a <b>cat</b> and a <b>dog</b>" in found
    assert found.startswith("…")
    assert found.endswith("…")


def test_heavier_term_wins_and_then_more_hits() -> None:
    text = "cat cat cat " + FILLER * 20 + "okapi " + FILLER * 20 + "okapi okapi"

    assert "<b>cat</b>" in snippet(text, {"cat": 2.0, "okapi": 1.0}, ENGLISH, width=50)
    assert snippet(text, {"cat": 2.0, "okapi": 9.0}, ENGLISH, width=50).endswith("<b>okapi</b> <b>okapi</b>")


def test_earliest_of_equal_passages_wins() -> None:
    text = "one cat " + FILLER * 20 + "two cat " + FILLER * 20

    assert "one <b>cat</b>" in snippet(text, {"cat"}, ENGLISH, width=40)


def test_cuts_fall_between_words() -> None:
    text = FILLER * 10 + "cat " + FILLER * 10

    for width in range(10, 80):
        words = unmarked(snippet(text, {"cat"}, ENGLISH, width=width)).split()
        assert set(words) <= {*FILLER.split(), "cat"}
        assert "cat" in words


@pytest.mark.parametrize("text", ["", "short", "   ", "\ud800", "x" * 500])
def test_text_without_match_gives_its_beginning(text: str) -> None:
    found = snippet(text, {"cat"}, ENGLISH, width=100)

    assert found == (text if len(text) <= 100 else text[:100] + "…")


def test_text_without_spaces_is_cut_all_the_same() -> None:
    text = "漢" * 500 + "東京都庁" + "字" * 500

    found = snippet(text, set(SIMPLE.analyse("東京都庁")), SIMPLE, width=40)

    assert "<b>東京都庁</b>" in found
    assert len(unmarked(found)) == 40


def test_words_of_changed_length_are_marked_whole() -> None:
    assert snippet("(İstanbul)", {"istanbul"}, SIMPLE) == "(<b>İstanbul</b>)"
    assert snippet("e\u0301tat ｶﾞｷﾞ", {"état", "ガギ"}, SIMPLE) == "<b>e\u0301tat</b> <b>ｶﾞｷﾞ</b>"


@given(st.text(st.sampled_from("ab .é東京\n\ud800"), max_size=120), st.integers(1, 50))
def test_snippet_is_a_part_of_the_text_within_its_width(text: str, width: int) -> None:
    found = snippet(text, {"a", "b", "東京"}, SIMPLE, width=width)

    assert unmarked(found) in text
    longest = max([end - start for _, start, end in SIMPLE.spans(text)], default=0)
    assert len(unmarked(found)) <= max(width, longest)
    assert ("<b>" in found) == bool({"a", "b", "東京"} & set(SIMPLE.analyse(text)))


def test_ten_times_the_text_takes_ten_times_as_long() -> None:
    rng = random.Random(2)
    words = [f"w{i}" for i in range(50)]
    text = " ".join(rng.choice(words) for _ in range(300_000))

    def cpu(n: int) -> float:
        start = time.process_time()
        snippet(text[:n], {"w1", "w2", "w3"}, SIMPLE)
        return time.process_time() - start

    cpu(100_000)
    assert cpu(1_000_000) < 30 * cpu(100_000)


def test_passage_at_the_end_of_10_mb_is_found() -> None:
    text = "incomprehensibilities " * 454_545 + "red shoes"

    assert len(text) > 9_999_000
    assert snippet(text, {"red", "shoe"}, ENGLISH, width=40).endswith(" <b>red</b> <b>shoes</b>")
    assert contains_phrase(text, "incomprehensibilities red shoes", ENGLISH)


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("She wears red shoes today", "red shoes", True),
        ("She wears RED,\nshoe", "red shoes", True),
        ("shoes red", "red shoes", False),
        ("red and blue shoes", "red shoes", False),
        ("the state of the art", "state of the art", True),
        ("state art", "state of the art", False),
        ("to be or not to be", "be or not", True),
        ("a a b a a a b", "a a a b", True),
        ("a b a b a c", "a b a c", True),
        ("a b a b a d", "a b a c", False),
        ("anything", "", False),
        ("anything", " ?! ", False),
        ("", "red", False),
        ("東京都庁", "京都", True),
        ("東京都庁", "京庁", False),
    ],
)
def test_phrases(text: str, phrase: str, found: bool) -> None:
    assert contains_phrase(text, phrase, ENGLISH) is found


@given(st.text(st.sampled_from("ab "), max_size=40), st.text(st.sampled_from("ab "), min_size=1, max_size=8))
def test_phrases_equal_a_slow_search(text: str, phrase: str) -> None:
    words, wanted = text.split(), phrase.split()
    slow = any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1))

    assert contains_phrase(text, phrase, SIMPLE) == (slow and bool(wanted))
