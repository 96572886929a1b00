"""What is dumped is loaded again as it was, bit by bit; a dump that is wrong is an error and makes nothing."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored import killed_while_writing
from writer import vec

import kektordb
from kektordb.errors import ConfigError, DatabaseClosed, KektorError, StorageError
from kektordb.kv import AllKeys
from kektordb.links import RESERVED
from kektordb.safety.dumping import dump
from kektordb.safety.undumping import load

ROOT = Path(kektordb.__file__).parent.parent
METADATA: list[dict[str, Any] | None] = [
    None,
    {"n": 2**63 - 1, "m": -(2**63), "u": 2**64 - 1},
    {"f": 1.0, "g": 1e300, "h": -0.0, "i": 0.1, "t": True, "z": None},
    {"text": 'line\nbreak \u2028 \0 𝄞 "quote"', "list": [1, [2, {"x": []}], {}], "": "empty key"},
]


def filled(path: str | Path, n: int = 50) -> kektordb.Database:
    db = kektordb.open(path, autosave="", n_threads=1)
    for precision in ("float32", "float16", "int8"):
        for metric in ("cosine", "euclidean", "dot"):
            index = db.create_index(
                f"{precision} {metric} ü", metric=metric, m=5, ef_construction=33, seed=7, precision=precision
            )
            vectors = [vec(i, 12) for i in range(n)]
            index.add_batch([f"id {i} é\n" for i in range(n)], vectors, [METADATA[i % 4] for i in range(n)])
            index.delete("id 3 é\n")
    db.create_index(
        "texts",
        text_language="german",
        text_fields=["a", "b.c"],
        stop_words=["und"],
        k1=1.5,
        b=0.5,
        field_weights={"a": 2.0},
        maintenance={"vacuum_interval": "7m", "refine_enabled": True},
        traversal="float32",
    ).add("one", [0.0, 0.0], {"a": "Füchse und Hasen"})
    db.create_index("no dimension")
    db.create_index("no items", dim=3)
    db.create_index("dropped")
    db.drop_index("dropped")
    db.kv["key\n"] = bytes(range(256))
    db.kv["empty"] = b""
    AllKeys(db)[f"{RESERVED}kept"] = b"as well"
    return db


def same(old: kektordb.Database, new: kektordb.Database) -> None:
    assert list(old) == list(new)
    assert dict(AllKeys(old)) == dict(AllKeys(new))
    for name in old:
        a, b = old[name], new[name]
        assert a.config == b.config, name
        assert a.ids() == b.ids()
        for x, y in zip(a.get_many(a.ids()), b.get_many(b.ids()), strict=True):
            assert x is not None
            assert y is not None
            assert json.dumps(x.metadata) == json.dumps(y.metadata)
            if a.config.precision != "int8":
                assert np.array_equal(x.vector, y.vector), name
            else:
                assert np.allclose(x.vector, y.vector, atol=0.02), name


@pytest.mark.parametrize("format", ["npy", "parquet"])
@pytest.mark.parametrize("source", ["open", "directory", "backup", "memory"])
def test_a_dump_is_loaded_as_it_was(tmp_path: Path, format: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr("kektordb.safety.dumping.ROWS", 7)
    monkeypatch.setattr("kektordb.safety.undumping.ROWS", 6)
    db = filled(":memory:" if source == "memory" else tmp_path / "db")
    with db:
        given: Any = db
        if source == "directory":
            given = tmp_path / "db"
        if source == "backup":
            given = tmp_path / "x.kdb"
            db.backup(given)
        seen: list[tuple[int, int]] = []
        report = dump(given, tmp_path / "out", format=format, progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (report.n_items, report.n_items) == (9 * 49 + 1,) * 2
        assert report.n_keys == 2
        loaded = load(tmp_path / "out", tmp_path / "new")
        assert (loaded.n_indexes, loaded.n_items, loaded.n_keys) == (12, report.n_items, 2)
        with kektordb.open(tmp_path / "new") as new:
            same(db, new)
            assert new["texts"].search(text="Hase").ids == ["one"]
            new["no dimension"].add("x", [1.0])
    assert kektordb.check(tmp_path / "new", deep=True).verdict == "sound"


def test_a_dump_needs_no_kektordb_to_be_read(tmp_path: Path) -> None:
    with filled(":memory:") as db:
        dump(db, tmp_path / "out")
        head = json.loads((tmp_path / "out" / "dump.json").read_text())
        assert [entry["name"] for entry in head["indexes"]] == list(db)
        for entry in head["indexes"]:
            folder = tmp_path / "out" / entry["directory"]
            vectors = np.load(folder / "vectors.npy")
            lines = [json.loads(line) for line in (folder / "items.jsonl").read_text().split("\n")[:-1]]
            index = db[entry["name"]]
            assert [line["id"] for line in lines] == index.ids()
            assert [line["metadata"] for line in lines] == [index[id].metadata for id in index]
            assert vectors.shape[0] == len(index)
            assert vectors.dtype == (np.float16 if index.config.precision == "float16" else np.float32)


def test_writes_wait_for_a_dump_of_an_open_database(tmp_path: Path) -> None:
    with filled(tmp_path / "db") as db:
        expected = json.dumps(list(db))
        threads: list[threading.Thread] = []

        def write(done: int, total: int) -> None:
            if not threads:
                threads.append(threading.Thread(target=lambda: db.kv.__setitem__("late", b"")))
                threads[0].start()

        dump(db, tmp_path / "out", progress=write)
        threads[0].join()
        assert "late" in db.kv
        load(tmp_path / "out", tmp_path / "new")
    with kektordb.open(tmp_path / "new") as new:
        assert list(new) == json.loads(expected)
        assert "late" not in new.kv


def test_bad_calls_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_bytes(b"")
    with filled(tmp_path / "db") as db:
        for out in ("full", "db", "full/x", "none/deeper"):
            with pytest.raises(StorageError):
                dump(db, tmp_path / out)
        for bad in ({"format": "csv"}, {"format": None}, {"progress": 3}):
            with pytest.raises(ConfigError):
                dump(db, tmp_path / "out", **bad)  # type: ignore[arg-type]
        with pytest.raises(ConfigError), db.batch():
            dump(db, tmp_path / "out")
        for source in (None, 3, ""):
            with pytest.raises(ConfigError):
                dump(source, tmp_path / "out")  # type: ignore[arg-type]
        with pytest.raises(StorageError):
            dump(tmp_path / "none", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        dump(db, tmp_path / "out")
        for target in ("db", "full", "out"):
            with pytest.raises(StorageError):
                load(tmp_path / "out", tmp_path / target)
    with pytest.raises(DatabaseClosed):
        dump(db, tmp_path / "again")
    (tmp_path / "out" / "dump.json").unlink()
    with pytest.raises(StorageError, match="unfinished"):
        load(tmp_path / "out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


HARMS: dict[str, tuple[str, Any]] = {
    "head is no json": ("dump.json", lambda data: data[:-5]),
    "a later version": ("dump.json", lambda data: data.replace(b'"version": 1', b'"version": 2')),
    "a way out": ("dump.json", lambda data: data.replace(b"index-000001", b"../../etc/xx")),
    "a missing directory": ("dump.json", lambda data: data.replace(b"index-000001", b"index-000077")),
    "a key less": ("kv.jsonl", lambda data: data[: data.index(b"\n") + 1]),
    "a value that is no base64": ("kv.jsonl", lambda data: data.replace(b'"value":"', b'"value":"*')),
    "config is no json": ("index-000001/config.json", lambda data: b"{" + data),
    "an unknown metric": ("index-000001/config.json", lambda data: data.replace(b'"cosine"', b'"cosmic"')),
    "an unknown option": ("index-000001/config.json", lambda data: data.replace(b'"seed"', b'"sead"')),
    "an item less": ("index-000001/items.jsonl", lambda data: data[: data.rindex(b"\n", 0, -1) + 1]),
    "an item more": ("index-000001/items.jsonl", lambda data: data + b'{"id":"more"}\n'),
    "an id twice": ("index-000001/items.jsonl", lambda data: data.replace(b"id 1 ", b"id 2 ")),
    "an id of a number": ("index-000001/items.jsonl", lambda data: data.replace(b'"id 1 ', b'1,"x":"')),
    "a cut array": ("index-000001/vectors.npy", lambda data: data[:-4]),
    "no array": ("index-000001/vectors.npy", lambda data: b"junk" + data),
    "vectors of doubles": ("index-000001/vectors.npy", lambda data: data.replace(b"<f4", b"<f8")),
    "a nan": ("index-000001/vectors.npy", lambda data: data[:-4] + np.float32("nan").tobytes()),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_wrong_dump_makes_nothing(tmp_path: Path, harm: str) -> None:
    with kektordb.open(":memory:") as db:
        index = db.create_index("a")
        index.add_batch([f"id {i} x" for i in range(9)], [vec(i) for i in range(9)])
        db.kv["a"] = b"a"
        db.kv["b"] = b"b"
        dump(db, tmp_path / "out")
    name, change = HARMS[harm]
    path = tmp_path / "out" / name
    data = path.read_bytes()
    path.write_bytes(change(data))
    assert path.read_bytes() != data
    with pytest.raises(KektorError):
        load(tmp_path / "out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")
def test_a_killed_load_leaves_nothing_that_opens(tmp_path: Path) -> None:
    with filled(tmp_path / "db") as db:
        dump(db, tmp_path / "out")
        call = f"load({str(tmp_path / 'out')!r}, {str(tmp_path / 'new')!r})"
        done = killed_while_writing(call, n_blocks=20)
        assert done.returncode == -9, done.stderr
        with pytest.raises(StorageError, match="unfinished"):
            kektordb.open(tmp_path / "new")
        load(tmp_path / "out", tmp_path / "new")
        with kektordb.open(tmp_path / "new") as new:
            same(db, new)
    shutil.rmtree(tmp_path / "new")
