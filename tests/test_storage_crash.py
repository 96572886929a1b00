"""Crashes, failing calls and full disks: what is acknowledged stays, what is refused is not there, no hole ever."""

import contextlib
import errno
import itertools

import pytest
from faults import Fault, MemoryBackend, crash_states

from kektordb.errors import StorageError, StorageFailed, StorageFull
from kektordb.storage import Store
from kektordb.types import Section


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch):
    monkeypatch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", 512)
    monkeypatch.setattr("kektordb.storage.log.MAX_PART_BYTES", 200)
    monkeypatch.setattr("kektordb.storage.log.JOIN_BYTES", 100)


class Counter:
    """A toy database on a store: each record holds a number, the state is the list of numbers so far."""

    def __init__(self, disk, **options):
        self.disk = disk
        self.store = Store.open("/db", backend=disk, **options)
        self.state = []
        if self.store.snapshot is not None:
            data = bytes(self.store.snapshot.read("state"))
            self.state = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
        for record in self.store.replay():
            self.state.append(int.from_bytes(bytes(record.payload[:4]), "little"))

    def add(self, number, n_bytes=30):
        """Append, and acknowledge: written when the call returns, durable when the policy says so."""
        data = number.to_bytes(4, "little") + bytes(n_bytes)
        self.store.append(number % 5, [data])
        self.state.append(number)
        self.store.after_append()
        self.disk.mark(("written", len(self.state)))

    def sync(self):
        n = len(self.state)
        self.store.sync_now()
        self.disk.mark(("durable", n))

    def sections(self):
        data = b"".join(number.to_bytes(4, "little") for number in self.state)
        ballast = bytes(range(256)) * 12  # several blocks that never change
        return [
            Section("state", 4, len(data), lambda a, b: data[a:b]),
            Section("b", 1, 3072, lambda a, b: ballast[a:b]),
        ]

    def save(self, during=()):
        save = self.store.begin_save()
        frozen = self.sections()
        for number in during:
            self.add(number)
        self.store.write_snapshot(save, b"meta", frozen, None)


def workload(disk, sync):
    """Two lives of a small database, with everything that touches files."""
    database = Counter(disk, sync=sync)
    database.disk.mark(("durable", 0))
    for number in range(3):
        database.add(number)
    database.sync()
    database.add(3, n_bytes=500)  # three records, one batch
    database.save(during=[4])
    database.add(5)
    database.sync()
    database.save()
    database.add(6)
    database.store.close()
    database.disk.mark(("durable", 7))
    database = Counter(disk, sync=sync)
    database.add(7)
    database.save(during=[8])
    database.store.close()
    database.disk.mark(("durable", 9))


def check_promise(state, sync, recover=None, goes_on=True):
    """Open what a crash left; return whether something is missing that was written and never promised."""
    promise = {"written": 0, "durable": 0}
    for kind, count in state.marks:
        promise[kind] = count
    if sync == "always" or state.story.startswith("killed"):
        promise["durable"] = max(promise.values())
    at_open = Counter(state, recover=recover)
    found = list(at_open.state)
    assert found == list(range(len(found))), state.story
    assert promise["durable"] <= len(found) <= promise["written"] + 1, state.story
    if goes_on:
        at_open.add(len(found))
        at_open.save()
        at_open.store.close()
        assert Counter(state.copy()).state == at_open.state, state.story
    return len(found) < promise["written"]


@pytest.mark.crash
@pytest.mark.parametrize("sync", ["no", "always"])
def test_no_crash_loses_what_was_promised(sync, campaign):
    disk = MemoryBackend()
    workload(disk, sync)
    n = n_cut = 0
    wanted = campaign.count("STATES_OF_STORE", 1_500, 20_000)
    for seed in itertools.count(len(sync)):
        for state in crash_states(disk.history, seed=seed, per_step=30):
            n_cut += check_promise(state, sync)
            n += 1
        if n >= wanted:
            break

    campaign.note("crash states", f"storage, {sync}", states=n, violations=0)
    assert sync == "always" or n_cut > 20, "the crashes must cost something, or they test nothing"


def test_a_crash_during_recovery_loses_nothing_more():
    disk = MemoryBackend()
    workload(disk, "no")
    states = [state for state in crash_states(disk.history, seed=3) if not state.story.startswith("killed")]

    for state in states[::23]:
        before = state.copy()
        expected = Counter(state).state
        for second in crash_states(state.history, start=before, seed=4, per_step=4):
            assert Counter(second).state == expected, f"{state.story}, then {second.story}"


def n_calls(sync):
    disk = MemoryBackend()
    disk.fault = Fault(1 << 30, 5)
    workload(disk, sync)
    return disk.fault.count


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, -1], ids=["EIO", "ENOSPC", "EDQUOT", "short"])
@pytest.mark.parametrize("sync", ["always", "no"])
def test_any_failing_call_is_an_error_and_loses_nothing(sync, code, for_ever):
    for at in range(n_calls(sync)):
        disk = MemoryBackend()
        disk.fault = Fault(at, code, for_ever, drop=sync == "always")
        accepted = unfinished_life(disk, sync)

        disk.fault = None
        disk.locked.clear()
        after = Counter(disk)

        assert after.state == accepted, f"call {at} of {sync}"
        after.add(99)
        after.save()
        after.store.close()
        assert Counter(disk.copy()).state == [*accepted, 99]


def unfinished_life(disk, sync):
    """Use a database as if nothing were wrong; return what it accepted."""
    try:
        database = Counter(disk, sync=sync)
    except StorageError:
        return []
    accepted = []
    for number in range(6):
        try:
            database.add(number, n_bytes=500 if number == 3 else 20)
            accepted.append(number)
        except StorageError:
            if len(database.state) > len(accepted):  # appended, but not made durable
                database.state.pop()
        if number % 2:
            with contextlib.suppress(StorageError):
                database.save()
    with contextlib.suppress(StorageError):
        database.store.close()
    return accepted


def fill(database):
    for _ in range(50):
        database.add(len(database.state))


def test_a_full_disk_is_an_error_and_writing_goes_on_when_there_is_room():
    disk = MemoryBackend()
    database = Counter(disk)
    database.add(0)
    used = sum(len(node.data) for node in disk.files.values())
    for room in range(0, 900, 7):
        disk.capacity = used + room
        n = len(database.state)
        n_refused = 0
        for size in (500, 20):
            try:
                database.store.append(0, [n.to_bytes(4, "little"), bytes(size)])
                database.state.append(n)
                n += 1
            except StorageFull:
                n_refused += 1
        with pytest.raises(StorageFull):
            fill(database)
        with pytest.raises(StorageFull):
            database.save()
        assert not any("tmp-" in name for name in disk.files)
        disk.capacity = None
        assert Counter(disk.copy()).state == database.state
        database.add(len(database.state))
        database.save()
        used = sum(len(node.data) for node in disk.files.values())
    database.store.close()
    assert Counter(disk).state == list(range(len(database.state)))


def test_a_full_disk_while_saving_leaves_the_old_set_and_a_later_save_covers_everything():
    disk = MemoryBackend()
    database = Counter(disk)
    database.add(0)
    database.save()
    database.add(1)
    save = database.store.begin_save()
    database.add(2)
    disk.capacity = sum(len(node.data) for node in disk.files.values()) + 100

    with pytest.raises(StorageFull):
        database.store.write_snapshot(save, b"", database.sections(), None)

    disk.capacity = None
    assert Counter(disk.copy()).state == [0, 1, 2]
    assert not any("tmp-" in name for name in disk.files)
    database.save()
    assert database.store.log_bytes == 64
    assert Counter(disk.copy()).state == [0, 1, 2]


def test_what_a_failed_sync_drops_was_never_acknowledged():
    disk = MemoryBackend()
    database = Counter(disk, sync="always")
    database.add(0)
    disk.fault = Fault(0, errno.EIO, calls=frozenset({"sync"}), drop=True)

    with pytest.raises(StorageFailed):
        database.add(1)
    for _ in range(2):
        with pytest.raises(StorageFailed):
            database.add(2)
        with pytest.raises(StorageFailed):
            database.sync()
    assert disk.fault.count == 1, "a failed sync must not be tried again"

    database.store.close()
    assert Counter(disk).state == [0]


def test_a_refused_record_is_not_there_although_its_bytes_reached_the_disk():
    disk = MemoryBackend()
    database = Counter(disk, sync="always")
    database.add(0)
    disk.fault = Fault(0, errno.EIO, calls=frozenset({"sync"}))

    with pytest.raises(StorageFailed):
        database.add(1)

    assert Counter(disk.copy()).state == [0]


def test_an_append_that_cannot_be_taken_back_stops_writing_for_good():
    disk = MemoryBackend()
    database = Counter(disk)
    database.add(0)
    disk.fault = Fault(0, errno.ENOSPC, for_ever=True, calls=frozenset({"writev", "truncate"}))

    with pytest.raises(StorageFailed):
        database.add(1)
    disk.fault = None
    with pytest.raises(StorageFailed):
        database.add(1)

    assert Counter(disk.copy()).state == [0]


def test_what_an_open_has_shown_does_not_vanish_later():
    """A writer was killed before it synced; the next one reads its records, and then the power goes."""
    disk = MemoryBackend()
    first = Counter(disk, sync="no")
    for number in range(3):
        first.add(number)
    disk.locked.clear()

    second = Counter(disk, sync="no")

    disk.mark("shown")
    assert second.state == [0, 1, 2]
    states = [state for state in crash_states(disk.history) if "shown" in state.marks]
    assert states
    assert all(Counter(state).state == [0, 1, 2] for state in states)


def test_a_save_that_another_one_overtook_keeps_the_later_logs():
    disk = MemoryBackend()
    database = Counter(disk)
    database.add(0)
    first, frozen = database.store.begin_save(), database.sections()
    database.add(1)
    second, frozen_later = database.store.begin_save(), database.sections()
    database.add(2)

    database.store.write_snapshot(first, b"", frozen, None)
    assert Counter(disk.copy()).state == [0, 1, 2]
    database.store.write_snapshot(second, b"", frozen_later, None)

    assert Counter(disk.copy()).state == [0, 1, 2]
    with pytest.raises(StorageError, match="older"):
        database.store.write_snapshot(first, b"", frozen, None)
