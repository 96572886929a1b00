"""An index takes texts, is searched by texts, and keeps to one embedder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import kektordb
from kektordb.embed import CallableEmbedder, HashingEmbedder, as_embedder
from kektordb.errors import (
    ConfigError,
    EmbedderError,
    IdError,
    IndexNotFound,
    ItemExists,
    MetadataError,
    ReadOnlyDatabase,
    VectorError,
)

TEXTS = ["reset your password in the settings", "the weather is nice today", "bake bread with yeast"]


@pytest.fixture
def db() -> Any:
    with kektordb.open(":memory:") as db:
        yield db


def test_texts_go_in_and_are_found_by_text(db: kektordb.Database) -> None:
    index = db.create_index("docs", embedder="hashing:64")

    ids = index.add_texts(TEXTS, metadata=[{"page": 1}, None, {"page": 3}])

    assert len(set(ids)) == 3
    assert all(len(id) == 32 and int(id, 16) >= 0 for id in ids)
    hits = index.search(query_text="how do I reset the password", k=2)
    assert hits[0].id == ids[0]
    assert hits[0].metadata == {"page": 1, "text": TEXTS[0]}
    assert index.dim == 64
    assert index.config.embedder == "hashing:64"
    assert index.stats()["embedder"] == "hashing:64"
    expected = HashingEmbedder(64).embed_documents(TEXTS)
    np.testing.assert_allclose(index[ids[1]].vector, expected[1], rtol=1e-6)


def test_a_query_text_ranks_by_words_too_when_there_is_a_language(db: kektordb.Database) -> None:
    """The vectors say nothing here: all texts have the same one."""
    same = CallableEmbedder(lambda texts: np.ones((len(texts), 2)), name="same")
    plain = db.create_index("plain", embedder=same)
    worded = db.create_index("worded", embedder=same, text_language="english")
    for index in (plain, worded):
        index.add_texts(TEXTS, ids=["a", "b", "c"])

    assert plain.search(query_text="baking bread", k=1)[0].id == "a"
    assert worded.search(query_text="baking bread", k=1)[0].id == "c"
    assert worded.search(query_text="baking bread", k=1, alpha=1.0)[0].id == "a"
    assert worded.search(query_text="bread", k=1, snippet=True)[0].snippet is not None
    assert plain.search(query_text="bread", filter="text LIKE '%weather%'")[0].id == "b"


def test_ids_and_the_key_of_the_text_may_be_given(db: kektordb.Database) -> None:
    index = db.create_index("docs", embedder=HashingEmbedder(8))

    assert index.add_texts(["x"], ids=["a"], metadata=[{"text": "mine"}], text_key="body") == ["a"]
    assert index["a"].metadata == {"text": "mine", "body": "x"}
    index.add_texts(["y"], ids=["a"], text_key="body", replace=True)
    assert index["a"].metadata == {"body": "y"}
    assert index.add_texts([]) == []
    assert len(index) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"texts": "text"}, ConfigError),
        ({"texts": [1]}, ConfigError),
        ({"texts": ["a", "b"], "ids": ["x"]}, ConfigError),
        ({"texts": ["a", "b"], "ids": ["x", "x"]}, IdError),
        ({"texts": ["a"], "ids": [""]}, IdError),
        ({"texts": ["a"], "metadata": [{"text": "another"}]}, MetadataError),
        ({"texts": ["a"], "metadata": [{"x": object()}]}, MetadataError),
        ({"texts": ["a"], "metadata": [5]}, MetadataError),
        ({"texts": ["a"], "metadata": {"x": 1}}, MetadataError),
        ({"texts": ["a"], "metadata": [None, None]}, MetadataError),
        ({"texts": ["a"], "text_key": ""}, ConfigError),
        ({"texts": ["\ud800"]}, MetadataError),
    ],
)
def test_what_is_wrong_shows_before_a_text_is_embedded(
    db: kektordb.Database, arguments: dict[str, Any], error: type[Exception]
) -> None:
    def never(texts: list[str]) -> npt.ArrayLike:
        raise AssertionError("embedded")

    index = db.create_index("docs", embedder=CallableEmbedder(never, name="never"))

    with pytest.raises(error):
        index.add_texts(**arguments)
    assert len(index) == 0


def test_an_item_that_exists_is_not_replaced_unasked(db: kektordb.Database) -> None:
    index = db.create_index("docs", embedder="hashing:8")
    index.add_texts(["x"], ids=["a"])

    with pytest.raises(ItemExists):
        index.add_texts(["y", "z"], ids=["b", "a"])
    assert list(index) == ["a"]


def test_all_texts_or_none(db: kektordb.Database) -> None:
    def embed(texts: list[str]) -> npt.ArrayLike:
        if "bad" in texts:
            raise EmbedderError("no", permanent=True)
        return np.ones((len(texts), 2))

    index = db.create_index("docs", embedder=CallableEmbedder(embed, name="m", batch_size=2))

    with pytest.raises(EmbedderError):
        index.add_texts(["a", "b", "c", "bad"])
    assert len(index) == 0


def test_query_text_stands_alone_and_needs_an_embedder(db: kektordb.Database) -> None:
    index = db.create_index("docs", embedder="hashing:8")
    plain = db.create_index("plain", dim=8)

    with pytest.raises(VectorError):
        index.search(np.ones(8), query_text="a")
    with pytest.raises(VectorError):
        index.search(text="a", query_text="a")
    with pytest.raises(ConfigError):
        index.search(query_text=5)  # type: ignore[arg-type]
    for ask in (lambda: plain.search(query_text="a"), lambda: plain.add_texts(["a"])):
        with pytest.raises(ConfigError, match="attach_embedder"):
            ask()
    assert len(index.search(query_text="a")) == 0


# ---------------------------------------------------------------------------------------------------------- the name


def test_the_name_is_kept_and_another_embedder_is_refused(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db") as db:
        db.create_index("docs", embedder="hashing:64").add_texts(TEXTS)
    for save in (True, False, False):
        with kektordb.open(tmp_path / "db") as db:
            index = db["docs"]
            assert index.embedder is None
            assert index.config.embedder == "hashing:64"
            with pytest.raises(ConfigError, match="'hashing:64'"):
                index.search(query_text="a")
            same_size = CallableEmbedder(lambda texts: np.ones((len(texts), 64)), name="other")
            with pytest.raises(ConfigError, match=r"'docs'.*'hashing:64'.*'other'"):
                index.attach_embedder(same_size)
            assert index.embedder is None
            index.attach_embedder()
            assert index.search(query_text="yeast", k=1)[0].metadata["text"] == TEXTS[2]
            if save:
                db.save()


def test_an_index_without_a_name_takes_the_first_one(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db") as db:
        index = db.create_index("docs", dim=8)
        with pytest.raises(ConfigError, match="none that is known"):
            index.attach_embedder()
        made = index.attach_embedder("hashing:8")
        assert index.embedder is made
        assert db["docs"].embedder is made
    with kektordb.open(tmp_path / "db") as db:
        assert db["docs"].config.embedder == "hashing:8"


def test_the_same_model_by_another_way_is_renamed(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db") as db:
        index = db.create_index("docs", embedder="hashing:8")
        again = as_embedder(HashingEmbedder(8, name="another way"))
        index.attach_embedder(again, rename=True)
        assert index.add_texts(["a"]) != []
    with kektordb.open(tmp_path / "db") as db:
        assert db["docs"].config.embedder == "another way"


def test_a_name_that_changes_underneath_is_noticed(db: kektordb.Database) -> None:
    index = db.create_index("docs", embedder="hashing:8")

    index._name_embedder("other", rename=True)

    with pytest.raises(ConfigError, match=r"'other'.*'hashing:8'"):
        index.add_texts(["a"])


def test_an_embedder_of_another_dimension_is_refused(db: kektordb.Database) -> None:
    index = db.create_index("docs", dim=16)

    with pytest.raises(ConfigError, match="16 dimensions"):
        index.attach_embedder("hashing:8")
    with pytest.raises(ConfigError, match="16 dimensions"):
        db.create_index("more", dim=16, embedder="hashing:8")
    assert index.config.embedder == ""
    assert "more" not in db


def test_a_dimension_that_turns_out_to_be_wrong_stores_nothing_and_is_forgotten(db: kektordb.Database) -> None:
    sizes = iter([7, 16, 7])
    embedder = CallableEmbedder(lambda texts: np.ones((len(texts), next(sizes))), name="m")
    index = db.create_index("docs", dim=16)
    index.attach_embedder(embedder)

    with pytest.raises(EmbedderError, match=r"7 dimensions.*16") as caught:
        index.add_texts(["a"])
    assert caught.value.permanent
    assert len(index) == 0
    index.add_texts(["a"])
    with pytest.raises(EmbedderError):
        index.search(query_text="a")


def test_a_wrong_dimension_does_not_stay_in_a_cache(db: kektordb.Database) -> None:
    sizes = iter([7, 16])
    embedder = CallableEmbedder(lambda texts: np.ones((len(texts), next(sizes))), name="m")
    index = db.create_index("docs", dim=16)
    index.attach_embedder(embedder, cache=db.kv)
    with pytest.raises(EmbedderError, match="7 dimensions"):
        index.add_texts(["a"])

    index.add_texts(["a"])
    index.add_texts(["a"])

    assert len(index) == 2


def test_a_batch_takes_texts_with_the_rest(db: kektordb.Database) -> None:
    index = db.create_index("docs", embedder="hashing:8")
    plain = db.create_index("plain", dim=8)

    with contextlib.suppress(KeyError), db.batch():
        index.add_texts(["a"])
        raise KeyError
    with db.batch():
        index.add_texts(["b"], ids=["b"])
        db.kv["b"] = b"done"
        with pytest.raises(ConfigError):
            plain.attach_embedder("hashing:8")

    assert list(index) == ["b"]
    assert plain.embedder is None


def test_threads_that_add_and_search_texts_at_once(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db", sync="always") as db:
        index = db.create_index("docs", embedder="hashing:32", text_language="english")
        failures: list[BaseException] = []

        def work(thread: int) -> None:
            try:
                for i in range(15):
                    text = f"word{thread}x{i} bread"
                    (id,) = index.add_texts([text])
                    assert id in index.search(query_text=text, k=5).ids
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert failures == []
        assert len(index) == 60


def test_an_index_that_is_dropped_takes_its_embedder_along(db: kektordb.Database) -> None:
    index = db.create_index("docs", embedder="hashing:8")
    db.drop_index("docs")
    with pytest.raises(IndexNotFound):
        index.add_texts(["a"])

    db.create_index("docs", dim=3)

    assert index.embedder is None
    assert index.config.embedder == ""


def test_a_reader_searches_by_text_and_writes_nothing(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db") as db:
        db.create_index("named", embedder="hashing:8").add_texts(TEXTS)
        db.create_index("unnamed", dim=8).add("x", np.ones(8))
        with kektordb.open(tmp_path / "db", read_only=True) as reader:
            reader["named"].attach_embedder("hashing:8")
            reader["unnamed"].attach_embedder("hashing:8")
            assert len(reader["named"].search(query_text="bread")) == 3
            assert len(reader["unnamed"].search(query_text="bread")) == 1
            with pytest.raises(ReadOnlyDatabase):
                reader["named"].add_texts(["a"])
            db["named"].add_texts(["more"])
            db.save()
            reader.refresh()
            assert len(reader["named"].search(query_text="bread")) == 4


def test_dump_backup_vacuum_and_compress_keep_the_name(tmp_path: Path) -> None:
    with kektordb.open(tmp_path / "db") as db:
        index = db.create_index("docs", embedder="hashing:8", metric="euclidean")
        ids = index.add_texts(TEXTS)
        index.delete(ids[0])
        index.vacuum().wait()
        index.compress("float16").wait()
        index.configure(delete_threshold=0.5)
        assert index.config.embedder == "hashing:8"
        kektordb.dump(db, tmp_path / "dump")
        db.backup(tmp_path / "file")
    kektordb.load(tmp_path / "dump", tmp_path / "loaded")
    kektordb.restore(tmp_path / "file", tmp_path / "restored")
    for name in ("loaded", "restored"):
        with kektordb.open(tmp_path / name) as db:
            assert db["docs"].config.embedder == "hashing:8"
            assert db["docs"].config.maintenance.delete_threshold == 0.5


def test_one_of_two_embedders_wins_an_index(db: kektordb.Database) -> None:
    for turn in range(20):
        index = db.create_index(f"docs{turn}", dim=2)
        barrier = threading.Barrier(4)
        outcomes: list[str] = []

        def work(name: str, index: Any = index, barrier: Any = barrier, outcomes: Any = outcomes) -> None:
            embedder = CallableEmbedder(lambda texts: np.ones((len(texts), 2)), name=name)
            barrier.wait()
            try:
                index.attach_embedder(embedder)
                outcomes.append(name)
            except ConfigError:
                pass

        threads = [threading.Thread(target=work, args=(f"m{i % 2}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert set(outcomes) == {index.config.embedder}
        assert index.embedder is not None
        assert index.embedder.name == index.config.embedder


def test_importing_kektordb_loads_no_embedder() -> None:
    code = (
        "import sys, kektordb\n"
        "with kektordb.open(':memory:') as db:\n"
        "    db.create_index('a', dim=2).add('x', [1, 2])\n"
        "    db['a'].search([1, 2])\n"
        "heavy = ('kektordb.embed.', 'http', 'sqlite3')\n"
        "loaded = [name for name in sys.modules if name.startswith(heavy)]\n"
        "assert not loaded, loaded\n"
        "import kektordb.embed\n"
        "loaded = [name for name in sys.modules if name.startswith(('http', 'sqlite3', 'asyncio'))]\n"
        "assert not loaded, loaded\n"
    )
    root = str(Path(kektordb.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )

    assert done.returncode == 0, done.stderr
