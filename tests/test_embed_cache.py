"""No text is embedded twice, and a cache that fails costs time and nothing else."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kektordb
from kektordb.embed import CachedEmbedder, CallableEmbedder, FileCache, HashingEmbedder, as_embedder
from kektordb.errors import ConfigError, EmbedderError


class Counting:
    """Counts which texts it is asked for."""

    def __init__(self, dim: int = 2) -> None:
        self.texts: list[str] = []
        self.dim = dim

    def __call__(self, texts: list[str]) -> Any:
        self.texts += texts
        return [[float(len(text))] * self.dim for text in texts]


def cached(model: Counting, cache: Any, **options: Any) -> CachedEmbedder:
    return CachedEmbedder(CallableEmbedder(model, name="m", **options), cache)


@pytest.fixture(params=["dict", "kv", "file"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "dict":
        yield {}
    elif request.param == "kv":
        with kektordb.open(":memory:") as db:
            yield db.kv
    else:
        file = FileCache(tmp_path / "cache")
        yield file
        file.close()


def test_a_text_is_embedded_once(cache: MutableMapping[str, bytes]) -> None:
    model = Counting()
    embedder = cached(model, cache)

    first = embedder.embed_documents(["a", "bb", "a"])
    second = embedder.embed_documents(["ccc", "bb", "a"])

    assert model.texts == ["a", "bb", "ccc"]
    assert first.tolist() == [[1, 1], [2, 2], [1, 1]]
    assert second.tolist() == [[3, 3], [2, 2], [1, 1]]
    assert second.dtype == np.float32
    assert (embedder.n_found, embedder.n_asked) == (2, 4)
    assert embedder.embed_documents([]).shape == (0, 2)


def test_a_query_is_not_a_document_and_another_model_is_another(cache: MutableMapping[str, bytes]) -> None:
    model = Counting()
    embedder = cached(model, cache)
    embedder.embed_documents(["a"])

    embedder.embed_query("a")
    embedder.embed_query("a")
    CachedEmbedder(CallableEmbedder(model, name="other"), cache).embed_documents(["a"])
    cached(model, cache, document_prefix="p").embed_documents(["a"])

    assert model.texts == ["a", "a", "a", "pa"]


def test_another_run_finds_what_was_kept(tmp_path: Path) -> None:
    expected = HashingEmbedder(16).embed_documents(["x y", "z"])
    for n_asked in (2, 0):
        embedder = as_embedder("hashing:16", cache=tmp_path / "cache")
        assert isinstance(embedder, CachedEmbedder)
        np.testing.assert_array_equal(embedder.embed_documents(["x y", "z"]), expected)
        assert embedder.n_asked == n_asked
        embedder.close()


def test_the_text_itself_is_not_kept(cache: MutableMapping[str, bytes]) -> None:
    cached(Counting(), cache).embed_documents(["confidential"])

    assert "confidential" not in repr(dict(cache))


@pytest.mark.parametrize("broken", [b"", b"x", b"\0" * 8, b"\0" * 16, b"\0" * 17, b"\xff" * 16])
def test_a_value_that_is_broken_is_made_again(cache: MutableMapping[str, bytes], broken: bytes) -> None:
    model = Counting()
    embedder = cached(model, cache)
    embedder.embed_documents(["a"])
    (key,) = cache

    cache[key] = broken

    assert embedder.embed_documents(["a", "b"]).tolist() == [[1, 1], [1, 1]]
    assert model.texts == ["a", "a", "b"]
    assert len(cache[key]) == 16


def test_vectors_of_another_dimension_are_made_again(cache: MutableMapping[str, bytes]) -> None:
    """A service put another model behind the same name."""
    cached(Counting(2), cache).embed_documents(["a", "bb"])
    model = Counting(3)

    assert cached(model, cache).embed_documents(["a", "ccc"]).shape == (2, 3)
    assert model.texts == ["ccc", "a", "ccc"]
    # Now some are of 3 dimensions and one is of 2, and nobody knows what is right before the model was asked.
    assert cached(model, cache).embed_documents(["a", "bb"]).shape == (2, 3)


def test_what_was_embedded_before_an_error_is_kept(
    cache: MutableMapping[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kektordb.embed.caching.SLICE", 2)
    asked: list[str] = []

    def embed(texts: list[str]) -> Any:
        asked.extend(texts)
        if "bad" in texts and asked.count("bad") == 1:
            raise EmbedderError("down")
        return np.ones((len(texts), 2))

    embedder = CachedEmbedder(CallableEmbedder(embed, name="m"), cache)
    with pytest.raises(EmbedderError):
        embedder.embed_documents(["a", "b", "bad", "c"])

    assert embedder.embed_documents(["a", "b", "bad", "c"]).shape == (4, 2)
    assert asked == ["a", "b", "bad", "c", "bad", "c"]


def test_a_read_only_or_closed_database_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kektordb.open(tmp_path / "db").close()
    model = Counting()
    with kektordb.open(tmp_path / "db", read_only=True) as db:
        embedder = cached(model, db.kv)
        for _ in range(2):
            assert embedder.embed_documents(["a", "bb"]).shape == (2, 2)
    assert embedder.embed_query("a").shape == (2,)
    assert model.texts == ["a", "bb", "a", "bb", "a"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("what", ["garbage", "directory", "missing", "other"])
def test_a_file_that_cannot_be_used_is_no_error(tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cache"
    if what == "garbage":
        path.write_bytes(b"no database at all" * 1000)
    elif what == "directory":
        path.mkdir()
    elif what == "missing":
        path = tmp_path / "not" / "there"
    else:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE pairs (another INTEGER)")
        other.close()
    model = Counting()
    embedder = cached(model, str(path))

    for _ in range(2):
        assert embedder.embed_documents(["a", "bb"]).shape == (2, 2)
    embedder.close()

    assert model.texts == ["a", "bb", "a", "bb"]
    assert len(caplog.records) == 1


def test_threads_and_files_at_once(tmp_path: Path) -> None:
    wrong = []

    def work(seed: int) -> None:
        embedder = as_embedder("hashing:8", cache=tmp_path / "cache")
        plain = HashingEmbedder(8)
        for i in range(30):
            texts = [f"t{(i * seed) % 17}", f"u{i % 5}"]
            if not np.array_equal(embedder.embed_documents(texts), plain.embed_documents(texts)):
                wrong.append(seed)
        embedder.close()  # type: ignore[attr-defined]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    file = FileCache(tmp_path / "cache")
    assert len(file) == 22
    file.close()


def test_a_file_survives_a_process_that_is_killed_while_it_writes(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from kektordb.embed import FileCache\n"
        "cache = FileCache(sys.argv[1])\n"
        "n = 0\n"
        "while True:\n"
        "    cache[str(n)] = str(n).encode() * 100\n"
        "    n += 1\n"
        "    if n % 50 == 0: print(n, flush=True)\n"
    )
    path = tmp_path / "cache"
    root = str(Path(kektordb.__file__).parent.parent)
    for turn in range(1, 4):
        environment = {**os.environ, "PYTHONPATH": root}
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        for _ in range(turn):
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()

        file = FileCache(path)
        kept = dict(file)
        file.close()
        assert len(kept) >= 50 * turn
        assert kept == {key: key.encode() * 100 for key in kept}


def test_a_forked_child_opens_the_file_anew(tmp_path: Path) -> None:
    file = FileCache(tmp_path / "cache")
    file["a"] = b"1"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            file["b"] = b"2"
            status = 0 if file["a"] == b"1" else 2
        finally:
            os._exit(status)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert dict(file) == {"a": b"1", "b": b"2"}
    del file["a"]
    assert "a" not in file
    file.close()


@pytest.mark.parametrize("cache", [5, [], frozenset()])
def test_what_is_no_cache_is_refused(cache: Any) -> None:
    with pytest.raises(ConfigError):
        as_embedder("hashing", cache=cache)
