"""How do rows that were linked in haste get better links? They are searched for anew, a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kektordb._heal import refine as refine_rows
from kektordb.upkeep.copying import SLICE_S, Pace, spare_threads

if TYPE_CHECKING:
    from kektordb.database import Database
    from kektordb.tasks import Control

__all__ = ["refine"]


def refine(
    database: Database, name: str, control: Control, n_rows: int | None = None, ef_construction: int | None = None
) -> dict[str, Any]:
    """Link rows of an index anew, from where the last call stopped. Searches and writes go on.

    Parameters
    ----------
    database : Database
    name : str
    control : Control
        Asked between slices.
    n_rows : int, optional
        How many; all by default.
    ef_construction : int, optional
        Candidates kept for each; that of the index by default.

    Returns
    -------
    dict
        ``n_refined``, the items that were linked anew.

    Raises
    ------
    IndexNotFound
    """
    state = database._live()
    collection = state.collection(name)
    ef = ef_construction or collection.config.ef_construction
    with collection.lock.read:
        graph = collection.graph
        slots: npt.NDArray[np.uint32] = np.frombuffer(collection.alive.slots(), dtype=np.uint32)
    if graph is None:
        return {"n_refined": 0}
    start = int(np.searchsorted(slots, collection.refined_to))
    slots = np.concatenate([slots[start:], slots[:start]])[:n_rows]
    n_refined = 0
    for first, stop in Pace(SLICE_S, 1).slices(len(slots)):
        with collection.lock.read:
            if collection.graph is not graph:  # after a vacuum rows have other slots
                break
            living = np.array([slot for slot in slots[first:stop].tolist() if slot in collection.alive], np.uint32)
            refine_rows(graph, living, ef, spare_threads(state.n_threads))
        n_refined += len(living)
        collection.tally.n_changed += len(living)
        collection.refined_to = int(slots[stop - 1]) + 1
        control.report(stop, len(slots))
        control.check()
    return {"n_refined": n_refined}
