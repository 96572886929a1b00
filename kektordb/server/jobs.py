"""How does a client follow work in the background? As tasks, those of the database and those of the server."""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from kektordb import errors
from kektordb.database import Database
from kektordb.server.errors import explain
from kektordb.server.replies import TaskInfo
from kektordb.tasks import FAILED, Task

__all__ = ["Jobs"]

_log = logging.getLogger("kektordb.server")

MAX_JOBS = 1024
DONE = {"vacuum": "vacuum cycle completed", "refine": "refine cycle completed"}


class Jobs:
    """The tasks that the server answered with.

    Parameters
    ----------
    database : Database
    grace_s : float
        Seconds that an answer waits for a task to end: the original's clients look again after ten.
    """

    def __init__(self, database: Database, grace_s: float) -> None:
        self._database = database
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._own: OrderedDict[str, TaskInfo] = OrderedDict()
        self._running: set[threading.Thread] = set()

    def imported(self, n: int) -> TaskInfo:
        """Return the task of an import that has completed already."""
        return self._keep(
            TaskInfo(
                _new_id(),
                "completed",
                "import",
                progress_message=f"Imported {n} vectors",
                vectors_added=n,
                vectors_imported=n,
            )
        )

    def failed(self, error: Exception) -> TaskInfo:
        """Return a task that has failed already."""
        return self._keep(TaskInfo(_new_id(), "failed", error=explain(error).text))

    def follow(self, task: Task) -> TaskInfo:
        """Return the state of a task of the database, when it has ended or has had its grace."""
        with contextlib.suppress(errors.TaskFailed, TimeoutError):
            task.wait(self._grace_s)
        return _describe(task)

    def start(self, kind: str, work: Callable[[], object], message: str) -> TaskInfo:
        """Begin work in a thread of its own; `message` is for its end."""
        info = self._keep(TaskInfo(_new_id(), "started", kind))

        def run() -> None:
            try:
                work()
            except Exception as error:  # the outermost of this thread
                _log.error("a task failed: %s", type(error).__name__)
                self._keep(TaskInfo(info.id, "failed", info.kind, error=explain(error).text))
            else:
                self._keep(TaskInfo(info.id, "completed", info.kind, progress_message=message))
            finally:
                self._running.discard(thread)

        thread = threading.Thread(target=run, name="kektordb-job")
        self._running.add(thread)
        thread.start()
        thread.join(self._grace_s)
        return self._own.get(info.id, info)

    def find(self, id: str) -> TaskInfo:
        """Return the state of a task. Raises TaskNotFound."""
        found = self._own.get(id)
        return _describe(self._database.tasks[id]) if found is None else found

    def all(self) -> list[TaskInfo]:
        """Return the states of all tasks that are known: those of the server, and then those of the database."""
        with self._lock:
            own = list(self._own.values())
        return own + [_describe(task) for task in self._database.tasks]

    def cancel(self, id: str) -> TaskInfo:
        """Let a task end, if it can be, and return its state. Raises TaskNotFound."""
        if id not in self._own:  # those are done at once, or cannot be left half-way
            self._database.tasks[id].cancel()
        return self.find(id)

    def close(self) -> None:
        """Wait for the work that was begun."""
        for thread in list(self._running):
            thread.join()

    def _keep(self, info: TaskInfo) -> TaskInfo:
        with self._lock:
            self._own[info.id] = info
            while len(self._own) > MAX_JOBS:
                self._own.popitem(last=False)
        return info


def _new_id() -> str:
    return str(uuid.uuid4())


def _describe(task: Task) -> TaskInfo:
    status, error = task.status, task.error
    info = TaskInfo(task.id, status, task.kind, task.index, task.automatic, task.progress)
    if status == "completed":
        result: Any = task.result or UNSET
        info.progress_message, info.result = DONE.get(task.kind, f"{task.kind} completed"), result
    elif error is not None:
        info.status, info.error = FAILED, _told(error)  # also of one that was cancelled
    else:
        info.progress_message = task.message or UNSET
    return info


def _told(error: str) -> str:
    """Return the reason of a task without what names files of this machine."""
    name, colon, _ = error.partition(":")
    kind = getattr(errors, name, None) if colon else None
    if kind is None and (not colon or not name.isidentifier()):
        return error
    if kind is not None and not issubclass(kind, errors.StorageError):
        return error
    return name
