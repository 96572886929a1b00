"""What becomes of the open databases when the process forks, when it ends, and when one is sent to another process?"""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING, NoReturn

from kektordb._team import end_waiting_threads
from kektordb.errors import ForkedHandle

if TYPE_CHECKING:
    from kektordb.database import Database

__all__ = ["OfOneProcess", "open_databases"]

# How long the end of the process waits for a slice of work to end.
EXIT_S = 5.0

open_databases: weakref.WeakSet[Database] = weakref.WeakSet()


class OfOneProcess:
    """What cannot be copied, nor pickled, which is how it would be sent to another process."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled or copied: open it where it is needed, with read_only=True beside a writer"
        )


def _forget_after_fork() -> None:
    for database in list(open_databases):
        if database._gone is None:
            database._gone = ForkedHandle(
                f"the database {database._path!r} was opened before fork(); it belongs to the parent process"
            )


def _stop_at_exit() -> None:
    """End the threads of maintenance: none shall work in memory that the interpreter takes down."""
    for database in list(open_databases):
        if database._gone is None:
            if database._following is not None:
                database._following.stop(EXIT_S)
            database._stop_feeding(EXIT_S)
            database._upkeep.stop(EXIT_S)


atexit.register(_stop_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=end_waiting_threads, after_in_child=_forget_after_fork)
