"""How wide must a search be to find what is wanted? Curves of recall against width, as measured on an index."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec

__all__ = ["CLASSES", "EXACT", "Calibration", "Curve", "classes_of"]

# The width that stands for comparing every row.
EXACT = 0
# Numbers of results for which curves are measured; between them, and beyond, they are read off their neighbours.
CLASSES = (1, 10, 100)
# An index that changed by more than this since it was measured is measured anew.
STALE_SHARE = 0.2
# Widths asked for so far are remembered, up to so many.
MAX_KNOWN = 256
# Misses below this are none: no sample is large enough to see them.
LEAST_MISS = 1e-4


class Curve(msgspec.Struct, frozen=True):
    """Recall against width, for one number of results.

    Attributes
    ----------
    k : int
    ef : tuple of int
        Widths, ascending, the first at least `k`.
    recall : tuple of float
        What they reach; never falling.
    """

    k: int
    ef: tuple[int, ...]
    recall: tuple[float, ...]

    def ef_for(self, recall: float) -> float | None:
        """Return the width that reaches a recall; None when none does that was measured.

        Between two widths the logarithm of what is missed falls evenly with that of the width.
        """
        for i, reached in enumerate(self.recall):
            if reached >= recall:
                if i == 0:
                    return self.ef[0]
                before, after, wanted = (
                    math.log(max(1 - r, LEAST_MISS)) for r in (self.recall[i - 1], reached, recall)
                )
                share = (before - wanted) / (before - after) if before > after else 1.0
                low, high = math.log(self.ef[i - 1]), math.log(self.ef[i])
                return math.exp(low + min(max(share, 0.0), 1.0) * (high - low))
        return None


class Calibration:
    """What was measured on an index.

    Parameters
    ----------
    curves : sequence of Curve
        With different `k`.
    n_items : int
        Items of the index then.
    precision : str
        That of its vectors then.
    """

    def __init__(self, curves: tuple[Curve, ...], n_items: int, precision: str) -> None:
        self.curves = tuple(sorted(curves, key=lambda curve: curve.k))
        self.n_items = n_items
        self.precision = precision
        self._known: dict[tuple[float, int], int] = {}

    def with_those_of(self, older: Calibration) -> Calibration:
        """Return one with the curves of another too, where this one has none."""
        missing = tuple(curve for curve in older.curves if all(curve.k != mine.k for mine in self.curves))
        return Calibration(self.curves + missing, self.n_items, self.precision)

    def has(self, k: int) -> bool:
        """Tell whether the curves that `k` is read off were measured."""
        return {curve.k for curve in self.curves}.issuperset(classes_of(k))

    def is_stale(self, n_changed: int, precision: str) -> bool:
        """Tell whether the index has changed too much since; `n_changed` items came, went or were linked anew."""
        return n_changed > STALE_SHARE * self.n_items or precision != self.precision

    def ef_for(self, recall: float, k: int) -> int:
        """Return the width of a search for `k` results, at least `k`; `EXACT` when no walk that was measured will do.

        Requires ``has(k)``.
        """
        found = self._known.get((recall, k))
        if found is None:
            found = self._ef_for(recall, k)
            if len(self._known) < MAX_KNOWN:
                self._known[recall, k] = found
        return found

    def _ef_for(self, recall: float, k: int) -> int:
        if recall >= 1:
            return EXACT
        around = [curve for curve in self.curves if curve.k in classes_of(k)]
        efs = [curve.ef_for(recall) for curve in around]
        if any(ef is None for ef in efs):
            return EXACT
        first, last = around[0], around[-1]
        widths = [math.log(ef) for ef in efs if ef is not None]
        if k > last.k:
            width = widths[-1] + math.log(k / last.k)
        elif first.k == last.k:
            width = widths[0]
        else:
            share = math.log(k / first.k) / math.log(last.k / first.k)
            width = widths[0] + share * (widths[-1] - widths[0])
        return max(k, math.ceil(math.exp(width) - 1e-6))


def classes_of(k: int) -> tuple[int, ...]:
    """Return the numbers of results whose curves tell the width for `k`."""
    if k in CLASSES:
        return (k,)
    if k > CLASSES[-1]:
        return (CLASSES[-1],)
    return next((low, high) for low, high in pairwise(CLASSES) if low < k < high)
