"""What does a search on a server give back? The hits that came, as `Results` has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb.markup import results_html
from kektordb.results import Hit, HitExplanation, Item

__all__ = ["RemoteResults", "item_of"]


class RemoteResults(Sequence[Hit]):
    """The hits of one search, best first.

    Attributes
    ----------
    ids : list of str
    """

    __slots__ = ("_hits", "ids")

    def __init__(self, found: Sequence[Mapping[str, Any]]) -> None:
        self._hits = found
        self.ids: list[str] = [hit["id"] for hit in found]

    @property
    def distances(self) -> npt.NDArray[np.float32]:
        """Distances, float32 (n,); NaN when the search had no vector."""
        found = [hit.get("distance") for hit in self._hits]
        return np.array([np.nan if distance is None else distance for distance in found], np.float32)

    @property
    def scores(self) -> npt.NDArray[np.floating]:
        """Scores, larger is better; float32 (n,), or float64 when they come of two sides."""
        two_sides = any(hit.get("text_score") is not None and hit.get("distance") is not None for hit in self._hits)
        return np.array([hit["score"] for hit in self._hits], np.float64 if two_sides else np.float32)

    @property
    def text_scores(self) -> npt.NDArray[np.float32] | None:
        """BM25, float32 (n,); None when the search had no text."""
        found = [hit.get("text_score") for hit in self._hits]
        if not found or found[0] is None:
            return None
        return np.array(found, np.float32)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, position: int) -> Hit: ...
    @overload
    def __getitem__(self, position: slice) -> list[Hit]: ...
    def __getitem__(self, position: int | slice) -> Hit | list[Hit]:
        if isinstance(position, slice):
            return [_hit(hit) for hit in self._hits[position]]
        return _hit(self._hits[position])

    def __iter__(self) -> Iterator[Hit]:
        return map(_hit, self._hits)

    def __repr__(self) -> str:
        shown = ", ".join(f"{hit.id!r} {hit.score:.4f}" for hit in self[:5])
        return f"<RemoteResults {len(self)}: {shown}{', …' if len(self) > 5 else ''}>"

    def _repr_html_(self) -> str:
        return results_html(self)


def _hit(found: Mapping[str, Any]) -> Hit:
    explanation = found.get("explanation")
    distance, vector, score = found.get("distance"), found.get("vector"), found["score"]
    if distance is not None:
        distance = float(np.float32(distance))  # its shortest decimal came
    return Hit(
        found["id"],
        score,
        distance,
        found.get("metadata"),
        None if vector is None else _vector(vector),
        found.get("text_score"),
        found.get("snippet"),
        None if explanation is None else msgspec.convert(explanation, HitExplanation),
    )


def item_of(found: Mapping[str, Any]) -> Item:
    """Return an item as it came."""
    return Item(found["id"], _vector(found["vector"]), found["metadata"])


def _vector(content: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(content, "<f4").astype(np.float32)
