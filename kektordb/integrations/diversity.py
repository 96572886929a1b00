"""Which of many similar results are worth showing together? Those that are near the query, and not near each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kektordb.errors import ConfigError

__all__ = ["diverse"]


def diverse(query: npt.ArrayLike, rows: npt.ArrayLike, k: int, balance: float) -> list[int]:
    """Choose rows one after the other by their maximal marginal relevance (Carbonell and Goldstein, 1998).

    Parameters
    ----------
    query : array_like (dim,)
    rows : array_like (n, dim)
    k : int
        Rows wanted; all come back when there are fewer.
    balance : float
        1 for what is most similar to the query alone; 0 for what is least similar to the rows that were chosen before.

    Returns
    -------
    list of int
        Positions, in the order in which they were chosen; the most similar row first. Similarity is the cosine.

    Raises
    ------
    ConfigError
    """
    if isinstance(balance, bool) or not isinstance(balance, int | float) or not 0 <= balance <= 1:
        raise ConfigError(f"expected a balance of relevance and diversity from 0 to 1, got {balance!r:.80}")
    units = _units(np.atleast_2d(np.asarray(rows, np.float64)))
    relevance = units @ _units(np.asarray(query, np.float64)[None, :])[0] if units.size else np.empty(0)
    redundancy = np.full(len(relevance), -np.inf)
    left = np.ones(len(relevance), bool)
    chosen: list[int] = []
    while len(chosen) < min(k, len(relevance)):
        gain = balance * relevance - (1 - balance) * redundancy if chosen else relevance
        best = int(np.argmax(np.where(left, gain, -np.inf)))
        chosen.append(best)
        left[best] = False
        redundancy = np.maximum(redundancy, units @ units[best])
    return chosen


def _units(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return rows of length 1; those of zeros stay, and are similar to nothing."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)
