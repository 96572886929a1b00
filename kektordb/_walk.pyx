"""How is one level of the graph searched? Best first, from some entries to the nearest rows.

Algorithm 2 of Malkov & Yashunin (2016), see `_hnsw`, with one sorted pool instead of two heaps, several candidates
expanded per step, and work lists that grow without a branch. The same for rows as they are stored and for their codes.
"""

from libc.math cimport sqrt
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcpy, memset

from kektordb._distance cimport TAIL_BYTES, QueryTail
from kektordb._memory cimport is_refused
from kektordb._types cimport NO_SLOT, key_t, slot_t, word_t

cdef enum:
    BEAM = 4                    # candidates expanded per step (benchmarks/search.py: 3 and 4 are best)
    WIDE = 4                    # pool of the upper levels where greed would end in a wrong cluster
    INSERTION_SORT = 128        # entries up to which that is the fastest
    FIRST_CHECK = 64            # expansions after which a filtered walk looks at its hit rate for the first time

cdef uint64_t EMPTY = <uint64_t>-1
# Keys of codes with factors are whole numbers: a product as large as it may be is so many. Lengths of rows as their
# codes have them may be somewhat larger than what they were.
cdef double KEY_RANGE = 1 << 30


# ----------------------------------------------------------------------------------------- rows of bytes as queries

cdef double key_scale(const Core* g, double square) noexcept nogil:
    """Return by how much a key grows with a product, for a query whose length has this square."""
    if g.cosine:
        return KEY_RANGE
    return KEY_RANGE / sqrt(square * g.longest_square) if square * g.longest_square > 0 else 0


cdef uint32_t key_origin(const Core* g) noexcept nogil:
    """Return the key of the product 0: so that equal directions have the key 0, or, for `dot`, in the middle."""
    return 1 << 30 if g.cosine else <uint32_t>1 << 31


cdef const void* row_as_code(const Core* g, slot_t slot, float* buffer) noexcept nogil:
    cdef QueryTail* tail = <QueryTail*>(<char*>buffer + g.codes.d)
    memcpy(buffer, g.codes.rows + <Py_ssize_t>slot * g.codes.row_bytes, g.codes.d)
    tail.scale = <float>(key_scale(g, g.longest_square) * g.factors[slot])
    tail.origin = key_origin(g)
    tail.factors = g.factors
    return buffer


cdef const void* row_as_floats(const Core* g, slot_t slot, float* buffer) noexcept nogil:
    cdef const uint8_t* row = <const uint8_t*>g.exact.rows + <Py_ssize_t>slot * g.exact.row_bytes
    cdef QueryTail* tail = <QueryTail*>(buffer + g.exact.d)
    cdef Py_ssize_t j
    for j in range(g.exact.d):
        buffer[j] = g.factors[slot] * <float>(<int>row[j] - 128) if g.factored else g.unit * <float>row[j]
    tail.scale = g.unit
    tail.factors = g.factors
    return buffer


# ------------------------------------------------------------------------------------------------------------ the walk

cdef inline Py_ssize_t merge(uint64_t* pool, Py_ssize_t size, Py_ssize_t most, const uint64_t* found, Py_ssize_t n,
                             Py_ssize_t* cursor) noexcept nogil:
    """Merge sorted `found` into the sorted pool, from the back, keeping the `most` smallest. Returns the new size.

    The cursor falls to the first place that was filled anew.
    """
    cdef Py_ssize_t i = size - 1, j = n - 1, out, excess = size + n - most
    while excess > 0:
        if i >= 0 and pool[i] > found[j]:
            i -= 1
        else:
            j -= 1
            if j < 0:
                return i + 1 if i + 1 < most else most
        excess -= 1
    out = i + j + 1
    size = out + 1
    while j >= 0:
        if i >= 0 and pool[i] > found[j]:
            pool[out] = pool[i]
            i -= 1
        else:
            pool[out] = found[j]
            j -= 1
            if out < cursor[0]:
                cursor[0] = out
        out -= 1
    return size


cdef inline Py_ssize_t count_allowed(const uint64_t* pool, Py_ssize_t n, const word_t* words) noexcept nogil:
    cdef Py_ssize_t i, total = 0
    cdef uint64_t slot
    for i in range(n):
        slot = slot_of(pool[i])
        total += words[slot >> 6] >> (slot & 63) & 1
    return total


cdef bint may_stop(Watch* watch, const uint64_t* pool, Py_ssize_t n) noexcept nogil:
    """Tell whether the `n` expanded candidates of a filtered walk hold enough, or promise that it would take too long.

    The promise is generous by two standard deviations of what was counted.
    """
    cdef double allowed = <double>count_allowed(pool, n, watch.words)
    if allowed >= watch.need:
        return True
    watch.hopeless = n * <double>watch.need / (allowed + 2 * sqrt(allowed) + 2) > watch.most
    return watch.hopeless


cdef const slot_t* patched(const Patch* patch, slot_t slot, const slot_t* links, Py_ssize_t most) noexcept nogil:
    """Return the list that a trial search shall see of a row."""
    cdef Py_ssize_t low = 0, high = patch.n, middle
    while low < high:
        middle = (low + high) // 2
        if patch.owners[middle] < slot:
            low = middle + 1
        else:
            high = middle
    return patch.lists + low * most if low < patch.n and patch.owners[low] == slot else links


cdef Py_ssize_t search_level(const Core* g, const Space* space, Scratch* s, const void* query, int level,
                             Py_ssize_t n_entries, Py_ssize_t ef, Watch* watch) noexcept nogil:
    """Search one level from the entries that lie in `s.pool` (sorted); leaves the best `ef` there. Returns how many.

    Every slot in the pool must have been marked as visited by the caller. With a watch the search may end sooner.
    """
    cdef Py_ssize_t size = n_entries, cursor = 0, taken, i, j, m, c, check_at = FIRST_CHECK
    cdef Py_ssize_t most = g.m if level else g.m0
    cdef uint64_t* pool = s.pool
    cdef uint64_t* found = s.candidates
    cdef uint64_t worst
    cdef uint8_t* visited = s.visited
    cdef uint8_t epoch = s.epoch
    cdef slot_t* work = s.work
    cdef key_t* keys = s.keys
    cdef const slot_t* links
    cdef const Patch* patch = s.patch if level == 0 else NULL
    cdef slot_t slot
    while True:
        taken = m = 0
        i = cursor
        while i < size and taken < BEAM:
            if not pool[i] & 1:
                slot = slot_of(pool[i])
                pool[i] |= 1
                taken += 1
                links = list_of(g, slot, level)
                if patch != NULL:
                    links = patched(patch, slot, links, most)
                # Without a branch: every slot is appended, and the next one overwrites it when it was seen before.
                for j in range(most):
                    slot = load_slot(links + j)
                    if slot == NO_SLOT:
                        break
                    work[m] = slot
                    m += visited[slot] != epoch
                    visited[slot] = epoch
            i += 1
        if taken == 0:
            return size
        cursor = i
        space.many(query, space.rows, work, m, space.d, keys)
        worst = pool[ef - 1] if size == ef else EMPTY
        c = 0
        for i in range(m):
            found[c] = entry_of(keys[i], work[i])
            c += found[c] < worst
        if level == 0:
            for i in range(c):
                links = g.links + <Py_ssize_t>(slot_of(found[i])) * g.width
                prefetch(links)
                prefetch(links + LINE_SLOTS)
        sort_candidates(found, c)
        if c > ef:
            c = ef
        if c:
            size = merge(pool, size, ef, found, c, &cursor)
        if watch != NULL and cursor >= check_at:
            if may_stop(watch, pool, cursor):
                return size
            check_at = cursor + cursor // 4 + BEAM


cdef uint64_t descend(const Core* g, const Space* space, Scratch* s, const void* query, uint64_t top,
                      int target) noexcept nogil:
    """Walk greedily from the entry point to level `target`. Returns the pool entry of the nearest node found."""
    cdef int level = top_level(top)
    cdef slot_t work = <slot_t>top, slot
    cdef uint64_t best, entry
    cdef key_t key
    cdef Py_ssize_t j, m
    cdef bint better
    cdef const slot_t* links
    space.many(query, space.rows, &work, 1, space.d, &key)
    best = entry_of(key, work)
    while level > target:
        better = True
        while better:
            better = False
            links = list_of(g, slot_of(best), level)
            m = 0
            for j in range(g.m):
                slot = load_slot(links + j)
                if slot == NO_SLOT:
                    break
                s.work[m] = slot
                m += 1
                # Its list is found through this, which takes as long to come as its row.
                prefetch(g.upper_at + slot)
            space.many(query, space.rows, s.work, m, space.d, s.keys)
            for j in range(m):
                entry = entry_of(s.keys[j], s.work[j])
                if entry < best:
                    best = entry
                    better = True
            if better:
                prefetch(list_of(g, slot_of(best), level))
        level -= 1
        prefetch(list_of(g, slot_of(best), level))
    return best


cdef Py_ssize_t mark(Scratch* s, Py_ssize_t n) noexcept nogil:
    """Begin a search from the first `n` entries of the pool: nothing else was visited, nothing expanded. Returns n."""
    cdef Py_ssize_t i
    new_epoch(s)
    for i in range(n):
        s.pool[i] &= ~<uint64_t>1
        s.visited[slot_of(s.pool[i])] = s.epoch
    if s.patch != NULL:
        s.visited[s.patch.hidden] = s.epoch
    return n


cdef Py_ssize_t descend_wide(const Core* g, const Space* space, Scratch* s, const void* query, uint64_t top,
                             int target) noexcept nogil:
    """Come down to level `target` with the best few of each level, left in the pool. Returns how many."""
    cdef int level
    cdef Py_ssize_t n = 1
    s.work[0] = <slot_t>top
    space.many(query, space.rows, s.work, 1, space.d, s.keys)
    s.pool[0] = entry_of(s.keys[0], s.work[0])
    for level in range(top_level(top), target, -1):
        n = search_level(g, space, s, query, level, mark(s, n), WIDE, NULL)
    return n


cdef int compare_entries(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = (<const uint64_t*>a)[0], y = (<const uint64_t*>b)[0]
    return (x > y) - (x < y)


cdef void sort_entries(uint64_t* a, Py_ssize_t n) noexcept nogil:
    if n <= INSERTION_SORT:
        sort_candidates(a, n)
    else:
        qsort(a, n, sizeof(uint64_t), compare_entries)


cdef void rekey(const Space* space, Scratch* s, const void* query, Py_ssize_t n) noexcept nogil:
    """Give the first `n` entries of the pool the keys of a space, and sort them."""
    cdef Py_ssize_t start, i, m
    for start from 0 <= start < n by CHUNK:
        m = n - start if n - start < CHUNK else CHUNK
        for i in range(m):
            s.work[i] = slot_of(s.pool[start + i])
        space.many(query, space.rows, s.work, m, space.d, s.keys)
        for i in range(m):
            s.pool[start + i] = entry_of(s.keys[i], s.work[i])
    sort_entries(s.pool, n)


cdef void free_scratch(Scratch* s) noexcept nogil:
    free(s.visited)
    free(s.pool)
    free(s.candidates)
    free(s.work)
    free(s.keys)
    free(s.chosen)
    free(s.chosen_keys)
    free(s.query)
    free(s.asked)
    free(s.row)
    free(s.code)
    free(s)


cdef void wipe_scratch(Scratch* s, const Core* g) noexcept nogil:
    """Forget queries: what stands behind their components, and where, goes with the precision of the rows."""
    memset(s.query, 0, g.codes.d * sizeof(float) + TAIL_BYTES)
    memset(s.asked, 0, g.codes.d * sizeof(float) + TAIL_BYTES)
    memset(s.row, 0, g.codes.d * sizeof(float) + TAIL_BYTES)
    memset(s.code, 0, g.codes.d + TAIL_BYTES)


cdef bint fit_scratch(Scratch* s, const Core* g, Py_ssize_t n_rows, Py_ssize_t n_pool) noexcept nogil:
    """Give scratch room for so many rows of the graph and a pool of `n_pool`. Returns 0 when there is no memory."""
    cdef Py_ssize_t n, n_work = BEAM * g.m0
    cdef uint8_t* visited
    cdef uint64_t* pool
    if s.work == NULL:
        n_work = CHUNK if n_work < CHUNK else n_work
        s.work = <slot_t*>malloc((n_work + 1) * sizeof(slot_t))
        s.keys = <key_t*>malloc((n_work + 1) * sizeof(key_t))
        s.candidates = <uint64_t*>malloc((n_work + 1) * sizeof(uint64_t))
        s.chosen = <slot_t*>malloc((g.m0 + 1) * sizeof(slot_t))
        s.chosen_keys = <key_t*>malloc((g.m0 + 1) * sizeof(key_t))
        # Codes fill whole lines, so their padding is the longest: rows of every precision fit.
        s.query = <float*>calloc(g.codes.d * sizeof(float) + TAIL_BYTES, 1)
        s.asked = <float*>calloc(g.codes.d * sizeof(float) + TAIL_BYTES, 1)
        s.row = <float*>calloc(g.codes.d * sizeof(float) + TAIL_BYTES, 1)
        s.code = <uint8_t*>calloc(g.codes.d + TAIL_BYTES, 1)
        if (s.work == NULL or s.keys == NULL or s.candidates == NULL or s.chosen == NULL or s.chosen_keys == NULL
                or s.query == NULL or s.asked == NULL or s.row == NULL or s.code == NULL):
            return False
    if s.n_visited < n_rows:
        n = n_rows + n_rows // 8 + 64
        visited = NULL if is_refused() else <uint8_t*>calloc(n, 1)
        if visited == NULL:
            return False
        free(s.visited)
        s.visited = visited
        s.n_visited = n
        s.epoch = 0
    # Insertion keeps a copied list of slots in the pool.
    if n_pool < g.m0:
        n_pool = g.m0
    if s.n_pool < n_pool:
        pool = NULL if is_refused() else <uint64_t*>realloc(s.pool, n_pool * sizeof(uint64_t))
        if pool == NULL:
            return False
        s.pool = pool
        s.n_pool = n_pool
    return True
