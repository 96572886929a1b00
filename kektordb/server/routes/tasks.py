"""How are snapshots written, and tasks followed, over HTTP?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kektordb import errors
from kektordb.server.calls import Call, Reply, Route
from kektordb.server.errors import HttpError
from kektordb.server.replies import FailedDocument, Status, TaskInfo, VectorizerStatus

if TYPE_CHECKING:
    from kektordb.vectorizer import Status as VectorizerState

__all__ = ["ROUTES"]


def save(call: Call) -> Status:
    """Write a snapshot."""
    call.service.database.save()
    return Status(message="Snapshot created")


def sync(call: Call) -> Status:
    """Make all that was written durable."""
    call.service.database.sync()
    return Status()


def rewrite_log(call: Call) -> Reply:
    """Make the log short, in the background."""
    return Reply(
        202, call.service.jobs.start("rewrite_aof", call.service.database.rewrite_aof, "AOF rewrite completed")
    )


def get_task(call: Call) -> TaskInfo:
    """Return the state of a task."""
    try:
        return call.service.jobs.find(call.args[0])
    except errors.TaskNotFound:
        raise HttpError(404, "task not found", "TaskNotFound") from None


def list_tasks(call: Call) -> list[TaskInfo]:
    """List the tasks that are known: all that have not ended, and the last ones that have."""
    return call.service.jobs.all()


def cancel_task(call: Call) -> TaskInfo:
    """Let a task end as soon as it can; nothing of what it did remains."""
    try:
        return call.service.jobs.cancel(call.args[0])
    except errors.TaskNotFound:
        raise HttpError(404, "task not found", "TaskNotFound") from None


def list_vectorizers(call: Call) -> list[VectorizerStatus]:
    """List the vectorizers and what they are at."""
    fleet = call.service.database._fleet
    return [] if fleet is None else [_described(status) for status in fleet.status()]


def trigger_vectorizer(call: Call) -> Status:
    """Let a vectorizer look at its files now."""
    name, fleet = call.args[0], call.service.database._fleet
    vectorizer = None if fleet is None else fleet.get(name)
    if vectorizer is None:
        raise HttpError(404, f"vectorizer '{name}' not found")
    vectorizer.trigger()
    return Status(message=f"Synchronization for vectorizer '{name}' triggered.")


def _described(status: VectorizerState) -> VectorizerStatus:
    counts = msgspec.structs.asdict(status.counts)
    del counts["n_failed"]  # of the pass; those that failed before it are failed as well
    return VectorizerStatus(
        name=status.name,
        is_running=status.state != "stopped",
        last_run=status.last_run,
        current_state=status.state,
        index=status.index,
        embedder=status.embedder,
        is_in_step=status.is_in_step,
        error=status.error,
        retry_in_s=status.retry_in_s,
        n_failed=status.n_failed,
        failed=[FailedDocument(**msgspec.structs.asdict(one)) for one in status.failed],
        **counts,
    )


ROUTES = (
    Route("POST", "/system/save", save, gives=Status, writes=True),
    Route("POST", "/system/sync", sync, gives=Status, writes=True),
    Route("POST", "/system/aof-rewrite", rewrite_log, gives=TaskInfo, status=202, writes=True),
    Route("GET", "/system/tasks", list_tasks, gives=list[TaskInfo], threaded=True),
    Route("POST", "/system/tasks/{id}/cancel", cancel_task, gives=TaskInfo, writes=True),
    Route("GET", "/system/tasks/{id}", get_task, gives=TaskInfo),
    Route("GET", "/system/vectorizers", list_vectorizers, gives=list[VectorizerStatus]),
    Route("POST", "/system/vectorizers/{name}/trigger", trigger_vectorizer, gives=Status, writes=True),
)
