"""Fuzzers of everything that reads files: no crash, no hang, no hunger.

Checks are computed anew after each change, so that the parsers behind them are reached. Nearly all runs read bytes in
memory by the way that an open takes, from small databases; one in 32 opens a larger one by the front door, uses all of
it, writes and closes.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence

import msgspec
import pytest
from campaign import Campaign
from faults import MemoryBackend
from fuzz import Chance, broken, fuzz, mangled
from fuzzed import SMALL, Fill, filled, handle, named, opened, use, use_some, vectors
from sections import Sections
from xxhash import xxh3_64_intdigest

from kektordb.database import Database
from kektordb.errors import KektorError
from kektordb.operations import decode
from kektordb.state import State
from kektordb.storage.codec import (
    BLOCK,
    FILE_HEADER_BYTES,
    RECORD,
    RECORD_HEAD,
    CloseNote,
    FileHeader,
    LogName,
    decode_footer,
    decode_manifest,
    decode_table,
    encode_footer,
    encode_log_header,
    encode_manifest,
    encode_snapshot_header,
    encode_table,
    record_seed,
)
from kektordb.storage.directory import Directory
from kektordb.storage.opening import open_files
from kektordb.storage.recovery import Replay
from kektordb.storage.snapshot import SnapshotFiles, open_snapshot, verify_file

pytestmark = pytest.mark.fuzz

WHOLE = 1 / 32  # of the runs go through the front door
REFUSED = (KektorError, MemoryError)
NOT_WRITABLE = (OverflowError, UnicodeEncodeError, ValueError, TypeError, RecursionError, struct.error)
Record = tuple[int, int, int, int, bytes]  # seq, lag, kind, flags, payload
Records = list[Record]


@pytest.fixture(autouse=True, scope="module")
def _small_and_still() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kektordb.upkeep.maintenance.Upkeep.start", lambda *_: None)
        patch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", 2048)
        patch.setattr("kektordb.storage.sync.INTERVAL_S", 3600.0)
        yield


def use_strange(db: Database) -> None:
    """Use a database whose parts, each sound by itself, may contradict one another: refusing a write is good enough.

    Loading does not compare the texts and columns with the metadata, which would take longer than making them anew.
    """
    with contextlib.suppress(ValueError):
        use(db)


# ---------------------------------------------------------------------------------------------------------------- log


class LogParts:
    """A log in pieces, to be put together again with checks that are right."""

    def __init__(self, fill: Fill) -> None:
        disk = MemoryBackend()
        db = opened(disk)
        fill(db)
        db.close()
        self.disk = disk = disk.copy()
        self.manifest = decode_manifest(disk.image()["/db/MANIFEST"], "")
        self.log = self.manifest.logs[-1]
        self.path = f"/db/log-{self.log.number:06d}.aof"
        data = disk.image()[self.path]
        self.records: Records = []
        at = FILE_HEADER_BYTES
        while at < len(data):
            _, seq, n, lag, kind, flags, _ = RECORD.unpack_from(data, at)
            self.records.append((seq, lag, kind, flags, data[at + 32 : at + 32 + n]))
            at += 32 + n + (-n & 7)

    def put(self, records: Records, log: LogName, previous: int, n: Callable[[int], int] = lambda n: n) -> bytes:
        """Return the bytes of a log that holds `records`, whose checks are right and whose lengths `n` may change."""
        pieces = [encode_log_header(FileHeader(self.manifest.uuid, log.number, previous, log.seq))]
        seed = record_seed(self.manifest.uuid, log.number)
        for seq, lag, kind, flags, payload in records:
            body = payload + bytes(-len(payload) & 7)
            head = RECORD_HEAD.pack(
                xxh3_64_intdigest(body), seq % 2**64, n(len(payload)) % 2**32, lag % 2**32, kind % 2**16, flags % 2**16
            )
            pieces += [head, (xxh3_64_intdigest(head, seed) & 0xFFFFFFFF).to_bytes(4, "little"), body]
        return b"".join(pieces)

    def strange(self, rng: Chance, disk: MemoryBackend, others: Sequence[LogParts]) -> int:
        """Put a strange log, or two that follow each other, in the place of this one; return its bytes.

        Some of its records may come from `others`.
        """
        records = changed_records(rng, self.records, [parts.records for parts in others])
        off = rng.choice([0, 0, 0, 0, 0, 0, 1, -8, 2**31, 64 << 20])
        wrong = (lambda n: n + off if rng.random() < 0.05 else n) if off else (lambda n: n)
        logs, note = [self.log], None
        data, size = [self.put(records, self.log, 0, wrong)], 0
        if rng.random() < 0.1:
            cut = rng.randrange(len(records))
            data = [self.put(records[:cut], self.log, 0, wrong)]
            seq = records[cut - 1][0] % 2**62 if cut else self.log.seq
            logs.append(LogName(self.log.number + 1, seq))
            data.append(self.put(records[cut:], logs[1], len(data[0]) + rng.choice([0, 0, 0, 0, 8]), wrong))
        elif rng.random() < 0.05:
            note = CloseNote(self.log.number, rng.randrange(len(data[0]) + 40), rng.randrange(20), rng.randrange(2**53))
        if rng.random() < 0.05:
            data[-1] = mangled(rng, data[-1])
        manifest = msgspec.structs.replace(self.manifest, generation=logs[-1].number, logs=tuple(logs), close=note)
        disk.put("/db/MANIFEST", encode_manifest(manifest))
        for log, content in zip(logs, data, strict=True):
            disk.put(f"/db/log-{log.number:06d}.aof", content)
            size += len(content)
        return size


def worse(rng: Chance, payload: bytes, kind: int) -> bytes:
    """Change a payload: its bytes, or what they mean."""
    if rng.random() < 0.3:
        return mangled(rng, payload)
    try:
        if kind == 3:
            length = int.from_bytes(payload[:4], "little")
            head = msgspec.msgpack.encode(broken(rng, msgspec.msgpack.decode(payload[4 : 4 + length])))
            rest = payload[4 + length + (-length & 3) :]
            rest = mangled(rng, rest) if rng.random() < 0.2 else rest
            return len(head).to_bytes(4, "little") + head + bytes(-len(head) & 3) + rest
        if kind == 8:
            members = [list(member) for member in msgspec.msgpack.decode(payload)]
            member = rng.choice(members)
            member[1] = worse(rng, member[1], member[0])
            return msgspec.msgpack.encode(members)
        return msgspec.msgpack.encode(broken(rng, msgspec.msgpack.decode(payload)))
    except (*NOT_WRITABLE, msgspec.MsgspecError, IndexError):  # what was made worse before
        return mangled(rng, payload)


def grouped(rng: Chance, records: Records) -> Record:
    """Return some records as members of one."""
    members = [(record[2], record[4]) for record in rng.choices(records, k=rng.randint(1, 4))]
    return (0, 0, 8, 0, msgspec.msgpack.encode(members))


def changed_records(rng: Chance, records: Records, others: Sequence[Records]) -> Records:
    found = list(records)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(found))
        seq, lag, kind, flags, payload = found[at]
        what = rng.randrange(14)
        if what < 7:
            found[at] = (seq, lag, kind, flags, worse(rng, payload, kind))
        elif what == 7:
            found[at] = (seq, lag, rng.choice([0, *range(1, 13), 65535]), flags, payload)
        elif what == 8:
            found[at] = (seq + rng.choice([-1, 0, 1, 2**63]), rng.choice([lag, 0, 1, 2**32 - 1]), kind, flags, payload)
        elif what == 9:
            found[at] = (seq, lag, kind, rng.choice([1, 2, 65535]), payload)
        elif what == 10:
            del found[at]
        elif what == 11:
            found.insert(at, found[rng.randrange(len(found))])
        elif what == 12:
            found.insert(at + 1, rng.choice(rng.choice(others)))
        else:
            found.insert(at + 1, grouped(rng, found if rng.random() < 0.5 else rng.choice(others)))
        if what >= 10 or rng.random() < 0.2 or not found:  # in order all the same, so that what follows is read
            found = found or list(records)
            found = [(i, *record[1:]) for i, record in enumerate(found, records[0][0])]
    return found


def replayed(disk: MemoryBackend, recover: bool) -> State:
    """Read the logs as an open does."""
    directory = Directory("/db", disk, read_only=True)
    directory.open()
    state = State(1)
    replay = Replay(directory, recover)
    try:
        state.replay(decode(record.type, record.payload) for record in replay.records())
    finally:
        replay.close()
    return state


@pytest.fixture(scope="module")
def logs() -> list[LogParts]:
    """The last one is of everything."""
    return [LogParts(fill) for fill in (*SMALL, filled)]


def test_no_log_is_too_strange_to_be_read(logs: list[LogParts], campaign: Campaign) -> None:
    def body(rng: Chance) -> int:
        if rng.random() < WHOLE:
            return by_the_door(rng)
        parts = logs[rng.randrange(len(logs) - 1)]
        n_bytes = parts.strange(rng, parts.disk, logs)
        try:
            state = replayed(parts.disk, rng.random() < 0.1)
        except REFUSED:
            return n_bytes
        use_some(handle(state), rng)
        return n_bytes

    def by_the_door(rng: Chance) -> int:
        disk = logs[-1].disk.copy()
        n_bytes = logs[-1].strange(rng, disk, logs)
        try:
            db = opened(disk)
        except REFUSED:
            return n_bytes
        use(db)
        db.close()
        return n_bytes

    fuzz(campaign, "log", body, 500)


def test_no_operation_is_too_strange_to_be_decoded(logs: list[LogParts], campaign: Campaign) -> None:
    def body(rng: Chance) -> int:
        _, _, kind, _, payload = rng.choice(logs[-1].records)
        payload = worse(rng, payload, kind)
        named(lambda: decode(kind if rng.random() < 0.95 else rng.randrange(16), payload))
        return len(payload)

    fuzz(campaign, "operations", body, 500)


# ----------------------------------------------------------------------------------------------------------- snapshot

Frozen = tuple[bytes, dict[str, bytes | bytearray], list[str]]


def frozen(fill: Fill) -> Frozen:
    db = Database.open(":memory:", n_threads=1)
    fill(db)
    whole = db._state.freeze(True)
    sections = Sections(whole.sections).data
    whole.thaw(False)
    return whole.meta, dict(sections), sorted(name for name in sections if len(sections[name]))


def test_no_section_is_too_strange_to_be_loaded(campaign: Campaign) -> None:
    seeds = [frozen(fill) for fill in (*SMALL, filled)]

    def body(rng: Chance) -> int:
        is_whole = rng.random() < WHOLE
        meta, sections, names = seeds[-1 if is_whole else rng.randrange(len(seeds) - 1)]
        changed = Sections()
        changed.data.update(sections)
        if rng.random() < 0.15:
            try:
                meta = msgspec.msgpack.encode(broken(rng, msgspec.msgpack.decode(meta)))
            except NOT_WRITABLE:
                meta = mangled(rng, meta)
        else:
            for _ in range(rng.choice([1, 1, 1, 2])):
                name = rng.choice(names)
                changed.data[name] = mangled(rng, bytes(changed.data[name]))
        size = sum(map(len, changed.data.values()))
        state = State(1)
        try:
            state.load(meta, changed)
        except REFUSED:
            return size
        db = handle(state)
        with contextlib.suppress(ValueError):  # see use_strange
            use(db) if is_whole else use_some(db, rng)
        if is_whole or rng.random() < 0.1:
            named(lambda: Sections(state.freeze(True).sections))
        return size

    fuzz(campaign, "sections", body, 500)


class Saved:
    """A directory with two snapshots, the newer of which refers to the older one, and the newer one in pieces."""

    def __init__(self, fill: Fill) -> None:
        disk = MemoryBackend()
        db = opened(disk)
        fill(db)
        db.save()
        name = next(iter(db))
        db[name].add("later", vectors(1)[0], {"n": 1})
        db.save()
        db.close()
        self.disk = disk = disk.copy()
        self.manifest_bytes = disk.image()["/db/MANIFEST"]
        self.manifest = decode_manifest(self.manifest_bytes, "")
        self.path = f"/db/snapshot-{self.manifest.snapshot:06d}.kdb"
        self.data = data = disk.image()[self.path]
        self.footer = decode_footer(data[-64:], len(data), "")
        self.table_bytes = data[self.footer.table_offset : -64]
        self.table = decode_table(self.table_bytes, self.footer, "")
        # Blocks in this file: number of the section, place of the row in its blocks.
        self.blocks = [
            (i, at)
            for i, section in enumerate(self.table.sections)
            for at in range(0, len(section.blocks), BLOCK.size)
            if BLOCK.unpack_from(section.blocks, at)[0] == self.manifest.snapshot
        ]

    def with_table(self, data: bytes, table: bytes) -> bytes:
        """Return a snapshot file with another table, and all checks right."""
        check = xxh3_64_intdigest(table)
        footer = msgspec.structs.replace(self.footer, table_bytes=len(table), table_check=check)
        return data[: footer.table_offset] + table + encode_footer(footer)

    def with_blocks(self, data: bytes, i: int, blocks: bytes) -> bytes:
        """Return a snapshot file with other rows for the blocks of its i-th section."""
        sections = list(self.table.sections)
        sections[i] = msgspec.structs.replace(sections[i], blocks=blocks)
        return self.with_table(data, encode_table(msgspec.structs.replace(self.table, sections=tuple(sections))))

    def with_bad_block(self, rng: Chance) -> bytes:
        i, at = rng.choice(self.blocks)
        rows = bytearray(self.table.sections[i].blocks)
        row = list(BLOCK.unpack_from(rows, at))
        offset, stored = row[1], row[4]
        padded = stored + -stored % 64
        block = mangled(rng, self.data[offset : offset + padded])[:padded].ljust(padded, b"\0")
        row[2] = xxh3_64_intdigest(block)
        BLOCK.pack_into(rows, at, *row)
        return self.with_blocks(self.data[:offset] + block + self.data[offset + padded :], i, bytes(rows))

    def strange(self, rng: Chance) -> bytes:
        """Return a strange snapshot file; raises one of NOT_WRITABLE, or KektorError, when it cannot be written."""
        data, footer = self.data, self.footer
        match rng.randrange(6):
            case 0:
                return self.with_table(data, mangled(rng, self.table_bytes))
            case 1:
                table = broken(rng, msgspec.msgpack.decode(self.table_bytes))
                return self.with_table(data, msgspec.msgpack.encode(table))
            case 2:
                i = rng.randrange(len(self.table.sections))
                return self.with_blocks(data, i, mangled(rng, self.table.sections[i].blocks))
            case 3:
                return self.with_bad_block(rng)
            case 4:
                other = broken(rng, msgspec.to_builtins(footer, builtin_types=(bytes,)))
                return data[:-64] + encode_footer(msgspec.convert(other, type(footer)))
        number = rng.choice([self.manifest.snapshot, 0, 2**64 - 1])
        header = FileHeader(rng.choice([self.manifest.uuid, bytes(16)]), number, rng.randrange(9), rng.randrange(99))
        return encode_snapshot_header(header) + data[64:]


@pytest.fixture(scope="module")
def saved() -> list[Saved]:
    """The last one is of everything."""
    return [Saved(fill) for fill in (*SMALL, filled)]


def test_no_snapshot_is_too_strange_to_be_read(saved: list[Saved], campaign: Campaign) -> None:
    def body(rng: Chance) -> int:
        is_whole = rng.random() < WHOLE
        seed = saved[-1 if is_whole else rng.randrange(len(saved) - 1)]
        try:
            data = seed.strange(rng)
        except (KektorError, *NOT_WRITABLE):
            return 0  # what cannot be written down need not be read
        check = int.from_bytes(data[-64 + 24 : -64 + 32], "little")
        if is_whole:
            by_the_door(seed, data, check)
        else:
            seed.disk.put(seed.path, data)
            by_the_file(rng, seed, check)
        return len(data)

    def by_the_file(rng: Chance, seed: Saved, check: int) -> None:
        disk, number, uuid = seed.disk, seed.manifest.snapshot, seed.manifest.uuid
        files = SnapshotFiles("/db/snapshot-{:06d}.kdb".format, lambda i: disk.open(files.path_of(i), "read"))
        if rng.random() < 0.1:
            named(lambda: verify_file(files, number, uuid))
        state = State(1)
        try:
            snapshot = open_snapshot(files, number, uuid, check)
            state.load(snapshot.meta, snapshot)
        except REFUSED:
            return
        with contextlib.suppress(ValueError):  # see use_strange
            use_some(handle(state), rng)

    def by_the_door(seed: Saved, data: bytes, check: int) -> None:
        disk = seed.disk.copy()
        disk.put(seed.path, data)
        disk.put("/db/MANIFEST", encode_manifest(msgspec.structs.replace(seed.manifest, snapshot_check=check)))
        try:
            db = opened(disk)
        except REFUSED:
            return
        use_strange(db)
        named(db.save)
        named(db.close)

    fuzz(campaign, "snapshot", body, 500)


def test_no_manifest_is_too_strange_to_be_read(saved: list[Saved], campaign: Campaign) -> None:
    def body(rng: Chance) -> int:
        is_whole = rng.random() < WHOLE
        seed = saved[-1 if is_whole else rng.randrange(len(saved) - 1)]
        data = seed.manifest_bytes
        if rng.random() < 0.5:
            content = mangled(rng, data[24:])
        else:
            try:
                content = msgspec.msgpack.encode(broken(rng, msgspec.msgpack.decode(data[24:])))
            except NOT_WRITABLE:
                return 0
        start = data[:12] + len(content).to_bytes(4, "little")
        disk = seed.disk.copy() if is_whole else seed.disk
        disk.put("/db/MANIFEST", start + xxh3_64_intdigest(start + content).to_bytes(8, "little") + content)
        if is_whole:
            by_the_door(disk)
        else:
            by_the_files(rng, disk)
        return len(content)

    def by_the_files(rng: Chance, disk: MemoryBackend) -> None:
        state = State(1)
        try:
            found = open_files("/db", disk, read_only=True, recover=rng.random() < 0.1)
            assert found.snapshot is not None or found.replay is not None
            if found.snapshot is not None:
                state.load(found.snapshot.meta, found.snapshot)
            if found.replay is not None:
                state.replay(decode(record.type, record.payload) for record in found.replay.records())
        except REFUSED:
            return
        use_some(handle(state), rng)

    def by_the_door(disk: MemoryBackend) -> None:
        try:
            db = opened(disk)
        except REFUSED:
            return
        use(db)
        named(db.save)
        named(db.close)

    fuzz(campaign, "manifest", body, 1000)
