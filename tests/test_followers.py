"""What may be done to readers and followers: everything at once, in the wrong order, with the wrong leader."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from states import contents

import kektordb
from kektordb import ConfigError, HistoryDiverged, StorageError
from kektordb.database import Database
from kektordb.errors import DatabaseClosed, ReadOnlyDatabase
from kektordb.replication import promote

N_WRITES = 40


def opened(path: Path, **options: Any) -> Database:
    return kektordb.open(path, autosave="", n_threads=1, sync="no", **options)


def prepared(path: Path) -> Database:
    db = opened(path)
    index = db.create_index("a", dim=4, text_language="english")
    index.add_batch(
        [f"first{n}" for n in range(30)],
        [[n, 1, 0, 1] for n in range(30)],
        [{"n": n, "t": f"hello {n}"} for n in range(30)],
    )
    db.kv["n"] = b"0"
    db.save()
    return db


def following(path: Path, leader: Path, **options: Any) -> Database:
    return opened(path, follow=leader, follow_interval=0, **options)


# ------------------------------------------------------------------------------------------------------ all at once


class Crowd:
    """Threads that each do one thing over and over until they are told to stop, or the database is closed."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.done = threading.Event()
        self._threads: list[threading.Thread] = []

    def let(self, act: Callable[[], object]) -> None:
        def run() -> None:
            try:
                while not self.done.is_set():
                    act()
            except DatabaseClosed:
                pass
            except BaseException as error:
                self.failures.append(error)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def end(self) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "somebody hangs"
        assert self.failures == []


@pytest.mark.parametrize("what", ["reader", "follower", "thread"])
@pytest.mark.parametrize("end", ["close", "promote"])
def test_threads_refresh_search_look_and_close_at_the_same_time(tmp_path: Path, what: str, end: str) -> None:
    if (what, end) == ("reader", "promote"):
        pytest.skip("a reader cannot be promoted")
    leader, rng = prepared(tmp_path / "leader"), random.Random(5)
    if what == "reader":
        db = opened(tmp_path / "leader", read_only=True)
    else:
        interval = 0.001 if what == "thread" else 0
        db = opened(tmp_path / "copy", follow=tmp_path / "leader", follow_interval=interval)
    seen, crowd = [0], Crowd()

    def search() -> None:
        assert len(db["a"].search([1, 0, 0, 0], k=5)) == 5
        assert db["a"].search([1, 0, 0, 0], k=5, text="hello", filter="n >= 3")

    def look() -> None:
        n = int(db.kv["n"])
        assert n >= seen[0], "never backwards"
        assert f"w{n}" in db["a"] or n == 0, "a batch is whole"
        seen[0] = n
        db.stats()
        db.metrics()

    def care() -> None:
        db.backup(tmp_path / "backup.kdb")
        db.check()

    for act in (db.refresh, db.refresh, db.refresh, search, search, look, care):
        crowd.let(act)
    for n in range(1, N_WRITES + 1):
        with leader.batch():
            leader["a"].add(f"w{n}", [n, 0, 1, 1], {"n": n, "t": "hello again"})
            leader.kv["n"] = b"%d" % n
        if rng.random() < 0.2:
            leader.save()
        if n == 2 * N_WRITES // 3 and end == "promote":
            db.promote()
            db["a"].add("mine", [1, 1, 1, 1])
        if n == N_WRITES - 5:
            db.close()
    crowd.end()
    leader.close()
    with opened(tmp_path / "leader") as leader:
        assert leader.kv["n"] == b"%d" % N_WRITES
    if what != "reader":
        assert kektordb.check(tmp_path / "copy", deep=True).verdict == "sound"
        with opened(tmp_path / "copy", read_only=True) as copy:
            assert ("mine" in copy["a"]) == (end == "promote")
    shutil.rmtree(tmp_path / "leader")


def test_a_refresh_ends_when_another_thread_promotes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with prepared(tmp_path / "leader") as leader, following(tmp_path / "copy", tmp_path / "leader") as copy:
        for n in range(10):
            leader.kv["n"] = b"%d" % n
        monkeypatch.setattr("kektordb.replicas.following.MAX_CHUNK_BYTES", 1)
        follows: Any = copy._following
        real, n_steps = follows._step, 0

        def stepped(database: Database) -> int | None:
            nonlocal n_steps
            n_steps += 1
            assert n_steps < 10, "it asks for ever"
            n: int | None = real(database)
            if n_steps == 1:
                copy.promote()
            return n

        monkeypatch.setattr(follows, "_step", stepped)
        assert copy.refresh() == 1
        copy.kv["n"] = b"mine"
        assert copy.refresh() == 0


def test_many_threads_promote_one_follower_once(tmp_path: Path) -> None:
    with prepared(tmp_path / "leader") as leader, following(tmp_path / "copy", tmp_path / "leader") as copy:
        refused: list[BaseException] = []
        barrier = threading.Barrier(6)

        def run() -> None:
            barrier.wait()
            try:
                copy.promote()
            except ConfigError:
                pass
            except BaseException as error:
                refused.append(error)

        threads = [threading.Thread(target=run) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused == []
        assert copy._store is not None
        assert len(copy._store.lineage.branches) == 1
        copy.kv["n"] = b"mine"
        leader.kv["n"] = b"other"
        with pytest.raises(ConfigError):
            copy.promote()


# ---------------------------------------------------------------------------------------------------- the wrong leader


def test_a_leader_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        with pytest.raises(StorageError, match=f"{name}: there is no database"):
            following(tmp_path / "copy", tmp_path / name)
    assert os.listdir(tmp_path) == ["empty"]
    with prepared(tmp_path / "nowhere") as leader, following(tmp_path / "copy", tmp_path / "nowhere") as copy:
        assert contents(copy) == contents(leader)


def test_a_follower_goes_on_without_its_leader_and_with_it_again(tmp_path: Path) -> None:
    leader = prepared(tmp_path / "leader")
    following(tmp_path / "copy", tmp_path / "leader").close()
    leader.kv["n"] = b"1"
    leader.close()
    (tmp_path / "leader").rename(tmp_path / "away")
    with following(tmp_path / "copy", tmp_path / "leader") as copy:
        with pytest.raises(StorageError):
            copy.refresh()
        assert "there is no database" in copy.stats()["following"]["error"]
        assert copy.kv["n"] == b"0"
        (tmp_path / "away").rename(tmp_path / "leader")
        assert copy.refresh() == 1
        assert copy.kv["n"] == b"1"
        assert copy.stats()["following"]["error"] is None


def test_a_backup_a_file_and_memory_are_no_leaders(tmp_path: Path) -> None:
    with prepared(tmp_path / "leader") as leader:
        leader.backup(tmp_path / "backup.kdb")
    (tmp_path / "file").write_bytes(b"bytes")
    for name in ("backup.kdb", "file"):
        with pytest.raises(StorageError, match="is a file"):
            following(tmp_path / "copy", tmp_path / name)
    with pytest.raises(ConfigError):
        kektordb.open(tmp_path / "copy", follow=":memory:")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(StorageError, match="is a file"):
        following(tmp_path / "backup.kdb", tmp_path / "leader")
    kektordb.open(tmp_path / "backup.kdb", read_only=True).close()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system has other links")
def test_nothing_follows_itself_under_whatever_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path / "db").close()
    (tmp_path / "link").symlink_to(tmp_path / "db", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    for path, leader in [("db", "db"), ("link", "db"), ("db", "link"), ("./db/", str(tmp_path / "db")), ("x", "x")]:
        with pytest.raises(ConfigError, match="itself"):
            kektordb.open(path, follow=leader)
    # A file system that takes upper and lower case for the same tells so by the directory's number alone.
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "realpath", lambda path: str(path))
        with pytest.raises(ConfigError, match="itself"):
            kektordb.open("db", follow="link")


def test_a_chain_passes_on_what_it_gets_and_its_middle_can_be_promoted(tmp_path: Path) -> None:
    first = prepared(tmp_path / "0")
    chain = [first]
    for n in range(3):
        chain.append(following(tmp_path / str(n + 1), tmp_path / str(n)))
    for n in range(4):
        first.kv["n"] = b"%d" % n
        if n % 2:
            for db in chain:
                db.save()
        for db in chain[1:]:
            assert db.refresh() == 1
        assert contents(chain[-1]) == contents(first)
    chain[2].promote()
    first.kv["old"] = b"history"
    chain[2].kv["new"] = b"history"
    for db in chain[1:]:
        db.refresh()
    assert ("old" in chain[1].kv, "new" in chain[1].kv) == (True, False)
    assert ("old" in chain[3].kv, "new" in chain[3].kv) == (False, True)
    for db in chain:
        db.close()
    with pytest.raises(ConfigError, match="in its own right"):
        following(tmp_path / "2", tmp_path / "0")
    with following(tmp_path / "3", tmp_path / "0") as stray, pytest.raises(HistoryDiverged):
        stray.refresh()


def test_a_follower_is_promoted_beside_its_living_leader_and_the_two_part(tmp_path: Path) -> None:
    with prepared(tmp_path / "leader") as leader:
        copy = opened(tmp_path / "copy", follow=tmp_path / "leader", follow_interval=0.001)
        with pytest.raises(ReadOnlyDatabase):
            copy.kv["n"] = b"mine"
        copy.promote()
        for n in range(5):
            leader.kv["n"] = b"leader %d" % n
            copy.kv["n"] = b"copy %d" % n
            leader.save()
            assert copy.refresh() == 0
        copy.close()
        assert leader.kv["n"] == b"leader 4"
    with opened(tmp_path / "copy") as copy:
        assert copy.kv["n"] == b"copy 4"


# ----------------------------------------------------------------------------------------------------- the wrong order


def test_what_is_closed_promoted_or_no_follower_says_so(tmp_path: Path) -> None:
    with prepared(tmp_path / "leader") as leader:
        reader = opened(tmp_path / "leader", read_only=True)
        copy = following(tmp_path / "copy", tmp_path / "leader")
        for db in (leader, reader):
            with pytest.raises(ConfigError):
                db.promote()
        for db in (reader, copy):
            db.close()
            for call in (db.refresh, db.promote):
                with pytest.raises(DatabaseClosed):
                    call()


def test_to_promote_what_is_not_there_or_follows_nothing_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no database"):
        promote(tmp_path / "misspelled")
    assert os.listdir(tmp_path) == []
    prepared(tmp_path / "db").close()
    image = {file.name: file.read_bytes() for file in (tmp_path / "db").iterdir()}
    with pytest.raises(ConfigError, match="follows another"):
        promote(tmp_path / "db")
    assert {file.name: file.read_bytes() for file in (tmp_path / "db").iterdir()} == image
    with pytest.raises(ConfigError):
        promote("")


def test_a_refresh_is_refused_where_it_would_wait_for_itself(tmp_path: Path) -> None:
    with prepared(tmp_path / "leader") as leader, following(tmp_path / "copy", tmp_path / "leader") as copy:
        with leader.batch(), pytest.raises(ConfigError):
            leader.refresh()

        def inside(act: Callable[[], object]) -> Callable[[int, int], None]:
            def progress(done: int, total: int) -> None:
                act()

            return progress

        for act in (copy.promote, copy.close):
            with pytest.raises(ConfigError):
                copy.backup(tmp_path / "backup.kdb", progress=inside(act))
        leader.kv["n"] = b"1"
        copy.backup(tmp_path / "backup.kdb", progress=inside(copy.refresh))
        assert copy.kv["n"] == b"1"
        for _ in range(3):  # now it needs a snapshot, which it cannot take in the middle of a backup
            leader.kv["n"] = b"2"
            leader.save()
        with pytest.raises(ConfigError):
            copy.backup(tmp_path / "backup.kdb", progress=inside(copy.refresh))
        assert copy.refresh() > 0
        assert contents(copy) == contents(leader)
