"""Do the programs of docs/migrating.md copy what another package holds? Each is run where that package is installed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live import live

import kektordb
from kektordb import cli

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
N, DIM = 57, 8
ROWS = np.random.default_rng(4).standard_normal((N, DIM)).astype(np.float32)


def program(title: str) -> str:
    """Return the Python block of a chapter, with pages so small that there are several."""
    chapter = PAGE.partition(f"\n## From {title}\n")[2].partition("\n## ")[0]
    code = re.findall(r"^```python\n(.*?)^```", chapter, re.MULTILINE | re.DOTALL)
    assert len(code) == 1
    return re.sub(r"^PAGE = [\d_]+$", "PAGE = 10", code[0], flags=re.MULTILINE)


def run(title: str, directory: Path, change: Callable[[str], str] = lambda code: code) -> kektordb.Database:
    """Run a program in a directory; return the database that it made."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", change(program(title))],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return kektordb.open(directory / "data")


def expect(index: kektordb.Index, metric: str, items: dict[str, tuple[np.ndarray, dict[str, Any]]]) -> None:
    assert index.config.metric == metric
    assert sorted(index.ids()) == sorted(items)
    for id, (vector, metadata) in items.items():
        wanted = vector / np.linalg.norm(vector) if metric == "cosine" else vector
        np.testing.assert_allclose(index[id].vector, wanted, rtol=1e-5, atol=1e-6)
        assert index[id].metadata == metadata


def test_from_the_original(tmp_path: Path) -> None:
    """Its server is stood for by ours, which speaks as it does; tests of `import` have its oldest versions."""
    command = re.findall(r"^kektordb (import .*)$", PAGE, re.MULTILINE)[0]
    with kektordb.open(tmp_path / "old") as old, live(old) as url:
        old.create_index("a", metric="euclidean").add_batch([str(i) for i in range(N)], ROWS, [{"n": 1}] * N)
        words = shlex.split(command.replace("http://old:9091", url).replace("./data", str(tmp_path / "data")))
        assert cli.main(words) == 0
    with kektordb.open(tmp_path / "data") as db:
        expect(db["a"], "euclidean", {str(i): (ROWS[i], {"n": 1}) for i in range(N)})


def test_from_chroma(tmp_path: Path) -> None:
    chromadb = pytest.importorskip("chromadb", reason="chromadb is not installed")
    client = chromadb.PersistentClient(str(tmp_path / "old-chroma"))
    ids = [f"id {i}" for i in range(N)]
    for name, space in (("shoes", "l2"), ("hats", "cosine")):
        made = client.create_collection(name, configuration={"hnsw": {"space": space}}, embedding_function=None)
        metadatas, documents = [{"n": i, "new": True} for i in range(N - 1)], [f"red {i}" for i in range(N - 1)]
        made.add(ids=ids[:-1], embeddings=ROWS[:-1], metadatas=metadatas, documents=documents)
        made.add(ids=ids[-1:], embeddings=ROWS[-1:])
    client._system.stop()
    wanted: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        ids[i]: (ROWS[i], {"n": i, "new": True, "text": f"red {i}"}) for i in range(N - 1)
    }
    wanted[ids[-1]] = (ROWS[-1], {})
    with run("Chroma", tmp_path) as db:
        expect(db["shoes"], "euclidean", wanted)
        expect(db["hats"], "cosine", wanted)
        assert len(db["shoes"].search(text="red", k=100)) == N - 1


def test_from_qdrant(tmp_path: Path) -> None:
    qdrant = pytest.importorskip("qdrant_client", reason="qdrant-client is not installed")
    models = qdrant.models
    client = qdrant.QdrantClient(path=str(tmp_path / "old-qdrant"))
    client.create_collection("shoes", vectors_config=models.VectorParams(size=DIM, distance=models.Distance.EUCLID))
    client.upsert("shoes", [models.PointStruct(id=i, vector=ROWS[i].tolist(), payload={"n": i}) for i in range(N)])
    both = {name: models.VectorParams(size=DIM, distance=models.Distance.COSINE) for name in ("front", "back")}
    client.create_collection("hats", vectors_config=both)
    id = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"
    vectors = {"front": ROWS[0].tolist(), "back": ROWS[1].tolist()}
    client.upsert("hats", [models.PointStruct(id=id, vector=vectors)])
    client.close()
    with run("Qdrant, local", tmp_path) as db:
        expect(db["shoes"], "euclidean", {str(i): (ROWS[i], {"n": i}) for i in range(N)})
        expect(db["hats/front"], "cosine", {id: (ROWS[0], {})})
        expect(db["hats/back"], "cosine", {id: (ROWS[1], {})})


def test_from_hnswlib(tmp_path: Path) -> None:
    hnswlib = pytest.importorskip("hnswlib", reason="hnswlib is not installed")
    old = hnswlib.Index("l2", DIM)
    old.init_index(N, M=12)
    old.add_items(ROWS, np.arange(N) + 1000)
    old.mark_deleted(1003)
    old.save_index(str(tmp_path / "old.bin"))
    with run("hnswlib", tmp_path, lambda code: code.replace("128", str(DIM))) as db:
        expect(db["items"], "euclidean", {str(1000 + i): (ROWS[i], {}) for i in range(N) if i != 3})
        assert db["items"].config.m == 12


@pytest.mark.parametrize("kind", ["plain", "ids", "graph"])
def test_from_faiss(kind: str, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    old = faiss.IndexHNSWFlat(DIM, 8) if kind == "graph" else faiss.IndexFlatIP(DIM)
    labels = np.arange(N) + (1000 if kind == "ids" else 0)
    if kind == "ids":
        old = faiss.IndexIDMap2(old)
        old.add_with_ids(ROWS, labels)
    else:
        old.add(ROWS)
    faiss.write_index(old, str(tmp_path / "old.faiss"))
    with run("Faiss", tmp_path) as db:
        metric = "euclidean" if kind == "graph" else "dot"
        expect(db["items"], metric, {str(label): (ROWS[i], {}) for i, label in enumerate(labels)})


@pytest.mark.parametrize("key", ["id", "rowid"])
def test_from_sqlite_vec(key: str, tmp_path: Path) -> None:
    vec = pytest.importorskip("sqlite_vec", reason="sqlite-vec is not installed")
    apsw = pytest.importorskip("apsw", reason="apsw is not installed")
    connection = apsw.Connection(str(tmp_path / "old.sqlite"))
    connection.enable_load_extension(True)
    connection.load_extension(vec.loadable_path())
    own = "id text primary key, " if key == "id" else ""
    columns = f"{own}embedding float[{DIM}] distance_metric=cosine, n integer, +name text"
    connection.execute(f"create virtual table shoes using vec0({columns})")
    for i in range(N):
        values = (f"{1000 + i}" if key == "id" else 1000 + i, ROWS[i].tobytes(), i, f"red {i}")
        connection.execute(f"insert into shoes({key}, embedding, n, name) values (?, ?, ?, ?)", values)
    connection.close()
    with run("sqlite-vec", tmp_path, lambda code: code.replace('"id"', f'"{key}"')) as db:
        wanted = {str(1000 + i): (ROWS[i], {"n": i, "name": f"red {i}"}) for i in range(N)}
        expect(db["shoes"], "cosine", wanted)
