"""Scripts for the original's client run with ours: names, signatures of all versions, values, errors."""

from __future__ import annotations

import inspect
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from live import live
from served import ROOT
from test_official_clients import SCRIPT

import kektordb
from kektordb import client as module
from kektordb.client import APIError, ConnectionError, KektorDBClient, KektorDBError, Task
from kektordb.kv import AllKeys
from kektordb.remote import batches


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[kektordb.Database, int]]:
    with kektordb.open(":memory:") as database, live(database) as url:
        yield database, int(url.rpartition(":")[2])


@pytest.fixture(name="client")
def _client(served: tuple[kektordb.Database, int]) -> Iterator[KektorDBClient]:
    database, port = served
    client = KektorDBClient(host="127.0.0.1", port=port)
    yield client
    client.close()
    for name in list(database):
        database.drop_index(name)
    AllKeys(database).clear()


def test_the_quick_start_runs(client: KektorDBClient) -> None:
    client.vcreate("knowledge", metric="cosine", text_language="english")
    documents = ["Rust makes threads safe", "Go has channels", "Python is slow to start"]
    vectors = np.eye(3, 8) + 0.1
    batch = [
        {"id": f"doc_{i}", "vector": vectors[i].tolist(), "metadata": {"content": text, "year": 2020 + i}}
        for i, text in enumerate(documents)
    ]
    assert client.vadd_batch("knowledge", batch) == {"status": "OK", "vectors_added": 3}
    query = vectors[1].tolist()
    assert client.vsearch("knowledge", query, 2)[0] == "doc_1"
    found = client.vsearch(
        index_name="knowledge", query_vector=query, k=3, filter_str="CONTAINS(content, 'thread')", alpha=0.7
    )
    assert found == ["doc_0"]
    assert client.vsearch("knowledge", query, 3, "year > 2020", 50) == ["doc_1", "doc_2"]
    assert client.vget("knowledge", found[0])["metadata"] == {"content": documents[0], "year": 2020}


def test_keys(client: KektorDBClient) -> None:
    client.set("a/b ü", "v")
    client.set("bytes", "ä".encode())
    assert client.get("a/b ü") == "v"
    assert client.get("bytes") == "ä"
    client.delete("a/b ü")
    client.delete("a/b ü")
    with pytest.raises(APIError, match=r"^KektorDB API Error: key not found$"):
        client.get("a/b ü")


def test_indexes_and_tasks(client: KektorDBClient, served: tuple[kektordb.Database, int]) -> None:
    client.vcreate("b", maintenance_config={"vacuum_interval": "1h", "unknown_later": 1})
    client.vcreate("a", metric="cosine", m=8, ef_construction=50, auto_links=[{}])
    assert [info["name"] for info in client.list_indexes()] == ["a", "b"]
    info = {"name": "a", "metric": "cosine", "precision": "float32", "m": 8, "ef_construction": 50}
    assert client.get_index_info("a") == info | {"vector_count": 0, "text_language": ""}
    client.vupdate_config("a", {"delete_threshold": 0.3})
    assert served[0]["a"].maintenance["delete_threshold"] == 0.3
    client.vadd("a", "x", np.array([3.0, 4.0]), {"n": 1})
    task = client.vcompress("a", "float16")
    assert isinstance(task, Task)
    assert (task.status, task.error) == ("completed", None)
    assert client.vtrigger_maintenance("a", "vacuum").progress_message == "vacuum cycle completed"
    assert client.get_task_status(task.id)["status"] == "completed"
    failing = client.vcompress("a", "float16", wait=False)
    with pytest.raises(APIError, match="another precision"):
        failing.wait(interval=1)
    with pytest.raises(APIError, match="another precision"):
        client.vcompress("a", "float16")
    client.delete_index("a")
    with pytest.raises(APIError, match="index 'a' not found"):
        client.get_index_info("a")


def test_a_task_is_asked_until_it_ends(client: KektorDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [{"status": "running"}, {"status": "completed", "progress_message": "done"}]
    pauses: list[float] = []
    monkeypatch.setattr(KektorDBClient, "get_task_status", lambda self, id: states.pop(0))
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    assert Task(client, {"id": "1", "status": "started"}).wait().progress_message == "done"
    assert pauses == [0.05, 0.1]
    with pytest.raises(TimeoutError):
        Task(client, {"id": "1", "status": "started"}).wait(timeout=0)


def test_items(client: KektorDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_ITEMS", 7)
    client.vcreate("a")
    rows = np.random.default_rng(3).standard_normal((20, 4)).astype(np.float32)
    task = client.vimport("a", [{"id": f"{i}", "vector": row} for i, row in enumerate(rows)])
    assert task.wait().progress_message == "Imported 20 vectors"
    assert client.get_index_info("a")["vector_count"] == 20
    got = client.vget("a", "3")
    assert got["metadata"] == {}
    assert np.array_equal(np.array(got["vector"], np.float32), rows[3])
    assert [item["id"] for item in client.vget_many("a", ["5", "none", "2"])] == ["5", "2"]
    scored = client.vsearch_with_scores("a", rows[4].tolist(), 2)
    assert scored[0] == {"id": "4", "score": 1.0}
    assert client.vexport("a", limit=5, offset=10)["next_offset"] == 15
    client.vdelete("a", "3")
    client.vdelete("a", "3")
    assert "3" not in client.vsearch("a", query_vector=rows[3].tolist(), k=20)


def test_links(client: KektorDBClient) -> None:
    client.vcreate("a")
    for i in range(3):
        client.vadd("a", f"{i}", [float(i), 1.0])
    client.vlink("a", "0", "1", "next", inverse_relation="back")
    client.vlink(index_name="a", source_id="1", target_id="2", relation_type="next")
    assert client.vget_links("a", "0", "next") == ["1"]
    assert client.vget_links("a", "1", "back") == ["0"]
    assert [item["id"] for item in client.vget_connections("a", "1", "next")] == ["2"]
    assert client.get_incoming("a", "2", "next") == ["1"]
    assert client.get_all_relations("a", "1") == {"back": ["0"], "next": ["2"]}
    assert client.get_all_incoming("a", "1")["next"] == ["0"]
    assert client.find_path("a", "0", "2", ["next"])["path"] == ["0", "1", "2"]
    assert {node["id"] for node in client.extract_subgraph("a", "0", ["next"])["nodes"]} == {"0", "1", "2"}
    assert client.traverse("a", "0", ["next.next"])["result"]["id"] == "0"
    (hit,) = client.vsearch("a", query_vector=[0.0, 1.0], k=1, include_relations=["next"])
    assert hit["id"] == "0"
    client.set_node_properties("a", "0", {"size": 1})
    assert client.get_node_properties("a", "0") == {"size": 1}
    assert [node["id"] for node in client.search_nodes("a", "size = 1")] == ["0"]
    client.vunlink("a", "0", "1", "next")
    assert client.vget_links("a", "0", "next") == []
    client.vlink(source_id="x", target_id="y", relation_type="of no index")
    assert client.vget_links(source_id="x", relation_type="of no index") == ["y"]


def test_errors(client: KektorDBClient) -> None:
    client.vcreate("a")
    client.vadd("a", "x", [1.0, 2.0])
    wrong: list[Any] = [
        lambda: client.vcreate("a"),
        lambda: client.vadd("a", "x", [1.0, 2.0]),
        lambda: client.vadd("a", "y", [1.0]),
        lambda: client.vadd("a", "y"),
        lambda: client.vadd_batch("a", [{"id": "y", "vector": [1.0, 2.0]}, {"id": "z", "vector": [1.0]}]),
        lambda: client.vadd_batch("a", [{"id": "y"}]),
        lambda: client.vimport("none", [{"id": "y", "vector": [1.0]}]),
        lambda: client.vsearch("none", [1.0], 1),
        lambda: client.vsearch("a", [1.0, 2.0], 1, "n <"),
        lambda: client.vget("a", "none"),
        lambda: client.set("a", 1),  # type: ignore[arg-type]
    ]
    for act in wrong:
        with pytest.raises(APIError, match=r"^KektorDB API Error: "):
            act()
    assert client.get_index_info("a")["vector_count"] == 1
    assert issubclass(APIError, KektorDBError)
    assert issubclass(ConnectionError, KektorDBError)


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kektordb.remote.transport.time.sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = KektorDBClient(port=port, host="127.0.0.1", api_key="secret", timeout=5)
    with pytest.raises(ConnectionError, match="cannot reach"):
        client.get("a")


# As the versions of the original's client have them.
SIGNATURES = {
    "__init__": ["host", "port", "timeout", "api_key"],
    "vcreate": ["index_name", "metric", "precision", "m", "ef_construction", "text_language", "maintenance_config"],
    "vadd": ["index_name", "item_id", "vector", "metadata"],
    "vimport": ["index_name", "vectors", "wait"],
    "vsearch": ["index_name", "query_vector", "k", "filter_str", "ef_search", "alpha"],
    "vget_many": ["index_name", "item_ids"],
    "vcompress": ["index_name", "precision", "wait"],
    "vtrigger_maintenance": ["index_name", "task_type", "wait"],
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_stand_where_they_did(name: str) -> None:
    names = list(inspect.signature(getattr(KektorDBClient, name)).parameters)[1:]
    assert names[: len(SIGNATURES[name])] == SIGNATURES[name]


def test_everything_is_documented() -> None:
    for name, value in inspect.getmembers(KektorDBClient, inspect.isfunction):
        assert name.startswith("_") or inspect.getdoc(value), name


def test_the_page_runs(served: tuple[kektordb.Database, int], client: KektorDBClient) -> None:
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    code = "\n".join(blocks).replace("localhost:9091", f"127.0.0.1:{served[1]}").replace(', token="…"', "")
    code = code.replace('host="localhost", port=9091', f'host="127.0.0.1", port={served[1]}')
    code += "\nassert client.vget('shoes', 'red')['id'] == hits[0].id == 'red'"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(blocks) == 3


def test_what_the_published_clients_do_this_one_does(served: tuple[kektordb.Database, int]) -> None:
    script = SCRIPT.replace("from kektordb_client", "from kektordb").replace('wheel.rsplit("-", 3)[1]', '"of ours"')
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(ROOT), str(served[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")
