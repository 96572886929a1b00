"""Filters as text: what they mean, and what is said about those that mean nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import looks_like_number

from kektordb._columns import Columns
from kektordb.errors import FilterError
from kektordb.query import ast, compile_filter
from kektordb.query.operand import number_of, value_of
from kektordb.query.parser import MAX_LENGTH, parse

FIXTURES = Path(__file__).parent / "fixtures"


def pairs(name: str) -> list[tuple[str, str]]:
    """Read (filter, what is expected) from a fixture; ¶ stands for a new line in a filter."""
    blocks = re.split(r"\n\n(?=filter: )", (FIXTURES / name).read_text("utf-8").rstrip("\n"))
    found = [block.partition("\n") for block in blocks]
    return [(head.removeprefix("filter: ").replace("¶", "\n"), rest) for head, _, rest in found]


@pytest.mark.parametrize(("text", "plan"), pairs("filters_plans.txt"))
def test_a_filter_has_its_plan(text: str, plan: str) -> None:
    explanation = str(compile_filter(text).explain(Columns(), 0))

    assert re.sub(r"  \(estimated.*\)$", "", explanation, flags=re.MULTILINE) == plan


@pytest.mark.parametrize(("text", "message"), pairs("filters_errors.txt"))
def test_a_wrong_filter_is_an_error_with_a_caret(text: str, message: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text)

    assert str(caught.value).rstrip() == message
    line = text.split("\n")[caught.value.line - 1]
    assert 1 <= caught.value.column <= len(line) + 1
    assert text[: caught.value.position].count("\n") == caught.value.line - 1


def test_no_error_names_a_terminal_of_the_grammar() -> None:
    messages = (FIXTURES / "filters_errors.txt").read_text("utf-8")

    for terminal in ("FIELD", "WORDS", "QUOTED", "LPAR", "RPAR", "EQUALITY", "_AND", "$END", "Token"):
        assert terminal not in messages


@pytest.mark.parametrize("opening", ["(", "NOT ", "NOT (", "(\n", "((NOT "])
def test_depth_is_limited_before_anything_recurses(opening: str) -> None:
    levels = opening.count("(") + opening.count("NOT")
    fits, too_deep = 100 // levels, 100 // levels + 1

    compile_filter(opening * fits + "a = 1" + ")" * (fits * opening.count("(")))
    with pytest.raises(FilterError, match="100 deep") as caught:
        compile_filter(opening * too_deep + "a = 1" + ")" * (too_deep * opening.count("(")))
    assert caught.value.position >= len(opening) * fits
    with pytest.raises(FilterError, match="100 deep"):
        compile_filter(opening * (60_000 // len(opening)))


def test_depth_counts_nesting_and_not_what_stands_side_by_side() -> None:
    parse(" AND ".join(["NOT (a = 1)"] * 500))
    parse(" OR ".join(["NOT NOT (NOT a = 1)"] * 500))


def test_alternating_and_or_of_full_depth_can_be_planned_deep_in_a_call_stack() -> None:
    text = "a = 1"
    for level in range(99):
        text = f"NOT ({text} {'AND' if level % 2 else 'OR'} b = {level})" if level % 3 else f"({text} OR c = {level})"
    depth = 0

    def descend(levels: int) -> None:
        nonlocal depth
        depth = max(depth, levels)
        if levels < 300:
            descend(levels + 1)
        else:
            with pytest.raises(FilterError):  # NOT and its parenthesis are two levels: this is too deep
                parse(text)
            shallow = "(a = 1 AND NOT (b = 2 OR " * 33 + "c = 3" + "))" * 33
            compile_filter(shallow).explain(Columns(), 8)

    descend(0)
    assert depth == 300


def test_length_is_limited() -> None:
    longest = "a = " + "x" * (MAX_LENGTH - 4)
    assert parse(longest) == ast.Compare("a", "=", value_of("x" * (MAX_LENGTH - 4)))

    with pytest.raises(FilterError, match=r"65,536 characters, this one has 65,537") as caught:
        parse(longest + "x")
    assert caught.value.position == MAX_LENGTH
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "piece",
    [
        "'",
        "''",
        "\\'",
        '"',
        "`",
        "a ",
        "a (",
        " ",
        "a not ",
        "a in ",
        "a is ",
        "(",
        ")",
        "= ",
        "a=(",
        "$a ",
        "a = '",
        ",",
        "\n",
    ],
)
def test_no_text_takes_long_to_refuse_or_accept(piece: str) -> None:
    for start in ("", "a = ", "a IN (", "a = '", '"', "NOT ", "a < "):
        text = (start + piece * MAX_LENGTH)[:MAX_LENGTH]
        began, message = time.process_time(), ""
        try:
            parse(text)
        except FilterError as error:
            message = str(error)
        assert len(message) < 500
        assert time.process_time() - began < 2.0


PIECES = [
    *"ab1 .,()'\"`$%_=<>!\
",
    " AND ",
    " OR ",
    "NOT ",
    " IN ",
    " IS NULL",
    "a = ",
    "b IN (1)",
    "a LIKE ",
]


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    plan, position = None, 0
    try:
        plan = compile_filter(text)
    except FilterError as error:
        position = error.position

    assert 0 <= position <= len(text)
    if plan is not None and "$" not in text:
        assert str(plan.explain(Columns(), 0))


@given(st.text())
def test_quoted_text_comes_back_as_it_was(text: str) -> None:
    escaped = text.replace("\\", "\\\\")

    single = parse("a = '" + escaped.replace("'", "''") + "'")
    double = parse('a = "' + escaped.replace('"', '\\"') + '"')
    field = parse("`" + text.replace("`", "``") + "` = 1")

    assert single == double == ast.Compare("a", "=", value_of(text))
    assert field == ast.Compare(text, "=", value_of("1"))


@pytest.mark.parametrize(
    ("text", "field", "operator", "value"),
    [
        ("n=7", "n", "=", "7"),
        ("n = 7.0", "n", "=", "7.0"),
        ('n = "10"', "n", "=", "10"),
        ("s = A B", "s", "=", "A B"),
        ("s = 'A B'", "s", "=", "A B"),
        ("my field = x", "my field", "=", "x"),
        ('a=""', "a", "=", ""),
        ("a = it's", "a", "=", "it's"),
        ("a = 'it's'", "a", "=", "it's"),
        ("a = x=y", "a", "=", "x=y"),
        ("a = x<y", "a", "=", "x<y"),
        ("a = x>y", "a", "=", "x>y"),
        ("a = true", "a", "=", "true"),
        ("a = ANDROID", "a", "=", "ANDROID"),
        ("a = null", "a", "=", "null"),
        ("a = NOT b", "a", "=", "NOT b"),
        ("a = b (c)", "a", "=", "b (c)"),
        ("a = b, c", "a", "=", "b, c"),
        ("a = 100%", "a", "=", "100%"),
        ("price_eur >= 1e3", "price_eur", ">=", "1e3"),
        ("n <= -Inf", "n", "<=", "-Inf"),
        ("n>1_0", "n", ">", "1_0"),
        ("a/b = c", "a/b", "=", "c"),
        ("user:name@x = c", "user:name@x", "=", "c"),
        ("a, b = c", "a, b", "=", "c"),
        ('size = 5"', "size", "=", "5"),
        ("a != x", "a", "!=", "x"),
    ],
)
def test_filters_that_work_in_the_original_keep_their_meaning(text: str, field: str, operator: str, value: str) -> None:
    wanted = ast.Compare(field, operator, value_of(value))  # type: ignore[arg-type]

    assert parse(text) == wanted
    assert parse(f"z = 1 AND {text} or {text}") == ast.Or((ast.And((parse("z = 1"), wanted)), wanted))


def test_a_keyword_that_ends_the_filter_is_a_value() -> None:
    assert parse("state = OR") == ast.Compare("state", "=", value_of("OR"))
    assert parse("a = 1 AND b = and") == ast.And((parse("a = 1"), ast.Compare("b", "=", value_of("and"))))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("10", 10), ("+5", 5), ("-0", 0), ("007", 7), ("1_000", 1000), ("9007199254740993", 2**53 + 1)],
        *[("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("0x1p4", 16.0), ("-Infinity", float("-inf"))],
        *[("1e400", float("inf")), ("0x1p99999", float("inf")), ("9" * 5000, float("inf"))],
    ],
)
def test_what_looks_like_a_number(text: str, number: float) -> None:
    assert number_of(text) == number
    assert type(number_of(text)) is type(number)


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "NaN", "nan", "1_", "_1", "1__0", "0x10", "\u0661", "1e", ".", "+", "1,5", "2024-01-01"]
)
def test_what_does_not_look_like_a_number(text: str) -> None:
    assert number_of(text) is None


@given(st.text(alphabet="0123456789+-._eEinfaNx ", max_size=12))
def test_numbers_are_those_of_python_without_nan(text: str) -> None:
    assert number_of(text) == looks_like_number(text)


def test_texts_are_parsed_once_and_lark_only_then() -> None:
    """A fresh interpreter, because this one has parsed already."""
    program = """
import sys, kektordb.query as q
q.compile_filter(q.F("a") < 5)
assert "lark" not in sys.modules
assert q.compile_filter("a < 5") is q.compile_filter("a < 5")
assert "lark" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent.parent)
