"""A task has one end, whoever waits for it, cancels it, closes its database or forks; a list knows the last ones."""

from __future__ import annotations

import gc
import os
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import kektordb
from kektordb import tasks
from kektordb.database import Database
from kektordb.errors import (
    ConfigError,
    DatabaseClosed,
    ForkedHandle,
    IndexNotFound,
    ReadOnlyDatabase,
    TaskFailed,
    TaskNotFound,
)
from kektordb.tasks import Cancelled, Control, Task, Tasks

WAIT_S = 20


class Work:
    """A body that goes slice by slice, each when the test lets it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.cleaned_up = False

    def __call__(self, control: Control) -> dict[str, Any]:
        try:
            control.message = "at work"
            control.report(1, 4)
            self.begun.set()
            while not self.go.wait(0.001):
                control.check()
            return {"n": 3}
        finally:
            self.cleaned_up = True


@pytest.fixture
def db() -> Iterator[Database]:
    with Database.open(":memory:") as database:
        database.create_index("a")
        yield database


@pytest.fixture
def work() -> Work:
    return Work()


def quick(control: Control) -> dict[str, Any]:
    return {"quick": True}


def failing(control: Control) -> None:
    raise ValueError("no good")


# ----------------------------------------------------------------------------------------------------------- one task


def test_a_task_runs_and_says_how_far_it_is(db: Database, work: Work) -> None:
    task = db._upkeep.submit("vacuum", "a", work)
    assert work.begun.wait(WAIT_S)
    assert (task.kind, task.index, task.automatic) == ("vacuum", "a", False)
    assert (task.status, task.progress, task.message, task.error) == ("running", 0.25, "at work", None)
    assert (task.result, task.done) == ({}, False)
    assert repr(task) == "<Task vacuum of 'a': running, 25%>"
    with pytest.raises(TimeoutError, match=r"vacuum of index 'a' has not ended after 0.001 s"):
        task.wait(0.001)

    work.go.set()
    assert task.wait(WAIT_S) == {"n": 3}
    assert (task.status, task.progress, task.error, task.done) == ("completed", 1.0, None, True)
    task.cancel()
    assert task.status == "completed"
    task.result["n"] = 4
    assert task.wait(0) == {"n": 3}


def test_a_failure_is_told_with_its_cause(db: Database) -> None:
    task = db._upkeep.submit("refine", None, failing)
    for _ in range(2):
        with pytest.raises(TaskFailed, match=r"the task refine failed: ValueError: no good") as caught:
            task.wait(WAIT_S)
        assert isinstance(caught.value.__cause__, ValueError)
        assert "in failing" in caught.value.__cause__.__notes__[0]
    assert (task.status, task.error) == ("failed", "ValueError: no good")
    assert db._upkeep.submit("refine", None, quick).wait(WAIT_S), "the thread goes on"


def test_even_an_exit_in_a_body_is_an_end(db: Database) -> None:
    def leave(control: Control) -> None:
        raise SystemExit(3)

    with pytest.raises(TaskFailed, match="SystemExit"):
        db._upkeep.submit("refine", None, leave).wait(WAIT_S)
    assert db._upkeep.submit("refine", None, quick).wait(WAIT_S)


def test_a_failure_keeps_nothing_of_what_the_work_held(db: Database) -> None:
    class Large:
        pass

    seen: list[weakref.ref[Large]] = []

    def inner(large: Large) -> None:
        raise ValueError("no good")

    def outer(control: Control) -> None:
        large = Large()
        seen.append(weakref.ref(large))
        try:
            inner(large)
        except ValueError as error:
            raise RuntimeError("worse") from error

    task = db._upkeep.submit("compress", "a", outer)
    with pytest.raises(TaskFailed):
        task.wait(WAIT_S)
    assert seen[0]() is None


def test_a_failed_task_does_not_hold_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kektordb.upkeep.maintenance.TICK_S", 0.001)
    db = Database.open(":memory:")

    def submit(held: Database) -> Task:
        def body(control: Control) -> None:
            raise ValueError(f"no good: {held.path}")

        return held._upkeep.submit("compress", None, body)

    task = submit(db)
    with pytest.raises(TaskFailed):
        task.wait(WAIT_S)
    thread, reference = db._upkeep._thread, weakref.ref(db)
    assert thread is not None
    del db
    gc.collect()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert reference() is None


def test_tasks_run_in_their_order(db: Database, work: Work) -> None:
    order: list[int] = []
    first = db._upkeep.submit("vacuum", "a", work)
    waiting = [db._upkeep.submit("refine", "a", lambda _, i=i: order.append(i)) for i in range(5)]  # type: ignore[misc]
    assert work.begun.wait(WAIT_S)
    assert [task.status for task in waiting] == ["started"] * 5
    work.go.set()
    waiting[-1].wait(WAIT_S)
    assert order == [0, 1, 2, 3, 4]
    assert list(db.tasks) == [first, *waiting]


# ------------------------------------------------------------------------------------------------------------- cancel


def test_a_task_is_cancelled_at_the_end_of_a_slice(db: Database, work: Work) -> None:
    task = db._upkeep.submit("vacuum", "a", work)
    assert work.begun.wait(WAIT_S)
    task.cancel()
    with pytest.raises(TaskFailed, match=r"vacuum of index 'a' was cancelled by a call of cancel\(\)") as caught:
        task.wait(WAIT_S)
    assert caught.value.__cause__ is None
    assert (task.status, work.cleaned_up, task.progress) == ("cancelled", True, 0.25)


def test_a_task_that_has_not_begun_is_cancelled_at_once(db: Database, work: Work) -> None:
    running = db._upkeep.submit("vacuum", "a", work)
    assert work.begun.wait(WAIT_S)
    calls: list[Control] = []
    waiting = db._upkeep.submit("refine", "a", calls.append)  # type: ignore[arg-type]
    waiting.cancel()
    waiting.cancel()
    assert waiting.status == "cancelled"
    with pytest.raises(TaskFailed):
        waiting.wait(0)
    work.go.set()
    running.wait(WAIT_S)
    db._upkeep.submit("refine", "a", quick).wait(WAIT_S)
    assert calls == []


def test_a_control_of_no_task_can_be_used_by_hand() -> None:
    control = Control()
    control.check()
    control.report(1, 0)
    assert control.progress == 0.0
    control.report(7, 5)
    assert control.progress == 1.0
    control.cancel()
    control.cancel("again")
    with pytest.raises(Cancelled, match=r"^cancelled$"):
        control.check()


# -------------------------------------------------------------------------------------------------------------- close


def test_close_cancels_what_runs_and_what_waits(work: Work) -> None:
    db = Database.open(":memory:")
    running = db._upkeep.submit("vacuum", "a", work)
    waiting = db._upkeep.submit("refine", "a", quick)
    assert work.begun.wait(WAIT_S)
    thread = db._upkeep._thread
    db.close()
    assert thread is not None
    assert not thread.is_alive()
    assert work.cleaned_up
    for task in (running, waiting):
        assert task.status == "cancelled"
        with pytest.raises(TaskFailed, match="was cancelled: the database was closed"):
            task.wait(0)
    with pytest.raises(DatabaseClosed):
        db._upkeep.submit("refine", "a", quick)
    with pytest.raises(DatabaseClosed):
        _ = db.tasks
    with pytest.raises(DatabaseClosed):
        _ = db.maintenance


def test_who_waits_is_let_go_by_close(work: Work) -> None:
    db = Database.open(":memory:")
    task = db._upkeep.submit("vacuum", "a", work)
    assert work.begun.wait(WAIT_S)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            task.wait(WAIT_S)
        except TaskFailed as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    db.close()
    for thread in threads:
        thread.join()
    assert len(errors) == 3


def test_a_body_may_close_the_database() -> None:
    db = Database.open(":memory:")
    task = db._upkeep.submit("vacuum", "a", lambda _: db.close())  # type: ignore[func-returns-value]
    task.wait(WAIT_S)
    assert db.closed


# ----------------------------------------------------------------------------------------------------- waiting for ever


def test_waiting_for_oneself_is_refused(db: Database, work: Work) -> None:
    task = db._upkeep.submit("vacuum", "a", work)
    with db.batch(), pytest.raises(ConfigError, match=r"outside of db.batch"):
        task.wait(WAIT_S)

    other = db._upkeep.submit("refine", "a", lambda _: later.wait(WAIT_S))
    later = db._upkeep.submit("refine", "a", quick)
    work.go.set()
    with pytest.raises(TaskFailed, match="outside of a task"):
        other.wait(WAIT_S)
    later.wait(WAIT_S)
    with db.batch():
        assert later.wait() == {"quick": True}, "it has ended: there is nothing to wait for"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_the_parents_task(db: Database, work: Work) -> None:
    task = db._upkeep.submit("vacuum", "a", work)
    assert work.begun.wait(WAIT_S)
    pid = os.fork()
    if pid == 0:
        refused = 0
        for call in (task.wait, lambda: db["a"].vacuum(), lambda: db.tasks, lambda: db.maintenance):
            try:
                call()
            except ForkedHandle:
                refused += 1
        db.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    work.go.set()
    task.wait(WAIT_S)


def test_the_end_of_the_process_does_not_wait_for_the_end_of_a_task() -> None:
    code = (
        "import kektordb, threading\n"
        "db, begun = kektordb.open(':memory:'), threading.Event()\n"
        "def endless(control):\n"
        "    while True:\n"
        "        begun.set()\n"
        "        control.check()\n"
        "db._upkeep.submit('vacuum', 'a', endless)\n"
        "begun.wait()\n"
    )
    import subprocess

    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(kektordb.__file__))}
    done = subprocess.run([sys.executable, "-c", code], timeout=60, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# --------------------------------------------------------------------------------------------------------- the list


def an_ended_task(kind: str = "k", automatic: bool = False, index: str | None = None) -> Task:
    task = Task(kind, index, quick, lambda: None, automatic)
    task._run()
    return task


def test_the_list_is_bounded_and_never_forgets_what_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MAX_TASKS", 5)
    listed = Tasks()
    waiting = [Task("k", None, quick, lambda: None) for _ in range(3)]
    for task in waiting:
        listed._add(task)
    ended = [an_ended_task() for _ in range(10)]
    for task in ended:
        listed._add(task)
    assert list(listed) == [*waiting, *ended[-2:]]

    more = [Task("k", None, quick, lambda: None) for _ in range(10)]
    for task in more:
        listed._add(task)
    assert list(listed) == [*waiting, *more]
    for task in waiting:
        task.cancel()
    last = an_ended_task()
    listed._add(last)
    assert list(listed) == [*more, last]


def test_what_began_by_itself_does_not_crowd_out_the_rest() -> None:
    listed = Tasks()
    wanted = an_ended_task("refine", index="a")
    listed._add(wanted)
    for _ in range(1000):
        last = an_ended_task("refine", automatic=True, index="a")
        listed._add(last)
    other = an_ended_task("refine", automatic=True, index="b")
    listed._add(other)
    assert list(listed) == [wanted, last, other]


def test_tasks_are_found_by_place_and_by_id() -> None:
    listed = Tasks()
    a, b = an_ended_task("a"), an_ended_task("b")
    listed._add(a)
    listed._add(b)
    assert (len(listed), listed[0], listed[-1], listed[0:2], listed[b.id]) == (2, a, b, [a, b], b)
    assert a in listed
    assert a.id in listed
    assert "x" not in listed
    assert an_ended_task() not in listed
    assert repr(listed) == "[<Task a: completed, 100%>, <Task b: completed, 100%>]"
    with pytest.raises(TaskNotFound, match="no task 'x'"):
        _ = listed["x"]
    with pytest.raises(KeyError):
        _ = listed["x"]
    with pytest.raises(IndexError):
        _ = listed[2]
    assert isinstance(listed[a.id].id, str)
    assert a.id != b.id


# -------------------------------------------------------------------------------------------------- the verbs of index


class Bodies:
    """What stands in for the work itself."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def vacuum(self, database: Database, name: str, control: Control) -> dict[str, Any]:
        self.calls.append(("vacuum", name))
        return {"n_removed": 1, "reclaimed_bytes": 2}

    def refine(self, database: Database, name: str, control: Control, n_rows: Any, ef: Any) -> dict[str, Any]:
        self.calls.append(("refine", name, n_rows, ef))
        return {}

    def compress(self, database: Database, name: str, precision: str, control: Control) -> dict[str, Any]:
        self.calls.append(("compress", name, precision))
        return {}


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> Bodies:
    found = Bodies()
    for name in ("vacuum", "refine", "compress"):
        module = types.ModuleType(f"kektordb.upkeep.{name}")
        setattr(module, name, getattr(found, name))
        monkeypatch.setitem(sys.modules, f"kektordb.upkeep.{name}", module)
    return found


def test_the_verbs_of_an_index_are_tasks(db: Database, bodies: Bodies) -> None:
    index = db["a"]
    assert index.vacuum().wait(WAIT_S) == {"n_removed": 1, "reclaimed_bytes": 2}
    index.refine().wait(WAIT_S)
    index.refine(300).wait(WAIT_S)
    index.configure(refine_ef_construction=77)
    index.refine().wait(WAIT_S)
    index.compress("float16").wait(WAIT_S)
    assert bodies.calls == [
        ("vacuum", "a"),
        ("refine", "a", None, None),
        ("refine", "a", None, 300),
        ("refine", "a", None, 77),
        ("compress", "a", "float16"),
    ]
    assert [task.kind for task in db.tasks] == ["vacuum", "refine", "refine", "refine", "compress"]
    assert {task.index for task in db.tasks} == {"a"}


@pytest.mark.parametrize("precision", ["float32", "float8", "", None, 8, ["float16"]])
def test_an_unknown_or_the_present_precision_is_refused_at_once(db: Database, bodies: Bodies, precision: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected .*precision"):
        db["a"].compress(precision)
    assert len(db.tasks) == 0


@pytest.mark.parametrize("ef", [0, -1, 1.5, float("nan"), True, "200", 10**6])
def test_a_bad_ef_construction_is_refused_at_once(db: Database, ef: Any) -> None:
    with pytest.raises(ConfigError, match="expected ef_construction"):
        db["a"].refine(ef)
    assert len(db.tasks) == 0


def test_an_index_that_was_dropped_meanwhile_is_not_worked_on(db: Database, work: Work, bodies: Bodies) -> None:
    db._upkeep.submit("vacuum", "a", work)
    assert work.begun.wait(WAIT_S)
    dropped, made_anew = db["a"].vacuum(), db["a"].compress("float16")
    index = db["a"]
    db.drop_index("a")
    with pytest.raises(IndexNotFound):
        index.vacuum()
    db.create_index("a")
    work.go.set()
    for task in (dropped, made_anew):
        with pytest.raises(TaskFailed, match="was dropped") as caught:
            task.wait(WAIT_S)
        assert isinstance(caught.value.__cause__, IndexNotFound)
    assert bodies.calls == []


def test_a_read_only_database_is_not_worked_on(tmp_path: Any, bodies: Bodies) -> None:
    with Database.open(tmp_path / "db") as db:
        db.create_index("a")
    with Database.open(tmp_path / "db", read_only=True) as db:
        for call in (db["a"].vacuum, db["a"].refine, lambda: db["a"].compress("float16")):
            with pytest.raises(ReadOnlyDatabase):
                call()
        assert db._upkeep.submit("check_recall", "a", quick).wait(WAIT_S), "looking is allowed"
    assert bodies.calls == []
