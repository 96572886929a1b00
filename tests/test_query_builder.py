"""Filters written in Python are the same trees as filters written as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kektordb.errors import FilterError
from kektordb.query import Expression, F, ast, compile_filter
from kektordb.query.parser import parse

PRICE, COLOR = F("price"), F("color")


@pytest.mark.parametrize(
    ("built", "text"),
    [
        (PRICE < 50, "price < 50"),
        (PRICE <= 2.5, "price <= 2.5"),
        (PRICE > -1, "price > -1"),
        (PRICE >= "2024-01-01", "price >= 2024-01-01"),
        (PRICE == 10, "price = 10"),
        (PRICE == "10", "price = '10'"),
        (PRICE != 10, "price != 10"),
        (PRICE == True, "price = true"),  # noqa: E712
        (PRICE != False, "price <> false"),  # noqa: E712
        (PRICE == None, "price IS NULL"),  # noqa: E711
        (PRICE != None, "price IS NOT NULL"),  # noqa: E711
        (COLOR == "dark red", "color = dark red"),
        (COLOR == "it's \\ 'x'", "color = 'it''s \\\\ ''x'''"),
        (COLOR.is_in(["red", 5, True]), "color IN (red, 5, true)"),
        (~COLOR.is_in(("red",)), "color NOT IN (red)"),
        (COLOR.is_in([None, "red"]), "color IN (red) OR color IS NULL"),
        (PRICE.between(1, 5), "price BETWEEN 1 AND 5"),
        (~PRICE.between("a", "b"), "price NOT BETWEEN a AND b"),
        (COLOR.like("a%"), "color LIKE 'a%'"),
        (~COLOR.ilike("a%"), "color NOT ILIKE 'a%'"),
        (COLOR.exists(), "EXISTS(color)"),
        (~COLOR.is_null(), "color IS NOT NULL"),
        ((PRICE < 5) & (COLOR == "a") & (COLOR != "b"), "price < 5 AND color = a AND color != b"),
        ((PRICE < 5) & ((COLOR == "a") & (COLOR != "b")), "price < 5 AND (color = a AND color != b)"),
        ((PRICE < 5) | (COLOR == "a") & (COLOR != "b"), "price < 5 OR color = a AND color != b"),
        (~((PRICE < 5) | (COLOR == "a")) & COLOR.exists(), "NOT (price < 5 OR color = a) AND EXISTS(color)"),
        (F("my field") == 1, "my field = 1"),
        (ast.Param("max") > PRICE, "price < $max"),
        (np.str_("x") == COLOR, "color = x"),
        (np.int64(7) == PRICE, "price = 7"),
        (np.float64(0.5) > PRICE, "price < 0.5"),
        (np.bool_(True) == PRICE, "price = true"),
    ],
)
def test_built_and_written_filters_are_equal(built: Expression, text: str) -> None:
    assert built.node == parse(text)
    assert hash(built.node) == hash(parse(text))


def test_and_or_and_not_of_python_are_refused() -> None:
    with pytest.raises(TypeError, match="combine with &"):
        _ = (PRICE < 5) and (PRICE > 1)
    with pytest.raises(TypeError, match="combine with &"):
        _ = not (PRICE < 5)
    with pytest.raises(TypeError, match="between"):
        1 < PRICE < 5  # noqa: B015
    with pytest.raises(TypeError, match="no truth value"):
        bool(PRICE)
    with pytest.raises(TypeError):
        (PRICE < 5) & "color = red"  # type: ignore[operator]


@pytest.mark.parametrize("value", [b"x", object(), [1], {"a": 1}, float("nan"), 2**2000, 1j])
def test_values_that_no_metadata_holds_are_refused(value: Any) -> None:
    with pytest.raises(FilterError):
        value == PRICE  # noqa: B015


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(FilterError, match="list of values"):
        COLOR.is_in("red")
    with pytest.raises(FilterError, match="pattern"):
        COLOR.like(5)  # type: ignore[arg-type]
    with pytest.raises(FilterError, match="name of a field"):
        F(5)  # type: ignore[arg-type]
    with pytest.raises(FilterError, match="NoneType"):
        PRICE < None  # noqa: B015
    with pytest.raises(FilterError, match="is a field, not a filter"):
        compile_filter(PRICE)  # type: ignore[arg-type]
    with pytest.raises(FilterError, match="expected a filter, got int"):
        compile_filter(5)  # type: ignore[arg-type]


def test_fields_are_not_hashable_because_equal_means_something_else() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(PRICE)


def test_long_chains_stay_flat() -> None:
    chain = PRICE == 0
    for number in range(1, 2000):
        chain = chain | (number == PRICE)

    assert isinstance(chain.node, ast.Or)
    assert len(chain.node.operands) == 2000
    compile_filter(chain)


def test_trees_that_are_too_deep_are_refused_without_recursion() -> None:
    deep = PRICE == 0
    for _ in range(5000):
        deep = ~deep

    with pytest.raises(FilterError, match="300 operators deep"):
        compile_filter(deep)


def test_trees_that_no_text_makes_are_refused() -> None:
    with pytest.raises(FilterError, match="And without operands"):
        compile_filter(ast.And(()))
    with pytest.raises(FilterError, match="expected one of"):
        compile_filter(ast.Compare("a", "=>", ast.Value("1")))
