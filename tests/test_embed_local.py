"""Libraries of models are used as they document it: seen through stand-ins with their faces, and through themselves."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import kektordb
from kektordb.embed import as_embedder
from kektordb.errors import ConfigError, EmbedderError


class Calls:
    """What a stand-in was asked, and whether two callers were in it at once."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[tuple[str, list[str]]] = []
        self._alone = threading.Lock()

    def rows(self, method: str, texts: Iterable[str], dim: int = 4) -> np.ndarray:
        assert self._alone.acquire(blocking=False), "two threads in a model at once"
        try:
            self.asked.append((method, list(texts)))
            return np.array([[len(text), 1, 2, 3][:dim] for text in self.asked[-1][1]], np.float32)
        finally:
            self._alone.release()


@pytest.fixture
def calls() -> Calls:
    return Calls()


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


def sentence_transformers(calls: Calls, version: int) -> type:
    """Return what version 6 has, 5 had, or those before: since 5 queries and documents have verbs of their own."""

    class Old:
        def __init__(self, model_name_or_path: str | None = None, **more: Any) -> None:
            if model_name_or_path == "missing":
                raise OSError("missing is not a local folder; token=s3cret")
            calls.made.append((str(model_name_or_path), more))

        def encode(
            self,
            sentences: list[str],
            batch_size: int = 32,
            show_progress_bar: bool | None = None,
            convert_to_numpy: bool = True,
        ) -> np.ndarray:
            assert show_progress_bar is False
            return calls.rows("encode", sentences)

        def get_sentence_embedding_dimension(self) -> int:
            return 4

    class Five(Old):
        def encode_query(self, sentences: list[str], **more: Any) -> np.ndarray:
            return calls.rows("encode_query", sentences)

        def encode_document(self, sentences: list[str], **more: Any) -> np.ndarray:
            return calls.rows("encode_document", sentences)

    class Six(Five):
        def get_embedding_dimension(self) -> int:
            return 4

        def get_sentence_embedding_dimension(self) -> int:
            raise AssertionError("it has another name since version 6")

    return {4: Old, 5: Five, 6: Six}[version]


@pytest.mark.parametrize("version", [4, 5, 6])
def test_sentence_transformers(monkeypatch: pytest.MonkeyPatch, calls: Calls, version: int) -> None:
    stand_in(monkeypatch, "sentence_transformers", SentenceTransformer=sentence_transformers(calls, version))

    embedder = as_embedder("sentence-transformers:all-MiniLM-L6-v2", loading={"device": "cpu"}, batch_size=2)

    assert (embedder.name, embedder.dim) == ("sentence-transformers:all-MiniLM-L6-v2", 4)
    assert embedder.embed_documents(["a", "bb", "ccc"])[:, 0].tolist() == [1, 2, 3]
    assert embedder.embed_query("dddd").tolist() == [4, 1, 2, 3]
    assert calls.made == [("all-MiniLM-L6-v2", {"device": "cpu"})]
    document, query = ("encode", "encode") if version == 4 else ("encode_document", "encode_query")
    assert calls.asked == [(document, ["a", "bb"]), (document, ["ccc"]), (query, ["dddd"])]


def test_fastembed(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    class TextEmbedding:
        embedding_size = 4

        def __init__(self, model_name: str = "BAAI/bge-small-en-v1.5", **more: Any) -> None:
            calls.made.append((model_name, more))

        def passage_embed(self, texts: Iterable[str], **more: Any) -> Iterator[np.ndarray]:
            yield from calls.rows("passage", texts)

        def query_embed(self, query: str | Iterable[str], **more: Any) -> Iterator[np.ndarray]:
            yield from calls.rows("query", [query] if isinstance(query, str) else query)

    stand_in(monkeypatch, "fastembed", TextEmbedding=TextEmbedding)

    embedder = as_embedder("fastembed:BAAI/bge-small-en-v1.5", loading={"threads": 1})

    assert (embedder.name, embedder.dim) == ("fastembed:BAAI/bge-small-en-v1.5", 4)
    assert embedder.embed_documents(["a", "bb"])[:, 0].tolist() == [1, 2]
    assert embedder.embed_query("ccc")[0] == 3
    assert calls.asked == [("passage", ["a", "bb"]), ("query", ["ccc"])]
    assert calls.made == [("BAAI/bge-small-en-v1.5", {"threads": 1})]


@pytest.mark.parametrize("is_new", [True, False])
def test_model2vec(monkeypatch: pytest.MonkeyPatch, calls: Calls, is_new: bool) -> None:
    class Model:
        dim = 4

        def encode(self, sentences: Sequence[str], show_progress_bar: bool = False, **more: Any) -> np.ndarray:
            return calls.rows("encode", sentences)

    class New(Model):
        @classmethod
        def from_pretrained(cls, path: str, token: str | None = None, force_download: bool = True) -> Model:
            calls.made.append((path, {"force_download": force_download}))
            return cls()

    class Old(Model):
        @classmethod
        def from_pretrained(cls, path: str, token: str | None = None) -> Model:
            calls.made.append((path, {}))
            return cls()

    stand_in(monkeypatch, "model2vec", StaticModel=New if is_new else Old)

    embedder = as_embedder("model2vec:minishlab/potion-base-8M")

    assert (embedder.name, embedder.dim) == ("model2vec:minishlab/potion-base-8M", 4)
    assert embedder.embed_documents(["a", "bb"])[:, 0].tolist() == [1, 2]
    assert embedder.embed_query("ccc")[0] == 3
    assert calls.made == [("minishlab/potion-base-8M", {"force_download": False} if is_new else {})]


def test_one_thread_at_a_time_is_in_a_model(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    stand_in(monkeypatch, "sentence_transformers", SentenceTransformer=sentence_transformers(calls, 6))
    embedder = as_embedder("sentence-transformers:m", batch_size=1, concurrency=4)

    rows = embedder.embed_documents(["x" * n for n in range(200)])

    assert rows[:, 0].tolist() == list(range(200))


@pytest.mark.parametrize("kind", ["sentence-transformers", "fastembed", "model2vec"])
def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(sys.modules, kind.replace("-", "_"), None)

    with pytest.raises(ConfigError, match=f"pip install {kind}"):
        as_embedder(f"{kind}:some-model")


def test_a_model_that_cannot_be_loaded_is_an_error_without_secrets(
    monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    stand_in(monkeypatch, "sentence_transformers", SentenceTransformer=sentence_transformers(calls, 6))

    with pytest.raises(EmbedderError, match="cannot be loaded: OSError: missing is not") as caught:
        as_embedder("sentence-transformers:missing")

    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError, match="expected 3 dimensions, got 4"):
        as_embedder("sentence-transformers:m", dim=3)
    with pytest.raises(ConfigError):
        as_embedder("sentence-transformers:")


# --------------------------------------------------------------------------------------------------------- for real


DOCUMENTS = {
    "cats": "Cats sleep for most of the day and hunt mice at night.",
    "bread": "To bake bread you need flour, water, salt and yeast.",
    "stars": "The telescope shows distant galaxies and bright stars.",
    "money": "The bank lends money to companies at a low interest rate.",
}
QUESTIONS = {
    "which animal catches mice": "cats",
    "how is bread made from flour": "bread",
    "what can be seen with a telescope": "stars",
    "who lends money to a company": "money",
}


WORDS = {"cats hunt mice": "cats", "bake bread flour": "bread", "galaxies and stars": "stars", "bank lends": "money"}


def ask(embedder: Any, questions: dict[str, str]) -> None:
    with kektordb.open(":memory:") as db:
        index = db.create_index("docs", embedder=embedder)
        index.add_texts(list(DOCUMENTS.values()), ids=list(DOCUMENTS))
        for question, id in questions.items():
            assert index.search(query_text=question, k=1)[0].id == id, question


def test_model2vec_itself_with_a_small_model_made_here(tmp_path: Path) -> None:
    """The library as it is, with vectors by chance for the words: texts with common words are near."""
    model2vec = pytest.importorskip("model2vec", reason="model2vec is not installed")
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    texts = " ".join(DOCUMENTS.values()).lower()
    words = sorted(set("".join(c if c.isalpha() else " " for c in texts).split()))
    vocabulary = {word: number for number, word in enumerate(["[UNK]", *words])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).standard_normal((len(vocabulary), 256)).astype(np.float32)
    model2vec.StaticModel(vectors, tokenizer, config={"normalize": True}).save_pretrained(str(tmp_path / "model"))

    embedder = as_embedder(f"model2vec:{tmp_path / 'model'}", name="model2vec:small")

    assert embedder.dim == 256
    ask(embedder, WORDS)


MODEL = os.environ.get("KEKTORDB_TEST_EMBEDDER", "")


@pytest.mark.skipif(not MODEL, reason="KEKTORDB_TEST_EMBEDDER names no embedder, such as ollama:nomic-embed-text")
def test_a_real_model_finds_the_document_that_answers_a_question() -> None:
    ask(as_embedder(MODEL), QUESTIONS)
