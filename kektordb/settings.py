"""How is an index maintained? Its settings, in the JSON form of the original: durations are "5m" or nanoseconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from kektordb.errors import ConfigError

__all__ = ["MaintenanceConfig", "check_settings", "format_duration", "parse_duration"]

Setting = int | float | bool

_NS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(f"(?:{_PART})+")
_PARTS = re.compile(_PART)
MAX_NS = 2**63 - 1
MAX_ROWS = 2**31 - 1
MAX_EF = 65_536


class MaintenanceConfig(msgspec.Struct, frozen=True):
    """When an index is vacuumed and refined without being asked for.

    Attributes
    ----------
    vacuum_interval : int
        Nanoseconds from one vacuum to the next at least; 0 for never.
    delete_threshold : float
        A vacuum is due when this share of the slots in use are those of deleted items.
    refine_enabled : bool
    refine_interval : int
        Nanoseconds from one refine to the next; 0 for never.
    refine_batch_size : int
        Items that are refined each time.
    refine_ef_construction : int
        Candidates from which their links are chosen; 0 for those of the index.
    """

    vacuum_interval: int = 300 * 10**9
    delete_threshold: float = 0.1
    refine_enabled: bool = False
    refine_interval: int = 1800 * 10**9
    refine_batch_size: int = 500
    refine_ef_construction: int = 0

    def merged(self, settings: Mapping[str, Setting]) -> MaintenanceConfig:
        """Return it with other `settings`, as `check_settings` gives them."""
        return msgspec.structs.replace(self, **settings)

    def to_json(self) -> dict[str, Any]:
        """Return the settings by name, durations as strings."""
        settings = msgspec.structs.asdict(self)
        return settings | {key: format_duration(settings[key]) for key in DURATIONS}

    @classmethod
    def known(cls, settings: dict[str, Any]) -> dict[str, Setting]:
        """Return those of stored settings that this version knows. Raises msgspec.ValidationError for a wrong type."""
        found = msgspec.convert(settings, cls)
        return {key: getattr(found, key) for key in cls.__struct_fields__ if key in settings}


DURATIONS = ("vacuum_interval", "refine_interval")


def check_settings(settings: object) -> dict[str, Setting]:
    """Return settings as they are stored: known ones, durations as nanoseconds. Raises ConfigError."""
    if not isinstance(settings, Mapping):
        raise ConfigError(f"expected maintenance to be a dict, got {settings!r:.80}")
    return {_known(key): _check(key, value) for key, value in settings.items()}


def _known(key: object) -> str:
    if not isinstance(key, str) or key not in MaintenanceConfig.__struct_fields__:
        names = ", ".join(MaintenanceConfig.__struct_fields__)
        raise ConfigError(f"expected settings of maintenance among {names}, got {key!r:.80}")
    return str.__str__(key)


def _check(key: str, value: object) -> Setting:
    if key in DURATIONS:
        return parse_duration(value, key)
    if key == "refine_enabled":
        if not isinstance(value, bool | np.bool_):
            raise ConfigError(f"expected refine_enabled to be True or False, got {value!r:.80}")
        return bool(value)
    if key == "delete_threshold":
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
            raise ConfigError(f"expected delete_threshold to be a number from 0 to 1, got {value!r:.80}")
        return float(value)
    low, high = (1, MAX_ROWS) if key == "refine_batch_size" else (0, MAX_EF)
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ConfigError(f"expected {key} to be an integer from {low} to {high}, got {value!r:.80}")
    return int(value)


def parse_duration(value: object, name: str = "a duration") -> int:
    """Return nanoseconds of a duration. Raises ConfigError.

    Parameters
    ----------
    value : str, int, float or timedelta
        Numbers with the units h, m, s, ms, us and ns, such as ``"1h30m"`` or ``"1.5s"``, and ``"0"``; or nanoseconds.
    name : str
        For the error.
    """
    n = -1
    if isinstance(value, str):
        text = value.strip()
        if text == "0":
            n = 0
        elif len(text) <= 100 and _DURATION.fullmatch(text):
            n = sum(int(Decimal(number) * _NS[unit]) for number, unit in _PARTS.findall(text))
    elif isinstance(value, timedelta):
        n = value // timedelta(microseconds=1) * 1000
    elif not isinstance(value, bool) and isinstance(value, int | np.integer | float) and value % 1 == 0:
        n = int(value)
    if not 0 <= n <= MAX_NS:
        raise ConfigError(
            f"expected {name} as a duration such as '5m', '30s' or '1h30m', or as nanoseconds from 0 to 2^63-1, "
            f"got {value!r:.80}"
        )
    return n


def format_duration(n: int) -> str:
    """Return nanoseconds as text, in the form of the original: ``5m0s``, ``1.5s``, ``250ms``, ``0s``."""
    for unit in ("ns", "µs", "ms"):
        if 0 < n < _NS[unit] * 1000:
            return f"{_decimal(n, _NS[unit])}{unit}"
    minutes, rest = divmod(n, _NS["m"])
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(rest, _NS['s'])}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(n: int, unit: int) -> str:
    whole, rest = divmod(n, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".") if rest else str(whole)
