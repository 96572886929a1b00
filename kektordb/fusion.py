"""How do a distance and a text score become one score?

Every method turns the two sides of each candidate into two parts, larger is better, and the score is
``alpha * vector part + (1 - alpha) * text part``. The functions know the candidates only by their place in the arrays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kektordb._fusion import METHODS, RRF_K, parts
from kektordb.errors import ConfigError

__all__ = ["METHODS", "RRF_K", "fuse", "sides"]

Floats = npt.NDArray[np.float64]
Sides = tuple[Floats, Floats]

_NEED_BOTH = ("minmax", "dbsf")


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
    """Return the vector part and the text part of each candidate, float64 (n,) each; parameters as for `fuse`.

    ``minmax``
        Each side is spread over 1 to 0, from the best candidate to the worst. Where all are equal they are all best;
        but a text score of 0, no word that matches, is never good.
    ``rrf``
        1 / (60 + rank) on each side, ranks from 1, equal ones share the better rank; 0 where a side did not find the
        candidate or no word matches.
    ``dbsf``
        Three standard deviations below the mean of a side are 0 and three above it are 1. Nothing is cut off, so that
        outliers keep their order; what is constant lies in the middle.
    ``legacy``
        1 / (1 + distance), and the text score by the best text score; 0 for a side that did not find the candidate. As
        the original does, with its candidates: the k nearest, and all that match the words. It knows no metric with
        negative distances; below 0 the part goes on as 1 - distance, which grows on without a step or a bend.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown fusion {method!r}: expected one of {', '.join(METHODS)}")
    nearness = np.negative(distances, dtype=np.float64)
    text = np.array(text_scores, np.float64)
    if nearness.ndim != 1 or nearness.shape != text.shape:
        raise ValueError(f"expected two arrays of one length, got shapes {nearness.shape} and {text.shape}")
    if method in _NEED_BOTH and (np.isnan(nearness).any() or np.isnan(text).any()):
        raise ValueError(f"fusion {method!r} needs both scores of every candidate")
    parts(METHODS.index(method), nearness, text, np.empty(len(text)))
    return nearness, text
