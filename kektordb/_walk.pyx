"""How does one search run? Level by level, from the entry point to the nearest rows; or over all rows that may match.

Algorithm 2 of Malkov & Yashunin (2016), see `_hnsw`, with one sorted pool instead of two heaps, several candidates
expanded per step, and work lists that grow without a branch.
"""

from libc.stdint cimport uint16_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc

from kektordb._types cimport NO_SLOT, key_t, slot_t, word_t

cdef enum:
    BEAM = 4                    # candidates expanded per step (benchmarks/search.py: 3 and 4 are best)
    SCAN_CHUNK = 256            # rows handed to the kernel at once by an exact scan
    MAX_EF = 65536
    SORT_FROM = 4096            # results from which sorting all rows once beats keeping a sorted pool

cdef uint64_t EMPTY = <uint64_t>-1

# When is reading all allowed rows cheaper than walking the graph? Measured by benchmarks/filters.py and search.py, 128
# and 784 dimensions (docs/decisions/0003-filtered-search.md): a walk costs WALK_NS, and WALK_LINE_NS per line of a row,
# for each unit of ef, which grows by n / allowed; a scan costs SCAN_NS and SCAN_LINE_NS per line for each row.
cdef double WALK_NS = 870
cdef double WALK_LINE_NS = 29
cdef double SCAN_NS = 4
cdef double SCAN_LINE_NS = 3.5


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


cdef Py_ssize_t search_level(const Core* g, Scratch* s, const float* query, int level, Py_ssize_t n_entries,
                             Py_ssize_t ef) noexcept nogil:
    """Search one level from the entries that lie in `s.pool` (sorted); leaves the best `ef` there. Returns how many.

    Every slot in the pool, and `s.visited` of it, must have been marked by the caller.
    """
    cdef Py_ssize_t size = n_entries, cursor = 0, taken, i, j, m, c
    cdef Py_ssize_t most = g.m if level else g.m0
    cdef uint64_t* pool = s.pool
    cdef uint64_t* found = s.candidates
    cdef uint64_t worst
    cdef uint16_t* visited = s.visited
    cdef uint16_t epoch = s.epoch
    cdef slot_t* work = s.work
    cdef key_t* keys = s.keys
    cdef const slot_t* links
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
        g.many(query, g.rows, g.stride, work, m, g.stride, keys)
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


cdef uint64_t descend(const Core* g, Scratch* s, const float* query, uint64_t top, int target) noexcept nogil:
    """Walk greedily from the entry point to level `target`. Returns the pool entry of the nearest node found."""
    cdef int level = top_level(top)
    cdef slot_t work = <slot_t>top, slot
    cdef uint64_t best, entry
    cdef key_t key
    cdef Py_ssize_t j, m
    cdef bint better
    cdef const slot_t* links
    g.many(query, g.rows, g.stride, &work, 1, g.stride, &key)
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
            g.many(query, g.rows, g.stride, s.work, m, g.stride, s.keys)
            for j in range(m):
                entry = entry_of(s.keys[j], s.work[j])
                if entry < best:
                    best = entry
                    better = True
        level -= 1
    return best


cdef Py_ssize_t walk(const Core* g, Scratch* s, const float* query, Py_ssize_t ef) noexcept nogil:
    """Search the whole graph; leaves the best `ef` in `s.pool`, sorted. Returns how many."""
    cdef uint64_t top = load_top(&g.top)
    if top == EMPTY:
        return 0
    new_epoch(s)
    s.pool[0] = descend(g, s, query, top, 0)
    s.visited[slot_of(s.pool[0])] = s.epoch
    return search_level(g, s, query, 0, 1, ef)


cdef int compare_entries(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = (<const uint64_t*>a)[0], y = (<const uint64_t*>b)[0]
    return (x > y) - (x < y)


cdef Py_ssize_t scan_rows(const Core* g, Scratch* s, const float* query, Py_ssize_t k,
                          const word_t* words) noexcept nogil:
    """Compare the query with every row of a bitmap; leaves the best `k` in `s.pool`, sorted. Returns how many.

    Without a bitmap all rows are read. Above `SORT_FROM` results the pool has room for all rows, and is sorted once.
    """
    cdef Py_ssize_t w, m = 0, size = 0, cursor = 0, i, c, n_words = (g.n + 63) >> 6
    cdef word_t word
    cdef uint64_t worst
    for w in range(n_words + 1):
        word = 0
        if w < n_words:
            if words != NULL:
                word = words[w]
            elif w < g.n >> 6:
                word = EMPTY
            else:
                word = (<word_t>1 << (g.n & 63)) - 1
        while word:
            s.work[m] = <slot_t>(w * 64 + first_bit(word))
            m += 1
            word &= word - 1
        # A word holds 64 rows at most, so there is always room for the next one.
        if m > SCAN_CHUNK - 64 or (w == n_words and m > 0):
            g.many(query, g.rows, g.stride, s.work, m, g.stride, s.keys)
            if k > SORT_FROM:
                for i in range(m):
                    s.pool[size + i] = entry_of(s.keys[i], s.work[i])
                size += m
            else:
                worst = s.pool[k - 1] if size == k else EMPTY
                c = 0
                for i in range(m):
                    s.candidates[c] = entry_of(s.keys[i], s.work[i])
                    c += s.candidates[c] < worst
                sort_candidates(s.candidates, c)
                if c > k:
                    c = k
                if c:
                    size = merge(s.pool, size, k, s.candidates, c, &cursor)
            m = 0
    if k > SORT_FROM:
        qsort(s.pool, size, sizeof(uint64_t), compare_entries)
        size = k if size > k else size
    return size


cdef Py_ssize_t keep_allowed(uint64_t* pool, Py_ssize_t n, const word_t* words) noexcept nogil:
    cdef Py_ssize_t i, kept = 0
    cdef uint64_t slot
    for i in range(n):
        slot = slot_of(pool[i])
        pool[kept] = pool[i]
        kept += words[slot >> 6] >> (slot & 63) & 1
    return kept


cdef Py_ssize_t find(const Core* g, Scratch* s, Py_ssize_t k, Py_ssize_t ef, const word_t* words,
                     Py_ssize_t n_allowed) noexcept nogil:
    """Find the `k` nearest allowed rows of `s.query`; leaves them at the head of `s.pool`. Returns how many.

    A filtered walk keeps ``ef * n / n_allowed`` candidates and drops those not allowed at the end. When a filter
    hangs together with the distance, far fewer remain than that promises: it is then walked again with four times
    as many while that is cheaper than reading all allowed rows, which is the end of it.
    """
    cdef Py_ssize_t wide, found, need
    cdef double scan_ns = n_allowed * (SCAN_NS + SCAN_LINE_NS * g.stride / LINE_SLOTS), walk_ns
    if n_allowed == 0:
        return 0
    walk_ns = (WALK_NS + WALK_LINE_NS * g.stride / LINE_SLOTS) * ef * g.n / n_allowed
    if n_allowed == g.n:
        words = NULL
    if scan_ns > walk_ns:
        if words == NULL:
            found = walk(g, s, s.query, ef)
            if found >= k:
                return k
        else:
            # Enough to be as sure of the k nearest as an unfiltered walk of this ef.
            need = 2 * k if 2 * k > ef // 2 else ef // 2
            if need > n_allowed:
                need = n_allowed
            wide = <Py_ssize_t>(<double>ef * g.n / n_allowed)
            while walk_ns < scan_ns and wide <= s.n_pool:
                found = keep_allowed(s.pool, walk(g, s, s.query, wide), words)
                if found >= need:
                    return k
                wide *= 4
                walk_ns *= 4
    return scan_rows(g, s, s.query, k, words)


cdef Py_ssize_t pool_size(Py_ssize_t n, Py_ssize_t k, Py_ssize_t ef, Py_ssize_t n_allowed) noexcept nogil:
    """Room for every pool that `find` may use."""
    cdef Py_ssize_t wide = ef
    if 0 < n_allowed < n:
        wide = <Py_ssize_t>(<double>ef * n / n_allowed) * 4
    if wide > n:
        wide = n
    if wide > MAX_EF:
        wide = MAX_EF
    if k > SORT_FROM:
        wide = n
    return max(wide, k, ef)


cdef void free_scratch(Scratch* s) noexcept nogil:
    free(s.visited)
    free(s.pool)
    free(s.candidates)
    free(s.work)
    free(s.keys)
    free(s.chosen)
    free(s.chosen_keys)
    free(s.query)
    free(s)


cdef bint fit_scratch(Scratch* s, const Core* g, Py_ssize_t n_pool) noexcept nogil:
    """Give scratch room for the rows of the graph and a pool of `n_pool`. Returns 0 when there is no memory."""
    cdef Py_ssize_t n, n_work = BEAM * g.m0
    cdef uint16_t* visited
    cdef uint64_t* pool
    if s.work == NULL:
        n_work = SCAN_CHUNK if n_work < SCAN_CHUNK else n_work
        s.work = <slot_t*>malloc((n_work + 1) * sizeof(slot_t))
        s.keys = <key_t*>malloc((n_work + 1) * sizeof(key_t))
        s.candidates = <uint64_t*>malloc((n_work + 1) * sizeof(uint64_t))
        s.chosen = <slot_t*>malloc((g.m0 + 1) * sizeof(slot_t))
        s.chosen_keys = <key_t*>malloc((g.m0 + 1) * sizeof(key_t))
        s.query = <float*>calloc(g.stride, sizeof(float))
        if (s.work == NULL or s.keys == NULL or s.candidates == NULL or s.chosen == NULL or s.chosen_keys == NULL
                or s.query == NULL):
            return False
    if s.n_visited < g.n:
        n = g.n + g.n // 8 + 64
        visited = <uint16_t*>calloc(n, sizeof(uint16_t))
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
        pool = <uint64_t*>realloc(s.pool, n_pool * sizeof(uint64_t))
        if pool == NULL:
            return False
        s.pool = pool
        s.n_pool = n_pool
    return True
