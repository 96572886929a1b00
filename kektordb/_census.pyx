"""What does a graph look like? Levels, degrees, and rows that no search can reach."""

from libc.stdint cimport uint8_t

from kektordb._bitmap cimport Bitmap, bitmap_get
from kektordb._hnsw cimport Graph
from kektordb._types cimport NO_SLOT, slot_t
from kektordb._walk cimport MAX_LEVEL, Core, list_of, load_slot, load_top, top_level

import numpy as np


cdef class Census:
    """A count of the rows of a graph, in slices: the collection's read lock is held during each call.

    What comes in after it was begun is not counted; links may change while it goes on.

    Parameters
    ----------
    graph : Graph

    Attributes
    ----------
    n : int
        Slots that are counted, those of deleted items included.
    n_reached : int
        Rows found so far on the links of the entry point, and theirs.
    levels : int64 (levels,)
        Rows by the highest level that they are on.
    degrees : int64 (most + 1,)
        Rows by how many others they link to on level 0.
    """

    cdef readonly Graph graph
    cdef readonly Py_ssize_t n, n_reached
    cdef Py_ssize_t n_followed
    cdef long long[::1] _levels, _degrees
    cdef uint8_t[::1] seen
    cdef slot_t[::1] queue

    def __cinit__(self, Graph graph not None):
        self.graph = graph
        self.n = graph.core.n
        self._levels = np.zeros(MAX_LEVEL + 1, np.int64)
        self._degrees = np.zeros(graph.core.m0 + 1, np.int64)
        self.seen = np.zeros(self.n + 1, np.uint8)
        self.queue = np.empty(self.n + 1, np.uint32)
        if self.n:
            self._see(<slot_t>load_top(&graph.core.top))

    @property
    def levels(self):
        """Rows by their highest level, up to the entry point's."""
        counts = np.asarray(self._levels)
        return counts[:top_level(load_top(&self.graph.core.top)) + 1].copy() if self.n else counts[:0].copy()

    @property
    def degrees(self):
        """Rows by the number of their links on level 0."""
        return np.asarray(self._degrees).copy()

    cdef void _see(self, slot_t slot) noexcept nogil:
        if slot < self.n and not self.seen[slot]:
            self.seen[slot] = 1
            self.queue[self.n_reached] = slot
            self.n_reached += 1

    def count(self, Py_ssize_t start, Py_ssize_t stop):
        """Count levels and links of the rows from `start` to `stop`."""
        cdef const Core* g = &self.graph.core
        cdef Py_ssize_t i, j
        cdef const slot_t* links
        with nogil:
            for i in range(start, stop):
                self._levels[g.levels[i]] += 1
                links = list_of(g, <slot_t>i, 0)
                j = 0
                while j < g.m0 and load_slot(links + j) != NO_SLOT:
                    j += 1
                self._degrees[j] += 1

    def reach(self, Py_ssize_t n_rows):
        """Follow the links of so many more rows that were reached; returns whether any are left."""
        cdef const Core* g = &self.graph.core
        cdef Py_ssize_t j
        cdef int level
        cdef slot_t row, slot
        cdef const slot_t* links
        with nogil:
            while n_rows > 0 and self.n_followed < self.n_reached:
                row = self.queue[self.n_followed]
                self.n_followed += 1
                n_rows -= 1
                for level in range(g.levels[row] + 1):
                    links = list_of(g, row, level)
                    for j in range(g.m if level else g.m0):
                        slot = load_slot(links + j)
                        if slot == NO_SLOT:
                            break
                        self._see(slot)
        return self.n_followed < self.n_reached

    def n_unreachable(self, Bitmap alive not None):
        """Count the living rows that were not reached."""
        cdef Py_ssize_t i, n = 0
        with nogil:
            for i in range(min(self.n, alive.n_bits)):
                n += bitmap_get(alive.words, <slot_t>i) and not self.seen[i]
        return n
