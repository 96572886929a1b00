"""How is a filter written in Python? ``F("price") < 50`` makes the tree that ``price < 50`` makes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from kektordb.errors import FilterError
from kektordb.query.ast import (
    And,
    Between,
    Compare,
    Contains,
    Exists,
    In,
    IsNull,
    Like,
    Node,
    Not,
    Operand,
    Or,
    Param,
)
from kektordb.query.operand import value_of_python

__all__ = ["Expression", "F"]


class Expression:
    """A condition, or several under ``&``, ``|`` and ``~``.

    Attributes
    ----------
    node : Node
        The tree; equal to that of the same filter as text.
    """

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        self.node = node

    def __and__(self, other: Expression) -> Expression:
        if not isinstance(other, Expression):
            return NotImplemented
        sides = (self.node, other.node)
        return Expression(And(tuple(flat for s in sides for flat in (s.operands if isinstance(s, And) else (s,)))))

    def __or__(self, other: Expression) -> Expression:
        if not isinstance(other, Expression):
            return NotImplemented
        sides = (self.node, other.node)
        return Expression(Or(tuple(flat for s in sides for flat in (s.operands if isinstance(s, Or) else (s,)))))

    def __invert__(self) -> Expression:
        return Expression(Not(self.node))

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a filter has no truth value: combine with &, | and ~ (not with and, or, not), "
            "each comparison in parentheses, and write between(a, b) for a <= x <= b"
        )

    def __repr__(self) -> str:
        return f"Expression({self.node!r})"


class F:
    """A field of the metadata; comparing it makes an `Expression`.

    Values are str, bool, int, float, None (``== None`` is `is_null`) and NumPy scalars. What looks like a number or
    like true or false is taken for these too, as in a filter's text.

    Parameters
    ----------
    field : str
        Name of the field; dots reach into nested objects.

    Examples
    --------
    >>> filter = (F("price") < 50) & F("color").is_in(["red", "green"])
    """

    __slots__ = ("_field",)
    __hash__ = None  # type: ignore[assignment]  # == makes an expression

    def __init__(self, field: str) -> None:
        if not isinstance(field, str):
            raise FilterError(f"expected the name of a field, got {type(field).__name__}")
        self._field = str.__str__(field)

    def __repr__(self) -> str:
        return f"F({self._field!r})"

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} has no truth value: compare it, as in F('flag') == True, or ask exists()")

    def __eq__(self, value: object) -> Expression:  # type: ignore[override]
        return self.is_null() if value is None else self._compare("=", value)

    def __ne__(self, value: object) -> Expression:  # type: ignore[override]
        return ~self.is_null() if value is None else self._compare("!=", value)

    def __lt__(self, value: object) -> Expression:
        return self._compare("<", value)

    def __le__(self, value: object) -> Expression:
        return self._compare("<=", value)

    def __gt__(self, value: object) -> Expression:
        return self._compare(">", value)

    def __ge__(self, value: object) -> Expression:
        return self._compare(">=", value)

    def is_in(self, values: Iterable[object]) -> Expression:
        """Match any of `values`; nothing when there are none."""
        if isinstance(values, str | bytes):
            raise FilterError(f"expected a list of values, got {type(values).__name__}")
        listed = list(values)
        found: Node = In(self._field, tuple(_operand(value) for value in listed if value is not None))
        return Expression(Or((found, IsNull(self._field))) if any(v is None for v in listed) else found)

    def between(self, low: object, high: object) -> Expression:
        """Match values from `low` to `high`, both included."""
        return Expression(Between(self._field, _operand(low), _operand(high)))

    def like(self, pattern: str) -> Expression:
        """Match texts by a pattern: ``%`` is any run of characters, ``_`` any one, a backslash takes their meaning."""
        return self._like(pattern, False)

    def ilike(self, pattern: str) -> Expression:
        """Match texts by a pattern as `like` does, without regard to upper and lower case."""
        return self._like(pattern, True)

    def _like(self, pattern: str, in_any_case: bool) -> Expression:
        if not isinstance(pattern, str | Param):
            raise FilterError(f"expected a pattern such as 'a%', got {type(pattern).__name__}")
        return Expression(Like(self._field, _operand(pattern), in_any_case))

    def contains(self, words: str, all: bool = False) -> Expression:
        """Match texts that have any of some words, or with `all` each; several words in double quotes are a phrase."""
        if not isinstance(words, str | Param):
            raise FilterError(f"expected words to look for, got {type(words).__name__}")
        return Expression(Contains(self._field, _operand(words), bool(all)))

    def exists(self) -> Expression:
        """Match items that have the field, whatever its value."""
        return Expression(Exists(self._field))

    def is_null(self) -> Expression:
        """Match items without the field, and those where it is None."""
        return Expression(IsNull(self._field))

    def _compare(self, operator: str, value: object) -> Expression:
        return Expression(Compare(self._field, operator, _operand(value)))


def _operand(value: object) -> Operand:
    return value if isinstance(value, Param) else value_of_python(value)
