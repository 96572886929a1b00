"""Chunks hold the whole text, in order, none longer than asked; an edit changes few of them."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from prose import paragraph, prose

from kektordb.documents import Chunk, Chunking, Document, Heading, Row, as_chunking, count_tokens, split
from kektordb.errors import ConfigError

STRATEGIES = ["recursive", "fixed_size", "lines", "markdown", "code"]
CASES = [
    Chunking(strategy=strategy, size=size, overlap=overlap, unit=unit)
    for strategy in STRATEGIES
    for size, overlap in [(500, 50), (500, 0), (64, 32), (7, 3), (1, 0)]
    for unit in ["characters", "tokens"]
]


def name_of(chunking: Chunking) -> str:
    return f"{chunking.strategy}-{chunking.size}-{chunking.overlap}-{chunking.unit}"


def length(text: str, unit: str) -> int:
    return len(text) if unit == "characters" else count_tokens(text)


def check(text: str, chunks: list[Chunk], chunking: Chunking) -> None:
    """Assert all that is promised of chunks of a text."""
    covered = 0
    for number, chunk in enumerate(chunks):
        assert chunk.number == number
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.text
        assert not chunk.text.isspace()
        assert length(chunk.text, chunking.unit) <= chunking.size
        assert not text[covered : chunk.start].strip(), "what is between two chunks"
        assert length(text[chunk.start : covered], chunking.unit) <= chunking.overlap
        assert chunk.end > covered, "a chunk that only repeats"
        covered = chunk.end
    assert not text[covered:].strip()


@pytest.mark.parametrize("chunking", CASES, ids=name_of)
@pytest.mark.parametrize("seed", range(3))
def test_chunks_hold_the_whole_text_in_order_and_none_is_too_long(chunking: Chunking, seed: int) -> None:
    text = prose(seed)

    chunks = split(text, chunking)

    check(text, chunks, chunking)
    assert split(text, chunking) == chunks


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_texts_of_the_wrong_kind_are_cut_as_well(strategy: str) -> None:
    rng = random.Random(7)
    alphabets = ["a", "\n", " ", "a\n", "a \n", "\r\n", "\r", "#\n ", "`\n~ #", "{}\n ;", "é\u0301", "日本。\n"]
    alphabets += ["\ud800a ", "\x00\x0b\x0c\x85\u2028 "]
    for alphabet in alphabets:
        for n in (0, 1, 2, 63, 64, 65, 1_000):
            text = "".join(rng.choices(alphabet, k=n))
            for unit in ("characters", "tokens"):
                chunking = Chunking(strategy=strategy, size=64, overlap=16, unit=unit)
                check(text, split(text, chunking), chunking)


@pytest.mark.parametrize("strategy", ["recursive", "lines", "code"])
def test_all_but_the_first_chunk_of_prose_repeat_something(strategy: str) -> None:
    text = "\n".join("word " * 8 for _ in range(200))

    chunks = split(text, Chunking(strategy=strategy, size=400, overlap=100))

    for before, chunk in pairwise(chunks):
        repeated = text[chunk.start : before.end].strip()
        assert 50 <= len(repeated) <= 100
        assert text[chunk.start - 1].isspace(), "it begins with a whole word"


def test_windows_overlap_exactly_and_none_is_only_the_end_of_the_last() -> None:
    chunks = split("abcdefghijklmnopqrstuvwx", Chunking(strategy="fixed_size", size=10, overlap=3))

    assert [chunk.text for chunk in chunks] == ["abcdefghij", "hijklmnopq", "opqrstuvwx"]


def test_cuts_are_between_paragraphs_else_sentences_else_words() -> None:
    paragraphs = ["One is here. Two is there, e.g. near.", "Three goes.", "Four stays. " * 4, "five" * 30]
    text = "\n\n".join(paragraphs)

    found = [chunk.text for chunk in split(text, Chunking(size=40, overlap=0))]

    assert found[:2] == ["One is here. Two is there, e.g. near.", "Three goes."]
    assert " ".join(found[2:-3]) == ("Four stays. " * 4).strip()
    assert "".join(found[-3:]) == "five" * 30


def test_separators_are_tried_in_their_order_and_stay_with_what_is_before() -> None:
    chunking = Chunking(size=12, overlap=0, separators=("|", ";", ""))

    found = [chunk.text for chunk in split("aaaa;bbbb|cc;dddddd|" + "e" * 20, chunking)]

    assert found == ["aaaa;bbbb|", "cc;dddddd|", "e" * 12, "e" * 8]


def test_lines_are_kept_whole_with_their_indentation() -> None:
    lines = [f"  {'x' * (n % 17)}{n}" for n in range(100)]

    chunks = split("\n".join(lines), Chunking(strategy="lines", size=60, overlap=25))

    for chunk in chunks:
        assert set(chunk.text.split("\n")) <= set(lines)


@pytest.mark.parametrize("unit", ["characters", "tokens"])
@pytest.mark.parametrize("strategy", ["recursive", "markdown", "code"])
def test_an_edit_changes_few_chunks(strategy: str, unit: str) -> None:
    size, overlap = (400, 40) if unit == "characters" else (100, 10)
    chunking = Chunking(strategy=strategy, size=size, overlap=overlap, unit=unit)
    text = prose(5, 400)
    before = [chunk.content_hash for chunk in split(text, chunking)]
    rng = random.Random(1)
    changed = []
    for _ in range(30):
        at = rng.randrange(len(text))
        edit = rng.choice(["", "y", paragraph(rng), "\n\n" + paragraph(rng) + "\n\n"])
        edited = text[:at] + edit + text[at + rng.choice([0, 1, 100]) :]
        after = {chunk.content_hash for chunk in split(edited, chunking)}
        changed.append(sum(one not in after for one in before))

    assert len(before) > 100
    assert max(changed) <= 20
    assert sum(changed) / len(changed) <= 6


def test_an_edit_changes_few_chunks_even_of_words_that_are_all_alike() -> None:
    """Cuts that only fill chunks up would move for ever: nothing in such a text brings them back."""
    rng = random.Random(2)
    text = " ".join("".join(rng.choices("abcdefgh", k=4)) for _ in range(12_000))
    before = [chunk.content_hash for chunk in split(text, Chunking(size=200, overlap=20))]

    changed = []
    for at in range(0, 20_000, 1_000):
        after = {chunk.content_hash for chunk in split(text[:at] + "yyy " + text[at:], Chunking(size=200, overlap=20))}
        changed.append(sum(one not in after for one in before))

    assert len(before) > 300
    assert max(changed) <= 6


def test_an_accent_stays_with_its_letter() -> None:
    text = "e\u0301" * 100

    for chunk in split(text, Chunking(size=25, overlap=0)):
        assert chunk.text[0] == "e"


def test_pages_headings_and_rows_come_with_the_chunk() -> None:
    text = "Top\nalpha\n\nSub\nbeta\n\nNext\ngamma"
    headings = (Heading(0, 3, 1, "Top"), Heading(11, 14, 2, "Sub"), Heading(21, 25, 1, "Next"))
    document = Document(text=text, pages=(0, 11), headings=headings)

    chunks = split(document, Chunking(size=11, overlap=0))

    assert [(chunk.text, chunk.page, chunk.heading) for chunk in chunks] == [
        ("Top\nalpha", 1, "Top"),
        ("Sub\nbeta", 2, "Top > Sub"),
        ("Next\ngamma", 2, "Next"),
    ]
    rows = (Row(0, 10, 1, {"n": 1}), Row(11, 21, 2, {"n": 2}), Row(21, len(text), 3, {"n": 3}))
    for chunk in split(Document(text=text, rows=rows), Chunking(size=6, overlap=2)):
        assert chunk.row is not None
        assert rows[chunk.row - 1].start <= chunk.start < chunk.end <= rows[chunk.row - 1].end
        assert chunk.fields == {"n": chunk.row}


def test_the_hash_tells_text_and_what_is_stored_with_it_and_no_more() -> None:
    def hash_of(text: str, **more: object) -> str:
        return split(Document(text=text, **more), Chunking())[-1].content_hash  # type: ignore[arg-type]

    same = hash_of("text")
    assert same == hash_of("  text\n")
    different = [
        hash_of("texts"),
        hash_of("text", pages=(0,)),
        hash_of("text", headings=(Heading(0, 4, 1, "text"),)),
        hash_of("text", rows=(Row(0, 4, 1, {"a": 1}),)),
        hash_of("text[null,null,{}]"),
    ]
    assert len({same, *different}) == 6
    assert same == "cac039e8c66dde2be52fda69c22a0203"


def test_a_function_cuts_and_offsets_are_found_again() -> None:
    text = "one two, one two, three"

    chunks = split(text, lambda text: [*text.split(", "), "", "THREE"])

    assert [(chunk.text, chunk.start, chunk.end) for chunk in chunks] == [
        ("one two", 0, 7),
        ("one two", 9, 16),
        ("three", 18, 23),
        ("THREE", 23, 23),
    ]


def test_a_function_that_makes_everything_up_costs_no_search_of_everything() -> None:
    text = "ab" * 500_000

    chunks = split(text, lambda text: ["b" + "a" * 50] * 20_000)

    assert len(chunks) == 20_000


@pytest.mark.parametrize("wrong", [None, "text", ["a", 1], ("a",)])
def test_a_function_that_returns_no_list_of_strings_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match="list of str"):
        split("text", lambda text: wrong)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    "given",
    [
        {"strategy": "magic"},
        {"unit": "bytes"},
        {"size": 0},
        {"size": -5},
        {"size": 10.0},
        {"size": True},
        {"size": "500"},
        {"size": 10**9},
        {"overlap": 251},
        {"overlap": -1},
        {"overlap": None},
        {"separators": ()},
        {"separators": "abc"},
        {"separators": (1,)},
        {"separators": ("a",) * 101},
        {"separators": ("a",), "strategy": "code"},
        {"chunk_size": 5},
        7,
        "magic",
    ],
)
def test_impossible_chunking_is_refused(given: object) -> None:
    with pytest.raises(ConfigError):
        as_chunking(given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        split("text", Chunking(**given) if isinstance(given, dict) and "chunk_size" not in given else given)  # type: ignore[arg-type]


def test_chunking_is_given_in_several_forms() -> None:
    assert as_chunking(None) == as_chunking("recursive") == as_chunking({}) == as_chunking(Chunking())
    assert as_chunking({"size": 9, "overlap": 0, "separators": [","]}) == Chunking(size=9, overlap=0, separators=(",",))
