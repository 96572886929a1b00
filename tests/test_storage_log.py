"""Torn tails, damage and long records: what of a log is history."""

import random

import pytest
from faults import MemoryBackend
from xxhash import xxh3_64_intdigest

from kektordb.errors import CorruptLog, StorageError
from kektordb.storage import Store
from kektordb.storage.codec import RECORD, record_seed

LOG = "/db/log-000001.aof"


def opened(disk, **options):
    store = Store.open("/db", backend=disk, **options)
    return store, [(record.type, bytes(record.payload)) for record in store.replay()]


def written(records, *, sync="no", close=False):
    """Return a disk with these (type, payload) records, and the end of each in the log."""
    disk = MemoryBackend()
    store, _ = opened(disk, sync=sync)
    ends = [64]
    for kind, payload in records:
        store.append(kind, [payload])
        store.after_append()
        ends.append(store.log_bytes)
    if close:
        store.close()
    return disk.copy(), ends


def records(n, seed=1):
    random_ = random.Random(seed)
    return [(i % 7, random_.randbytes(random_.randrange(0, 40))) for i in range(n)]


def cut(disk, size, path=LOG):
    del disk.files[path].data[size:]
    return disk


def flip(disk, bit, path=LOG):
    disk.files[path].data[bit // 8] ^= 1 << (bit % 8)
    return disk


def test_a_log_cut_at_any_byte_gives_the_longest_valid_prefix():
    history = records(8)
    disk, ends = written(history)

    for size in range(ends[-1] + 1):
        state = cut(disk.copy(), size)
        if size < 64:
            with pytest.raises(CorruptLog):
                opened(state)
            continue
        n = sum(end <= size for end in ends) - 1
        store, found = opened(state)
        assert found == history[:n]
        assert store.recovery_report.torn_bytes == size - ends[n]
        assert store.append(9, [b"next"]) == n + 1
        store.close()
        assert opened(state)[1] == [*history[:n], (9, b"next")]


def test_the_torn_tail_is_set_aside_and_reported():
    disk, ends = written(records(3))
    disk.files[LOG].data += b"x" * 50

    store, _ = opened(disk)

    report = store.recovery_report
    assert (report.torn_bytes, report.torn_path, report.first_lost_seq) == (50, "/db/log-000001.torn", 4)
    assert disk.image()["/db/log-000001.torn"] == b"x" * 50
    assert len(disk.image()[LOG]) == ends[-1]


def test_each_torn_tail_of_a_log_is_kept():
    """The second one took the place of the first, and with it the evidence of what had happened."""
    disk, _ = written(records(3))
    tails = [bytes([n]) * 50 for n in range(1, 12)]
    paths = []

    for tail in tails:
        disk.files[LOG].data += tail
        store, found = opened(disk)
        paths.append(store.recovery_report.torn_path)
        disk = disk.copy()

    assert len(found) == 3
    assert paths[:3] == ["/db/log-000001.torn", "/db/log-000001-2.torn", "/db/log-000001-3.torn"]
    assert [disk.image()[path] for path in paths[:8]] == tails[:8]
    assert paths[8:] == ["/db/log-000001-9.torn"] * 3, "not more and more of them"
    assert disk.image()[paths[-1]] == tails[-1]


def test_a_tail_that_an_open_had_kept_when_it_was_killed_is_not_kept_twice():
    disk, _ = written(records(3))
    disk.files[LOG].data += b"x" * 50
    again = disk.copy()
    opened(disk)
    again.files["/db/log-000001.torn"] = disk.copy().files["/db/log-000001.torn"]

    store, _ = opened(again)

    assert store.recovery_report.torn_path == "/db/log-000001.torn"
    assert [path for path in again.files if path.endswith(".torn")] == ["/db/log-000001.torn"]


def test_a_tail_of_zeros_is_torn():
    disk, _ = written(records(3))
    disk.files[LOG].data += bytes(4096)

    store, found = opened(disk)

    assert len(found) == 3
    assert store.recovery_report.torn_bytes == 4096


def test_a_full_disk_does_not_prevent_cutting_off_the_tail():
    disk, _ = written(records(3))
    disk.files[LOG].data += b"x" * 50
    disk.capacity = 0

    store, found = opened(disk)

    assert len(found) == 3
    assert store.recovery_report.torn_path is None
    assert "/db/log-000001.torn" not in disk.files


def test_every_flipped_bit_of_a_closed_log_is_damage():
    history = records(4)
    disk, ends = written(history, close=True)

    for bit in range(8 * ends[-1]):
        before = disk.copy()
        state = flip(disk.copy(), bit)
        with pytest.raises(CorruptLog) as caught:
            opened(state)
        assert caught.value.path == LOG
        assert caught.value.offset <= bit // 8
        del before.files["/db/LOCK"], state.files["/db/LOCK"]
        assert state.image().keys() == before.image().keys(), "an error must not change anything"


def test_a_closed_log_that_is_shorter_or_exchanged_is_damage():
    disk, ends = written(records(4), close=True)
    for end in ends[:-1]:
        with pytest.raises(CorruptLog):
            opened(cut(disk.copy(), end))

    # The same database, copied before its end and continued differently: every record is valid, but not the same.
    other = cut(disk.copy(), ends[2])
    fork = disk.copy()
    uuid = bytes(fork.files[LOG].data[16:32])
    seed = record_seed(uuid, 1)
    for seq in (3, 4):
        body = bytes(disk.files[LOG].data[ends[seq - 1] + 32 : ends[seq]])
        n = RECORD.unpack_from(disk.files[LOG].data, ends[seq - 1])[2]
        changed = bytes(len(body))
        head = RECORD.pack(xxh3_64_intdigest(changed), seq, n, seq, 1, 0, 0)[:28]
        check = (xxh3_64_intdigest(head, seed) & 0xFFFFFFFF).to_bytes(4, "little")
        other.files[LOG].data += head + check + changed
    with pytest.raises(CorruptLog):
        opened(other)


def test_a_bad_record_that_was_synced_is_damage_and_one_that_was_not_is_torn():
    history = [(1, b"a" * 20), (2, b"b" * 20), (3, b"c" * 20), (4, b"d" * 20)]
    synced, ends = written(history, sync="always")  # each record says that the one before it is durable
    loose, _ = written(history, sync="no")

    for bad in range(4):
        bit = 8 * (ends[bad] + 40)
        store, found = opened(flip(loose.copy(), bit))
        assert found == history[:bad]
        assert store.recovery_report.lost_records == 3 - bad
        if bad == 3:  # nothing behind the last record can say that it was durable
            assert opened(flip(synced.copy(), bit))[1] == history[:3]
            continue
        with pytest.raises(CorruptLog, match=f"record {bad + 1} .* {3 - bad} readable") as caught:
            opened(flip(synced.copy(), bit))
        assert (caught.value.path, caught.value.offset) == (LOG, ends[bad])


def test_recover_prefix_keeps_the_records_before_the_damage_and_the_evidence():
    history = records(6)
    disk, ends = written(history, close=True)
    flip(disk, 8 * (ends[3] + 5))
    damaged = disk.image()[LOG]
    store = Store.open("/db", backend=disk)
    with pytest.raises(CorruptLog):
        list(store.replay())
    assert (store.recovery_report.first_lost_seq, store.recovery_report.lost_records) == (4, 2)
    store.close()

    reader, found = opened(disk, recover="prefix", read_only=True)
    assert found == history[:3]
    assert disk.image()[LOG] == damaged
    reader.close()

    store, found = opened(disk, recover="prefix")
    assert found == history[:3]
    assert "made durable" in store.recovery_report.damage
    assert store.append(5, [b"new"]) == 4
    store.close()
    assert opened(disk)[1] == [*history[:3], (5, b"new")]
    assert damaged in disk.image().values()


def test_recover_prefix_reads_on_behind_a_damaged_file_header():
    history = records(4)
    disk, _ = written(history, close=True)
    flip(disk, 100)

    store, found = opened(disk, recover="prefix")

    assert found == history
    store.close()
    assert opened(disk)[1] == history


def test_damage_in_a_log_that_another_follows_is_never_a_torn_tail():
    disk = MemoryBackend()
    store, _ = opened(disk)
    for i in range(6):
        if i in (2, 4):
            store.begin_save()
        store.append(i, [b"payload"])
    size = store.log_bytes
    disk = disk.copy()
    assert [kind for kind, _ in opened(disk.copy())[1]] == [0, 1, 2, 3, 4, 5]
    assert sum(len(disk.files[f"/db/log-00000{i}.aof"].data) for i in (1, 2, 3)) == size
    second = "/db/log-000002.aof"

    for damage in ("cut", "flip", "longer", "missing"):
        state = disk.copy()
        if damage == "cut":
            cut(state, 104, second)
        elif damage == "flip":
            flip(state, 8 * 110, second)
        elif damage == "longer":
            state.files[second].data += b"\0" * 8
        else:
            del state.files[second]
        with pytest.raises(CorruptLog) as caught:
            opened(state.copy())
        assert caught.value.path == second
        store, found = opened(state, recover="prefix")
        kept = {"cut": 3, "flip": 3, "longer": 4, "missing": 2}[damage]
        assert [kind for kind, _ in found] == list(range(kept))
        store.append(9, [b""])
        store.close()
        assert [kind for kind, _ in opened(state)[1]] == [*range(kept), 9]


def test_a_log_of_another_database_is_refused():
    first, _ = written(records(3))
    second, _ = written(records(3))
    first.files[LOG] = second.files[LOG]

    with pytest.raises(CorruptLog, match="another database"):
        opened(first)


def test_records_of_another_database_behind_the_header_do_not_count():
    first, _ = written(records(3))
    second, _ = written([*records(3), (1, b"foreign")])
    first.files[LOG].data[64:] = second.files[LOG].data[64:]

    assert opened(first)[1] == []


@pytest.fixture
def _small_parts(monkeypatch):
    monkeypatch.setattr("kektordb.storage.log.MAX_PART_BYTES", 1000)
    monkeypatch.setattr("kektordb.storage.log.JOIN_BYTES", 100)


LONG = [b"a" * 50, b"b" * 60, b"c" * 2500, b"", b"d" * 101, b"e" * 7]


@pytest.mark.usefixtures("_small_parts")
def test_a_long_batch_comes_back_as_one_record():
    disk = MemoryBackend()
    store, _ = opened(disk)
    store.append(1, [b"first"])
    seq = store.append(2, LONG)
    store.append(3, [b"last"])
    store.close()

    store = Store.open("/db", backend=disk)
    found = [(record.seq, record.type, bytes(record.payload)) for record in store.replay()]

    assert seq == 4  # three parts
    assert found == [(1, 1, b"first"), (4, 2, b"".join(LONG)), (5, 3, b"last")]


@pytest.mark.usefixtures("_small_parts")
def test_an_unfinished_batch_vanishes_whole():
    disk = MemoryBackend()
    store, _ = opened(disk, sync="no")
    store.append(1, [b"first"])
    start = store.log_bytes
    store.append(2, LONG)
    end = store.log_bytes

    for size in range(start, end):
        state = cut(disk.copy(), size)
        store, found = opened(state)
        assert found == [(1, b"first")]
        assert store.append(3, [b"next"]) == 2
        store.close()
        assert opened(state)[1] == [(1, b"first"), (3, b"next")]


@pytest.mark.usefixtures("_small_parts")
def test_recover_prefix_does_not_split_a_batch():
    disk = MemoryBackend()
    store, _ = opened(disk)
    store.append(1, [b"first"])
    store.append(2, LONG)
    store.close()
    cut(disk, len(disk.files[LOG].data) - 8)

    store, found = opened(disk, recover="prefix")

    assert found == [(1, b"first")]
    store.close()
    assert opened(disk)[1] == [(1, b"first")]


def test_many_small_and_large_parts_are_written_in_order():
    random_ = random.Random(5)
    parts = [random_.randbytes(random_.choice((3, 400, 300_000))) for _ in range(30)]
    disk = MemoryBackend()
    store, _ = opened(disk)
    store.append(1, parts)
    store.append(2, [memoryview(part) for part in parts[::-1]])
    store.close()

    assert opened(disk)[1] == [(1, b"".join(parts)), (2, b"".join(parts[::-1]))]


def test_windows_of_the_reader_do_not_lose_records_at_their_edges(monkeypatch):
    history = records(200)
    disk, _ = written(history, close=True)

    for window in (33, 64, 100, 1000):
        monkeypatch.setattr("kektordb.storage.log.WINDOW_BYTES", window)
        assert opened(disk.copy())[1] == history


def test_the_look_behind_a_bad_record_crosses_windows(monkeypatch):
    history = records(60)
    disk, ends = written(history, sync="always")
    flip(disk, 8 * (ends[10] + 3))

    for window in (64, 256, 1 << 20):
        monkeypatch.setattr("kektordb.storage.log.WINDOW_BYTES", window)
        with pytest.raises(CorruptLog, match="49 readable"):
            opened(disk.copy())


def test_a_payload_that_holds_a_copy_of_the_log_is_not_taken_for_records():
    disk, _ = written([(1, b"a"), (2, b"b"), (3, b"c")], sync="always")
    inner = bytes(disk.files[LOG].data)
    store, _ = opened(disk, sync="no")
    store.append(4, [inner + bytes(8)])
    disk = disk.copy()
    flip(disk, 8 * len(disk.files[LOG].data) - 1)  # in the padding zeros of the payload

    store, found = opened(disk)

    assert len(found) == 3


def test_an_error_of_the_medium_while_reading_is_named(monkeypatch):
    disk, _ = written(records(3))
    store = Store.open("/db", backend=disk)

    def broken(self, n, offset):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("faults._MemoryFile.pread", broken)
    with pytest.raises(StorageError, match="Input/output error"):
        list(store.replay())
