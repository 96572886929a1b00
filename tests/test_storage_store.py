"""The store as the database sees it: what goes in comes out, by every door."""

import errno
import multiprocessing
import os
import pathlib
import re
import stat
import struct
import subprocess
import sys

import pytest
from faults import Fault, MemoryBackend
from stored import verified, write_backup

from kektordb import storage
from kektordb.errors import (
    ConfigError,
    CorruptSnapshot,
    DatabaseClosed,
    DatabaseLocked,
    ReadOnlyDatabase,
    StorageError,
    StorageFailed,
)
from kektordb.storage import OsBackend, Store
from kektordb.types import Section


def opened(path, **options):
    store = Store.open(path, **options)
    return store, [(record.seq, record.type, bytes(record.payload)) for record in store.replay()]


def section(name, data, item_bytes=4):
    return Section(name, item_bytes, len(data), lambda start, stop: memoryview(data)[start:stop])


def image(folder):
    return {entry.name: (entry.stat().st_mtime_ns, entry.read_bytes()) for entry in folder.iterdir()}


def test_records_come_back_in_order_with_type_and_payload(tmp_path):
    store, found = opened(tmp_path / "db")
    assert found == []

    first = store.append(7, [b"ab", memoryview(b"cd"), bytearray(b"e")])
    second = store.append(65_535, [])
    third = store.append(0, [memoryview(struct.pack("<3f", 1, 2, 3)).cast("f")])

    assert (first, second, third, store.last_seq) == (1, 2, 3, 3)
    store.close()
    store, found = opened(tmp_path / "db")
    assert found == [(1, 7, b"abcde"), (2, 65_535, b""), (3, 0, struct.pack("<3f", 1, 2, 3))]
    assert store.recovery_report.records_replayed == 3
    assert store.last_seq == 3
    assert store.append(1, [b"x"]) == 4
    store.close()


def test_records_survive_without_close(tmp_path):
    store, _ = opened(tmp_path / "db", sync="no")
    for i in range(20):
        store.append(i, [b"x" * i])

    reader, found = opened(tmp_path / "db", read_only=True)

    assert [kind for _, kind, _ in found] == list(range(20))
    reader.close()
    store.close()


def test_save_replaces_the_log_and_keeps_later_records(tmp_path):
    store, _ = opened(tmp_path / "db")
    store.append(1, [b"before"])
    data = os.urandom(5000)

    save = store.begin_save()
    store.append(2, [b"during"])
    report = store.write_snapshot(save, b"catalogue", [section("a/rows", data), section("empty", b"")], None)
    store.append(3, [b"after"])

    assert save.seq == 1
    assert report.bytes_written == os.path.getsize(tmp_path / "db" / "snapshot-000001.kdb")
    store.close()
    store, found = opened(tmp_path / "db")
    assert found == [(2, 2, b"during"), (3, 3, b"after")]
    assert store.snapshot.meta == b"catalogue"
    assert store.snapshot.seq == 1
    assert store.snapshot.sections() == {"a/rows": 5000, "empty": 0}
    assert store.snapshot.read("a/rows") == data
    assert store.snapshot.read("empty") == store.snapshot.read("unknown") == b""
    assert store.snapshot.size("unknown") == 0
    target = bytearray(5000)
    store.snapshot.read_into("a/rows", memoryview(target))
    assert target == data
    with pytest.raises(ValueError, match="5000 bytes"):
        store.snapshot.read_into("a/rows", memoryview(bytearray(4999)))
    assert sorted(os.listdir(tmp_path / "db")) == ["LOCK", "MANIFEST", "log-000002.aof", "snapshot-000001.kdb"]
    assert store.generation == 2
    assert store.snapshot_bytes >= 5000
    assert store.log_bytes == os.path.getsize(tmp_path / "db" / "log-000002.aof")
    store.close()


def test_a_save_that_never_ended_leaves_all_records(tmp_path):
    store, _ = opened(tmp_path / "db")
    store.append(1, [b"a"])
    store.begin_save()
    store.append(2, [b"b"])
    store.begin_save()
    store.append(3, [b"c"])
    store.close()

    store, found = opened(tmp_path / "db")

    assert [kind for _, kind, _ in found] == [1, 2, 3]
    sizes = [os.path.getsize(tmp_path / "db" / f"log-{i:06d}.aof") for i in (1, 2, 3)]
    assert store.log_bytes == sum(sizes)
    save = store.begin_save()
    store.write_snapshot(save, b"", [], None)
    assert store.log_bytes == 64
    with pytest.raises(StorageError, match="already"):
        store.write_snapshot(save, b"", [], None)
    store.close()


def test_open_removes_what_is_unfinished_or_unnamed_and_nothing_else(tmp_path):
    store, _ = opened(tmp_path / "db")
    store.close()
    for name in ("tmp-snapshot-000009.kdb", "snapshot-000009.kdb", "log-000004.aof", "notes.txt", "shop.kdb"):
        (tmp_path / "db" / name).write_bytes(b"x")

    Store.open(tmp_path / "db").close()

    assert sorted(os.listdir(tmp_path / "db")) == ["LOCK", "MANIFEST", "log-000001.aof", "notes.txt", "shop.kdb"]


def test_read_only_changes_nothing_on_disk(tmp_path):
    store, _ = opened(tmp_path / "db")
    store.append(1, [b"a"])
    store.write_snapshot(store.begin_save(), b"m", [section("s", b"x" * 999)], None)
    store.append(2, [b"b"])
    store.close()
    log = tmp_path / "db" / "log-000002.aof"
    log.write_bytes(log.read_bytes() + b"torn")
    (tmp_path / "db" / "tmp-x").write_bytes(b"")
    before = image(tmp_path / "db")

    reader, found = opened(tmp_path / "db", read_only=True)

    assert found == [(2, 2, b"b")]
    assert reader.snapshot.read("s") == b"x" * 999
    assert reader.recovery_report.torn_bytes == 4
    assert reader.last_seq == 2
    for write in (lambda: reader.append(1, []), reader.begin_save):
        with pytest.raises(ReadOnlyDatabase):
            write()
    reader.close()
    assert image(tmp_path / "db") == before


def test_read_only_beside_a_writer_sees_a_point_in_time(tmp_path):
    writer, _ = opened(tmp_path / "db")
    writer.append(1, [b"a"])
    reader = Store.open(tmp_path / "db", read_only=True)
    writer.write_snapshot(writer.begin_save(), b"", [], None)
    writer.append(2, [b"b"])

    found = [record.type for record in reader.replay()]

    assert found == [1]
    reader.close()
    writer.close()


class _BusyDisk(MemoryBackend):
    """Another process saves each time a reader has read the manifest and before it opens what that names."""

    saves_left = 0
    writer = None

    def open(self, path, mode):
        if mode == "read" and self.saves_left and not path.endswith("MANIFEST"):
            left, self.saves_left = self.saves_left, 0  # the writer opens files, too
            self.writer.write_snapshot(self.writer.begin_save(), b"", [], None)
            self.saves_left = left - 1
        return super().open(path, mode)


def test_a_reader_that_comes_between_two_publications_looks_again():
    disk = _BusyDisk()
    disk.writer, _ = opened("/db", backend=disk)
    disk.writer.append(1, [b"a"])
    disk.writer.write_snapshot(disk.writer.begin_save(), b"", [], None)
    disk.writer.append(1, [b"b"])
    disk.saves_left = 2

    reader = Store.open("/db", backend=disk, read_only=True)

    assert disk.saves_left == 0
    assert (reader.snapshot.number, reader.snapshot.seq) == (3, 2)


def test_a_change_of_the_working_directory_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store, _ = opened("db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    store.write_snapshot(store.begin_save(), b"", [], None)

    store.close()
    assert os.listdir(tmp_path / "elsewhere") == []


def test_second_open_in_this_process_names_it(tmp_path):
    store, _ = opened(tmp_path / "db")

    with pytest.raises(DatabaseLocked, match=f"process {os.getpid()} "):
        Store.open(tmp_path / "db")

    store.close()
    Store.open(tmp_path / "db").close()


def _try_open(path, pipe):
    try:
        Store.open(path).close()
        pipe.send("opened")
    except DatabaseLocked as error:
        pipe.send(str(error))


def test_second_open_in_a_child_process_names_the_holder(tmp_path):
    store, _ = opened(tmp_path / "db")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    child = context.Process(target=_try_open, args=(str(tmp_path / "db"), theirs))
    child.start()
    answer = ours.recv()
    child.join()

    assert f"process {os.getpid()} " in answer
    store.close()


def test_a_failed_open_releases_the_lock(tmp_path):
    store, _ = opened(tmp_path / "db")
    store.close()
    manifest = tmp_path / "db" / "MANIFEST"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-1])
    with pytest.raises(CorruptSnapshot):
        Store.open(tmp_path / "db")

    manifest.write_bytes(whole)

    Store.open(tmp_path / "db").close()


def test_files_are_private(tmp_path):
    store, _ = opened(tmp_path / "db")
    store.write_snapshot(store.begin_save(), b"", [], None)
    store.close()

    assert stat.S_IMODE(os.stat(tmp_path / "db").st_mode) == 0o700
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tmp_path / "db")} == {0o600}


def test_a_path_that_is_not_ours_is_refused_untouched(tmp_path):
    (tmp_path / "file").write_bytes(b"hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "holiday.jpg").write_bytes(b"jpeg")
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "snapshot-000003.kdb").write_bytes(b"x")

    with pytest.raises(StorageError, match="is a file"):
        Store.open(tmp_path / "file")
    with pytest.raises(CorruptSnapshot, match="not a file of kektordb"):
        Store.open(tmp_path / "file", read_only=True)
    with pytest.raises(StorageError, match="holiday"):
        Store.open(tmp_path / "folder")
    with pytest.raises(CorruptSnapshot, match="manifest is missing"):
        Store.open(tmp_path / "lost")
    with pytest.raises(StorageError, match="there is no database"):
        Store.open(tmp_path / "nothing", read_only=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="there is no database"):
        Store.open(tmp_path / "empty", read_only=True)
    with pytest.raises(StorageError, match="holiday"):
        Store.open(tmp_path / "folder", read_only=True)
    with pytest.raises(CorruptSnapshot, match="manifest is missing"):
        Store.open(tmp_path / "lost", read_only=True)
    with pytest.raises(StorageError, match="No such file"):
        Store.open(tmp_path / "nothing" / "below")
    assert os.listdir(tmp_path / "folder") == ["holiday.jpg"]
    assert os.listdir(tmp_path / "lost") == ["snapshot-000003.kdb"]


def test_a_directory_that_may_not_be_read_is_a_named_error(tmp_path, monkeypatch):
    def refuse(self, path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(OsBackend, "listdir", refuse)
    with pytest.raises(StorageError, match=r"cannot read .*: Permission denied"):
        Store.open(tmp_path, read_only=True)


@pytest.mark.parametrize("name", ["MANIFEST", "log-000002.aof", "snapshot-000001.kdb"])
def test_a_newer_format_is_refused_with_its_version(tmp_path, name, monkeypatch):
    monkeypatch.setattr("kektordb.storage.codec.FORMAT_VERSION", 2)
    store, _ = opened(tmp_path / "new")
    store.write_snapshot(store.begin_save(), b"", [], None)
    store.close()
    monkeypatch.setattr("kektordb.storage.codec.FORMAT_VERSION", 1)
    others = {"MANIFEST", "log-000002.aof", "snapshot-000001.kdb"} - {name}
    for other in others:  # only the file under test stays new
        _downgrade(tmp_path / "new" / other)

    with pytest.raises(StorageError, match="version 2"):
        opened(tmp_path / "new")


def _downgrade(path):
    from xxhash import xxh3_64_intdigest

    data = bytearray(path.read_bytes())
    data[8:12] = struct.pack("<I", 1)
    if path.name == "MANIFEST":
        data[16:24] = struct.pack("<Q", xxh3_64_intdigest(bytes(data[:16] + data[24:])))
    else:
        data[56:64] = struct.pack("<Q", xxh3_64_intdigest(bytes(data[:56])))
    path.write_bytes(data)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may do everything")
def test_no_permission_is_a_named_error(tmp_path):
    store, _ = opened(tmp_path / "db")
    store.close()
    os.chmod(tmp_path / "db", 0)

    with pytest.raises(StorageError, match="Permission denied"):
        Store.open(tmp_path / "db")

    os.chmod(tmp_path / "db", 0o700)


def test_no_permission_from_the_system_is_a_named_error():
    disk = MemoryBackend()
    disk.fault = Fault(0, 13, for_ever=True)

    with pytest.raises(StorageError, match="Permission denied"):
        Store.open("/db", backend=disk)

    assert disk.locked == set()


def test_options_are_checked():
    with pytest.raises(ConfigError, match="sync"):
        Store.open("/db", sync="never", backend=MemoryBackend())
    with pytest.raises(ConfigError, match="recover"):
        Store.open("/db", recover="all", backend=MemoryBackend())


def test_calls_out_of_turn_are_named():
    store = Store.open("/db", backend=MemoryBackend())
    with pytest.raises(StorageError, match="replayed"):
        store.append(1, [])
    list(store.replay())
    with pytest.raises(StorageError, match="already"):
        list(store.replay())

    store.close()
    store.close()

    for call in (lambda: store.append(1, []), store.begin_save, store.sync_now, lambda: list(store.replay())):
        with pytest.raises(DatabaseClosed):
            call()


def test_a_backup_is_one_file_that_opens(tmp_path):
    store, _ = opened(tmp_path / "db")
    data = os.urandom(3_000_000)
    store.write_snapshot(store.begin_save(), b"", [section("s", data)], None)
    store.append(1, [b"a"])
    (tmp_path / "shop.kdb").write_bytes(b"older backup")

    report = write_backup(store, tmp_path / "shop.kdb", b"meta", [section("s", data)], None)

    assert report.blocks_reused == 0
    assert sorted(os.listdir(tmp_path)) == ["db", "shop.kdb"]
    backup, found = opened(tmp_path / "shop.kdb", read_only=True)
    assert found == []
    assert backup.snapshot.read("s") == data
    assert (backup.snapshot.meta, backup.last_seq) == (b"meta", 1)
    assert verified(backup) == [None]
    with pytest.raises(ReadOnlyDatabase):
        backup.append(1, [])
    backup.close()
    store.close()


def test_a_backup_over_a_directory_is_refused(tmp_path):
    store, _ = opened(tmp_path / "db")

    with pytest.raises(StorageError, match="is a directory"):
        write_backup(store, tmp_path, b"", [], None)
    for name in ("MANIFEST", "log-000001.aof", "snapshot-000044.kdb"):
        with pytest.raises(StorageError, match="of the database itself"):
            write_backup(store, tmp_path / "db" / name, b"", [], None)

    store.close()


def test_sync_policies_are_told_apart_by_their_syncs():
    counts = {}
    for policy in ("always", "everysec", "no"):
        store, _ = opened("/db", sync=policy, backend=MemoryBackend())
        before = store.n_syncs
        for _ in range(3):
            store.append(1, [b"x"])
            store.after_append()
        counts[policy] = store.n_syncs - before
        store.sync_now()
        store.sync_now()
        assert store.n_syncs - before == (3 if policy == "always" else 1)
        store.close()
    assert counts == {"always": 3, "everysec": 0, "no": 0}


def test_the_background_sync_makes_durable_once():
    store, _ = opened("/db", backend=MemoryBackend())
    store.append(1, [b"x"])
    before = store.n_syncs

    store._syncer.tick()
    store._syncer.tick()

    assert store.n_syncs == before + 1
    store.close()


def test_a_failed_background_sync_stops_writing_for_good():
    disk = MemoryBackend()
    store, _ = opened("/db", backend=disk)
    store.append(1, [b"x"])
    disk.fault = Fault(0, 5, calls=frozenset({"sync"}))

    store._syncer.tick()

    for call in (lambda: store.append(1, []), store.sync_now, store.begin_save):
        with pytest.raises(StorageFailed):
            call()
    write_backup(store, "/x.kdb", b"", [], None)
    store.close()


def test_writers_wait_only_for_a_slow_sync():
    now = [100.0]
    store, _ = opened("/db", backend=MemoryBackend(), clock=lambda: now[0])
    store.append(1, [b"x"])
    syncer = store._syncer
    waited = []

    class Watched:
        def __enter__(self):
            waited.append(now[0])

        def __exit__(self, *_):
            pass

    lock, syncer._lock = syncer._lock, Watched()
    syncer._started_at = 100.0
    for now[0] in (100.5, 102.0, 102.5):
        store.after_append()

    assert waited == [102.5]
    syncer._lock, syncer._started_at = lock, None
    store.close()


def test_concurrent_callers_share_a_sync():
    store, _ = opened("/db", sync="always", backend=MemoryBackend())
    store.append(1, [b"a"])
    store.append(1, [b"b"])
    before = store.n_syncs

    store.after_append()
    store.after_append()

    assert store.n_syncs == before + 1
    store.close()


def test_importing_the_storage_loads_no_blosc2():
    code = "import sys, kektordb.storage; sys.exit('blosc2' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_struct_in_the_storage_is_little_endian():
    for path in pathlib.Path(storage.__file__).parent.glob("*.py"):
        for found in re.findall(r"Struct\((.*?)\)", path.read_text()):
            assert found.startswith('"<'), f"{path.name}: {found}"
