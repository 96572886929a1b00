"""The slow truth: what every fast thing is compared with. Plain Python and NumPy, written to be read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kektordb.query import ast

Scalar = str | bool | int | float


def filter_rows(node: ast.Node, rows: Mapping[int, dict[str, Any]], params: Mapping[str, object] = {}) -> set[int]:
    """Return the numbers of the rows that a filter matches, by asking each."""
    return {number for number, metadata in rows.items() if matches(node, metadata, params)}


def matches(node: ast.Node, metadata: dict[str, Any], params: Mapping[str, object] = {}) -> bool:
    """Tell whether a filter matches one row."""
    match node:
        case ast.And(operands):
            return all(matches(operand, metadata, params) for operand in operands)
        case ast.Or(operands):
            return any(matches(operand, metadata, params) for operand in operands)
        case ast.Not(operand):
            return not matches(operand, metadata, params)
        case ast.Exists(field):
            return any(name == field for name, _ in members(metadata))
        case ast.IsNull(field):
            found = [value for name, value in members(metadata) if name == field]
            return not found or None in found
        case ast.Compare(field, "!=", operand):
            return not matches(ast.Compare(field, "=", operand), metadata, params)
        case ast.Compare(field, "=", operand):
            return is_any(field, [bound(operand, params)], metadata, params)
        case ast.Compare(field, operator, operand):
            limit = bound(operand, params)
            number = limit if is_number(limit) else looks_like_number(str(limit))
            return any(
                is_ordered(value, operator, limit if number is None else number) for value in values(metadata, field)
            )
        case ast.Between(field, low, high):
            limits = [bound(low, params), bound(high, params)]
            numbers = [limit if is_number(limit) else looks_like_number(str(limit)) for limit in limits]
            first, last = limits if None in numbers else numbers
            if None in numbers:
                first, last = str(first), str(last)
            return any(
                is_ordered(value, ">=", first) and is_ordered(value, "<=", last) for value in values(metadata, field)
            )
        case ast.In(field, operands):
            listed = params[operands.name] if isinstance(operands, ast.Param) else [bound(o, params) for o in operands]
            return is_any(field, list(listed), metadata, params)  # type: ignore[call-overload]
        case ast.Like(field, operand, in_any_case):
            as_seen = lower if in_any_case else str
            pattern = like_pattern(as_seen(str(bound(operand, params))))
            return any(
                isinstance(value, str) and pattern.fullmatch(as_seen(value)) for value in values(metadata, field)
            )
    raise AssertionError(node)


def members(metadata: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """List every field with its value; nested objects are fields too, and so are their members, by dotted names."""
    for name, value in metadata.items():
        yield prefix + name, value
        if isinstance(value, dict):
            yield from members(value, f"{prefix}{name}.")


def values(metadata: dict[str, Any], field: str) -> list[Scalar]:
    """List the values that a comparison with a field looks at."""
    found: list[Scalar] = []
    for name, value in members(metadata):
        if name == field:
            found += [
                v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str | bool | int | float)
            ]
    return found


def bound(operand: ast.Operand, params: Mapping[str, object]) -> object:
    return params[operand.name] if isinstance(operand, ast.Param) else operand.text


def is_any(field: str, wanted: list[object], metadata: dict[str, Any], params: Mapping[str, object]) -> bool:
    if None in wanted and matches(ast.IsNull(field), metadata, params):
        return True
    return any(is_equal(value, one) for value in values(metadata, field) for one in wanted if one is not None)


def is_equal(value: Scalar, constant: object) -> bool:
    """Compare a value of the metadata with a constant, which may look like a number or a truth value."""
    if isinstance(value, bool):
        return str(constant).lower() == str(value).lower()
    if isinstance(value, str):
        return value == ("true" if constant is True else "false" if constant is False else str(constant))
    if isinstance(constant, bool):
        return False
    number = constant if is_number(constant) else looks_like_number(str(constant))
    return value == number


def is_ordered(value: Scalar, operator: str, limit: object) -> bool:
    """Compare by size: a number with numbers, a text with texts."""
    if isinstance(value, bool) or is_number(limit) == isinstance(value, str):
        return False
    return {
        "<": value < limit,  # type: ignore[operator]
        "<=": value <= limit,  # type: ignore[operator]
        ">": value > limit,  # type: ignore[operator]
        ">=": value >= limit,  # type: ignore[operator]
    }[operator]


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def looks_like_number(text: str) -> int | float | None:
    """Read what Python reads as a number, but NaN and what is not ASCII or has blanks around it."""
    if not text.isascii() or text != text.strip() or "nan" in text.lower():
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None


def lower(text: str) -> str:
    """Return a text in lower case, character by character: the one that becomes two becomes the first of them.

    The sigma at the end of a word is one like others.
    """
    return "".join(character.lower()[0] for character in text).replace("\u03c2", "\u03c3")


def like_pattern(pattern: str) -> re.Pattern[str]:
    """Translate a LIKE pattern to a regular expression."""
    parts = re.findall(r"\\[%_\\]|.", pattern, re.DOTALL)
    special = {"%": ".*", "_": "."}
    return re.compile("".join(special.get(p) or re.escape(p[-1]) for p in parts), re.DOTALL)
