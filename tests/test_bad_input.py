"""Whatever is wrong with what the user gives: a named error that says so, and a database as it was before."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kektordb
from kektordb.errors import (
    ConfigError,
    FilterError,
    IdError,
    IndexExists,
    IndexNotFound,
    ItemExists,
    ItemNotFound,
    KektorError,
    MetadataError,
    StorageError,
    VectorError,
)

V = [1.0, 2.0, 3.0]
Call = Callable[[kektordb.Database, kektordb.Index], Any]


class Weird:
    """An object that is nothing in particular."""

    def __repr__(self) -> str:
        return "weird " * 1000


def deep(n: int) -> dict[str, Any]:
    """Objects in objects, `n` deep."""
    found: dict[str, Any] = {}
    for _ in range(n):
        found = {"a": found}
    return found


def circular() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["me"] = found
    return found


# What the call is, what it raises, and what the message must contain.
CASES: dict[str, tuple[Call, type[Exception], str]] = {
    # Vectors
    "too short": (lambda db, i: i.add("n", [1.0, 2.0]), VectorError, "expected 3 dimensions, got 2"),
    "too long": (lambda db, i: i.upsert("n", [1.0] * 4), VectorError, "expected 3 dimensions, got 4"),
    "no components": (lambda db, i: i.add("n", []), VectorError, "got 0"),
    "no components in a new index": (lambda db, i: db["bare"].add("n", []), VectorError, "got 0"),
    "a folder that is a number": (lambda db, i: db.vectorize(5, index="items", embedder="hashing:3"), ConfigError, "5"),
    "an index that is a number": (lambda db, i: db.vectorize([], index=5, embedder="hashing:3"), ConfigError, "5"),
    "an embedder that is none": (lambda db, i: db.vectorize([], index="items", embedder="none:3"), ConfigError, "none"),
    "a pattern that is none": (
        lambda db, i: db.vectorize([], index="items", embedder="hashing:3", include_patterns=[5]),
        ConfigError,
        "patterns",
    ),
    "texts without an embedder": (lambda db, i: i.add_texts(["a"]), ConfigError, "embedder"),
    "an embedder of another index": (lambda db, i: i.attach_embedder(5), ConfigError, "int"),
    "a table that is a number": (lambda db, i: i.add_arrow(5), ConfigError, "int"),
    "a frame that is a number": (lambda db, i: i.from_pandas(5), ConfigError, "int"),
    "a file that is not there": (lambda db, i: i.add_file("none.jsonl"), StorageError, "none.jsonl"),
    "a format to read that is none": (lambda db, i: i.add_file("none", format="docx"), ConfigError, "docx"),
    "a format to write that is none": (lambda db, i: i.export("none", format="docx"), ConfigError, "docx"),
    "a filter of a table": (lambda db, i: i.to_arrow(filter="n <"), FilterError, "expected"),
    "a filter of a reader": (lambda db, i: i.to_arrow_reader(filter="n <"), FilterError, "expected"),
    "a filter of a frame": (lambda db, i: i.to_pandas(filter="n <"), FilterError, "expected"),
    "too many components": (lambda db, i: db["bare"].add("n", [0.0] * 65_537), VectorError, "65537"),
    "NaN": (lambda db, i: i.add("n", [1.0, math.nan, 2.0]), VectorError, "got NaN"),
    "Inf": (lambda db, i: i.add("n", [1.0, math.inf, 2.0]), VectorError, "expected finite"),
    "-Inf": (lambda db, i: i.upsert("n", [1.0, -math.inf, 2.0]), VectorError, "expected finite"),
    "beyond float32": (lambda db, i: i.add("n", [1.0, 1e300, 2.0]), VectorError, "expected finite"),
    "a norm beyond float32": (lambda db, i: i.add("n", [3e38, 3e38, 3e38]), VectorError, "'n'"),
    "NaN in a row": (lambda db, i: i.add_batch(["n", "m"], [V, [1, 2, math.nan]]), VectorError, "'m'"),
    "two axes": (lambda db, i: i.add("n", [V]), VectorError, "shape (1, 3)"),
    "no axis": (lambda db, i: i.add("n", 5.0), VectorError, "shape ()"),
    "three axes": (lambda db, i: i.add_batch(["n"], [[V]]), VectorError, "shape (1, 1, 3)"),
    "one axis for a batch": (lambda db, i: i.add_batch(["n"], V), VectorError, "shape (3,)"),
    "text": (lambda db, i: i.add("n", "abc"), VectorError, "dtype"),
    "texts": (lambda db, i: i.add("n", ["1", "2", "3"]), VectorError, "dtype"),
    "None": (lambda db, i: i.add("n", None), VectorError, "dtype object"),
    "truth values": (lambda db, i: i.add("n", [True, False, True]), VectorError, "dtype bool"),
    "complex numbers": (lambda db, i: i.add("n", np.ones(3, np.complex64)), VectorError, "complex64"),
    "objects": (lambda db, i: i.add("n", [Weird()] * 3), VectorError, "dtype object"),
    "a dict": (lambda db, i: i.add("n", {0: 1.0}), VectorError, "dtype object"),
    "ragged rows": (lambda db, i: i.add_batch(["n", "m"], [V, [1.0]]), VectorError, "different lengths"),
    "fewer vectors than ids": (lambda db, i: i.add_batch(["n", "m"], [V]), VectorError, "expected 2 vectors"),
    "more vectors than ids": (lambda db, i: i.upsert_batch(["n"], [V, V]), VectorError, "expected 1 vectors"),
    "vectors without ids": (lambda db, i: i.add_batch([], [V]), VectorError, "expected 0 vectors"),
    "a batch of other size": (lambda db, i: i.add_batch(["n"], [[1.0]]), VectorError, "expected 3 dimensions, got 1"),
    # Ids
    "an empty id": (lambda db, i: i.add("", V), IdError, "expected an id of 1 to 1024 UTF-8 bytes, got 0"),
    "a long id": (lambda db, i: i.add("x" * 1025, V), IdError, "got 1025"),
    "an id long in UTF-8": (lambda db, i: i.upsert("é" * 513, V), IdError, "got 1026"),
    "a number as id": (lambda db, i: i.add(5, V), IdError, "got int 5"),
    "None as id": (lambda db, i: i.add(None, V), IdError, "got NoneType"),
    "bytes as id": (lambda db, i: i.add(b"n", V), IdError, "got bytes"),
    "half a surrogate": (lambda db, i: i.add("\ud800", V), IdError, "surrogate"),
    "an id twice": (lambda db, i: i.add_batch(["n", "n"], [V, V]), IdError, "got 'n' twice"),
    "an id twice to upsert": (lambda db, i: i.upsert_batch(["n", "n"], [V, V]), IdError, "got 'n' twice"),
    "an id twice to delete": (lambda db, i: i.delete(["a", "a"]), IdError, "got 'a' twice"),
    "a string of ids": (lambda db, i: i.add_batch("nm", [V, V]), IdError, "expected a sequence of ids, got str"),
    "a generator of ids": (lambda db, i: i.add_batch((x for x in "n"), [V]), IdError, "got generator"),
    "None among ids": (lambda db, i: i.add_batch(["n", None], [V, V]), IdError, "got NoneType"),
    "numbers as ids": (lambda db, i: i.add_batch(np.arange(2), [V, V]), IdError, "got int 0"),
    "no ids": (lambda db, i: i.add_batch(None, [V]), IdError, "got NoneType"),
    "a number to delete": (lambda db, i: i.delete(5), IdError, "got int"),
    "an empty id to get": (lambda db, i: i.get(""), IdError, "got 0"),
    "a number to get": (lambda db, i: i[5], IdError, "got int 5"),
    "a number to get many": (lambda db, i: i.get_many(5), IdError, "got int"),
    "a string to get many": (lambda db, i: i.get_many("ab"), IdError, "got str 'ab'"),
    "a bad id to get many": (lambda db, i: i.get_many(["a", 7]), IdError, "got int 7"),
    "a bad id to update": (lambda db, i: i.update_metadata(7, {}), IdError, "got int 7"),
    # Items
    "an item that exists": (lambda db, i: i.add("a", V), ItemExists, "'a'"),
    "an item of a batch that exists": (lambda db, i: i.add_batch(["n", "a"], [V, V]), ItemExists, "'a'"),
    "an item to read": (lambda db, i: i["n"], ItemNotFound, "'n'"),
    "an item to delete": (lambda db, i: i.delete("n"), ItemNotFound, "'n'"),
    "an item among others to delete": (lambda db, i: i.delete(["a", "n"]), ItemNotFound, "'n'"),
    "an item to update": (lambda db, i: i.update_metadata("n", {}), ItemNotFound, "'n'"),
    "neither ids nor filter": (lambda db, i: i.delete(), ConfigError, "either ids or a filter"),
    "ids and filter": (lambda db, i: i.delete("a", filter="n = 1"), ConfigError, "either ids or a filter"),
    # Metadata
    "a list as metadata": (lambda db, i: i.add("n", V, [1]), MetadataError, "'n'"),
    "text as metadata": (lambda db, i: i.add("n", V, "text"), MetadataError, "str"),
    "a number as key": (lambda db, i: i.add("n", V, {1: 2}), MetadataError, "key"),
    "NaN in metadata": (lambda db, i: i.add("n", V, {"x": math.nan}), MetadataError, "nan"),
    "Inf in metadata": (lambda db, i: i.upsert("n", V, {"x": {"y": [math.inf]}}), MetadataError, "inf"),
    "2**64": (lambda db, i: i.add("n", V, {"x": 2**64}), MetadataError, "18446744073709551616"),
    "-2**63 - 1": (lambda db, i: i.add("n", V, {"x": -(2**63) - 1}), MetadataError, "-9223372036854775809"),
    "bytes in metadata": (lambda db, i: i.add("n", V, {"x": b"b"}), MetadataError, "bytes"),
    "a set in metadata": (lambda db, i: i.add("n", V, {"x": {1}}), MetadataError, "set"),
    "an object in metadata": (lambda db, i: i.add("n", V, {"x": Weird()}), MetadataError, "Weird"),
    "a surrogate in metadata": (lambda db, i: i.add("n", V, {"x": "\ud800"}), MetadataError, "'n'"),
    "a surrogate as key": (lambda db, i: i.add("n", V, {"\udfff": 1}), MetadataError, "'n'"),
    "too deep": (lambda db, i: i.add("n", V, deep(10_000)), MetadataError, "'n'"),
    "circular": (lambda db, i: i.add("n", V, circular()), MetadataError, "'n'"),
    "bad metadata in a batch": (lambda db, i: i.add_batch(["n"], [V], [{"x": {1}}]), MetadataError, "'n'"),
    "too few metadata": (lambda db, i: i.add_batch(["n", "m"], [V, V], [{}]), MetadataError, "expected 2"),
    "one dict for a batch": (lambda db, i: i.add_batch(["n"], [V], {"x": 1}), MetadataError, "got dict"),
    "a generator of metadata": (
        lambda db, i: i.add_batch(["n"], [V], ({} for _ in "n")),
        MetadataError,
        "got generator",
    ),
    "a number as metadata of a batch": (lambda db, i: i.add_batch(["n"], [V], 5), MetadataError, "got int"),
    "no change": (lambda db, i: i.update_metadata("a", None), MetadataError, "'a'"),
    "a bad change": (lambda db, i: i.update_metadata("a", {"x": math.nan}), MetadataError, "nan"),
    "a bad replacement": (lambda db, i: i.update_metadata("a", [1], replace=True), MetadataError, "'a'"),
    # Searching
    "k = 0": (lambda db, i: i.search(V, k=0), ConfigError, "expected k to be an integer from 1"),
    "k = -1": (lambda db, i: i.search(V, k=-1), ConfigError, "got -1"),
    "k = 2**31": (lambda db, i: i.search(V, k=2**31), ConfigError, "got 2147483648"),
    "k = 2.0": (lambda db, i: i.search(V, k=2.0), ConfigError, "got 2.0"),
    "k = True": (lambda db, i: i.search(V, k=True), ConfigError, "got True"),
    "k = None": (lambda db, i: i.search(V, k=None), ConfigError, "got None"),
    "k = '3'": (lambda db, i: i.search_batch([V], k="3"), ConfigError, "got '3'"),
    "ef = 0": (lambda db, i: i.search(V, ef_search=0), ConfigError, "expected ef_search"),
    "ef = -5": (lambda db, i: i.search_batch([V], ef_search=-5), ConfigError, "got -5"),
    "a short query": (lambda db, i: i.search([1.0]), VectorError, "expected 3 dimensions, got 1"),
    "NaN in a query": (lambda db, i: i.search([1.0, math.nan, 0.0]), VectorError, "got NaN"),
    "NaN in one of the queries": (lambda db, i: i.search_batch([V, [math.nan] * 3]), VectorError, "query 1"),
    "short queries": (lambda db, i: i.search_batch([[1.0]]), VectorError, "expected 3 dimensions, got 1"),
    "one query for many": (lambda db, i: i.search_batch(V), VectorError, "shape (3,)"),
    "no query": (lambda db, i: i.search(None), VectorError, "got neither"),
    "include something else": (lambda db, i: i.search(V, include=("color",)), ConfigError, "got ('color',)"),
    "include a string": (lambda db, i: i.search(V, include="vector"), ConfigError, "got 'vector'"),
    "include None": (lambda db, i: i.search(V, include=None), ConfigError, "got None"),
    "include lists": (lambda db, i: i.search(V, include=[["vector"]]), ConfigError, "include"),
    "include nothing iterable": (lambda db, i: i.search_batch([V], include=5), ConfigError, "got 5"),
    "no threads": (lambda db, i: i.search_batch([V], n_threads=0), ConfigError, "n_threads"),
    "half a thread": (lambda db, i: i.add_batch(["n"], [V], n_threads=0.5), ConfigError, "got 0.5"),
    "too many threads": (lambda db, i: i.add_batch(["n"], [V], n_threads=10**9), ConfigError, "n_threads"),
    "progress that cannot be called": (lambda db, i: i.add_batch(["n"], [V], progress=7), ConfigError, "got 7"),
    "progress of a save": (lambda db, i: db.save(progress="bar"), ConfigError, "got 'bar'"),
    # Filters
    "a filter that does not parse": (lambda db, i: i.search(V, filter="n >"), FilterError, "column 4"),
    "an empty filter": (lambda db, i: i.search(V, filter=""), FilterError, "filter"),
    "open parentheses": (lambda db, i: i.ids("(n = 1"), FilterError, "column"),
    "a filter of another type": (lambda db, i: i.search(V, filter=5), FilterError, "got int"),
    "a field as filter": (lambda db, i: i.count(kektordb.F("n")), FilterError, "compare it"),
    "a filter to delete by": (lambda db, i: i.delete(filter="n = "), FilterError, "column"),
    "another type to delete by": (lambda db, i: i.delete(filter=7), FilterError, "got int"),
    "a filter to explain": (lambda db, i: i.explain("AND"), FilterError, "column"),
    "nothing to explain": (lambda db, i: i.explain(None), FilterError, "got NoneType"),
    "a parameter without value": (lambda db, i: i.search(V, filter="n = $x"), FilterError, "$x"),
    "a parameter of another name": (lambda db, i: i.search(V, filter="n = $x", params={"y": 1}), FilterError, "$y"),
    "a parameter without value to delete by": (lambda db, i: i.delete(filter="n = $x"), FilterError, "$x"),
    "a value that is no value": (lambda db, i: i.ids("n = $x", {"x": Weird()}), FilterError, "Weird"),
    "params that are no dict": (lambda db, i: i.search(V, filter="n = $x", params=[1]), ConfigError, "got list"),
    "a filter too long": (lambda db, i: i.search(V, filter="n = 1 OR " * 8_000 + "n = 1"), FilterError, "65"),
    "a filter too deep": (lambda db, i: i.search(V, filter="(" * 101 + "n = 1" + ")" * 101), FilterError, "100"),
    # Indexes
    "an index that exists": (lambda db, i: db.create_index("items"), IndexExists, "'items'"),
    "an index to read": (lambda db, i: db["nowhere"], IndexNotFound, "'nowhere'"),
    "an index to drop": (lambda db, i: db.drop_index("nowhere"), IndexNotFound, "'nowhere'"),
    "a number as index": (lambda db, i: db[5], IndexNotFound, "got 5"),
    "a list as index": (lambda db, i: db[["items"]], IndexNotFound, "items"),
    "an empty name": (lambda db, i: db.create_index(""), ConfigError, "got 0"),
    "a long name": (lambda db, i: db.create_index("x" * 256), ConfigError, "got 256"),
    "a number as name": (lambda db, i: db.create_index(5), ConfigError, "got int"),
    "a surrogate as name": (lambda db, i: db.create_index("\ud800"), ConfigError, "Unicode"),
    "a metric": (lambda db, i: db.create_index("n", metric="manhattan"), ConfigError, "got 'manhattan'"),
    "no metric": (lambda db, i: db.create_index("n", metric=None), ConfigError, "got None"),
    "a dim of 0": (lambda db, i: db.create_index("n", dim=0), ConfigError, "got 0"),
    "a dim too large": (lambda db, i: db.create_index("n", dim=65_537), ConfigError, "got 65537"),
    "a dim as text": (lambda db, i: db.create_index("n", dim="3"), ConfigError, "got '3'"),
    "m = 1": (lambda db, i: db.create_index("n", m=1), ConfigError, "got 1"),
    "m = 513": (lambda db, i: db.create_index("n", m=513), ConfigError, "got 513"),
    "ef_construction = 0": (lambda db, i: db.create_index("n", ef_construction=0), ConfigError, "ef_construction"),
    "a negative seed": (lambda db, i: db.create_index("n", seed=-1), ConfigError, "seed"),
    "a seed as float": (lambda db, i: db.create_index("n", seed=1.0), ConfigError, "got 1.0"),
    # What is done to a whole database or index
    "a number as an index": (lambda db, i: db.index(5), IndexNotFound, "got 5"),
    "progress of a rewrite": (lambda db, i: db.rewrite_aof(progress=7), ConfigError, "got 7"),
    "a number to back up to": (lambda db, i: db.backup(5), ConfigError, "got int 5"),
    "nothing to back up to": (lambda db, i: db.backup(""), ConfigError, "got ''"),
    "progress of a backup": (lambda db, i: db.backup("b.kdb", progress="bar"), ConfigError, "got 'bar'"),
    "how deep to check": (lambda db, i: db.check(deep="yes"), ConfigError, "got 'yes'"),
    "a precision": (lambda db, i: i.compress("int4"), ConfigError, "got 'int4'"),
    "no precision": (lambda db, i: i.compress(None), ConfigError, "got None"),
    "a setting": (lambda db, i: i.configure(color=1), ConfigError, "maintenance"),
    "a share above 1": (lambda db, i: i.configure(delete_threshold=2), ConfigError, "got 2"),
    "a duration": (lambda db, i: i.configure(vacuum_interval="soon"), ConfigError, "vacuum_interval"),
    "no candidates to refine": (lambda db, i: i.refine(0), ConfigError, "got 0"),
    "candidates as text": (lambda db, i: i.refine("x"), ConfigError, "got 'x'"),
    "no queries to check": (lambda db, i: i.check_recall(n=0), ConfigError, "got 0"),
    "no hits to check": (lambda db, i: i.check_recall(k=0), ConfigError, "got 0"),
    "a recall above 1": (lambda db, i: i.check_recall(recall=2), ConfigError, "got 2"),
    "NaN in a query to check": (lambda db, i: i.check_recall(queries=[[math.nan] * 3]), VectorError, "NaN"),
    "NaN in a query to calibrate": (lambda db, i: i.calibrate([[math.nan] * 3]), VectorError, "NaN"),
    "short queries to calibrate": (lambda db, i: i.calibrate([[1.0]]), VectorError, "got 1"),
    # Keys
    "a number as key-value key": (lambda db, i: db.kv.__setitem__(5, b""), ConfigError, "got int"),
    "an empty key": (lambda db, i: db.kv.__setitem__("", b""), ConfigError, "got 0"),
    "a long key": (lambda db, i: db.kv.__setitem__("x" * 65_537, b""), ConfigError, "got 65537"),
    "a number as value": (lambda db, i: db.kv.__setitem__("n", 5), ConfigError, "got int"),
    "a surrogate as value": (lambda db, i: db.kv.__setitem__("n", "\ud800"), ConfigError, "surrogate"),
    "a key that is not there": (lambda db, i: db.kv["n"], KeyError, "n"),
    "a key to delete": (lambda db, i: db.kv.__delitem__("n"), KeyError, "n"),
    "a key of the database's own": (lambda db, i: db.kv.__setitem__("\0kektordb\0x", b""), ConfigError, "reserved"),
    "one of those to delete": (lambda db, i: db.kv.__delitem__("\0kektordb\0x"), ConfigError, "reserved"),
    "a number as prefix": (lambda db, i: db.kv.prefix(5), ConfigError, "got int"),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[kektordb.Database, kektordb.Index]]:
    with kektordb.open(tmp_path_factory.mktemp("bad") / "db", autosave="") as db:
        items = db.create_index("items", metric="euclidean")
        items.add_batch(["a", "b", "c"], [V, [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], [{"n": 1}, {"n": 2}, {}])
        db.create_index("bare")
        db.kv["key"] = b"value"
        yield db, items


def snapshot(db: kektordb.Database, items: kektordb.Index) -> Any:
    """Everything that a refused call could have moved."""
    assert db.path is not None
    return (
        [(item.id, item.vector.tolist(), item.metadata) for item in map(items.__getitem__, items)],
        [(hit.id, hit.distance) for hit in items.search(V)],
        items.ids("n < 5"),
        items.stats()["n_tombstones"],
        (list(db), len(db["bare"]), db["bare"].dim, dict(db.kv)),
        {key: db.stats()[key] for key in ("last_seq", "log_bytes", "generation", "n_changes_since_save")},
        {file.name: file.read_bytes() for file in db.path.iterdir()},
    )


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_by_name_and_moves_nothing(
    opened: tuple[kektordb.Database, kektordb.Index], case: str
) -> None:
    db, items = opened
    call, kind, content = CASES[case]
    before = snapshot(db, items)

    with pytest.raises(kind) as caught:
        call(db, items)

    assert type(caught.value) is kind
    assert content in str(caught.value)
    assert len(str(caught.value)) < 1000, "a message is to be read"
    assert snapshot(db, items) == before


@pytest.mark.parametrize("case", [case for case, (_, kind, _) in CASES.items() if kind is not ConfigError])
def test_bad_input_is_refused_in_a_batch_and_the_batch_goes_on(case: str) -> None:
    call, kind, _ = CASES[case]
    with kektordb.open(":memory:") as db:
        items = db.create_index("items", metric="euclidean")
        items.add_batch(["a", "b", "c"], [V, [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], [{"n": 1}, {"n": 2}, {}])
        db.create_index("bare")
        with db.batch():
            items.add("d", V)
            with pytest.raises((kind, ConfigError)):
                call(db, items)
            items.add("e", V)

        assert items.ids() == ["a", "b", "c", "d", "e"]
        assert list(db) == ["bare", "items"]


@pytest.mark.parametrize(
    ("path", "options", "content"),
    [
        ("db", {"sync": "sometimes"}, "got 'sometimes'"),
        ("db", {"sync": None}, "got None"),
        ("db", {"recover": "all"}, "got 'all'"),
        ("db", {"recover": True}, "got True"),
        ("db", {"autosave": "often"}, "got 'often'"),
        ("db", {"autosave": "60"}, "got '60'"),
        ("db", {"autosave": ["60 1", "-1 5"]}, "got '-1 5'"),
        ("db", {"autosave": [60]}, "got 60"),
        ("db", {"autosave": 60}, "got 60"),
        ("db", {"autosave": None}, "got None"),
        ("db", {"aof_rewrite_percentage": -1}, "got -1"),
        ("db", {"aof_rewrite_percentage": 1.5}, "got 1.5"),
        ("db", {"n_threads": 0}, "got 0"),
        (":memory:", {"n_threads": "2"}, "got '2'"),
        (":memory:", {"sync": "never"}, "got 'never'"),
        (5, {}, "got int"),
        (None, {}, "got NoneType"),
        ("", {}, "got ''"),
        ("a\x00b", {}, "got 'a"),
    ],
)
def test_an_option_that_cannot_be_is_refused_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, options: dict[str, Any], content: str
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError) as caught:
        kektordb.open(path, **options)

    assert content in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_every_error_is_of_the_tree() -> None:
    kinds = {kind for _, kind, _ in CASES.values()} - {KeyError}

    assert all(issubclass(kind, KektorError) for kind in kinds)
    assert len(CASES) >= 160


# Their arguments are tested above, or where it is said.
NOT_AMONG_CASES = {"open", "stats"}


def test_every_public_call_that_takes_something_is_among_the_cases() -> None:
    called = {name for call, _, _ in CASES.values() for name in call.__code__.co_names}
    for kind in (kektordb.Database, kektordb.Index):
        for name, function in inspect.getmembers(kind, callable):
            if not name.startswith("_") and len(inspect.signature(function).parameters) > 1:
                assert name in called | NOT_AMONG_CASES, f"{kind.__name__}.{name}"
