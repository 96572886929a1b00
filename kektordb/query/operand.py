"""What is a constant of a filter taken for? One reading for text, parameters and Python values.

A constant is a text that may look like a number or like true or false; it then means these too. So ``n = 10``,
``n = '10'``, ``F("n") == 10`` and ``$n`` bound to 10 or "10" are the same question.
"""

from __future__ import annotations

import math
import re

from kektordb.errors import FilterError
from kektordb.query.ast import Value

__all__ = ["number_of", "value_of", "value_of_python"]

_INTEGER = re.compile(r"[+-]?[0-9]+(?:_[0-9]+)*")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:_[0-9]+)*\.?(?:[0-9]+(?:_[0-9]+)*)?|\.[0-9]+(?:_[0-9]+)*)(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+")
_INFINITY = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
# Longer digit strings are beyond every float; Python refuses to read them as integers from 4,300 digits on.
_MAX_DIGITS = 400


def number_of(text: str) -> int | float | None:
    """Return the number that `text` looks like, else None; ``1e400`` is infinite, ``nan`` is no number."""
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= _MAX_DIGITS else float(text)
    if _DECIMAL.fullmatch(text) or _INFINITY.fullmatch(text):
        return float(text)
    if _HEXADECIMAL.fullmatch(text):
        try:
            return float.fromhex(text)
        except OverflowError:
            return -math.inf if text.startswith("-") else math.inf
    return None


def value_of(text: str, position: int = 0) -> Value:
    """Return the constant that `text` stands for."""
    return Value(text, number_of(text), {"true": True, "false": False}.get(text.lower()), position)


def value_of_python(value: object, text: str = "", position: int = 0) -> Value:
    """Return the constant for a str, bool, int, float or NumPy scalar; `text` and `position` are for the error."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, str):
        return value_of(str.__str__(value), position)
    if isinstance(value, bool):
        return Value("true" if value else "false", None, value, position)
    if isinstance(value, int):
        if value.bit_length() > 1024:
            raise FilterError("expected a number below 2**1024", text, position)
        return Value(int.__repr__(value), int(value), None, position)
    if isinstance(value, float):
        if math.isnan(value):
            raise FilterError("NaN compares with nothing", text, position)
        return Value(float.__repr__(value), float(value), None, position)
    raise FilterError(
        f"expected a str, a number, a bool or None, got {type(value).__name__} {_shortened(value)}", text, position
    )


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
