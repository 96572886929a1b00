"""What has become of an index since it was opened? Counts, latencies, and what was measured on it."""

from __future__ import annotations

import threading
from typing import Any, Protocol, cast

import msgspec

from kektordb._metrics import Latencies
from kektordb.calibration import Calibration, Curve

__all__ = ["Tally"]


class Ending(Protocol):
    """Something that ends."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        ...


class _Kept(msgspec.Struct, frozen=True):
    """What a snapshot keeps."""

    curves: tuple[Curve, ...]
    n_items: int
    precision: str
    n_changed: int


class Tally:
    """What is known of one index beside its items. A vacuum leaves it as it is.

    Attributes
    ----------
    n_added, n_deleted : int
        Items that writes have put and deleted, those of the log not counted.
    adds : Latencies
        Of writes of items, until they were committed.
    n_changed : int
        Items that came, went or were linked anew since the calibration.
    calibration : Calibration or None
    measuring : Lock
        Held by who makes a calibration in a search, or asks for one.
    task : Ending or None
        The last that was asked for.
    """

    def __init__(self) -> None:
        self.n_added = 0
        self.n_deleted = 0
        self.adds = Latencies()
        self.n_changed = 0
        self.calibration: Calibration | None = None
        self.measuring = threading.Lock()
        self.task: Ending | None = None

    def adopt(self, measured: Calibration, n_changed: int) -> None:
        """Take up a calibration begun after `n_changed` changes; curves that it lacks stay if they still hold."""
        old = self.calibration
        if old is not None and not old.is_stale(n_changed, measured.precision):
            measured = measured.with_those_of(old)
        self.calibration = measured
        self.n_changed -= n_changed

    def succeed(self, old: Tally, n_changed: int) -> None:
        """Go on with the calibration of the same index as it was `n_changed` changes ago, unless there is one."""
        if self.calibration is None:
            self.calibration, self.n_changed = old.calibration, old.n_changed + n_changed

    def to_meta(self) -> dict[str, Any] | None:
        """Return what a snapshot keeps, as plain values."""
        known = self.calibration
        if known is None:
            return None
        kept = _Kept(known.curves, known.n_items, known.precision, self.n_changed)
        return cast("dict[str, Any]", msgspec.to_builtins(kept))

    def load(self, meta: object) -> None:
        """Take up what a snapshot kept. Raises msgspec.ValidationError."""
        if meta is not None:
            kept = msgspec.convert(meta, _Kept)
            self.calibration = Calibration(kept.curves, kept.n_items, kept.precision)
            self.n_changed = kept.n_changed

    def stats(self, precision: str) -> dict[str, Any] | None:
        """Say which curves there are, and whether the index has changed too much since; None without any."""
        calibration = self.calibration
        if calibration is None:
            return None
        return {
            "ks": [curve.k for curve in calibration.curves],
            "n_items": calibration.n_items,
            "is_stale": calibration.is_stale(self.n_changed, precision),
        }
