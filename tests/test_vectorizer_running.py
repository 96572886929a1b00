"""A vectorizer at work: when it does passes, how it is told of changes, how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from syncer import stub, vector_of

import kektordb
from kektordb.embed import as_embedder
from kektordb.errors import ConfigError, DatabaseClosed, EmbedderError, ReadOnlyDatabase
from kektordb.vectorizer import running
from kektordb.vectorizer.running import Runner
from kektordb.vectorizer.sources import IterableSource
from kektordb.vectorizer.vectorizer import Vectorizer
from kektordb.vectorizer.watching import FolderWatcher, can_watch

TIMEOUT_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A watcher that a test tells what to tell."""

    def __init__(self) -> None:
        self.works = True
        self.notify: Callable[[], None] = lambda: None

    def start(self, notify: Callable[[], None]) -> None:
        self.notify = notify

    def stop(self) -> None:
        self.works = False


class Gate:
    """An embedder that waits until it may answer."""

    name, dim = "gate", None

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def embed_documents(self, texts: Any) -> Any:
        self.entered.set()
        assert self.opened.wait(TIMEOUT_S)
        return np.stack([vector_of(text) for text in texts])

    def embed_query(self, text: str) -> Any:
        return vector_of(text)


@pytest.fixture
def db() -> kektordb.Database:
    return kektordb.open(":memory:")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    root.mkdir()
    (root / "a.txt").write_text("one")
    return root


def runner_of(db: kektordb.Database, clock: Clock, **options: Any) -> Runner:
    source = IterableSource(lambda: [("a", "one")])
    vectorizer = Vectorizer(db, "docs", "docs", source, options.pop("embedder", None) or stub(), clock=clock)
    return Runner(vectorizer, clock=clock, **options)


# ------------------------------------------------------------------------------------------------------- when it is due


def test_without_a_watcher_it_looks_every_few_seconds(db: kektordb.Database) -> None:
    clock = Clock()
    runner = runner_of(db, clock)
    runner.tick()
    assert runner.due_in() == pytest.approx(running.POLL_S)
    clock.now += 3
    assert runner.due_in() == pytest.approx(running.POLL_S - 3)


def test_a_schedule_is_kept(db: kektordb.Database) -> None:
    clock = Clock()
    runner = runner_of(db, clock, schedule_s=30.0, watcher=Told())
    runner.tick()
    assert runner.due_in() == pytest.approx(30.0)


def test_an_event_leads_to_a_pass_when_it_is_quiet(db: kektordb.Database) -> None:
    clock = Clock()
    runner = runner_of(db, clock, watcher=Told())
    runner.tick()
    assert runner.due_in() == pytest.approx(running.WATCHED_S)
    clock.now += 10
    runner.notice()
    assert runner.due_in() == pytest.approx(running.QUIET_S)
    clock.now += running.QUIET_S
    runner.notice()  # a second event puts nothing off
    assert runner.due_in() <= 0
    runner.tick()
    assert runner.due_in() == pytest.approx(running.WATCHED_S)


def test_when_watching_fails_it_looks_more_often(db: kektordb.Database) -> None:
    watcher = Told()
    runner = runner_of(db, Clock(), watcher=watcher)
    runner.tick()
    watcher.works = False
    assert runner.due_in() == pytest.approx(running.POLL_S)


def test_what_failed_is_tried_when_its_time_has_come_and_a_trigger_does_not_wait(db: kektordb.Database) -> None:
    def down(texts: list[str]) -> Any:
        raise EmbedderError("down")

    clock = Clock()
    runner = runner_of(db, clock, schedule_s=500.0, embedder=as_embedder(down, name="down"))
    runner.tick()
    first = runner.due_in()
    assert 0 < first < 2
    clock.now += first
    runner.tick()
    assert runner.due_in() > 1.4
    runner.trigger()
    assert runner.due_in() <= running.LEAST_S
    assert runner.vectorizer.status().retry_in_s == 0.0


def test_it_never_goes_round_without_a_pause(db: kektordb.Database) -> None:
    runner = runner_of(db, Clock(), schedule_s=0.01)
    runner.tick()
    runner.notice()
    assert runner.due_in() == pytest.approx(running.LEAST_S)


def test_a_pass_that_raises_is_logged_once_and_the_next_one_comes(
    db: kektordb.Database, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()

    def source() -> Any:
        raise RuntimeError("away")

    runner = Runner(Vectorizer(db, "docs", "docs", IterableSource(source), stub(), clock=clock), clock=clock)
    for _ in range(3):
        runner.tick()
    assert caplog.text.count("away") == 1
    assert "away" in (runner.vectorizer.status().error or "")
    assert runner.due_in() > 0


# ------------------------------------------------------------------------------------------------------------- at work


@pytest.mark.parametrize("watch", [True, "poll"])
def test_a_folder_is_watched(db: kektordb.Database, folder: Path, watch: bool | str) -> None:
    vectorizer = db.vectorize(folder, index="docs", embedder=stub(), watch=watch)
    assert vectorizer.wait(TIMEOUT_S)
    assert len(db["docs"]) == 1

    (folder / "b.txt").write_text("two")
    (folder / "a.txt").unlink()
    assert vectorizer.wait(TIMEOUT_S)
    assert [db["docs"][id].metadata["source_file"] for id in db["docs"].ids()] == ["b.txt"]

    vectorizer.stop()
    assert vectorizer.status().state == "stopped"
    assert db.vectorizers.status() == []
    db.vectorize(folder, index="docs", embedder=stub())  # the name is free again


@pytest.mark.skipif(not can_watch(), reason="watchfiles is not installed")
def test_the_system_tells_of_changes(folder: Path) -> None:
    told = threading.Event()
    watcher = FolderWatcher(folder)
    watcher.start(told.set)
    assert told.wait(TIMEOUT_S)  # that it begins
    told.clear()
    (folder / "new.txt").write_text("x")
    assert told.wait(TIMEOUT_S)
    assert watcher.works
    watcher.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "kektordb-watcher"]


@pytest.mark.skipif(not can_watch(), reason="watchfiles is not installed")
def test_a_folder_that_is_replaced_is_not_watched_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kektordb.vectorizer.watching.RETRY_S", 0.01)
    n_told = threading.Semaphore(0)
    watcher = FolderWatcher(folder)
    watcher.start(n_told.release)
    assert n_told.acquire(timeout=TIMEOUT_S)
    folder.rename(folder.with_name("away"))
    folder.mkdir()
    while n_told.acquire(blocking=False):
        pass
    for i in range(100):
        (folder / f"{i}.txt").write_text("x")
        if n_told.acquire(timeout=0.2):
            break
    else:
        pytest.fail("nobody told of changes in the new folder")
    watcher.stop()


def test_two_of_one_name_are_not_at_work_together(db: kektordb.Database, folder: Path) -> None:
    db.vectorize(folder, index="docs", embedder=stub(), watch=True)
    for watch in (True, False):
        with pytest.raises(ConfigError, match="another name"):
            db.vectorize(folder, index="docs", embedder=stub(), watch=watch)
    db.vectorize(folder, index="docs", embedder=stub(), name="second", watch=True)
    assert [status.name for status in db.vectorizers.status()] == ["docs", "second"]
    db.close()


def test_closing_the_database_ends_it_and_waits_for_the_step(db: kektordb.Database, folder: Path) -> None:
    gate = Gate()
    vectorizer = db.vectorize(folder, index="docs", embedder=gate, watch="poll")
    assert gate.entered.wait(TIMEOUT_S)
    closing = threading.Thread(target=db.close)
    closing.start()
    gate.opened.set()
    closing.join(TIMEOUT_S)
    assert not closing.is_alive()
    assert vectorizer.status().state == "stopped"
    with pytest.raises(DatabaseClosed):
        vectorizer.sync()


def test_an_embedder_that_does_not_answer_keeps_no_database_open(
    db: kektordb.Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kektordb.feeding.CLOSE_S", 0.01)
    gate = Gate()
    db.vectorize(folder, index="docs", embedder=gate, watch="poll")
    runner = db.vectorizers.get("docs").runner  # type: ignore[union-attr]
    assert runner is not None
    assert gate.entered.wait(TIMEOUT_S)
    db.close()
    gate.opened.set()
    assert runner._thread is not None
    runner._thread.join(TIMEOUT_S)
    assert not runner._thread.is_alive()


def test_a_failed_embedder_is_an_error_of_the_one_pass(db: kektordb.Database, folder: Path) -> None:
    with pytest.raises(EmbedderError, match="no matrix"):
        db.vectorize(folder, index="docs", embedder=as_embedder(lambda texts: "garbage", name="stub"))
    vectorizer = db.vectorize(folder, index="docs", embedder=stub(), name="again")
    assert vectorizer.status().is_in_step


def test_progress_is_told(db: kektordb.Database, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    db.vectorize(folder, index="docs", embedder=stub(), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (1, 1)
    db.vectorize(folder, index="docs", embedder=stub(), progress=True)
    assert "documents" in capsys.readouterr().err


def test_a_read_only_database_takes_none(tmp_path: Path, folder: Path) -> None:
    with kektordb.open(tmp_path / "db") as db:
        db.create_index("docs")
    with kektordb.open(tmp_path / "db", read_only=True) as db, pytest.raises(ReadOnlyDatabase):
        db.vectorize(folder, index="docs", embedder=stub())


@pytest.mark.parametrize(
    "options",
    [
        {"watch": "sometimes"},
        {"schedule": "5s"},
        {"watch": True, "schedule": "0s"},
        {"watch": True, "schedule": "soon"},
        {"watch": True, "schedule": -1},
        {"chunking": {"size": 0}},
        {"chunking": {"flavour": 1}},
        {"include_patterns": [""]},
        {"metadata_template": {"x": "{{y}}"}},
        {"metadata_template": {"x": []}},
        {"name": ""},
        {"name": "a\0b"},
        {"embedder": None},
        {"embedder": "flavour:x"},
    ],
)
def test_bad_options_are_refused(db: kektordb.Database, folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        db.vectorize(folder, index="docs", **{"embedder": stub(), **options})
    assert db.vectorizers.status() == []
    assert "docs" not in db


def test_patterns_are_for_folders(db: kektordb.Database) -> None:
    with pytest.raises(ConfigError, match="patterns"):
        db.vectorize([("a", "one")], index="docs", embedder=stub(), include_patterns=["*.md"])


def test_many_threads_ask_and_look_while_it_works(db: kektordb.Database, folder: Path) -> None:
    for i in range(30):
        (folder / f"f{i}.txt").write_text(f"text {i}")
    vectorizer = db.vectorize(folder, index="docs", embedder=stub(), watch="poll", schedule=0.05)
    failures: list[BaseException] = []

    def ask(n: int) -> None:
        try:
            for i in range(20):
                (folder / f"t{n}-{i % 3}.txt").write_text(f"{n} {i}")
                vectorizer.trigger() if i % 2 else vectorizer.status()
                db.vectorizers.status()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert vectorizer.wait(TIMEOUT_S)
    assert len(db["docs"]) == 31 + 12
    db.close()
