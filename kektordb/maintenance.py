"""When is a snapshot written without being asked for? One thread per database looks once a second."""

from __future__ import annotations

import logging
import re
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from kektordb.errors import ConfigError, KektorError

if TYPE_CHECKING:
    from kektordb.database import Database

__all__ = ["Autosave", "SavePolicies", "parse_policies"]

_log = logging.getLogger("kektordb")

TICK_S = 1.0
MIN_LOG_BYTES = 64 << 20
# Opening shall not replay for longer than this.
MAX_REPLAY_S = 5.0
# A close that would leave more than this to be replayed saves first.
MAX_REPLAY_AFTER_CLOSE_S = 1.0
# After a save that failed, as on a full disk, the next try waits.
RETRY_S = 30.0


class SavePolicies(msgspec.Struct, frozen=True):
    """When to save.

    Attributes
    ----------
    pairs : tuple of (seconds, changes)
        Save when so many seconds have passed and so many changes were made.
    log_percentage : int
        Save when the log is larger than `MIN_LOG_BYTES` and than this share of the snapshot; 0 for never.
    """

    pairs: tuple[tuple[int, int], ...]
    log_percentage: int

    def is_due(self, age_s: float, n_changes: int, log_bytes: int, snapshot_bytes: int, replay_s: float) -> bool:
        """Tell whether it is time, by what has happened since the last save."""
        if n_changes == 0:
            return False
        if any(age_s >= seconds and n_changes >= changes for seconds, changes in self.pairs):
            return True
        if not self.log_percentage:
            return False
        return log_bytes > max(MIN_LOG_BYTES, snapshot_bytes * self.log_percentage // 100) or replay_s > MAX_REPLAY_S

    def is_due_at_close(self, replay_s: float) -> bool:
        """Tell whether the next open would take long enough for a save to be worth its time."""
        return self.log_percentage > 0 and replay_s > MAX_REPLAY_AFTER_CLOSE_S


def parse_policies(autosave: str | Sequence[str], log_percentage: int) -> SavePolicies:
    """Read pairs such as ``"60 1000"``. Raises ConfigError."""
    pairs = []
    if not isinstance(autosave, str | Sequence):
        raise ConfigError(f"expected autosave as a string or several, got {autosave!r:.80}")
    for text in [autosave] if isinstance(autosave, str) else autosave:
        if isinstance(text, str) and not text.strip():
            continue
        found = re.fullmatch(r"\s*(\d{1,9})\s+(\d{1,9})\s*", text) if isinstance(text, str) else None
        if found is None:
            raise ConfigError(f"expected autosave as 'seconds changes', such as '60 1000', got {text!r:.80}")
        pairs.append((int(found[1]), int(found[2])))
    if isinstance(log_percentage, bool) or not isinstance(log_percentage, int) or log_percentage < 0:
        raise ConfigError(f"expected aof_rewrite_percentage to be an integer of at least 0, got {log_percentage!r:.80}")
    return SavePolicies(tuple(pairs), log_percentage)


class Autosave:
    """The thread that saves. It holds the database weakly, so that a forgotten one can go.

    Parameters
    ----------
    policies : SavePolicies
    clock : callable
        Seconds; passed in by tests.
    """

    def __init__(self, policies: SavePolicies, clock: Callable[[], float] = time.monotonic) -> None:
        self._policies = policies
        self._clock = clock
        self._stopped = threading.Event()
        self._saved_at = clock()
        self._retry_at = 0.0
        self._thread: threading.Thread | None = None

    def start(self, database: Database) -> None:
        """Begin to look after a database."""
        reference = weakref.ref(database)

        def run() -> None:
            while not self._stopped.wait(TICK_S):
                watched = reference()
                if watched is None or watched.closed:
                    return
                self.tick(watched)
                del watched

        self._thread = threading.Thread(target=run, name="kektordb-autosave", daemon=True)
        self._thread.start()

    def tick(self, database: Database) -> bool:
        """Look once; returns whether a snapshot was written."""
        stats, now = database._save_stats(), self._clock()
        if now < self._retry_at or not self._policies.is_due(now - self._saved_at, *stats):
            return False
        try:
            database.save()
        except Exception as error:  # the outermost loop of the thread: whatever it is, the next try comes
            if not database.closed:
                self._retry_at = now + RETRY_S
                _log.warning("autosave of %r failed, nothing is lost: %r", database, error)
            return False
        return True

    def note_save(self) -> None:
        """Count from now on: a snapshot was written, whoever asked for it."""
        self._saved_at = self._clock()

    def close(self, database: Database) -> None:
        """Stop looking, and save when much was written: opening shall not build again what was built."""
        self.stop()
        if self._policies.is_due_at_close(database._save_stats()[-1]):
            try:
                database.save()
            except (KektorError, MemoryError) as error:
                _log.warning("saving %r at close failed, nothing is lost: %s", database, error)

    def stop(self) -> None:
        """Stop looking; waits for a save that is under way."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
