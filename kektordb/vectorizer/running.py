"""When does a vectorizer do a pass? When something changed, time has passed, or what failed may be tried again."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from kektordb.errors import DatabaseClosed, ForkedHandle, KektorError
from kektordb.vectorizer.syncing import Counts
from kektordb.vectorizer.vectorizer import Vectorizer

__all__ = ["Runner", "Watcher"]

_log = logging.getLogger("kektordb")

# Editors write a file in several steps, and copies bring many files: a pass waits so long after the first event.
QUIET_S = 0.2
# Between two passes, whatever happens.
LEAST_S = 0.05
# A look at the source, when nothing tells of changes, and when something does, in case an event was lost.
POLL_S = 5.0
WATCHED_S = 60.0


class Watcher(Protocol):
    """What tells of changes."""

    def start(self, notify: Callable[[], None]) -> None:
        """Begin; `notify` is called from any thread when something may have changed."""

    def stop(self) -> None:
        """End."""

    @property
    def works(self) -> bool:
        """Whether changes are told."""


class Runner:
    """The thread in which a vectorizer does its passes.

    Parameters
    ----------
    vectorizer : Vectorizer
    schedule_s : float, optional
        Seconds from the end of a pass to the next one; by default 5, and 60 while a watcher tells of changes.
    watcher : Watcher, optional
    clock : callable
        Seconds; passed in by tests.
    on_pass : callable
        Called in the thread with what a pass has done.
    """

    def __init__(
        self,
        vectorizer: Vectorizer,
        schedule_s: float | None = None,
        watcher: Watcher | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_pass: Callable[[Counts], None] = lambda _: None,
    ) -> None:
        self.vectorizer = vectorizer
        self._schedule_s = schedule_s
        self._watcher = watcher
        self._clock = clock
        self._on_pass = on_pass
        self._changed = threading.Condition()
        self._is_triggered = False
        self._event_at: float | None = None
        self._ended_at = clock()
        self._took_s = 0.0
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin with a pass."""
        if self._watcher is not None:
            self._watcher.start(self.notice)
        self._thread = threading.Thread(target=self._run, name="kektordb-vectorizer", daemon=True)
        self._thread.start()

    def trigger(self) -> None:
        """Ask for a pass at once, also of what failed; if one is under way, for another one after it."""
        self.vectorizer.hurry()
        with self._changed:
            self._is_triggered = True
            self._changed.notify_all()

    def notice(self) -> None:
        """Take note that something may have changed."""
        with self._changed:
            if self._event_at is None:
                self._event_at = self._clock()
                self._changed.notify_all()

    def stop(self, timeout: float | None = None) -> None:
        """End, after the step under way; what is stored is whole. Waits for it, at most so many seconds."""
        self.vectorizer.halt()
        if self._watcher is not None:
            self._watcher.stop()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def due_in(self) -> float:
        """Return after how many seconds the next pass is due."""
        now = self._clock()
        if self._is_triggered:
            return 0.0
        schedule_s = self._schedule_s
        if schedule_s is None:
            schedule_s = WATCHED_S if self._watcher is not None and self._watcher.works else POLL_S
        due_at = self._ended_at + schedule_s
        if self._event_at is not None:
            # A folder that takes long to look at, and changes all the time, is not looked at all the time.
            due_at = min(due_at, max(self._event_at + QUIET_S, self._ended_at + min(self._took_s, schedule_s)))
        retry_in_s = self.vectorizer.status().retry_in_s
        if retry_in_s is not None:
            due_at = min(due_at, now + retry_in_s)
        return max(due_at, self._ended_at + LEAST_S) - now

    def tick(self) -> None:
        """Do a pass; what it raises is in the status, and is logged once."""
        with self._changed:
            self._is_triggered, self._event_at = False, None
        began = self._clock()
        before = self.vectorizer.status().error
        try:
            self._on_pass(self.vectorizer.sync())
        except (DatabaseClosed, ForkedHandle):
            self._stopped = True
        except Exception as error:  # the outermost loop of a thread
            if not isinstance(error, KektorError) and not threading.main_thread().is_alive():
                self._stopped = True  # the interpreter ends, and takes no more work
            elif str(error) != before:
                _log.warning("%r failed, and is tried again: %s", self.vectorizer, error or type(error).__name__)
        self._ended_at = self._clock()
        self._took_s = self._ended_at - began

    def _run(self) -> None:
        while not self._stopped:
            self.tick()
            with self._changed:
                while not self._stopped and (wait_s := self.due_in()) > 0:
                    self._changed.wait(wait_s)
        if self._watcher is not None:
            with contextlib.suppress(RuntimeError):
                self._watcher.stop()
