"""The file of vectorizers is read strictly: what is wrong is named with its line, and no key is shown."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path
from typing import Any

import pytest

import kektordb
from kektordb.errors import ConfigError
from kektordb.vectorizer.config import embedder_of, load_config, start_all

FULL = """\
# as the original has it
vectorizers:
  - name: "docs"
    kektor_index: knowledge_base
    schedule: "30s"
    source:
      type: filesystem
      path: "%s"
    include_patterns: ["*.md", "*.txt"]
    exclude_patterns: ["draft_*"]
    index_config:
      metric: euclidean
      precision: float16
      m: 8
      text_language: italian
    embedder:
      type: "openai"
      url: "http://localhost:1234/v1/embeddings"
      model: "some-model"
      api_key: ${SOME_KEY}
      timeout: 2m
    document_processor:
      chunking_strategy: markdown
      chunk_size: ${SIZE}
      chunk_overlap: 20
    graph_enabled: false
    metadata_template:
      source: "{{file_path}} at {{mod_time}}"
      level: 3
  - name: 2024
    kektor_index: other
    source: {type: filesystem, path: "%s"}
    embedder: {type: hashing, model: 64}
"""
ENVIRONMENT = {"SOME_KEY": "12345678", "SIZE": "200", "SECRET": "hunter2hunter2"}


def written(folder: Path, text: str) -> Path:
    path = folder / "vectorizers.yaml"
    path.write_text(text)
    return path


def test_the_file_of_the_original_is_understood(tmp_path: Path) -> None:
    path = written(tmp_path, FULL % (tmp_path, tmp_path))
    first, second = load_config(path, ENVIRONMENT)
    assert (first.name, first.kektor_index, first.schedule) == ("docs", "knowledge_base", "30s")
    assert (first.chunking.strategy, first.chunking.size, first.chunking.overlap) == ("markdown", 200, 20)
    assert (first.index_config.metric, first.index_config.m) == ("euclidean", 8)
    assert first.metadata_template == {"source": "{{file_path}} at {{mod_time}}", "level": 3}
    assert first.embedder.api_key == "12345678"
    assert "12345678" not in repr(first)
    embedder = embedder_of(first.embedder)
    assert embedder.name == "openai:some-model"
    assert "12345678" not in repr(embedder)
    assert (second.name, second.embedder.model) == ("2024", "64")
    assert (second.chunking.strategy, second.chunking.size, second.chunking.overlap) == ("recursive", 500, 50)


def test_the_vectorizers_of_a_file_do_their_work(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Shoes\n\nA red shoe.")
    path = written(
        tmp_path,
        f"vectorizers:\n- {{name: x, kektor_index: i, source: {{type: filesystem, path: {tmp_path}}}, "
        "embedder: {type: hashing, model: '32'}, index_config: {metric: euclidean}, watch: false}\n",
    )
    with kektordb.open(":memory:") as db:
        start_all(db, load_config(path))
        vectorizer = db.vectorizers.get("x")
        assert vectorizer is not None
        assert vectorizer.wait(20)
        assert db["i"].config.metric == "euclidean"
        assert db["i"].dim == 32
        assert db["i"].search(query_text="red shoe", k=1)[0].metadata["source_file"] == "a.md"


def test_a_configuration_that_cannot_begin_begins_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, FULL % (tmp_path, tmp_path / "nowhere"))
    with kektordb.open(":memory:") as db:
        with pytest.raises(ConfigError, match="nowhere"):
            start_all(db, load_config(path, ENVIRONMENT))
        assert db.vectorizers.status() == []


GOOD = """\
vectorizers:
  - name: docs
    kektor_index: docs
    source:
      type: filesystem
      path: .
    embedder:
      type: hashing
"""

WRONG: list[tuple[str, str, int, str]] = [
    ("name: docs", "nme: docs", 2, "'nme' is no option"),
    ("    kektor_index: docs\n", "", 2, "'kektor_index' is missing"),
    ("type: filesystem", "type: ftp", 5, "ftp"),
    ("type: hashing", "type: oracle", 8, "oracle"),
    ("type: hashing", "type: hashing\n      flavour: 7", 9, "'flavour'"),
    ("type: hashing", "type: hashing\n      api_key: sk-secret", 9, "environment"),
    ("type: hashing", "type: hashing\n      api_key: x${SECRET}", 9, "environment"),
    ("type: hashing", "type: hashing\n      api_key: ${NOWHERE}", 9, "NOWHERE"),
    ("type: hashing", "type: hashing\n    schedule: soon", 9, "schedule"),
    ("type: hashing", "type: hashing\n    document_processor:\n      chunk_size: big", 10, "chunk_size"),
    ("type: hashing", "type: hashing\n    document_processor:\n      chunk_size: 0", 9, "chunk size"),
    ("type: hashing", "type: hashing\n    document_processor: {chunking_strategy: lucky}", 9, "lucky"),
    ("type: hashing", "type: hashing\n    document_processor: {parser: {type: cli}}", 9, "not served"),
    ("type: hashing", "type: hashing\n    llm: {model: x}", 9, "not served"),
    ("type: hashing", "type: hashing\n    include_patterns: ['../*']", 9, "pattern"),
    ("type: hashing", "type: hashing\n    include_patterns: '*.md'", 9, "include_patterns"),
    ("type: hashing", "type: hashing\n    metadata_template: {x: [1]}", 9, "metadata_template"),
    ("type: hashing", "type: hashing\n    name: again", 9, "second time"),
    ("type: hashing", "type: !!python/name:os.system", 8, "tag"),
    ("type: hashing", "type: !!python/object/apply:os.system ['x']", 8, "tag"),
    ("type: hashing", "type: [", 9, ""),
    ("type: hashing", "type: hashing\n\tx: y", 9, ""),
    ("type: hashing", "type: *nowhere", 8, "nowhere"),
    ("vectorizers:", "vectorisers:", 1, "'vectorisers'"),
]


@pytest.mark.parametrize(("good", "wrong", "line", "message"), WRONG, ids=[row[1].strip()[-40:] for row in WRONG])
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, good: str, wrong: str, line: int, message: str) -> None:
    path = written(tmp_path, GOOD.replace(good, wrong, 1))
    with pytest.raises(ConfigError, match=rf"line {line}\b") as caught:
        load_config(path, ENVIRONMENT)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "7", "vectorizers: 7", "null", "vectorizers:", "\x00", "a: b: c"])
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(written(tmp_path, text))


def test_an_empty_list_is_one(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "vectorizers: []")) == []


def test_a_name_stands_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 9.*twice"):
        load_config(written(tmp_path, GOOD + GOOD.partition("\n")[2]))


def test_little_cannot_be_made_into_much(tmp_path: Path) -> None:
    laughs = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    deep = "x: " + "[" * 50_000
    itself = "vectorizers: &a [*a]"
    long = "x: " + "y" * (2 << 20)
    for text in (laughs, deep, itself, long):
        began = time.process_time()
        with pytest.raises(ConfigError):
            load_config(written(tmp_path, text))
        assert time.process_time() - began < 10


def test_the_environment_cannot_add_structure(tmp_path: Path) -> None:
    text = GOOD.replace("name: docs", 'name: "${NAME}"')
    [config] = load_config(written(tmp_path, text), {"NAME": 'x"\n    watch: false\n    y: "'})
    assert config.name == 'x"\n    watch: false\n    y: "'
    assert config.watch
    [config] = load_config(written(tmp_path, GOOD.replace("name: docs", "name: ${NAME:-standard}")), {})
    assert config.name == "standard"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")


def test_mutants_are_refused_or_understood(tmp_path: Path) -> None:
    rng = random.Random(5)
    alphabet = ":-{}[]&*!|>'\"%@`#,?\n \t0aé${}\x00"
    base = FULL % (tmp_path, tmp_path)
    for _ in range(300):
        text: Any = list(base)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(0, 8)] = rng.choices(alphabet, k=rng.randrange(0, 4))
        with contextlib.suppress(ConfigError):
            load_config(written(tmp_path, "".join(text)), ENVIRONMENT)
