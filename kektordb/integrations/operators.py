"""What does a dict of operators mean as a filter? ``{"price": {"$lt": 50}}``, as stores of LangChain take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kektordb.errors import FilterError
from kektordb.integrations.conditions import Conditions, all_of, any_of, compare
from kektordb.query import Expression, F, Filter

__all__ = ["Asked", "asked"]

_SIGNS = {"$eq": "=", "$ne": "!=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}


class Asked(NamedTuple):
    """A filter and its parameters, as `Index.search` takes them."""

    filter: Filter | None
    params: Mapping[str, Any] | None


def asked(filter: Filter | Mapping[str, Any] | None, params: Mapping[str, Any] | None = None) -> Asked:
    """Return a filter, whatever it came as; an empty dict is none.

    Raises
    ------
    FilterError
        A dict has something else than fields with values, fields with operators, ``$and``, ``$or`` and ``$not``.
    """
    if not isinstance(filter, Mapping):
        return Asked(filter, params)
    conditions = Conditions()
    expression = _mapping(filter, conditions)
    return Asked(expression, conditions.params or None)


def _mapping(given: Mapping[str, Any], conditions: Conditions) -> Expression | None:
    with conditions.deeper():
        parts = [part for key, value in given.items() if (part := _entry(key, value, conditions)) is not None]
    return all_of(parts) if parts else None


def _entry(key: str, value: object, conditions: Conditions) -> Expression | None:
    if not isinstance(key, str):
        raise FilterError(f"expected the name of a field or an operator, got {type(key).__name__} {key!r:.80}")
    if key in ("$and", "$or"):
        return _several(key, value, conditions)
    if key == "$not":
        inner = _mapping(_as_mapping(key, value), conditions)
        if inner is None:
            raise FilterError("expected a filter under $not, got an empty one")
        return ~inner
    if key.startswith("$"):
        raise FilterError(f"expected a field, $and, $or or $not, got {key!r:.80}")
    if isinstance(value, Mapping):
        if not value:
            raise FilterError(f"expected operators or a value for {key!r:.80}, got an empty dict")
        return all_of([_operator(key, name, operand, conditions) for name, operand in value.items()])
    return compare(key, "=", value)


def _several(key: str, value: object, conditions: Conditions) -> Expression:
    if not isinstance(value, list | tuple) or not value:
        raise FilterError(f"expected a list of filters under {key}, got {value!r:.80}")
    parts = [part for one in value if (part := _mapping(_as_mapping(key, one), conditions)) is not None]
    if len(parts) < len(value):
        raise FilterError(f"expected filters under {key}, got an empty one")
    return all_of(parts) if key == "$and" else any_of(parts)


def _as_mapping(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise FilterError(f"expected a dict under {key}, got {type(value).__name__} {value!r:.80}")
    return value


def _operator(field: str, name: str, value: Any, conditions: Conditions) -> Expression:
    at = F(field)
    if name in _SIGNS:
        return compare(field, _SIGNS[name], value)
    match name:
        case "$in":
            return conditions.is_in(field, value)
        case "$nin":
            return ~conditions.is_in(field, value)
        case "$between":
            if not isinstance(value, list | tuple) or len(value) != 2:
                raise FilterError(f"expected two bounds for $between, got {value!r:.80}")
            return at.between(*value)
        case "$like":
            return at.like(value)
        case "$ilike":
            return at.ilike(value)
        case "$exists":
            if not isinstance(value, bool):
                raise FilterError(f"expected true or false for $exists, got {value!r:.80}")
            return at.exists() if value else ~at.exists()
        case "$not":
            with conditions.deeper():
                inner = _entry(field, value, conditions)
            assert inner is not None
            return ~inner
    known = ", ".join([*_SIGNS, "$in", "$nin", "$between", "$like", "$ilike", "$exists", "$not"])
    raise FilterError(f"expected an operator ({known}), got {name!r:.80}")
