"""How is a snapshot written while the database goes on?"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

from kektordb.interrupts import Uninterrupted
from kektordb.progress import Progress, show
from kektordb.storage import SaveReport

if TYPE_CHECKING:
    from kektordb.database import Database

__all__ = ["save"]


def save(database: Database, progress: Progress) -> SaveReport | None:
    """Do what `Database.save` says, for a database that may be written to."""
    database._commits.lock.refuse_holder()
    store = database._store
    if store is None:
        return None
    began = perf_counter_ns()
    with database._save_lock.alone, Uninterrupted(in_slices=True):
        # 1. Under the commit lock, shortly: start a new log and freeze a view of the state.
        with database._commits.lock.alone:
            database._live()
            database._commits.require_applied()
            n_changes, apply_s = database._commits.n_changes, database._commits.apply_s
            ticket = store.begin_save()
            frozen = database._state.freeze(whole=False)
        # 2. Without it: write the view, publish it, remove what is no longer named.
        saved = False
        try:
            total = sum(section.n_bytes for section in frozen.sections)
            with show(progress, total, "saving", "B") as step:
                report = store.write_snapshot(
                    ticket, frozen.meta, frozen.sections, None if step is None else lambda done, _: step(done)
                )
                saved = True
                with database._commits.lock.alone:
                    database._commits.n_changes -= n_changes
                    database._commits.apply_s -= apply_s
                database._upkeep.note_save()
        finally:
            with database._commits.lock.alone:
                frozen.thaw(saved)
    database._upkeep.saves.note(perf_counter_ns() - began)
    database._upkeep.n_saved_bytes += report.bytes_written
    return report
