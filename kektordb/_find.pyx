"""How are the nearest rows of one query found? By a walk of the graph, or by reading all rows that may match.

Both go over the codes where there are any, and compare the best of what they found anew in the precision in which
rows are stored. Codes err: the known error of a row bounds how far two code distances may be from the true order, so
as many are compared anew as may be among the best k. Where that is all of them, because the codes cannot tell the
rows apart, or where a walk seems to have ended in a wrong cluster, the graph is walked again on the rows themselves.
"""

from libc.math cimport fabs, sqrt
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from kektordb._distance cimport QueryTail, distance_of_key
from kektordb._types cimport key_t, slot_t, word_t
from kektordb._vectors cimport scale_alone
from kektordb._walk cimport (
    CHUNK,
    Core,
    Scratch,
    Space,
    Watch,
    descend,
    descend_wide,
    entry_of,
    first_bit,
    key_of,
    key_origin,
    key_scale,
    load_top,
    mark,
    query_of,
    rekey,
    row_as_query,
    search_level,
    slot_of,
    sort_candidates,
    sort_entries,
    walked,
)

cdef enum:
    LINE_BYTES = 64
    MAX_EF = 65536
    LEAST_RERANKED = 20         # candidates that are compared anew, at least
    PROBES = 8                  # candidates by which a wrong cluster is known
    SEEDS = 8                   # of these, that a second walk starts from
    SCAN_KEPT = 32              # candidates of a scan of codes, at least
    SCAN_EXACT = 512            # rows up to which a scan does without codes
    ZERO = 0x80000000u          # key of a zero row, whose codes say nothing, for cosine

cdef uint64_t EMPTY = <uint64_t>-1

# Standard deviations of the error of a difference of two code distances that count as a tie.
cdef double TIE = 3
# A walk has ended in a wrong cluster when its candidates are so much nearer to each other than to the query. This never
# fired on words, descriptors, images and white noise, and always on clusters that a query is not in.
cdef double CLOSER = 0.25

# From this share of allowed rows on a walk goes as if there were no filter, and that is good with so many of the
# candidates that were wanted. So a few tombstones cost no more than their share (benchmarks/calibration.py).
cdef double NEARLY_ALL = 0.75
cdef double ENOUGH = 0.9

# When is reading all allowed rows cheaper than walking the graph? Measured by benchmarks/filters.py and search.py, 128
# and 784 dimensions (docs/decisions/0003-filtered-search.md): a walk costs WALK_NS, and WALK_LINE_NS per line of a row,
# for each candidate expanded; a scan costs SCAN_NS and SCAN_LINE_NS per line for each row.
cdef double WALK_NS = 300
cdef double WALK_LINE_NS = 32
cdef double SCAN_NS = 4
cdef double SCAN_LINE_NS = 3.5


# ------------------------------------------------------------------------------------------- what codes can tell apart

cdef void encode(const Core* g, Scratch* s, const float* row, float low, float per_unit) noexcept nogil:
    """Leave the codes of a row in `s.code`, and by how much they err."""
    cdef Py_ssize_t j
    s.code_square = 0
    if g.product:
        for j in range(g.dim):
            s.code_square += (<double>row[j] * per_unit) ** 2
    s.code_error = g.encode(row, g.dim, low, per_unit, s.code)


cdef void encode_query(const Core* g, Scratch* s) noexcept nogil:
    cdef Py_ssize_t j
    cdef float low = g.low, per_unit = g.per_unit, longest = 0, x
    if g.factored:
        encode_alone(g, s)
        return
    if g.product:
        # A product keeps its order whatever the length of the query: its codes take a range of their own.
        for j in range(g.dim):
            x = <float>fabs(s.query[j])
            longest = x if x > longest else longest
        per_unit = 127 / longest if longest > 1e-30 else 1
        low = -128 / per_unit
        s.code_scale = <double>per_unit * g.per_unit
    encode(g, s, s.query, low, per_unit)


cdef void encode_alone(const Core* g, Scratch* s) noexcept nogil:
    """Encode `s.query` on a scale of its own."""
    cdef Py_ssize_t j
    cdef float low = -128, per_unit = 1
    cdef double longest = 0, square = 0
    cdef QueryTail* tail = <QueryTail*>(s.code + g.codes.d)
    for j in range(g.dim):
        longest = max(longest, fabs(s.query[j]))
        square += <double>s.query[j] * s.query[j]
    if longest > 1e-30:
        scale_alone(longest, &low, &per_unit)
    memset(s.code + g.dim, 128, g.codes.d - g.dim)
    s.code_error = g.encode(s.query, g.dim, low, per_unit, s.code)
    s.code_origin = key_origin(g)
    s.code_scale = key_scale(g, square)
    s.code_square = s.code_scale * s.code_scale / (<double>per_unit * per_unit) * (1 if g.cosine else g.mean_square)
    tail.scale = <float>(s.code_scale / per_unit)
    tail.origin = <uint32_t>s.code_origin
    tail.factors = g.factors


cdef void ask(const Core* g, Scratch* s) noexcept nogil:
    """Make of `s.query` what rows of bytes are compared with."""
    cdef Py_ssize_t j
    cdef float low = 0 if g.factored else g.low
    cdef QueryTail* tail = <QueryTail*>(s.asked + g.exact.d)
    for j in range(g.dim):
        s.asked[j] = s.query[j] - low
    memset(s.asked + g.dim, 0, (g.exact.d - g.dim) * sizeof(float))
    tail.scale = g.unit
    tail.factors = g.factors


cdef double as_code_key(const Core* g, const Scratch* s, key_t key) noexcept nogil:
    """Turn a key of the stored precision into the key that the codes of such a row should have."""
    cdef double value = distance_of_key(key)
    if g.factored:
        return max(0., s.code_origin + value * s.code_scale)
    if g.product:
        # Padding is code 0 on both sides, which stands for -128.
        return 2147483648. - 16384. * (g.codes.d - g.dim) + value * s.code_scale
    if g.cosine:
        value = 2 + 2 * value
    return value * g.per_unit * g.per_unit


cdef double margin(const Core* g, const Scratch* s, double key) noexcept nogil:
    """How far beyond `key` another key may lie and be nearer all the same.

    The errors of components are taken as independent. For distances D with a mean squared error R of rows and of the
    query, the difference of two has the variance 2 R/d (D + R).
    """
    cdef double error
    if g.factored:
        # The rows are what their codes say: only those of the query err.
        return TIE * sqrt(2 * s.code_error / g.dim * s.code_square)
    if g.product:
        return TIE * sqrt(2 * (s.code_square * g.code_error + g.code_square * s.code_error) / g.dim)
    error = (0 if g.only_codes else g.code_error) + (s.code_error if s.code_error > g.code_error else g.code_error)
    return TIE * sqrt(2 * error / g.dim * (key + error))


cdef Py_ssize_t n_within(const uint64_t* pool, Py_ssize_t n, double limit) noexcept nogil:
    """Count the entries of a sorted pool whose keys are at most `limit`."""
    cdef Py_ssize_t i = 0
    while i < n and <double>key_of(pool[i]) <= limit:
        i += 1
    return i


cdef Py_ssize_t n_undecided(const Core* g, const Scratch* s, Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    """Count the first of `n` candidates that may be among the best k."""
    cdef key_t key
    if k > n:
        return n
    key = key_of(s.pool[k - 1])
    return n_within(s.pool, n, <double>key + margin(g, s, key))


# ------------------------------------------------------------------------------------------------------------ scanning

cdef void select_smallest(uint64_t* a, Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    """Bring the k smallest of `n` different entries to the front, the largest of them last: Hoare's FIND (1961)."""
    cdef Py_ssize_t left = 0, right = n - 1, i, j
    cdef uint64_t pivot
    while left < right:
        pivot = a[left + (right - left) // 2]
        i = left
        j = right
        while i <= j:
            while a[i] < pivot:
                i += 1
            while a[j] > pivot:
                j -= 1
            if i <= j:
                a[i], a[j] = a[j], a[i]
                i += 1
                j -= 1
        if j < k - 1:
            left = i
        if i > k - 1:
            right = j


cdef Py_ssize_t scan_rows(const Core* g, const Space* space, Scratch* s, const void* query, Py_ssize_t k,
                          const word_t* words) noexcept nogil:
    """Compare the query with every row of a bitmap; leaves the best `k` in `s.pool`, in no order. Returns how many.

    Without a bitmap all rows are read. What is better than the worst of the best k so far is gathered, and sifted
    whenever there are k too many.
    """
    cdef Py_ssize_t w, m = 0, size = 0, i, n_words = (g.n + 63) >> 6, capacity = scan_room(k) - CHUNK
    cdef word_t word
    cdef uint64_t worst = EMPTY, entry
    cdef slot_t* work = s.work
    cdef key_t* keys = s.keys
    cdef uint64_t* pool = s.pool
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
            work[m] = <slot_t>(w * 64 + first_bit(word))
            m += 1
            word &= word - 1
        # A word holds 64 rows at most, so there is always room for the next one.
        if m > CHUNK - 64 or (w == n_words and m > 0):
            space.many(query, space.rows, work, m, space.d, keys)
            for i in range(m):
                entry = entry_of(keys[i], work[i])
                pool[size] = entry
                size += entry < worst
            m = 0
            if size > capacity:
                select_smallest(pool, size, k)
                size = k
                worst = pool[k - 1]
    if size > k:
        select_smallest(pool, size, k)
        size = k
    return size


cdef inline Py_ssize_t scan_room(Py_ssize_t k) noexcept nogil:
    return 2 * k + 2 * CHUNK


cdef inline Py_ssize_t scan_pool(Py_ssize_t k) noexcept nogil:
    return 2 * k if 2 * k > SCAN_KEPT else SCAN_KEPT


cdef Py_ssize_t scan(const Core* g, Scratch* s, Py_ssize_t k, const word_t* words, Py_ssize_t n_allowed,
                     bint exactly) noexcept nogil:
    """Find the `k` nearest of all allowed rows. Returns how many.

    Unless `exactly`, their codes may rule rows out: what they then miss lies beyond three standard deviations.
    """
    cdef Py_ssize_t n, near = 0, i
    cdef double key, limit
    if g.coded and not exactly and n_allowed > SCAN_EXACT and k < n_allowed:
        n = scan_rows(g, &g.codes, s, s.code, scan_pool(k), words)
        select_smallest(s.pool, n, k)
        key = key_of(s.pool[k - 1])
        limit = key + margin(g, s, key)
        for i in range(n):
            near += <double>key_of(s.pool[i]) <= limit
        if near < n or n == n_allowed:
            near = min(n, max(near, 2 * k, LEAST_RERANKED))
            select_smallest(s.pool, n, near)
            rekey(&g.exact, s, query_of(g, s), near)
            key = as_code_key(g, s, key_of(s.pool[k - 1]))
            if n == n_allowed or (key <= limit and (not g.n_zero or key_of(s.pool[k - 1]) <= ZERO)):
                return k
    n = scan_rows(g, &g.exact, s, query_of(g, s), k, words)
    sort_entries(s.pool, n)
    return n


# ------------------------------------------------------------------------------------------------------------- walking

cdef double walk_ns(const Space* space) noexcept nogil:
    return WALK_NS + WALK_LINE_NS * space.row_bytes / LINE_BYTES


cdef double scan_ns(const Space* space) noexcept nogil:
    return SCAN_NS + SCAN_LINE_NS * space.row_bytes / LINE_BYTES


cdef Py_ssize_t enter(const Core* g, const Space* space, Scratch* s, const void* query, uint64_t* seeds,
                      Py_ssize_t n_seeds) noexcept nogil:
    """Come down to level 0 and leave the entries there in the pool, marked: the row nearest to the query.

    With seeds, which are such entries already, more than one row, and the seeds besides.
    """
    cdef uint64_t top = load_top(&g.top)
    cdef Py_ssize_t n, i
    if n_seeds == 0:
        s.pool[0] = descend(g, space, s, query, top, 0)
        return mark(s, 1)
    n = mark(s, descend_wide(g, space, s, query, top, 0))
    for i in range(n_seeds):
        if s.visited[slot_of(seeds[i])] != s.epoch:
            s.visited[slot_of(seeds[i])] = s.epoch
            s.pool[n] = seeds[i] & ~<uint64_t>1
            n += 1
    sort_candidates(s.pool, n)
    return n


cdef Py_ssize_t keep_allowed(uint64_t* pool, Py_ssize_t n, const word_t* words) noexcept nogil:
    cdef Py_ssize_t i, kept = 0
    cdef uint64_t slot
    for i in range(n):
        slot = slot_of(pool[i])
        pool[kept] = pool[i]
        kept += words[slot >> 6] >> (slot & 63) & 1
    return kept


cdef inline Py_ssize_t widened(Py_ssize_t n, Py_ssize_t ef, Py_ssize_t n_allowed) noexcept nogil:
    """Candidates of a filtered walk that hold `ef` allowed ones, with room for chance."""
    return <Py_ssize_t>(1.5 * ef * n / n_allowed) + 64


cdef inline Py_ssize_t with_left_out(Py_ssize_t n, Py_ssize_t ef, Py_ssize_t n_allowed) noexcept nogil:
    """Candidates of a walk, of which `ef` are allowed when few rows are not; with two standard deviations."""
    cdef double left_out = <double>(n - n_allowed) / n
    return <Py_ssize_t>((ef + 2 * sqrt(ef * left_out)) / (1 - left_out)) + 1


cdef Py_ssize_t walk(const Core* g, const Space* space, Scratch* s, const void* query, Py_ssize_t k, Py_ssize_t ef,
                     const word_t* words, Py_ssize_t n_allowed, uint64_t* seeds, Py_ssize_t n_seeds) noexcept nogil:
    """Walk the graph; leaves the allowed candidates in `s.pool`, sorted. Returns how many, or -1: a scan is better.

    Where nearly all rows are allowed, a pool that is larger by as much holds enough of them, unless the others are all
    where the query is. Any other filtered walk goes on until it has expanded as many allowed rows as an unfiltered one
    would. Its hit rate tells early how long that will take, whatever filter and distance have to do with each other.
    """
    cdef Py_ssize_t n, need, wide
    cdef Watch watch
    if words == NULL:
        n = search_level(g, space, s, query, 0, enter(g, space, s, query, seeds, n_seeds), ef, NULL)
        return n if n >= k else -1
    need = ef if ef < n_allowed else n_allowed
    if n_allowed >= NEARLY_ALL * g.n:
        wide = min(with_left_out(g.n, ef, n_allowed), s.n_pool)
        n = search_level(g, space, s, query, 0, enter(g, space, s, query, seeds, n_seeds), wide, NULL)
        n = keep_allowed(s.pool, n, words)
        if n >= k and n >= ENOUGH * need:
            return n
    watch.words = words
    watch.need = need
    watch.most = n_allowed * scan_ns(space) / walk_ns(space)
    watch.hopeless = False
    wide = min(widened(g.n, ef, n_allowed), g.n)
    while wide <= s.n_pool and wide < watch.most * 2:
        n = search_level(g, space, s, query, 0, enter(g, space, s, query, seeds, n_seeds), wide, &watch)
        if watch.hopeless:
            break
        n = keep_allowed(s.pool, n, words)
        if n >= need or (n >= k and 2 * n >= need):
            return n
        wide *= 4
    return -1


cdef bint in_wrong_cluster(const Core* g, Scratch* s, Py_ssize_t n) noexcept nogil:
    """Tell whether most of `n` candidates of a walk on codes are a cluster that the query does not belong to."""
    cdef double first = key_of(s.pool[0])
    cdef Py_ssize_t i, close = 0
    if g.product or key_of(s.pool[n - 1]) >= 2 * first:
        return False
    for i in range(PROBES):
        s.work[i] = slot_of(s.pool[(i + 1) * (n - 1) // PROBES])
    g.codes.many(row_as_query(g, &g.codes, slot_of(s.pool[0]), s.row), g.codes.rows, s.work, PROBES, g.codes.d, s.keys)
    for i in range(PROBES):
        close += s.keys[i] < CLOSER * first
    return 2 * close >= PROBES


cdef bint rerank(const Core* g, Scratch* s, Py_ssize_t n, Py_ssize_t k, Py_ssize_t sure, Py_ssize_t ef,
                 Py_ssize_t n_allowed) noexcept nogil:
    """Compare the best of `n` candidates of a walk on codes anew; leaves them sorted. Returns 0 if in doubt.

    In doubt about the first `sure` of the best k: of the others some may be missed. Where these are fewer than k, and k
    is all there are, nothing is compared.
    """
    # With few candidates the last is always near the k-th: then it is the middle that must stand out.
    cdef Py_ssize_t near = n_undecided(g, s, n, sure if ef >= 2 * sure else (ef + 1) // 2)
    cdef Py_ssize_t depth = max(2 * k, LEAST_RERANKED, near)
    cdef double key = key_of(s.pool[k - 1]), true
    cdef bint wrong = in_wrong_cluster(g, s, n)
    if sure < k and n <= k and not g.n_zero:
        return n >= n_allowed or (near < n and not wrong)
    rekey(&g.exact, s, query_of(g, s), depth if depth < n else n)
    true = as_code_key(g, s, key_of(s.pool[k - 1]))
    if true > key + margin(g, s, key):
        # Codes have lied: those that were clipped look nearer than they are. What they had pushed back comes in.
        near = 0
        while near < n - depth and <double>key_of(s.pool[depth + near]) <= true + margin(g, s, true):
            near += 1
        near += depth
        rekey(&g.exact, s, query_of(g, s), near if near < n else n)
    if g.n_zero and key_of(s.pool[k - 1]) > ZERO:
        return False
    return n >= n_allowed or (near < n and not wrong)


cdef Py_ssize_t find(const Core* g, Scratch* s, Py_ssize_t k, Py_ssize_t sure, Py_ssize_t ef, const word_t* words,
                     Py_ssize_t n_allowed) noexcept nogil:
    """Find the `k` nearest allowed rows of `s.query`; leaves them at the head of `s.pool`. Returns how many.

    With `ef` 0 every allowed row is compared. With `sure` below k they are candidates: the nearest `sure` are among
    them as in a search for so many, their order and their keys mean nothing, and the caller has yet to compare them.
    """
    cdef const Space* space = walked(g)
    cdef const void* query = s.code if g.coded else query_of(g, s)
    cdef uint64_t seeds[SEEDS]
    cdef Py_ssize_t n, i
    if n_allowed == 0:
        return 0
    if n_allowed == g.n:
        words = NULL
    if g.coded:
        encode_query(g, s)
    if g.only_codes:
        ask(g, s)
    if ef > 0 and n_allowed * scan_ns(space) > walk_ns(space) * ef * g.n / n_allowed:
        n = walk(g, space, s, query, k, ef, words, n_allowed, NULL, 0)
        if n >= 0 and g.coded and not rerank(g, s, n, k, sure, ef, n_allowed):
            n = SEEDS if n > SEEDS else n
            for i in range(n):
                seeds[i] = s.pool[i]
            n = walk(g, &g.exact, s, query_of(g, s), k, ef, words, n_allowed, seeds, n)
        if n >= 0:
            return k
    return scan(g, s, k, words, n_allowed, ef == 0)


cdef Py_ssize_t pool_size(Py_ssize_t n, Py_ssize_t k, Py_ssize_t ef, Py_ssize_t n_allowed) noexcept nogil:
    """Room for every pool that `find` may use."""
    cdef Py_ssize_t wide = ef
    if 0 < n_allowed < n:
        wide = widened(n, ef, n_allowed) * 4
    if wide > n:
        wide = n
    if wide > MAX_EF:
        wide = MAX_EF
    return max(wide, ef + SEEDS, scan_room(scan_pool(k)))
