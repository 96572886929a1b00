"""Rows: checked, normalised, stored, copied out."""

from __future__ import annotations

import numpy as np
import pytest

from kektordb._vectors import Vectors


def stored(metric: str, rows: np.ndarray) -> np.ndarray:
    vectors = Vectors(rows.shape[1], metric)
    prepared, bad = vectors.prepare_rows(rows)
    assert bad == -1
    from kektordb._hnsw import Graph

    graph = Graph(vectors, 4, 10, 0)
    graph.reserve(len(rows))
    graph.append(prepared)
    return vectors.get(np.arange(len(rows), dtype=np.uint32))


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
@pytest.mark.parametrize("dim", [1, 5, 16, 33])
def test_rows_come_back_bit_for_bit(metric: str, dim: int) -> None:
    rows = np.random.default_rng(1).normal(size=(20, dim)).astype(np.float32)

    assert stored(metric, rows).tobytes() == rows.tobytes()


def test_cosine_rows_have_length_one_whatever_their_scale() -> None:
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(4, 33))
    rows = (directions * np.array([[1e-30], [1e-3], [1.0], [1e30]])).astype(np.float32)

    lengths = np.linalg.norm(stored("cosine", rows).astype(np.float64), axis=1)

    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_a_zero_row_stays_zero_for_cosine() -> None:
    assert stored("cosine", np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_the_first_row_that_is_not_finite_is_named(metric: str, bad: float) -> None:
    rows = np.ones((5, 4), np.float32)
    rows[3, 1] = bad

    assert Vectors(4, metric).prepare_rows(rows)[1] == 3


def test_rows_whose_distances_would_overflow_are_refused_but_not_for_cosine() -> None:
    rows = np.full((1, 2), 1e38, np.float32)

    assert Vectors(2, "euclidean").prepare_rows(rows)[1] == 0
    assert Vectors(2, "dot").prepare_rows(rows)[1] == 0
    assert Vectors(2, "cosine").prepare_rows(rows)[1] == -1


def test_prepared_rows_are_a_copy() -> None:
    rows = np.ones((1, 4), np.float32)

    prepared, _ = Vectors(4, "euclidean").prepare_rows(rows)
    prepared[:] = 7

    assert rows.tolist() == [[1, 1, 1, 1]]
