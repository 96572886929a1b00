"""How is work in the background followed? Tasks with a status, progress, an end to wait for, and a list of them."""

from __future__ import annotations

import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from typing import Any, overload

from kektordb.errors import TaskFailed, TaskNotFound
from kektordb.interrupts import Uninterrupted, wait_for

__all__ = ["Body", "Cancelled", "Control", "Task", "Tasks"]

# Tasks that have ended are forgotten when there are more than this.
MAX_TASKS = 256

STARTED, RUNNING, COMPLETED, FAILED, CANCELLED = "started", "running", "completed", "failed", "cancelled"


class Cancelled(Exception):
    """Raised in a task's body at the end of a slice, when it shall go no further."""


class Control:
    """What the body of a task sees of it. One made by hand belongs to no task: for tests, and for work done at once.

    Parameters
    ----------
    between : callable, optional
        Called by `check`: what is done between two slices.

    Attributes
    ----------
    message : str
        What is being done, for a human eye; set by the body.
    progress : float
        0 to 1.
    """

    __slots__ = ("_between", "_reason", "message", "progress")

    def __init__(self, between: Callable[[], None] | None = None) -> None:
        self._between = between
        self.message = ""
        self.progress = 0.0
        self._reason = ""

    def check(self) -> None:
        """Raise Cancelled when the work shall end. Called after each slice, without a lock."""
        if self._between is not None and not self._reason:
            self._between()
        if self._reason:
            raise Cancelled(self._reason)

    def report(self, done: int, total: int) -> None:
        """Say how far the work is."""
        self.progress = min(1.0, max(0.0, done / total)) if total > 0 else 0.0

    def cancel(self, reason: str = "cancelled") -> None:
        """Let the next `check` raise Cancelled."""
        self._reason = self._reason or reason


Body = Callable[[Control], dict[str, Any] | None]


class Task:
    """Work in the background, as `Index.vacuum` and others begin it. It may be asked from any thread.

    Attributes
    ----------
    id : str
        Unique; ``db.tasks[id]`` finds it again.
    kind : str
        What is done: ``vacuum``, ``refine``, ``compress``, …
    index : str or None
        The name of the index it works on.
    automatic : bool
        Nobody asked for it: it was time.
    """

    def __init__(
        self,
        kind: str,
        index: str | None,
        body: Body,
        before_wait: Callable[[], None],
        automatic: bool = False,
        between: Callable[[], None] | None = None,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.kind = kind
        self.index = index
        self.automatic = automatic
        self._body: Body | None = body
        self._before_wait = before_wait
        self._control = Control(between)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._status = STARTED
        self._error: str | None = None
        self._cause: BaseException | None = None
        self._result: dict[str, Any] = {}

    @property
    def status(self) -> str:
        """``started`` (waiting for its turn), ``running``, ``completed``, ``failed`` or ``cancelled``."""
        return self._status

    @property
    def progress(self) -> float:
        """How much is done, 0 to 1."""
        return 1.0 if self._status == COMPLETED else self._control.progress

    @property
    def message(self) -> str:
        """What is being done, for a human eye."""
        return self._control.message

    @property
    def error(self) -> str | None:
        """Why it failed or was cancelled; None otherwise."""
        return self._error

    @property
    def result(self) -> dict[str, Any]:
        """What came of it, as a copy; empty before it has completed, and when there is nothing to say."""
        return dict(self._result)

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait until it has ended.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; for ever by default.

        Returns
        -------
        dict
            The `result`.

        Raises
        ------
        TaskFailed
            It failed, with the error as its cause, or was cancelled.
        TimeoutError
            It goes on.
        ConfigError
            Inside `Database.batch`, or from the progress function of a write or save: it would wait for the caller.
        ForkedHandle
            The task belongs to the process that this one was forked from.
        """
        if not self._ended.is_set():
            self._before_wait()
        if not wait_for(self._ended, timeout):
            raise TimeoutError(f"{self._name()} has not ended after {timeout} s")
        if self._status != COMPLETED:
            how = "failed:" if self._status == FAILED else "was"
            raise TaskFailed(f"{self._name()} {how} {self._error}") from self._cause
        return self.result

    def cancel(self) -> None:
        """Let it end: at once when it has not begun, otherwise after the slice of work that it is at.

        Nothing of what it had done remains. It does not wait for the end, and does nothing when that has come.
        """
        with Uninterrupted():
            self._cancel("cancelled by a call of cancel()")

    def _cancel(self, reason: str) -> None:
        self._control.cancel(reason)
        with self._lock:
            if self._status == STARTED:
                self._end(CANCELLED, reason)

    def _run(self) -> None:
        """Do the work, and end in any case."""
        with self._lock:
            if self._status != STARTED:
                return
            self._status, body = RUNNING, self._body
        assert body is not None
        try:
            self._result = body(self._control) or {}
        except Cancelled as cancelled:
            self._end(CANCELLED, str(cancelled))
        except BaseException as error:  # whatever it is: somebody may be waiting
            _let_go(error)
            self._cause = error
            self._end(FAILED, f"{type(error).__name__}: {error}")
        else:
            self._end(COMPLETED, None)

    def _end(self, status: str, error: str | None) -> None:
        self._error, self._body = error, None
        self._status = status
        self._ended.set()

    def _name(self) -> str:
        return f"the task {self.kind}" + ("" if self.index is None else f" of index {self.index!r}")

    def __repr__(self) -> str:
        of = "" if self.index is None else f" of {self.index!r}"
        return f"<Task {self.kind}{of}: {self._status}, {self.progress:.0%}>"


def _let_go(error: BaseException | None) -> None:
    """Turn the tracebacks of an error into text: they hold all that the functions held, an index's worth of memory."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        places = "".join(traceback.format_tb(error.__traceback__))
        error.__traceback__ = None
        error.add_note(f"raised in a task, at\n{places}")
        seen.append(error)
        error = error.__cause__ or error.__context__


class Tasks:
    """The tasks of a database, oldest first: all that have not ended, and the last ones that have.

    Of those that began by themselves and have ended only the newest of each kind and index is kept. `len`, iteration
    (over the tasks as they are at that moment), ``tasks[i]``, ``tasks[i:j]``, and ``tasks[id]``, which raises
    TaskNotFound for an id that it does not know (any more).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Replaced, never changed: readers go through it without a lock.
        self._tasks: tuple[Task, ...] = ()

    def _add(self, task: Task) -> None:
        with self._lock:
            kept = [old for old in self._tasks if not (task.automatic and _is_like(old, task))]
            n_over = len(kept) + 1 - MAX_TASKS
            if n_over > 0:
                gone = {id(old) for old in [old for old in kept if old.done][:n_over]}
                kept = [old for old in kept if id(old) not in gone]
            self._tasks = (*kept, task)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def __contains__(self, wanted: object) -> bool:
        return any(task is wanted or task.id == wanted for task in self._tasks)

    @overload
    def __getitem__(self, key: str | int) -> Task: ...
    @overload
    def __getitem__(self, key: slice) -> list[Task]: ...
    def __getitem__(self, key: str | int | slice) -> Task | list[Task]:
        if isinstance(key, slice):
            return list(self._tasks[key])
        if isinstance(key, str):
            for task in self._tasks:
                if task.id == key:
                    return task
            raise TaskNotFound(f"no task {key!r:.80}")
        return self._tasks[key]

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self._tasks))}]"


def _is_like(old: Task, new: Task) -> bool:
    return old.automatic and old.done and (old.kind, old.index) == (new.kind, new.index)
