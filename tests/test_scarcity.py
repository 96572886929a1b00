"""Where threads, memory or open files run short, what was asked for fails, or goes on without; nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import kektordb

VECTORS = np.random.default_rng(2).standard_normal((40, 4)).astype(np.float32)
LARGE = bytes(range(256)) * (10 << 12)  # 10 MiB: so much is packed and unpacked by threads


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_database_without_threads_is_opened_and_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        db = kektordb.open(tmp_path / "db", sync="everysec")
        a = db.create_index("a", metric="euclidean")
        a.add_batch([str(i) for i in range(40)], VECTORS)
        a.delete("3")
        store = db._store
        assert store is not None
        assert store.n_syncs == 3  # there is nobody to make them durable later
        with pytest.raises(RuntimeError, match="thread"):
            a.vacuum()
        assert len(db.tasks) == 0

    assert a.search(VECTORS[5], k=1)[0].id == "5"
    a.delete("4")
    assert a.vacuum().wait(20)["n_removed"] == 2
    db.close()
    with kektordb.open(tmp_path / "db") as db:
        assert db["a"].count() == 38


def test_a_save_and_an_open_that_want_threads_in_vain_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = kektordb.open(tmp_path / "db")
    db.kv["large"] = LARGE
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="thread"):
            db.save()
        db.kv["k"] = b"1"
    assert db.save() is not None
    db.close()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="thread"):
            kektordb.open(tmp_path / "db")
    with kektordb.open(tmp_path / "db") as db:
        assert (db.kv["large"], db.kv["k"]) == (LARGE, b"1")


def test_a_follower_without_a_thread_is_not_opened_and_can_be_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kektordb.open(tmp_path / "leader") as leader:
        leader.kv["k"] = b"1"
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(RuntimeError, match="thread"):
                kektordb.open(tmp_path / "db", follow=tmp_path / "leader")
        with kektordb.open(tmp_path / "db", follow=tmp_path / "leader") as follower:
            assert follower.kv["k"] == b"1"


STARVED = """
import resource
import numpy as np
import kektordb
rng = np.random.default_rng(3)
vectors = rng.standard_normal((1500, 8)).astype(np.float32)
with kektordb.open(":memory:", n_threads=1) as db:
    a = db.create_index("a", metric="euclidean", dim=8)
    a.add_batch([str(i) for i in range(1000)], vectors[:1000])
    before = a.search_batch(vectors[:100], k=3, n_threads=1)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    # Enough for all that is done, not for the stack of a thread.
    resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 20), resource.RLIM_INFINITY))
    found = a.search_batch(vectors[:100], k=3, n_threads=8)
    a.add_batch([str(i) for i in range(1000, 1500)], vectors[1000:], n_threads=8)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert [[hit.id for hit in row] for row in found] == [[hit.id for hit in row] for row in before]
    again = a.search_batch(vectors, k=1, n_threads=8)
    assert sum(row[0].id == str(i) for i, row in enumerate(again)) > 1480
print("went on")
"""


@pytest.mark.skipif(sys.platform != "linux" or "LD_PRELOAD" in os.environ, reason="limits of the address space")
def test_loops_run_on_as_many_threads_as_there_can_be() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(kektordb.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")
