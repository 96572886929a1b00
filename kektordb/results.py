"""What does a search give back?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb._found import Found
from kektordb.markup import explanation_html, results_html

__all__ = ["Hit", "HitExplanation", "Item", "Ranked", "Results", "TermScore"]


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


class TermScore(msgspec.Struct, frozen=True):
    """What one word of a query gives one hit, in one field.

    Attributes
    ----------
    field, term : str
        The term is the word as it is indexed: its stem.
    weight : float
        Of the field, times how often the query has the word.
    tf : int
        How often the text has it.
    df, n_texts : int
        Texts of this field that have it, of how many.
    idf : float
        ``ln(1 + (n_texts - df + 0.5) / (df + 0.5))``.
    length, average_length : float
        Words of the text, and of the texts of this field in the mean.
    score : float
        ``weight * idf * tf / (tf + k1 * (1 - b + b * length / average_length))``.
    """

    field: str
    term: str
    weight: float
    tf: int
    df: int
    n_texts: int
    idf: float
    length: float
    average_length: float
    score: float

    def __str__(self) -> str:
        saturation = self.score / (self.weight * self.idf)
        times = "once" if self.tf == 1 else f"{self.tf:,} times"
        return (
            f'{self.field} has "{self.term}" {times} in {self.length:,.0f} words, on average texts have '
            f"{self.average_length:,.1f}; {self.df:,} of {self.n_texts:,} have it: weight {self.weight:g} * "
            f"idf {self.idf:.4f} * tf {saturation:.4f} = {self.score:.4f}"
        )


class HitExplanation(msgspec.Struct, frozen=True):
    """Why a hit has its score. `str` says it in words and numbers.

    Attributes
    ----------
    score : float
    fusion : str
        ``vector`` or ``text`` when only one side counts, else how the two became one.
    alpha : float
        Weight of the vector side.
    distance, text_score : float or None
        What the sides found; None for a side that does not count.
    vector_part, text_part : float or None
        The sides as they go into the score: ``alpha * vector_part + (1 - alpha) * text_part``.
    n_candidates : int
        Items over which they were normalised.
    terms : tuple of TermScore
        The words that the item has, the best first. Their scores add up to `text_score`.
    """

    score: float
    fusion: str
    alpha: float
    distance: float | None
    text_score: float | None
    vector_part: float | None
    text_part: float | None
    n_candidates: int
    terms: tuple[TermScore, ...]

    def __str__(self) -> str:
        lines = [f"score {self.score:.6g}"]
        if self.vector_part is not None and self.text_part is not None:
            lines[0] += (
                f" = {self.alpha:g} * vector {self.vector_part:.6g} + {1 - self.alpha:g} * text {self.text_part:.6g}"
                f" ({self.fusion} over {self.n_candidates:,} candidates)"
            )
        if self.distance is not None:
            lines.append(f"  vector: distance {self.distance:.6g}")
        if self.text_score is not None:
            lines.append(f"  text: BM25 {self.text_score:.6g}" + ("" if self.terms else ", no word matches"))
        return "\n".join([*lines, *(f"    {term}" for term in self.terms)])

    def _repr_html_(self) -> str:
        return explanation_html(self)


class Hit(msgspec.Struct, frozen=True):
    """One result of a search.

    Attributes
    ----------
    id : str
    score : float
        Larger is better. Of a search by vector: ``1 / (1 + distance)``, or the product itself for the metric ``dot``;
        by text: BM25; by both: the two as one, by `fusion` and `alpha`.
    distance : float or None
        Smaller is better: squared Euclidean distance, ``1 - cosine``, or the negated product. None when the search had
        no vector.
    metadata : dict or None
        None unless it was asked for.
    vector : float32 (dim,) or None
        As it is stored. None unless it was asked for.
    text_score : float or None
        BM25, 0 when no word matches. None when the search had no text.
    snippet : str or None
        The best passage of the item's texts, with the words that match in ``<b>`` and ``</b>``. None unless it was
        asked for.
    explanation : HitExplanation or None
        None unless it was asked for.
    """

    id: str
    score: float
    distance: float | None
    metadata: dict[str, Any] | None = None
    vector: npt.NDArray[np.float32] | None = None
    text_score: float | None = None
    snippet: str | None = None
    explanation: HitExplanation | None = None


class Results(Found, Sequence[Hit]):
    """The hits of one search, best first; ids and metadata are decoded when they are looked at.

    Attributes
    ----------
    ids : list of str
    distances, scores : float32 (n,)
        Distances are NaN when the search had no vector. Scores of two sides together are float64.
    text_scores : float32 (n,) or None
        None when the search had no text.
    """

    __slots__ = ()

    @property
    def scores(self) -> npt.NDArray[np.floating]:
        """Scores, larger is better; float32 (n,), or float64 when they come of two sides."""
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

    def _repr_html_(self) -> str:
        return results_html(self)


class Ranked(Results):
    """The hits of a search that looked at texts, or says why."""

    __slots__ = ()

    @property
    def scores(self) -> npt.NDArray[np.floating]:
        """See `Results`."""
        fused, text_scores = self._fused_scores(), self.text_scores
        if fused is not None:
            return fused
        return super().scores if text_scores is None else text_scores

    def _hit(self, i: int) -> Hit:
        distance, text_score, score = self._distance(i), self._text_score(i), self._fused_score(i)
        if score is None:
            score = text_score
        if score is None:
            assert distance is not None
            score = 0 - distance if self._is_product else 1 / (1 + distance)
        return Hit(
            self.ids[i],
            score,
            distance,
            self._metadata(i),
            None if self._vectors is None else self._vectors[i],
            text_score,
            None if self._snippets is None else self._snippets[i],
            None if self._explanations is None else self._explanations[i],
        )
