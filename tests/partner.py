"""A program that leads or follows, one step for each byte that it is sent, to be killed by a test; and its model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from states import contents
from steps import prepare, step

import kektordb

__all__ = ["Model", "Partner", "running"]


def lead(path: str, start: str) -> None:
    """Write, from one step on, and say the number of each step that was acknowledged."""
    db = kektordb.open(path, autosave="", n_threads=1)
    prepare(db)
    os.write(1, b"ready\n")
    n = int(start)
    while os.read(0, 1):
        step(db, n)
        os.write(1, b"%d\n" % n)
        n += 1


def follow(path: str, leader: str) -> None:
    """Follow, save now and then, and say how many records are there."""
    db = kektordb.open(path, follow=leader, follow_interval=0, autosave="", n_threads=1)
    os.write(1, b"ready\n")
    n = 0
    while os.read(0, 1):
        db.refresh()
        os.write(1, b"%d\n" % db.stats()["last_seq"])
        n += 1
        if n % 5 == 4:
            db.save()


class Partner:
    """The program as its test sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = -1

    def ask(self, steps: int = 1) -> None:
        """Let it go some steps, without waiting for them."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"." * steps)
        self.process.stdin.flush()

    def wait(self, steps: int = 1) -> int:
        """Wait for some answers; return the last."""
        assert self.process.stdout is not None
        for _ in range(steps):
            self.said = int(self.process.stdout.readline())
        return self.said

    def kill(self) -> int:
        """Kill it, and return what it said last, or -1."""
        assert self.process.stdout is not None
        self.process.kill()
        answers = self.process.stdout.read().split()
        self.said = int(answers[-1]) if answers else self.said
        return self.said


@contextmanager
def running(what: str, path: object, argument: object) -> Iterator[Partner]:
    """Run the program, and kill it at the end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(kektordb.__file__).parent.parent)}
    command = [sys.executable, __file__, what, str(path), str(argument)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield Partner(process)
        finally:
            process.kill()


class Model:
    """The states that the one that leads goes through, made as far as they are asked for."""

    def __init__(self) -> None:
        self._db = kektordb.open(":memory:")
        prepare(self._db)
        self._states = [contents(self._db)]

    def place(self, found: str, least: int, most: int) -> int | None:
        """Return after how many steps it was in this state."""
        for n in range(least, most + 1):
            while len(self._states) <= n:
                step(self._db, len(self._states) - 1)
                self._states.append(contents(self._db))
            if self._states[n] == found:
                return n
        return None


if __name__ == "__main__":
    {"lead": lead, "follow": follow}[sys.argv[1]](sys.argv[2], sys.argv[3])
