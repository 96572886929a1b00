"""How do a distance and a text score become one score?

Every method turns the two sides of each candidate into two parts, larger is better, and the score is
``alpha * vector part + (1 - alpha) * text part``. The functions know the candidates only by their place in the arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kektordb.errors import ConfigError

__all__ = ["METHODS", "RRF_K", "fuse", "sides"]

Floats = npt.NDArray[np.float64]
Sides = tuple[Floats, Floats]

# The constant of the paper: Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion …", SIGIR 2009.
RRF_K = 60


def fuse(
    method: str, distances: npt.NDArray[np.floating], text_scores: npt.NDArray[np.floating], alpha: float
) -> Floats:
    """Return the fused scores of candidates; larger is better.

    Parameters
    ----------
    method : str
        A name of `METHODS`.
    distances : float (n,)
        Smaller is better, as `Hit.distance`. NaN where the vector side did not find the candidate ("rrf" and "legacy").
    text_scores : float (n,)
        BM25, 0 where no word matches. NaN likewise.
    alpha : float
        Weight of the vector side, 0 to 1.

    Returns
    -------
    float64 (n,)

    Raises
    ------
    ConfigError
        Unknown method; alpha outside 0 to 1.
    ValueError
        Arrays of different lengths; a missing side that the method needs.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha: expected 0 to 1, got {alpha}")
    vector_part, text_part = sides(method, distances, text_scores)
    return alpha * vector_part + (1 - alpha) * text_part


def sides(method: str, distances: npt.NDArray[np.floating], text_scores: npt.NDArray[np.floating]) -> Sides:
    """Return the vector part and the text part of each candidate, float64 (n,) each; parameters as for `fuse`."""
    if method not in METHODS:
        raise ConfigError(f"unknown fusion {method!r}: expected one of {', '.join(METHODS)}")
    nearness = -np.asarray(distances, np.float64)
    text = np.asarray(text_scores, np.float64)
    if nearness.ndim != 1 or nearness.shape != text.shape:
        raise ValueError(f"expected two arrays of one length, got shapes {nearness.shape} and {text.shape}")
    if not len(text):
        return nearness, text
    return METHODS[method](nearness, text)


def _minmax(nearness: Floats, text: Floats) -> Sides:
    """Spread each side over 1 to 0, from the best candidate to the worst.

    Where all are equal they are all best; but a text score of 0, no word that matches, is never good.
    """
    _need_both("minmax", nearness, text)
    return _spread(nearness, 1.0), _spread(text, 1.0 if text[0] > 0 else 0.0)


def _spread(values: Floats, constant: float) -> Floats:
    low, high = values.min(), values.max()
    if low == high:
        return np.full(len(values), constant)
    spread: Floats = (values - low) / (high - low)
    return spread


def _dbsf(nearness: Floats, text: Floats) -> Sides:
    """Spread each side so that three standard deviations below its mean are 0 and three above it are 1.

    Nothing is cut off, so that outliers keep their order; what is constant lies in the middle.
    """
    _need_both("dbsf", nearness, text)
    return _standardise(nearness), _standardise(text)


def _standardise(values: Floats) -> Floats:
    # Asked of the values themselves: the deviation of equal values may come out as a rounding error.
    if values.min() == values.max():
        return np.full(len(values), 0.5)
    standardised: Floats = 0.5 + (values - values.mean()) / (6 * values.std())
    return standardised


def _rrf(nearness: Floats, text: Floats) -> Sides:
    """Take 1 / (60 + rank) on each side, ranks from 1; 0 where a side did not find the candidate or no word matches."""
    return _reciprocal_ranks(nearness, ~np.isnan(nearness)), _reciprocal_ranks(text, text > 0)


def _reciprocal_ranks(values: Floats, found: npt.NDArray[np.bool_]) -> Floats:
    """Equal values share the better rank: which of them came first says nothing."""
    parts = np.zeros(len(values))
    ascending = np.sort(values[found])
    ranks = len(ascending) + 1 - np.searchsorted(ascending, values[found], side="right")
    parts[found] = 1 / (RRF_K + ranks)
    return parts


def _legacy(nearness: Floats, text: Floats) -> Sides:
    """Take 1 / (1 + distance) and the text score by the best text score; 0 for a side that did not find the candidate.

    As the original does, with its candidates: the k nearest, and all that match the words. It knows no metric with
    negative distances; below 0 the part goes on as 1 - distance, which grows on without a step or a bend.
    """
    nearer = np.where(np.isnan(nearness), -np.inf, nearness)
    vector_part = np.maximum(nearer, 0.0) + 1 / (1 - np.minimum(nearer, 0.0))
    found = np.where(np.isnan(text), 0.0, text)
    best = found.max()
    return vector_part, found / best if best > 0 else np.zeros(len(text))


def _need_both(method: str, nearness: Floats, text: Floats) -> None:
    if np.isnan(nearness).any() or np.isnan(text).any():
        raise ValueError(f"fusion {method!r} needs both scores of every candidate")


METHODS: dict[str, Callable[[Floats, Floats], Sides]] = {
    "minmax": _minmax,
    "rrf": _rrf,
    "dbsf": _dbsf,
    "legacy": _legacy,
}
