"""How are snapshots written, and tasks followed, over HTTP?"""

from __future__ import annotations

from kektordb import errors
from kektordb.server.calls import Call, Reply, Route
from kektordb.server.errors import HttpError
from kektordb.server.replies import Status, TaskInfo, VectorizerStatus

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
    return Reply(202, call.service.jobs.start(call.service.database.rewrite_aof, "AOF rewrite completed"))


def get_task(call: Call) -> TaskInfo:
    """Return the state of a task."""
    try:
        return call.service.jobs.find(call.args[0])
    except errors.TaskNotFound:
        raise HttpError(404, "task not found", "TaskNotFound") from None


def list_vectorizers(call: Call) -> list[VectorizerStatus]:
    """List the vectorizers and what they are at."""
    return []


def trigger_vectorizer(call: Call) -> Status:
    """Let a vectorizer look at its files now."""
    raise HttpError(404, f"vectorizer '{call.args[0]}' not found")


ROUTES = (
    Route("POST", "/system/save", save, gives=Status, writes=True),
    Route("POST", "/system/sync", sync, gives=Status, writes=True),
    Route("POST", "/system/aof-rewrite", rewrite_log, gives=TaskInfo, status=202, writes=True),
    Route("GET", "/system/tasks/{id}", get_task, gives=TaskInfo),
    Route("GET", "/system/vectorizers", list_vectorizers, gives=list[VectorizerStatus]),
    Route("POST", "/system/vectorizers/{name}/trigger", trigger_vectorizer, gives=Status, writes=True),
)
