"""How does an index get rid of deleted items? The living ones are copied, and the copy takes its place."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from kektordb.collection import Collection
from kektordb.errors import IndexNotFound
from kektordb.operations import DeleteItems, Operation, PutItems
from kektordb.state import State
from kektordb.upkeep.copying import Copy, spare_threads

if TYPE_CHECKING:
    from kektordb.database import Database
    from kektordb.tasks import Control

__all__ = ["vacuum"]

# The copy follows what is written meanwhile until so few items are left, or for so many rounds: then writers wait.
FEW_ITEMS: Final = 256
ROUNDS: Final = 5
# A save is waited for, but a vacuum that is cancelled does not wait to its end.
WAIT_S: Final = 0.05


def vacuum(database: Database, name: str, control: Control) -> dict[str, Any]:
    """Remove the deleted items of an index, and what they left behind in each of its parts.

    Searches and writes go on. What is written meanwhile is noted, and applied to the copy before it takes over. Until
    then both are in memory; a vacuum that fails or is cancelled has changed nothing. It is not logged: a log that is
    replayed makes the deleted items again, until a save.

    Parameters
    ----------
    database : Database
    name : str
    control : Control
        Asked between slices.

    Returns
    -------
    dict
        ``n_removed``, deleted items whose slots were given back, and ``reclaimed_bytes``.

    Raises
    ------
    IndexNotFound
        There is none of this name, or it was dropped meanwhile.
    """
    commits = database._commits
    with commits.lock.alone:
        state = database._live()
        collection = state.collection(name)
        number = state.numbers[name]
        if collection.n_slots == len(collection):
            return {"n_removed": 0, "reclaimed_bytes": 0}
        copy = Copy(collection, spare_threads(state.n_threads))
    try:
        return _run(database, number, copy, control)
    finally:
        if collection.journal is copy.journal:
            collection.journal = None


def _run(database: Database, number: int, copy: Copy, control: Control) -> dict[str, Any]:
    collection = copy.old
    before = _memory(collection)

    def report(done: int, total: int) -> None:
        control.report(done, total)
        control.check()

    report(0, 1)
    copy.run(report)
    # The copy is a state of its own, in which operations mean what they mean anywhere.
    state = State(spare_threads(database._state.n_threads))
    state.collections[number] = copy.fresh
    for _ in range(ROUNDS):
        if sum(map(_n_items, tuple(copy.journal))) <= FEW_ITEMS:
            break
        _catch_up(state, copy.journal, control)
    # No frozen view of the old parts may be under way: what a save notes at its end is about them.
    while not database._save_lock.take_within(WAIT_S):
        control.check()
    try:
        _catch_up(state, copy.journal, control)
        control.check()
        with database._commits.lock.alone:
            _check_index(database, number, collection)
            _catch_up(state, copy.journal, None)
            n_removed = collection.n_slots - copy.fresh.n_slots
            copy.take_over()
            collection.tally.n_changed += n_removed
            # The snapshot, if there is one, holds them still.
            database._commits.n_changes += n_removed
    finally:
        database._save_lock.give_back()
    # Results that are still in use decode with the store that they came from, but need none of its rows.
    copy.fresh.metadata.give_up()
    return {"n_removed": n_removed, "reclaimed_bytes": before - _memory(collection)}


def _catch_up(state: State, journal: deque[Operation], control: Control | None) -> None:
    """Apply what the journal holds by now."""
    for _ in range(len(journal)):
        operation = journal.popleft()
        state.reserve(operation)
        state.apply(operation)
        if control is not None:
            control.check()
    state.tidy()


def _n_items(operation: Operation) -> int:
    return len(operation.ids) if isinstance(operation, PutItems | DeleteItems) else 1


def _check_index(database: Database, number: int, collection: Collection) -> None:
    if database._live().collections.get(number) is not collection:
        raise IndexNotFound("the index was dropped while it was vacuumed")


def _memory(collection: Collection) -> int:
    return int(collection.stats()["memory_bytes"]["total"])
