"""An index keeps in step with a source: what changed is embedded, what went goes, what failed is tried again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from syncer import DIM, SMALL, stub, vector_of

import kektordb
from kektordb.embed import Embedder, as_embedder
from kektordb.errors import ConfigError, DocumentError, EmbedderError
from kektordb.kv import AllKeys
from kektordb.vectorizer.folder import FolderSource
from kektordb.vectorizer.sources import IterableSource, Source
from kektordb.vectorizer.vectorizer import Vectorizer

BY_PARAGRAPH: Callable[[str], list[str]] = lambda text: text.split("\n\n")  # noqa: E731


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Service:
    """An embedder as bad as it is told to be."""

    name = "service"

    def __init__(self) -> None:
        self.dim: int | None = None
        self.fault: Exception | object = None
        self.refuses: set[str] = set()
        self.n_calls = 0
        self.texts: list[str] = []

    def embed_documents(self, texts: Sequence[str]) -> Any:
        self.n_calls += 1
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault is not None:
            return self.fault
        if self.refuses & set(texts):
            raise EmbedderError("500: no words for this")
        self.texts += [text for text in texts if "probe" not in text]
        return np.stack([vector_of(text) for text in texts])

    def embed_query(self, text: str) -> Any:
        return vector_of(text)


@pytest.fixture
def db() -> kektordb.Database:
    return kektordb.open(":memory:")


def made(
    db: kektordb.Database, source: Source | list[Any], embedder: Embedder, clock: Clock | None = None, **options: Any
) -> Vectorizer:
    given = IterableSource(source) if isinstance(source, list) else source
    options = {"chunking": BY_PARAGRAPH, **options}
    return Vectorizer(db, "docs", "docs", given, embedder, clock=Clock() if clock is None else clock, **options)


def texts(db: kektordb.Database, key: str) -> list[str]:
    """Return the chunks of a document, in their order."""
    index = db["docs"]
    items = [index[id] for id in index.ids("source_file = $key", {"key": key})]
    found = {item.metadata["chunk_number"]: item for item in items}
    assert sorted(found) == list(range(len(found)))
    for item in items:
        wanted = vector_of(item.metadata["content_chunk"])
        np.testing.assert_allclose(item.vector, wanted / np.linalg.norm(wanted), atol=1e-6)
    return [found[n].metadata["content_chunk"] for n in range(len(found))]


# ------------------------------------------------------------------------------------------------------------- changes


def test_only_changed_chunks_are_embedded_and_stale_ones_go(db: kektordb.Database) -> None:
    seen: list[str] = []
    documents = [("a", "one\n\ntwo\n\nthree"), ("b", "four\n\nfive")]
    vectorizer = made(db, documents, stub(seen=seen))
    assert vectorizer.sync().n_embedded == 5

    seen.clear()
    assert vectorizer.sync().n_changed == 0
    assert seen == []

    documents[0] = ("a", "zero\n\none\n\n3")
    counts = vectorizer.sync()

    assert sorted(seen) == ["3", "zero"]
    assert (counts.n_embedded, counts.n_kept, counts.n_deleted, counts.n_changed) == (2, 1, 2, 1)
    assert texts(db, "a") == ["zero", "one", "3"]
    assert texts(db, "b") == ["four", "five"]
    assert len(db["docs"]) == 5


def test_an_item_stays_the_same_item_when_text_is_put_in_before_it(db: kektordb.Database) -> None:
    documents = [("a", "one\n\ntwo")]
    vectorizer = made(db, documents, stub())
    vectorizer.sync()
    before = set(db["docs"].ids())

    documents[0] = ("a", "zero\n\none\n\ntwo")
    vectorizer.sync()

    assert before < set(db["docs"].ids())
    assert texts(db, "a") == ["zero", "one", "two"]


def test_the_same_text_twice_is_two_chunks_and_one_question(db: kektordb.Database) -> None:
    seen: list[str] = []
    documents = [("a", "x\n\nx\n\ny"), ("b", "x")]
    vectorizer = made(db, documents, stub(seen=seen))
    vectorizer.sync()
    assert sorted(seen) == ["x", "y"]
    assert texts(db, "a") == ["x", "x", "y"]

    documents[0] = ("a", "x\n\ny")
    vectorizer.sync()
    assert texts(db, "a") == ["x", "y"]
    assert texts(db, "b") == ["x"]


def test_a_vanished_document_goes_with_all_it_had(db: kektordb.Database) -> None:
    documents = [("a", "one"), ("b", "two\n\nthree")]
    vectorizer = made(db, documents, stub())
    vectorizer.sync()
    del documents[1]

    counts = vectorizer.sync()

    assert (counts.n_vanished, counts.n_deleted) == (1, 2)
    assert texts(db, "a") == ["one"]
    assert texts(db, "b") == []
    assert not [key for key in AllKeys(db) if key.endswith("\0b")]


def test_an_incomplete_iterable_only_adds(db: kektordb.Database) -> None:
    made(db, [("a", "one")], stub()).sync()
    made(db, IterableSource([("b", "two")], is_complete=False), stub()).sync()
    assert texts(db, "a") == ["one"]
    assert texts(db, "b") == ["two"]


def test_an_iterable_that_breaks_off_deletes_nothing(db: kektordb.Database) -> None:
    made(db, [("a", "one"), ("b", "two")], stub()).sync()

    def broken() -> Any:
        yield ("a", "changed")
        raise RuntimeError("the database of the caller is away")

    with pytest.raises(RuntimeError):
        made(db, IterableSource(broken), stub()).sync()
    assert texts(db, "b") == ["two"]


@pytest.mark.parametrize("bad", [[("a", "x"), ("a", "y")], [("", "x")], ["text"], [("a", 1)], [("a", "x", 3)]])
def test_what_is_no_document_is_refused(db: kektordb.Database, bad: list[Any]) -> None:
    with pytest.raises(ConfigError):
        made(db, bad, stub()).sync()


def test_an_iterator_can_be_read_once(db: kektordb.Database) -> None:
    vectorizer = made(db, IterableSource(iter([("a", "one")])), stub())
    vectorizer.sync()
    with pytest.raises(ConfigError, match="iterator"):
        vectorizer.sync()
    assert texts(db, "a") == ["one"]


def test_metadata_that_changes_is_stored_without_embedding(db: kektordb.Database) -> None:
    seen: list[str] = []
    documents: list[Any] = [("a", "one\n\ntwo", {"year": 1999})]
    vectorizer = made(db, documents, stub(seen=seen))
    vectorizer.sync()
    seen.clear()

    documents[0] = ("a", "one\n\ntwo", {"year": 2001})
    vectorizer.sync()

    assert seen == []
    assert db["docs"].count("year = 2001") == 2


def test_a_template_is_filled_in_and_a_new_one_takes_effect(db: kektordb.Database) -> None:
    seen: list[str] = []
    documents = [("dir/a.md", "one\n\ntwo")]
    template = {"where": "{{folder}}|{{ file_name }}|{{chunk_num}} of {{chunk_count}}", "level": 3}
    made(db, documents, stub(seen=seen), metadata_template=template).sync()
    assert db["docs"].count("where = 'dir|a.md|1 of 2' AND level = 3") == 1

    seen.clear()
    made(db, documents, stub(seen=seen), metadata_template={"where": "{{vectorizer}}"}).sync()
    assert seen == []
    assert db["docs"].count("where = 'docs'") == 2

    with pytest.raises(ConfigError, match="file_size"):
        made(db, documents, stub(), metadata_template={"x": "{{author}}"})


def test_another_chunking_cuts_anew_and_keeps_what_stays_the_same(db: kektordb.Database) -> None:
    seen: list[str] = []
    documents = [("a", "one\n\n" + "two " * 100)]
    made(db, documents, stub(seen=seen)).sync()
    seen.clear()
    made(db, documents, stub(seen=seen), chunking=SMALL).sync()
    assert "".join(texts(db, "a")).count("two") == 100
    assert set(texts(db, "a")) == set(seen)
    assert len(seen) > 2


# ------------------------------------------------------------------------------------------------------------ failures


FAULTS = {
    "down": EmbedderError("connection refused"),
    "500": EmbedderError("500: oops", status=500),
    "refused": EmbedderError("401: who are you?", permanent=True, status=401),
    "raises": ZeroDivisionError("a bug"),
    "garbage": "garbage",
    "too few": np.zeros((1, DIM), np.float32),
    "not finite": np.full((6, DIM), np.nan, np.float32),
    "one number": 3.0,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_with_a_bad_embedder_nothing_is_stored_and_in_the_end_all_is_there(db: kektordb.Database, fault: str) -> None:
    service, clock = Service(), Clock()
    documents = [(f"d{i}", f"text {i}\n\nmore {i}") for i in range(3)]
    vectorizer = made(db, documents, service, clock)
    service.fault = FAULTS[fault]

    vectorizer.sync()

    status = vectorizer.status()
    assert len(db["docs"]) == 0
    assert not status.is_in_step
    assert status.error is not None
    assert status.n_failed == 0  # no document is to blame
    assert status.counts.n_waiting == 3

    n_calls = service.n_calls
    vectorizer.sync()  # too early
    assert service.n_calls == n_calls
    assert vectorizer.status().counts.n_waiting == 3

    service.fault = None
    for _ in range(3):
        clock.now += 10
        vectorizer.sync()
    status = vectorizer.status()
    assert (status.is_in_step, status.error, status.n_failed) == (True, None, 0)
    assert [texts(db, f"d{i}") for i in range(3)] == [[f"text {i}", f"more {i}"] for i in range(3)]
    assert len(service.texts) == 6


def test_an_embedder_that_stays_away_is_asked_ever_more_rarely(db: kektordb.Database) -> None:
    service, clock = Service(), Clock()
    service.fault = EmbedderError("connection refused")
    vectorizer = made(db, [(f"d{i}", f"text {i}") for i in range(50)], service, clock)
    waits = []
    for _ in range(15):
        vectorizer.sync()
        retry_in_s = vectorizer.status().retry_in_s
        assert retry_in_s is not None
        waits.append(retry_in_s)
        clock.now += retry_in_s + 0.001
    assert waits[0] < 2
    assert waits[5] > 20
    assert 200 < waits[-1] < 400
    assert service.n_calls <= 15 * 3


def test_a_service_that_says_when_to_come_back_is_obeyed(db: kektordb.Database) -> None:
    service, clock = Service(), Clock()
    service.fault = EmbedderError("429", status=429, retry_after_s=77.0)
    vectorizer = made(db, [("a", "one"), ("b", "two")], service, clock)
    vectorizer.sync()
    assert vectorizer.status().retry_in_s == pytest.approx(77.0)


def test_one_text_that_chokes_the_embedder_keeps_nobody_else_out(db: kektordb.Database) -> None:
    service, clock = Service(), Clock()
    service.refuses = {"poison 3"}
    documents = [(f"d{i}", f"text {i}\n\npoison {i}") for i in range(6)]
    vectorizer = made(db, documents, service, clock)

    vectorizer.sync()

    status = vectorizer.status()
    assert [one.document for one in status.failed] == ["d3"]
    assert status.error is None
    assert "no words" in status.failed[0].error
    assert texts(db, "d3") == []
    assert texts(db, "d5") == ["text 5", "poison 5"]

    documents.append(("new", "new"))
    vectorizer.sync()
    assert texts(db, "new") == ["new"]

    # What was changed is tried at once.
    documents[3] = ("d3", "text 3\n\nmedicine")
    vectorizer.sync()
    assert texts(db, "d3") == ["text 3", "medicine"]
    assert vectorizer.status().is_in_step


def test_many_texts_that_choke_it_keep_nobody_else_out(db: kektordb.Database) -> None:
    service, clock = Service(), Clock()
    service.refuses = {f"poison {i}" for i in range(20)}
    documents = [(f"a{i}", f"poison {i}") for i in range(20)] + [(f"z{i}", f"good {i}") for i in range(20)]
    vectorizer = made(db, documents, service, clock)
    vectorizer.sync()
    assert len(db["docs"]) == 20
    assert vectorizer.status().n_failed == 20

    documents.append(("zz", "late"))
    vectorizer.sync()
    assert texts(db, "zz") == ["late"]


def test_a_wrong_dimension_is_refused_also_by_the_second_group(
    db: kektordb.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kektordb.vectorizer.syncing.SLICE_TEXTS", 2)
    clock = Clock()
    n_calls = [0]

    def strange(given: list[str]) -> Any:
        n_calls[0] += 1
        return np.ones((len(given), 4 if n_calls[0] == 1 else 5), np.float32)

    vectorizer = made(db, [(f"d{i}", f"a{i}\n\nb{i}") for i in range(4)], as_embedder(strange, name="strange"), clock)
    vectorizer.sync()
    assert len(db["docs"]) == 2
    assert db["docs"].dim == 4
    assert "dimensions" in (vectorizer.status().error or "")


def test_a_splitter_that_raises_keeps_its_document_out_and_no_other(db: kektordb.Database) -> None:
    def cut(text: str) -> list[str]:
        if "!" in text:
            raise KeyError("!")
        return [text]

    vectorizer = made(db, [("a", "one"), ("b", "two!"), ("c", "three")], stub(), chunking=cut)
    vectorizer.sync()
    assert [one.document for one in vectorizer.status().failed] == ["b"]
    assert len(db["docs"]) == 2


@pytest.mark.parametrize("metadata", [{"x": object()}, {"x": 2**70}, {"x": "\ud800"}, {1: 2}])
def test_metadata_that_cannot_be_stored_fails_alone(db: kektordb.Database, metadata: Any) -> None:
    vectorizer = made(db, [("a", "one", metadata), ("b", "two"), ("\ud800", "three"), ("c", "\ud800")], stub())
    vectorizer.sync()
    assert len(vectorizer.status().failed) == 3
    assert texts(db, "b") == ["two"]


def test_a_document_that_fails_keeps_what_it_had(db: kektordb.Database) -> None:
    service, documents = Service(), [("a", "one"), ("b", "two")]
    vectorizer = made(db, documents, service)
    vectorizer.sync()
    documents[0] = ("a", "poison")
    service.refuses = {"poison"}
    vectorizer.sync()
    assert texts(db, "a") == ["one"]


# ----------------------------------------------------------------------------------------------------------- the index


def test_the_index_is_made_as_it_is_asked_for(db: kektordb.Database) -> None:
    made(db, [("a", "The cats sleep")], stub(), index_config={"metric": "euclidean", "m": 8}).sync()
    config = db["docs"].config
    assert (config.metric, config.m, config.text_language) == ("euclidean", 8, "english")
    assert [hit.id for hit in db["docs"].search(text="cat")] == db["docs"].ids()
    with pytest.raises(ConfigError, match="flavour"):
        made(db, [], stub(), index_config={"flavour": 1}).sync() if "docs" not in db else _dropped(db)


def _dropped(db: kektordb.Database) -> None:
    db.drop_index("docs")
    made(db, [], stub(), index_config={"flavour": 1}).sync()


def test_an_index_that_was_made_anew_is_filled_anew(db: kektordb.Database) -> None:
    documents = [("a", "one\n\ntwo")]
    made(db, documents, stub()).sync()
    db.drop_index("docs")
    made(db, documents, stub()).sync()
    assert texts(db, "a") == ["one", "two"]


def test_vectors_of_two_embedders_are_never_mixed(db: kektordb.Database) -> None:
    made(db, [("a", "one")], stub()).sync()
    with pytest.raises(ConfigError, match=r"'stub'.*'service'"):
        made(db, [("a", "two")], Service()).sync()
    assert texts(db, "a") == ["one"]
    db.drop_index("docs")
    made(db, [("a", "two")], Service()).sync()
    assert texts(db, "a") == ["two"]


def test_items_that_somebody_deleted_come_back_with_the_next_change(db: kektordb.Database) -> None:
    documents = [("a", "one\n\ntwo")]
    vectorizer = made(db, documents, stub())
    vectorizer.sync()
    db["docs"].delete(db["docs"].ids())
    documents[0] = ("a", "one\n\ntwo\n\nthree")
    vectorizer.sync()
    assert texts(db, "a") == ["one", "two", "three"]


def test_two_vectorizers_of_one_index_leave_each_other_alone(db: kektordb.Database) -> None:
    first = Vectorizer(db, "x", "docs", IterableSource([("a", "one")]), stub())
    second = Vectorizer(db, "y", "docs", IterableSource([("a", "one")]), stub())
    for _ in range(2):
        first.sync()
        second.sync()
    assert len(db["docs"]) == 2


def test_a_pass_inside_a_batch_is_refused(db: kektordb.Database) -> None:
    vectorizer = made(db, [("a", "one")], stub())
    with db.batch(), pytest.raises(ConfigError):
        vectorizer.sync()


def test_a_long_key_has_ids_of_lawful_length(db: kektordb.Database) -> None:
    key = "d/" * 600 + "é"
    made(db, [(key, "one")], stub()).sync()
    assert texts(db, key) == ["one"]


# ---------------------------------------------------------------------------------------------------------- the folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for path, text in {
        "a.md": "# Title\n\nwords", "b.txt": "text", "sub/c.py": "x = 1\n", "sub/d.bin": "binary",
        ".hidden/e.md": "hidden", "drafts/f.md": "draft", "sub/old_g.md": "old",
    }.items():  # fmt: skip
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def keys(source: FolderSource) -> list[str]:
    return [entry.key for entry in source.scan().entries]


def test_a_folder_holds_the_files_that_are_meant(folder: Path) -> None:
    assert keys(FolderSource(folder)) == ["a.md", "b.txt", "drafts/f.md", "sub/c.py", "sub/old_g.md"]
    assert keys(FolderSource(folder, include_patterns=["*.md"])) == ["a.md", "drafts/f.md", "sub/old_g.md"]
    assert keys(FolderSource(folder, exclude_patterns=["drafts", "old_*"])) == ["a.md", "b.txt", "sub/c.py"]
    assert keys(FolderSource(folder, include_patterns=["sub/**"])) == ["sub/c.py", "sub/d.bin", "sub/old_g.md"]
    assert keys(FolderSource(folder, include_patterns=["**/c.*", "*.bin"])) == ["sub/c.py", "sub/d.bin"]
    assert ".hidden/e.md" in keys(FolderSource(folder, include_hidden=True))


@pytest.mark.parametrize("pattern", ["", "/", "../x", "a/../../b", "x" * 2000, 7])
def test_bad_patterns_are_refused(folder: Path, pattern: Any) -> None:
    with pytest.raises(ConfigError):
        FolderSource(folder, include_patterns=[pattern])


def test_links_do_not_lead_out(folder: Path, tmp_path: Path, db: kektordb.Database) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.txt").write_text("secret")
    (folder / "link.txt").symlink_to(secret)
    (folder / "up.txt").symlink_to("../secret.txt")
    (folder / "dir").symlink_to(tmp_path / "outside")
    (folder / "loop").symlink_to(folder)
    (folder / "lost.txt").symlink_to(folder / "nowhere.txt")
    (folder / "self.txt").symlink_to("self.txt")
    (folder / "inside.txt").symlink_to("b.txt")
    os.mkfifo(folder / "pipe.txt")

    vectorizer = made(db, FolderSource(folder), stub())
    vectorizer.sync()

    assert texts(db, "inside.txt") == ["text"]
    assert db["docs"].count("CONTAINS(content_chunk, 'secret')") == 0
    assert db["docs"].count("source_file IN ('link.txt', 'up.txt', 'dir/x.txt', 'pipe.txt')") == 0


def test_a_link_that_takes_the_place_of_a_file_after_the_scan_is_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "c.py").write_text("secret")
    source = FolderSource(folder)
    entries = {entry.key: entry for entry in source.scan().entries}
    (folder / "b.txt").unlink()
    (folder / "b.txt").symlink_to(tmp_path / "secret.txt")
    os.rename(folder / "sub", folder / "gone")
    (folder / "sub").symlink_to(tmp_path)
    (folder / "a.md").unlink()
    os.mkfifo(folder / "a.md")
    for key in ("b.txt", "sub/c.py", "a.md"):
        with pytest.raises(DocumentError):
            source.read(entries[key])


def test_a_folder_that_is_away_changes_nothing(folder: Path, db: kektordb.Database) -> None:
    vectorizer = made(db, FolderSource(folder), stub())
    vectorizer.sync()
    n_items = len(db["docs"])
    os.rename(folder, folder.with_name("away"))

    with pytest.raises(DocumentError, match="cannot be read"):
        vectorizer.sync()

    assert len(db["docs"]) == n_items > 0
    assert "cannot be read" in (vectorizer.status().error or "")
    os.rename(folder.with_name("away"), folder)
    vectorizer.sync()
    assert vectorizer.status().error is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_seen_has_not_vanished(folder: Path, db: kektordb.Database) -> None:
    vectorizer = made(db, FolderSource(folder), stub())
    vectorizer.sync()
    (folder / "sub").chmod(0)
    vectorizer.sync()
    assert texts(db, "sub/c.py") == ["x = 1\n"]


def test_keys_under_a_hole_stay(folder: Path, db: kektordb.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    vectorizer = made(db, FolderSource(folder), stub())
    vectorizer.sync()
    scandir = os.scandir

    def denied(path: str) -> Any:
        if path.endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    (folder / "b.txt").unlink()
    vectorizer.sync()
    assert texts(db, "b.txt") == []
    assert texts(db, "sub/c.py") != []


def test_a_change_within_the_tick_of_the_clock_is_seen(folder: Path, db: kektordb.Database) -> None:
    vectorizer = made(db, FolderSource(folder), stub())
    vectorizer.sync()
    status = (folder / "b.txt").stat()
    (folder / "b.txt").write_text("TEXT")
    os.utime(folder / "b.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    vectorizer.sync()
    assert texts(db, "b.txt") == ["TEXT"]


def test_an_unchanged_file_is_not_even_read(
    folder: Path, db: kektordb.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FolderSource(folder, now=lambda: 0)
    vectorizer = made(db, source, stub())
    vectorizer.sync()
    monkeypatch.setattr(source, "read", lambda entry: pytest.fail(f"{entry.key} was read"))
    assert vectorizer.sync().n_seen == 5


def test_a_file_that_is_too_large_fails_and_the_others_do_not(folder: Path, db: kektordb.Database) -> None:
    (folder / "big.txt").write_text("x" * 1000)
    vectorizer = made(db, FolderSource(folder, limit_bytes=500), stub())
    vectorizer.sync()
    assert [one.document for one in vectorizer.status().failed] == ["big.txt"]
    assert str(folder) not in vectorizer.status().failed[0].error
    assert len(db["docs"]) > 4


def test_names_that_are_no_text_are_shown_and_read(folder: Path, db: kektordb.Database) -> None:
    try:
        with open(os.path.join(os.fsencode(folder), b"caf\xe9.txt"), "wb") as file:
            file.write(b"coffee")
    except OSError:
        pytest.skip("this file system takes no such name")
    made(db, FolderSource(folder), stub()).sync()
    assert texts(db, "caf\\xe9.txt") == ["coffee"]


def test_a_folder_must_be_there_at_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        FolderSource(tmp_path / "nowhere")


@pytest.mark.parametrize("in_batch", [False, True])
def test_a_user_who_clears_the_keys_leaves_it_in_step(db: kektordb.Database, in_batch: bool) -> None:
    seen: list[str] = []
    documents = [("a", "one\n\ntwo"), ("b", "three")]
    vectorizer = made(db, documents, stub(seen=seen))
    vectorizer.sync()
    ids = db["docs"].ids()
    seen.clear()

    with db.batch() if in_batch else contextlib.nullcontext():
        db.kv["mine"] = b""
        assert list(db.kv) == ["mine"]
        db.kv.clear()

    assert made(db, documents, stub(seen=seen)).sync().n_changed == 0
    del documents[1]
    vectorizer.sync()
    assert (seen, db["docs"].ids()) == ([], ids[:2])
    assert all(key.startswith("\0kektordb\0vectorizer\0") for key in AllKeys(db))
