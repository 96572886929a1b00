"""How does a graph stay good? Rows get better links, and the living are moved to a graph without the dead.

`refine` links rows anew: each is searched for as if it came in now, what is found joins the neighbours that it has, and
the best of both are chosen. So what was linked in haste, or when there were few rows, becomes what a slow build makes.

A `Move` takes the living rows of one graph to a fresh one. Their lists are kept; a row that had dead neighbours gets
candidates for their places from where those lead to, further along the dead where they lead nowhere else. So no search
is needed for most. Rows for which that finds too few are refined; and what no walk from the entry point reaches is
linked by a search.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cython.parallel cimport prange, threadid
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from kektordb._codes cimport Codes
from kektordb._find cimport encode, margin, n_within
from kektordb._hnsw cimport Graph
from kektordb._insert cimport N_LOCKS, choose_neighbours, link_back, settle, write_list
from kektordb._memory cimport Region
from kektordb._team cimport team
from kektordb._types cimport NO_SLOT, key_t, slot_t
from kektordb._vectors cimport Vectors
from kektordb._walk cimport (
    Core,
    Scratch,
    Space,
    descend_wide,
    entry_of,
    key_of,
    list_of,
    load_slot,
    load_top,
    lock,
    mark,
    new_epoch,
    rekey,
    row_as_query,
    search_level,
    slot_of,
    sort_entries,
    top_level,
    unlock,
    walked,
)

import numpy as np

cdef enum:
    CANDIDATES = 12             # for the list of a row that lost neighbours, at most, times its length
    ENOUGH = 3                  # candidates, times that length, from which on the dead of the dead are left alone
    MANY_LOST = 4               # one in so many neighbours is dead: then those of the living are candidates as well
    MOST_DEAD = 128             # rows that are followed for one list
    CHANGED = 1                 # the list of a row is not what it was,
    POOR = 2                    # most of it was dead, or there were few candidates,
    TIED = 4                    # and they were compared exactly
    NEAREST = 10                # as in `_insert`: the tenth candidate,
    MANY_TIES = 32              # and how many others may be nearer

cdef uint64_t EMPTY = <uint64_t>-1


cdef inline const Space* true_space(const Core* g) noexcept nogil:
    """The space in which distances are those of the rows that are stored."""
    return walked(g) if g.only_codes else &g.exact


# ---------------------------------------------------------------------------------------------------------- refining

cdef Py_ssize_t join_neighbours(const Core* g, const Space* space, Scratch* s, slot_t slot, int level,
                                Py_ssize_t n) noexcept nogil:
    """Add those neighbours of a row to the `n` sorted candidates in the pool that are not among them."""
    cdef Py_ssize_t i, m = 0, most = g.m if level else g.m0
    cdef const slot_t* links = list_of(g, slot, level)
    cdef slot_t other
    new_epoch(s)
    for i in range(n):
        s.visited[slot_of(s.pool[i])] = s.epoch
    s.visited[slot] = s.epoch
    for i in range(most):
        other = load_slot(links + i)
        if other == NO_SLOT:
            break
        if s.visited[other] != s.epoch:
            s.visited[other] = s.epoch
            s.work[m] = other
            m += 1
    if m == 0:
        return n
    space.many(row_as_query(g, space, slot, s.query), space.rows, s.work, m, space.d, s.keys)
    for i in range(m):
        s.pool[n + i] = entry_of(s.keys[i], s.work[i])
    sort_entries(s.pool, n + m)
    return n + m


cdef Py_ssize_t link_anew(Core* g, const Space* space, Scratch* s, slot_t slot, int level,
                          Py_ssize_t n) noexcept nogil:
    """Choose the list of a row among `n` sorted candidates and the neighbours it has, write it, and link back.

    Returns how many candidates there are now in the pool, sorted.
    """
    cdef Py_ssize_t i, m, most = g.m if level else g.m0
    cdef uint8_t* stripe = &g.locks[slot % N_LOCKS]
    cdef slot_t* chosen
    lock(stripe)
    n = join_neighbours(g, space, s, slot, level, n)
    # There is room behind the candidates: what links back needs the rest of the scratch.
    chosen = <slot_t*>(s.pool + n)
    m = choose_neighbours(g, space, s, s.pool, n, most, slot)
    write_list(g, slot, level, s.chosen, m)
    memcpy(chosen, s.chosen, m * sizeof(slot_t))
    unlock(stripe)
    for i in range(m):
        link_back(g, space, s, chosen[i], slot, level)
    return n


cdef Py_ssize_t without(Scratch* s, Py_ssize_t n, slot_t slot) noexcept nogil:
    """Take a row out of the `n` entries of the pool. Returns how many are left."""
    cdef Py_ssize_t i, kept = 0
    for i in range(n):
        s.pool[kept] = s.pool[i]
        kept += slot_of(s.pool[i]) != slot
    return kept


cdef void improve(Core* g, Scratch* s, slot_t slot, Py_ssize_t ef) noexcept nogil:
    """Link a row of the graph anew on all its levels, `ef` candidates wide."""
    cdef const Space* space = walked(g)
    cdef const Space* linked
    cdef bint may_settle = g.coded and not g.only_codes
    cdef const float* row = <const float*>row_as_query(g, &g.exact, slot, s.query) if may_settle else NULL
    cdef const void* query = row_as_query(g, space, slot, s.query)
    cdef uint64_t top = load_top(&g.top)
    cdef int level, from_level = min(<int>g.levels[slot], top_level(top))
    cdef Py_ssize_t n
    if may_settle:
        encode(g, s, row, g.low, g.per_unit)
    n = without(s, descend_wide(g, space, s, query, top, from_level), slot)
    for level in range(from_level, -1, -1):
        if n == 0:
            # The entry point itself: nothing lies above it.
            n = join_neighbours(g, space, s, slot, level, 0)
            if n == 0:
                continue
        mark(s, n)
        s.visited[slot] = s.epoch
        n = search_level(g, space, s, query, level, n, ef, NULL)
        linked = settle(g, s, slot, row, level, ef, &n) if may_settle else space
        n = link_anew(g, linked, s, slot, level, n)
        if linked != space and level > 0:
            rekey(space, s, query, n)
        n = min(n, ef)


cdef int with_scratches(Graph graph, Py_ssize_t n_pool, int n_threads, Scratch** scratches) except -1:
    """Take scratch for each thread; `give_back` must follow in any case."""
    cdef int t
    for t in range(n_threads):
        scratches[t] = graph.take(n_pool)
        if scratches[t] == NULL:
            raise MemoryError("no memory to link rows")
    return 0


cdef int with_marks(Py_ssize_t n, int n_threads, Scratch** scratches) except -1:
    """Have marks for `n` slots: those of another graph."""
    cdef int t
    cdef uint8_t* visited
    for t in range(n_threads):
        if scratches[t].n_visited < n:
            visited = <uint8_t*>calloc(n, 1)
            if visited == NULL:
                raise MemoryError("no memory to link rows")
            free(scratches[t].visited)
            scratches[t].visited, scratches[t].n_visited, scratches[t].epoch = visited, n, 0
    return 0


cdef int give_back(Graph graph, int n_threads, Scratch** scratches) except -1:
    cdef int t
    for t in range(n_threads):
        if scratches[t] != NULL:
            graph.give(scratches[t])
    PyMem_Free(scratches)
    return 0


cdef Scratch** new_scratches(int n_threads) except NULL:
    cdef Scratch** scratches = <Scratch**>PyMem_Calloc(n_threads, sizeof(Scratch*))
    if scratches == NULL:
        raise MemoryError()
    return scratches


def refine(Graph graph not None, const uint32_t[::1] slots, Py_ssize_t ef, int n_threads):
    """Link rows anew. Releases the GIL; searches and `Graph.link` may run meanwhile.

    Parameters
    ----------
    graph : Graph
    slots : uint32 (n,)
        Of linked rows.
    ef : int
        Candidates that are kept.
    n_threads : int
        With one the graph depends only on what it was before.
    """
    cdef Py_ssize_t i, n = slots.shape[0]
    cdef int n_team
    cdef Scratch** scratches
    if n == 0:
        return
    scratches = new_scratches(n_threads)
    try:
        with_scratches(graph, ef + 3 * graph.core.m0, n_threads, scratches)
        with nogil:
            if n_threads == 1:
                for i in range(n):
                    improve(&graph.core, scratches[0], slots[i], ef)
            else:
                n_team = team(n_threads)
                for i in prange(n, num_threads=n_team, schedule="dynamic", chunksize=1):
                    improve(&graph.core, scratches[threadid()], slots[i], ef)
    finally:
        give_back(graph, n_threads, scratches)


# ------------------------------------------------------------------------------------------------------------ moving

cdef struct Route:
    const Core* old
    Core* fresh
    const slot_t* where         # by old slot: the new one, NO_SLOT of the dead
    Py_ssize_t n_old            # later ones have come in since: they are nobody's business
    const slot_t* source        # by new slot: the old one


cdef Py_ssize_t gather(const Route* r, Scratch* s, slot_t slot, int level, int* found) noexcept nogil:
    """Collect, as entries without keys, the living neighbours of a row and those that its dead ones lead to.

    Returns how many; `found` becomes what `CHANGED` and `POOR` say.
    """
    cdef Py_ssize_t j, n = 0, n_dead = 0, at = 0, direct, n_direct = 0, living = 0
    cdef Py_ssize_t most = r.old.m if level else r.old.m0
    cdef Py_ssize_t least = r.old.m
    cdef slot_t other
    cdef const slot_t* links = list_of(r.old, r.source[slot], level)
    new_epoch(s)
    s.visited[r.source[slot]] = s.epoch
    direct = -1
    while True:
        for j in range(most):
            other = load_slot(links + j)
            if other == NO_SLOT:
                break
            if other >= <slot_t>r.n_old or s.visited[other] == s.epoch:
                continue
            s.visited[other] = s.epoch
            if r.where[other] == NO_SLOT:
                if n_dead < MOST_DEAD:
                    s.work[n_dead] = other
                    n_dead += 1
            elif n < CANDIDATES * most:
                s.pool[n] = entry_of(0, r.where[other])
                n += 1
        if direct < 0:
            direct = n_dead
            n_direct = n
        if at < direct or (at < n_dead and n < ENOUGH * most):
            links = list_of(r.old, s.work[at], level)
            at += 1
        elif n_direct > direct > 0 and direct * MANY_LOST >= n_direct and living < n_direct:
            links = list_of(r.old, r.source[slot_of(s.pool[living])], level)
            living += 1
        else:
            found[0] = 0 if direct == 0 else CHANGED if n_direct > direct and n >= least else CHANGED | POOR
            return n


cdef const Space* rank(const Core* g, Scratch* s, slot_t slot, Py_ssize_t n) noexcept nogil:
    """Sort the `n` candidates for the list of a row. Returns the space in which to link it, as `settle` does."""
    cdef const Space* space = true_space(g)
    cdef const float* row = <const float*>row_as_query(g, space, slot, s.query)
    cdef key_t key
    if space == &g.exact and g.coded and n > 0:
        encode(g, s, row, g.low, g.per_unit)
        rekey(&g.codes, s, row_as_query(g, &g.codes, slot, s.query), n)
        key = key_of(s.pool[min(NEAREST, n) - 1])
        if (n_within(s.pool, n, <double>key + margin(g, s, key)) <= MANY_TIES
                and (g.product or key_of(s.pool[0]) >= 4 * (g.code_error + s.code_error))):
            return &g.codes
    rekey(space, s, row, n)
    return space


cdef int heal_row(const Route* r, Scratch* s, slot_t slot) noexcept nogil:
    """Write the lists of a moved row. Returns what `CHANGED` and `POOR` say."""
    cdef Core* g = r.fresh
    cdef int level, found = 0, all_found = 0
    cdef Py_ssize_t i, n, most
    cdef const Space* space
    for level in range(g.levels[slot] + 1):
        most = g.m if level else g.m0
        n = gather(r, s, slot, level, &found)
        if found:
            space = rank(g, s, slot, n)
            all_found |= found if level == 0 else CHANGED
            if space != walked(g):
                all_found |= TIED
            n = choose_neighbours(g, space, s, s.pool, n, most, slot)
        else:
            for i in range(n):
                s.chosen[i] = slot_of(s.pool[i])
        write_list(g, slot, level, s.chosen, n)
    return all_found


cdef void link_back_all(Core* g, const Space* space, Scratch* s, slot_t slot) noexcept nogil:
    cdef int level
    cdef Py_ssize_t i, most
    cdef const slot_t* links = <const slot_t*>s.pool
    for level in range(g.levels[slot] + 1):
        most = g.m if level else g.m0
        copy_links(<slot_t*>s.pool, list_of(g, slot, level), most)
        for i in range(most):
            if links[i] == NO_SLOT:
                break
            link_back(g, space, s, links[i], slot, level)


cdef void copy_links(slot_t* to, const slot_t* links, Py_ssize_t n) noexcept nogil:
    """Copy links that a writer may be changing: each is an old one or a new one."""
    cdef Py_ssize_t i
    for i in range(n):
        to[i] = load_slot(&links[i])


cdef class Move:
    """The way of the living rows of a graph to a fresh one.

    The calls follow one another: `reserve` and `copy` of all rows, `clear` and `look` at all old lists, `heal` of all
    rows, `crown`, `link_back` of all rows, `connect`. While `reserve`, `copy` and `look` run nothing may move the
    arrays of the old graph: hold the read lock of its collection. The others use the fresh graph alone.

    Parameters
    ----------
    old : Graph
    fresh : Graph
        Empty, and like the old one.
    n_old : int
        Slots of the old graph that are moved; what came in later is not.
    """

    cdef Graph old, fresh
    cdef Vectors source_rows    # other rows may come to the old graph, these stay
    cdef double mean_square     # of a row of theirs
    cdef Core seen              # the old graph with lists as they were looked at
    cdef Region links, upper, upper_at, levels
    cdef slot_t[::1] where, source
    cdef uint8_t[::1] found
    cdef Py_ssize_t n_old

    def __cinit__(self, Graph old not None, Graph fresh not None, Py_ssize_t n_old):
        self.old = old
        self.fresh = fresh
        self.n_old = n_old
        self.where = np.full(n_old + 1, <slot_t>NO_SLOT, dtype=np.uint32)
        self.source = np.empty(n_old + 1, dtype=np.uint32)
        self.found = np.zeros(n_old + 1, dtype=np.uint8)
        self.seen = old.core
        self.source_rows = old.vectors
        self.mean_square = old.vectors.total_square / max(1, old.core.n)
        self.links, self.upper, self.upper_at, self.levels = Region(), Region(), Region(), Region()
        fresh.n_drawn = old.n_drawn
        if old.codes is not None:
            fresh.adopt(Codes(fresh.vectors, **old.codes.meta()))

    def reserve(self, const uint32_t[::1] slots):
        """Get the memory that `copy` takes. Raises MemoryError."""
        cdef Graph f = self.fresh
        cdef Py_ssize_t i, lists = f.n_upper, n = f.core.n + slots.shape[0]
        for i in range(slots.shape[0]):
            lists += self.old.core.levels[slots[i]]
        f.vectors.reserve(n)
        if f.codes is not None:
            f.codes.reserve(n)
        f.links.grow(<size_t>n * f.core.width * sizeof(slot_t))
        f.upper.grow(<size_t>lists * f.core.m * sizeof(slot_t))
        f.upper_at.grow(<size_t>n * sizeof(uint32_t))
        f.levels.grow(<size_t>n)
        f.changed.grow(<size_t>n)
        f.point()

    def copy(self, const uint32_t[::1] slots):
        """Copy the rows of living slots, ascending and behind those copied before, and return the first new slot.

        There is memory for them since `reserve`.
        """
        cdef Graph f = self.fresh
        cdef Graph o = self.old
        cdef Py_ssize_t i, n = slots.shape[0], first = f.core.n, level
        cdef Vectors rows = self.source_rows
        cdef Py_ssize_t row_bytes = rows.stride * rows.item_bytes
        with nogil:
            for i in range(n):
                memcpy(f.vectors.rows + (first + i) * row_bytes, rows.rows + slots[i] * row_bytes, row_bytes)
                if rows.factored:
                    f.vectors.factors[first + i] = rows.factors[slots[i]]
                level = o.core.levels[slots[i]]
                f.core.levels[first + i] = <uint8_t>level
                f.core.upper_at[first + i] = <uint32_t>f.n_upper
                f.n_upper += level
                self.where[slots[i]] = <slot_t>(first + i)
                self.source[first + i] = slots[i]
            memset(f.core.changed + first, 3, n)
        if f.codes is not None:
            f.codes.append(first + n)
        f.core.n = first + n
        f.vectors.total_square = self.mean_square * f.core.n
        f.point()
        return first

    def clear(self, Py_ssize_t start, Py_ssize_t stop):
        """Have the memory cleared that `look` will copy to: that takes longer than to copy, and needs no lock."""
        cdef Py_ssize_t list_bytes = self.seen.width * <Py_ssize_t>sizeof(slot_t)
        self.links.grow(self.n_old * list_bytes)
        with nogil:
            self.links.touch(start * list_bytes, stop * list_bytes)

    def look(self, Py_ssize_t start, Py_ssize_t stop):
        """Copy the lists of old slots, which follow those looked at before."""
        cdef Core* o = &self.old.core
        cdef Py_ssize_t list_bytes = o.width * <Py_ssize_t>sizeof(slot_t)
        cdef Py_ssize_t upper_bytes = o.m * <Py_ssize_t>sizeof(slot_t)
        cdef Py_ssize_t upper_start = o.upper_at[start], upper_stop = o.upper_at[stop - 1] + o.levels[stop - 1]
        self.links.grow(stop * list_bytes)
        self.upper.grow(upper_stop * upper_bytes)
        self.upper_at.grow(stop * sizeof(uint32_t))
        self.levels.grow(stop)
        with nogil:
            copy_links(<slot_t*>self.links.data + start * o.width, o.links + start * o.width, (stop - start) * o.width)
            memcpy(self.upper_at.data + start * sizeof(uint32_t), o.upper_at + start, (stop - start) * sizeof(uint32_t))
            memcpy(self.levels.data + start, o.levels + start, stop - start)
            if upper_stop > upper_start:
                copy_links(<slot_t*>self.upper.data + upper_start * o.m, o.upper + upper_start * o.m,
                           (upper_stop - upper_start) * o.m)
        self.seen.links = <slot_t*>self.links.data
        self.seen.upper = <slot_t*>self.upper.data
        self.seen.upper_at = <uint32_t*>self.upper_at.data
        self.seen.levels = <uint8_t*>self.levels.data

    cdef Route route(self) noexcept:
        cdef Route r
        r.old = &self.seen
        r.fresh = &self.fresh.core
        r.where = &self.where[0]
        r.n_old = self.n_old
        r.source = &self.source[0]
        return r

    def heal(self, Py_ssize_t first, Py_ssize_t n, int n_threads):
        """Write the lists of `n` new slots. Releases the GIL."""
        cdef Route r = self.route()
        cdef Scratch** scratches = new_scratches(n_threads)
        cdef Py_ssize_t i
        cdef int n_team
        try:
            with_scratches(self.fresh, CANDIDATES * r.fresh.m0, n_threads, scratches)
            with_marks(self.n_old, n_threads, scratches)
            with nogil:
                if n_threads == 1:
                    for i in range(first, first + n):
                        self.found[i] = heal_row(&r, scratches[0], <slot_t>i)
                else:
                    n_team = team(n_threads)
                    for i in prange(first, first + n, num_threads=n_team, schedule="dynamic", chunksize=16):
                        self.found[i] = heal_row(&r, scratches[threadid()], <slot_t>i)
        finally:
            give_back(self.fresh, n_threads, scratches)

    def crown(self):
        """Choose the entry point: the one that there was, or else the first of the rows on the highest level left."""
        cdef Graph f = self.fresh
        cdef Py_ssize_t i, best = -1
        cdef uint64_t top = self.old.core.top
        if top != EMPTY and <slot_t>top < <slot_t>self.n_old and self.where[<slot_t>top] != NO_SLOT:
            best = self.where[<slot_t>top]
        with nogil:
            for i in range(f.core.n):
                if best < 0 or f.core.levels[i] > f.core.levels[best]:
                    best = i
        f.core.top = EMPTY if best < 0 else <uint64_t>f.core.levels[best] << 32 | <uint64_t>best

    def link_back(self, Py_ssize_t first, Py_ssize_t n, int n_threads):
        """Let the new neighbours of those of `n` new slots that have some link back, and refine those that found few.

        Releases the GIL.
        """
        cdef Core view = self.fresh.core
        cdef Core* g = &view
        cdef Scratch** scratches = new_scratches(n_threads)
        cdef Py_ssize_t i
        cdef int n_team
        cdef Py_ssize_t stop = first + n
        # What was found joins what was healed already: half as wide as an insertion is enough.
        g.ef_construction = max(g.m0, g.ef_construction // 2)
        try:
            with_scratches(self.fresh, g.ef_construction + 3 * g.m0, n_threads, scratches)
            with nogil:
                if n_threads == 1:
                    for i in range(first, stop):
                        self._link_back(g, scratches[0], i)
                else:
                    n_team = team(n_threads)
                    for i in prange(first, stop, num_threads=n_team, schedule="dynamic", chunksize=16):
                        self._link_back(g, scratches[threadid()], i)
        finally:
            give_back(self.fresh, n_threads, scratches)

    cdef void _link_back(self, Core* g, Scratch* s, Py_ssize_t slot) noexcept nogil:
        cdef const Space* space = walked(g)
        if self.found[slot] & TIED:
            space = &g.exact
        if self.found[slot] & CHANGED:
            link_back_all(g, space, s, <slot_t>slot)
        if self.found[slot] & POOR:
            improve(g, s, <slot_t>slot, g.ef_construction)


# ---------------------------------------------------------------------------------------------------- reaching all rows

cdef void spread(const Core* g, int level, uint8_t* reached, slot_t* queue, Py_ssize_t* n,
                 Py_ssize_t at) noexcept nogil:
    """Follow the links of a level from the rows in the queue, from place `at` on."""
    cdef Py_ssize_t j, most = g.m if level else g.m0
    cdef const slot_t* links
    cdef slot_t slot
    while at < n[0]:
        links = list_of(g, queue[at], level)
        at += 1
        for j in range(most):
            slot = links[j]
            if slot == NO_SLOT:
                break
            if not reached[slot]:
                reached[slot] = 1
                queue[n[0]] = slot
                n[0] += 1


cdef bint has_link(const Core* g, slot_t slot, int level, slot_t wanted) noexcept nogil:
    cdef Py_ssize_t j, most = g.m if level else g.m0
    cdef const slot_t* links = list_of(g, slot, level)
    for j in range(most):
        if links[j] == wanted:
            return True
        if links[j] == NO_SLOT:
            return False
    return False


cdef bint attach(Core* g, Scratch* s, slot_t slot, int level) noexcept nogil:
    """Link a row that no walk reaches from the nearest one that has room for it. Returns whether there was one."""
    cdef const Space* space = walked(g)
    cdef const void* query = row_as_query(g, space, slot, s.query)
    cdef Py_ssize_t i, n = descend_wide(g, space, s, query, g.top, level), most = g.m if level else g.m0
    mark(s, n)
    n = search_level(g, space, s, query, level, n, g.ef_construction, NULL)
    space = true_space(g)
    rekey(space, s, row_as_query(g, space, slot, s.query), n)
    for i in range(n):
        if list_of(g, slot_of(s.pool[i]), level)[most - 1] == NO_SLOT:
            link_back(g, space, s, slot_of(s.pool[i]), slot, level)
            return True
    # All are full: one may prefer it to a neighbour all the same.
    for i in range(n):
        link_back(g, space, s, slot_of(s.pool[i]), slot, level)
        if has_link(g, slot_of(s.pool[i]), level, slot):
            return True
    return False


def connect(Graph graph not None, Py_ssize_t most):
    """Link up to `most` rows that cannot be reached from the entry point, on any of their levels. Releases the GIL.

    Nothing else may use the graph meanwhile.

    Returns
    -------
    int
        How many were not reached. When that is `most`, there may be others.
    """
    cdef Core* g = &graph.core
    cdef Py_ssize_t i, n = 0, n_missed = 0, at
    cdef int level
    if g.n == 0:
        return 0
    reached_array, queue_array = np.zeros(g.n, np.uint8), np.empty(g.n, np.uint32)
    cdef uint8_t[::1] reached = reached_array
    cdef slot_t[::1] queue = queue_array
    cdef Scratch** scratches = new_scratches(1)
    try:
        with_scratches(graph, g.ef_construction, 1, scratches)
        with nogil:
            queue[0] = <slot_t>g.top
            reached[queue[0]] = 1
            n = 1
            for level in range(top_level(g.top), -1, -1):
                spread(g, level, &reached[0], &queue[0], &n, 0)
                for i in range(g.n):
                    if reached[i] or g.levels[i] < level or n_missed == most:
                        continue
                    n_missed += 1
                    attach(g, scratches[0], <slot_t>i, level)
                    reached[i] = 1
                    at = n
                    queue[n] = <slot_t>i
                    n += 1
                    spread(g, level, &reached[0], &queue[0], &n, at)
    finally:
        give_back(graph, 1, scratches)
    return n_missed
