"""What was done is counted, and how long it took lies within a quarter of what is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kektordb
from kektordb._metrics import Latencies


@given(st.lists(st.integers(0, 2**42), min_size=1, max_size=60), st.floats(0.01, 1))
def test_quantiles_and_buckets_hold_the_truth(durations: list[int], share: float) -> None:
    latencies = Latencies()
    for ns in durations:
        latencies.note(ns)

    assert latencies.count == len(durations)
    assert latencies.total_s == pytest.approx(sum(durations) * 1e-9)
    assert latencies.longest_s == pytest.approx(max(durations) * 1e-9)
    for bound, n in latencies.buckets():
        assert n == sum(ns < bound * 1e9 * (1 + 1e-12) - 1e-6 for ns in durations) or bound * 1e9 > 2**41
    truth = sorted(durations)[int(np.ceil(share * len(durations))) - 1]
    found = latencies.quantile(share) * 1e9
    assert truth * (1 - 1e-9) <= found <= max(truth * 1.25, 4) * (1 + 1e-9) or truth >= 2**41


def test_nothing_was_counted_yet() -> None:
    latencies = Latencies()

    assert (latencies.count, latencies.buckets(), latencies.quantile(0.5), latencies.longest_s) == (0, [], 0.0, 0.0)


def test_what_was_done_is_counted(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(50, 4))
    with kektordb.open(tmp_path / "db", autosave="") as db:
        index = db.create_index("x", text_language="simple")
        index.add("one", rows[0], {"t": "red"})
        index.add_batch([str(i) for i in range(49)], rows[1:])
        with db.batch():
            index.upsert("one", rows[3])
            index.delete(["0", "1"])
        with pytest.raises(kektordb.ItemExists):
            index.add("one", rows[0])
        with pytest.raises(kektordb.VectorError):
            index.search([1.0, np.nan, 0.0, 0.0])
        for row in rows[:7]:
            index.search(row)
        index.search(rows[0], text="red")
        index.search_batch(rows[:20])
        db.kv["a"] = b"1"
        db.save()
        found = db.metrics()

    of_index = found["indexes"]["x"]
    assert (of_index["n_items"], of_index["n_added"], of_index["n_deleted"]) == (48, 51, 2)
    assert of_index["search"]["count"] == 8
    assert of_index["n_batch_queries"] == 20
    assert of_index["add"]["count"] == 3
    assert found["commit"]["count"] == 4
    assert found["save"]["count"] == 1
    assert found["n_saved_bytes"] > 0
    assert found["n_syncs"] >= 0
    assert found["tasks"] == {}
    search = of_index["search"]
    assert 0 < search["p50_s"] <= search["p99_s"] <= search["max_s"] <= search["total_s"]
    assert search["buckets"][-1][1] == 8


def test_a_replayed_log_counts_for_nothing(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db", autosave="", aof_rewrite_percentage=0) as db:
        db.create_index("x").add_batch(["a", "b"], np.eye(2))
    with kektordb.open(tmp_path / "db") as db:
        found = db.metrics()["indexes"]["x"]
        assert (found["n_items"], found["n_added"], found["add"]["count"]) == (2, 0, 0)
    with pytest.raises(kektordb.DatabaseClosed):
        db.metrics()
