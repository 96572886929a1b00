"""When what was appended becomes durable: at once, each second in the background, or when asked."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator

from ..errors import ConfigError, StorageFailed
from .log import Log

__all__ = ["POLICIES", "Syncer"]

POLICIES = ("always", "everysec", "no")
INTERVAL_S = 1.0
# Writers wait for a sync that takes longer, or the promise "at most the last two seconds" would be empty.
SLOW_S = 2.0


class Syncer:
    """Syncs one log at a time; after a failure, never again.

    A second sync after a failed one may "succeed" though the data is gone: the system forgets which pages failed.

    Attributes
    ----------
    n_syncs : int
        Syncs of the log that were started.
    failure : StorageFailed or None
        Why nothing may be written any more.
    """

    def __init__(self, policy: str, clock: Callable[[], float]) -> None:
        if policy not in POLICIES:
            raise ConfigError(f"sync must be one of {', '.join(POLICIES)}, not {policy!r}")
        self.n_syncs = 0
        self.failure: StorageFailed | None = None
        self._policy = policy
        self._clock = clock
        self._log: Log | None = None
        self._lock = threading.Lock()
        self._started_at: float | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, log: Log) -> None:
        """Sync this log from now on, and close the one before it, all of which must be durable."""
        with self._lock:
            old, self._log = self._log, log
            if old is not None:
                old.file.close()

    def sync(self) -> None:
        """Make everything durable that was appended before this call; callers that come together share one sync.

        Raises StorageFailed.
        """
        log = self._log
        if log is None:
            return
        target = log.written[0]
        with self._lock:
            self.check()
            log = self._log
            if log is not None and log.synced[0] < target:
                self._sync_locked(log)

    def after_append(self) -> None:
        """Do what the policy promises before a write returns. Raises StorageFailed."""
        if self._policy == "everysec":
            if self._thread is None:
                self._start()
            if self._thread is None:
                self.sync()  # nobody else will
            started_at = self._started_at
            if started_at is not None and self._clock() - started_at > SLOW_S:
                with self._lock:
                    self.check()
        elif self._policy == "always":
            self.sync()

    def tick(self) -> None:
        """Sync what is not durable yet; a failure is kept for the next writer."""
        with contextlib.suppress(StorageFailed):
            self.sync()

    def check(self) -> None:
        """Raise the StorageFailed of an earlier failure."""
        if self.failure is not None:
            raise StorageFailed(str(self.failure)) from self.failure

    def fail(self, failure: StorageFailed) -> None:
        """Refuse all further writes because of `failure`."""
        if self.failure is None:
            self.failure = failure

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Refuse all further writes when what is done in the block raises StorageFailed."""
        try:
            yield
        except StorageFailed as failure:
            self.fail(failure)
            raise

    def take_back_refused(self) -> None:
        """Under ``always``, after a failure, cut off what no sync covers; only for the one that appends and syncs.

        The callers of these records will see an error: they should not be there after the next open.
        """
        log = self._log
        if self._policy == "always" and log is not None:
            with contextlib.suppress(OSError):
                log.file.truncate(log.synced[1])

    def close(self) -> None:
        """Stop the background thread and close the log, without a last sync."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._lock:
            log, self._log = self._log, None
            if log is not None:
                log.file.close()

    def _sync_locked(self, log: Log) -> None:
        self._started_at = self._clock()
        self.n_syncs += 1
        try:
            log.sync()
        except OSError as error:
            failure = StorageFailed(f"{log.path} could not be made durable ({error.strerror or error})")
            self.fail(failure)
            self.take_back_refused()
            raise failure from error
        finally:
            self._started_at = None

    def _start(self) -> None:
        thread = threading.Thread(
            target=_tick_until, args=(weakref.ref(self), self._stop), name="kektordb-sync", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # there are too many threads now; the next write asks again
            return
        self._thread = thread


def _tick_until(syncer_ref: weakref.ref[Syncer], stop: threading.Event) -> None:
    # A weak reference, so that a database that was forgotten rather than closed still goes away, lock and all.
    while not stop.wait(INTERVAL_S):
        syncer = syncer_ref()
        if syncer is None:
            return
        syncer.tick()
        del syncer
