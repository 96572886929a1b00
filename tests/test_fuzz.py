"""Fuzzers of everything that reads texts: no crash, no hang, no hunger, and never a wrong answer."""

from __future__ import annotations

from typing import Any

import pytest
from campaign import Campaign
from fuzz import Chance, broken, fuzz
from fuzzed import named
from reference import filter_rows

from kektordb._bitmap import Bitmap
from kektordb._columns import Columns
from kektordb.errors import FilterError, MetadataError
from kektordb.query import compile_filter
from kektordb.query.parser import parse
from kektordb.query.planner import make_plan
from kektordb.text import Analyzer, contains_phrase, languages, snippet

pytestmark = pytest.mark.fuzz


# ------------------------------------------------------------------------------------------------------------ filters

FIELDS = ["n", "t", "a.b", "é", "x", "`a b`", "n"]
SCALARS: list[Any] = [
    "red",
    "dark red",
    "10",
    "",
    "reñ",
    "TRUE",
    0,
    1,
    10,
    10.5,
    -3,
    2**53 + 1,
    1e300,
    True,
    False,
    None,
]
CONSTANTS = [
    "red",
    "'dark red'",
    '"red"',
    "10",
    "1e1",
    "'10.0'",
    "-3",
    "2.5",
    "true",
    "'true'",
    "0x10",
    "inf",
    "reñ",
    "''",
]
CONSTANTS += ["9007199254740993", "''''", "'it''s'", '"\\""', "1_0"]
PATTERNS = ["'%'", "'r%'", "'%d'", "'_ed'", "''", "'%r_d%'", "'\\%'", "'10'"]
NOISE = ["(", ")", "'", '"', "`", "$p", ",", " AND ", " OR ", "NOT ", " IN ", "%", "\\", "\0", "\n", "=", "<", "!", "é"]


def condition(rng: Chance) -> str:
    field, what = rng.choice(FIELDS), rng.randrange(8)
    no = rng.choice(["", "NOT "])
    match what:
        case 0 | 1:
            return f"{field} {rng.choice(['=', '!=', '<', '<=', '>', '>='])} {rng.choice(CONSTANTS)}"
        case 2:
            return f"{field} {no}BETWEEN {rng.choice(CONSTANTS)} AND {rng.choice(CONSTANTS)}"
        case 3:
            return f"{field} {no}IN ({', '.join(rng.choices(CONSTANTS, k=rng.randint(1, 4)))})"
        case 4:
            return f"{field} {no}{rng.choice(['LIKE', 'ILIKE'])} {rng.choice(PATTERNS)}"
        case 5:
            return f"EXISTS({field})"
        case 6:
            return f"{field} IS {no}NULL"
        case _:
            return f"{field}{rng.choice(['=', '<', '>='])}{rng.choice(CONSTANTS)}"


def expression(rng: Chance, depth: int) -> str:
    if depth == 0 or rng.random() < 0.3:
        return condition(rng)
    match rng.randrange(4):
        case 0:
            return f"NOT ({expression(rng, depth - 1)})"
        case 1:
            return f"({expression(rng, depth - 1)})"
        case _:
            word = rng.choice([" AND ", " OR ", " and ", "  or\n"])
            return word.join(expression(rng, depth - 1) for _ in range(rng.randint(2, 3)))


N_SLOTS = 24


class Collected:
    """A small collection whose columns have come about by additions, changes and removals, and its rows."""

    def __init__(self, number: int) -> None:
        rng = Chance(number)
        self.columns = Columns(rng.choice([2, 5, 4096]))
        self.rows: dict[int, dict[str, Any]] = {}
        for slot in rng.sample(range(N_SLOTS), rng.randint(1, 18)):
            self.put(slot, some_metadata(rng))
        for _ in range(rng.choice([0, 0, 3, 12])):
            slot = rng.choice(list(self.rows))
            self.columns.remove(slot, self.rows.pop(slot))
            if not self.rows or rng.random() < 0.7:
                self.put(slot, some_metadata(rng))
        self.bitmap = Bitmap.from_slots(self.rows, N_SLOTS)

    def put(self, slot: int, metadata: dict[str, Any]) -> None:
        self.columns.add(slot, metadata)
        self.rows[slot] = metadata


def some_metadata(rng: Chance) -> dict[str, Any]:
    def value() -> Any:
        kind = rng.random()
        if kind < 0.15:
            return [rng.choice(SCALARS) for _ in range(rng.randint(0, 3))]
        return {"b": rng.choice(SCALARS)} if kind < 0.25 else rng.choice(SCALARS)

    return {name: value() for name in rng.sample(["n", "t", "a", "a.b", "é", "a b"], rng.randint(0, 4))}


def test_filters_mean_what_a_walk_over_all_rows_finds(campaign: Campaign) -> None:
    collections = [Collected(number) for number in range(200)]

    def body(rng: Chance) -> int:
        kept = collections[rng.randrange(len(collections))]
        text = expression(rng, rng.randint(0, 3))
        for _ in range(rng.choice([0, 0, 0, 1, 3])):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(NOISE) + text[at + rng.randint(0, 2) :]
        try:
            node = parse(text)
            # As `compile_filter` does, which parses it once more.
            plan = compile_filter(text) if rng.random() < 0.05 else make_plan(node, text)
            position = -1
        except FilterError as error:
            position = error.position
        if position >= 0:
            assert position <= len(text)
            return len(text)
        if "$" in text:
            named(lambda: plan.run(kept.columns, N_SLOTS, {"p": rng.choice(SCALARS)}))
            return len(text)
        try:
            found = plan.run(kept.columns, N_SLOTS)
        except FilterError:
            return len(text)
        found.iand(kept.bitmap)
        assert set(found.slots()) == filter_rows(node, kept.rows), text
        return len(text)

    fuzz(campaign, "filters", body, 1000)


# -------------------------------------------------------------------------------------------------- metadata and texts


LENGTHS = [1, 1, 2, 2, 5, 5, 20, 20, 20, 20, 20, 300]


def any_text(rng: Chance) -> str:
    ranges = [(32, 127), (32, 127), (0xC0, 0x17F), (0x300, 0x36F), (0x400, 0x45F), (0x590, 0x6FF), (0x900, 0x97F)]
    ranges += [(0xE00, 0xE7F), (0x2000, 0x206F), (0x3040, 0x30FF), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFE00, 0xFF60)]
    ranges += [(0x1F300, 0x1F6FF), (0, 0xD7FF), (0x10000, 0x10FFFF), (0x1100, 0x11FF), (0xFB00, 0xFB06), (0xBC, 0xBE)]
    text = ""
    for _ in range(rng.randint(0, 8)):
        low, high = rng.choice(ranges)
        text += "".join(chr(rng.randint(low, high)) for _ in range(rng.choice(LENGTHS)))
        text += rng.choice(["", " ", "'", "\u2019", "-", "\u200c", "\u00ad", "\u0301", "_", "\n", "\0"])
    return text


def test_no_text_is_too_strange_to_be_analysed(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    # 10 MB of each of 30 languages would hide what a text takes; and so they are emptied now and then.
    monkeypatch.setattr("kektordb.text.analyzer.CACHED_TOKENS", 256)
    analyzers = [Analyzer(language) for language in languages()]

    def body(rng: Chance) -> int:
        text, analyzer = any_text(rng), rng.choice(analyzers)
        terms = analyzer.analyse(text)
        spans = analyzer.spans(text)
        assert [term for term, _, _ in spans] == terms
        last = 0
        for _, start, end in spans:
            assert 0 <= start < end <= len(text)
            assert start >= last  # bigrams overlap, but begin in order
            last = start
        assert all(0 < len(term.encode()) <= 4 * 255 for term in terms)
        if terms and rng.random() < 0.5:
            found = snippet(text, dict.fromkeys(rng.sample(terms, min(3, len(terms))), 1.0), analyzer)
            assert isinstance(found, str | None)
            assert isinstance(contains_phrase(text, text[: rng.randint(0, 40)], analyzer), bool)
        return len(text.encode("utf-8", "surrogatepass"))

    fuzz(campaign, "analyzers", body, 150)


def test_metadata_comes_back_or_is_refused(campaign: Campaign) -> None:
    from kektordb._metadata import decode_metadata, encode_metadata

    good = {"a": [1, 2.5, None, True, "text", {"b": {"c": [[], {}]}}], "é": -(2**63), "z": 2**64 - 1}

    def body(rng: Chance) -> int:
        value: Any = good
        for _ in range(rng.randint(1, 4)):
            value = broken(rng, value)
        try:
            data = encode_metadata(value)
        except MetadataError:
            return 0
        assert decode_metadata(data) == value or "nan" in repr(value)
        return len(data)

    fuzz(campaign, "metadata", body, 500)
