"""Which vectorizers does a database have at work? Each name once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kektordb.errors import ConfigError, DatabaseClosed
from kektordb.vectorizer.running import Runner
from kektordb.vectorizer.vectorizer import Status, Vectorizer

__all__ = ["Fleet"]


class Fleet:
    """The vectorizers of one database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runners: dict[str, Runner | None] = {}
        self._vectorizers: dict[str, Vectorizer] = {}
        self._is_closed = False

    def run(self, runner: Runner) -> None:
        """Let a vectorizer run until it is stopped. Raises ConfigError when one of its name is at work."""
        self._take(runner.vectorizer, runner)
        runner.vectorizer.runner = runner
        runner.vectorizer.leave = lambda: self._let_go(runner.vectorizer)
        runner.start()

    @contextmanager
    def busy(self, vectorizer: Vectorizer) -> Iterator[None]:
        """Hold the name of a vectorizer for a pass. Raises ConfigError when one of its name is at work."""
        self._take(vectorizer, None)
        try:
            yield
        finally:
            self._let_go(vectorizer)

    def _take(self, vectorizer: Vectorizer, runner: Runner | None) -> None:
        with self._lock:
            if self._is_closed:
                raise DatabaseClosed("expected an open database, got one that is being closed")
            if vectorizer.name in self._vectorizers:
                raise ConfigError(f"a vectorizer {vectorizer.name!r} is at work: give this one another name")
            self._vectorizers[vectorizer.name] = vectorizer
            self._runners[vectorizer.name] = runner

    def _let_go(self, vectorizer: Vectorizer) -> None:
        with self._lock:
            if self._vectorizers.get(vectorizer.name) is vectorizer:
                del self._vectorizers[vectorizer.name]
                del self._runners[vectorizer.name]

    def get(self, name: str) -> Vectorizer | None:
        """Return the vectorizer of a name; None when none of it is at work."""
        return self._vectorizers.get(name)

    def status(self) -> list[Status]:
        """Return how they are, in the order in which they began."""
        with self._lock:
            found = list(self._vectorizers.values())
        return [vectorizer.status() for vectorizer in found]

    def close(self, timeout: float | None = None) -> None:
        """Stop all, each after the step it is at; at most so many seconds each."""
        with self._lock:
            self._is_closed = True
            vectorizers, runners = list(self._vectorizers.values()), list(self._runners.values())
        # All are told before one is waited for.
        for vectorizer in vectorizers:
            vectorizer.halt()
        for runner in runners:
            if runner is not None:
                runner.stop(timeout)
