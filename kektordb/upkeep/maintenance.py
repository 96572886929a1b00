"""Who does the work that no caller waits for? A thread: tasks in their order, and a look at policies each second."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from kektordb._metrics import Latencies
from kektordb.errors import ConfigError, DatabaseClosed, IndexNotFound
from kektordb.interrupts import TURN_S, Uninterrupted, between
from kektordb.tasks import FAILED, Body, Task, Tasks
from kektordb.upkeep.policies import Policy, Refining, SavePolicies, Saving, Vacuuming

if TYPE_CHECKING:
    from kektordb.database import Database

__all__ = ["Maintenance", "Upkeep"]

_log = logging.getLogger("kektordb")

TICK_S = 1.0


class Upkeep:
    """The thread that looks after a database. It holds it weakly, so that a forgotten one can go.

    Parameters
    ----------
    database : Database
    saving : SavePolicies or None
        None for a database that cannot be saved.
    clock : callable
        Seconds; passed in by tests.

    Attributes
    ----------
    tasks : Tasks
    saves : Latencies
    n_saved_bytes : int
        What all saves together have written.
    """

    def __init__(
        self,
        database: Database,
        saving: SavePolicies | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tasks = Tasks()
        self.saves = Latencies()
        self.n_saved_bytes = 0
        self.clock = clock
        self._saving = None if saving is None else Saving(saving, clock())
        # A vacuum comes before a refine: it makes less to refine.
        self._policies: list[Policy] = [] if database.read_only and saving is None else [Vacuuming(), Refining()]
        if self._saving is not None:
            self._policies.insert(0, self._saving)
        self._database = weakref.ref(database)
        # Over all that follows. Nothing is called while it is held.
        self._changed = threading.Condition()
        self._queue: deque[Task] = deque()
        self._running: Task | None = None
        self._is_looking = False
        self._looked_between = clock()
        self._n_pauses = 0
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._is_warned = False

    # ------------------------------------------------------------------------------------------------------- the thread

    @property
    def started(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    def start(self) -> None:
        """Begin to look after the database; nothing when that has begun. RuntimeError when there can be no thread."""
        if self._thread is not None:
            return
        with Uninterrupted(), self._changed:
            if self._thread is None and not self._stopped:
                thread = threading.Thread(target=self._run, name="kektordb-maintenance", daemon=True)
                thread.start()
                self._thread = thread

    def start_if_possible(self) -> None:
        """Begin to look after the database; where there can be no thread now, the next write asks again."""
        try:
            self.start()
        except RuntimeError as error:
            if not self._is_warned:
                _log.warning("nothing looks after %r for now: %s", self._database(), error)
            self._is_warned = True

    def _run(self) -> None:
        looked_at = time.monotonic()
        while True:
            with self._changed:
                is_quiet = not self._changed.wait_for(lambda: self._stopped or len(self._queue) > 0, TICK_S)
                task = self._queue.popleft() if self._queue else None
                self._running = task
            database = self._database()
            if self._stopped or database is None or database.closed:
                if task is not None:
                    task._cancel("cancelled: the database was closed")
                return
            if task is not None:
                self._finish(task)
            if is_quiet or time.monotonic() - looked_at >= TICK_S:
                self.look()
                looked_at = time.monotonic()
            # The database may be forgotten while this waits.
            del database, task

    def _finish(self, task: Task) -> None:
        task._run()
        with self._changed:
            self._running = None
        if task.status == FAILED and task.automatic and not isinstance(task._cause, IndexNotFound):
            _log.warning("%r of %r failed, nothing is lost: %s", task, self._database(), task.error)

    def look(self) -> None:
        """Ask each policy once, unless they are paused."""
        for policy in self._policies:
            with self._changed:
                if self._n_pauses or self._stopped:
                    return
                self._is_looking = True
            try:
                database = self._database()
                if database is not None:
                    policy.tick(database, self.clock())
            except Exception as error:  # the outermost loop of the thread
                if not self._stopped:
                    _log.warning("%s failed, nothing is lost: %r", type(policy).__name__, error)
            finally:
                self._end_look(False)

    def _end_look(self, is_looking: bool) -> None:
        with self._changed:
            self._is_looking = is_looking
            self._changed.notify_all()

    def _save_between(self) -> None:
        """Save when that is due, between two slices of a task: it may take long yet."""
        saving, database, now = self._saving, self._database(), self.clock()
        if saving is None or database is None or now - self._looked_between < TICK_S:
            return
        # A save is under way, or the task wants none.
        if database._save_lock.is_taken:
            return
        self._looked_between = now
        with self._changed:
            if self._n_pauses or self._stopped:
                return
            was_looking, self._is_looking = self._is_looking, True
        try:
            saving.tick(database, now)
        finally:
            self._end_look(was_looking)

    # ---------------------------------------------------------------------------------------------------------- tasks

    def submit(self, kind: str, index: str | None, body: Body) -> Task:
        """Queue a task. Raises DatabaseClosed."""
        task = Task(kind, index, body, self.refuse_wait, between=self._save_between)
        with Uninterrupted():
            self.start()
            with self._changed:
                if self._stopped:
                    raise DatabaseClosed("expected an open database, got one that is being closed")
                self.tasks._add(task)
                self._queue.append(task)
                self._changed.notify_all()
        return task

    def run_now(self, kind: str, index: str | None, body: Body) -> Task:
        """Run a task that a policy found due, and return it when it has ended."""
        task = Task(kind, index, body, self.refuse_wait, automatic=True, between=self._save_between)
        self.tasks._add(task)
        with self._changed:
            self._running = task
            if self._n_pauses or self._stopped:
                task._cancel("cancelled: maintenance was paused")
        self._finish(task)
        return task

    def refuse_wait(self) -> None:
        """Raise when waiting for the thread would be for ever."""
        database = self._database()
        if database is not None:
            database._refuse_inside_write()
        if self._thread is threading.current_thread():
            raise ConfigError("expected this call outside of a task")

    # --------------------------------------------------------------------------------------------------- pause and stop

    @property
    def n_pauses(self) -> int:
        """How many pauses have no end yet."""
        return self._n_pauses

    def pause(self) -> None:
        """Ask no policy from now on; wait until what one does has ended."""
        self.refuse_wait()
        is_counted = has_paused = False
        try:
            with Uninterrupted(in_slices=True):
                with self._changed:
                    self._n_pauses += 1
                    is_counted = True
                    if self._running is not None and self._running.automatic:
                        self._running._cancel("cancelled: maintenance was paused")
                while not has_paused:
                    has_paused = self._has_paused()
                    between()
        except BaseException:
            if is_counted:
                self.resume()
            raise

    def _has_paused(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_looking, TURN_S)

    def resume(self) -> None:
        """End one pause; nothing when there is none."""
        with Uninterrupted(), self._changed:
            self._n_pauses = max(0, self._n_pauses - 1)

    def note_save(self) -> None:
        """Count from now on: a snapshot was written, whoever asked for it."""
        if self._saving is not None:
            self._saving.note_save(self.clock())

    def stop(self, timeout: float | None = None) -> None:
        """Cancel all tasks and look no more; waits for the end of a slice, or of a save."""
        with self._changed:
            self._stopped = True
            for task in (self._running, *self._queue):
                if task is not None:
                    task._cancel("cancelled: the database was closed")
            self._queue.clear()
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def close(self) -> None:
        """Stop, and save when that is due."""
        self.stop()
        database = self._database()
        if self._saving is not None and database is not None:
            self._saving.close(database)


class Maintenance:
    """What a database does by itself: saving, vacuum, refine; as ``db.maintenance``."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep

    @property
    def paused(self) -> bool:
        """Whether nothing is done by itself."""
        return self._upkeep.n_pauses > 0

    def pause(self) -> Pause:
        """Do nothing by itself until `resume`, or until the end of a ``with`` block around this call.

        A vacuum or refine that began by itself is cancelled, a save is finished; when this returns, neither runs.
        What is asked for, such as ``index.vacuum()`` or ``db.save()``, is done all the same, and so is the save at
        close. Pauses count: there must be as many ends as beginnings.

        Raises ConfigError inside `Database.batch` and in the progress function of a write or save.
        """
        pause = Pause(self._upkeep)
        self._upkeep.pause()
        return pause

    def resume(self) -> None:
        """End a pause; nothing when there is none."""
        self._upkeep.resume()

    def __repr__(self) -> str:
        return f"<Maintenance: {'paused' if self.paused else 'active'}>"


class Pause:
    """A pause of the maintenance, which ends with the ``with`` block it stands at."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._upkeep.resume()
