"""Which values do fields of ``meta`` have? Found by looking at every document that matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["count_values", "min_and_max", "types_of", "unique_values"]

Metas = Iterable[Mapping[str, Any]]

_TYPES = {bool: "boolean", int: "int", float: "float"}


def count_values(metas: Metas, fields: Iterable[str]) -> dict[str, int]:
    """Count the different values of each field, by its name without ``meta.``."""
    names = [_name(field) for field in fields]
    found: dict[str, set[object]] = {name: set() for name in names}
    for meta in metas:
        for name, seen in found.items():
            if meta.get(name) is not None:
                seen.add(_key(meta[name]))
    return {name: len(found[name]) for name in names}


def types_of(metas: Metas) -> dict[str, dict[str, str]]:
    """Return the type of each field; the last one seen, where it has several."""
    return {
        name: {"type": _TYPES.get(type(value), "keyword")}
        for meta in metas
        for name, value in meta.items()
        if value is not None
    }


def min_and_max(metas: Metas, field: str) -> dict[str, Any]:
    """Return the least and the greatest value of a field, of its numbers when it has any, else of its texts."""
    values = [value for meta in metas if isinstance(value := meta.get(_name(field)), int | float | str)]
    numbers = [value for value in values if not isinstance(value, str)]
    chosen: list[Any] = numbers or values
    return {"min": min(chosen, default=None), "max": max(chosen, default=None)}


def unique_values(metas: Metas, field: str, search_term: str | None) -> list[Any]:
    """Return the different values of a field whose texts contain a term in any case, in the order of their texts."""
    found = {_key(value): value for meta in metas if (value := meta.get(_name(field))) is not None}
    term = (search_term or "").lower()
    chosen = [value for value in found.values() if term in str(value).lower()]
    return sorted(chosen, key=lambda value: (str(value), type(value).__name__))


def _name(field: str) -> str:
    return field.removeprefix("meta.")


def _key(value: Any) -> object:
    """Return what two values share when they are the same: 1, 1.0, True and "1" are four."""
    if isinstance(value, list):
        return "list", tuple(_key(one) for one in value)
    if isinstance(value, dict):
        return "dict", frozenset((name, _key(one)) for name, one in value.items())
    return type(value).__name__, value
