"""Does what an index holds agree with itself? Graph, ids, living slots, columns, texts: each against another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kektordb.collection import Collection

__all__ = ["faults_of"]


def faults_of(collection: Collection) -> Iterator[str]:
    """Yield what does not hold. The read lock is taken in turns, so that writes go on; they are no faults."""
    with collection.lock.read:
        if collection.graph is not None:
            fault = collection.graph.fault()
            if fault:
                yield f"graph: {fault}"
        yield from _ids(collection)


def _ids(collection: Collection) -> Iterator[str]:
    n = collection.n_slots
    if collection.alive.n_bits != n or collection.alive.count() != collection.n_alive:
        found = f"{collection.alive.count()} of {collection.alive.n_bits} bits"
        yield f"alive: {found} for {collection.n_alive} items in {n} slots"
    if collection.ids.size != collection.n_alive:
        yield f"ids: {collection.ids.size} for {collection.n_alive} items"
    ids = collection.ids.get_many(np.arange(n, dtype=np.uint32))
    for slot, id in enumerate(ids):
        if (id is not None) != (slot in collection.alive):
            yield f"ids: slot {slot} has {'no id' if id is None else 'an id'}, but alive says otherwise"
        elif id is not None and collection.ids.find_str(id) != slot:
            yield f"ids: {id!r} of slot {slot} is found in slot {collection.ids.find_str(id)}"
