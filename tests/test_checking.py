"""A check finds every damaged byte of every file, calls a torn tail a torn tail, and disturbs nobody."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

import pytest
from test_backup import filled
from writer import vec

import kektordb
from kektordb.errors import ConfigError, DatabaseClosed, StorageError
from kektordb.safety.checking import CheckReport


def files_of(report: CheckReport) -> dict[str, str]:
    return {file.name: file.verdict for file in report.files if file.kind != "lock"}


@pytest.fixture(name="closed")
def _closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A closed database with two snapshot files and a log with records."""
    monkeypatch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", 512)
    with filled(tmp_path / "db", 200) as db:
        db.save()
        db["a"].upsert("i1", vec(900), {"n": 900, "t": "fox"})
        db.save()
        db["a"].add("late", vec(901), {"n": 901, "t": "fox"})
        db.kv["late"] = b"too"
        db._store._syncer.sync()  # type: ignore[union-attr]
        db["a"].add("later", vec(902), {"n": 902, "t": "fox"})
    return tmp_path / "db"


def flipped(path: Path, offset: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_a_sound_database_is_sound(closed: Path) -> None:
    before = {path.name: path.read_bytes() for path in closed.iterdir()}
    report = kektordb.check(closed, deep=True)
    assert report.verdict == "sound"
    assert report.ok
    assert sorted(kind.kind for kind in report.files) == ["lock", "log", "manifest", "snapshot", "snapshot"]
    assert {index.name: index.n_items for index in report.indexes} == {"a": 201, "empty": 0, "ångström": 20}
    assert {file.n_parts > 0 for file in report.files if file.kind in ("log", "snapshot")} == {True}
    assert before == {path.name: path.read_bytes() for path in closed.iterdir()}


def test_every_flipped_bit_of_a_closed_database_is_found_where_it_is(closed: Path, tmp_path: Path) -> None:
    rng = random.Random(2)
    for path in [path for path in closed.iterdir() if path.name != "LOCK"]:
        data = path.read_bytes()
        for _ in range(60):
            offset = rng.randrange(len(data))
            flipped(path, offset, rng.randrange(8))
            report = kektordb.check(closed)
            assert report.verdict == "damaged"
            (found,) = [file for file in report.files if file.verdict == "damaged"]
            assert found.name == path.name
            places = [place for place in found.damage if place.offset <= offset]
            assert places, (path.name, offset, found.damage)
            if found.kind == "snapshot" and places[-1].n_bytes:
                assert offset < places[-1].offset + places[-1].n_bytes
                assert "section" in places[-1].what
            path.write_bytes(data)
    assert kektordb.check(closed).verdict == "sound"


def test_every_damaged_block_is_listed(closed: Path) -> None:
    path = max(closed.glob("snapshot-*"), key=lambda path: path.stat().st_size)
    for offset in (100, 2000, 9000):
        flipped(path, offset, 3)
    (found,) = [file for file in kektordb.check(closed).files if file.verdict == "damaged"]
    assert len(found.damage) == 3


def test_a_cut_file_is_damaged(closed: Path) -> None:
    rng = random.Random(3)
    for path in [path for path in closed.iterdir() if path.name != "LOCK"]:
        data = path.read_bytes()
        for size in [0, 1, 63, 64, len(data) - 1, *(rng.randrange(len(data)) for _ in range(10))]:
            path.write_bytes(data[:size])
            assert kektordb.check(closed).verdict == "damaged", (path.name, size)
        path.write_bytes(data)


def test_a_missing_file_is_missing(closed: Path) -> None:
    for path in [path for path in closed.iterdir() if path.name != "LOCK"]:
        data = path.read_bytes()
        path.unlink()
        report = kektordb.check(closed, deep=True)
        assert report.verdict == "damaged"
        assert files_of(report)[path.name] == "missing"
        path.write_bytes(data)


def test_a_torn_tail_is_no_damage(tmp_path: Path) -> None:
    with filled(tmp_path / "db") as db:
        db["a"].add("last", vec(5), {"n": 5, "t": "fox"})
        shutil.copytree(tmp_path / "db", tmp_path / "copy")
    log = tmp_path / "copy" / "log-000001.aof"
    with log.open("ab") as file:
        file.write(b"x" * 50)
    report = kektordb.check(tmp_path / "copy", deep=True)
    assert report.verdict == "torn tail"
    assert report.ok
    (tail,) = [place for file in report.files for place in file.damage]
    assert tail.n_bytes == 50
    with kektordb.open(tmp_path / "copy"):
        pass
    report = kektordb.check(tmp_path / "copy", deep=True)
    assert report.verdict == "sound"
    assert files_of(report)["log-000001.torn"] == "not used"


def test_left_overs_are_listed_and_harmless(closed: Path) -> None:
    (closed / "tmp-snapshot-000009.kdb").write_bytes(b"half")
    (closed / "snapshot-000099.kdb").write_bytes(b"old")
    (closed / "notes.txt").write_bytes(b"mine")
    report = kektordb.check(closed)
    assert report.verdict == "sound"
    assert [file.kind for file in report.files if file.verdict == "not used"] == ["other", "left over", "left over"]


def test_what_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    for path in ("none", "empty", "photos"):
        with pytest.raises(StorageError):
            kektordb.check(tmp_path / path)
    assert kektordb.check(tmp_path / "photos" / "cat.jpg").verdict == "damaged"
    for bad in (None, 3, ""):
        with pytest.raises(ConfigError):
            kektordb.check(bad)
    with pytest.raises(ConfigError):
        kektordb.check(tmp_path, deep="yes")


def test_an_open_database_is_checked_while_it_is_written_to(tmp_path: Path) -> None:
    stop = threading.Event()
    failures: list[Exception] = []

    def write() -> None:
        i = 0
        try:
            while not stop.is_set():
                i += 1
                db["a"].upsert(f"w{i % 50}", vec(i), {"n": i, "t": f"fox {i}"})
                if i % 40 == 0:
                    db.save()
        except Exception as error:
            failures.append(error)

    with filled(tmp_path / "db") as db:
        thread = threading.Thread(target=write)
        thread.start()
        try:
            reports = [db.check(deep=i % 2 == 0) for i in range(10)]
            reports += [kektordb.check(tmp_path / "db") for _ in range(10)]
        finally:
            stop.set()
            thread.join()
        assert not failures
        assert [(r.files, r.indexes) for r in reports if r.verdict == "damaged"] == []
        assert {report.verdict for report in reports[:10]} == {"sound"}


def test_a_log_that_lost_its_end_under_an_open_database_is_damaged(tmp_path: Path) -> None:
    with filled(tmp_path / "db") as db:
        log = tmp_path / "db" / "log-000001.aof"
        data = log.read_bytes()
        with log.open("rb+") as file:
            file.truncate(len(data) - 8)
        report = db.check()
        assert report.verdict == "damaged"
        log.write_bytes(data)
        assert db.check().verdict == "sound"
    with pytest.raises(DatabaseClosed):
        db.check()


def test_a_database_in_memory_has_no_files() -> None:
    with kektordb.open(":memory:") as db:
        db.create_index("a").add("one", vec(1))
        assert db.check().files == ()
        assert db.check(deep=True).verdict == "sound"
