"""What does a filter of Haystack mean? ``{"field": "meta.price", "operator": "<", "value": 50}``, and their logic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, TypeAlias

from haystack.errors import FilterError

from kektordb import errors
from kektordb.integrations.conditions import Conditions, all_of, any_of, compare, everything
from kektordb.integrations.operators import Asked
from kektordb.query import Expression, F, Filter

__all__ = ["Filters", "asked", "with_errors_of_haystack"]

Filters: TypeAlias = Mapping[str, Any] | Filter

_SIGNS = {"==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_OWN_FIELDS = ("id", "content")
_NOT_LOOKED_AT = ("embedding", "sparse_embedding", "score", "blob", "meta")


@contextmanager
def with_errors_of_haystack() -> Iterator[None]:
    """Let errors in filters be those of Haystack."""
    try:
        yield
    except errors.FilterError as error:
        raise FilterError(str(error)) from error


def asked(filters: Filters | None) -> Asked:
    """Return a filter of Haystack, or one of our own, as `Index.search` takes it; None for none.

    Raises
    ------
    FilterError
        That of Haystack.
    """
    if filters is None or (isinstance(filters, Mapping) and not filters):
        return Asked(None, None)
    if not isinstance(filters, Mapping):
        return Asked(filters, None)
    conditions = Conditions()
    with with_errors_of_haystack():
        expression = _condition(filters, conditions)
    return Asked(expression, conditions.params or None)


def _condition(given: object, conditions: Conditions) -> Expression:
    if not isinstance(given, Mapping):
        raise FilterError(f"expected a condition, got {type(given).__name__} {given!r:.80}")
    for key in ("operator",) + (("value",) if "field" in given else ("conditions",)):
        if key not in given:
            raise FilterError(f"expected the key {key!r} in {given!r:.200}")
    if "field" in given:
        return _comparison(_field(given["field"]), given["operator"], given["value"], conditions)
    listed = given["conditions"]
    if not isinstance(listed, list | tuple):
        raise FilterError(f"expected a list of conditions, got {listed!r:.80}")
    with conditions.deeper():
        parts = [_condition(one, conditions) for one in listed]
    match given["operator"]:
        case "AND":
            return all_of(parts) if parts else everything()
        case "OR":
            return any_of(parts) if parts else ~everything()
        case "NOT":
            return ~(all_of(parts) if parts else everything())
    raise FilterError(f"expected the operator AND, OR or NOT, got {given['operator']!r:.80}")


def _field(name: object) -> str:
    """Return where a field of a document is in the metadata of its item; a name alone is one of ``meta``."""
    if not isinstance(name, str):
        raise FilterError(f"expected the name of a field, got {type(name).__name__}")
    if name in _NOT_LOOKED_AT:
        raise FilterError(f"expected a field that can be compared, got {name!r}")
    return name if name in _OWN_FIELDS or name.startswith("meta.") else f"meta.{name}"


def _comparison(field: str, operator: object, value: Any, conditions: Conditions) -> Expression:
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"expected a list of values for {operator!r}, got {type(value).__name__}")
        found = conditions.is_in(field, [_plain(one) for one in value])
        return found if operator == "in" else ~found
    sign = _SIGNS.get(operator) if isinstance(operator, str) else None
    if sign is None:
        known = ", ".join([*_SIGNS, "in", "not in"])
        raise FilterError(f"expected an operator ({known}), got {operator!r:.80}")
    if sign in ("=", "!="):
        return compare(field, sign, _plain(value))
    if value is None:
        return F(field).is_in([])
    if isinstance(value, str):
        _check_date(value)
    return compare(field, sign, _plain(value))


def _plain(value: Any) -> Any:
    """Return dates as the texts that they are in metadata."""
    return value.isoformat() if isinstance(value, date) else value


def _check_date(text: str) -> None:
    """Refuse a text that is no date: Haystack gives texts no order."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise FilterError(f"expected a number or a date in ISO format to order by, got {text!r:.80}") from None
    if text.isdigit():
        raise FilterError(f"expected a date that does not look like a number, such as 2024-05-01, got {text!r}")
