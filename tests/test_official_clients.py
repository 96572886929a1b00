"""Do the published clients of the original work with our server, unchanged?

They are not ours to keep here: KEKTORDB_CLIENT_WHEELS names a directory with their wheels. `make clients` fetches them
and runs this; it needs `requests`, of the extra `test`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served

WHEELS = sorted(Path(os.environ.get("KEKTORDB_CLIENT_WHEELS", os.devnull)).glob("kektordb_client-*.whl"))

# Runs in a process of its own: all versions have one name. A version that lacks a method leaves it out.
SCRIPT = """
import inspect, sys, types
wheel, port = sys.argv[1], int(sys.argv[2])
sys.path.insert(0, wheel)
# Version 0.4.5 asks for a langchain of its time when it is imported.
for name in ("langchain", "langchain.schema", "langchain.embeddings", "langchain.embeddings.base"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__getattr__ = lambda name: object
from kektordb_client import client as module
from kektordb_client.client import APIError, KektorDBClient
assert module.__file__.startswith(wheel)

client = KektorDBClient(host="127.0.0.1", port=port)
index = "index " + wheel.rsplit("-", 3)[1]

def call(name, *arguments, **named):
    method = getattr(client, name, None)
    if method is None:
        return None
    known = inspect.signature(method).parameters
    return method(*arguments, **{key: value for key, value in named.items() if key in known})

call("set", "a/key", "value")
assert call("get", "a/key") == "value"
call("delete", "a/key")
try:
    call("get", "a/key")
except APIError as error:
    assert "key not found" in str(error)
else:
    raise AssertionError("a deleted key is there")
call("vcreate", index, metric="cosine", text_language="english")
call("vadd", index, "a", [0.1, 0.2, 0.3], {"text": "red shoe", "price": 3})
call("vadd", index, "b", [0.3, 0.2, 0.1])
call("vadd_batch", index, [{"id": "c", "vector": [1.0, 0.0, 0.0], "metadata": {"price": 5}}])
call("vimport", index, [{"id": "d", "vector": [0.0, 1.0, 0.0]}])
n = call("get_index_info", index)["vector_count"]
assert n == (4 if hasattr(client, "vimport") else 3), n
assert index in [info["name"] for info in call("list_indexes")]
assert call("vget", index, "a")["metadata"] == {"text": "red shoe", "price": 3}
assert [item["id"] for item in call("vget_many", index, ["c", "a"])] == ["c", "a"]
query = [0.1, 0.2, 0.3]
assert call("vsearch", index, query_vector=query, k=1) == ["a"]
assert call("vsearch", index, query_vector=query, k=2, filter_str="price > 3", ef_search=50) == ["c"]
assert call("vsearch", index, query_vector=query, k=2, filter_str="CONTAINS(text, 'shoes')", alpha=0.3) == ["a"]
for wrong in (lambda: call("vadd", index, "a", [0.1, 0.2, 0.3]), lambda: call("vadd", index, "x", [0.1]),
              lambda: call("vsearch", "none", query_vector=[1.0], k=1), lambda: call("vcreate", index)):
    try:
        wrong()
    except APIError:
        continue
    raise AssertionError("no error")
call("vlink", index_name=index, source_id="a", target_id="c", relation_type="next")
if hasattr(client, "vlink"):
    (hit,) = call("vsearch", index, query_vector=query, k=1, include_relations=["next"], hydrate_relations=True)
    assert hit["id"] == "a"
    assert call("vget_links", index_name=index, source_id="a", relation_type="next") == ["c"]
    nodes = call("vget_connections", index_name=index, source_id="a", relation_type="next")
    assert [node["id"] for node in nodes] == ["c"]
    call("set_node_properties", index_name=index, node_id="a", properties={"size": 1})
    properties = call("get_node_properties", index_name=index, node_id="a")
    assert properties in (None, {"text": "red shoe", "price": 3, "size": 1})
    call("vunlink", index_name=index, source_id="a", target_id="c", relation_type="next")
call("vupdate_config", index, {"vacuum_interval": "1m"})
call("vdelete", index, "b")
for task in (call("vtrigger_maintenance", index, "vacuum"), call("vcompress", index, "int8"), call("aof_rewrite")):
    assert task is None or task.status == "completed", task
call("save")
call("delete_index", index)
print("done")
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("official") / "db"
    served = Served(["-m", "kektordb", "serve", "--http-addr", "127.0.0.1:0", "--data-dir", str(directory)])
    yield served
    assert served.end() == 0


@pytest.mark.skipif("KEKTORDB_CLIENT_WHEELS" not in os.environ, reason="make clients runs it")
def test_all_five_are_here() -> None:
    assert [wheel.name.split("-")[1] for wheel in WHEELS] == ["0.2.2", "0.3.0", "0.4.5", "0.5.1", "0.6.2"]


@pytest.mark.skipif(not WHEELS, reason="KEKTORDB_CLIENT_WHEELS names no directory of wheels")
@pytest.mark.skipif(importlib.util.find_spec("requests") is None, reason="the original's clients need requests")
@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: wheel.name.split("-")[1])
def test_a_published_client_works_unchanged(served: Served, wheel: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(wheel), str(served.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")
