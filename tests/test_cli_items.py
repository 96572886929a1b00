"""The commands for items: search, add, import, export; on a directory and on a server."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live import live

import kektordb
from kektordb import cli
from kektordb.commands import originals
from kektordb.data import parts
from kektordb.server import Options

N, DIM = 50, 4
ROWS = np.random.default_rng(8).standard_normal((N, DIM)).astype(np.float32)
METADATA: list[dict[str, Any]] = [{"n": i, "text": f"word{i % 5} ünd more", "deep": {"a": [1, None]}} for i in range(N)]
IDS = [f"id, {i}" for i in range(N)]


@pytest.fixture(params=["directory", "server"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give a database of one index, as a command names it."""
    with kektordb.open(tmp_path / "db") as database:
        index = database.create_index("a", metric="euclidean", text_language="english")
        index.add_batch(IDS, ROWS, METADATA)
        database.kv["key/ü"] = "value"
        if request.param == "server":
            with live(database) as url:
                yield url
            return
    yield str(tmp_path / "db")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> str:
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == status, capsys.readouterr().err
    return capsys.readouterr().out


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> Any:
    return json.loads(run(capsys, *arguments, "--json", status=status))


def items_of(path: Path, name: str = "a") -> dict[str, tuple[list[float], dict[str, Any]]]:
    with kektordb.open(path, read_only=True) as database:
        index = database[name]
        return {item.id: (item.vector.tolist(), item.metadata) for item in index.get_many(index.ids()) if item}


WHOLE = {id: (row.tolist(), metadata) for id, row, metadata in zip(IDS, ROWS, METADATA, strict=True)}


def test_search(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    vector = ",".join(map(str, ROWS[7]))
    found = answer(capsys, "search", where, "a", f"--vector={vector}", "-k", "3")["results"]
    assert found[0] == {"id": "id, 7", "score": 1.0, "distance": 0.0, "metadata": METADATA[7]}
    assert len(found) == 3
    assert found == answer(capsys, "search", where, "a", f"--vector=[{vector}]", "--k", "3")["results"]
    assert found == answer(capsys, "search", where, "a", "--like", "id, 7", "-k", "3", "--ef-search", "200")["results"]
    filtered = ("--filter", "n < $most AND n IN $some", "--param", "most=20", "--param", "some=[3, 7, 30]")
    hits = answer(capsys, "search", where, "a", "--like", "id, 9", "--with-vectors", *filtered)["results"]
    assert sorted(hit["id"] for hit in hits) == ["id, 3", "id, 7"]
    assert {tuple(hit["vector"]) for hit in hits} == {tuple(ROWS[i].tolist()) for i in (3, 7)}
    texts = answer(capsys, "search", where, "a", "--text", "word3", "--alpha", "0")["results"]
    assert len(texts) == 10
    assert texts[0]["snippet"] == "<b>word3</b> ünd more"
    listed = answer(capsys, "search", where, "a", "--filter", "n >= 10", "-k", "2")
    assert (listed["count"], [hit["id"] for hit in listed["results"]]) == (40, ["id, 10", "id, 11"])


def test_search_for_people(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "search", where, "a", "--like", "id, 7", "-k", "2").splitlines()
    assert lines[0].split() == ["id", "score", "distance", "metadata"]
    assert lines[1].split()[:4] == ["id,", "7", "1", "0"]
    assert "ünd more" in lines[1]
    assert run(capsys, "search", where, "a", "--like", "id, 7", "--filter", "n > 99") == "nothing found\n"
    assert run(capsys, "search", where, "a", "--filter", "n > 99") == "0 items match\n"
    assert "50 items match" in run(capsys, "search", where, "a", "--filter", "n >= 0")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("IndexNotFound", ["search", "DB", "b", "--like", "x"]),
        ("ItemNotFound", ["search", "DB", "a", "--like", "x"]),
        ("FilterError", ["search", "DB", "a", "--filter", "n <"]),
        ("VectorError", ["search", "DB", "a", "--vector", "1,2"]),
        ("ConfigError", ["search", "DB", "a", "--vector", "one"]),
        ("ConfigError", ["search", "DB", "a", "--vector", "1", "--like", "x"]),
        ("ConfigError", ["search", "DB", "a"]),
        ("ConfigError", ["search", "DB", "a", "--filter", "n < $x", "--param", "x"]),
        ("ConfigError", ["search", "DB", "a", "--filter", "n < 1", "-k", "0"]),
        ("ItemExists", ["add", "DB", "a", "id, 1", "--vector", "1,2,3,4"]),
        ("ConfigError", ["add", "DB", "a", "x", "--vector", "1,2,3,4", "--metadata", "{"]),
        ("MetadataError", ["add", "DB", "a", "x", "--vector", "1,2,3,4", "--metadata", "[1]"]),
        ("ConfigError", ["add", "DB", "a", "x", "--vector", "1,2,3,4", "--metric", "dot"]),
        ("ConfigError", ["import", "DB", "a"]),
        ("ConfigError", ["import", "DB", "a", "x.txt"]),
        ("StorageError", ["import", "DB", "a", "none.jsonl"]),
        ("ConfigError", ["import", "DB", "a", "x.npy", "--known-ids", "x"]),
        ("ConfigError", ["import", "DB", "a", "x.npy", "--from", "http://localhost"]),
        ("ConfigError", ["import", "DB", "--from", "http://localhost", "--create"]),
        ("ConfigError", ["import", "DB", "--from", "localhost"]),
        ("ConfigError", ["export", "DB", "a", "x.fvecs"]),
        ("ConfigError", ["search", "DB", "a", "--like", "x", "--token-file", "none"]),
    ],
)
def test_what_is_wrong_is_said(where: str, kind: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if "none" in arguments and not where.startswith("http"):
        pytest.skip("a token is read for servers")
    given = [where if argument == "DB" else argument for argument in arguments]
    assert answer(capsys, *given, status=3)["error"]["type"] == kind


def test_add(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = '{"n": 1, "s": "x"}'
    assert answer(capsys, "add", where, "a", "new", "--vector=1,2,3,-4", "--metadata", metadata)["n_items"] == N + 1
    found = answer(capsys, "search", where, "a", "--like", "new", "-k", "1", "--with-vectors")["results"][0]
    assert (found["vector"], found["metadata"]) == ([1, 2, 3, -4], {"n": 1, "s": "x"})
    assert "51 items" in run(capsys, "add", where, "a", "new", "--vector", "[1, 1, 1, 1]", "--replace")
    made = ("--create", "--metric", "dot", "--precision", "float16", "--text-language", "english")
    assert answer(capsys, "add", where, "b", "x", "--vector", "1,2", *made)["n_items"] == 1
    assert answer(capsys, "add", where, "b", "y", "--vector", "1,2", *made)["n_items"] == 2


def test_a_path_that_is_mistyped_makes_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "add", tmp_path / "none", "a", "x", "--vector", "1", status=3)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("format", ["jsonl", "csv", "npy", "parquet"])
def test_what_is_exported_comes_back(
    where: str, format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="the extra parquet")
    monkeypatch.setattr(parts, "MAX_ROWS", 7)
    file = tmp_path / f"items.{format}"
    assert answer(capsys, "export", where, "a", file)["n_items"] == N
    beside = ["--ids", f"{file}.jsonl", "--metadata", f"{file}.jsonl"] if format == "npy" else []
    new = tmp_path / "new"
    data = answer(capsys, "import", new, "a", file, "--create", "--metric", "euclidean", *beside)
    assert (data["n_added"], data["n_items"]) == (N, N)
    assert items_of(new) == WHOLE
    assert answer(capsys, "import", new, "a", file, *beside, status=3)["error"]["type"] == "ItemExists"
    assert answer(capsys, "import", new, "a", file, "--replace", *beside)["n_items"] == N
    assert answer(capsys, "export", where, "a", file, status=3)["error"]["type"] == "StorageError"
    assert "5 items" in run(capsys, "export", where, "a", tmp_path / f"some.{format}", "--filter", "n < 5")


def test_import_into_either(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "items.ndjson"
    file.write_text('{"id": "x", "vector": [1, 2, 3, 4]}\n\n{"id": 7, "vector": [0, 0, 0, 1], "metadata": {"a": 1}}\n')
    assert "2 items came in, it has 52 now" in run(capsys, "import", where, "a", file)
    assert answer(capsys, "search", where, "a", "--like", "7", "-k", "1")["results"][0]["metadata"] == {"a": 1}


def test_vectors_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", ROWS.astype(np.float64))
    (tmp_path / "x.fvecs").write_bytes(b"".join(struct.pack("<i", DIM) + row.astype("<f4").tobytes() for row in ROWS))
    whole = np.hstack([np.full((N, 1), DIM), np.arange(N * DIM).reshape(N, DIM)])
    (tmp_path / "x.ivecs").write_bytes(whole.astype("<i4").tobytes())
    (tmp_path / "ids").write_text("".join(f"{id}\n" for id in IDS))
    (tmp_path / "of").write_text("".join(json.dumps(of) + "\n" for of in METADATA))
    beside = ("--ids", tmp_path / "ids", "--metadata", tmp_path / "of", "--create", "--metric", "euclidean")
    for kind in ("npy", "fvecs"):
        run(capsys, "import", tmp_path / kind, "a", tmp_path / f"x.{kind}", *beside)
        assert items_of(tmp_path / kind) == WHOLE
        run(capsys, "import", tmp_path / kind, "b", tmp_path / f"x.{kind}", "--create")
        assert list(items_of(tmp_path / kind, "b")) == [str(i) for i in range(N)]
    run(capsys, "import", tmp_path / "npy", "whole", tmp_path / "x.ivecs", "--create", "--metric", "euclidean")
    assert items_of(tmp_path / "npy", "whole")["7"] == ([28, 29, 30, 31], {})
    (tmp_path / "ids").write_text("one\n")
    error = answer(capsys, "import", tmp_path / "npy", "c", tmp_path / "x.npy", *beside, status=3)["error"]
    assert "a line for each of the 50 rows" in error["message"]
    for name, more in (("ids", "one more\n"), ("of", "{}\n")):
        (tmp_path / "ids").write_text("".join(f"{id}\n" for id in IDS))
        (tmp_path / "of").write_text("".join(json.dumps(of) + "\n" for of in METADATA))
        with (tmp_path / name).open("a") as file:
            file.write("\n" + more)
        error = answer(capsys, "import", tmp_path / "more", "a", tmp_path / "x.npy", *beside, status=3)["error"]
        assert "50 rows" in error["message"]
        assert error["message"].endswith("got more")
        assert items_of(tmp_path / "more") == {}
        (tmp_path / name).write_text((tmp_path / name).read_text().removesuffix(more))  # an empty line is none
    run(capsys, "import", tmp_path / "more", "a", tmp_path / "x.npy", *beside)


def test_csv_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text(
        'id,v0,v1,name,price,zip,flag,empty\nx,1,2.5,"red, ""big"" shoe",40,007,true,\ny,-1,1e-3,,1.5,-0,false,\n'
    )
    run(capsys, "import", tmp_path / "db", "a", tmp_path / "a.csv", "--create", "--metric", "euclidean")
    found = items_of(tmp_path / "db")
    assert found["x"] == ([1, 2.5], {"name": 'red, "big" shoe', "price": 40, "zip": "007", "flag": True})
    assert found["y"][1] == {"price": 1.5, "zip": "-0", "flag": False}
    (tmp_path / "b.csv").write_text("id,vector,metadata\nz,1 2,plain\n")
    run(capsys, "import", tmp_path / "db", "a", tmp_path / "b.csv")
    assert items_of(tmp_path / "db")["z"] == ([1, 2], {"metadata": "plain"})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"id": "x", "vector": [1, 2]}\n{"id": "y"}\n', "line 2: expected an object with id and vector"),
        ("a.jsonl", "[1]\n", "line 1"),
        ("a.jsonl", '{"id": "x", "vector": [1, 2]}\n{"id": "y", "vector": [1]}\n', "of different lengths"),
        ("a.jsonl", '{"id": "x", "vector": "no"}\n', "line 1: expected an object with id and vector"),
        ("a.jsonl", b"\xff\n", "expected UTF-8"),
        ("a.csv", "name,vector\n", "id among them"),
        ("a.csv", "id,name\n", "expected a column vector"),
        ("a.csv", "id,vector\nx\n", "line 2: expected 2 columns, got 1"),
        ("a.csv", "id,vector\nx,one\n", "line 2: expected numbers"),
        ("a.csv", "id,vector,metadata\nx,1,{\n", "expected metadata as JSON"),
        ("a.npy", "no", "a.npy"),
        ("a.fvecs", b"\2\0\0\0aaaabbb", "expected rows of 2 components"),
        ("a.fvecs", b"\1\0\0\0aaaa\2\0\0\0aaaa", "expected all rows"),
    ],
)
def test_files_that_are_wrong(
    name: str, content: str | bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    error = answer(capsys, "import", tmp_path / "db", "a", tmp_path / name, "--create", status=3)["error"]
    assert error["type"] == ("VectorError" if "lengths" in said else "ConfigError")
    assert said in error["message"]


def test_an_import_that_stops_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", 2)
    lines = [json.dumps({"id": id, "vector": [1, 2]}) for id in "abcdc"]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    error = answer(capsys, "import", tmp_path / "db", "a", tmp_path / "a.jsonl", "--create", status=3)["error"]
    assert error["type"] == "ItemExists"
    assert error["message"].endswith("(the first 4 items were stored before)")
    assert list(items_of(tmp_path / "db")) == ["a", "b", "c", "d"]


# ------------------------------------------------------------------------------------------------- from other servers


@pytest.fixture(name="source")
def _source(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve three indexes under a token."""
    monkeypatch.setattr(originals, "PAGE", 8)
    monkeypatch.setenv("KEKTOR_TOKEN", "secret")
    with kektordb.open(":memory:") as database:
        database.create_index("a", metric="euclidean", text_language="english").add_batch(IDS, ROWS, METADATA)
        database.create_index("b / ü", metric="cosine", precision="float16", m=8).add("x", [3.0, 4.0])
        database.create_index("empty")
        for i in range(3):
            database.kv[f"key/{i}"] = f"ü{i}"
        with live(database, Options(token="secret")) as url:
            yield url


def test_a_server_is_copied(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, "import", tmp_path / "db", "--from", source)
    assert data["n_keys"] == 3
    assert data["indexes"]["a"] == {"n_items": N, "n_expected": N}
    with kektordb.open(tmp_path / "db") as db:
        assert list(db) == ["a", "b / ü", "empty"]
        config = db["b / ü"].config
        assert (config.metric, config.precision, config.m) == ("cosine", "float16", 8)
        np.testing.assert_allclose(db["b / ü"]["x"].vector, [0.6, 0.8], rtol=1e-3)
        assert db["a"].config.text_language == "english"
        assert dict(db.kv) == {f"key/{i}": f"ü{i}".encode() for i in range(3)}
    assert items_of(tmp_path / "db") == WHOLE
    assert answer(capsys, "import", tmp_path / "db", "--from", source, status=3)["error"]["type"] == "IndexExists"
    assert "50" in run(capsys, "import", tmp_path / "db", "a", "--from", source, "--replace")
    assert (
        answer(capsys, "import", tmp_path / "db", "none", "--from", source, status=3)["error"]["type"] == "ConfigError"
    )


def test_a_server_that_cannot_list_its_items(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the original before 0.5: no export, no list of keys."""
    get = originals.Source._get

    def old(self: originals.Source, path: str) -> Any:
        if "/export" in path or path.startswith("/kv"):
            raise kektordb.ServerError("404 page not found", 404)
        return get(self, path)

    monkeypatch.setattr(originals.Source, "_get", old)
    error = answer(capsys, "import", tmp_path / "db", "a", "--from", source, status=3)["error"]
    assert "--known-ids" in error["message"]
    whole = np.hstack([np.full((N, 1), DIM), np.arange(N * DIM).reshape(N, DIM)])
    (tmp_path / "x.ivecs").write_bytes(whole.astype("<i4").tobytes())
    (tmp_path / "ids").write_text("".join(f"{id}\n" for id in (*IDS[:20], "none")), encoding="utf-8")
    text = run(capsys, "import", tmp_path / "new", "--from", source, "--known-ids", tmp_path / "ids", status=2)
    assert "cannot list" in text
    assert "not all items" in text
    assert items_of(tmp_path / "new") == dict(list(WHOLE.items())[:20])


def test_parquet_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    deep = [{"a": 1}, None]
    columns = {"id": [1, 2], "vector": [[1.0, 2.0], [3.0, 4.0]], "price": [5, None], "metadata": deep}
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    run(capsys, "import", tmp_path / "db", "a", tmp_path / "a.parquet", "--create", "--metric", "euclidean")
    assert items_of(tmp_path / "db") == {"1": ([1, 2], {"a": 1, "price": 5}), "2": ([3, 4], {})}
    (tmp_path / "b.parquet").write_bytes(b"no")
    error = answer(capsys, "import", tmp_path / "db", "a", tmp_path / "b.parquet", status=3)["error"]
    assert error["type"] == "ConfigError"
    parquet.write_table(pa.table({"id": ["a"]}), tmp_path / "c.parquet")
    error = answer(capsys, "import", tmp_path / "db", "a", tmp_path / "c.parquet", status=3)["error"]
    assert "expected columns id and vector" in error["message"]
