"""kill -9 in the middle of a pass: each document is there as it was or as it is, and in the end all are."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from campaign import Campaign
from syncer import vectorizer

import kektordb
from kektordb.commit import Commits
from kektordb.vectorizer import syncing
from kektordb.vectorizer.ledger import Ledger

SYNCER = str(Path(__file__).parent / "syncer.py")
ROOT = Path(kektordb.__file__).parent.parent
DEADLINE_S = 60.0
N_FILES = 60

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system kills otherwise")


class Syncers:
    """Starts passes in processes of their own, and kills them."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, SYNCER]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, bufsize=1
        )

    def close(self) -> None:
        """End."""
        self._server.kill()
        self._server.communicate()

    def killed(self, path: Path, folder: Path, after_s: float) -> bool:
        """Begin a pass and kill it after some time; return whether it had ended before."""
        assert self._server.stdin is not None
        self._server.stdin.write(f"{path}\t{folder}\n")
        self._server.stdin.flush()
        words: list[str] = []
        process = 0
        while not process or "begins" not in words:
            words.append(self._line())
            if words[-1].startswith("process"):
                process = int(words[-1].partition(" ")[2])
        assert self._server.stdout is not None
        select.select([], [], [], after_s)  # the random moment
        os.kill(process, signal.SIGKILL)
        while words[-1] != "dead":
            words.append(self._line())
        return "done" in words

    def _line(self) -> str:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the program that starts passes has ended"
        return line.rstrip("\n")


@pytest.fixture(scope="module")
def syncers() -> Iterator[Syncers]:
    started = Syncers()
    yield started
    started.close()


def paragraph(rng: random.Random) -> str:
    return " ".join(f"word{rng.randrange(10_000)}" for _ in range(rng.randrange(5, 14)))


def change(folder: Path, rng: random.Random, share: float) -> None:
    """Write, edit, rename, copy, and delete files."""
    for n in range(N_FILES):
        path = folder / f"part{n % 3}" / f"f{n}.txt"
        path.parent.mkdir(exist_ok=True)
        if rng.random() > share:
            continue
        text = path.read_text() if path.exists() else ""
        paragraphs = text.split("\n\n") if text else []
        match rng.randrange(8):
            case 0:
                path.unlink(missing_ok=True)
                continue
            case 1 if paragraphs:
                del paragraphs[rng.randrange(len(paragraphs))]
            case 2 if paragraphs:
                paragraphs[rng.randrange(len(paragraphs))] = paragraph(rng)
            case 3 if paragraphs:
                paragraphs.append(paragraphs[0])  # the same text twice
            case 4 | 5 if paragraphs:
                other = rng.randrange(N_FILES)
                target = folder / f"part{other % 3}" / f"f{other}.txt"
                target.parent.mkdir(exist_ok=True)
                path.replace(target)
                if rng.random() < 0.7:
                    continue
            case _:
                paragraphs[:0] = [paragraph(rng) for _ in range(rng.randrange(1, 6))]
        path.write_text("\n\n".join(paragraphs))


def contents(db: kektordb.Database) -> dict[str, Any]:
    if "docs" not in db:
        return {}
    found = {}
    for id in db["docs"].ids():
        item = db["docs"][id]
        found[id] = (item.metadata, item.vector.tobytes())
    return found


def check_whole(db: kektordb.Database) -> None:
    """All that the records say is there, and nothing else."""
    ledger = Ledger(db, "docs")
    said = []
    for key in ledger.documents():
        record = ledger.get(key)
        assert record is not None
        said += ledger.ids(key, record)
    assert len(said) == len(set(said))
    assert set(said) == set(contents(db))


@pytest.mark.crash
def test_a_killed_pass_leaves_whole_documents_and_the_next_one_is_as_a_fresh_one(
    tmp_path: Path, syncers: Syncers, campaign: Campaign
) -> None:
    rng = random.Random(8)
    folder = tmp_path / "folder"
    folder.mkdir()
    change(folder, rng, 1.0)
    n_rounds = campaign.count("SYNCS", 50, 300)
    n_cut_short = 0
    for i in range(n_rounds):
        has_ended = syncers.killed(tmp_path / "db", folder, rng.uniform(0, 0.12))
        n_cut_short += not has_ended
        with kektordb.open(tmp_path / "db", autosave="", n_threads=1) as db:
            check_whole(db)
            if has_ended or i % 10 == 9:
                vectorizer(db, str(folder)).sync()
                assert contents(db) == fresh(folder), f"round {i}"
                change(folder, rng, 0.5)

    campaign.note("kill -9", "vectorizer", rounds=n_rounds, cut_short=n_cut_short, lost=0, twice=0)
    assert n_cut_short > n_rounds // 3
    with kektordb.open(tmp_path / "db", autosave="", n_threads=1) as db:
        vectorizer(db, str(folder)).sync()
        check_whole(db)
        assert contents(db) == fresh(folder)


def test_after_each_single_write_all_that_the_records_say_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill leaves is what some number of writes left: a kill seldom comes between two that are close."""
    monkeypatch.setattr(syncing, "SLICE_TEXTS", 16)
    rng = random.Random(9)
    folder = tmp_path / "folder"
    folder.mkdir()
    n_writes = 0
    with kektordb.open(":memory:", n_threads=1) as db:
        commit = Commits._commit_alone

        def looked_at(self: Commits, *arguments: Any) -> Any:
            nonlocal n_writes
            done = commit(self, *arguments)
            if "docs" in db:
                check_whole(db)
                n_writes += 1
            return done

        monkeypatch.setattr(Commits, "_commit_alone", looked_at)
        for share in (1.0, 0.5, 0.5, 0.1):
            change(folder, rng, share)
            vectorizer(db, str(folder)).sync()
        assert n_writes > 20
        monkeypatch.undo()
        assert contents(db) == fresh(folder)


def fresh(folder: Path) -> dict[str, Any]:
    """Return what a pass into an empty database makes of a folder."""
    with kektordb.open(":memory:", n_threads=1) as db:
        vectorizer(db, str(folder)).sync()
        return contents(db)


def test_documents_by_halves_would_be_seen() -> None:
    """Else the test above would pass on anything."""
    with kektordb.open(":memory:") as db:
        db.create_index("docs").add("docs:a#0", [1.0, 0.0])
        with pytest.raises(AssertionError):
            check_whole(db)
