"""Are results chosen by their maximal marginal relevance? Compared with a slow truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from kektordb.errors import ConfigError
from kektordb.integrations.diversity import diverse


def slowly(query: npt.NDArray[np.float64], rows: npt.NDArray[np.float64], k: int, balance: float) -> list[int]:
    def cosine(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
        lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
        return float(one @ other) / lengths if lengths else 0.0

    chosen: list[int] = []
    while len(chosen) < min(k, len(rows)):
        gains = {}
        for i in set(range(len(rows))) - set(chosen):
            alike = max((cosine(rows[i], rows[j]) for j in chosen), default=None)
            relevance = cosine(query, rows[i])
            gains[i] = relevance if alike is None else balance * relevance - (1 - balance) * alike
        chosen.append(max(gains, key=lambda i: gains[i]))
    return chosen


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.5, 1.0])
def test_each_choice_is_the_best_that_is_left(balance: float) -> None:
    rng = np.random.default_rng(7)
    for n in (1, 2, 15, 40):
        rows = rng.standard_normal((n, 5)) * rng.uniform(0.1, 9, (n, 1))
        query = rng.standard_normal(5)
        for k in (1, 3, 40, 99):
            assert diverse(query, rows.tolist(), k, balance) == slowly(query, rows, k, balance)


def test_zeros_copies_and_nothing() -> None:
    assert diverse([1.0, 0.0], [], 3, 0.5) == []
    assert diverse([1.0, 0.0], [[0.0, 0.0]], 3, 0.5) == [0]
    assert diverse([0.0, 0.0], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], 2, 0.5) == [0, 2]
    assert diverse([1.0, 0.0], [[1.0, 0.0]], 0, 0.5) == []
    for bad in (-0.1, 1.1, float("nan"), True, "x"):
        with pytest.raises(ConfigError, match="balance"):
            diverse([1.0], [[1.0]], 1, bad)  # type: ignore[arg-type]
