"""Directories written by every released format still open, and mean what they meant."""

import pathlib
import random
import shutil
import struct

import pytest
from faults import MemoryBackend
from stored import verified

from kektordb.storage import Store

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.mark.parametrize("read_only", [True, False])
def test_format_1_still_opens(tmp_path, read_only):
    shutil.copytree(GOLDEN / "format-1", tmp_path / "db")

    store = Store.open(tmp_path / "db", read_only=read_only)

    assert [(record.seq, record.type, bytes(record.payload)) for record in store.replay()] == [
        (3, 3, b"after"),
        (4, 65_535, b""),
    ]
    assert (store.snapshot.meta, store.snapshot.seq, store.generation) == (b"second", 2, 3)
    assert store.snapshot.sections() == {"noise": 1500, "counting": 7000, "empty": 0}
    assert store.snapshot.read("noise") == random.Random(1).randbytes(1500)
    assert store.snapshot.read("counting") == struct.pack("<1750I", *range(1750))
    assert verified(store) == [None, None]
    store.close()


def test_format_1_is_still_what_is_written(monkeypatch):
    golden = (GOLDEN / "format-1" / "log-000003.aof").read_bytes()
    monkeypatch.setattr("kektordb.storage.directory.os.urandom", lambda n: golden[16 : 16 + n])
    disk = MemoryBackend()
    store = Store.open("/db", backend=disk)
    list(store.replay())

    store.append(1, [b"covered"])
    store.begin_save()
    store.append(2, [b"also covered"])
    store.begin_save()
    store.append(3, [b"after"])
    store.append(65_535, [])

    assert disk.image()["/db/log-000003.aof"] == golden


def test_the_golden_files_are_laid_out_as_the_document_says():
    data = (GOLDEN / "format-1" / "log-000003.aof").read_bytes()
    manifest = (GOLDEN / "format-1" / "MANIFEST").read_bytes()
    snapshot = (GOLDEN / "format-1" / "snapshot-000002.kdb").read_bytes()
    fields = (data[:8], *struct.unpack_from("<II", data, 8), *struct.unpack_from("<QQQ", data, 32))
    assert fields == (b"\x93KEKTLOG", 1, 0, 3, 112, 2)
    _, seq, n_bytes, lag, kind, flags, _ = struct.unpack_from("<QQIIHHI", data, 64)
    assert (seq, n_bytes, lag, kind, flags, data[96:104]) == (3, 5, 1, 3, 0, b"after\0\0\0")
    assert (manifest[:8], *struct.unpack_from("<II", manifest, 8)) == (b"\x93KEKTMAN", 1, len(manifest) - 24)
    table_offset, n_table = struct.unpack_from("<QQ", snapshot, len(snapshot) - 56)
    assert (snapshot[:8], snapshot[-64:-56]) == (b"\x93KEKTSNP", b"\x93KEKTEND")
    assert table_offset + n_table == len(snapshot) - 64
