"""How is a database kept safe? Saved, copied into one file, checked: the half of `Database` for its files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from kektordb.progress import Progress, check_progress
from kektordb.storage import SaveReport
from kektordb.upkeep.saving import save

if TYPE_CHECKING:
    from kektordb.database import Database
    from kektordb.safety.checking import CheckReport

__all__ = ["DatabaseCare"]


class DatabaseCare:
    """The verbs that keep a database safe; `Database` is the other half."""

    @property
    def _database(self) -> Database:
        return cast("Database", self)

    def save(self, *, progress: Progress = False) -> SaveReport | None:
        """Write a snapshot, so that the log starts anew and opening is fast. Reads and writes go on meanwhile.

        Only blocks that changed since the last snapshot are written.

        Parameters
        ----------
        progress : bool or callable
            True shows a bar; a function is called with (done, total) bytes. It must not save or close the database.

        Returns
        -------
        SaveReport or None
            What was written; None for a database in memory.

        Raises
        ------
        StorageError
            The last snapshot and the log are as they were; nothing is lost.
        """
        self._database._tended()
        check_progress(progress)
        return save(self._database, progress)

    def rewrite_aof(self, *, progress: Progress = False) -> SaveReport | None:
        """Make the log short: what it holds goes into a snapshot. The same as `save`."""
        return self.save(progress=progress)

    def backup(self, path: str | os.PathLike[str], *, progress: Progress = False) -> SaveReport:
        """Write everything into one file, as it is now. Reads and writes go on meanwhile.

        The file stands alone: ``kektordb.open(path, read_only=True)`` opens it, `kektordb.restore` makes a database of
        it. It takes the place of an older one only when it is complete and durable. Databases in memory, read-only
        ones, and those that cannot write any more after a failure are backed up alike.

        Parameters
        ----------
        path : str or path
            Of the file, anywhere but in the database's own place.
        progress : bool or callable
            True shows a bar; a function is called with (done, total) bytes. It must not save or close the database.

        Raises
        ------
        StorageFull, StorageError
            The older file, if there is one, is as it was.
        """
        from kektordb.safety.backup import backup

        return backup(self._database, path, progress)

    def check(self, *, deep: bool = False) -> CheckReport:
        """Read every byte of the files again, and say what is damaged. Reads and writes go on meanwhile.

        Parameters
        ----------
        deep : bool
            Check also what is in memory against itself; see `kektordb.check`.

        Raises StorageError when reading fails.
        """
        from kektordb.safety.checking import check_open

        return check_open(self._database, deep)
