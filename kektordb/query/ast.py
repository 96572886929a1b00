"""What does a filter say? The tree that the text parser and the Python builder both make; data only.

Equal filters are equal trees, whichever way they were written. AND and OR are flat: an operand of `And` is never an
`And`. ``!=`` is a comparison of its own here; NOT IN, NOT BETWEEN, NOT LIKE and IS NOT NULL are a `Not` around
the rest.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "And",
    "Between",
    "Compare",
    "Contains",
    "Exists",
    "In",
    "IsNull",
    "Like",
    "Node",
    "Not",
    "Operand",
    "Or",
    "Param",
    "Value",
]


class Value(msgspec.Struct, frozen=True, eq=False):
    """A constant. It is a text first; `number` and `flag` are what it looks like, if it does.

    Attributes
    ----------
    text : str
        As written, without quotes and escapes.
    number : int, float or None
        10 for ``10`` and for ``'10'``; may be infinite, never NaN.
    flag : bool or None
        True for ``true`` in any case, False for ``false``.
    position : int
        Where it stands in the text, for errors.
    """

    text: str
    number: int | float | None = None
    flag: bool | None = None
    position: int = 0

    # Where it stands in the text makes no difference to what it means.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class Param(msgspec.Struct, frozen=True, eq=False):
    """A ``$name``, whose value comes with each run and is never read as filter text."""

    name: str
    position: int = 0

    # Where it stands in the text makes no difference to what it means.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Param) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


Operand = Value | Param


class Compare(msgspec.Struct, frozen=True):
    """`operator` is one of ``= != < <= > >=``."""

    field: str
    operator: str
    operand: Operand


class Between(msgspec.Struct, frozen=True):
    field: str
    low: Operand
    high: Operand


class In(msgspec.Struct, frozen=True):
    """``IN (a, b)``, or ``IN $names`` with the whole list as one parameter."""

    field: str
    operands: tuple[Operand, ...] | Param


class Like(msgspec.Struct, frozen=True):
    """``LIKE``, or ``ILIKE``, for which upper and lower case are the same."""

    field: str
    pattern: Operand
    in_any_case: bool = False


class Exists(msgspec.Struct, frozen=True):
    field: str


class IsNull(msgspec.Struct, frozen=True):
    field: str


class Contains(msgspec.Struct, frozen=True, eq=False):
    """``CONTAINS(field, 'words')``, or ``CONTAINS_ALL``: full text, which needs an index with an analyzer.

    Attributes
    ----------
    all : bool
        Whether each of the words is wanted, or any.
    """

    field: str
    words: Operand
    all: bool = False
    position: int = 0

    # Where it stands in the text makes no difference to what it means.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Contains) and self._meaning() == other._meaning()

    def __hash__(self) -> int:
        return hash(self._meaning())

    def _meaning(self) -> tuple[object, ...]:
        return self.field, self.words, self.all


class Not(msgspec.Struct, frozen=True):
    operand: Node


class And(msgspec.Struct, frozen=True):
    operands: tuple[Node, ...]


class Or(msgspec.Struct, frozen=True):
    operands: tuple[Node, ...]


Node = Compare | Between | In | Like | Exists | IsNull | Contains | Not | And | Or
