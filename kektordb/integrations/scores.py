"""How well does a hit fit? By a number that is larger for what fits better, in the units that frameworks expect."""

from __future__ import annotations

from kektordb.results import Hit

__all__ = ["score_of"]


def score_of(hit: Hit, metric: str) -> float:
    """Return the cosine for the metric ``cosine``; else, and where words count, the score of the hit."""
    if hit.text_score is None and hit.distance is not None and metric == "cosine":
        return 1.0 - hit.distance
    return hit.score
