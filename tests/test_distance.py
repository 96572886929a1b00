"""The kernels against NumPy, for every instruction set that this CPU runs."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from exact import distances

from kektordb import _distance
from kektordb._bitmap import Bitmap
from kektordb._hnsw import Graph
from kektordb._vectors import Vectors

LEVELS = [level for level in ("v2", "v3", "v4") if level <= _distance.isa]


def all_distances(metric: str, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Distances of a query to all rows through an exact scan, in the order of the rows."""
    graph = Graph(Vectors(rows.shape[1], metric), 2, 1, 0)
    graph.reserve(len(rows))
    prepared, _ = graph.vectors.prepare_rows(rows)
    graph.append(prepared)
    found = np.empty(len(rows), np.float32)
    slots, values = graph.search(query, len(rows), 1, Bitmap(len(rows), fill=True))
    found[slots] = values
    return found


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("dim", [1, 2, 3, 15, 16, 17, 31, 64, 100, 129, 300, 784, 1537, 4096])
def test_distances_equal_numpy_in_every_dimension(metric: str, dim: int) -> None:
    rng = np.random.default_rng(dim)
    rows = rng.normal(size=(37, dim)).astype(np.float32)
    query = rng.normal(size=dim).astype(np.float32)

    found = all_distances(metric, rows, query)

    np.testing.assert_allclose(found, distances(metric, rows, query), rtol=2e-5, atol=2e-5 * dim**0.5)


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 5, 63, 64, 65, 191, 192, 193, 257, 1000])
def test_every_number_of_rows_is_scanned_whole(n_rows: int) -> None:
    rng = np.random.default_rng(n_rows)
    rows = rng.normal(size=(n_rows, 8)).astype(np.float32)

    found = all_distances("euclidean", rows, rows[0])

    np.testing.assert_allclose(found, distances("euclidean", rows, rows[0]), rtol=1e-5, atol=1e-5)


def test_products_of_both_signs_and_both_zeros_keep_their_order() -> None:
    rows = np.array([[-1.0], [0.0], [-0.0], [1.0], [1e-30], [-1e-30]], np.float32)

    found = all_distances("dot", rows, np.array([1.0], np.float32))

    assert found.tolist() == [1.0, 0.0, 0.0, -1.0, np.float32(-1e-30), np.float32(1e-30)]


@pytest.mark.parametrize("level", LEVELS)
def test_every_kernel_set_gives_the_same_distances(level: str) -> None:
    code = (
        "import numpy as np, sys; sys.path.insert(0, 'tests')\n"
        "from test_distance import all_distances\n"
        "from exact import distances\n"
        "from kektordb import build_info\n"
        f"assert build_info()['isa'] == {level!r}\n"
        "rng = np.random.default_rng(5)\n"
        "for dim in (1, 7, 16, 100, 784):\n"
        "    for metric in ('cosine', 'euclidean', 'dot'):\n"
        "        rows = rng.normal(size=(50, dim)).astype('f4'); query = rng.normal(size=dim).astype('f4')\n"
        "        found = all_distances(metric, rows, query)\n"
        "        np.testing.assert_allclose(found, distances(metric, rows, query), rtol=2e-5, atol=2e-5 * dim**0.5)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "KEKTORDB_ISA": level})


@pytest.mark.parametrize("wish", ["v5", "avx2"])
def test_an_unknown_kernel_set_is_refused_before_anything_is_opened(wish: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from kektordb import open"],
        env={**os.environ, "KEKTORDB_ISA": wish},
        capture_output=True,
        text=True,
    )

    assert run.returncode != 0
    assert f"expected v2, v3 or v4, got {wish!r}" in run.stderr
