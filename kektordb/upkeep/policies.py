"""When is a database saved, and an index vacuumed or refined, without being asked for?"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import msgspec

from kektordb.collection import Collection
from kektordb.errors import ConfigError
from kektordb.operations import Configure, CreateIndex, DeleteItems, Operation, PutItems
from kektordb.tasks import Body, Control

if TYPE_CHECKING:
    from kektordb.database import Database

__all__ = ["Policy", "Refining", "SavePolicies", "Saving", "Vacuuming", "leaves_work", "parse_policies"]

_log = logging.getLogger("kektordb")

MIN_LOG_BYTES = 64 << 20
# Opening shall not replay for longer than this.
MAX_REPLAY_S = 5.0
# A close that would leave more than this to be replayed saves first.
MAX_REPLAY_AFTER_CLOSE_S = 1.0
# After a save that failed, as on a full disk, the next try waits.
RETRY_S = 30.0
# An index that was refined is refined again when so large a share of its items has come or gone.
REST = 0.05


class Policy(Protocol):
    """Something that may be due. What it does, it does before it returns."""

    def tick(self, database: Database, now: float) -> None:
        """Look once, at `now` seconds of the maintenance thread's clock."""
        ...


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


class Saving:
    """Saves when it is due.

    Parameters
    ----------
    policies : SavePolicies
    now : float
        Seconds of the clock by which it will be asked.
    """

    def __init__(self, policies: SavePolicies, now: float) -> None:
        self._policies = policies
        self._saved_at = now
        self._retry_at = now

    def tick(self, database: Database, now: float) -> None:
        """Save when it is time; a failure is logged and tried again later."""
        if now < self._retry_at or not self._policies.is_due(now - self._saved_at, *database._save_stats()):
            return
        try:
            database.save()
        except Exception as error:  # whatever it is, the next try comes
            if not database.closed:
                self._retry_at = now + RETRY_S
                _log.warning("autosave of %r failed, nothing is lost: %r", database, error)

    def note_save(self, now: float) -> None:
        """Count from now on: a snapshot was written, whoever asked for it."""
        self._saved_at = now

    def close(self, database: Database) -> None:
        """Save when much was written: opening shall not build again what was built."""
        if self._policies.is_due_at_close(database._save_stats()[-1]):
            try:
                database.save()
            except Exception as error:  # whatever it is, closing goes on
                _log.warning("saving %r at close failed, nothing is lost: %s", database, error)


def leaves_work(operation: Operation | None) -> bool:
    """Tell whether a write may be followed by a vacuum or refine, so that somebody must look."""
    match operation:
        case PutItems():
            return operation.replace
        case CreateIndex():
            return operation.config.maintenance.refine_enabled
        case DeleteItems() | Configure():
            return True
    return False


class _Periodic:
    """What is done with each index from time to time."""

    def __init__(self) -> None:
        # When it was last done or first seen, by the index's number.
        self._since: dict[int, float] = {}

    def passed(self, database: Database, now: float) -> Iterator[tuple[str, Collection, float]]:
        """Give the indexes with their names, and the seconds that have passed for each."""
        indexes = [
            (name, number, database._state.collections.get(number))
            for name, number in sorted(database._state.numbers.items())
        ]
        self._since = {number: self._since.get(number, now) for _, number, _ in indexes}
        for name, number, collection in indexes:
            if collection is not None:
                yield name, collection, now - self._since[number]

    def note(self, database: Database, name: str, now: float) -> None:
        """Count from now on, whatever came of it."""
        number = database._state.numbers.get(name)
        if number is not None:
            self._since[number] = now


class Vacuuming(_Periodic):
    """Vacuums each index when its interval has passed and enough of its slots are those of deleted items."""

    def tick(self, database: Database, now: float) -> None:
        """Look at each index once."""
        for name, collection, passed_s in self.passed(database, now):
            interval = collection.config.maintenance.vacuum_interval
            if not interval or passed_s * 1e9 < interval or not _is_wasteful(collection):
                continue
            with database._commits.lock.alone:
                # Rows on their way in look like deleted ones until they are published.
                if not _is_wasteful(collection):
                    continue
            self.note(database, name, now)
            database._upkeep.run_now("vacuum", name, _vacuum(database, name))


def _is_wasteful(collection: Collection) -> bool:
    n_slots = collection.n_slots
    n_dead = n_slots - collection.n_alive
    return n_dead > 0 and n_dead >= collection.config.maintenance.delete_threshold * n_slots


@dataclass(slots=True)
class _Pass:
    """Once round an index."""

    left: int  # items yet to be refined
    n_written: int  # when it began
    ef_construction: int | None


class Refining(_Periodic):
    """Refines some items of each index that wants it, when its interval has passed.

    When it has been round it rests, until a share of the items has come or gone since it began.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passes: WeakKeyDictionary[Collection, _Pass] = WeakKeyDictionary()

    def tick(self, database: Database, now: float) -> None:
        """Look at each index once."""
        for name, collection, passed_s in self.passed(database, now):
            settings = collection.config.maintenance
            interval = settings.refine_interval
            if not settings.refine_enabled or not interval or passed_s * 1e9 < interval or not collection.n_alive:
                continue
            n_rows, ef = settings.refine_batch_size, settings.refine_ef_construction or None
            current = self._pass(collection, ef)
            if current.left <= 0:
                continue
            self.note(database, name, now)
            task = database._upkeep.run_now("refine", name, _refine(database, name, n_rows, ef))
            current.left -= task.result.get("n_refined", 0)

    def _pass(self, collection: Collection, ef_construction: int | None) -> _Pass:
        """Return the last pass, or a new one when that is over and there is something to do, or to do better."""
        last, tally = self._passes.get(collection), collection.tally
        n_written = tally.n_added + tally.n_deleted
        is_over = last is not None and last.left <= 0 and n_written - last.n_written >= REST * collection.n_alive
        if last is None or is_over or last.ef_construction != ef_construction:
            last = self._passes[collection] = _Pass(collection.n_alive, n_written, ef_construction)
        return last


def _vacuum(database: Database, name: str) -> Body:
    def body(control: Control) -> dict[str, Any] | None:
        from kektordb.upkeep.vacuum import vacuum

        return vacuum(database, name, control)

    return body


def _refine(database: Database, name: str, n_rows: int, ef_construction: int | None) -> Body:
    def body(control: Control) -> dict[str, Any] | None:
        from kektordb.upkeep.refine import refine

        return refine(database, name, control, n_rows, ef_construction)

    return body
