"""How are the living rows of an index copied into a fresh one? In slices, beside searches and writes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from kektordb._heal import Move, connect
from kektordb._vectors import Vectors
from kektordb.collection import Collection
from kektordb.operations import Operation
from kektordb.reserving import Reservations
from kektordb.text.fields import TermNumbers

__all__ = ["Copy", "Pace", "spare_threads"]

# What a collection holds that knows of slots.
_PARTS: Final = (
    *("graph", "ids", "metadata", "columns", "texts", "alive", "n_alive"),
    *("_reserved", "_filtered"),
)
Slots = npt.NDArray[np.uint32]

# Seconds that a slice may take while it keeps writers away, and so the searches behind them.
SLICE_S: Final = 0.001
# Seconds that one may take which is in nobody's way; after it comes the question whether to go on.
ALONE_S: Final = 0.02
# Between slices others get their turn of the interpreter.
PAUSE_S: Final = 1e-4
# Rows without a way to them that are linked at once.
CONNECT_ROWS: Final = 1 << 14


def spare_threads(n_threads: int) -> int:
    """Return how many of the threads for writing upkeep may use: it leaves a core to the searches that it is beside."""
    return max(1, n_threads - 1)


class Pace:
    """Cut rows into slices that take about as long as asked, whatever a row costs.

    Parameters
    ----------
    seconds : float
    first : int
        Rows of the first slice.
    """

    def __init__(self, seconds: float, first: int = 16) -> None:
        self._seconds = seconds
        self._n = first

    def slices(self, total: int) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) of each slice; the time until the next one is asked for is that of the slice."""
        start = 0
        while start < total:
            stop = min(total, start + self._n)
            began = time.perf_counter()
            yield start, stop
            took = max(time.perf_counter() - began, 1e-9)
            # Step by step: the first rows of a slice may be the cheap ones, and one that waited for the processor says
            # little of its rows.
            wanted = (stop - start) * self._seconds / took
            self._n = int(max(1, self._n / 2, min(2 * self._n, wanted)))
            start = stop
            time.sleep(PAUSE_S)


class Copy:
    """A fresh collection on its way to take the place of an old one.

    Made under the commit lock. `run` copies what was there then; what has come in since is in the journal.

    Parameters
    ----------
    old : Collection
        With at least one slot.
    n_threads : int

    Attributes
    ----------
    fresh : Collection
    journal : deque of Operation
        What was applied to the old collection since.
    """

    def __init__(self, old: Collection, n_threads: int) -> None:
        assert old.graph is not None
        self.old = old
        self.fresh = Collection(old.config)
        self.journal: deque[Operation] = deque()
        self._n_threads = n_threads
        self._n_slots = old.n_slots
        self._alive = old.alive.copy()
        self._terms = TermNumbers()
        graph = self.fresh._decide(old.dim)
        graph.exchange(Vectors.of_meta(old.dim, old.config.metric, old.graph.vectors.meta()))
        self._move = Move(old.graph, graph, self._n_slots)
        old.journal = self.journal

    def run(self, report: Callable[[int, int], None]) -> None:
        """Copy the rows and link them. `report` is told (done, total) after each slice, and may raise."""
        slots: Slots = np.frombuffer(self._alive.slots(), dtype=np.uint32)
        n = 0
        for start, stop in Pace(SLICE_S).slices(len(slots)):
            n += self._copy(slots[start:stop])
            report(stop, 3 * len(slots))
        for start, stop in Pace(SLICE_S).slices(self._n_slots):
            self._move.clear(start, stop)
            with self.old.lock.read:
                self._move.look(start, stop)
        for start, stop in Pace(ALONE_S).slices(n):
            self._move.heal(start, stop - start, self._n_threads)
            report(n + stop, 3 * n)
        self._move.crown()
        for start, stop in Pace(ALONE_S).slices(n):
            self._move.link_back(start, stop - start, self._n_threads)
            report(2 * n + stop, 3 * n)
        graph = self.fresh.graph
        assert graph is not None
        while connect(graph, CONNECT_ROWS) == CONNECT_ROWS:
            report(3 * n, 3 * n)

    def _copy(self, slots: Slots) -> int:
        """Copy the rows of slots, ascending ones, but for those deleted meanwhile. Returns how many."""
        old, fresh = self.old, self.fresh
        assert fresh.graph is not None
        with old.lock.read:
            self._move.reserve(slots)
        # Clearing new memory takes a while, and a writer that waits for it would keep searches waiting.
        fresh.graph.touch(len(slots))
        with old.lock.read:
            found = old.ids.get_many(slots)
            # A deleted item has no id; that it went is in the journal.
            ids = [id for id in found if id is not None]
            if len(ids) < len(found):
                slots = slots[[id is not None for id in found]]
            metadata = old.metadata.encoded(slots)
            texts = None if old.texts is None else old.texts.texts_at(slots)
            first = self._move.copy(slots)
        fresh.alive.resize(first + len(ids))
        fresh.alive.set_range(first, first + len(ids))
        fresh.n_alive += len(ids)
        fresh.ids.add_many(first, ids)
        fresh.metadata.put_many(first, metadata)
        fresh.columns.add_many(first, metadata)
        if texts is not None:
            assert fresh.texts is not None
            assert old.texts is not None
            fresh.texts.add_copies(first, texts, old.texts, self._terms)
        return len(ids)

    def take_over(self) -> None:
        """Have the old collection hold what the fresh one holds; the commit lock is held, and there is no frozen view.

        The fresh collection holds what the old one held then: no search need wait for that to be freed.
        """
        old, fresh = self.old, self.fresh
        slots: Slots = np.frombuffer(self._alive.slots(), dtype=np.uint32)
        # Rows keep their order, and so the next refinement goes on about where it would have.
        refined_to = int(np.searchsorted(slots, old.refined_to))
        with old.lock.write:
            for part in _PARTS:
                ours, theirs = getattr(old, part), getattr(fresh, part)
                setattr(old, part, theirs)
                setattr(fresh, part, ours)
            old._reservations, old.conversion = Reservations(old), None
            old.journal, old.refined_to = None, refined_to
