"""How does a database that was opened read-only come to see what a writer has done since?"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from kektordb.errors import ConfigError, HistoryDiverged, SnapshotNeeded
from kektordb.interrupts import Uninterrupted, in_slices
from kektordb.operations import decoded

if TYPE_CHECKING:
    from kektordb.commit import Commits
    from kektordb.database import Database
    from kektordb.loading import Opening
    from kektordb.replicas.following import Following
    from kektordb.state import State

__all__ = ["Refreshable", "Refreshing"]


class Refreshable:
    """The part of `Database` that sees what others write."""

    _refreshing: Refreshing | None = None
    _following: Following | None = None
    if TYPE_CHECKING:
        _commits: Commits

        def _live(self) -> State: ...
        def _writable(self) -> State: ...

    def _tended(self) -> State:
        """Return the state of a database that is saved and kept small, though perhaps nothing may be written to it."""
        return self._writable() if self._following is None else self._live()

    @in_slices
    def refresh(self) -> int:
        """See what a writer has done since a database was opened with ``read_only=True``, or since the last refresh.

        A database that follows another one takes in all that is there now.

        What is seen is always what the writer had at some moment. Usually the new records of the log are applied; when
        saves have removed them from the log, a new state is loaded beside the old one, which then takes twice the
        memory for a while. Searches go on meanwhile. Costs some 0.03 ms of one core when there is nothing new.

        Returns
        -------
        int
            By how many records it is further than before; 0 for a database that is not read-only, and for a backup
            file. Negative only when the writer itself had to go back: its disk failed, or it was opened with
            ``recover="prefix"``.

        Raises
        ------
        HistoryDiverged
            A follower, and what it has is not what its leader has: this one must be made anew, or promoted.
        CorruptLog, CorruptSnapshot, StorageError
            What was there before is still served; the next refresh tries again.
        """
        self._live()
        following = self._following  # once: another thread may promote it
        if following is not None:
            return following.refresh(cast("Database", self))
        with self._commits.lock.alone:
            self._live()
            return 0 if self._refreshing is None else self._refreshing.refresh(cast("Database", self))

    def promote(self) -> None:
        """End following: from now on this database is written to, and has a history of its own.

        Nothing of what was its leader is taken in any more, and what follows that leader, and has got further than this
        database had at this moment, is refused here (HistoryDiverged). It makes the records so far durable.

        Raises
        ------
        ConfigError
            It does not follow.
        StorageError
            It goes on to follow.
        """
        self._live()
        following = self._following
        if following is None:
            raise ConfigError("expected a database that follows another one")
        with Uninterrupted():
            following.promote(cast("Database", self))


class Refreshing:
    """Brings a read-only database up to date: by the log, or with a new state where the log does not go on from it.

    Parameters
    ----------
    opening : Opening
        How it was opened.
    """

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        # A refresh that fails half-way has read more than it applied.
        self._is_behind = False

    def refresh(self, database: Database) -> int:
        """Do what `Database.refresh` says; the commit lock is held."""
        store = database._store
        assert store is not None
        before = store.last_seq
        records = None if self._is_behind else store.records_since()
        if records is None:
            return 0 if store.is_file else self._reload(database) - before
        self._is_behind = True
        try:
            database._state.replay(decoded(records))
            self._is_behind = False
        except (SnapshotNeeded, HistoryDiverged):
            return self._reload(database) - before
        return store.last_seq - before

    def _reload(self, database: Database) -> int:
        """Let a state that is loaded anew take the place of the old one; searches under way end in the old one."""
        loaded = self._opening.load()
        store, self._is_behind = database._store, False
        loaded.state.succeed(database._state)
        database._store, database._state = loaded.store, loaded.state
        database._commits.exchange(loaded.state, loaded.store)
        if store is not None:
            store.close()
        return loaded.store.last_seq
