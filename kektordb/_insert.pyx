"""How does a row get its links? Search for its neighbours, choose among them, and link back.

Insertion is algorithm 1 of Malkov & Yashunin (2016), see `_hnsw`; neighbours are chosen by the heuristic of algorithm 4
without its two extensions. We differ in three ways:

* the levels above the row's own are searched with a small pool, not greedily: in tight clusters greed ends in the
  wrong one, and a new row would get no link to its own;
* where codes cannot tell the nearest rows apart, the search goes on with the rows themselves, and neighbours are chosen
  by true distances: a heuristic that sees only ties keeps duplicates and no far link;
* readers take no lock: a list is changed under a spin lock by storing aligned 32-bit slots, each of a row that is
  there already, so a reader sees old or new neighbours and both are right.
"""

from libc.math cimport log
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from kektordb._find cimport encode, margin, n_within
from kektordb._types cimport NO_SLOT, key_t, slot_t
from kektordb._walk cimport (
    MAX_LEVEL,
    Core,
    Scratch,
    Space,
    descend_wide,
    entry_of,
    key_of,
    list_of,
    load_flag,
    load_slot,
    load_top,
    lock,
    mark,
    rekey,
    row_as_query,
    search_level,
    set_flag,
    slot_of,
    sort_candidates,
    store_slot,
    store_top,
    top_level,
    unlock,
    walked,
)

cdef enum:
    AT_ONCE = 4                 # rows of one kernel call while neighbours are chosen
    NEAREST = 10                # the code distance of the tenth candidate,
    SAME = 4                    # equal rows among the neighbours of a row, at most
    MANY_TIES = 32              # and how many others may be nearer, tell whether codes are good enough

cdef uint64_t EMPTY = <uint64_t>-1


# ------------------------------------------------------------------------------------------------- changing a list

cdef void cow_copy(Core* g, Py_ssize_t chunk) noexcept nogil:
    """Keep a chunk of level 0 as it was when the view was frozen; of the last one, the rows that there are."""
    cdef Py_ssize_t first = chunk << COW_SHIFT, n = min(g.n - first, <Py_ssize_t>1 << COW_SHIFT)
    lock(&g.cow_locks[chunk])
    if not load_flag(&g.cow_done[chunk]):
        memcpy(g.cow_shadow + first * g.width, g.links + first * g.width, n * g.width * sizeof(slot_t))
        set_flag(&g.cow_done[chunk])
    unlock(&g.cow_locks[chunk])


cdef inline void before_change(Core* g, slot_t slot, int level) noexcept nogil:
    cdef Py_ssize_t chunk = slot >> COW_SHIFT
    if level == 0:
        g.changed[slot] = 3
        if chunk < g.cow_chunks and not load_flag(&g.cow_done[chunk]):
            cow_copy(g, chunk)


cdef void write_list(Core* g, slot_t slot, int level, const slot_t* chosen, Py_ssize_t n) noexcept nogil:
    cdef slot_t* target = <slot_t*>list_of(g, slot, level)
    cdef Py_ssize_t i, most = g.m if level else g.m0
    before_change(g, slot, level)
    for i in range(n):
        store_slot(target + i, chosen[i])
    for i in range(n, most):
        store_slot(target + i, NO_SLOT)


# ------------------------------------------------------------------------------------------------------- one insertion

cdef inline Py_ssize_t end_of_run(const uint64_t* candidates, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    """Return the end of the run of equal keys that begins at `i`."""
    cdef key_t key = key_of(candidates[i])
    while i < n and key_of(candidates[i]) == key:
        i += 1
    return i


cdef inline bint equal_rows(const Space* space, slot_t a, slot_t b) noexcept nogil:
    return memcmp(space.rows + a * space.row_bytes, space.rows + b * space.row_bytes, space.row_bytes) == 0


cdef Py_ssize_t choose_neighbours(const Core* g, const Space* space, Scratch* s, const uint64_t* candidates,
                                  Py_ssize_t n, Py_ssize_t most, slot_t owner) noexcept nogil:
    """Choose up to `most` neighbours among sorted candidates, into `s.chosen`: algorithm 4 of the paper.

    A candidate that is nearer to a chosen one than to the owner of the list is left out: it can be reached through that
    one. Of rows equal to the owner's only a few are chosen: there must be links to others. Among candidates that are
    truly tied every owner begins somewhere else: if all began with the first, the others could not be reached.
    """
    cdef Py_ssize_t i, j, m, done, n_chosen = 0, n_same = 0, at, start = 0, stop = 0
    cdef Py_ssize_t turn = <Py_ssize_t>(mix(owner) >> 40) if space == &g.exact or g.only_codes else 0
    cdef const void* row
    cdef slot_t slot
    cdef key_t key
    cdef bint good
    for i in range(n):
        if i == stop:
            start = i
            stop = end_of_run(candidates, n, i)
        at = i if stop - start == 1 else start + (i - start + turn) % (stop - start)
        slot = slot_of(candidates[at])
        if n >= most:
            if equal_rows(space, owner, slot) and (space == &g.exact or equal_rows(&g.exact, owner, slot)):
                n_same += 1
                if n_same > SAME:
                    continue
            row = row_as_query(g, space, slot, s.row)
            key = key_of(candidates[at])
            good = True
            done = 0
            # A few at a time: most candidates are turned down by one of the first.
            while good and done < n_chosen:
                m = n_chosen - done if n_chosen - done < AT_ONCE else AT_ONCE
                space.many(row, space.rows, s.chosen + done, m, space.d, s.chosen_keys)
                for j in range(m):
                    good = good and s.chosen_keys[j] >= key
                done += m
            if not good:
                continue
        s.chosen[n_chosen] = slot
        n_chosen += 1
        if n_chosen == most:
            break
    return n_chosen


cdef void link_back(Core* g, const Space* space, Scratch* s, slot_t slot, slot_t new, int level) noexcept nogil:
    """Add `new` to the list of `slot`, unless it is there; a full list is chosen anew among its members and `new`."""
    cdef Py_ssize_t i, n = 0, most = g.m if level else g.m0
    cdef slot_t* links = <slot_t*>list_of(g, slot, level)
    cdef uint8_t* stripe = &g.locks[slot % N_LOCKS]
    lock(stripe)
    while n < most and links[n] != NO_SLOT and links[n] != new:
        n += 1
    if n < most:
        if links[n] != new:
            before_change(g, slot, level)
            store_slot(links + n, new)
    else:
        memcpy(s.work, links, n * sizeof(slot_t))
        s.work[n] = new
        n += 1
        space.many(row_as_query(g, space, slot, s.row), space.rows, s.work, n, space.d, s.keys)
        for i in range(n):
            s.candidates[i] = entry_of(s.keys[i], s.work[i])
        sort_candidates(s.candidates, n)
        write_list(g, slot, level, s.chosen,
                   choose_neighbours(g, space, s, s.candidates, n, most, slot))
    unlock(stripe)


cdef const Space* settle(const Core* g, Scratch* s, slot_t slot, const float* row, int level,
                         Py_ssize_t ef, Py_ssize_t* n) noexcept nogil:
    """Make sure of the `n` candidates of a walk on codes. Returns the space in which the row is to be linked.

    Where the nearest are tied within their error, the search goes on with true distances, from all of them. Rows that
    are bytes are no more than their codes.
    """
    cdef Py_ssize_t at = (NEAREST if NEAREST < n[0] else n[0]) - 1
    cdef key_t key = key_of(s.pool[at])
    if g.only_codes:
        return &g.codes
    if n_within(s.pool, n[0], <double>key + margin(g, s, key)) > MANY_TIES:
        rekey(&g.exact, s, row, n[0])
        mark(s, n[0])
        s.visited[slot] = s.epoch
        n[0] = search_level(g, &g.exact, s, row, level, n[0], ef, NULL)
        return &g.exact
    if not g.product and key_of(s.pool[0]) < 4 * (g.code_error + s.code_error):
        rekey(&g.exact, s, row, n[0])
        return &g.exact
    return &g.codes


cdef void link_level(Core* g, Scratch* s, slot_t slot, const float* row, int level, Py_ssize_t* n,
                     const Space** linked) noexcept nogil:
    """Search one level from the `n` entries in the pool, write the row's list, and leave the entries of the next."""
    cdef const Space* space = walked(g)
    cdef const void* query = row_as_query(g, space, slot, s.query)
    linked[0] = space
    mark(s, n[0])
    s.visited[slot] = s.epoch
    n[0] = search_level(g, space, s, query, level, n[0], g.ef_construction, NULL)
    if g.coded:
        linked[0] = settle(g, s, slot, row, level, g.ef_construction, n)
    write_list(g, slot, level, s.chosen,
               choose_neighbours(g, linked[0], s, s.pool, n[0], g.m, slot))
    if linked[0] != space and level > 0:
        rekey(space, s, query, n[0])


cdef void insert(Core* g, Scratch* s, slot_t slot) noexcept nogil:
    """Link a row that `Graph.append` has put in place.

    It gets its own lists on all levels before any other row links to it.
    """
    cdef int level = g.levels[slot], from_level, at
    cdef uint64_t top = load_top(&g.top)
    cdef bint may_settle = g.coded and not g.only_codes
    cdef const float* row = <const float*>row_as_query(g, &g.exact, slot, s.query) if may_settle else NULL
    cdef bint raises = top == EMPTY or level > top_level(top)
    cdef Py_ssize_t n, i
    cdef const Space* space = walked(g)
    cdef const Space* linked[MAX_LEVEL + 1]
    cdef const slot_t* links
    cdef slot_t* chosen = <slot_t*>s.pool
    if raises:
        # Rare: the graph gets a new top. Whoever else raises it waits until this one is done.
        lock(&g.top_lock)
        top = load_top(&g.top)
    if top != EMPTY:
        if may_settle:
            encode(g, s, row, g.low, g.per_unit)
        from_level = level if level < top_level(top) else top_level(top)
        n = descend_wide(g, space, s, row_as_query(g, space, slot, s.query), top, from_level)
        for at in range(from_level, -1, -1):
            link_level(g, s, slot, row, at, &n, &linked[at])
        for at in range(from_level + 1):
            links = list_of(g, slot, at)
            # The list may grow meanwhile: whoever links to this row has linked both ways already.
            for i in range(g.m):
                chosen[i] = load_slot(links + i)
            for i in range(g.m):
                if chosen[i] == NO_SLOT:
                    break
                link_back(g, linked[at], s, chosen[i], slot, at)
    if raises:
        if top == EMPTY or level > top_level(top):
            store_top(&g.top, <uint64_t>level << 32 | slot)
        unlock(&g.top_lock)


# -------------------------------------------------------------------------------------------------------------- levels

cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    """Scramble a counter: the output function of SplitMix64 (Steele, Lea & Flood 2014)."""
    x += <uint64_t>0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef int draw_level(uint64_t seed, uint64_t counter, double factor) noexcept nogil:
    """Draw the level of the `counter`-th insertion: geometric with mean 1/ln(m), the same for every run and thread."""
    cdef double uniform = <double>((mix(seed ^ mix(counter)) >> 11) + 1) / <double>(<uint64_t>1 << 53)
    cdef double level = -log(uniform) * factor
    return MAX_LEVEL if level > MAX_LEVEL else <int>level
