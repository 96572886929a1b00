"""Files that are renamed, moved or copied keep their vectors: the embedder is asked for texts that it has not seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from syncer import DIM, stub, vector_of

import kektordb
from kektordb._vectors import Vectors
from kektordb.collection import Collection
from kektordb.precision import same_again
from kektordb.vectorizer import syncing
from kektordb.vectorizer.folder import FolderSource
from kektordb.vectorizer.ledger import chunk_hash, chunk_ids, hash_of_id
from kektordb.vectorizer.sources import IterableSource, Source
from kektordb.vectorizer.vectorizer import Vectorizer

Documents = list[tuple[str, str]]


def by_paragraph(text: str) -> list[str]:
    return text.split("\n\n")


@pytest.fixture
def db() -> kektordb.Database:
    return kektordb.open(":memory:", n_threads=1)


def made(db: kektordb.Database, source: Source | Documents, seen: list[str], **options: Any) -> Vectorizer:
    given = IterableSource(source) if isinstance(source, list) else source
    return Vectorizer(db, options.pop("name", "docs"), "docs", given, stub(seen=seen), chunking=by_paragraph, **options)


def contents(db: kektordb.Database) -> dict[str, Any]:
    return {id: (db["docs"][id].metadata, db["docs"][id].vector.tobytes()) for id in db["docs"].ids()}


def fresh(source: Source | Documents) -> dict[str, Any]:
    with kektordb.open(":memory:", n_threads=1) as db:
        made(db, source, []).sync()
        return contents(db)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    (root / "old").mkdir(parents=True)
    for n in range(5):
        (root / "old" / f"{n}.txt").write_text("\n\n".join(f"text {n} {m}" for m in range(4)))
    return root


# --------------------------------------------------------------------------------------------------------------- files


def rename(folder: Path) -> None:
    (folder / "old" / "3.txt").rename(folder / "old" / "0 is before it.txt")


def rename_to_later(folder: Path) -> None:
    (folder / "old" / "3.txt").rename(folder / "old" / "z.txt")


def move(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "old" / "3.txt").rename(folder / "a" / "3.txt")


def move_all(folder: Path) -> None:
    (folder / "old").rename(folder / "new")


def copy(folder: Path) -> None:
    (folder / "old" / "copy.txt").write_bytes((folder / "old" / "3.txt").read_bytes())


def swap(folder: Path) -> None:
    (folder / "old" / "3.txt").rename(folder / "old" / "x.txt")
    (folder / "old" / "4.txt").rename(folder / "old" / "3.txt")
    (folder / "old" / "x.txt").rename(folder / "old" / "4.txt")


def rename_over_another(folder: Path) -> None:
    (folder / "old" / "3.txt").replace(folder / "old" / "1.txt")


@pytest.mark.parametrize("act", [rename, rename_to_later, move, move_all, copy, swap, rename_over_another])
def test_a_file_elsewhere_is_not_embedded_again(
    db: kektordb.Database, folder: Path, act: Callable[[Path], None]
) -> None:
    seen: list[str] = []
    source = FolderSource(folder)
    vectorizer = made(db, source, seen)
    assert vectorizer.sync().n_embedded == 20
    seen.clear()

    act(folder)
    counts = vectorizer.sync()

    assert seen == []
    assert counts.n_embedded == 0
    assert contents(db) == fresh(source)
    assert vectorizer.sync().n_changed == 0


def test_of_a_renamed_and_edited_file_only_what_was_edited_is_embedded(db: kektordb.Database, folder: Path) -> None:
    seen: list[str] = []
    source = FolderSource(folder)
    vectorizer = made(db, source, seen)
    vectorizer.sync()
    seen.clear()

    rename(folder)
    path = folder / "old" / "0 is before it.txt"
    path.write_text(path.read_text().replace("text 3 1", "an edited text"))
    counts = vectorizer.sync()

    assert seen == ["an edited text"]
    assert (counts.n_changed, counts.n_vanished, counts.n_embedded, counts.n_kept, counts.n_deleted) == (1, 1, 1, 3, 4)
    assert contents(db) == fresh(source)


def test_a_paragraph_that_comes_once_more_is_not_embedded_again(db: kektordb.Database) -> None:
    seen: list[str] = []
    documents = [("a", "one\n\ntwo"), ("b", "three")]
    vectorizer = made(db, documents, seen)
    vectorizer.sync()
    seen.clear()

    documents[:] = [("a", "one\n\ntwo\n\none"), ("b", "three\n\ntwo\n\nfour")]
    vectorizer.sync()

    assert seen == ["four"]
    assert contents(db) == fresh(documents)


def test_a_renamed_document_needs_no_embedder(db: kektordb.Database) -> None:
    documents = [("a", "one\n\ntwo")]
    made(db, documents, []).sync()

    def is_down(texts: list[str]) -> Any:
        raise ConnectionError

    broken = kektordb.embed.as_embedder(is_down, name="stub")
    documents[:] = [("b", "one\n\ntwo"), ("c", "one\n\nthree")]
    Vectorizer(db, "docs", "docs", IterableSource(documents), broken, chunking=by_paragraph).sync()

    assert contents(db) == fresh([("b", "one\n\ntwo")])


# ---------------------------------------------------------------------------------------------------- what is not taken


def test_a_vector_of_another_index_or_vectorizer_is_not_taken(db: kektordb.Database) -> None:
    seen: list[str] = []
    made(db, [("a", "one")], seen).sync()
    made(db, [("b", "one")], seen, name="docs:2").sync()
    assert seen == ["one", "one"]

    db.drop_index("docs")
    made(db, [("c", "one")], seen).sync()
    assert seen == ["one", "one", "one"]


def test_a_vector_is_not_taken_of_an_item_that_only_says_that_it_has_the_text(db: kektordb.Database) -> None:
    seen: list[str] = []
    made(db, [("a", "one")], seen).sync()
    index, digest = db["docs"], chunk_hash("two")
    wrong = np.arange(1, DIM + 1, dtype=np.float32)
    said = {"content_hash": digest.hex(), "content_chunk": "two"}
    index.add("docs:a#other", wrong, said)
    index.add("elsewhere#" + digest.hex(), wrong, said)
    index.add("docs:x#" + chunk_hash("one").hex(), wrong, said)
    index.add("docs:y#" + digest.hex(), wrong, {**said, "content_chunk": "another text"})
    index.update_metadata("docs:a#" + chunk_hash("one").hex(), said)

    made(db, [("b", "two")], seen).sync()

    assert seen == ["one", "two"]
    stored = index["docs:b#" + digest.hex()].vector
    np.testing.assert_allclose(stored, vector_of("two") / np.linalg.norm(vector_of("two")), atol=1e-6)


def test_a_row_that_would_be_rounded_once_more_is_embedded_again(db: kektordb.Database) -> None:
    def stays(text: str) -> bool:
        vectors = Vectors(DIM, "cosine")
        return bool(same_again(vectors, vectors.prepare_rows(vector_of(text)[None, :])[0])[0])

    text = next(text for text in map(str, range(10_000)) if not stays(text))
    seen: list[str] = []
    documents = [("a", f"{text}\n\nplain"), ("b", "plain")]
    assert stays("plain")
    made(db, documents, seen).sync()
    seen.clear()
    documents[:] = [("c", f"{text}\n\nplain")]
    made(db, documents, seen).sync()
    assert seen == [text]
    assert contents(db) == fresh(documents)


def test_the_hash_of_an_id_is_that_of_its_chunk() -> None:
    hashes = [chunk_hash(text) for text in ("one", "two", "one")]
    for key in ("a", "a#b-2", "x" * 2000, f"#{hashes[0].hex()}"):
        assert [hash_of_id("docs", id) for id in chunk_ids("docs", key, hashes)] == hashes
    for id in ("docs", "docs:", "docs:a", "docs:a#", "docs:a#xyz", "other:a#" + hashes[0].hex()):
        assert hash_of_id("docs", id) not in hashes


# -------------------------------------------------------------------------------------------------------- how they are


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_what_is_taken_has_the_same_bits(metric: str, precision: str) -> None:
    dim, n = 100, 5000  # enough rows for bytes on one scale
    rng = np.random.default_rng(11)
    rows = {f"text {i}": row for i, row in enumerate(rng.standard_normal((n, dim)).astype(np.float32))}
    seen: list[str] = []

    def embed(texts: list[str]) -> Any:
        seen.extend(texts)
        return np.stack([rows[text] for text in texts])

    with kektordb.open(":memory:") as db:
        config = {"metric": metric, "precision": precision, "text_language": "", "m": 4, "ef_construction": 8}
        texts = list(rows)
        documents = [("all", "\n\n".join(texts[:-50])), ("a", "\n\n".join(texts[-50:]))]
        embedder = kektordb.embed.as_embedder(embed, name="stub")
        source = IterableSource(documents)
        vectorizer = Vectorizer(db, "docs", "docs", source, embedder, chunking=by_paragraph, index_config=config)
        vectorizer.sync()
        index = db["docs"]
        assert index.stats()["stored_precision"] == precision
        before = {index[id].metadata["content_chunk"]: index[id].vector.tobytes() for id in index.ids()}
        seen.clear()

        documents[1] = ("b", documents[1][1])
        vectorizer.sync()

        assert seen == []
        assert len(index) == n
        after = {index[id].metadata["content_chunk"]: index[id].vector.tobytes() for id in index.ids()}
        assert after == before


@pytest.mark.parametrize("to", ["float16", "int8"])
def test_vectors_that_were_compressed_are_taken_as_they_are(db: kektordb.Database, to: str) -> None:
    seen: list[str] = []
    documents = [("a", "one\n\ntwo")]
    made(db, documents, seen).sync()
    db["docs"].compress(to).wait()
    before = {item.metadata["content_chunk"]: item.vector for item in map(db["docs"].__getitem__, db["docs"].ids())}
    documents[:] = [("b", "one\n\ntwo")]
    made(db, documents, seen).sync()
    assert seen == ["one", "two"]
    for item in map(db["docs"].__getitem__, db["docs"].ids()):
        np.testing.assert_array_equal(item.vector, before[item.metadata["content_chunk"]])


def test_a_text_of_all_documents_is_looked_for_seldom(db: kektordb.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "MAX_DOCUMENTS", 8)
    seen: list[str] = []
    n = 300
    documents = [(f"d{i:03d}", f"text {i}\n\nthe same footer") for i in range(n)]
    made(db, documents, seen).sync()
    # Documents of some groups are read before the first of them are stored.
    assert seen.count("the same footer") < 10

    n_ids = 0
    ids = Collection.matching_ids

    def counted(*arguments: Any, **more: Any) -> list[str]:
        nonlocal n_ids
        found = ids(*arguments, **more)
        n_ids += len(found)
        return found

    monkeypatch.setattr(Collection, "matching_ids", counted)
    seen.clear()
    documents[:] = [(f"moved/{key}", text) for key, text in documents]
    counts = made(db, documents, seen).sync()
    assert "the same footer" not in seen
    assert len(seen) < n // 20  # those whose rows would be rounded once more
    assert (counts.n_changed, counts.n_vanished) == (n, n)
    assert n_ids < 3 * n


def test_a_copy_to_another_folder_by_hard_link(db: kektordb.Database, folder: Path) -> None:
    seen: list[str] = []
    vectorizer = made(db, FolderSource(folder), seen)
    vectorizer.sync()
    seen.clear()
    os.link(folder / "old" / "1.txt", folder / "link.txt")
    vectorizer.sync()
    assert seen == []
    assert len(db["docs"]) == 24
