"""What does a filter say? The tree that the text parser and the Python builder both make; data only.

Equal filters are equal trees, whichever way they were written. AND and OR are flat: an operand of `And` is never an
`And`. ``!=`` is a comparison of its own here; NOT IN, NOT BETWEEN, NOT LIKE and IS NOT NULL are a `Not` around
the rest.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Value:
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
    number: int | float | None = dataclasses.field(default=None, compare=False)
    flag: bool | None = dataclasses.field(default=None, compare=False)
    position: int = dataclasses.field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Param:
    """A ``$name``, whose value comes with each run and is never read as filter text."""

    name: str
    position: int = dataclasses.field(default=0, compare=False)


Operand = Value | Param


@dataclass(frozen=True, slots=True)
class Compare:
    """`operator` is one of ``= != < <= > >=``."""

    field: str
    operator: str
    operand: Operand


@dataclass(frozen=True, slots=True)
class Between:
    field: str
    low: Operand
    high: Operand


@dataclass(frozen=True, slots=True)
class In:
    """``IN (a, b)``, or ``IN $names`` with the whole list as one parameter."""

    field: str
    operands: tuple[Operand, ...] | Param


@dataclass(frozen=True, slots=True)
class Like:
    field: str
    pattern: Operand


@dataclass(frozen=True, slots=True)
class Exists:
    field: str


@dataclass(frozen=True, slots=True)
class IsNull:
    field: str


@dataclass(frozen=True, slots=True)
class Contains:
    """``CONTAINS(field, 'words')``: full text, which needs an index with an analyzer."""

    field: str
    words: Operand
    position: int = dataclasses.field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Node, ...]


Node = Compare | Between | In | Like | Exists | IsNull | Contains | Not | And | Or
