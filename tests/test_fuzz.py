"""Fuzzers of everything that reads bytes or texts: no crash, no hang, no hunger, and never a wrong answer.

Checks are computed anew after each change, so that the parsers behind them are reached.
"""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from campaign import Campaign
from faults import MemoryBackend
from fuzz import broken, fuzz, mangled
from reference import filter_rows
from sections import Sections
from xxhash import xxh3_64_intdigest

from kektordb._bitmap import Bitmap
from kektordb._columns import Columns
from kektordb.compress import compress
from kektordb.database import Database
from kektordb.errors import FilterError, KektorError, MetadataError
from kektordb.operations import decode
from kektordb.query import compile_filter
from kektordb.query.parser import parse
from kektordb.storage.codec import (
    FILE_HEADER_BYTES,
    RECORD,
    RECORD_HEAD,
    FileHeader,
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
from kektordb.tasks import Control
from kektordb.text import Analyzer, contains_phrase, languages, snippet

pytestmark = pytest.mark.fuzz


@pytest.fixture(autouse=True)
def _small_and_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kektordb.maintenance.Upkeep.start", lambda *_: None)
    monkeypatch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", 2048)
    monkeypatch.setattr("kektordb.storage.sync.INTERVAL_S", 3600.0)


def vectors(n: int, dim: int = 4) -> Any:
    return np.random.default_rng(n).standard_normal((n, dim)).astype(np.float32)


def opened(disk: MemoryBackend) -> Database:
    return Database.open("/db", backend=disk, sync="no", autosave="", n_threads=1)


def filled(db: Database) -> None:
    """Something of everything that is stored."""
    options: dict[str, Any] = {"metric": "euclidean", "m": 4, "ef_construction": 20}
    a = db.create_index("a", text_language="english", **options)
    b = db.create_index("b", precision="int8", dim=4, m=4, ef_construction=20)
    c = db.create_index("c", precision="float16", traversal="float32", **options)
    texts = ["the quick brown fox", "jumped over", "the lazy dogs", "", "10"]
    data = [{"n": i, "t": texts[i % 5], "l": ["x", i % 3], "o": {"f": i / 7, "b": i % 2 == 0}} for i in range(40)]
    a.add_batch([f"a{i}" for i in range(40)], vectors(40), data)
    b.add_batch([f"b{i}" for i in range(30)], vectors(30))
    c.add_batch([f"c{i}" for i in range(20)], vectors(20), data[:20])
    a.add("one", vectors(1)[0], {"n": 7})
    a.delete(["a3", "a4"])
    a.update_metadata("a5", {"n": 99, "t": "a fox again"})
    a.upsert("a6", vectors(1)[0], {"n": 6})
    a.configure({"refine_enabled": False})
    compress(db, "b", "float32", Control())
    with db.batch():
        a.add("grouped", vectors(2)[1], {"n": 8})
        db.kv["batch"] = b"value"
    db.kv["key"] = bytes(100)
    del db.kv["batch"]
    db.create_index("gone")
    db.drop_index("gone")


def use(db: Database) -> None:
    """All that may be asked of a database; a named error is an answer."""
    for name in db:
        index = db[name]
        for call in (
            lambda: index.search(np.ones(index.dim or 4, np.float32), k=5, ef_search=20),  # noqa: B023
            lambda: index.search(np.ones(index.dim or 4, np.float32), k=5, filter="n > 3 OR t = x"),  # noqa: B023
            lambda: index.search(text="fox 10", k=5),  # noqa: B023
            lambda: index.get_many(index.ids()),  # noqa: B023
            lambda: index.ids("EXISTS(n) AND NOT l = x"),  # noqa: B023
            lambda: index.upsert("a7", np.ones(index.dim or 4, np.float32), {"t": "fox"}),  # noqa: B023
            lambda: index.delete(index.ids()[:1]),  # noqa: B023
            lambda: index.update_metadata(index.ids()[0], {"n": 1, "t": "dog"}) if len(index) else None,  # noqa: B023
            lambda: index.stats(),  # noqa: B023
        ):
            named(call)
    named(lambda: db.kv.__setitem__("k", dict(db.kv).get("key", b"")))


def use_strange(db: Database) -> None:
    """Use a database whose parts, each sound by itself, may contradict one another: refusing a write is good enough.

    Loading does not compare the texts and columns with the metadata, which would take longer than making them anew.
    """
    with contextlib.suppress(ValueError):
        use(db)


def named(call: Callable[[], Any]) -> None:
    with contextlib.suppress(KektorError, MemoryError):
        call()


# ---------------------------------------------------------------------------------------------------------------- log


class LogParts:
    """A log in pieces, to be put together again with checks that are right."""

    def __init__(self, disk: MemoryBackend) -> None:
        self.disk = disk
        manifest = decode_manifest(bytes(disk.files["/db/MANIFEST"].data), "")
        self.manifest = msgspec.structs.replace(manifest, close=None)
        self.path = f"/db/log-{manifest.logs[-1].number:06d}.aof"
        data = bytes(disk.files[self.path].data)
        self.records: list[tuple[int, int, int, int, bytes]] = []
        at = FILE_HEADER_BYTES
        while at < len(data):
            _, seq, n, lag, kind, flags, _ = RECORD.unpack_from(data, at)
            self.records.append((seq, lag, kind, flags, data[at + 32 : at + 32 + n]))
            at += 32 + n + (-n & 7)

    def put(self, records: list[tuple[int, int, int, int, bytes]], n: Callable[[int], int] = lambda n: n) -> bytes:
        """Return the bytes of a log that holds `records`, whose checks are right and whose lengths `n` may change."""
        log = self.manifest.logs[-1]
        pieces = [encode_log_header(FileHeader(self.manifest.uuid, log.number, 0, log.seq))]
        seed = record_seed(self.manifest.uuid, log.number)
        for seq, lag, kind, flags, payload in records:
            body = payload + bytes(-len(payload) & 7)
            head = RECORD_HEAD.pack(
                xxh3_64_intdigest(body), seq % 2**64, n(len(payload)) % 2**32, lag % 2**32, kind % 2**16, flags % 2**16
            )
            pieces += [head, (xxh3_64_intdigest(head, seed) & 0xFFFFFFFF).to_bytes(4, "little"), body]
        return b"".join(pieces)


@pytest.fixture(scope="module")
def log_parts() -> LogParts:
    disk = MemoryBackend()
    db = opened(disk)
    filled(db)
    db.close()
    return LogParts(disk.copy())


def worse(rng: random.Random, payload: bytes, kind: int) -> bytes:
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
    except (msgspec.MsgspecError, OverflowError, UnicodeEncodeError, ValueError, TypeError, RecursionError):
        return mangled(rng, payload)


def changed_records(rng: random.Random, records: list[tuple[int, int, int, int, bytes]]) -> list[Any]:
    found = list(records)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(found))
        seq, lag, kind, flags, payload = found[at]
        what = rng.randrange(12)
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
        else:
            found.insert(at, found[rng.randrange(len(found))])
        if what >= 10 or rng.random() < 0.2 or not found:  # in order all the same, so that what follows is read
            found = found or list(records)
            found = [(i, *record[1:]) for i, record in enumerate(found, records[0][0])]
    return found


def test_no_log_is_too_strange_to_be_read(log_parts: LogParts, campaign: Campaign) -> None:
    def body(rng: random.Random) -> int:
        records = changed_records(rng, log_parts.records)
        off = rng.choice([0, 0, 0, 0, 0, 0, 1, -8, 2**31, 64 << 20])
        data = log_parts.put(records, lambda n: n + off if rng.random() < 0.05 else n)
        if rng.random() < 0.05:
            data = mangled(rng, data)
        disk = log_parts.disk.copy()
        disk.files[log_parts.path].data[:] = data
        disk.files["/db/MANIFEST"].data[:] = encode_manifest(log_parts.manifest)
        try:
            db = opened(disk)
        except (KektorError, MemoryError):
            return len(data)
        use(db)
        db.close()
        return len(data)

    fuzz(campaign, "log", body, 60, collect=32)


def test_no_operation_is_too_strange_to_be_decoded(log_parts: LogParts, campaign: Campaign) -> None:
    def body(rng: random.Random) -> int:
        _, _, kind, _, payload = rng.choice(log_parts.records)
        payload = worse(rng, payload, kind)
        named(lambda: decode(kind if rng.random() < 0.95 else rng.randrange(16), payload))
        return len(payload)

    fuzz(campaign, "operations", body, 500)


# ----------------------------------------------------------------------------------------------------------- snapshot


@pytest.fixture(scope="module")
def frozen() -> tuple[bytes, dict[str, Any]]:
    db = Database.open(":memory:", n_threads=1)
    filled(db)
    whole = db._state.freeze(True)
    sections = Sections(whole.sections).data
    whole.thaw(False)
    return whole.meta, dict(sections)


def test_no_section_is_too_strange_to_be_loaded(frozen: tuple[bytes, dict[str, Any]], campaign: Campaign) -> None:
    meta, sections = frozen
    names = sorted(name for name in sections if len(sections[name]))

    def body(rng: random.Random) -> int:
        changed = Sections()
        changed.data.update(sections)
        catalogue = meta
        if rng.random() < 0.15:
            try:
                catalogue = msgspec.msgpack.encode(broken(rng, msgspec.msgpack.decode(meta)))
            except (OverflowError, UnicodeEncodeError, ValueError, TypeError):
                catalogue = mangled(rng, meta)
        else:
            for _ in range(rng.choice([1, 1, 1, 2])):
                name = rng.choice(names)
                changed.data[name] = mangled(rng, bytes(changed.data[name]))
        size = sum(map(len, changed.data.values()))
        db = Database.open(":memory:", n_threads=1)
        try:
            db._state.load(catalogue, changed)
        except (KektorError, MemoryError):
            return size
        use_strange(db)
        again = Sections()
        named(lambda: again.data.update(Sections(db._state.freeze(True).sections).data))
        return size

    fuzz(campaign, "sections", body, 120, collect=32)


@pytest.fixture(scope="module")
def saved() -> MemoryBackend:
    disk = MemoryBackend()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", 2048)
        db = opened(disk)
        filled(db)
        db.save()
        db["a"].add("later", vectors(1)[0], {"n": 1})
        db.save()
        db.close()
    return disk.copy()


def put_table(data: bytes, table: bytes, rng: random.Random) -> bytes:
    """Return a snapshot file with another table, and all checks right."""
    footer = decode_footer(data[-64:], len(data), "")
    footer = msgspec.structs.replace(footer, table_bytes=len(table), table_check=xxh3_64_intdigest(table))
    return data[: footer.table_offset] + table + encode_footer(footer)


def test_no_snapshot_is_too_strange_to_be_read(saved: MemoryBackend, campaign: Campaign) -> None:
    manifest = decode_manifest(bytes(saved.files["/db/MANIFEST"].data), "")
    path = f"/db/snapshot-{manifest.snapshot:06d}.kdb"
    newest = bytes(saved.files[path].data)
    footer = decode_footer(newest[-64:], len(newest), "")
    plain = newest[footer.table_offset : -64]
    table = decode_table(plain, footer, "")

    def strange(rng: random.Random, disk: MemoryBackend) -> None:
        what = rng.randrange(6)
        data = newest
        if what == 0:
            data = put_table(data, mangled(rng, plain), rng)
        elif what == 1:
            data = put_table(data, msgspec.msgpack.encode(broken(rng, msgspec.msgpack.decode(plain))), rng)
        elif what == 2:
            at = rng.randrange(len(table.sections))
            section = table.sections[at]
            section = msgspec.structs.replace(section, blocks=mangled(rng, section.blocks))
            sections = (*table.sections[:at], section, *table.sections[at + 1 :])
            data = put_table(data, encode_table(msgspec.structs.replace(table, sections=sections)), rng)
        elif what == 3:
            data = with_bad_block(rng, data)
        elif what == 4:
            other = broken(rng, msgspec.to_builtins(footer, builtin_types=(bytes,)))
            changed = msgspec.convert(other, type(footer))
            data = data[:-64] + encode_footer(changed)
        else:
            number = rng.choice([manifest.snapshot, 0, 2**64 - 1])
            header = FileHeader(rng.choice([manifest.uuid, bytes(16)]), number, rng.randrange(9), rng.randrange(99))
            data = encode_snapshot_header(header) + data[64:]
        disk.files[path].data[:] = data
        known = msgspec.structs.replace(manifest, snapshot_check=decode_footer(data[-64:], len(data), "").table_check)
        disk.files["/db/MANIFEST"].data[:] = encode_manifest(known)

    def with_bad_block(rng: random.Random, data: bytes) -> bytes:
        rows = [bytearray(section.blocks) for section in table.sections]
        ours = [
            (row, at)
            for row in rows
            for at in range(0, len(row), 52)
            if int.from_bytes(row[at : at + 8], "little") == manifest.snapshot
        ]
        row, at = rng.choice(ours)
        offset, stored = (
            int.from_bytes(row[at + 8 : at + 16], "little"),
            int.from_bytes(row[at + 28 : at + 32], "little"),
        )
        padded = stored + -stored % 64
        block = mangled(rng, data[offset : offset + padded])[:padded].ljust(padded, b"\0")
        row[at + 16 : at + 24] = xxh3_64_intdigest(block).to_bytes(8, "little")
        sections = tuple(
            msgspec.structs.replace(section, blocks=bytes(row))
            for section, row in zip(table.sections, rows, strict=True)
        )
        data = data[:offset] + block + data[offset + padded :]
        return put_table(data, encode_table(msgspec.structs.replace(table, sections=sections)), rng)

    def body(rng: random.Random) -> int:
        disk = saved.copy()
        try:
            strange(rng, disk)
        except (KektorError, ValueError, TypeError, OverflowError, struct.error):
            return 0  # what cannot be written down need not be read
        try:
            db = opened(disk)
        except (KektorError, MemoryError):
            return len(newest)
        use_strange(db)
        named(db.save)
        named(db.close)
        return len(newest)

    fuzz(campaign, "snapshot", body, 60, collect=32)


def test_no_manifest_is_too_strange_to_be_read(saved: MemoryBackend, campaign: Campaign) -> None:
    data = bytes(saved.files["/db/MANIFEST"].data)

    def body(rng: random.Random) -> int:
        if rng.random() < 0.5:
            content = mangled(rng, data[24:])
        else:
            try:
                content = msgspec.msgpack.encode(broken(rng, msgspec.msgpack.decode(data[24:])))
            except (OverflowError, UnicodeEncodeError, ValueError, TypeError):
                return 0
        start = data[:12] + len(content).to_bytes(4, "little")
        disk = saved.copy()
        check = xxh3_64_intdigest(start + content).to_bytes(8, "little")
        disk.files["/db/MANIFEST"].data[:] = start + check + content
        try:
            db = opened(disk)
        except (KektorError, MemoryError):
            return len(data)
        use(db)
        named(db.save)
        named(db.close)
        return len(data)

    fuzz(campaign, "manifest", body, 60, collect=32)


# ------------------------------------------------------------------------------------------------------------ filters

FIELDS = ["n", "t", "a.b", "é", "x", "`a b`", "n"]
SCALARS: list[Any] = [
    "red",
    "dark red",
    "10",
    "",
    "reñ",
    "TRUE",
    0,
    1,
    10,
    10.5,
    -3,
    2**53 + 1,
    1e300,
    True,
    False,
    None,
]
CONSTANTS = [
    "red",
    "'dark red'",
    '"red"',
    "10",
    "1e1",
    "'10.0'",
    "-3",
    "2.5",
    "true",
    "'true'",
    "0x10",
    "inf",
    "reñ",
    "''",
]
CONSTANTS += ["9007199254740993", "''''", "'it''s'", '"\\""', "1_0"]
PATTERNS = ["'%'", "'r%'", "'%d'", "'_ed'", "''", "'%r_d%'", "'\\%'", "'10'"]
NOISE = ["(", ")", "'", '"', "`", "$p", ",", " AND ", " OR ", "NOT ", " IN ", "%", "\\", "\0", "\n", "=", "<", "!", "é"]


def condition(rng: random.Random) -> str:
    field, what = rng.choice(FIELDS), rng.randrange(8)
    no = rng.choice(["", "NOT "])
    match what:
        case 0 | 1:
            return f"{field} {rng.choice(['=', '!=', '<', '<=', '>', '>='])} {rng.choice(CONSTANTS)}"
        case 2:
            return f"{field} {no}BETWEEN {rng.choice(CONSTANTS)} AND {rng.choice(CONSTANTS)}"
        case 3:
            return f"{field} {no}IN ({', '.join(rng.choices(CONSTANTS, k=rng.randint(1, 4)))})"
        case 4:
            return f"{field} {no}LIKE {rng.choice(PATTERNS)}"
        case 5:
            return f"EXISTS({field})"
        case 6:
            return f"{field} IS {no}NULL"
        case _:
            return f"{field}{rng.choice(['=', '<', '>='])}{rng.choice(CONSTANTS)}"


def expression(rng: random.Random, depth: int) -> str:
    if depth == 0 or rng.random() < 0.3:
        return condition(rng)
    match rng.randrange(4):
        case 0:
            return f"NOT ({expression(rng, depth - 1)})"
        case 1:
            return f"({expression(rng, depth - 1)})"
        case _:
            word = rng.choice([" AND ", " OR ", " and ", "  or\n"])
            return word.join(expression(rng, depth - 1) for _ in range(rng.randint(2, 3)))


def some_rows(rng: random.Random) -> dict[int, dict[str, Any]]:
    def value() -> Any:
        kind = rng.random()
        if kind < 0.15:
            return [rng.choice(SCALARS) for _ in range(rng.randint(0, 3))]
        return {"b": rng.choice(SCALARS)} if kind < 0.25 else rng.choice(SCALARS)

    names = ["n", "t", "a", "a.b", "é", "a b"]
    return {i: {name: value() for name in rng.sample(names, rng.randint(0, 4))} for i in rng.sample(range(40), 25)}


def test_filters_mean_what_a_walk_over_all_rows_finds(campaign: Campaign) -> None:
    kept: list[tuple[Columns, dict[int, dict[str, Any]]]] = []

    def body(rng: random.Random) -> int:
        if len(kept) < 20:
            rows = some_rows(random.Random(len(kept)))
            columns = Columns(rng.choice([2, 4096]))
            for slot, metadata in rows.items():
                columns.add(slot, metadata)
            kept.append((columns, rows))
        columns, rows = kept[rng.randrange(len(kept))]
        text = expression(rng, rng.randint(0, 3))
        for _ in range(rng.choice([0, 0, 0, 1, 3])):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(NOISE) + text[at + rng.randint(0, 2) :]
        try:
            node = parse(text)
            plan = compile_filter(text)
        except FilterError as error:
            position = error.position
        else:
            position = -1
        if position >= 0:
            assert position <= len(text)
            return len(text)
        if "$" in text:
            named(lambda: plan.run(columns, 40, {"p": rng.choice(SCALARS)}))
            return len(text)
        try:
            found = plan.run(columns, 40)
        except FilterError:
            return len(text)
        found.iand(Bitmap.from_slots(rows, 40))
        assert set(found.slots()) == filter_rows(node, rows), text
        return len(text)

    fuzz(campaign, "filters", body, 400)


# -------------------------------------------------------------------------------------------------- metadata and texts


def any_text(rng: random.Random) -> str:
    ranges = [(32, 127), (32, 127), (0xC0, 0x17F), (0x300, 0x36F), (0x400, 0x45F), (0x590, 0x6FF), (0x900, 0x97F)]
    ranges += [(0xE00, 0xE7F), (0x2000, 0x206F), (0x3040, 0x30FF), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xFE00, 0xFF60)]
    ranges += [(0x1F300, 0x1F6FF), (0, 0xD7FF), (0x10000, 0x10FFFF), (0x1100, 0x11FF), (0xFB00, 0xFB06), (0xBC, 0xBE)]
    text = ""
    for _ in range(rng.randint(0, 8)):
        low, high = rng.choice(ranges)
        text += "".join(chr(rng.randint(low, high)) for _ in range(rng.choice([1, 2, 5, 20, 300])))
        text += rng.choice(["", " ", "'", "\u2019", "-", "\u200c", "\u00ad", "\u0301", "_", "\n", "\0"])
    return text


def test_no_text_is_too_strange_to_be_analysed(campaign: Campaign) -> None:
    analyzers = [Analyzer(language) for language in languages()]

    def body(rng: random.Random) -> int:
        text, analyzer = any_text(rng), rng.choice(analyzers)
        terms = analyzer.analyse(text)
        spans = analyzer.spans(text)
        assert [term for term, _, _ in spans] == terms
        last = 0
        for _, start, end in spans:
            assert 0 <= start < end <= len(text)
            assert start >= last  # bigrams overlap, but begin in order
            last = start
        assert all(0 < len(term.encode()) <= 4 * 255 for term in terms)
        if terms:
            found = snippet(text, dict.fromkeys(rng.sample(terms, min(3, len(terms))), 1.0), analyzer)
            assert isinstance(found, str | None)
            assert isinstance(contains_phrase(text, text[: rng.randint(0, 40)], analyzer), bool)
        return len(text.encode("utf-8", "surrogatepass"))

    fuzz(campaign, "analyzers", body, 150)


def test_metadata_comes_back_or_is_refused(campaign: Campaign) -> None:
    from kektordb._metadata import decode_metadata, encode_metadata

    good = {"a": [1, 2.5, None, True, "text", {"b": {"c": [[], {}]}}], "é": -(2**63), "z": 2**64 - 1}

    def body(rng: random.Random) -> int:
        value: Any = good
        for _ in range(rng.randint(1, 4)):
            value = broken(rng, value)
        try:
            data = encode_metadata(value)
        except MetadataError:
            return 0
        assert decode_metadata(data) == value or "nan" in repr(value)
        return len(data)

    fuzz(campaign, "metadata", body, 500)
