"""One writer per directory, whatever processes do: fork, spawn, end, are killed, or name the directory otherwise."""

from __future__ import annotations

import contextlib
import copy
import errno
import multiprocessing
import os
import pickle
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import MemoryBackend
from states import contents

import kektordb
from kektordb import DatabaseLocked, ForkedHandle, StorageError
from kektordb.database import Database
from kektordb.replication import Feed, Position
from kektordb.safety.dumping import dump
from kektordb.safety.undumping import load

if sys.platform != "win32":
    import fcntl

    FLOCK = fcntl.flock
ROOT = str(Path(kektordb.__file__).parent.parent)
VECTOR = [1.0, 0.0]
PATIENCE_S = 60

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
warned = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
links = pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system has other links")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


def written(path: Path, **options: Any) -> Database:
    db = kektordb.open(path, autosave="", n_threads=1, **options)
    if "a" not in db:
        db.create_index("a", dim=2).add("x", VECTOR)
        db.kv["k"] = b"v"
    return db


@contextlib.contextmanager
def child(run: Callable[[int], None]) -> Iterator[tuple[int, int]]:
    """Fork a child that runs a function of a pipe's end and goes when its parent leaves; give its id and our end."""
    ours, theirs = os.pipe()
    stay, leave = os.pipe()
    process = os.fork()
    if not process:
        os.close(ours)
        os.close(leave)
        try:
            run(theirs)
        except BaseException as error:
            os.write(theirs, f"failed: {error!r}".encode())
        os.close(theirs)
        os.read(stay, 1)
        os._exit(0)
    os.close(theirs)
    os.close(stay)
    try:
        yield process, ours
    finally:
        os.close(leave)
        os.close(ours)
        if sys.exc_info()[0] is not None:
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def said(pipe: int) -> str:
    """Return all that a child says. It must do so in time: a child that hangs is what is looked for."""
    found = b""
    while True:
        assert select.select([pipe], [], [], PATIENCE_S)[0], "the child hangs"
        data = os.read(pipe, 65536)
        if not data:
            return found.decode()
        found += data


def run_alone(script: str, *arguments: object, wait: bool = True) -> str:
    """Run a program; return what it prints."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


TRY = """
import sys, kektordb
try:
    kektordb.open(sys.argv[1]).close()
    print("opened")
except kektordb.DatabaseLocked as error:
    print(error)
"""


# ----------------------------------------------------------------------------------------------------------------- fork


def calls(db: Database, index: kektordb.Index, target: Path) -> list[Callable[[], Any]]:
    """What may be called on a database that is open: everything."""
    return [
        lambda: index.search(VECTOR),
        lambda: index.search_batch([VECTOR]),
        lambda: index.get("x"),
        lambda: len(index),
        lambda: list(index),
        lambda: "x" in index,
        lambda: index.count("a = 1"),
        lambda: index.stats(),
        lambda: index.config,
        lambda: index.add("child", VECTOR),
        lambda: index.upsert("child", VECTOR),
        lambda: index.delete("x"),
        lambda: index.vacuum(),
        lambda: db.index("a"),
        lambda: db.create_index("b"),
        lambda: db.drop_index("a"),
        lambda: list(db),
        lambda: len(db),
        lambda: "a" in db,
        lambda: db.kv["k"],
        lambda: db.kv.get("k"),
        lambda: list(db.kv),
        lambda: db.kv.__setitem__("k", b""),
        lambda: db.kv.__delitem__("k"),
        lambda: db.batch().__enter__(),
        lambda: db.__enter__(),
        lambda: db.save(),
        lambda: db.rewrite_aof(),
        lambda: db.sync(),
        lambda: db.backup(target),
        lambda: db.check(),
        lambda: db.check(deep=True),
        lambda: db.refresh(),
        lambda: db.promote(),
        lambda: db.stats(),
        lambda: db.metrics(),
        lambda: db.tasks,
        lambda: db.maintenance,
    ]


def opened_as(what: str, path: Path, leader: Path) -> Database:
    if what == "memory":
        db = kektordb.open(":memory:")
        db.create_index("a", dim=2).add("x", VECTOR)
        return db
    if what == "writer":
        return written(path)
    if what == "reader":
        written(path).close()
        return kektordb.open(path, read_only=True)
    written(leader).close()
    return kektordb.open(path, follow=leader, follow_interval=0.01)


@forks
@warned
@pytest.mark.parametrize("what", ["writer", "reader", "follower", "memory"])
def test_each_call_of_a_forked_child_is_told_and_its_parent_goes_on(tmp_path: Path, what: str) -> None:
    db = opened_as(what, tmp_path / "db", tmp_path / "leader")
    index, before = db["a"], contents(db)
    made = calls(db, index, tmp_path / "backup.kdb")

    def run(pipe: int) -> None:
        for n, call in enumerate(made):
            try:
                call()
                os.write(pipe, f"{n} was answered. ".encode())
            except ForkedHandle:
                pass
            except BaseException as error:
                os.write(pipe, f"{n} raised {error!r}. ".encode())
        db.close()
        os.write(pipe, b"done")

    with child(run) as (_, pipe):
        assert said(pipe) == "done"
    assert contents(db) == before
    assert db["a"].search(VECTOR, k=1).ids == ["x"]
    if not db.read_only:
        index.add("parent", VECTOR)
        assert index.ids() == ["x", "parent"]
    db.refresh()
    db.close()
    assert not (tmp_path / "backup.kdb").exists()


@forks
@warned
def test_a_child_builds_and_searches_on_all_cores_after_its_parent_has(path: Path) -> None:
    """It has none of the threads that its parent's loops left waiting for the next one."""
    db = kektordb.open(path, autosave="", n_threads=2)
    rows = np.random.default_rng(3).standard_normal((600, 4), np.float32)
    db.create_index("a").add_batch([f"i{n}" for n in range(600)], rows)
    truth = db["a"].search_batch(rows[:100], k=3, ef_search=600)

    def run(pipe: int) -> None:
        with kektordb.open(path, read_only=True, n_threads=2) as view:  # replays, which builds
            found = view["a"].search_batch(rows[:100], k=3, ef_search=600)
        with kektordb.open(":memory:", n_threads=2) as own:
            own.create_index("a").add_batch([f"i{n}" for n in range(600)], rows)
        os.write(pipe, b"same" if [hits.ids for hits in found] == [hits.ids for hits in truth] else b"others")

    with child(run) as (_, pipe):
        assert said(pipe) == "same"
    db["a"].upsert_batch([f"i{n}" for n in range(600)], rows[::-1])
    assert db["a"].search(rows[0], k=1, recall=1.0).ids == ["i599"]
    db.close()


@forks
@warned
@pytest.mark.parametrize("lock", ["commits", "saves"])
def test_a_child_that_is_forked_in_the_middle_of_a_write_or_save_does_not_hang(path: Path, lock: str) -> None:
    """What the parent's threads hold, nobody in the child lets go of."""
    db = written(path)
    index = db["a"]
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with (db._commits.lock if lock == "commits" else db._save_lock).alone:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)

    def run(pipe: int) -> None:
        for call in (lambda: index.add("y", VECTOR), db.save, db.refresh, db.sync, lambda: db.backup(path / "b")):
            with contextlib.suppress(ForkedHandle):
                call()
        db.close()
        os.write(pipe, b"done")

    with child(run) as (_, pipe):
        answer = said(pipe)
    done.set()
    thread.join()
    assert answer == "done"
    db.close()


@forks
@warned
def test_a_living_child_keeps_no_lock(path: Path) -> None:
    db = written(path)

    def run(pipe: int) -> None:
        try:
            kektordb.open(path)
        except DatabaseLocked as error:
            os.write(pipe, str(error).encode())

    with child(run) as (_, pipe):
        assert f"process {os.getpid()} " in said(pipe)
        db.kv["k"] = b"parent"
        db.close()
        db = written(path)  # though the child lives
        assert db.kv["k"] == b"parent"
        db.close()


@forks
@warned
def test_a_child_that_knows_nothing_of_the_lock_does_not_keep_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that C code forked runs nothing of ours: it has the files open until it ends."""
    db = written(path)
    monkeypatch.setattr("kektordb.storage.backend._held", set())
    with child(lambda pipe: None) as (_, pipe):
        said(pipe)
        with pytest.raises(DatabaseLocked):
            kektordb.open(path)
        db.close()
        written(path).close()


@forks
@warned
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not tell what a process has open")
def test_a_child_that_is_forked_while_the_lock_is_taken_keeps_nothing_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would keep the lock when its parent is killed, which unlocks nothing then."""
    written(path).close()
    ours, theirs = os.pipe()

    def flock(descriptor: int, how: int) -> None:
        process = os.fork() if how & fcntl.LOCK_EX else -1
        if not process:
            links = [
                os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if int(n) > 2 and is_open(n)
            ]
            os.write(theirs, b"kept " if any(str(path) in link for link in links) else b"free ")
            os._exit(0)
        if process > 0:
            os.waitpid(process, 0)
        FLOCK(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    written(path).close()
    os.close(theirs)
    assert said(ours) == "free free "  # of the file, and of the directory
    os.close(ours)


def is_open(descriptor: str) -> bool:
    try:
        os.fstat(int(descriptor))
    except OSError:
        return False
    return True


@forks
@warned
def test_a_child_opens_what_it_needs_and_takes_over_when_its_parent_has_closed(path: Path, tmp_path: Path) -> None:
    db = written(path)
    ours, theirs = os.pipe()

    def run(pipe: int) -> None:
        with kektordb.open(path, read_only=True) as reader:
            assert reader["a"].search(VECTOR, k=1).ids == ["x"]
        with kektordb.open(tmp_path / "own") as own:
            own.kv["k"] = b"mine"
        os.write(pipe, b"r")
        os.read(ours, 1)
        with kektordb.open(path) as mine:
            mine.kv["child"] = b"1"
        os.write(pipe, b"w")

    with child(run) as (_, pipe):
        os.close(ours)
        assert os.read(pipe, 1) == b"r"
        db.kv["parent"] = b"1"
        db.close()
        os.write(theirs, b"g")
        assert said(pipe) == "w"
    os.close(theirs)
    with kektordb.open(path) as db:
        assert {"parent", "child", "k"} == set(db.kv)


@forks
@warned
@pytest.mark.parametrize("store", ["files", "memory"])
def test_a_child_that_is_forked_in_a_batch_does_not_write_it_a_second_time(path: Path, store: str) -> None:
    db = written(path) if store == "files" else opened_as("memory", path, path)
    ours, theirs = os.pipe()
    process = -1
    try:
        with db.batch():
            db.kv["k"] = b"batch"
            db["a"].add("y", VECTOR)
            process = os.fork()
        if not process:
            os.write(theirs, b"written twice")
    except ForkedHandle:
        os.write(theirs, b"told")
    finally:
        if not process:
            os._exit(0)
    os.close(theirs)
    assert said(ours) == "told"
    os.close(ours)
    os.waitpid(process, 0)
    db.kv["after"] = b"1"
    assert db["a"].ids() == ["x", "y"]
    db.close()
    if store == "files":
        assert kektordb.check(path, deep=True).verdict == "sound"
        with kektordb.open(path) as db:
            assert db["a"].ids() == ["x", "y"]
            assert dict(db.kv) == {"k": b"batch", "after": b"1"}


DUMPS = ("dump", "dump of a directory", "dump as parquet")


@forks
@warned
@pytest.mark.parametrize("what", ["save", "backup", "backup of memory", "restore", *DUMPS, "load"])
def test_a_child_that_is_forked_in_the_middle_of_writing_a_file_leaves_it_to_its_parent(
    tmp_path: Path, what: str
) -> None:
    path, target = tmp_path / "db", tmp_path / "target"
    db = written(path) if what != "backup of memory" else opened_as("memory", path, path)
    before = contents(db)
    if what == "restore":
        db.backup(tmp_path / "source.kdb")
    if what == "load":
        dump(db, tmp_path / "source")
    if what == "dump as parquet":
        pytest.importorskip("pyarrow")
    ours, theirs = os.pipe()
    process = -1

    def fork(done: int, total: int) -> None:
        nonlocal process
        if process < 0:
            process = os.fork()

    try:
        if what == "save":
            db.save(progress=fork)
        elif what == "restore":
            kektordb.restore(tmp_path / "source.kdb", target, progress=fork)
        elif what == "load":
            load(tmp_path / "source", target, progress=fork)
        elif what in DUMPS:
            source = path if what == "dump of a directory" else db
            dump(source, target, progress=fork, format="parquet" if what == "dump as parquet" else "npy")
        else:
            db.backup(target, progress=fork)
        if not process:
            os.write(theirs, b"written twice")
    except ForkedHandle:
        os.write(theirs, b"told")
    except BaseException as error:
        os.write(theirs, repr(error).encode())
        if process:
            raise
    finally:
        if not process:
            os._exit(0)
    os.close(theirs)
    assert process > 0
    assert said(ours) == "told"
    os.close(ours)
    os.waitpid(process, 0)
    db.close()
    made = path if what == "save" else target
    if what in DUMPS:
        made = tmp_path / "loaded"
        load(target, made)
    assert kektordb.check(made, deep=True).verdict == "sound"
    with kektordb.open(made, read_only=True) as found:
        assert contents(found) == before


@forks
@warned
def test_a_forked_child_is_told_by_a_feed(tmp_path: Path) -> None:
    """The child of a thread that waits for a feed would wait for ever, for a lock that no thread of it holds."""
    db = written(tmp_path / "db")
    db.save()
    feed = Feed(tmp_path / "db")
    start = str(Position(db._store.lineage.history, 0, 0))
    with feed._lock:
        process = os.fork()
        if not process:
            signal.alarm(10)
            try:
                for call in (lambda: feed.read(start), lambda: feed.snapshot(len)):
                    with pytest.raises(ForkedHandle):
                        call()
                feed.close()
                os._exit(0)
            finally:
                os._exit(1)

    _, status = os.waitpid(process, 0)

    assert status == 0
    feed.snapshot(len)
    feed.close()
    db.close()


FORKS = """
import os, sys, kektordb
path, sync = sys.argv[1:]
db = kektordb.open(path, sync=sync)
index = db.create_index("a", dim=2)
index.add("before", [1, 0])
process = os.fork()
if not process:
    try:
        index.add("child", [1, 0])
    except kektordb.ForkedHandle:
        sys.exit(7)  # ends as programs do: what was registered for the end runs, objects are torn down
    sys.exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7
index.add("after", [0, 1])
db.save()
index.add("last", [0, 1])
try:
    kektordb.open(path)
except kektordb.DatabaseLocked:
    print("locked")
"""


@forks
@pytest.mark.parametrize("sync", ["always", "everysec", "no"])
def test_the_end_of_a_child_leaves_the_database_of_its_parent_whole(path: Path, sync: str) -> None:
    assert run_alone(FORKS, path, sync) == "locked\n"
    assert kektordb.check(path, deep=True).verdict == "sound"
    with kektordb.open(path) as db:
        assert db["a"].ids() == ["before", "after", "last"]


ORPHANS = """
import os, sys, kektordb
db = kektordb.open(sys.argv[1])
db.kv["k"] = b"v"
if not os.fork():
    print("child", flush=True)
    sys.stdin.read()
    os._exit(0)
os.wait()
"""


@forks
def test_a_child_that_outlives_its_killed_parent_keeps_no_lock(path: Path) -> None:
    command, pipe = [sys.executable, "-c", ORPHANS, str(path)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env={**os.environ, "PYTHONPATH": ROOT}) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"child\n"
        assert f"process {parent.pid} " in TRY_HERE(path)
        parent.kill()
        parent.wait()
        with kektordb.open(path) as db:
            assert db.kv["k"] == b"v"


# ------------------------------------------------------------------------------------------ multiprocessing, and copies


def look(path: str, pipe: Any) -> None:
    """The child of a test: read beside the writer, and try to write."""
    with kektordb.open(path, read_only=True) as db:
        found: list[Any] = [db["a"].search(VECTOR, k=1).ids]
    try:
        kektordb.open(path).close()
    except DatabaseLocked as error:
        found.append(str(error))
    pipe.send(found)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_spawned_child_reads_beside_the_writer_and_is_refused_the_lock(path: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no such start method")
    db = written(path)
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=look, args=(str(path), theirs))
    process.start()
    theirs.close()
    ids, refused = ours.recv()
    process.join()
    assert ids == ["x"]
    assert f"process {os.getpid()} " in refused
    db["a"].add("y", VECTOR)
    db.close()


def test_a_database_is_neither_pickled_nor_copied_and_says_what_to_do_instead(path: Path) -> None:
    db = written(path)
    for thing in (db, db["a"], db.kv):
        for how in (pickle.dumps, copy.copy, copy.deepcopy):
            if how is copy.copy and thing is not db:
                continue  # a second handle on the same database
            with pytest.raises(TypeError, match="read_only=True"):
                how(thing)
    db.close()


# ---------------------------------------------------------------------------------------------------------- second open


def test_a_second_open_is_refused_at_once_wherever_it_comes_from(path: Path) -> None:
    with written(path):
        refused = []
        with pytest.raises(DatabaseLocked, match=f"process {os.getpid()} on .* since "):
            kektordb.open(path)
        thread = threading.Thread(target=lambda: refused.append(TRY_HERE(path)))
        thread.start()
        thread.join()
        assert f"process {os.getpid()} " in refused[0]
        assert f"process {os.getpid()} " in run_alone(TRY, path)
        with pytest.raises(DatabaseLocked):
            kektordb.open(path, follow=path.parent / "other")
    assert run_alone(TRY, path) == "opened\n"


def TRY_HERE(path: Path) -> str:
    try:
        kektordb.open(path).close()
    except DatabaseLocked as error:
        return str(error)
    return "opened"


def test_who_is_refused_has_changed_nothing(path: Path) -> None:
    with written(path) as db:
        image = {file.name: file.read_bytes() for file in path.iterdir()}
        for _ in range(3):
            assert "open for writing" in TRY_HERE(path)
        assert {file.name: file.read_bytes() for file in path.iterdir()} == image
        db.kv["k"] = b"goes on"


@pytest.mark.parametrize("is_new", [True, False])
def test_one_of_many_that_open_at_the_same_time_gets_it(tmp_path: Path, is_new: bool) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for n in range(20):
            path = tmp_path / str(n)
            if not is_new:
                written(path).close()
            barrier = threading.Barrier(6)
            got: list[Any] = []

            def run(path: Path, barrier: threading.Barrier, got: list[Any]) -> None:
                barrier.wait()
                try:
                    got.append(kektordb.open(path))
                except Exception as error:
                    got.append(error)

            threads = [threading.Thread(target=run, args=(path, barrier, got)) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            opened = [found for found in got if isinstance(found, Database)]
            refused = [found for found in got if isinstance(found, DatabaseLocked)]
            assert (len(opened), len(refused)) == (1, 5), got
            opened[0].close()
    finally:
        sys.setswitchinterval(before)


class Meanwhile:
    """A disk on which somebody else makes the same database before the n-th call, unless it is locked by then."""

    def __init__(self, at: int) -> None:
        self.disk = MemoryBackend()
        self.other: Database | None = None
        self.n = 0
        self._at = at

    def __getattr__(self, name: str) -> Any:
        def call(path: str, *arguments: Any) -> Any:
            self.n += 1
            if self.n == self._at and not self.disk.locked:
                self.other = Database.open("/db", backend=self.disk, autosave="")
                self.other.kv["k"] = b"v"
                self.other.save()
                self.other.kv["l"] = b"w"
            if name == "mkdir" and self.disk.is_dir(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            return getattr(self.disk, name)(path, *arguments)

        return call


def test_who_looks_while_another_one_makes_the_database_is_refused_by_the_lock_alone() -> None:
    at, n_refused = 1, 0
    while True:
        disk = Meanwhile(at)
        try:
            Database.open("/db", backend=disk, autosave="").close()
            assert disk.other is None
        except DatabaseLocked:
            assert disk.other is not None
            n_refused += 1
            assert len(disk.other.kv) == 2
            disk.other.close()
        if disk.n < at:
            break
        at += 1
    assert n_refused > 5


def test_readers_need_no_lock_and_take_none(path: Path) -> None:
    readers = []
    with written(path) as db:
        note = (path / "LOCK").read_bytes()
        readers = [kektordb.open(path, read_only=True) for _ in range(3)]
        db.kv["k"] = b"2"
        assert [reader.refresh() for reader in readers] == [1, 1, 1]
        assert (path / "LOCK").read_bytes() == note
    with written(path) as db:  # beside readers
        db.kv["k"] = b"3"
        assert [reader.refresh() for reader in readers] == [1, 1, 1]
        for reader in readers:
            reader.close()
        assert "open for writing" in TRY_HERE(path)


HOLD = """
import os, sys, kektordb
db = kektordb.open(sys.argv[1], autosave="")
for n in range(5):
    db.kv[str(n)] = b"v"
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")
def test_the_lock_goes_with_its_holder_however_it_ends(path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert f"process {process.pid} " in TRY_HERE(path)
        with kektordb.open(path, read_only=True) as reader:
            assert len(reader.kv) == 5
        process.kill()
        process.wait()
    assert f"process {process.pid} ".encode() in (path / "LOCK").read_bytes(), "what it leaves is a note, not the lock"
    with kektordb.open(path) as db:
        assert len(db.kv) == 5
        assert f"process {os.getpid()} " in run_alone(TRY, path)


@pytest.mark.parametrize(
    "note", [b"", b"process 1 on elsewhere since long ago\n", b"\xff\x00" * 5000, b"process -1", b"\n\n"]
)
def test_what_an_old_lock_file_says_does_not_matter(path: Path, note: bytes) -> None:
    written(path).close()
    (path / "LOCK").write_bytes(note)
    with written(path):
        assert (path / "LOCK").read_bytes().startswith(b"process %d " % os.getpid())
        assert len((path / "LOCK").read_bytes()) < 500
        (path / "LOCK").write_bytes(note)
        with pytest.raises(DatabaseLocked) as refused:
            kektordb.open(path)
        assert len(str(refused.value)) < 600
        assert "open for writing in " in str(refused.value)


def test_a_database_without_its_lock_file_opens(path: Path) -> None:
    written(path).close()
    (path / "LOCK").unlink()
    written(path).close()


@forks
def test_to_remove_the_lock_file_does_not_unlock(path: Path) -> None:
    """As people do with what they take for the lock of a process that is gone."""
    with written(path) as db:
        (path / "LOCK").unlink()
        assert "open for writing" in TRY_HERE(path)
        assert "open for writing" in run_alone(TRY, path)
        db.kv["k"] = b"goes on"
        db.save()
    with written(path) as db:
        assert db.kv["k"] == b"goes on"


@links
def test_a_lock_file_that_leads_elsewhere_is_refused(path: Path, tmp_path: Path) -> None:
    written(path).close()
    (tmp_path / "letter").write_bytes(b"dear")
    (path / "LOCK").unlink()
    (path / "LOCK").symlink_to(tmp_path / "letter")
    with pytest.raises(StorageError):
        kektordb.open(path)
    assert (tmp_path / "letter").read_bytes() == b"dear"
    (path / "LOCK").unlink()
    (path / "LOCK").mkdir()
    with pytest.raises(StorageError):
        kektordb.open(path)
    with kektordb.open(path, read_only=True) as reader:
        assert reader.kv["k"] == b"v"


# ------------------------------------------------------------------------------------------ names of the same directory


@links
def test_another_name_of_the_same_directory_is_the_same_database(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(path, target_is_directory=True)
    (tmp_path / "folder").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path)
    names: list[str | Path] = [
        "db",
        "./db/",
        "inner/../db",
        f"{path}//",
        tmp_path / "link",
        tmp_path / "folder" / "db",
        "link/../db",
    ]
    with written(path) as db:
        for name in names:
            with pytest.raises(DatabaseLocked, match=f"process {os.getpid()} "):
                kektordb.open(name)
            with kektordb.open(name, read_only=True) as reader:
                assert reader.kv["k"] == b"v"
    for name in names:
        with kektordb.open(name) as db:
            db.kv[str(name)] = b""
            with pytest.raises(DatabaseLocked):
                kektordb.open(path)
            monkeypatch.chdir("/")
            db.save()
            monkeypatch.chdir(tmp_path)
    with kektordb.open(path) as db:
        assert set(db.kv) == {"k", *map(str, names)}


@forks
@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_database_whose_directory_was_taken_away_leaves_the_next_one_there_alone(path: Path, how: str) -> None:
    old = written(path)
    if how == "moved":
        path.rename(path.parent / "elsewhere")
    else:
        shutil.rmtree(path)
    with kektordb.open(path) as db:
        for n in range(3):
            db.kv["new"] = b"%d" % n
            db.save()
        image = {file.name: file.read_bytes() for file in path.iterdir()}
        with pytest.raises(StorageError, match="moved, removed or replaced"):
            old.save()
        with pytest.raises(StorageError):
            old.kv["k"] = b"into nothing"
        old.close()
        assert {file.name: file.read_bytes() for file in path.iterdir()} == image
        db.kv["new"] = b"last"
    with kektordb.open(path) as db:
        assert dict(db.kv) == {"new": b"last"}
    if how == "moved":
        with kektordb.open(path.parent / "elsewhere") as db:
            assert db["a"].ids() == ["x"]


# -------------------------------------------------------------------------------------------- file systems and locks


class Flock:
    """The locks of a file system that has none, or none on directories."""

    def __init__(self, code: int, directories_only: bool) -> None:
        self._code = code
        self._directories_only = directories_only

    def __call__(self, descriptor: int, how: int) -> None:
        if how & fcntl.LOCK_EX and (stat.S_ISDIR(os.fstat(descriptor).st_mode) or not self._directories_only):
            raise OSError(self._code, os.strerror(self._code))
        FLOCK(descriptor, how)


@forks
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    written(path).close()
    monkeypatch.setattr(fcntl, "flock", Flock(code, False))
    with pytest.raises(StorageError) as refused:
        kektordb.open(path)
    assert refused.value.errno == code
    with kektordb.open(path, read_only=True) as reader:
        assert reader.kv["k"] == b"v"


@forks
def test_a_file_system_that_locks_only_files_will_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", Flock(errno.EBADF, True))
    for _ in range(2):
        with written(path) as db:
            assert "open for writing" in TRY_HERE(path)
            db.save()
