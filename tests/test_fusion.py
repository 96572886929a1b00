"""Fused scores are the numbers that one gets with pencil and paper."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kektordb.errors import ConfigError
from kektordb.fusion import METHODS, fuse, sides

NAN = float("nan")


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def test_minmax() -> None:
    # Distances 0.2, 0.6, 1.0: best 0.2 is 1, worst 1.0 is 0, between (1.0 - 0.6) / 0.8 = 0.5.
    # Text 0, 8, 2: 0, 1, 2 / 8 = 0.25. Alpha 0.75: 0.75 * 1 + 0; 0.75 * 0.5 + 0.25 * 1; 0 + 0.25 * 0.25.
    fused = fuse("minmax", values(0.2, 0.6, 1.0), values(0, 8, 2), 0.75)

    assert fused == pytest.approx([0.75, 0.625, 0.0625], abs=1e-6)


def test_minmax_of_products_that_are_negated_distances() -> None:
    # Distances -3, 1, -1 (products 3, -1, 1): 1, 0, (1 + 1) / 4 = 0.5.
    assert sides("minmax", values(-3, 1, -1), values(0, 0, 0))[0] == pytest.approx([1, 0, 0.5])


def test_minmax_of_constant_sides() -> None:
    # All equally near: all 1. No text matches: 0, equally good text: 1.
    assert fuse("minmax", values(0.5, 0.5), values(0, 0), 0.5) == pytest.approx([0.5, 0.5])
    assert fuse("minmax", values(0.5, 0.5), values(3, 3), 0.5) == pytest.approx([1, 1])


def test_rrf() -> None:
    # Ranks by distance: 0.1 first, 0.3 second, 0.5 third; by text: 9 first, 4 second, 0 is no match.
    # 0.5 / 61 + 0; 0.5 / 63 + 0.5 / 61; 0.5 / 62 + 0.5 / 62.
    fused = fuse("rrf", values(0.1, 0.5, 0.3), values(0, 9, 4), 0.5)

    assert fused == pytest.approx([0.5 / 61, 0.5 / 63 + 0.5 / 61, 1 / 62])


def test_rrf_ties_share_the_better_rank_and_missing_sides_count_nothing() -> None:
    # Distances: 0.1 and 0.1 share rank 1, the next has rank 3; the fourth was not found. Text: 7 is 1, 5 is 2.
    vector, text = sides("rrf", values(0.1, 0.1, 0.4, NAN), values(NAN, 5, NAN, 7))

    assert vector == pytest.approx([1 / 61, 1 / 61, 1 / 63, 0])
    assert text == pytest.approx([0, 1 / 62, 0, 1 / 61])


def test_dbsf() -> None:
    # Nearness -1, -3: mean -2, deviation 1; 0.5 + 1 / 6 and 0.5 - 1 / 6.
    # Text 2, 10: mean 6, deviation 4; 0.5 - 4 / 24 and 0.5 + 4 / 24.
    vector, text = sides("dbsf", values(1, 3), values(2, 10))

    assert vector == pytest.approx([4 / 6, 2 / 6])
    assert text == pytest.approx([2 / 6, 4 / 6])
    # Alpha 0.25: 0.25 * 4/6 + 0.75 * 2/6 = 2.5/6; 0.25 * 2/6 + 0.75 * 4/6 = 3.5/6.
    assert fuse("dbsf", values(1, 3), values(2, 10), 0.25) == pytest.approx([2.5 / 6, 3.5 / 6])


def test_dbsf_keeps_the_order_of_outliers() -> None:
    # 30 zeros, 100, 101: both lie more than three deviations above the mean.
    text = sides("dbsf", np.zeros(300), np.array([0.0] * 298 + [100, 101]))[1]

    assert 1 < text[298] < text[299]


def test_dbsf_of_constant_sides_is_the_middle() -> None:
    # Ten times 0.1 has a deviation of a rounding error, by which nothing may be divided.
    assert fuse("dbsf", np.full(10, 0.1), np.full(10, 0.1), 0.3) == pytest.approx([0.5] * 10)


def test_legacy() -> None:
    # Vectors found a (0.25) and b (1.0): 1 / 1.25 = 0.8, 1 / 2 = 0.5. Text found b (3) and c (6): 3 / 6, 6 / 6.
    # Alpha 0.5: a 0.4; b 0.25 + 0.25; c 0.5. Alpha 0.8: a 0.64; b 0.4 + 0.1; c 0.2.
    distances, text = values(0.25, 1.0, NAN), values(NAN, 3, 6)

    assert fuse("legacy", distances, text, 0.5) == pytest.approx([0.4, 0.5, 0.5])
    assert fuse("legacy", distances, text, 0.8) == pytest.approx([0.64, 0.5, 0.2])


def test_legacy_without_text_is_scaled_vectors() -> None:
    # 1 / (1 + 3) = 0.25, alpha 0.5.
    assert fuse("legacy", values(0, 3), values(NAN, NAN), 0.5) == pytest.approx([0.5, 0.125])
    assert fuse("legacy", values(0, 3), values(0, 0), 0.5) == pytest.approx([0.5, 0.125])


def test_legacy_goes_on_below_zero() -> None:
    # 1 - -1 = 2, 1 - -5 = 6: a product of 1 would else divide by nothing.
    assert sides("legacy", values(-1, -5, 0), values(0, 0, 0))[0] == pytest.approx([2, 6, 1])


@pytest.mark.parametrize("method", METHODS)
def test_no_candidate_and_one(method: str) -> None:
    assert fuse(method, values(), values(), 0.5).shape == (0,)
    one = fuse(method, values(0.5), values(2), 0.5)
    # minmax (1 + 1) / 2, rrf 1 / 61, dbsf 0.5, legacy (1 / 1.5 + 1) / 2.
    assert one == pytest.approx([{"minmax": 1, "rrf": 1 / 61, "dbsf": 0.5, "legacy": 5 / 6}[method]])


@pytest.mark.parametrize("method", METHODS)
def test_alpha_1_orders_by_distance_and_alpha_0_by_text(method: str) -> None:
    rng = np.random.default_rng(3)
    distances, text = rng.random(50), rng.random(50) * 20

    assert np.argsort(-fuse(method, distances, text, 1.0)).tolist() == np.argsort(distances).tolist()
    assert np.argsort(-fuse(method, distances, text, 0.0)).tolist() == np.argsort(-text).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_places_in_the_arrays_mean_nothing_and_the_arrays_stay_as_they_are(method: str) -> None:
    rng = np.random.default_rng(4)
    distances, text = rng.integers(0, 5, 12).astype(np.float32), rng.integers(0, 3, 12).astype(np.float32)
    kept, order = (distances.copy(), text.copy()), rng.permutation(12)

    fused = fuse(method, distances, text, 0.4)

    assert fuse(method, distances[order], text[order], 0.4) == pytest.approx(fused[order])
    assert (distances == kept[0]).all()
    assert (text == kept[1]).all()
    # Nearer and at least as good in text is never worse.
    for a, b in itertools.permutations(range(12), 2):
        if distances[a] <= distances[b] and text[a] >= text[b]:
            assert fused[a] >= fused[b] - 1e-12


@pytest.mark.parametrize("alpha", [-0.1, 1.1, NAN, float("inf")])
def test_alpha_outside_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        fuse("minmax", values(1), values(1), alpha)


def test_unknown_method_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match=r"unknown fusion 'sum'.*minmax, rrf, dbsf, legacy"):
        fuse("sum", values(1), values(1), 0.5)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        fuse("rrf", values(1, 2), values(1), 0.5)
    for method in ("minmax", "dbsf"):
        with pytest.raises(ValueError, match="both scores"):
            fuse(method, values(1, 2), values(1, NAN), 0.5)
