"""The tools of `kektordb mcp`: alone, and over the protocol with its own client, in memory, on stdio and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from live import live

import kektordb
from kektordb import cli
from kektordb.kv import AllKeys
from kektordb.links import RESERVED
from kektordb.mcp import tools as module
from kektordb.mcp.tools import Tools

ROOT = Path(__file__).parent.parent
TEXTS = {"fox": "A fox jumps over the dog", "cat": "A cat sleeps", "sea": "The sea is blue"}


def fill(database: kektordb.Database) -> None:
    words = database.create_index("words", text_language="english")
    for n, (id, text) in enumerate(TEXTS.items()):
        words.add(id, [n, 1.0], {"text": text, "n": n})
    meaning = database.create_index("meaning", embedder="hashing:64")
    meaning.add_texts(list(TEXTS.values()), list(TEXTS))
    database.create_index("new", text_language="english")
    database.create_index("bare").add("x", [1.0, 0.0])
    database.kv["k"] = "välue"
    database.kv["raw"] = b"\xff\xfe"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[kektordb.Database]:
    with kektordb.open(tmp_path / "db") as opened:
        fill(opened)
        yield opened


@pytest.fixture(params=["embedded", "remote"])
def tools(request: pytest.FixtureRequest, database: kektordb.Database) -> Iterator[Tools]:
    if request.param == "embedded":
        yield Tools(database, "auto", allow_writes=True)
        return
    with live(database) as url, kektordb.connect(url) as remote:
        yield Tools(remote, "auto", allow_writes=True)


# --------------------------------------------------------------------------------------------------------------- tools


def ids(found: dict[str, Any]) -> list[str]:
    json.dumps(found)  # plain data
    return [hit["id"] for hit in found["hits"]]


def test_indexes_say_what_they_can_do(tools: Tools) -> None:
    found = {one["name"]: one for one in tools.list_indexes()["indexes"]}
    assert list(found) == ["bare", "meaning", "new", "words"]
    assert found["words"] == {
        "name": "words",
        "n_items": 3,
        "dim": 2,
        "metric": "cosine",
        "text_language": "english",
        "embedder": None,
        "by_meaning": False,
    }
    assert (found["meaning"]["embedder"], found["meaning"]["by_meaning"]) == ("hashing:64", True)
    described = tools.describe_index("words")
    assert (described["fields"], described["n_items"]) == (["n", "text"], 3)
    with pytest.raises(kektordb.IndexNotFound):
        tools.describe_index("none")


def test_search_by_words_by_meaning_by_vector_and_by_filter(tools: Tools) -> None:
    found = tools.search("words", text="foxes")
    assert ids(found) == ["fox"]
    assert found["hits"][0]["snippet"] == "A <b>fox</b> jumps over the dog"
    assert found["hits"][0]["metadata"] == {"text": TEXTS["fox"], "n": 0}
    assert ids(tools.search("meaning", text=TEXTS["sea"], k=1)) == ["sea"]
    assert ids(tools.search("words", vector=[0.0, 1.0], k=2)) == ["fox", "cat"]
    assert ids(tools.search("words", vector=[0.0, 1.0], filter="n > 0", k=2)) == ["cat", "sea"]
    found = tools.search("words", filter="n >= 1", k=1)
    assert (ids(found), found["n_matching"]) == (["cat"], 2)
    assert tools.search("words", filter=" ")["n_matching"] == 3
    for wrong in (
        {"text": "a", "vector": [1.0]},
        {"text": "a", "k": 0},
        {"text": "a", "k": 101},
        {"text": "a", "k": True},
        {"vector": [1.0, 2.0, 3.0]},
        {"filter": "n >"},
        {"filter": "n = $x"},
    ):
        with pytest.raises(kektordb.KektorError):
            tools.search("words", **wrong)
    with pytest.raises(kektordb.ConfigError, match="cannot be searched by text"):
        tools.search("bare", text="a")


def test_without_an_embedder_nothing_is_embedded(database: kektordb.Database) -> None:
    tools = Tools(database, allow_writes=True)
    with pytest.raises(kektordb.ConfigError, match="cannot be searched by text"):
        tools.search("meaning", text="sea")
    with pytest.raises(kektordb.ConfigError, match="hashing:64"):
        tools.add_texts("meaning", ["more"])
    other = Tools(database, "hashing:32", allow_writes=True)
    assert not any(one["by_meaning"] for one in other.list_indexes()["indexes"])
    with pytest.raises(kektordb.ConfigError):
        other.search("meaning", text="sea")


def test_get(tools: Tools) -> None:
    found = tools.get("words", ["cat", "none", "fox"], with_vectors=True)
    assert [item["id"] for item in found["items"]] == ["cat", "fox"]
    assert found["missing"] == ["none"]
    assert found["items"][1]["vector"] == [0.0, 1.0]
    assert "vector" not in tools.get("words", ["cat"])["items"][0]
    with pytest.raises(kektordb.IdError):
        tools.get("words", ["x"] * 101)


def test_texts_that_are_long_are_cut_in_hits_alone(tools: Tools) -> None:
    text = "fox " * 5000
    tools.add_texts("words", [text], ["long"], [{"deep": [{"a": text}]}])
    hit = tools.search("words", filter="EXISTS(deep)")["hits"][0]
    assert len(json.dumps(hit)) < 3 * module.MAX_CHARACTERS
    assert hit["metadata"]["text"].endswith("…")
    assert tools.get("words", ["long"])["items"][0]["metadata"]["text"] == text


def test_texts_are_added_by_meaning_or_as_words_alone(tools: Tools) -> None:
    assert tools.add_texts("meaning", ["the moon"], ["moon"], [{"n": 5}]) == {"ids": ["moon"]}
    assert ids(tools.search("meaning", text="the moon", k=1)) == ["moon"]
    (made,) = tools.add_texts("words", ["A wolf howls"])["ids"]
    assert ids(tools.search("words", text="wolves OR wolf howling"))[0] == made
    assert ids(tools.search("words", vector=[0.0, 1.0], k=1)) == ["fox"], "zeros are near to nothing"
    tools.add_texts("new", ["first of all"], ["1"], [{"n": 1}])
    assert tools.get("new", ["1"])["items"] == [{"id": "1", "metadata": {"n": 1, "text": "first of all"}}]
    with pytest.raises(kektordb.ItemExists):
        tools.add_texts("new", ["new", "morning"], ["2", "1"])
    tools.add_texts("new", ["new", "morning"], ["2", "1"], replace=True)
    assert ids(tools.search("new", text="morning")) == ["1"]
    for wrong in (
        {"texts": []},
        {"texts": ["a"] * 1001},
        {"texts": ["a"], "ids": ["1", "2"]},
        {"texts": ["a"], "metadata": []},
        {"texts": ["a"], "metadata": [{"text": "other"}]},
    ):
        with pytest.raises(kektordb.KektorError):
            tools.add_texts("new", **wrong)
    with pytest.raises(kektordb.ConfigError, match="no text_language"):
        tools.add_texts("bare", ["a"])


def test_an_empty_index_comes_to_have_the_embedder_that_was_named(database: kektordb.Database) -> None:
    tools = Tools(database, "hashing:32", allow_writes=True)
    tools.add_texts("new", list(TEXTS.values()), list(TEXTS))
    assert database["new"].config.embedder == "hashing:32"
    assert ids(tools.search("new", text=TEXTS["cat"], k=1)) == ["cat"]
    tools.add_texts("words", ["A wolf"], ["wolf"])
    assert database["words"].config.embedder == "", "its vectors are of something else"


def test_keys(tools: Tools) -> None:
    assert tools.kv_get("k") == {"key": "k", "value": "välue", "encoding": "text"}
    assert tools.kv_get("raw") == {"key": "raw", "value": "//4=", "encoding": "base64"}
    assert tools.kv_get("none") == {"key": "none", "value": None}
    tools.kv_set("k", "new")
    assert tools.kv_get("k")["value"] == "new"
    tools.kv_set("large", "x" * 200_001)
    with pytest.raises(kektordb.ConfigError, match="too long"):
        tools.kv_get("large")


def test_a_reader_sees_what_the_writer_does(database: kektordb.Database, tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db", read_only=True) as reader:
        tools = Tools(reader, "auto")
        database["words"].add("owl", [1.0, 1.0], {"text": "An owl"})
        assert ids(tools.search("words", text="owl")) == ["owl"]
        assert ids(tools.search("meaning", text=TEXTS["sea"], k=1)) == ["sea"]
        for allowed in (False, True):
            with pytest.raises(kektordb.ReadOnlyDatabase):
                Tools(reader, allow_writes=allowed).kv_set("a", "b")
            with pytest.raises(kektordb.ReadOnlyDatabase):
                Tools(reader, allow_writes=allowed).add_texts("words", ["a"])


def test_the_command_says_which_package_is_missing(tmp_path: Path) -> None:
    code = "import sys; sys.modules['mcp'] = None; from kektordb.cli import main; sys.exit(main(['mcp', sys.argv[1]]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "pip install 'kektordb[mcp]'" in done.stderr


def test_the_command_says_what_is_wrong(mcp: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--embedder", "no such"], ["--allowed-origin", "http://a"], []):
        assert cli.main(["mcp", str(tmp_path / "none"), *arguments]) == 3
        assert capsys.readouterr().err.startswith("kektordb: ")


# ------------------------------------------------------------------------------------------------------------ protocol


@pytest.fixture
def mcp() -> Any:
    return pytest.importorskip("mcp", reason="the extra mcp")


READS = ["describe_index", "get", "kv_get", "list_indexes", "search"]
WRITES = ["add_texts", "kv_set"]
Work = Callable[[Any], Coroutine[Any, Any, None]]


def talk(work: Work, server: Any, **options: Any) -> None:
    import mcp

    async def main() -> None:
        async with mcp.Client(server, **options) as client:
            await work(client)

    asyncio.run(asyncio.wait_for(main(), 60))


async def call(client: Any, name: str, **arguments: Any) -> Any:
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, answer
    assert json.loads(answer.content[0].text) == answer.structured_content
    return answer.structured_content


async def refused(client: Any, name: str, **arguments: Any) -> str:
    answer = await client.call_tool(name, arguments)
    assert answer.is_error
    text: str = answer.content[0].text
    assert "Traceback" not in text
    return text


async def use(client: Any) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert sorted(tools) == sorted(READS + WRITES)
    assert all(tools[name].annotations.read_only_hint for name in READS)
    assert not any(tools[name].annotations.read_only_hint for name in WRITES)
    assert set(tools["search"].input_schema["properties"]) == {"index", "text", "vector", "filter", "k"}
    assert tools["search"].input_schema["required"] == ["index"]
    assert "larger score" in tools["search"].description
    assert len((await call(client, "list_indexes"))["indexes"]) == 4
    assert ids(await call(client, "search", index="words", text="fox")) == ["fox"]
    assert ids(await call(client, "search", index="meaning", text=TEXTS["sea"], k=1)) == ["sea"]
    assert (await call(client, "add_texts", index="new", texts=["owl"], ids=["o"])) == {"ids": ["o"]}
    assert (await call(client, "get", index="new", ids=["o"]))["items"][0]["metadata"] == {"text": "owl"}
    await call(client, "kv_set", key="k", value="new")
    assert (await call(client, "kv_get", key="k"))["value"] == "new"
    assert "IndexNotFound" in await refused(client, "search", index="none", text="a")
    assert "FilterError" in await refused(client, "search", index="words", filter="n >")
    assert "ItemExists" in await refused(client, "add_texts", index="new", texts=["owl"], ids=["o"])
    for wrong in ({}, {"index": "words", "k": "many"}, {"index": 5}, {"index": "words", "vector": ["a"]}):
        await refused(client, "search", **wrong)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_in_memory(mcp: Any, database: kektordb.Database, mode: str) -> None:
    from kektordb.mcp.server import make_server

    talk(use, make_server(Tools(database, "auto", allow_writes=True)), mode=mode)


def test_tools_that_write_are_not_there_unless_they_are_allowed(mcp: Any, database: kektordb.Database) -> None:
    from kektordb.mcp.server import make_server

    async def work(client: Any) -> None:
        assert sorted(tool.name for tool in (await client.list_tools()).tools) == READS
        for name, arguments in (("kv_set", {"key": "k", "value": "evil"}), ("add_texts", {"index": "a", "texts": []})):
            with contextlib.suppress(mcp.MCPError):
                assert (await client.call_tool(name, arguments)).is_error

    talk(work, make_server(Tools(database)))
    assert database.kv["k"] == "välue".encode()


def test_keys_that_the_database_keeps_for_itself_are_none(tools: Tools, database: kektordb.Database) -> None:
    key = f"{RESERVED}kept"
    AllKeys(database)[key] = b"kept"
    assert tools.kv_get(key) == {"key": key, "value": None}
    with pytest.raises(kektordb.ConfigError, match="reserved"):
        tools.kv_set(key, "evil")
    assert AllKeys(database)[key] == b"kept"


def test_many_calls_at_a_time(mcp: Any, database: kektordb.Database) -> None:
    from kektordb.mcp.server import make_server

    async def work(client: Any) -> None:
        await asyncio.gather(
            *(call(client, "add_texts", index="meaning", texts=[f"text {i}"], ids=[f"{i}"]) for i in range(40)),
            *(call(client, "search", index="meaning", text="sea") for _ in range(40)),
        )
        assert (await call(client, "describe_index", index="meaning"))["n_items"] == 43

    talk(work, make_server(Tools(database, "auto", allow_writes=True)))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


def test_on_stdio(mcp: Any, database: kektordb.Database, tmp_path: Path) -> None:
    database.close()
    arguments = ["-m", "kektordb", "mcp", str(tmp_path / "db"), "--allow-writes", "--embedder", "auto"]
    parameters = mcp.StdioServerParameters(command=sys.executable, args=arguments, env=environment())
    talk(use, parameters)
    with kektordb.open(tmp_path / "db") as again:
        assert again.kv["k"] == b"new"


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "kektordb", "mcp", *arguments]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "it ended before it listened"
            found = re.search(r"listening on http://[^ ]+:(\d+)/mcp", line)
        yield process, int(found[1])
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=30)
        assert output == ""


def test_over_http(mcp: Any, database: kektordb.Database, tmp_path: Path) -> None:
    database.close()
    with served(str(tmp_path / "db"), "--http", "127.0.0.1:0", "--allow-writes", "--embedder", "auto") as (_, port):
        talk(use, f"http://127.0.0.1:{port}/mcp")
    with kektordb.open(tmp_path / "db") as again:
        assert again.kv["k"] == b"new"


def test_over_http_only_names_and_pages_of_this_machine_are_answered(
    mcp: Any, database: kektordb.Database, tmp_path: Path
) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    body["params"] = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }

    def status(port: int, host: str, origin: str | None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Host": host, "Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if origin is not None:
            headers["Origin"] = origin
        connection.request("POST", "/mcp", json.dumps(body), headers)
        found = connection.getresponse().status
        connection.close()
        return found

    with served(str(tmp_path / "db"), "--http", "127.0.0.1:0", "--allowed-origin", "http://app.example") as (_, port):
        here = f"127.0.0.1:{port}"
        assert status(port, here, None) == 200
        assert status(port, f"localhost:{port}", f"http://localhost:{port}") == 200
        assert status(port, here, "http://app.example") == 200
        for host in (f"evil.example:{port}", "evil.example", f"127.0.0.1.evil.example:{port}", "127.0.0.1:1", ""):
            assert status(port, host, None) in (400, 421)
        for origin in (
            "http://evil.example",
            f"https://localhost:{port}",
            "null",
            f"http://localhost:{port}.evil.example",
        ):
            assert status(port, here, origin) == 403


@pytest.mark.parametrize("address", ["0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:0", "[::]:0", "127.0.0.1"])
def test_other_addresses_are_refused(mcp: Any, database: kektordb.Database, address: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kektordb", "mcp", str(tmp_path / "db"), "--http", address]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "expected an address" in done.stderr
