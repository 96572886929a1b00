"""Settings of an index's maintenance are read as the original's, merge, and are found again after any restart."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kektordb.database import Database
from kektordb.errors import ConfigError, IndexNotFound, ReadOnlyDatabase
from kektordb.operations import IndexConfig
from kektordb.settings import MAX_NS, MaintenanceConfig, check_settings, format_duration, parse_duration

DEFAULTS = {
    "vacuum_interval": "5m0s",
    "delete_threshold": 0.1,
    "refine_enabled": False,
    "refine_interval": "30m0s",
    "refine_batch_size": 500,
    "refine_ef_construction": 0,
}

S = 10**9


@pytest.mark.parametrize(
    ("given", "ns", "text"),
    [
        ("5m", 300 * S, "5m0s"),
        ("1h30m", 5400 * S, "1h30m0s"),
        ("30s", 30 * S, "30s"),
        ("1.5s", 1_500_000_000, "1.5s"),
        (" 1m1.25s ", 61_250_000_000, "1m1.25s"),
        ("250ms", 250_000_000, "250ms"),
        ("1.5us", 1500, "1.5µs"),
        ("1.5µs", 1500, "1.5µs"),
        ("1.5μs", 1500, "1.5µs"),
        ("3ns", 3, "3ns"),
        (".5h", 1800 * S, "30m0s"),
        ("1.h", 3600 * S, "1h0m0s"),
        ("0", 0, "0s"),
        ("0s", 0, "0s"),
        (0, 0, "0s"),
        (300 * S, 300 * S, "5m0s"),
        (3e11, 300 * S, "5m0s"),
        (np.int64(5), 5, "5ns"),
        (timedelta(minutes=5, microseconds=1), 300 * S + 1000, "5m0.000001s"),
        (MAX_NS, MAX_NS, "2562047h47m16.854775807s"),
    ],
)
def test_durations_are_read_and_shown(given: Any, ns: int, text: str) -> None:
    assert parse_duration(given) == ns
    assert format_duration(ns) == text


@pytest.mark.parametrize(
    "given",
    [
        *(
            "",
            " ",
            "5",
            "-5m",
            "+5m",
            "5 m",
            "m",
            "1e3s",
            "nan",
            "inf",
            "5M",
            "1d",
            "1..5s",
            "5m,",
            "\u0665m",
            "9" * 200 + "s",
        ),
        *("9223372036854775808ns", 2**63, -1, 1.5, float("nan"), float("inf"), -0.5, True, None, [], b"5m"),
        *(timedelta(seconds=-1), np.array(3), np.array([1, 2]), {}),
    ],
)
def test_what_is_no_duration_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected vacuum_interval as a duration .*got "):
        parse_duration(given, "vacuum_interval")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, MAX_NS))
def test_what_is_shown_is_read_again(ns: int) -> None:
    assert parse_duration(format_duration(ns)) == ns


@pytest.mark.parametrize(
    "bad",
    [
        {"vacuum": "5m"},
        {"Vacuum_interval": "5m"},
        {"": 1},
        {1: "5m"},
        {"vacuum_interval": "soon"},
        {"vacuum_interval": None},
        {"refine_interval": -1},
        {"delete_threshold": -0.1},
        {"delete_threshold": 1.1},
        {"delete_threshold": float("nan")},
        {"delete_threshold": True},
        {"delete_threshold": "0.1"},
        {"refine_enabled": 1},
        {"refine_enabled": "true"},
        {"refine_enabled": None},
        {"refine_batch_size": 0},
        {"refine_batch_size": 2.0},
        {"refine_batch_size": 2**31},
        {"refine_batch_size": True},
        {"refine_ef_construction": -1},
        {"refine_ef_construction": 65_537},
        {"refine_ef_construction": float("inf")},
        {"vacuum_interval": "1m", "refine_ef_construction": "many"},
        "5m",
        5,
        ["vacuum_interval"],
    ],
)
def test_bad_settings_are_refused_and_change_nothing(bad: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected .*got "):
        check_settings(bad)
    with Database.open(":memory:") as db:
        with pytest.raises(ConfigError):
            db.create_index("b", maintenance=bad)
        assert "b" not in db
        index = db.create_index("a")
        with pytest.raises(ConfigError):
            index.configure(bad)
        assert index.maintenance == DEFAULTS


def test_settings_merge() -> None:
    with Database.open(":memory:") as db:
        assert db.create_index("plain").maintenance == DEFAULTS
        index = db.create_index("a", maintenance={"vacuum_interval": "1m", "refine_enabled": True})
        expected = {**DEFAULTS, "vacuum_interval": "1m0s", "refine_enabled": True}
        assert index.maintenance == expected
        index.configure(delete_threshold=np.float64(0.25), refine_enabled=np.False_)
        index.configure({"refine_interval": 10**9, "refine_batch_size": 1}, refine_batch_size=np.int32(7))
        index.configure()
        index.configure({})
        expected |= {"delete_threshold": 0.25, "refine_enabled": False, "refine_interval": "1s", "refine_batch_size": 7}
        assert index.maintenance == expected
        assert index.stats()["maintenance"] == expected
        index.configure(index.maintenance)
        assert index.maintenance == expected
        index.maintenance["refine_batch_size"] = 9
        assert index.maintenance == expected, "it was a copy"


def test_settings_are_durable(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with Database.open(path) as db:
        db.create_index("a", maintenance={"vacuum_interval": "1m"})
        db.create_index("b")
        db["a"].configure(delete_threshold=0.5)
        expected = db["a"].maintenance
    for _ in range(2):  # from the log, then from a snapshot
        with Database.open(path) as db:
            assert db["a"].maintenance == expected
            assert db["b"].maintenance == DEFAULTS
            db.save()
    with Database.open(path) as db:
        db["a"].configure(refine_enabled=True)
    with Database.open(path, read_only=True) as db:
        assert db["a"].maintenance == {**expected, "refine_enabled": True}
        with pytest.raises(ReadOnlyDatabase):
            db["a"].configure(refine_enabled=False)


def test_settings_can_be_part_of_a_batch() -> None:
    with Database.open(":memory:") as db:
        index = db.create_index("a")
        with db.batch():
            index.configure(vacuum_interval="1s")
            index.add("x", [1.0])
            index.configure(refine_batch_size=3)
            assert index.maintenance == DEFAULTS
        assert index.maintenance == {**DEFAULTS, "vacuum_interval": "1s", "refine_batch_size": 3}
        with pytest.raises(ConfigError), db.batch():
            index.configure(vacuum_interval="2s", refine_batch_size=0)
        assert index.maintenance["vacuum_interval"] == "1s"
        db.drop_index("a")
        with pytest.raises(IndexNotFound):
            index.configure(vacuum_interval="2s")
        with pytest.raises(IndexNotFound):
            _ = index.maintenance


def test_stored_configurations_of_other_versions_are_read() -> None:
    assert IndexConfig.from_dict({"metric": "dot"}).maintenance == MaintenanceConfig()
    newer = IndexConfig.from_dict({"maintenance": {"vacuum_interval": 5, "not yet invented": 1}})
    assert newer.maintenance == MaintenanceConfig(vacuum_interval=5)
    assert "maintenance" not in IndexConfig().to_dict()
    changed = IndexConfig().configured({"delete_threshold": 0.2})
    assert IndexConfig.from_dict(changed.to_dict()) == changed
