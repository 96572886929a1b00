"""What does a search give back?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb._found import Found

__all__ = ["Hit", "Item", "Results"]


class Item(msgspec.Struct, frozen=True):
    """One item of an index.

    Attributes
    ----------
    id : str
    vector : float32 (dim,)
        As it is stored, normalised for cosine; a copy.
    metadata : dict
    """

    id: str
    vector: npt.NDArray[np.float32]
    metadata: dict[str, Any]


class Hit(msgspec.Struct, frozen=True):
    """One result of a search.

    Attributes
    ----------
    id : str
    score : float
        Larger is better: ``1 / (1 + distance)``, or the product itself for the metric ``dot``.
    distance : float
        Smaller is better: squared Euclidean distance, ``1 - cosine``, or the negated product.
    metadata : dict or None
        None unless it was asked for.
    vector : float32 (dim,) or None
        As it is stored. None unless it was asked for.
    """

    id: str
    score: float
    distance: float
    metadata: dict[str, Any] | None = None
    vector: npt.NDArray[np.float32] | None = None


class Results(Found, Sequence[Hit]):
    """The hits of one search, nearest first; ids and metadata are decoded when they are looked at.

    Attributes
    ----------
    ids : list of str
    distances, scores : float32 (n,)
    """

    __slots__ = ()

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """Scores, larger is better; float32 (n,)."""
        return 0 - self.distances if self._is_product else np.reciprocal(self.distances + np.float32(1))

    @overload
    def __getitem__(self, position: int) -> Hit: ...
    @overload
    def __getitem__(self, position: slice) -> list[Hit]: ...
    def __getitem__(self, position: int | slice) -> Hit | list[Hit]:
        n = len(self)
        if isinstance(position, slice):
            return [self._hit(i) for i in range(*position.indices(n))]
        if not -n <= position < n:
            raise IndexError(f"expected a position below {n}, got {position}")
        return self._hit(position % n)

    def __iter__(self) -> Iterator[Hit]:
        return map(self._hit, range(len(self)))

    def _hit(self, i: int) -> Hit:
        distance = self._distance(i)
        score = 0 - distance if self._is_product else 1 / (1 + distance)
        vector = None if self._vectors is None else self._vectors[i]
        return Hit(self.ids[i], score, distance, self._metadata(i), vector)

    def __repr__(self) -> str:
        shown = ", ".join(f"{hit.id!r} {hit.score:.4f}" for hit in self[:5])
        return f"<Results {len(self)}: {shown}{', …' if len(self) > 5 else ''}>"
