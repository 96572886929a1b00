"""How is work in the background of a server followed? By asking again, at first often and then less so."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, overload

from kektordb.errors import TaskFailed
from kektordb.remote.transport import Transport, path_of

__all__ = ["RemoteTask", "RemoteTasks"]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
COMPLETED, FAILED = "completed", "failed"


class RemoteTask:
    """Work in the background of a server, as `Task` has it. What it says is what the server said last; see `refresh`.

    Attributes
    ----------
    id : str
        ``db.tasks[id]`` finds it again.
    kind : str
        What is done.
    index : str or None
        The name of the index it works on.
    automatic : bool
        Nobody asked for it: it was time.
    progress : float
        How much is done, 0 to 1.
    status : str
        ``started``, ``running``, ``completed`` or ``failed``; that also when it was cancelled.
    message : str
        What is being done, for a human eye.
    error : str or None
        Why it failed.
    result : dict
        What came of it.
    """

    def __init__(self, transport: Transport, kind: str, answer: Mapping[str, Any]) -> None:
        self._transport = transport
        self.kind = kind
        self.id: str = answer["id"]
        self._take(answer)

    def _take(self, answer: Mapping[str, Any]) -> None:
        self.kind = answer.get("kind") or self.kind
        self.index: str | None = answer.get("index")
        self.automatic: bool = answer.get("automatic", False)
        self.progress: float = answer.get("progress", 1.0 if answer["status"] == COMPLETED else 0.0)
        self.status: str = answer["status"]
        self.message: str = answer.get("progress_message", "")
        self.error: str | None = answer.get("error")
        self.result: dict[str, Any] = answer.get("result") or {}

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.status in (COMPLETED, FAILED)

    def refresh(self) -> None:
        """Ask the server for its state. Raises TaskNotFound when it ended so long ago that it was forgotten."""
        self._take(self._transport.get(path_of("/system/tasks", self.id)))

    def cancel(self) -> None:
        """Let it end; see `Task.cancel`. What cannot be left half-way goes on: an import, or a shorter log."""
        self._take(self._transport.post(path_of("/system/tasks", self.id) + "/cancel", {}, repeatable=True))

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
        TimeoutError
            It goes on.
        TaskNotFound, ServerError
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause_s = FIRST_PAUSE_S
        while not self.done:
            left_s = LONGEST_PAUSE_S if end is None else end - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"the task {self.kind} has not ended after {timeout} s")
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self.refresh()
        if self.status == FAILED:
            raise TaskFailed(f"the task {self.kind} failed: {self.error}")
        return dict(self.result)

    def __repr__(self) -> str:
        return f"<RemoteTask {self.kind}: {self.status}>"


class RemoteTasks:
    """The tasks of a server: `len`, iteration, ``tasks[i]``, ``tasks[i:j]``, and ``tasks[id]``, as of `Tasks`.

    Each asks the server anew. What the server itself does, such as imports, comes first.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _all(self) -> list[RemoteTask]:
        return [RemoteTask(self._transport, "", answer) for answer in self._transport.get("/system/tasks")]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[RemoteTask]:
        return iter(self._all())

    def __contains__(self, wanted: object) -> bool:
        id = wanted.id if isinstance(wanted, RemoteTask) else wanted
        return any(task.id == id for task in self._all())

    @overload
    def __getitem__(self, key: str | int) -> RemoteTask: ...
    @overload
    def __getitem__(self, key: slice) -> list[RemoteTask]: ...
    def __getitem__(self, key: str | int | slice) -> RemoteTask | list[RemoteTask]:
        if isinstance(key, str):
            return RemoteTask(self._transport, "", self._transport.get(path_of("/system/tasks", key)))
        return self._all()[key]
