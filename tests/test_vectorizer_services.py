"""Vectorizers with what goes wrong outside: services over HTTP, disks, other writers, forks; and with a real model."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import Fault, MemoryBackend
from services import Asked, serving
from syncer import DIM, stub, vector_of

import kektordb
from kektordb.embed import Embedder, as_embedder
from kektordb.embed.retrying import Retrying
from kektordb.errors import EmbedderError, ForkedHandle, KektorError, StorageFull
from kektordb.kv import AllKeys
from kektordb.vectorizer import FolderSource, IterableSource, Vectorizer

DOCUMENTS = [(f"d{i}", f"text {i}") for i in range(40)]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def db() -> kektordb.Database:
    return kektordb.open(":memory:")


# -------------------------------------------------------------------------------------------------------- over HTTP


class Ollama:
    """A service that is as bad as a test says."""

    def __init__(self) -> None:
        self.mood = "good"

    def __call__(self, asked: Asked) -> tuple[int, dict[str, str], Any] | None:
        rows = [vector_of(text).tolist() for text in asked.body["input"]]
        match self.mood:
            case "500":
                return 500, {}, {"error": "out of memory, token sk-verysecret"}
            case "garbage":
                return 200, {}, b"\x00\xff{"
            case "closes":
                return None
            case "wrong dimension":
                return 200, {}, {"embeddings": [row[:-1] for row in rows]}
            case "too few":
                return 200, {}, {"embeddings": rows[:-1]}
            case "nan":
                return 200, {}, json.dumps({"embeddings": [[float("nan")] * DIM for _ in rows]}).encode()
            case "huge":
                return 200, {}, iter([b'{"embeddings": [['] + [b"0.123456789, " * 8000] * 40)
            case "endless":
                return 200, {"content-length": str(1 << 40)}, b"{"
            case "redirects":
                return 307, {"location": "http://169.254.169.254/"}, {}
            case "slow":
                assert not self.over.wait(0.3)
            case "refuses":
                return 401, {}, {"error": "no"}
        return 200, {}, {"embeddings": rows}

    over = threading.Event()


MOODS = [
    *("500", "garbage", "closes", "wrong dimension", "too few", "nan", "huge", "endless", "redirects", "slow"),
    "refuses",
]


def ollama(url: str) -> Embedder:
    return as_embedder(
        "ollama:m", url=url, timeout=0.1, api_key="sk-verysecret", max_response_bytes=1 << 20,
        retrying=Retrying(0), dim=DIM, batch_size=64,
    )  # fmt: skip


@pytest.mark.parametrize("mood", MOODS)
def test_a_service_that_goes_bad_in_the_middle_spoils_nothing(
    db: kektordb.Database, monkeypatch: pytest.MonkeyPatch, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kektordb.vectorizer.syncing.SLICE_TEXTS", 16)
    caplog.set_level(logging.DEBUG)
    clock, answer = Clock(), Ollama()
    with serving(answer) as service:
        vectorizer = Vectorizer(db, "docs", "docs", IterableSource(DOCUMENTS[:8]), ollama(service.url), clock=clock)
        vectorizer.sync()
        assert len(db["docs"]) == 8
        answer.mood = mood

        vectorizer = Vectorizer(db, "docs", "docs", IterableSource(DOCUMENTS), ollama(service.url), clock=clock)
        vectorizer.sync()

        status = vectorizer.status()
        assert len(db["docs"]) == 8
        assert status.error is not None
        assert status.counts.n_waiting == 32
        assert len(service.asked) <= 5
        for text in (status.error, caplog.text, repr(status), str(list(AllKeys(db).items()))):
            assert "verysecret" not in text

        answer.mood = "good"
        clock.now += 1000
        counts = vectorizer.sync()
        assert (counts.n_embedded, vectorizer.status().is_in_step) == (32, True)
        check(db, DOCUMENTS)


def check(db: kektordb.Database, documents: list[tuple[str, str]]) -> None:
    """Every document is there once, with the vector of its text."""
    index = db["docs"]
    items = [index[id] for id in index.ids()]
    assert sorted(item.metadata["content_chunk"] for item in items) == sorted(text for _, text in documents)
    for item in items:
        wanted = vector_of(item.metadata["content_chunk"])
        np.testing.assert_allclose(item.vector, wanted / np.linalg.norm(wanted), atol=1e-6)


# ---------------------------------------------------------------------------------------------------------- the disk


@pytest.mark.parametrize("at", [0, 1, 2, 5])
def test_a_full_disk_leaves_whole_documents_and_the_rest_comes_when_there_is_room(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kektordb.vectorizer.syncing.SLICE_TEXTS", 4)
    disk = MemoryBackend()
    with kektordb.open("db", backend=disk, autosave="") as db:
        vectorizer = Vectorizer(db, "docs", "docs", IterableSource(DOCUMENTS), stub())
        vectorizer._begun()
        disk.fault = Fault(at, errno.ENOSPC, for_ever=True, calls=frozenset({"writev"}))
        with pytest.raises(StorageFull):
            vectorizer.sync()
        assert vectorizer.status().error is not None
        assert len(db["docs"]) < len(DOCUMENTS)
        disk.fault = None
        vectorizer.sync()
        assert vectorizer.status().error is None
        check(db, DOCUMENTS)
    with kektordb.open("db", backend=disk, autosave="") as db:
        check(db, DOCUMENTS)
        assert Vectorizer(db, "docs", "docs", IterableSource(DOCUMENTS), stub()).sync().n_changed == 0


@pytest.mark.parametrize("way", ["backup", "dump"])
def test_a_backup_that_is_restored_is_looked_at_and_not_embedded_again(tmp_path: Path, way: str) -> None:
    seen: list[str] = []
    with kektordb.open(tmp_path / "db") as db:
        db.create_index("a dump has the other numbers without this one")
        db.drop_index("a dump has the other numbers without this one")
        Vectorizer(db, "docs", "docs", IterableSource(DOCUMENTS), stub(seen=seen)).sync()
        if way == "backup":
            db.backup(tmp_path / "x.kdb")
        else:
            kektordb.dump(db, tmp_path / "x")
    if way == "backup":
        kektordb.restore(tmp_path / "x.kdb", tmp_path / "new")
    else:
        kektordb.load(tmp_path / "x", tmp_path / "new")
    seen.clear()
    with kektordb.open(tmp_path / "new") as db:
        Vectorizer(db, "docs", "docs", IterableSource(DOCUMENTS), stub(seen=seen)).sync()
        assert seen == []
        check(db, DOCUMENTS)


# ------------------------------------------------------------------------------------------------------------ others


def test_others_write_and_delete_in_the_index_meanwhile(db: kektordb.Database, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"text {i}")
    vectorizer = db.vectorize(folder, index="docs", embedder=stub(), watch="poll", schedule=0.02)
    assert vectorizer.wait(30)
    failures: list[BaseException] = []

    def disturb(n: int) -> None:
        rng = np.random.default_rng(n)
        index = db["docs"]
        try:
            for i in range(30):
                index.upsert(f"own{n}-{i}", rng.standard_normal(DIM), {"own": True})
                (folder / f"{rng.integers(40)}.txt").write_text(f"text {n} {i}\n\n{i}")
                for id in index.ids("own IS NULL")[:2]:
                    with contextlib.suppress(kektordb.ItemNotFound):
                        index.delete(id)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=disturb, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"the end {i}")
    assert vectorizer.wait(30)
    vectorizer.stop()
    index = db["docs"]
    own = {id for id in index.ids() if id.startswith("own")}
    assert len(own) == 90
    found = sorted(index[id].metadata["content_chunk"] for id in index.ids() if id not in own)
    assert found == sorted(f"the end {i}" for i in range(40))


def test_the_index_is_dropped_in_the_middle(db: kektordb.Database) -> None:
    dropped = threading.Event()

    def embed(texts: list[str]) -> Any:
        if not dropped.is_set():
            dropped.set()
            db.drop_index("docs")
        return [vector_of(text) for text in texts]

    clock = Clock()
    vectorizer = Vectorizer(db, "docs", "docs", IterableSource(DOCUMENTS), as_embedder(embed, name="e"), clock=clock)
    with pytest.raises(KektorError):
        vectorizer.sync()
    clock.now += 100
    vectorizer.sync()
    check(db, DOCUMENTS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_no_vectorizer(db: kektordb.Database, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    vectorizer = db.vectorize(tmp_path, index="docs", embedder=stub(), watch="poll")
    assert vectorizer.wait(30)
    process = os.fork()
    if process == 0:
        status = 1
        try:
            with pytest.raises(ForkedHandle):
                vectorizer.sync()
            with pytest.raises(ForkedHandle):
                db.vectorize(tmp_path, index="docs", embedder=stub())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(process, 0)[1] == 0
    assert vectorizer.wait(30)
    db.close()


def test_a_large_file_comes_in_slices_and_as_one(db: kektordb.Database, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(f"Paragraph {i} of a long book. " * 12 for i in range(3000)))
    sizes: list[int] = []

    def embed(texts: list[str]) -> Any:
        sizes.append(len(texts))
        return np.ones((len(texts), 4), np.float32)

    embedder = as_embedder(embed, name="e", batch_size=10_000)
    counts = Vectorizer(db, "docs", "docs", FolderSource(tmp_path), embedder).sync()
    assert max(sizes) == 256
    assert counts.n_embedded == sum(sizes) == len(db["docs"]) > 2000


# ------------------------------------------------------------------------------------------------------------- for real


REAL = (
    "sentence-transformers:all-MiniLM-L6-v2",
    "fastembed:BAAI/bge-small-en-v1.5",
    "model2vec:minishlab/potion-base-8M",
)


def real_embedder() -> Embedder:
    """Return a model that is on this machine; skips when there is none."""
    named = os.environ.get("KEKTORDB_TEST_EMBEDDER")
    if named:
        return as_embedder(named)
    reasons = []
    for name in REAL:
        module = name.partition(":")[0].replace("-", "_")
        if importlib.util.find_spec(module) is None:
            reasons.append(f"{module} is not installed")
            continue
        try:
            return as_embedder(name)
        except EmbedderError as error:
            reasons.append(str(error))
    pytest.skip(f"no model is here: {'; '.join(reasons)}; KEKTORDB_TEST_EMBEDDER may name one")


def test_a_known_question_finds_its_document_with_a_real_model(
    db: kektordb.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "1"))
    embedder = real_embedder()
    (tmp_path / "pets.md").write_text("# Pets\n\nThe kitten sleeps on the sofa all day long.")
    (tmp_path / "money.txt").write_text("The central bank raised interest rates by half a percent.")
    (tmp_path / "kitchen.html").write_text("<h1>Kitchen</h1><p>Knead the dough and let it rise before baking.")
    db.vectorize(tmp_path, index="docs", embedder=embedder)
    for question, file in {
        "where does the cat rest?": "pets.md",
        "what did it cost to borrow?": "money.txt",
        "how do I make bread?": "kitchen.html",
    }.items():
        hit = db["docs"].search(query_text=question, k=1, alpha=1.0)[0]
        assert hit.metadata["source_file"] == file, question
