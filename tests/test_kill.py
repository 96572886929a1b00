"""kill -9 in the middle of everything a writer does: what it acknowledged is there, and nothing by halves."""

from __future__ import annotations

import collections
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign import Campaign
from test_crash import POLICIES, check_searches, contents
from writer import ACTIONS, SILENT, name_of, prepare, step

import kektordb
from kektordb.errors import StorageError
from kektordb.safety.undumping import load

WRITER = str(Path(__file__).parent / "writer.py")
ROOT = Path(kektordb.__file__).parent.parent
DEADLINE_S = 120.0
ROUNDS_OF_A_LIFE = 7
TARGETS = sorted({name for name, _ in ACTIONS} | {"open"})

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system kills otherwise")


class Writers:
    """Starts writers, and reads what they say."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._server = subprocess.Popen(
            [sys.executable, WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._read = b""
        self._took: dict[str, float] = {}

    def close(self) -> None:
        """End."""
        self._server.kill()
        self._server.communicate()

    def killed(self, path: Path, sync: str, start: int, target: str, rng: random.Random) -> tuple[int, int]:
        """Let a writer begin with step `start` and kill it in the middle of a target.

        Returns how many steps were acknowledged, or -1 when it had not yet opened, and its process.
        """
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([str(path), sync, start]).encode() + b"\n")
        self._server.stdin.flush()
        process, last, spare, is_opening = 0, start - 1, rng.randrange(2 * len(ACTIONS)), False
        began_at = time.monotonic()
        while not process or not self._is_due(target, last, start + spare):
            word, _, rest = (self._line() or "").partition(" ")
            now = time.monotonic()
            if word == "process":
                process = int(rest)
            elif word.isdigit():
                last = int(word)
                self._took[name_of(last)] = now - began_at
            elif word == "ready":
                self._took["open"] = now - began_at
            else:
                assert word == "opening", f"the writer ended by itself after step {last}"
                is_opening = True
            began_at = now
            if target == "open" and is_opening and process:
                break
        self._line(rng.uniform(0, 1.2) * self._took.get(target, 0.002))
        assert process > 0
        os.kill(process, signal.SIGKILL)
        while (word := self._line() or "") != "dead":
            last = int(word) if word.isdigit() else last
        return last + 1, process

    def _is_due(self, target: str, last: int, first: int) -> bool:
        return last + 1 >= first and name_of(last + 1) == target

    def _line(self, timeout: float | None = None) -> str | None:
        """Return the next line; with a timeout leave it for later, and only wait for it."""
        assert self._server.stdout is not None
        end = time.monotonic() + (DEADLINE_S if timeout is None else timeout)
        while b"\n" not in self._read:
            if not select.select([self._server.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                assert timeout is not None, "the writer hangs"
                return None
            data = os.read(self._server.stdout.fileno(), 4096)
            assert data, "the program that starts writers has ended"
            self._read += data
        if timeout is not None:
            return None
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    started = Writers()
    yield started
    started.close()


@pytest.mark.crash
@pytest.mark.parametrize("sync", POLICIES)
def test_a_killed_writer_loses_nothing_it_acknowledged(
    tmp_path: Path, sync: str, writers: Writers, campaign: Campaign
) -> None:
    rng = random.Random(len(sync))
    n_rounds = campaign.count("KILLS", 7, 70)
    hit: collections.Counter[str] = collections.Counter()
    targets: list[str] = []
    copies: collections.Counter[str] = collections.Counter()
    n_acknowledged = 0
    for i in range(n_rounds):
        if i % ROUNDS_OF_A_LIFE == 0:
            model, done, path = kektordb.open(":memory:", n_threads=1), 0, tmp_path / f"db{i}"
            prepare(model)
        targets = targets or rng.sample(TARGETS, len(TARGETS))
        n_said, _ = writers.killed(path, sync, done, targets.pop(), rng)
        with kektordb.open(path, autosave="") as db:
            prepare(db)
            found = contents(db)
            check_searches(db, sync)
        check_backup(Path(f"{path}.backup"))
        copies += check_copies(path)
        n_acknowledged += n_said - done
        follow(model, done, n_said)
        # What was under way may have happened whole.
        hit[name_of(n_said)] += 1
        done = n_said
        if contents(model) != found:
            follow(model, done, done + 1)
            done += 1
        assert contents(model) == found, f"killed in step {n_said}, {name_of(n_said)}, of round {i}"
    figures = {f"in_{name.replace(' ', '_')}": n for name, n in sorted(hit.items())}
    figures |= copies
    campaign.note("kill -9", sync, rounds=n_rounds, acknowledged=n_acknowledged, lost=0, failed_opens=0, **figures)
    assert n_acknowledged > n_rounds


def check_backup(path: Path) -> None:
    """There is none yet, or a whole one; of one that was not finished nobody sees anything."""
    if path.exists():
        with kektordb.open(path, read_only=True) as backup:
            assert len(backup["a"]) > 0
            check_searches(backup, "backup")


def check_copies(path: Path) -> collections.Counter[str]:
    """A dump is whole or says that it is not; what was made of one is whole or does not open, and can be made again.

    Returns how many there were. They are removed: a writer that repeats a step makes the same ones.
    """
    counts: collections.Counter[str] = collections.Counter()
    expected = path.parent / "expected"
    for made in path.parent.glob(f"{path.name}.loaded*"):
        n = int(made.name.rpartition("loaded")[2])
        source = path.parent / f"{path.name}.dump{n - 1}"
        load(source, expected)
        try:
            kektordb.open(made, read_only=True).close()
            counts["loads_whole"] += 1
        except StorageError:
            load(source, made)
            counts["loads_unfinished"] += 1
        with kektordb.open(made) as db, kektordb.open(expected, read_only=True) as other:
            assert contents(db) == contents(other)
            check_searches(db, "load")
        shutil.rmtree(expected)
        shutil.rmtree(made)
    for dumped in path.parent.glob(f"{path.name}.dump*"):
        if not (dumped / "dump.json").exists():
            counts["dumps_unfinished"] += 1
            with pytest.raises(StorageError, match=r"no dump\.json"):
                load(dumped, expected)
        shutil.rmtree(dumped)
    return counts


def follow(model: kektordb.Database, start: int, end: int) -> None:
    """Let the model do what a writer did."""
    for n in range(start, end):
        if name_of(n) not in SILENT:
            step(model, n)
