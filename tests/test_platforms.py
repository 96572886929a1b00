"""What Windows and macOS do otherwise with files, done to us here: their rules, laid upon the calls of this system.

These tests stand in for machines that are not at hand. They show that the code for those systems runs, and keeps to
their rules as far as they are written here; not that the rules are written down right.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl as real_fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from states import contents
from steps import prepare, step

import kektordb
from kektordb import DatabaseLocked, StorageError
from kektordb.database import Database
from kektordb.errors import StorageFailed
from kektordb.storage import backend as files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="this is Windows")

O_BINARY = 0x8000  # does nothing here
F_FULLFSYNC = 51


class Windows:
    """The rules of Windows: who has a file open keeps it from being removed, renamed and replaced; locks; syncs.

    Attributes
    ----------
    open : dict
        Path by descriptor.
    pauses : list of float
        Seconds that somebody waited.
    meanwhile : callable
        What others do while somebody waits.
    """

    def __init__(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        self.open: dict[int, str] = {}
        self.pauses: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.unlocked = 0
        self.synced: list[str] = []
        self._root = str(root)
        self._locked: dict[tuple[int, int], int] = {}
        self._real = SimpleNamespace(**{name: getattr(os, name) for name in ("open", "close", "fsync", "ftruncate")})
        patch.setattr(sys, "platform", "win32")
        patch.setattr(os, "O_BINARY", O_BINARY, raising=False)
        for name in ("O_NOFOLLOW", "pread", "preadv", "writev", "fdatasync"):
            patch.delattr(os, name)
        patch.delattr(files, "fcntl")
        patch.setattr(files, "msvcrt", SimpleNamespace(LK_NBLCK=2, LK_UNLCK=0, locking=self._locking), raising=False)
        patch.setattr(files, "time", SimpleNamespace(sleep=self._sleep, strftime=time.strftime))
        patch.setattr(os, "open", self._open)
        patch.setattr(os, "close", self._close)
        patch.setattr(os, "fsync", self._fsync)
        for name in ("replace", "rename", "unlink", "remove"):
            patch.setattr(os, name, self._unless_open(getattr(os, name)))

    def _open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Windows opens no directories", path)
        descriptor: int = self._real.open(path, flags, mode, **options)
        if str(path).startswith(self._root):
            assert flags & O_BINARY, f"{path} is opened as text"
            self.open[descriptor] = str(path)
        return descriptor

    def _close(self, descriptor: int) -> None:
        self.open.pop(descriptor, None)
        held = [key for key, holder in self._locked.items() if holder == descriptor]
        assert not held, "Windows lets go of a lock some time after the close"
        self._real.close(descriptor)

    def _fsync(self, descriptor: int) -> None:
        if real_fcntl.fcntl(descriptor, real_fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.synced.append(self.open[descriptor])
        self._real.fsync(descriptor)

    def _unless_open(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(*paths: Any, **options: Any) -> None:
            if any(str(path) in self.open.values() for path in paths):
                raise PermissionError(errno.EACCES, "the file is used by another process", str(paths[0]))
            real(*paths, **options)

        return call

    def _locking(self, descriptor: int, how: int, n_bytes: int) -> None:
        assert os.lseek(descriptor, 0, os.SEEK_CUR) >= 1 << 20, "what is locked cannot be read: the note lies before"
        assert n_bytes == 1
        stat = os.fstat(descriptor)
        key = (stat.st_dev, stat.st_ino)
        if how == 0 and self._locked.get(key) == descriptor:
            del self._locked[key]
            self.unlocked += 1
        elif how == 0 or key in self._locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            self._locked[key] = descriptor

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.meanwhile()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Windows]:
    monkeypatch.setattr("kektordb.upkeep.maintenance.Upkeep.start", lambda *_: None)
    with pytest.MonkeyPatch.context() as patch:
        yield Windows(patch, tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


def opened(path: Path, **options: Any) -> Database:
    return kektordb.open(path, autosave="", n_threads=1, sync=options.pop("sync", "no"), **options)


def names(path: Path, start: str) -> list[str]:
    return sorted(name for name in os.listdir(path) if name.startswith(start))


# -------------------------------------------------------------------------------------------------------------- Windows


@pytest.mark.parametrize("sync", ["always", "no"])
def test_a_database_lives_its_life_on_windows(windows: Windows, path: Path, sync: str) -> None:
    for n in range(4):
        with opened(path, sync=sync) as db:
            prepare(db)
            for i in range(10):
                step(db, 10 * n + i)
            found = contents(db)
            db.save()
            with opened(path, read_only=True) as reader:
                assert contents(reader) == found
            if n % 2:
                db.save()
        assert windows.open == {}
    assert windows.pauses == []
    assert windows.unlocked == 4
    assert kektordb.check(path, deep=True).verdict == "sound"


def test_a_second_open_names_the_holder_on_windows(windows: Windows, path: Path) -> None:
    with opened(path), pytest.raises(DatabaseLocked, match=f"process {os.getpid()} on .* since "):
        opened(path)
    opened(path).close()
    assert windows.open == {}


def test_files_that_a_reader_has_open_stay_and_go_with_a_later_save(windows: Windows, path: Path) -> None:
    with opened(path) as db:
        prepare(db)
        reader = opened(path, read_only=True)
        for n in range(6):
            step(db, n)
            db.save()
        kept = names(path, "log-")
        assert len(kept) > 1, "the reader's log stays"
        assert reader.refresh() > 0
        assert contents(reader) == contents(db)
        reader.close()
        step(db, 6)
        db.save()
        assert len(names(path, "log-")) == 1
        assert len(names(path, "snapshot-")) <= 2
    assert windows.open == {}
    assert kektordb.check(path).verdict == "sound"


def test_files_that_stayed_go_with_a_later_open(windows: Windows, path: Path) -> None:
    db = opened(path)
    prepare(db)
    reader = opened(path, read_only=True)
    for n in range(3):
        step(db, n)
        db.save()
    found = contents(db)
    db.close()
    n_logs = len(names(path, "log-"))
    assert n_logs > 1
    with opened(path) as db:
        assert contents(db) == found
        assert len(names(path, "log-")) == n_logs
    reader.close()
    opened(path).close()
    assert len(names(path, "log-")) == 1


def test_a_manifest_that_somebody_reads_is_replaced_a_moment_later(windows: Windows, path: Path) -> None:
    with opened(path) as db:
        prepare(db)
        other = os.open(path / "MANIFEST", os.O_RDONLY | O_BINARY)

        def leave() -> None:
            if len(windows.pauses) == 4:
                os.close(other)

        windows.meanwhile = leave
        db.save()
        assert len(windows.pauses) == 4
        found = contents(db)
    with opened(path) as db:
        assert contents(db) == found


def test_a_manifest_that_somebody_keeps_open_fails_a_save_and_nothing_else(windows: Windows, path: Path) -> None:
    with opened(path) as db:
        prepare(db)
        other = os.open(path / "MANIFEST", os.O_RDONLY | O_BINARY)
        with pytest.raises(StorageError) as failed:
            db.save()
        assert not isinstance(failed.value, StorageFailed)
        assert 0.5 < sum(windows.pauses) < 3
        step(db, 1)
        os.close(other)
        windows.pauses.clear()
        db.save()
        assert windows.pauses == []
        step(db, 2)
        found = contents(db)
    with opened(path) as db:
        assert contents(db) == found
    assert [name for name in os.listdir(path) if name.startswith("tmp-")] == []


def test_a_database_closes_though_somebody_keeps_the_manifest_open(windows: Windows, path: Path) -> None:
    db = opened(path)
    prepare(db)
    step(db, 1)
    found = contents(db)
    other = os.open(path / "MANIFEST", os.O_RDONLY | O_BINARY)
    db.close()
    os.close(other)
    with opened(path) as db:
        assert contents(db) == found


def test_a_reader_opens_a_file_that_is_refused_for_a_moment(
    windows: Windows, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path) as db:
        prepare(db)
        with opened(path, read_only=True) as reader:
            step(db, 1)
            real, n = os.open, 0

            def refused(*arguments: Any, **options: Any) -> int:
                nonlocal n
                n += 1
                if n < 4:
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                return real(*arguments, **options)

            with monkeypatch.context() as patch:
                patch.setattr(os, "open", refused)
                assert reader.refresh() == 1
            assert len(windows.pauses) == 3


@pytest.mark.parametrize("n_saves", [0, 3])
def test_a_follower_syncs_catches_up_and_is_promoted_on_windows(windows: Windows, path: Path, n_saves: int) -> None:
    with opened(path) as leader:
        prepare(leader)
        with opened(path.parent / "copy", follow=path, follow_interval=0) as follower:
            for n in range(5):
                step(leader, n)
            for _ in range(n_saves):
                step(leader, 7)
                leader.save()
            windows.synced.clear()
            step(leader, 8)
            follower.refresh()
            assert contents(follower) == contents(leader)
            assert any(str(name).startswith(str(path / "log-")) for name in windows.synced), "before it is given away"
            follower.save()
            follower.promote()
            step(follower, 9)
            found = contents(follower)
        step(leader, 9)
        leader.save()
    with opened(path.parent / "copy") as db:
        assert contents(db) == found
    assert windows.open == {}


def test_damage_is_set_aside_and_a_torn_tail_cut_off_on_windows(windows: Windows, path: Path) -> None:
    with opened(path, sync="always") as db:
        for n in range(9):
            db.kv[str(n)] = b"value"
    log = path / names(path, "log-")[-1]
    whole = log.read_bytes()
    damaged = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    log.write_bytes(damaged)
    with pytest.raises(kektordb.CorruptLog):
        opened(path)
    assert windows.open == {}
    with opened(path, recover="prefix") as db:
        assert 0 < len(db.kv) < 9
        db.kv["more"] = b"value"
        n_keys = len(db.kv)
    assert names(path, log.stem) == [f"{log.stem}.torn"]
    assert (path / f"{log.stem}.torn").read_bytes() == damaged

    db = opened(path)
    db.kv["torn"] = b"value"
    image = {name: (path / name).read_bytes() for name in os.listdir(path)}  # as a killed process would leave it
    db.close()
    for name, content in image.items():
        (path / name).write_bytes(content)
    last = path / [name for name in names(path, "log-") if name.endswith(".aof")][-1]
    last.write_bytes(image[last.name][:-5])
    with opened(path) as db:
        assert len(db.kv) == n_keys
        assert db.recovery_report is not None
        assert db.recovery_report.torn_bytes > 0


def test_a_backup_that_somebody_has_open_is_not_replaced_and_is_as_it_was(windows: Windows, path: Path) -> None:
    target = path.parent / "shop.kdb"
    with opened(path) as db:
        prepare(db)
        db.backup(target)
        image = target.read_bytes()
        other = os.open(target, os.O_RDONLY | O_BINARY)
        step(db, 1)
        with pytest.raises(StorageError):
            db.backup(target)
        assert target.read_bytes() == image
        os.close(other)
        db.backup(target)
        assert sorted(os.listdir(path.parent)) == ["db", "shop.kdb"]
        kektordb.restore(target, path.parent / "new")
        with opened(path.parent / "new") as new:
            assert contents(new) == contents(db)


def test_a_read_and_a_write_of_one_file_do_not_move_each_others_place(windows: Windows, tmp_path: Path) -> None:
    file = files.OsBackend().open(str(tmp_path / "file"), "create")
    file.writev((b"0123456789",))
    real = os.lseek
    beside: list[bool] = []

    def seek(descriptor: int, to: int, how: int) -> int:
        # Between the seek and the read of one thread another one tries to write.
        beside.append(file._placing.acquire(blocking=False))  # type: ignore[attr-defined]
        return real(descriptor, to, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "lseek", seek)
        assert file.pread(3, 4) == b"456"
    target = bytearray(7)
    assert file.pread_into(memoryview(target), 2) == 7
    assert bytes(target) == b"2345678"
    assert beside == [False]
    file.close()


HOOKLESS = """
import os, sys
import threading, random, logging, concurrent.futures.thread  # have hooks of their own
for name in ("register_at_fork", "fork", "sched_getaffinity"):
    delattr(os, name)
import kektordb
with kektordb.open(sys.argv[1]) as db:
    db.create_index("a", dim=2).add_batch(["x", "y"], [[1, 0], [0, 1]])
    print(db["a"].search([1, 0], k=1).ids[0])
"""


def test_a_system_that_cannot_fork_needs_no_hooks(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOOKLESS, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(kektordb.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("x\n", "")


# ---------------------------------------------------------------------------------------------------------------- macOS


class Mac:
    """Counts how things are made durable."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.full: list[str] = []
        self.half: list[str] = []
        self.error = 0
        self._fsync = os.fsync
        patch.setattr(sys, "platform", "darwin")
        patch.setattr(files, "fcntl", self)
        patch.setattr(os, "fsync", self._half)
        patch.delattr(os, "fdatasync")
        self.F_FULLFSYNC = F_FULLFSYNC
        for name in ("flock", "LOCK_EX", "LOCK_NB", "LOCK_UN"):
            setattr(self, name, getattr(real_fcntl, name))

    def fcntl(self, descriptor: int, what: int) -> None:
        assert what == F_FULLFSYNC
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self.full.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    def _half(self, descriptor: int) -> None:
        self.half.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        self._fsync(descriptor)


@pytest.fixture
def mac() -> Iterator[Mac]:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not tell what a descriptor is of")
    with pytest.MonkeyPatch.context() as patch:
        yield Mac(patch)


def test_a_sync_on_macos_goes_through_the_cache_of_the_drive(mac: Mac, path: Path) -> None:
    with opened(path, sync="always") as db:
        mac.full.clear()
        db.kv["k"] = b"v"
        assert mac.full == [str(path / "log-000001.aof")]
        mac.full.clear()
        db.save()
        assert str(path) in mac.full, "names as well"
        assert any("MANIFEST" in name for name in mac.full)
    assert mac.half == []


@pytest.mark.parametrize("code", sorted(files.CANNOT_FLUSH))
def test_a_file_system_on_macos_that_cannot_do_so_syncs_as_it_can(mac: Mac, path: Path, code: int) -> None:
    mac.error = code
    with opened(path, sync="always") as db:
        mac.half.clear()
        db.kv["k"] = b"v"
        assert mac.half == [str(path / "log-000001.aof")]


def test_a_sync_that_fails_on_macos_is_not_tried_in_another_way(mac: Mac, path: Path) -> None:
    with opened(path, sync="always") as db:
        db.kv["k"] = b"v"
        mac.error = errno.EIO
        with pytest.raises(StorageFailed):
            db.kv["k"] = b"w"
        assert mac.half == []
        mac.error = 0
        with pytest.raises(StorageFailed):
            db.kv["k"] = b"w"
        assert db.kv["k"] == b"v"
        with contextlib.suppress(StorageError):
            db.save()


def test_a_system_without_preadv_reads_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as db:
        prepare(db)
        for n in range(20):
            step(db, n)
        db.save()
        found = contents(db)
    monkeypatch.setattr(files, "MAX_READ_BYTES", 7)
    with opened(path, read_only=True) as db:
        assert contents(db) == found
    monkeypatch.delattr(os, "preadv")
    with opened(path, read_only=True) as db:
        assert contents(db) == found
