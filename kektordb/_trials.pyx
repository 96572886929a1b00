"""How well would rows of a graph be found if they had never come in? Trial searches that see it without them.

A recall is about queries that are not in the index. A row of it, taken as a query, is found too easily: the graph was
built around it. Left out, it is found too badly: its neighbours have lost the links through it, and in a graph that
never had it they would have others. So the lists that hold it are healed, for the eyes of its trial alone: a row that
chose it when it came in itself gets the nearest of its neighbours that the rule of insertion lets in.
"""

from libc.stdint cimport uint32_t, uint64_t

from kektordb._bitmap cimport Bitmap
from kektordb._find cimport pool_size
from kektordb._hnsw cimport Graph
from kektordb._types cimport NO_SLOT, key_t, slot_t, word_t
from kektordb._walk cimport (
    Core,
    Patch,
    Scratch,
    Space,
    entry_of,
    list_of,
    load_slot,
    row_as_query,
    slot_of,
    sort_candidates,
    walked,
)

import numpy as np


cdef Py_ssize_t place_of(const slot_t[::1] slots, slot_t slot) noexcept nogil:
    """Return where `slot` stands, or would stand, among ascending slots."""
    cdef Py_ssize_t low = 0, high = slots.shape[0], middle
    while low < high:
        middle = (low + high) // 2
        if slots[middle] < slot:
            low = middle + 1
        else:
            high = middle
    return low


def links_to(Graph graph not None, const slot_t[::1] slots, Py_ssize_t start, Py_ssize_t stop):
    """Find the lists of level 0, of the rows from `start` to `stop`, that hold one of some slots.

    Parameters
    ----------
    slots : uint32 (n,)
        Ascending.

    Returns
    -------
    uint64 (links,)
        The place in `slots` << 32 | the row whose list it is.
    """
    cdef const Core* g = &graph.core
    cdef Py_ssize_t i, j, n = 0, at
    cdef slot_t slot, last
    cdef const slot_t* links
    cdef Bitmap wanted = Bitmap(g.n)
    if slots.shape[0] == 0:
        return np.empty(0, np.uint64)
    for slot in slots:
        wanted.set(slot)
    last = slots[slots.shape[0] - 1]
    found = np.empty((stop - start) * g.m0 + 1, np.uint64)
    cdef uint64_t[::1] target = found
    cdef const word_t* words = wanted.words
    with nogil:
        for i in range(start, stop):
            links = list_of(g, <slot_t>i, 0)
            for j in range(g.m0):
                slot = load_slot(links + j)
                if slot == NO_SLOT:
                    break
                if slot <= last and words[slot >> 6] >> (slot & 63) & 1:
                    at = place_of(slots, slot)
                    target[n] = <uint64_t>at << 32 | <uint32_t>i
                    n += 1
    return found[:n].copy()


cdef class Trials:
    """Trial searches for some rows of a graph. The collection's read lock is held during each call.

    Parameters
    ----------
    graph : Graph
    slots : uint32 (n,)
        The rows; ascending, and on level 0 alone: no search begins at one of them.
    links : uint64 (links,)
        All that `links_to` finds for them; ascending.
    """

    cdef readonly Graph graph
    cdef readonly Py_ssize_t n
    cdef const slot_t[::1] slots
    cdef const float[:, ::1] queries
    cdef Py_ssize_t[::1] starts         # where the lists of a row begin
    cdef slot_t[::1] owners
    cdef slot_t[:, ::1] lists

    def __cinit__(self, Graph graph not None, slots, links):
        self.graph = graph
        self.n = len(slots)
        self.slots = slots
        self.queries = graph.vectors.get(slots)
        self.starts = np.searchsorted(links >> 32, np.arange(self.n + 1)).astype(np.intp)
        # One more than there may be: addresses are taken of the first.
        self.owners = np.append(links.astype(np.uint32), np.uint32(0))
        self.lists = np.empty((len(links) + 1, graph.core.m0), np.uint32)

    cdef Patch patch_of(self, Py_ssize_t i) noexcept nogil:
        cdef Patch patch
        cdef Py_ssize_t first = self.starts[i]
        patch.hidden = self.slots[i]
        patch.n = self.starts[i + 1] - first
        patch.owners = &self.owners[first]
        patch.lists = &self.lists[first, 0]
        return patch

    def heal(self, Py_ssize_t start, Py_ssize_t stop):
        """Make the lists that the trials of the rows from `start` to `stop` will see."""
        cdef Py_ssize_t i, at
        cdef Scratch* s = self.graph.take(1)
        if s == NULL:
            raise MemoryError("no memory for trial searches")
        with nogil:
            for i in range(start, stop):
                for at in range(self.starts[i], self.starts[i + 1]):
                    heal(&self.graph.core, s, self.owners[at], self.slots[i], &self.lists[at, 0])
            self.graph.give(s)

    def lists_of(self, Py_ssize_t i):
        """Return the healed lists that the trial of a row sees, by the row whose list it is."""
        return {
            int(self.owners[at]): [int(slot) for slot in self.lists[at] if slot != NO_SLOT]
            for at in range(self.starts[i], self.starts[i + 1])
        }

    def run(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t k, Py_ssize_t ef, const float[::1] limits, bint inside,
            Bitmap allowed, Py_ssize_t n_allowed):
        """Search for the rows from `start` to `stop`, and return which share of the `k` nearest others was found.

        Parameters
        ----------
        limits : float32 (n,)
            The distance of the k-th nearest of the others: what is no farther counts as found.
        inside : bool
            Leave the row in the graph, and pass over it in what was found.
        allowed, n_allowed
            As for `Graph.search`.

        Returns
        -------
        float64 (stop - start,)
        """
        cdef Py_ssize_t i, j, n_good, wanted = k + inside
        cdef const word_t* words = NULL if allowed is None else allowed.words
        cdef Patch patch
        cdef Scratch* s
        cdef long long found
        ef = min(max(ef + inside, wanted), self.graph.core.n)
        shares = np.zeros(stop - start)
        slots = np.empty(wanted, np.uint32)
        distances = np.empty(wanted, np.float32)
        cdef double[::1] target = shares
        cdef slot_t[::1] slots_view = slots
        cdef float[::1] distances_view = distances
        s = self.graph.take(pool_size(self.graph.core.n, wanted, ef, n_allowed))
        if s == NULL:
            raise MemoryError("no memory for trial searches")
        with nogil:
            for i in range(start, stop):
                patch = self.patch_of(i)
                s.patch = NULL if inside else &patch
                self.graph.search_row(s, &self.queries[i, 0], wanted, wanted, ef, words, n_allowed, &slots_view[0],
                                      &distances_view[0], &found)
                n_good = 0
                for j in range(found):
                    if slots_view[j] != self.slots[i]:
                        n_good += distances_view[j] <= limits[i]
                    elif not inside:
                        # No link leads to it: all rows were compared, and nothing was missed.
                        n_good = k
                        break
                target[i - start] = min(n_good, k) / <double>k
            s.patch = NULL
            self.graph.give(s)
        return shares


cdef void heal(const Core* g, Scratch* s, slot_t owner, slot_t gone, slot_t* healed) noexcept nogil:
    """Write the list that `owner` would have if `gone` had never come in.

    Rows that came in before `gone` did not choose it, it was added to their lists: they only lose it. This, and one
    row for one that is gone, came nearest to searches for rows that truly were not there (benchmarks/calibration.py).
    """
    cdef const Space* space = walked(g)
    cdef const slot_t* links = list_of(g, owner, 0)
    cdef Py_ssize_t i, j, n = 0, m = 0
    cdef slot_t slot
    cdef key_t key
    cdef bint is_new
    for j in range(g.m0):
        slot = load_slot(links + j)
        if slot == NO_SLOT:
            break
        if slot != gone:
            healed[n] = slot
            n += 1
    for j in range(n, g.m0):
        healed[j] = NO_SLOT
    if owner < gone or n == g.m0:
        return
    links = list_of(g, gone, 0)
    for j in range(g.m0):
        slot = load_slot(links + j)
        if slot == NO_SLOT:
            break
        is_new = slot != owner
        for i in range(n):
            is_new = is_new and healed[i] != slot
        if is_new:
            s.work[m] = slot
            m += 1
    space.many(row_as_query(g, space, owner, s.row), space.rows, s.work, m, space.d, s.keys)
    for i in range(m):
        s.candidates[i] = entry_of(s.keys[i], s.work[i])
    sort_candidates(s.candidates, m)
    for i in range(m):
        key = <key_t>(s.candidates[i] >> 32)
        slot = slot_of(s.candidates[i])
        space.many(row_as_query(g, space, slot, s.row), space.rows, healed, n, space.d, s.keys)
        is_new = True
        for j in range(n):
            is_new = is_new and s.keys[j] >= key
        if is_new:
            healed[n] = slot
            return
