"""Which error does an answer stand for? The one that the same call of an embedded database raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kektordb import errors

__all__ = ["failure_of"]

DENIED = (401, 403, 421)
BY_STATUS: dict[int, type[errors.KektorError]] = {400: errors.ConfigError, 413: errors.ConfigError}


def failure_of(status: int, answer: Any, body: Mapping[str, Any] | None = None) -> errors.KektorError:
    """Return the error of an answer.

    Parameters
    ----------
    status : int
    answer : dict or str
        Its body.
    body : dict, optional
        That of the request: a mistake in a filter is shown by its text.
    """
    given = answer if isinstance(answer, Mapping) else {"error": str(answer)}
    text = str(given.get("error") or f"status {status}")
    kind = getattr(errors, str(given.get("type", "")), None)
    if kind is errors.FilterError:
        return _filter_error(text, given.get("position"), body)
    if isinstance(kind, type) and issubclass(kind, errors.KektorError):
        error: errors.KektorError = kind(text)
        return error
    if status in BY_STATUS:
        return BY_STATUS[status](text)
    if status in DENIED:
        return errors.AccessDenied(text)
    return errors.ServerError(text, status)


def _filter_error(text: str, position: Any, body: Mapping[str, Any] | None) -> errors.FilterError:
    """Return the error as the server has told it, with its place in the filter that was sent."""
    error = errors.FilterError(text)
    filter = (body or {}).get("filter")
    if isinstance(position, int) and isinstance(filter, str):
        placed = errors.FilterError("", filter, position)
        error.position, error.line, error.column = placed.position, placed.line, placed.column
    return error
