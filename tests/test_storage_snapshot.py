"""Snapshots: what is shared with older files, and that no damaged byte is ever unpacked."""

import os
import random
import signal
import threading

import pytest
from faults import MemoryBackend
from stored import verified, write_backup
from xxhash import xxh3_64_intdigest

from kektordb.errors import CorruptData, CorruptLog, CorruptSnapshot, StorageError
from kektordb.storage import Store, snapshot
from kektordb.storage.codec import BLOCK, Footer, decode_footer, decode_table, encode_footer, encode_table
from kektordb.types import Section

BLOCK_BYTES = 4096


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", BLOCK_BYTES)


def section(name, data, item_bytes=4):
    frozen = bytes(data)
    return Section(name, item_bytes, len(frozen), lambda start, stop: frozen[start:stop])


def opened(disk, **options):
    store = Store.open("/db", backend=disk, **options)
    list(store.replay())
    return store


def save(store, *sections, meta=b"m", progress=None):
    return store.write_snapshot(store.begin_save(), meta, sections, progress)


def file_name(number):
    return f"/db/snapshot-{number:06d}.kdb"


@pytest.mark.parametrize("item_bytes", [1, 2, 4, 8, 100, 1000])
@pytest.mark.parametrize("kind", ["random", "zeros", "counting"])
def test_sections_of_any_size_come_back(item_bytes, kind):
    random_ = random.Random(3)
    sizes = (1, 7, 63, 64, 65, 255, 256, 257, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 10 * BLOCK_BYTES + 5)
    make = {"random": random_.randbytes, "zeros": bytes, "counting": lambda n: bytes(i // 4 % 256 for i in range(n))}
    data = {f"s{n}": make[kind](n) for n in sizes}
    disk = MemoryBackend()
    store = opened(disk)
    report = save(store, *(section(name, value, item_bytes) for name, value in data.items()))
    assert report.bytes_total <= report.bytes_written
    store.close()

    store = opened(disk)

    assert {name: bytes(store.snapshot.read(name)) for name in data} == data
    if kind != "random":
        assert report.bytes_written < sum(sizes)
    assert store.snapshot_bytes == report.bytes_total


def test_blocks_are_read_once_in_ascending_order_and_progress_reaches_the_end():
    data = os.urandom(3 * BLOCK_BYTES + 10)
    calls, steps = [], []

    def read(start, stop):
        calls.append((start, stop))
        return data[start:stop]

    save(
        opened(MemoryBackend()),
        Section("s", 4, len(data), read),
        section("t", b"xy"),
        progress=lambda done, total: steps.append((done, total)),
    )

    assert calls == [(i * BLOCK_BYTES, min((i + 1) * BLOCK_BYTES, len(data))) for i in range(4)]
    assert steps[-1] == (len(data) + 2, len(data) + 2)
    assert steps == sorted(steps)


def test_a_small_change_writes_little():
    disk = MemoryBackend()
    store = opened(disk)
    data = bytearray(random.Random(1).randbytes(100 * BLOCK_BYTES))
    first = save(store, section("s", data))
    data[5 * BLOCK_BYTES + 3] ^= 1

    second = save(store, section("s", data))

    assert (first.blocks_written, first.blocks_reused) == (100, 0)
    assert (second.blocks_written, second.blocks_reused) == (1, 99)
    assert second.bytes_written < 0.25 * first.bytes_written
    assert second.bytes_total == first.bytes_total
    store.close()
    store = opened(disk)
    assert store.snapshot.read("s") == data
    assert all(error is None for error in verified(store))
    assert {name for name in disk.files if name.endswith("kdb")} == {file_name(1), file_name(2)}


def test_growing_sections_share_their_full_blocks():
    disk = MemoryBackend()
    store = opened(disk)
    data = random.Random(1).randbytes(50 * BLOCK_BYTES + 100)
    save(store, section("s", data))

    report = save(store, section("s", data + b"more"))

    assert (report.blocks_written, report.blocks_reused) == (1, 50)
    store.close()
    assert opened(disk).snapshot.read("s") == data + b"more"


def test_a_file_hardly_used_is_copied_and_removed():
    disk = MemoryBackend()
    store = opened(disk)
    random_ = random.Random(2)
    data = bytearray(random_.randbytes(20 * BLOCK_BYTES))
    save(store, section("s", data))
    data[: 9 * BLOCK_BYTES] = random_.randbytes(9 * BLOCK_BYTES)
    save(store, section("s", data))
    assert {file_name(1), file_name(2)} <= disk.files.keys()
    data[9 * BLOCK_BYTES : 12 * BLOCK_BYTES] = random_.randbytes(3 * BLOCK_BYTES)

    report = save(store, section("s", data))  # 8 of 20 blocks of the first file are left

    assert report.blocks_written == 3 + 8
    assert {name for name in disk.files if name.endswith("kdb")} == {file_name(2), file_name(3)}
    store.close()
    assert opened(disk).snapshot.read("s") == data


def test_the_number_of_files_is_bounded():
    disk = MemoryBackend()
    store = opened(disk)
    random_ = random.Random(2)
    data = bytearray(random_.randbytes(60 * BLOCK_BYTES))
    for i in range(50):
        data[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES] = random_.randbytes(BLOCK_BYTES)
        save(store, section("s", data))

        assert sum(name.endswith("kdb") for name in disk.files) <= 17
        total = sum(len(node.data) for name, node in disk.files.items() if name.endswith("kdb"))
        assert total < 3 * len(data)
    store.close()
    assert opened(disk).snapshot.read("s") == data


def test_a_damaged_block_is_not_copied_on():
    disk = MemoryBackend()
    store = opened(disk)
    data = bytearray(random.Random(2).randbytes(20 * BLOCK_BYTES))
    save(store, section("s", data))
    disk.files[file_name(1)].data[64 + 19 * BLOCK_BYTES + 7] ^= 1
    changed = os.urandom(15 * BLOCK_BYTES) + data[15 * BLOCK_BYTES :]

    with pytest.raises(CorruptSnapshot) as caught:
        save(store, section("s", changed))

    assert (caught.value.path, caught.value.offset) == (file_name(1), 64 + 19 * BLOCK_BYTES)
    store.append(1, [b"still writable"])
    report = write_backup(store, "/rescue.kdb", b"", [section("s", changed)], None)
    assert report.blocks_written == 20


def test_a_section_that_gives_too_few_bytes_is_refused_and_leaves_nothing():
    disk = MemoryBackend()
    store = opened(disk)

    with pytest.raises(ValueError, match="gave 5 bytes where 10"):
        save(store, Section("s", 1, 10, lambda start, stop: b"short"))
    with pytest.raises(ValueError, match="same name"):
        save(store, section("s", b""), section("s", b""))

    assert not any("tmp-" in name or name.endswith("kdb") for name in disk.files)
    save(store, section("s", b"good"))
    store.close()
    assert opened(disk).snapshot.read("s") == b"good"


def test_an_exception_of_the_state_while_saving_leaves_nothing():
    disk = MemoryBackend()
    store = opened(disk)

    def read(start, stop):
        if start:
            raise MemoryError
        return bytes(stop - start)

    with pytest.raises(MemoryError):
        save(store, Section("s", 1, 30 * BLOCK_BYTES, read))

    assert not any("tmp-" in name or name.endswith("kdb") for name in disk.files)


def small_database():
    """Two snapshot files, the second referring to the first, and a log; closed."""
    disk = MemoryBackend()
    store = opened(disk)
    text = random.Random(9).randbytes(450)
    store.append(1, [b"first"])
    save(store, section("a", bytes(range(200)) + text, 1), section("b", b"second section"), meta=b"one")
    store.append(2, [b"second"])
    save(store, section("a", bytes(range(200)) + text, 1), section("b", b"SECOND SECTION"), meta=b"two")
    store.append(3, [b"third"])
    store.close()
    assert {file_name(1), file_name(2)} <= disk.files.keys()
    return disk.copy(), text


def read_all(disk):
    store = Store.open("/db", backend=disk)
    try:
        content = {name: bytes(store.snapshot.read(name)) for name in store.snapshot.sections()}
        content["log"] = b"".join(bytes(record.payload) for record in store.replay())
        content["meta"] = store.snapshot.meta
        for error in verified(store):
            if error is not None:
                raise error
        return content
    finally:
        store.close()


def test_every_flipped_bit_of_a_closed_database_is_detected():
    disk, text = small_database()
    truth = read_all(disk.copy())
    assert truth["a"] == bytes(range(200)) + text
    n = 0

    for path, node in disk.files.items():
        for bit in range(8 * len(node.data)):
            if path.endswith("LOCK"):
                continue
            state = disk.copy()
            state.files[path].data[bit // 8] ^= 1 << bit % 8
            with pytest.raises(CorruptData) as caught:
                read_all(state)
            assert caught.value.path in (path, "/db")
            n += 1
    assert n > 5000


def test_a_closed_database_cut_at_any_byte_is_a_named_error():
    disk, _ = small_database()

    for path, node in disk.files.items():
        for size in range(len(node.data)):
            if path.endswith("LOCK"):
                continue
            state = disk.copy()
            del state.files[path].data[size:]
            with pytest.raises(CorruptData):
                read_all(state)


def interrupted(call, *arguments):
    with pytest.raises(KeyboardInterrupt):
        call(*arguments)


@pytest.mark.parametrize("when", ["a thread starts", "threads are waited for"])
def test_an_interrupted_read_has_left_the_memory_that_it_was_given(monkeypatch, when):
    disk = MemoryBackend()
    store = opened(disk)
    save(store, section("s", random.Random(1).randbytes(20 * BLOCK_BYTES)))
    left, came_late = threading.Event(), []
    unpack, start, join = snapshot.Snapshot._unpack, threading.Thread.start, threading.Thread.join

    def slow_unpack(self, pieces):
        came_late.append(left.wait(0.3))
        unpack(self, pieces)

    def start_and_interrupt(self):
        start(self)
        signal.raise_signal(signal.SIGINT)

    def interrupt_and_join(self, timeout=None):
        signal.raise_signal(signal.SIGINT)
        join(self, timeout)

    monkeypatch.setattr(snapshot.Snapshot, "_unpack", slow_unpack)
    reading = store.snapshot
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        if when == "a thread starts":
            patch.setattr(threading.Thread, "start", start_and_interrupt)
        else:
            patch.setattr(threading.Thread, "join", interrupt_and_join)
            patch.setattr("concurrent.futures._base.Future.result", lambda *_: (_ for _ in ()).throw(StorageError("x")))
        interrupted(reading.read_into, "s", memoryview(bytearray(20 * BLOCK_BYTES)))
    left.set()
    signal.signal(signal.SIGINT, before)

    assert came_late
    assert not any(came_late)
    store.close()


def test_a_missing_file_is_a_named_error():
    disk, _ = small_database()

    for path in disk.files:
        if path.endswith("LOCK"):
            continue
        state = disk.copy()
        del state.files[path]
        with pytest.raises(CorruptLog if path.endswith("aof") else CorruptSnapshot) as caught:
            read_all(state)
        assert caught.value.path == path


def test_a_snapshot_of_another_generation_or_database_does_not_pass():
    disk, _ = small_database()
    other, _ = small_database()
    for name in (file_name(1), file_name(2)):
        state = disk.copy()
        state.files[name] = other.files[name]
        with pytest.raises(CorruptSnapshot):
            read_all(state)
    state = disk.copy()
    state.files[file_name(2)] = disk.files[file_name(1)]
    with pytest.raises(CorruptSnapshot):
        read_all(state)


def test_a_file_out_of_a_directory_does_not_open_alone_when_it_refers_to_others():
    disk, _ = small_database()

    Store.open(file_name(1), backend=disk, read_only=True).close()
    with pytest.raises(StorageError, match="refers to other files"):
        Store.open(file_name(2), backend=disk, read_only=True)


def rewritten(data, change):
    """Return a snapshot file whose table was changed by someone who also knows how to compute the checks."""
    footer = decode_footer(bytes(data[-64:]), len(data), "x")
    table = decode_table(bytes(data[footer.table_offset : -64]), footer, "x")
    part = table.sections[0]
    rows = [list(row) for row in BLOCK.iter_unpack(part.blocks)]
    change(rows)
    packed = b"".join(BLOCK.pack(*row) for row in rows)
    values = {name: getattr(part, name) for name in part.__struct_fields__}
    parts = (type(part)(**{**values, "blocks": packed}), *table.sections[1:])
    encoded = encode_table(type(table)(table.seq, table.meta, table.files, parts))
    end = Footer(footer.table_offset, len(encoded), xxh3_64_intdigest(encoded), footer.uuid, footer.number)
    return data[: footer.table_offset] + encoded + encode_footer(end)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[0].__setitem__(3, 1 << 31),  # raw size
        lambda rows: rows[0].__setitem__(4, 1 << 31),  # stored size
        lambda rows: rows[0].__setitem__(4, 0),
        lambda rows: rows[0].__setitem__(1, 1 << 60),  # offset
        lambda rows: rows[0].__setitem__(0, 77),  # file
        lambda rows: rows[0].__setitem__(5, 9),  # codec
        lambda rows: rows.pop(),
        lambda rows: rows.append(rows[0]),
    ],
)
def test_sizes_are_bounded_before_anything_is_allocated(change):
    disk = MemoryBackend()
    store = opened(disk)
    write_backup(store, "/db/x.kdb", b"", [section("s", bytes(2 * BLOCK_BYTES))], None)
    node = disk.files["/db/x.kdb"]
    node.data[:] = rewritten(bytes(node.data), change)

    with pytest.raises(CorruptSnapshot):
        Store.open("/db/x.kdb", backend=disk, read_only=True).snapshot.read("s")


def test_a_chunk_that_claims_another_size_is_not_unpacked(monkeypatch):
    disk = MemoryBackend()
    store = opened(disk)
    write_backup(store, "/db/x.kdb", b"", [section("s", bytes(2 * BLOCK_BYTES))], None)
    node = disk.files["/db/x.kdb"]
    node.data[64 + 4 : 64 + 8] = (1 << 30).to_bytes(4, "little")

    def recheck(rows):
        stored = bytes(node.data[rows[0][1] : rows[0][1] + -(-rows[0][4] // 64) * 64])
        rows[0][2] = xxh3_64_intdigest(stored)

    node.data[:] = rewritten(bytes(node.data), recheck)
    monkeypatch.setattr(snapshot, "_blosc2", lambda: pytest.fail("unpacked"))

    with pytest.raises(CorruptSnapshot, match="cannot be decompressed"):
        Store.open("/db/x.kdb", backend=disk, read_only=True).snapshot.read("s")
