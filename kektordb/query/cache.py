"""What did the last filters match?"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from types import NoneType
from typing import Any, Final, TypeAlias

import numpy as np

from kektordb._bitmap import Bitmap
from kektordb.query.plan import Plan

__all__ = ["MatchCache", "Matches"]

Matches: TypeAlias = tuple[Bitmap, int]
Params: TypeAlias = dict[str, Any] | None

# An entry is a bit for each item, so the bytes are the limit from a million items on.
MAX_ENTRIES: Final = 64
MAX_BYTES: Final = 8 << 20
# More of a parameter is rarely asked twice, and takes longer to compare.
_MAX_VALUES: Final = 64
_MAX_LENGTH: Final = 1024
_SCALARS: Final = frozenset({str, int, float, bool, NoneType})


class _Entry:
    __slots__ = ("matches", "used", "version")

    def __init__(self, matches: Matches, version: int, used: int) -> None:
        self.matches = matches
        self.version = version
        self.used = used


class MatchCache:
    """The matches of the filters asked last in one collection, for as long as nothing changes there.

    Any number of threads may ask at once, of one version: they hold the read lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[object, _Entry] = {}
        self._version = -1
        self._n_bytes = 0
        self._clock = itertools.count()

    def find(self, plan: Plan, params: Params, version: int, run: Callable[[Plan, Params], Bitmap]) -> Matches:
        """Return what a plan matches, and how many: kept from an earlier call, or as `run` finds it.

        Parameters
        ----------
        plan, params
        version : int
            A number that never comes back once the data have changed.
        run : callable
            Evaluates the plan, with these parameters or a copy of them.

        Returns
        -------
        rows : Bitmap
            Shared with other callers: must not be changed.
        n_rows : int
        """
        key: object = None
        if plan.is_kept:
            key = plan
            if not plan.is_bound:
                key, params = _freeze(plan, params)
        if key is not None:
            entry = self._entries.get(key)
            if entry is not None and entry.version == version:
                entry.used = next(self._clock)
                return entry.matches
        rows = run(plan, params)
        matches = rows, rows.count()
        if key is not None:
            self._keep(key, _Entry(matches, version, next(self._clock)))
        return matches

    def _keep(self, key: object, entry: _Entry) -> None:
        with self._lock:
            if entry.version != self._version:
                self._entries.clear()
                self._n_bytes = 0
                self._version = entry.version
            self._forget(key)
            self._entries[key] = entry
            self._n_bytes += entry.matches[0].memory_bytes()
            while len(self._entries) > 1 and (len(self._entries) > MAX_ENTRIES or self._n_bytes > MAX_BYTES):
                self._forget(min(self._entries, key=lambda one: self._entries[one].used))

    def _forget(self, key: object) -> None:
        gone = self._entries.pop(key, None)
        if gone is not None:
            self._n_bytes -= gone.matches[0].memory_bytes()

    def memory_bytes(self) -> int:
        """Return the bytes of the bitmaps."""
        return self._n_bytes


def _freeze(plan: Plan, params: Params) -> tuple[object, Params]:
    """Return a key for a plan with parameters, None when there is none, and the parameters that it stands for.

    They are copied: another thread may change the caller's lists between the key and the evaluation.
    """
    copied = {} if params is None else dict(params)
    key: list[object] = [plan]
    for name, value in copied.items():
        if isinstance(value, np.generic):
            copied[name] = value = value.item()
        if type(value) in (list, tuple):
            copied[name] = value = list(value)
            parts = [_part(one) for one in value] if len(value) <= _MAX_VALUES else [None]
            if None in parts:
                return None, params
            key += (name, list, tuple(parts))
        else:
            part = _part(value)
            if part is None:
                return None, params
            key += (name, part)
    return tuple(key), copied


def _part(value: object) -> object:
    """Return what tells a value from every one of another meaning, or None: 1, 1.0 and True are equal, as are zeros."""
    if isinstance(value, str) and len(value) > _MAX_LENGTH:
        return None
    kind = type(value)
    if kind is float and not value:
        return kind, repr(value)
    return (kind, value) if kind in _SCALARS else None
