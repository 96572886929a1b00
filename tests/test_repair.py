"""A repair keeps everything that sound blocks and records still give, and names what it cannot keep."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored import killed_while_writing
from test_crash import contents
from writer import vec

import kektordb
from kektordb.database import Database
from kektordb.errors import ConfigError, DatabaseLocked, StorageError
from kektordb.kv import LENGTHS
from kektordb.safety.rebuilding import salvage_pairs
from kektordb.safety.repairing import RepairReport, repair
from kektordb.storage import OsBackend
from kektordb.storage.opening import open_files

ROOT = Path(kektordb.__file__).parent.parent
N = 300
PRECISIONS = ["float32", "float16", "int8"]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", 512)


def metadata(i: int) -> dict[str, Any] | None:
    match i % 4:
        case 0:
            return None
        case 1:
            return {"n": i, "t": f"the fox number {i}"}
        case 2:
            return {"n": i, "nested": {"deep": [1, "two", None, {"x": 1.5}]}}
    return {f"own{i}": True}


def make(path: Path, precision: str = "float32", metric: str = "euclidean") -> Database:
    """A database with a snapshot and a log behind it."""
    db = kektordb.open(path, autosave="", aof_rewrite_percentage=0, n_threads=1)
    a = db.create_index("a", metric=metric, m=4, ef_construction=20, precision=precision, text_language="english")
    a.add_batch([f"i{i}" for i in range(N)], [vec(i, 24) for i in range(N)], [metadata(i) for i in range(N)])
    a.delete([f"i{i}" for i in range(0, N, 10)])
    db.create_index("no dimension")
    db.create_index("b", metric="dot").add("only", [1.0, 2.0, 3.0], {"n": 1})
    for i in range(100):
        db.kv[f"key{i}"] = f"value{i}".encode() * (i % 7 + 1)
    db.save()
    a.add("log1", vec(1001, 24), {"n": 1001})
    db.kv["log"] = b"1"
    a.upsert("i1", vec(1002, 24), {"n": 1002})
    a.delete("i2")
    a.update_metadata("i3", {"new": 1})
    return db


def items(db: Database, name: str = "a") -> dict[str, tuple[bytes, Any]]:
    found = [item for item in db[name].get_many(db[name].ids()) if item is not None]
    return {item.id: (item.vector.tobytes(), item.metadata) for item in found}


def mend(path: Path, out: Path) -> RepairReport:
    """Repair, and look that the old files are as they were and the new database is whole."""
    before = {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else path.read_bytes()
    report = repair(path, out)
    after = {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else path.read_bytes()
    if path.is_dir():
        assert {name: data for name, data in before.items() if name != "LOCK"} == {
            name: data for name, data in after.items() if name != "LOCK"
        }
    check = kektordb.check(out, deep=True)
    assert check.verdict == "sound", check
    with kektordb.open(out, autosave="") as db:
        assert report.n_items == sum(len(db[name]) for name in db)
        assert report.n_keys == len(db.kv)
        if "a" in db and len(db["a"]):
            a = db["a"]
            assert sorted(a.search(vec(1, 24), k=len(a), ef_search=1000).ids) == sorted(a.ids())
            with_n = [id for id in a if "n" in a[id].metadata]
            assert a.ids("EXISTS(n)") == with_n
            foxes = [id for id in a if "fox" in a[id].metadata.get("t", "")]
            assert sorted(a.search(text="fox", k=1000).ids) == sorted(foxes)
        db.kv["goes on"] = b"yes"
    return report


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_sound_database_comes_through_as_it_is(tmp_path: Path, precision: str, metric: str) -> None:
    with make(tmp_path / "db", precision, metric) as db:
        expected = contents(db)
    report = repair(tmp_path / "db", tmp_path / "new")
    assert report.lost == report.rebuilt == ()
    with kektordb.open(tmp_path / "new") as db:
        assert contents(db) == expected
    assert mend(tmp_path / "db", tmp_path / "again").lost == ()


def blocks_of(path: Path, section: str) -> list[tuple[str, int, int]]:
    """File, offset and bytes of each block of a section of the newest snapshot."""
    opened = open_files(str(path), OsBackend(), read_only=True, recover=False)
    assert opened.snapshot is not None
    assert opened.replay is not None
    try:
        found = opened.snapshot.blocks(section)
        name = (lambda n: f"snapshot-{n:06d}.kdb") if path.is_dir() else (lambda n: path.name)
        return [(name(block.file), block.offset, block.stored_bytes) for block in found]
    finally:
        opened.snapshot.close()
        opened.replay.close()


def sections_of(path: Path) -> list[str]:
    opened = open_files(str(path), OsBackend(), read_only=True, recover=False)
    assert opened.snapshot is not None
    assert opened.replay is not None
    opened.snapshot.close()
    opened.replay.close()
    return [name for name, size in opened.snapshot.sections().items() if size]


def chosen(sections: list[str], precision: str) -> list[str]:
    """One section of each kind; what does not depend on the precision once only."""
    kinds: dict[str, str] = {}
    for section in sections:
        kind = re.sub(r"/\d+/", "/F/", section.removeprefix("kv/"))
        if precision == "float32" or "vectors" in kind:
            kinds[kind if section.startswith("1/") else kind.partition("/")[0]] = section
    return list(kinds.values())


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_damaged_block_of_any_section_costs_what_was_in_it_alone(tmp_path: Path, precision: str) -> None:
    with make(tmp_path / "db", precision, "cosine" if precision == "int8" else "euclidean") as db:
        expected, keys = items(db), dict(db.kv)
        close = 0.02 if precision == "int8" else 0.0
    sections = sections_of(tmp_path / "db")
    assert {name.split("/")[1] for name in sections} >= {
        "alive",
        "vectors",
        "graph",
        "ids",
        "metadata",
        "columns",
        "text",
    }
    for section in chosen(sections, precision):
        blocks = blocks_of(tmp_path / "db", section)
        file, offset, n_bytes = blocks[len(blocks) // 2]
        damaged = tmp_path / "damaged"
        shutil.copytree(tmp_path / "db", damaged)
        flip(damaged / file, offset + n_bytes // 2)

        report = mend(damaged, tmp_path / "new")

        with kektordb.open(tmp_path / "new", read_only=True) as db:
            found, found_keys = items(db), {key: value for key, value in db.kv.items() if key != "goes on"}
            assert "no dimension" in db
            if not section.startswith("3/"):
                assert db["b"]["only"].metadata == {"n": 1}
        assert report.files
        part = section.split("/", 1)[1]
        if section.startswith("1/"):
            assert report.rebuilt == ("a",)
        lost_items = {id for lost in report.lost if lost.what == "items" and lost.index == "a" for id in lost.ids}
        n_lost = sum(lost.n for lost in report.lost if lost.what == "items" and lost.index == "a")
        lost_metadata = {id for lost in report.lost if lost.what == "metadata" for id in lost.ids}
        if section.startswith("3/") or part.startswith(("alive", "graph", "columns", "text")):
            assert found.keys() == expected.keys(), section
        assert len(expected) - len(found) == n_lost - len(lost_items & set(found)), section
        if part.startswith(("vectors", "ids")) and section.startswith("1/"):
            assert n_lost > 0, section
            if len(blocks) > 1:
                assert n_lost < len(expected), section
        for id, (vector, meta) in found.items():
            wanted = expected[id]
            if id not in lost_metadata:
                assert meta == wanted[1], (section, id)
            got, want = (np.frombuffer(data, np.float32) for data in (vector, wanted[0]))
            assert np.array_equal(got, want) if not close else np.allclose(got, want, atol=close), (section, id)
        if part != "pairs":
            assert found_keys == keys, section
        else:
            assert found_keys.items() <= keys.items()
            assert 0 < len(keys) - len(found_keys) < 60
            assert [lost.what for lost in report.lost] == ["keys"] * len(report.lost) != []
        if part.startswith(("alive", "graph", "columns", "text")):
            assert report.lost == (), section
        shutil.rmtree(damaged)
        shutil.rmtree(tmp_path / "new")


ENDS: list[tuple[str, Callable[[Path], None]]] = [
    ("manifest flipped", lambda path: flip(path / "MANIFEST", 30)),
    ("manifest empty", lambda path: (path / "MANIFEST").write_bytes(b"") and None),
    ("manifest gone", lambda path: (path / "MANIFEST").unlink()),
    ("header", lambda path: flip(path / "snapshot-000001.kdb", 20)),
    ("footer", lambda path: flip(path / "snapshot-000001.kdb", (path / "snapshot-000001.kdb").stat().st_size - 5)),
    ("footer gone", lambda path: cut(path / "snapshot-000001.kdb", 64)),
    ("half of the footer gone", lambda path: cut(path / "snapshot-000001.kdb", 31)),
    ("log header", lambda path: flip(path / "log-000002.aof", 20)),
    ("lock gone", lambda path: (path / "LOCK").unlink()),
]


def cut(path: Path, n: int) -> None:
    path.write_bytes(path.read_bytes()[:-n])


@pytest.mark.parametrize(("name", "harm"), ENDS, ids=[name for name, _ in ENDS])
def test_what_only_says_where_things_are_costs_nothing(tmp_path: Path, name: str, harm: Callable[[Path], None]) -> None:
    with make(tmp_path / "db") as db:
        expected = contents(db)
    harm(tmp_path / "db")
    report = mend(tmp_path / "db", tmp_path / "new")
    assert report.lost == ()
    with kektordb.open(tmp_path / "new", read_only=True) as db:
        (db.kv.get("goes on"))
        found = contents(db)
    assert found.replace(', "goes on": "796573"', "").replace('"goes on": "796573", ', "") == expected


def test_a_manifest_and_a_footer_at_once_cost_certainty(tmp_path: Path) -> None:
    with make(tmp_path / "db") as db:
        expected = items(db)
    (tmp_path / "db" / "MANIFEST").unlink()
    cut(tmp_path / "db" / "snapshot-000001.kdb", 64)
    report = mend(tmp_path / "db", tmp_path / "new")
    assert [lost.what for lost in report.lost] == ["snapshot"]
    with kektordb.open(tmp_path / "new") as db:
        assert items(db) == expected


def test_a_lost_table_leaves_the_log(tmp_path: Path) -> None:
    with make(tmp_path / "db") as db:
        db.create_index("late").add("one", vec(1))
        db.kv["late"] = b"kept"
    path = tmp_path / "db" / "snapshot-000001.kdb"
    flip(path, path.stat().st_size - 100)
    report = mend(tmp_path / "db", tmp_path / "new")
    assert {lost.what for lost in report.lost} >= {"snapshot", "records", "items", "metadata"}
    with kektordb.open(tmp_path / "new") as db:
        assert list(db) == ["late"]
        assert db.kv["late"] == b"kept"
        assert db["late"].ids() == ["one"]


def test_an_older_snapshot_is_better_than_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(tmp_path / "db") as db:
        db.save()
        db.kv["behind"] = b"the second"
        names = sorted(path.name for path in (tmp_path / "db").glob("snapshot-*"))
    assert len(names) == 2
    path = tmp_path / "db" / names[1]
    flip(path, path.stat().st_size - 100)
    report = mend(tmp_path / "db", tmp_path / "new")
    assert [lost.what for lost in report.lost] == ["snapshot", "records"]
    with kektordb.open(tmp_path / "new") as db:
        assert len(db["a"]) == N - N // 10
        assert db.kv["behind"] == b"the second"


def test_every_bit_of_the_log_costs_its_record_alone(tmp_path: Path) -> None:
    with make(tmp_path / "db") as db:
        expected, keys = items(db), dict(db.kv)
        last = db._store.last_seq  # type: ignore[union-attr]
    log = tmp_path / "db" / "log-000002.aof"
    data = log.read_bytes()
    rng = random.Random(8)
    seen = set()
    for offset in sorted(rng.sample(range(64, len(data)), 20)):
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        flip(log, offset, rng.randrange(8))
        report = repair(tmp_path / "db", tmp_path / "new")
        with kektordb.open(tmp_path / "new", read_only=True) as db:
            found, found_keys = items(db), dict(db.kv)
            assert db._store.last_seq in (last, last - 1)  # type: ignore[union-attr]
        different = {id for id in {*found, *expected} if found.get(id) != expected.get(id)}
        assert different <= {"log1", "i1", "i2", "i3"}
        assert len(different) + (keys != found_keys) <= 1
        assert [lost.what for lost in report.lost] == ["records"], (offset, report.lost)
        seen |= different
        log.write_bytes(data)
    assert len(seen) > 2


def test_a_cut_log_keeps_what_is_before(tmp_path: Path) -> None:
    with make(tmp_path / "db") as db:
        pass
    log = tmp_path / "db" / "log-000002.aof"
    data = log.read_bytes()
    for size in (0, 63, 64, 65, 100, 200, len(data) - 1):
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        log.write_bytes(data[:size])
        report = repair(tmp_path / "db", tmp_path / "new")
        assert {lost.what for lost in report.lost} <= {"records"}
        with kektordb.open(tmp_path / "new") as db:
            assert len(db["a"]) >= N - N // 10 - 1
    shutil.rmtree(tmp_path / "new")
    log.unlink()
    report = repair(tmp_path / "db", tmp_path / "new")
    assert [lost.what for lost in report.lost] == ["records"]


def test_a_torn_tail_is_not_lost(tmp_path: Path) -> None:
    with make(tmp_path / "db") as db:
        shutil.copytree(tmp_path / "db", tmp_path / "copy")
        expected = contents(db)
    with (tmp_path / "copy" / "log-000002.aof").open("ab") as file:
        file.write(b"x" * 77)
    report = repair(tmp_path / "copy", tmp_path / "new")
    assert report.lost == ()
    with kektordb.open(tmp_path / "new") as db:
        assert contents(db) == expected


def test_records_behind_a_gap_do_what_they_can(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db", autosave="", aof_rewrite_percentage=0) as db:
        marks = []

        def did() -> None:
            marks.append(db._store.log_end[1])  # type: ignore[union-attr, index]

        db.create_index("x", metric="euclidean").add("one", [1.0, 2.0], {"n": 1})
        did()
        db["x"].delete("one")
        did()
        db["x"].add("one", [3.0, 4.0])  # though it is there
        db.drop_index("x")
        did()
        db.create_index("x", metric="dot", dim=3)
        did()
        with db.batch():
            db["x"].add("two", [1.0, 2.0, 3.0])
            db.kv["k"] = b"v"
        db["x"].update_metadata("two", {"n": 2})
        db["x"].compress("float16").wait()
        db.create_index("y")
        did()
        db["y"].add("gone", [1.0])
        db["y"].update_metadata("gone", {"n": 1})
    log = tmp_path / "db" / "log-000001.aof"
    data = log.read_bytes()
    # What is damaged; which indexes there are then; of which kinds, beside that record, something is lost.
    stories = [
        (0, ["x", "y"], []),
        (1, ["x", "y"], []),
        (2, ["y"], ["items", "metadata", "records"]),
        (3, ["x", "y"], []),
    ]
    stories += [(4, ["x", "y"], ["metadata"])]
    for at, indexes, others in stories:
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        flip(log, marks[at] + 40)
        report = mend(tmp_path / "db", tmp_path / "new")
        with kektordb.open(tmp_path / "new") as db:
            assert list(db) == indexes, at
            assert ("k" in db.kv) == (at != 3)
            assert db["y"].ids() == ([] if at == 4 else ["gone"])
            if at == 3:
                others = ["metadata"]
            if "x" in db:
                assert db["x"].config.metric == "dot"
                assert db["x"].ids() == ([] if at == 3 else ["two"])
                assert db["x"].config.precision == "float16"
        assert sorted({lost.what for lost in report.lost[1:]}) == others, (at, report.lost)
        assert report.lost[0].what == "records"
        log.write_bytes(data)


def test_a_damaged_backup_is_repaired(tmp_path: Path) -> None:
    with make(tmp_path / "db") as db:
        db.backup(tmp_path / "x.kdb")
        expected = items(db)
    size = (tmp_path / "x.kdb").stat().st_size
    data = (tmp_path / "x.kdb").read_bytes()
    for offset in (10, size - 3, size // 3, size // 2):
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        flip(tmp_path / "x.kdb", offset)
        report = mend(tmp_path / "x.kdb", tmp_path / "new")
        with kektordb.open(tmp_path / "new") as db:
            found = items(db)
        assert len(found) > 100
        assert found == expected or report.lost
        (tmp_path / "x.kdb").write_bytes(data)
    cut(tmp_path / "x.kdb", 20)
    assert mend(tmp_path / "x.kdb", tmp_path / "last").lost == ()
    flip(tmp_path / "x.kdb", size - 50)  # in what the end says of the table
    assert mend(tmp_path / "x.kdb", tmp_path / "lasting").lost == ()
    flip(tmp_path / "x.kdb", size - 100)  # and in the table
    assert "snapshot" in [lost.what for lost in mend(tmp_path / "x.kdb", tmp_path / "none").lost]


def test_nothing_but_noise(tmp_path: Path) -> None:
    """Whatever is done to the files, a repair ends, with a database that is sound."""
    with make(tmp_path / "db"):
        pass
    rng = random.Random(6)
    for round in range(12):
        damaged = tmp_path / f"damaged{round}"
        shutil.copytree(tmp_path / "db", damaged)
        for path in damaged.iterdir():
            data = bytearray(path.read_bytes())
            for _ in range(round):
                if data:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data)
        report = mend(damaged, tmp_path / f"new{round}")
        assert report.lost or round < 4


@pytest.mark.parametrize("n_bytes", [0, 1, 39, 64, 100, 5000])
def test_a_file_that_is_no_backup_is_lost(tmp_path: Path, n_bytes: int) -> None:
    (tmp_path / "file").write_bytes(random.Random(7).randbytes(n_bytes))
    report = mend(tmp_path / "file", tmp_path / "new")
    assert [lost.what for lost in report.lost] == ["snapshot"]
    assert report.n_items == 0


def test_pairs_are_found_again_behind_a_loss() -> None:
    rng = random.Random(4)
    pairs = {f"key-{i}": rng.randbytes(rng.randrange(60)) for i in range(200)}
    data = b"".join(LENGTHS.pack(len(k), len(v)) + k.encode() + v for k, v in pairs.items())
    for _ in range(100):
        start = rng.randrange(len(data))
        stop = min(len(data), start + rng.randrange(1, 400))
        lossy = bytearray(data)
        lossy[start:stop] = bytes(stop - start)
        found, lost = salvage_pairs(lossy, [(start, stop)])
        assert found.items() <= pairs.items()
        assert lost
        assert len(found) > 200 - (stop - start) // 4 - 12
    assert salvage_pairs(data, [])[0] == pairs
    assert salvage_pairs(bytes(len(data)), [(0, len(data))])[0] == {}


# --------------------------------------------------------------------------------------------------------- the new one


def test_bad_places_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    with make(tmp_path / "db") as db:
        with pytest.raises(DatabaseLocked):
            repair(tmp_path / "db", tmp_path / "new")
        expected = contents(db)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    for out in ("db", "photos", "photos/cat.jpg"):
        with pytest.raises(StorageError):
            repair(tmp_path / "db", tmp_path / out)
    for path in ("none", "photos", "photos/cat.jpg"):
        with pytest.raises(StorageError):
            repair(tmp_path / path, tmp_path / "new") if path != "photos/cat.jpg" else kektordb.restore(
                tmp_path / path, tmp_path / "new"
            )
    for bad in (None, "", 4):
        with pytest.raises(ConfigError):
            repair(bad, tmp_path / "new")
        with pytest.raises(ConfigError):
            repair(tmp_path / "db", bad)
    assert not (tmp_path / "new").exists()
    with kektordb.open(tmp_path / "db") as db:
        assert contents(db) == expected


@pytest.mark.skipif(os.name != "posix", reason="this system kills otherwise")
def test_a_killed_repair_leaves_nothing_that_opens(tmp_path: Path) -> None:
    with make(tmp_path / "db") as db:
        expected = contents(db)
    for n in (0, 50):
        done = killed_while_writing(f"repair({str(tmp_path / 'db')!r}, {str(tmp_path / 'new')!r})", n_blocks=n)
        assert done.returncode == -9, done.stderr
        with pytest.raises(StorageError, match="unfinished"):
            kektordb.open(tmp_path / "new")
        with pytest.raises(StorageError, match="unfinished"):
            kektordb.check(tmp_path / "new")
    assert repair(tmp_path / "db", tmp_path / "new").lost == ()
    with kektordb.open(tmp_path / "new") as db:
        assert contents(db) == expected
