"""Each sync of the storage is needed: without it, some crash breaks a promise. Where one is not, a reason is given."""

import re
from pathlib import Path

import pytest
from faults import STORAGE, MemoryBackend, crash_states
from stored import verified, write_backup
from test_storage_crash import Counter, check_promise, workload

from kektordb.errors import KektorError, StorageError
from kektordb.storage import Store
from kektordb.storage.archive import restore_archive

pytestmark = pytest.mark.crash

# Functions on the way from a purpose to its sync.
PASSED = {
    *("Log.sync", "Syncer._sync_locked", "Syncer.sync", "Directory.publish", "Store._publish", "open_files"),
    *("Pipe._write", "Pipe.write", "_Writer._put", "_Writer.add", "_write_blocks", "write_sections", "write_file"),
}

# Syncs without which no crash breaks a promise, and what they are for.
NOT_NEEDED = {
    ("sync", "Pipe._write"): "the disk does not fall far behind a long save; the last sync covers everything",
    ("sync_dir", "Store._publish_close_note"): "without the note a crash after close finds what one before it finds",
    ("sync", "Directory.publish_unfinished of its manifest"): "what a crash leaves of it does not open either",
    ("sync_dir", "Directory.publish_unfinished"): "files of a database without a manifest do not open either",
    ("sync_dir", "_copy"): "the log that is created next syncs the directory again",
    (
        "sync_dir",
        "_found of its log",
    ): "until the manifest is durable a restore is not done, and without a log not opened",
    ("sync_dir", "Replay._go_on_behind_damage of its log"): "the copies of the bad logs sync the directory again",
    ("sync", "Replay._go_on_behind_damage of its log"): "the records that are copied into it are synced with it",
}

# Modules whose syncs are for more than one directory.
ELSEWHERE = {"tail.py": "syncs the log of another process before a follower relies on it; see the tests of following"}


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch):
    monkeypatch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", 512)
    monkeypatch.setattr("kektordb.storage.log.MAX_PART_BYTES", 200)
    monkeypatch.setattr("kektordb.storage.log.JOIN_BYTES", 100)
    monkeypatch.setattr("kektordb.storage.pipe.SYNC_BYTES", 1000)


class Life:
    """A history of a small database, and what must hold after each crash in it."""

    def __init__(self, sync, live, start=None, marks=(), recover=None, restores=False):
        disk = MemoryBackend() if start is None else start.copy()
        self.sync = sync
        self.marks = marks
        self.recover = recover
        self.restores = restores
        self.start = None if start is None else disk.copy()
        disk.history.clear()
        if start is not None:
            # A copy of a disk counts its files anew.
            for path, node in self.start.files.items():
                node.serial = disk.files[path].serial
        live(disk)
        self.history = disk.history

    def check_restored(self, history, seed, per_step):
        """A restore is whole or not there: what there is opens with everything, or not at all."""
        n = 0
        for state in crash_states(history, start=self.start, seed=seed, per_step=per_step):
            try:
                found = Store.open("/db", backend=state, read_only=True)
            except StorageError:
                assert ("durable", 3) not in state.marks, state.story
                continue
            assert found.snapshot is not None, state.story
            assert found.snapshot.size("state") == 12, state.story
            assert list(found.replay()) == []
            assert not any(error for error in verified(found)), state.story
            n += 1
        return n

    def sites(self):
        return sorted({purpose(step) for step in self.history if step[0] in ("sync", "sync_dir")})

    def without(self, site):
        return [step for step in self.history if step[0] not in ("sync", "sync_dir") or purpose(step) != site]

    def check(self, history, seed, per_step):
        """Raise at the first crash that breaks a promise; return how many were tried."""
        if self.restores:
            return self.check_restored(history, seed, per_step)
        n = 0
        for state in crash_states(history, start=self.start, seed=seed, per_step=per_step):
            set_aside = b"".join(data for path, data in state.image().items() if path.endswith(".torn"))
            marks = (*self.marks, *state.marks)
            special = [mark for mark in marks if mark[0] in ("backup", "evidence")]
            state.marks = tuple(mark for mark in marks if mark not in special)
            check_promise(state, self.sync, self.recover, goes_on=n % 4 == 0)
            for kind, what in special:
                if kind == "backup":
                    backup = Store.open("/backup.kdb", backend=state, read_only=True)
                    assert backup.snapshot.size("state") == 4 * what, state.story
                elif what not in set_aside:  # otherwise a later tail may take its place
                    assert what in b"".join(state.image().values()), state.story
            n += 1
        return n


def purpose(step):
    """Tell the kind of a sync from what it is for."""
    kind, site = step[0], step[2]
    callers = [name for name in site.callers if name not in PASSED]
    if not callers:
        return kind, site.callers[0]
    if site.callers[0] == "Pipe._write":
        return kind, "Pipe._write"
    if callers[0] in ("Directory.create_log", "Directory._write_temporary", "Pipe.finish"):
        what = {"Directory.create_log": "its log", "Pipe.finish": "its file"}.get(callers[0], "its manifest")
        return kind, f"{callers[1]} of {what}"
    return kind, callers[0] + (" of its file" if site.callers[0] == "write_file" else "")


def torn(disk):
    """A writer is killed in the middle of a record; the next one shows what it found and goes on."""
    first = Counter(disk, sync="no")
    for number in range(3):
        first.add(number)
    disk.open("/db/log-000001.aof", "append").writev([b"the start of a record"])
    disk.locked.clear()
    second = Counter(disk, sync="no")
    disk.mark(("evidence", b"the start of a record"))
    shown(disk, second)
    second.add(3)
    second.store.close()


def shown(disk, database):
    disk.mark(("durable", len(database.state)))


def damaged_disk():
    """A disk on which a durable record is damaged."""
    disk = MemoryBackend()
    database = Counter(disk, sync="always")
    for number in range(6):
        database.add(number)
    database.store.close()
    disk.files["/db/log-000001.aof"].data[64 + 3 * 72 + 40] ^= 1
    return disk.copy()


def recover_prefix(disk):
    database = Counter(disk, sync="no", recover="prefix")
    shown(disk, database)
    database.store.close()


def tick(disk):
    database = Counter(disk, sync="no")
    for number in range(3):
        database.add(number)
        database.store._syncer.tick()
        disk.mark(("durable", number + 1))


def backup(disk):
    database = Counter(disk, sync="no")
    database.add(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kektordb.storage.pipe.SYNC_BYTES", 1 << 20)
        write_backup(database.store, "/backup.kdb", b"", database.sections())
    disk.mark(("backup", 1))
    database.add(1)


def backup_disk():
    """A disk with nothing on it but a backup."""
    disk = MemoryBackend()
    database = Counter(disk, sync="no")
    for number in range(3):
        database.add(number)
    write_backup(database.store, "/backup.kdb", b"", database.sections())
    for path in [path for path in disk.files if path.startswith("/db")]:
        del disk.files[path]
    disk.directories.discard("/db")
    return disk.copy()


def restore(disk):
    restore_archive("/backup.kdb", "/db", None, disk)
    disk.mark(("durable", 3))


def lives():
    yield Life("no", restore, backup_disk(), restores=True)
    yield Life("no", lambda disk: workload(disk, "no"))
    yield Life("always", lambda disk: workload(disk, "always"))
    yield Life("no", tick)
    yield Life("no", backup)
    yield Life("no", torn)
    damaged = damaged_disk()
    evidence = bytes(damaged.files["/db/log-000001.aof"].data[-100:])
    yield Life("no", recover_prefix, damaged, (("written", 3), ("evidence", evidence)), "prefix")


def test_every_sync_that_is_left_out_breaks_a_promise(campaign):
    seen, caught, n = set(), set(), 0
    few, many = campaign.count("PER_STEP", 3, 60), campaign.count("PER_STEP", 10, 60)
    for life in lives():
        n += life.check(life.history, seed=1, per_step=few)
        for site in life.sites():
            seen.add(site)
            if site in caught or (site in NOT_NEEDED and campaign.mark != "crash"):
                continue
            try:
                n += life.check(life.without(site), seed=2, per_step=many)
            except (AssertionError, KektorError):
                caught.add(site)

    campaign.note("crash states", "without one sync", sites=len(seen), caught=len(caught), states=n)
    print(*sorted(seen - caught), sep="\n")
    assert seen - caught == set(NOT_NEEDED)


def test_no_sync_of_the_storage_is_forgotten_by_these_lives():
    """A sync that is added to the code must be reached here, or the test above says nothing of it."""
    reached = {step[2].line for life in lives() for step in life.history if step[0] in ("sync", "sync_dir")}
    written = set()
    for path in set(Path(STORAGE).glob("*.py")) - {Path(STORAGE, name) for name in ELSEWHERE}:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(r"\b(file|_file|target|copy|log\.file)\.sync\(\)|backend\.sync_dir\(", line):
                written.add(f"{path.name}:{number}")
    assert written - reached == set()
    assert len(written) >= 10
