"""A backup is one file, whole or not there; a restored database is the same, whole or not there."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from faults import Fault, MemoryBackend, crash_states
from test_crash import Life, contents, everything
from writer import vec

import kektordb
from kektordb.database import Database
from kektordb.errors import (
    ConfigError,
    CorruptSnapshot,
    DatabaseClosed,
    KektorError,
    StorageError,
    StorageFailed,
    StorageFull,
)
from kektordb.safety.backup import restore
from kektordb.storage import restore_archive

ROOT = Path(kektordb.__file__).parent.parent


def filled(path: str | Path, n: int = 40) -> Database:
    db = kektordb.open(path, autosave="", n_threads=1)
    a = db.create_index("a", metric="euclidean", m=4, ef_construction=20, text_language="english")
    a.add_batch([f"i{i}" for i in range(n)], [vec(i) for i in range(n)], [{"n": i, "t": f"fox {i}"} for i in range(n)])
    db.create_index("ångström", precision="int8").add_batch([f"b{i}" for i in range(20)], [vec(i) for i in range(20)])
    db.create_index("empty")
    db.create_index("gone")
    db.drop_index("gone")
    a.delete("i3")
    db.kv["k\0ey"] = b"value" * 10
    return db


def same(path: Path, expected: str, read_only: bool = False) -> None:
    with kektordb.open(path, read_only=read_only, autosave="", n_threads=1) as db:
        assert contents(db) == expected
        if "a" in db and db["a"].config.text_language:
            assert len(db["a"].search(text="fox", k=100)) == len(db["a"])


@pytest.mark.parametrize("saved", [False, True])
def test_a_backup_opens_and_is_restored(tmp_path: Path, saved: bool) -> None:
    with filled(tmp_path / "db") as db:
        if saved:
            db.save()
            db["a"].add("late", vec(77), {"n": 77, "t": "fox"})
        expected = contents(db)

        report = db.backup(tmp_path / "ünï code.kdb")

        db["a"].add("later", vec(78), {"n": 78})
    file = tmp_path / "ünï code.kdb"
    assert report.bytes_written == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    same(file, expected, read_only=True)
    restore(file, tmp_path / "restored")
    same(tmp_path / "restored", expected)
    assert kektordb.check(tmp_path / "restored", deep=True).verdict == "sound"
    with kektordb.open(tmp_path / "restored") as db:
        db["a"].add("new", vec(79), {"n": 79, "t": "fox"})
        db.save()
        expected = contents(db)
    same(tmp_path / "restored", expected)


@pytest.mark.parametrize("kind", ["nothing", "keys only", "memory", "no dimension"])
def test_any_database_is_backed_up(tmp_path: Path, kind: str) -> None:
    with kektordb.open(":memory:" if kind == "memory" else tmp_path / "db") as db:
        if kind != "nothing":
            db.kv["key"] = b"value"
        if kind == "memory":
            db.create_index("a", text_language="english").add("one", vec(1), {"t": "fox"})
        if kind == "no dimension":
            db.create_index("a")
        expected = contents(db)
        db.backup(tmp_path / "x.kdb")
        assert db.check(deep=True).verdict == "sound"
    restore(tmp_path / "x.kdb", tmp_path / "restored")
    same(tmp_path / "x.kdb", expected, read_only=True)
    same(tmp_path / "restored", expected)


def test_a_read_only_database_is_backed_up_beside_its_writer(tmp_path: Path) -> None:
    with filled(tmp_path / "db") as writer, kektordb.open(tmp_path / "db", read_only=True) as reader:
        expected = contents(reader)
        writer["a"].delete("i5")
        reader.backup(tmp_path / "x.kdb")
    same(tmp_path / "x.kdb", expected, read_only=True)
    with kektordb.open(tmp_path / "x.kdb", read_only=True) as db:
        db.backup(tmp_path / "x.kdb")  # over itself
    same(tmp_path / "x.kdb", expected, read_only=True)


def test_writes_during_a_backup_are_not_in_it(tmp_path: Path) -> None:
    during: list[int] = []
    with filled(tmp_path / "db") as db:
        expected = contents(db)

        def write(done: int, total: int) -> None:
            assert 0 < done <= total
            during.append(done)
            if len(during) < 20:
                db["a"].upsert("i1", vec(900 + len(during)), {"n": -1, "t": "fox"})
                db["a"].delete(f"i{10 + len(during)}")

        db.backup(tmp_path / "x.kdb", progress=write)
        assert len(during) > 3
        changed = contents(db)
        db.save()
    same(tmp_path / "x.kdb", expected, read_only=True)
    same(tmp_path / "db", changed)


def test_a_save_after_a_backup_writes_what_has_changed(tmp_path: Path) -> None:
    with filled(tmp_path / "db") as db:
        db.save()
        db["a"].upsert("i1", vec(901), {"n": -1, "t": "fox"})
        db.backup(tmp_path / "x.kdb")
        db["a"].upsert("i2", vec(902), {"n": -2, "t": "fox"})
        db.save()
        expected = contents(db)
        same(tmp_path / "db", expected, read_only=True)
    assert kektordb.check(tmp_path / "db", deep=True).verdict == "sound"


def test_bad_targets_are_refused(tmp_path: Path) -> None:
    with filled(tmp_path / "db") as db:
        (tmp_path / "link").symlink_to(tmp_path / "db" / "MANIFEST")
        before = {path: path.read_bytes() for path in (tmp_path / "db").iterdir()}
        for target in (tmp_path / "db", tmp_path / "db" / "MANIFEST", tmp_path / "link", tmp_path / "none" / "x.kdb"):
            with pytest.raises(StorageError):
                db.backup(target)
        for bad in (None, 3, "", "a\0b"):
            with pytest.raises(ConfigError):
                db.backup(bad)
        with pytest.raises(ConfigError):
            db.backup(tmp_path / "x.kdb", progress=3)
        with pytest.raises(ConfigError), db.batch():
            db.backup(tmp_path / "x.kdb")
        assert before == {path: path.read_bytes() for path in (tmp_path / "db").iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "link"]
    with pytest.raises(DatabaseClosed):
        db.backup(tmp_path / "x.kdb")


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.kdb").symlink_to(tmp_path / "elsewhere" / "x.kdb")
    with filled(tmp_path / "db") as db:
        expected = contents(db)
        for _ in range(2):
            db.backup(tmp_path / "link.kdb")
    assert (tmp_path / "link.kdb").is_symlink()
    same(tmp_path / "elsewhere" / "x.kdb", expected, read_only=True)


def test_two_threads_do_not_write_the_same_backup(tmp_path: Path) -> None:
    errors: list[Exception] = []
    with filled(tmp_path / "db") as db, filled(tmp_path / "other") as other:

        def again() -> None:
            try:
                other.backup(tmp_path / "x.kdb")
            except StorageError as error:
                errors.append(error)

        def start(done: int, total: int) -> None:
            if not errors:
                thread = threading.Thread(target=again)
                thread.start()
                thread.join()

        db.backup(tmp_path / "x.kdb", progress=start)
        assert len(errors) == 1
        assert "already" in str(errors[0])
        same(tmp_path / "x.kdb", contents(db), read_only=True)


def test_an_abandoned_attempt_goes_with_the_next(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    left = tmp_path / f"tmp-{gone.pid}-x.kdb"
    alive = tmp_path / f"tmp-{os.getppid()}-x.kdb"
    other = tmp_path / f"tmp-{gone.pid}-y.kdb"
    for path in (left, alive, other):
        path.write_bytes(b"half")
    with kektordb.open(":memory:") as db:
        db.backup(tmp_path / "x.kdb")
    assert not left.exists()
    assert alive.exists()
    assert other.exists()


def test_after_a_failure_what_is_there_can_be_saved_elsewhere(tmp_path: Path) -> None:
    disk = MemoryBackend()
    db = Database.open("/db", backend=disk, autosave="", sync="always", n_threads=1)
    db.create_index("a").add("one", vec(1))
    disk.fault = Fault(0, errno.EIO, calls=frozenset({"sync"}), drop=True)
    with pytest.raises(StorageFailed):
        db["a"].add("two", vec(2))
    disk.fault = None
    db.backup("/x.kdb")
    copy = Database.open("/x.kdb", backend=disk.copy(), read_only=True)
    assert copy["a"].ids() == ["one"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, -1], ids=["EIO", "ENOSPC", "short"])
def test_a_backup_that_fails_leaves_the_older_one(code: int) -> None:
    disk = MemoryBackend()
    db = Database.open("/db", backend=disk, autosave="", n_threads=1)
    db.create_index("a").add("one", vec(1))
    db.backup("/x.kdb")
    old = disk.image()["/x.kdb"]
    db["a"].add("two", vec(2))
    n_failed = 0
    for at in range(100):
        disk.fault = Fault(at, code)
        try:
            db.backup("/x.kdb")
        except StorageError:
            n_failed += 1
            image = disk.image()
            assert image["/x.kdb"] == old or at > 3, "the last call makes the name durable"
            assert not [path for path in image if path.startswith("/tmp-")]
        if disk.fault.n_raised == 0:
            break
    assert n_failed > 3
    disk.fault = None
    assert Database.open("/x.kdb", backend=disk.copy(), read_only=True)["a"].ids() == ["one", "two"]
    db["a"].add("three", vec(3))


# ----------------------------------------------------------------------------------------------------------- restoring


def test_restore_wants_an_empty_place_and_a_sound_backup(tmp_path: Path) -> None:
    with filled(tmp_path / "db") as db:
        db.backup(tmp_path / "x.kdb")
        db.save()
        expected = contents(db)
    data = (tmp_path / "x.kdb").read_bytes()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for target in ("db", "photos", "file", "dangling", "x.kdb", "none/deeper"):
        with pytest.raises(StorageError):
            restore(tmp_path / "x.kdb", tmp_path / target)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    same(tmp_path / "db", expected)
    for source in ("none", "db", "photos/cat.jpg", "db/MANIFEST"):
        with pytest.raises(StorageError):
            restore(tmp_path / source, tmp_path / "new")
    rng = random.Random(5)
    for _ in range(30):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "bad.kdb").write_bytes(damaged)
        with pytest.raises(CorruptSnapshot):
            restore(tmp_path / "bad.kdb", tmp_path / "new")
        (tmp_path / "bad.kdb").write_bytes(data[: rng.randrange(len(data))])
        with pytest.raises(CorruptSnapshot):
            restore(tmp_path / "bad.kdb", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "new")
    restore(tmp_path / "x.kdb", tmp_path / "way")
    same(tmp_path / "new", expected)


def test_a_restored_database_is_another_one(tmp_path: Path) -> None:
    with filled(tmp_path / "db") as db:
        db.backup(tmp_path / "x.kdb")
        assert db._store is not None
        restore(tmp_path / "x.kdb", tmp_path / "new")
        with kektordb.open(tmp_path / "new") as new:
            assert new._store is not None
            assert new._store._directory is not None
            assert db._store._directory is not None
            assert new._store._directory.manifest.uuid != db._store._directory.manifest.uuid
            assert new._store.last_seq == db._store.last_seq


def backup_on(disk: MemoryBackend) -> str:
    db = Database.open("/db", backend=disk, autosave="", n_threads=1)
    db.create_index("a", metric="euclidean").add("one", vec(1), {"n": 1})
    db.kv["k"] = b"v"
    db.backup("/x.kdb")
    found = contents(db)
    db.close()
    return found


def opened_or_not(disk: MemoryBackend) -> str | None:
    """Return what a database at /new holds; None when it does not open, or is as empty as what was never there."""
    try:
        db = Database.open("/new", backend=disk, autosave="", n_threads=1)
    except StorageError as error:
        if "unfinished" not in str(error):
            raise
        return None
    return contents(db) if len(db) or len(db.kv) else None


def test_a_crash_during_a_restore_leaves_all_or_nothing() -> None:
    disk = MemoryBackend()
    expected = backup_on(disk)
    disk.history.clear()
    start = disk.copy()
    restore_archive("/x.kdb", "/new", None, start)
    start.mark("done")

    n = whole = 0
    for state in crash_states(start.history, seed=3, per_step=30):
        # The history begins with the restore: what was there before has to be put there.
        state.files.setdefault("/x.kdb", disk.copy().files["/x.kdb"])
        again = state.copy()
        found = opened_or_not(state)
        assert found in (None, expected), state.story
        assert found == expected or "done" not in state.marks, state.story
        n, whole = n + 1, whole + (found is not None)
        if found is None:
            restore_archive("/x.kdb", "/new", None, again)
            assert opened_or_not(again) == expected, state.story
    assert n > 80
    assert 0 < whole < n


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, -1], ids=["EIO", "ENOSPC", "short"])
def test_a_restore_that_fails_can_be_done_again(code: int) -> None:
    source = MemoryBackend()
    expected = backup_on(source)
    n_failed = 0
    for at in range(100):
        disk = source.copy()
        disk.fault = Fault(at, code)
        try:
            restore_archive("/x.kdb", "/new", None, disk)
        except KektorError:
            n_failed += 1
        if not disk.fault.n_raised:
            break
        disk.fault = None
        found = opened_or_not(disk.copy())
        assert found in (None, expected)
        if found is None:
            restore_archive("/x.kdb", "/new", None, disk)
        assert opened_or_not(disk) == expected
    assert n_failed > 10


def test_a_full_disk_is_an_error_and_leaves_nothing_behind() -> None:
    disk = MemoryBackend()
    backup_on(disk)
    disk.capacity = sum(len(node.data) for node in disk.files.values()) + 1000
    before = disk.image()
    with pytest.raises(StorageFull):
        restore_archive("/x.kdb", "/new", None, disk)
    left = {path: data for path, data in disk.image().items() if path not in before}
    assert set(left) <= {"/new/LOCK"}


KILLED = """
import sys, kektordb
from kektordb.storage import archive, snapshot_writer
what, where = sys.argv[1:]
archive.COPY_BYTES = snapshot_writer.BLOCK_BYTES = 64
def told(done, total):
    print(done, flush=True)
if what == "backup":
    with kektordb.open(where + "/db", autosave="") as db:
        while True:
            db.backup(where + "/x.kdb", progress=told)
else:
    kektordb.restore(where + "/x.kdb", where + "/new", progress=told)
    print("done", flush=True)
"""


def killed(what: str, where: Path, after: int) -> list[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, what, str(where)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(after)]
        process.kill()
        return said + process.stdout.readlines()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")
def test_kill_during_backup_and_restore(tmp_path: Path) -> None:
    with filled(tmp_path / "db") as db:
        db.backup(tmp_path / "x.kdb")
        old = contents(db)
        db["a"].add("late", vec(88), {"n": 88, "t": "fox"})
        new = contents(db)
    rng = random.Random(1)
    for _ in range(3):
        assert killed("backup", tmp_path, rng.randrange(1, 60))
        with kektordb.open(tmp_path / "x.kdb", read_only=True) as db:
            assert contents(db) in (old, new)
    with kektordb.open(tmp_path / "db") as db:
        db.backup(tmp_path / "x.kdb")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("tmp-")]
    for _ in range(3):
        said = killed("restore", tmp_path, rng.randrange(1, 60))
        if b"done\n" not in said:
            try:
                same(tmp_path / "new", new)  # it was killed when all was done, and only not said yet
            except StorageError:
                restore(tmp_path / "x.kdb", tmp_path / "new")
        same(tmp_path / "new", new)
        for path in (tmp_path / "new").iterdir():
            path.unlink()


def test_the_whole_life_is_backed_up_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kektordb.upkeep.maintenance.Upkeep.start", lambda *_: None)
    disk = MemoryBackend()
    life = Life(disk, "no")
    note = life.note
    n = 0

    def noted(kind: str) -> None:
        nonlocal n
        note(kind)
        if not life.db.closed and not life.db._save_lock.is_taken:
            life.db.backup("/x.kdb")
            assert contents(Database.open("/x.kdb", backend=disk.copy(), read_only=True)) == contents(life.db)
            n += 1

    life.note = noted  # type: ignore[method-assign]
    everything(life)
    assert n > 25
