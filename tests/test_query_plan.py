"""Plans: parameters, complements, order and explanations."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from reference import filter_rows, matches
from test_columns import EVENTS, FILTERS, ROWS, apply

from kektordb._bitmap import Bitmap
from kektordb._columns import Columns
from kektordb.errors import FilterError
from kektordb.query import Filter, compile_filter
from kektordb.query.ast import Node
from kektordb.query.parser import parse
from kektordb.query.planner import make_plan, simplify

ITEMS: list[dict[str, Any]] = [
    {"name": "red shoe", "price": 40, "tags": ["a", "b"], "sold": False},
    {"name": "dark red", "price": 4.5, "tags": [], "sold": True, "note": None},
    {"name": "10", "price": 10, "made": {"year": 2024, "in": "Roma"}},
    {"name": "$max", "price": 2**53 + 1, "note": "' OR price > 0"},
    {},
]


@pytest.fixture
def columns() -> Columns:
    made = Columns()
    for slot, metadata in enumerate(ITEMS):
        made.add(slot, metadata)
    return made


def ask(columns: Columns, filter: Filter, params: dict[str, object] | None = None) -> list[int]:
    return list(compile_filter(filter).run(columns, len(ITEMS), params).slots())


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("name = 10", [2]),
        ("price = 10", [2]),
        ("price = '10.0'", [2]),
        ("name != 10", [0, 1, 3, 4]),
        ("price < 10", [1]),
        ("NOT price < 10", [0, 2, 3, 4]),
        ("price != 10", [0, 1, 3, 4]),
        ("price NOT IN (10, 40)", [1, 3, 4]),
        ("price IN (10, 40)", [0, 2]),
        ("tags = a", [0]),
        ("tags != a", [1, 2, 3, 4]),
        ("tags > a AND tags < b", [0]),
        ("tags BETWEEN aa AND az", []),
        ("EXISTS(tags)", [0, 1]),
        ("sold = false", [0]),
        ("sold = 'TRUE'", [1]),
        ("sold = 1", []),
        ("sold = 0", []),
        ("note IS NULL", [0, 1, 2, 4]),
        ("note IS NOT NULL", [3]),
        ("EXISTS(note)", [1, 3]),
        ("made.year >= 2024", [2]),
        ("made.in = Roma", [2]),
        ("EXISTS(made)", [2]),
        ("price = 9007199254740993", [3]),
        ("price = 9007199254740992", []),
        ("name LIKE '%red%'", [0, 1]),
        ("name LIKE 'R%'", []),
        ("name ILIKE 'R%'", [0]),
        ("name not ilike '%RED%'", [2, 3, 4]),
        ("name LIKE '_0'", [2]),
        ("price LIKE '4%'", []),
        ("name BETWEEN dark AND dark reef", [1]),
        ("name >= r", [0]),
        ("missing = 1 OR missing != 1", [0, 1, 2, 3, 4]),
        ("missing < 1 OR missing >= 1", []),
        ("name = 'a' AND name != 'a'", []),
    ],
)
def test_matches(columns: Columns, text: str, rows: list[int]) -> None:
    assert ask(columns, text) == rows
    assert sorted(filter_rows(parse(text), dict(enumerate(ITEMS)))) == rows


@settings(max_examples=200, deadline=None)
@given(FILTERS, ROWS)
def test_simplifying_keeps_the_meaning(node: Node, row: dict[str, Any]) -> None:
    simple = simplify(node)

    assert matches(simple, row) == matches(node, row)
    assert simplify(simple) == simple


@pytest.mark.parametrize(
    "value", ["' OR price > 0", "x) OR (price > 0", "$max", "10 OR 1 = 1", "%", "\\", "\x00", "a\nAND b = 1", "\ud800"]
)
def test_parameters_are_values_and_never_filter_text(columns: Columns, value: str) -> None:
    wanted = [slot for slot, item in enumerate(ITEMS) if value in (item.get("name"), item.get("note"))]

    assert ask(columns, "name = $v OR note = $v", {"v": value}) == wanted
    assert ask(columns, "name IN ($v, $v) OR note IN $list", {"v": value, "list": [value]}) == wanted


@pytest.mark.parametrize(
    ("text", "params", "rows"),
    [
        ("price < $p", {"p": 10}, [1]),
        ("price < $p", {"p": "10"}, [1]),
        ("price = $p", {"p": 10.0}, [2]),
        ("name = $p", {"p": 10}, [2]),
        ("sold = $p", {"p": True}, [1]),
        ("note = $p", {"p": None}, [0, 1, 2, 4]),
        ("note != $p", {"p": None}, [3]),
        ("price IN $p", {"p": [40, 4.5]}, [0, 1]),
        ("price IN $p", {"p": (40, None)}, [0, 4]),
        ("price IN ($a, $b)", {"a": 40, "b": None}, [0, 4]),
        ("price NOT IN $p", {"p": []}, [0, 1, 2, 3, 4]),
        ("price IN $p", {"p": np.array([10, 40])}, [0, 2]),
        ("price IN $p", {"p": set(range(1000))}, [0, 2]),
        ("price BETWEEN $low AND $high", {"low": 4, "high": np.float32(10)}, [1, 2]),
        ("name LIKE $p", {"p": "%red"}, [1]),
        ("name = $größe AND price < 50", {"größe": "red shoe"}, [0]),
        ("NOT (price < $p OR sold = $s)", {"p": 10, "s": False, "unused": object()}, [2, 3, 4]),
    ],
)
def test_parameters(columns: Columns, text: str, params: dict[str, object], rows: list[int]) -> None:
    assert ask(columns, text, params) == rows
    assert compile_filter(text).estimate(columns, len(ITEMS), params) >= len(rows) - 1


@pytest.mark.parametrize(
    ("text", "params", "message", "position"),
    [
        ("a = 1 AND price < $max", {"min": 1}, "no value for the parameter $max; given: $min", 18),
        ("price < $max", None, "no value for the parameter $max; given: none", 8),
        ("price < $max", {"max": None}, "got NoneType", 8),
        ("price < $max", {"max": True}, "no order", 8),
        ("price < $max", {"max": [1]}, "got list", 8),
        ("price = $max", {"max": {"a": 1}}, "got dict", 8),
        ("price = $max", {"max": float("nan")}, "NaN", 8),
        ("price IN $list", {"list": "abc"}, "expected a list for $list, got str", 9),
        ("price IN $list", {"list": [[1]]}, "got list", 9),
        ("price IN ($one)", {"one": [1]}, "got list", 10),
        ("name LIKE $p", {"p": None}, "got NoneType", 10),
        ("name LIKE $p", {"p": b"x"}, "got bytes", 10),
    ],
)
def test_wrong_parameters_are_errors_with_a_position(
    columns: Columns, text: str, params: dict[str, object] | None, message: str, position: int
) -> None:
    with pytest.raises(FilterError) as caught:
        ask(columns, text, params)

    assert message in str(caught.value)
    assert caught.value.position == position
    assert str(caught.value).endswith("^")


def test_an_explanation_shows_estimates_and_truth_in_the_order_of_execution() -> None:
    columns, generator = Columns(), random.Random(1)
    for slot in range(3000):
        columns.add(slot, {"price": slot, "color": "red" if slot % 3 else "blue", "id": f"i{generator.random()}"})
    alive = Bitmap(3000, fill=True)
    for slot in range(10):
        alive.clear(slot)
    plan = compile_filter("color != blue AND NOT (price >= 500 OR price < 2)")

    explanation = plan.explain(columns, 3000, alive=alive)

    assert explanation.actual == sum(1 for slot in range(10, 500) if slot % 3)
    lines = str(explanation).split("\n")
    assert lines[0] == f"AND  (estimated 500 rows, found {explanation.actual})"
    assert [line.strip() for line in lines[1:]] == [
        "NOT  (estimated 500 rows, found 490)",
        "price >= 500  (estimated 2,500 rows, found 2,500)",
        "NOT  (estimated 2,000 rows, found 1,994)",
        "color = 'blue'  (estimated 1,000 rows, found 996)",
        "NOT  (estimated 2,998 rows, found 2,990)",
        "price < 2  (estimated 2 rows, found 0)",
    ]


def test_the_most_selective_condition_goes_first_however_it_was_written() -> None:
    columns = Columns()
    for slot in range(100):
        columns.add(slot, {"n": slot})

    for text in ("n < 90 AND n > 85", "n > 85 AND n < 90", "n > 85 AND (n < 90 AND EXISTS(n))"):
        first = compile_filter(text).explain(columns, 100).children[0]
        assert (first.field, first.operator, first.operand, first.actual) == ("n", ">", "85", 14)


@settings(max_examples=80, deadline=None)
@given(EVENTS, FILTERS)
def test_estimates_lie_within_the_rows(events: list[tuple[int, dict[str, Any] | None]], node: Node) -> None:
    columns = Columns(3)
    apply(columns, {}, events)

    assert 0 <= make_plan(node).estimate(columns, 70) <= 70


def test_a_plan_gives_bitmaps_of_the_asked_length_that_are_the_callers_own(columns: Columns) -> None:
    plan = compile_filter("price != 10")

    rows = plan.run(columns, 200)
    rows.invert()

    assert rows.n_bits == 200
    assert plan.run(columns, 200).count() == 199


def test_threads_share_plans_and_columns() -> None:
    columns, generator = Columns(), random.Random(3)
    rows = {slot: {"t": f"t{generator.randrange(4000)}", "n": generator.random()} for slot in range(5000)}
    for slot, metadata in rows.items():
        columns.add(slot, metadata)
    texts = ["t LIKE 't1%' AND n < 0.5", "t > t3", "n BETWEEN 0.2 AND 0.3 OR t LIKE '%7'"]
    wanted = [sorted(filter_rows(parse(text), rows)) for text in texts]
    wrong: list[str] = []

    def work() -> None:
        for _ in range(20):
            for text, slots in zip(texts, wanted, strict=True):
                if list(compile_filter(text).run(columns, 5000).slots()) != slots:
                    wrong.append(text)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_metadata_values_round_trip_through_their_own_filter() -> None:
    """Every scalar of a row, written as JSON in quotes or bound, finds its row."""
    columns, scalars = Columns(), [0, -1, 1.5, 1e300, 2**63, -(2**63), 2**64 - 1, True, False, "", "x y", "é", "'\"\\%"]
    for slot, value in enumerate(scalars):
        columns.add(slot, {"v": value})

    for slot, value in enumerate(scalars):
        quoted = (value if isinstance(value, str) else json.dumps(value)).replace("\\", "\\\\").replace("'", "''")
        for filter, params in ((f"v = '{quoted}'", None), ("v = $v", {"v": value})):
            assert slot in compile_filter(filter).run(columns, len(scalars), params)
