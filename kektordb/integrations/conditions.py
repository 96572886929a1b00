"""What does a condition of a framework mean as a filter? One reading of comparisons, lists and patterns for all."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

from kektordb.errors import FilterError
from kektordb.query import Expression, F, Filter, ast
from kektordb.query.parser import MAX_DEPTH, parse

__all__ = ["Conditions", "all_of", "any_of", "compare", "everything", "is_empty", "joined", "substring"]

_COMPARISONS: dict[str, Callable[[Any, Any], Expression]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# A filter that goes to a server as text may have 64 KiB: longer lists are sent beside it.
_MANY = 50


class Conditions:
    """The conditions of one filter, with its long lists as parameters.

    Attributes
    ----------
    params : dict
        To be given to `Index.search` with the expression.
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self._depth = 0

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Read a filter inside another one. Raises FilterError."""
        if self._depth == MAX_DEPTH:
            raise FilterError(f"a filter may be {MAX_DEPTH} deep")
        self._depth += 1
        yield
        self._depth -= 1

    def is_in(self, field: str, values: object) -> Expression:
        """Match any of a list of values. Raises FilterError."""
        if not isinstance(values, Sequence | set | frozenset) or isinstance(values, str | bytes):
            raise FilterError(f"expected a list of values for {field!r}, got {type(values).__name__}")
        if len(values) <= _MANY:
            return F(field).is_in(values)
        name = f"kektordb_list{len(self.params)}"
        self.params[name] = list(values)
        return Expression(ast.In(field, ast.Param(name)))


def compare(field: str, sign: str, value: object) -> Expression:
    """Match a field by ``=``, ``!=``, ``<``, ``<=``, ``>`` or ``>=``; ``= None`` matches items without a value."""
    return _COMPARISONS[sign](F(field), value)


def all_of(parts: Sequence[Expression]) -> Expression:
    """Match what each of at least one expression does."""
    return reduce(operator.and_, parts)


def any_of(parts: Sequence[Expression]) -> Expression:
    """Match what any of at least one expression does."""
    return reduce(operator.or_, parts)


def joined(filters: Sequence[Filter]) -> Filter | None:
    """Return one filter that asks for all of several; None for none. Raises FilterError."""
    if len(filters) < 2:
        return filters[0] if filters else None
    nodes = [parse(one) if isinstance(one, str) else one for one in filters]
    return all_of([one if isinstance(one, Expression) else Expression(one) for one in nodes])


def everything() -> Expression:
    """Match every item."""
    return ~F("any").is_in([])


def substring(text: object) -> str:
    """Return the LIKE pattern of texts that contain `text`. Raises FilterError."""
    if not isinstance(text, str):
        raise FilterError(f"expected a text to look for, got {type(text).__name__}")
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"


def is_empty(field: str) -> Expression:
    """Match items without the field, and those where it is null, an empty text, or has nothing to compare with."""
    at = F(field)
    has_value = at.like("%") | at.between(float("-inf"), float("inf")) | at.is_in([True, False])
    return at.is_null() | (at == "") | (at.exists() & ~has_value)
