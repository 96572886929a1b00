"""Which items do a vector and words find, alone or together?

Together, without the GIL from the first to the last step:

1. The words find their best, and the vector its nearest: the candidates.
2. They are put in the order of slots; what both sides found is one candidate.
3. Each side scores what only the other one found, the vector only as much as matters. Codes and texts of these are
   asked for before they are read: nobody has read them lately.
4. Two scores become one (`_fusion`), and the best are chosen.
"""

from libc.math cimport NAN, isnan
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from kektordb._bitmap cimport Bitmap
from kektordb._bm25 cimport TextIndex
from kektordb._bounds cimport bound_distances, can_bound, look_ahead as look_ahead_codes
from kektordb._find cimport pool_size
from kektordb._fusion cimport make_parts, spread
from kektordb._hnsw cimport Graph
from kektordb._topk cimport Scratch as TextScratch, look_ahead, rewind, score_slots, sort_best
from kektordb._types cimport NO_SLOT, slot_t, word_t
from kektordb._walk cimport Core, Scratch, Space, query_of, sort_entries

cdef enum:
    # Candidates of each side: so many, or so many for each result.
    LEAST_CANDIDATES = 100
    CANDIDATES_PER_RESULT = 4
    MINMAX = 0                  # in `_fusion.METHODS`
    LEGACY = 3


# Scores are compared with bounds of scores, which are computed in another order.
cdef double ROUNDING = 1e-9


cdef class Hits:
    """The slots of a search, best first, and what is known of each.

    Attributes
    ----------
    n_candidates : int
        How many items they were chosen from.
    """

    def __dealloc__(self):
        free(self.block)
        self.block = NULL

    def __len__(self):
        return self.n

    def slot(self, Py_ssize_t i):
        """Return the slot of a hit."""
        return self.slots[i]

    def parts(self, Py_ssize_t i):
        """Return the sides of a hit as they go into its score, (float, float); None for both unless there are two."""
        return (None, None) if self.fused == NULL else (self.vector_parts[i], self.text_parts[i])


cdef Hits new_hits(Py_ssize_t n, bint has_vector, bint has_words):
    """Return room for `n` hits."""
    cdef Hits hits = Hits()
    cdef char* at
    hits.block = malloc((n + 1) * (3 * sizeof(double) + 2 * sizeof(float) + sizeof(slot_t)))
    if hits.block == NULL:
        raise MemoryError(f"no memory for the {n} results of a search")
    at = <char*>hits.block
    if has_vector and has_words:
        hits.fused = <double*>at
        hits.vector_parts = hits.fused + n
        hits.text_parts = hits.fused + 2 * n
    at += 3 * n * sizeof(double)
    if has_vector:
        hits.distances = <float*>at
    if has_words:
        hits.text_scores = <float*>at + n
    hits.slots = <slot_t*>at + 2 * n
    hits.n = n
    return hits


def by_vector(Graph graph not None, const float[::1] query not None, Py_ssize_t k, Py_ssize_t ef, Bitmap allowed,
              Py_ssize_t n_allowed):
    """Find the `k` nearest; None for a query that holds NaN or Inf or is too long. Parameters as for `by_both`."""
    cdef Hits hits = new_hits(min(k, n_allowed), True, False)
    hits.n = hits.n_candidates = graph.find(&query[0], k, ef, allowed, n_allowed, hits.slots, hits.distances)
    return None if hits.n < 0 else hits


def by_words(TextIndex index not None, words, Py_ssize_t k, Bitmap allowed, Py_ssize_t n_allowed):
    """Find the `k` that words fit best. Parameters as for `by_both`."""
    cdef TextScratch* s = index.open(words, min(k, n_allowed))
    cdef Hits hits
    cdef Py_ssize_t i
    try:
        with nogil:
            index.find(s, allowed, n_allowed)
            sort_best(s)
        hits = new_hits(s.found, False, True)
        for i in range(s.found):
            hits.slots[i] = ~<slot_t>s.heap[i]
            hits.text_scores[i] = as_float(<uint32_t>(s.heap[i] >> 32))
        hits.n_candidates = s.found
        return hits
    finally:
        index.give(s)


def by_both(Graph graph not None, const float[::1] query not None, TextIndex index not None, words, Py_ssize_t k,
            Py_ssize_t ef, Bitmap allowed, Py_ssize_t n_allowed, int method, double alpha):
    """Find the `k` best by a vector and by words; equal ones by slot.

    Parameters
    ----------
    graph : Graph
    query : float32 (dim,)
    index : TextIndex
    words : iterable of (field, term, weight)
        As for `TextIndex.search`.
    k, ef : int
        Results wanted, and candidates kept by the walk.
    allowed : Bitmap or None
        Only these slots are found; None: all.
    n_allowed : int
        How many they are.
    method : int
        Place in `_fusion.METHODS`.
    alpha : float
        Weight of the vector.

    Returns
    -------
    Hits or None
        None when the query holds NaN or Inf or is too long for float32 distances.
    """
    cdef Py_ssize_t n_near = max(LEAST_CANDIDATES, CANDIDATES_PER_RESULT * k), n_best = n_near
    cdef const float* point = &query[0]
    cdef Candidates found
    cdef Hits hits
    cdef TextScratch* s
    if method == LEGACY:
        # As the original: no more of the nearest than are wanted, and all that match the words.
        n_near, n_best = k, n_allowed
    found = Candidates(graph, index, min(n_near, n_allowed), min(n_best, n_allowed))
    hits = new_hits(min(k, found.room), True, True)
    s = index.open(words, found.most_best)
    try:
        with nogil:
            found.search(s, point, k, ef, allowed, n_allowed, method, alpha, hits)
    finally:
        index.give(s)
    if found.has_no_memory:
        raise MemoryError("no memory to search")
    return None if found.is_bad else hits


cdef class Candidates:
    """What both sides find in one search, with all that it needs on the way.

    Parameters
    ----------
    graph : Graph
    index : TextIndex
    most_near, most_best : int
        Candidates that the vector and the words may find.
    """

    cdef Graph graph
    cdef TextIndex index
    cdef Py_ssize_t most_near, most_best, room
    cdef bint is_bad, has_no_memory
    # by place, in the order of slots
    cdef Py_ssize_t n
    cdef slot_t* slots
    cdef float* distances       # NaN for what only the words found, until it is filled in
    cdef float* scores          # likewise
    cdef double* nearness       # and the parts that come of it
    cdef double* text
    cdef double* fused
    # some of them
    cdef Py_ssize_t n_selected
    cdef uint32_t* places
    cdef slot_t* selected
    cdef float* values
    # room on the way
    cdef uint32_t* found
    cdef uint64_t* entries
    cdef void* block

    def __cinit__(self, Graph graph, TextIndex index, Py_ssize_t most_near, Py_ssize_t most_best):
        cdef Py_ssize_t room = most_near + most_best + 1
        self.graph = graph
        self.index = index
        self.most_near = most_near
        self.most_best = most_best
        self.room = room - 1
        self.block = malloc(room * (4 * sizeof(double) + 7 * sizeof(uint32_t)))
        if self.block == NULL:
            raise MemoryError(f"no memory for {room} candidates")
        self.nearness = <double*>self.block
        self.text = self.nearness + room
        self.fused = self.text + room
        self.entries = <uint64_t*>(self.fused + room)
        self.slots = <slot_t*>(self.entries + room)
        self.distances = <float*>(self.slots + room)
        self.scores = self.distances + room
        self.places = <uint32_t*>(self.scores + room)
        self.selected = self.places + room
        self.found = self.selected + room
        self.values = <float*>(self.found + room)

    def __dealloc__(self):
        free(self.block)
        self.block = NULL

    cdef void search(self, TextScratch* words, const float* query, Py_ssize_t k, Py_ssize_t ef, Bitmap allowed,
                     Py_ssize_t n_allowed, int method, double alpha, Hits hits) noexcept nogil:
        """Take the steps that the module is about; leaves the best in `hits`."""
        cdef const Core* core = &self.graph.core
        cdef const word_t* rows = NULL if allowed is None else allowed.words
        cdef long long n_near = -1
        cdef Scratch* walk
        cdef bint is_bounded = method == MINMAX and can_bound(core)
        ef = min(max(ef, self.most_near, 1), max(core.n, 1)) if ef else 0
        walk = self.graph.take(pool_size(core.n, self.most_near, ef, n_allowed))
        if walk == NULL:
            self.has_no_memory = True
            return
        # Of the nearest, so many as are wanted must be the right ones; the others are there to be compared.
        self.graph.search_row(walk, query, self.most_near, min(k, self.most_near), ef, rows, n_allowed, self.found,
                              self.values, &n_near)
        self.is_bad = n_near < 0
        if not self.is_bad:
            self.index.find(words, allowed, n_allowed)
            self.join(n_near, words)
            if method == LEGACY:
                self.select(self.distances, False)
                self.compare_selected(walk)
                self.choose(hits, method, alpha)
                self.fill_hits(hits, walk, words)
            else:
                if is_bounded:
                    look_ahead_codes(core, self.slots, self.n)
                self.fill_scores(words)
                if not is_bounded or not self.compare_few(walk, hits.n, alpha):
                    self.fill_distances(walk)
                self.choose(hits, method, alpha)
        self.graph.give(walk)

    cdef void join(self, Py_ssize_t n_near, TextScratch* words) noexcept nogil:
        """Make one list, in the order of slots, of the nearest in ``found`` and of the best texts."""
        cdef Py_ssize_t i, j, n = 0, n_best = words.found
        cdef uint64_t* near = self.entries
        cdef uint64_t* best = self.entries + n_near
        cdef uint32_t a, b
        for i in range(n_near):
            near[i] = self.found[i]
        for j in range(n_best):
            best[j] = <uint64_t><uint32_t>~words.heap[j] << 32 | words.heap[j] >> 32
        sort_entries(near, n_near)
        sort_entries(best, n_best)
        i = j = 0
        while i < n_near or j < n_best:
            a = <uint32_t>near[i] if i < n_near else NO_SLOT
            b = <uint32_t>(best[j] >> 32) if j < n_best else NO_SLOT
            self.slots[n] = a if a < b else b
            self.distances[n] = 0 if a <= b else NAN
            self.scores[n] = as_float(<uint32_t>best[j]) if b <= a else NAN
            i += a <= b
            j += b <= a
            n += 1
        self.n = n

    cdef void select(self, const float* values, bint is_missing) noexcept nogil:
        """Select the candidates without a value, or those with one."""
        cdef Py_ssize_t i
        self.n_selected = 0
        for i in range(self.n):
            self.take(i, (isnan(values[i]) != 0) == is_missing)

    cdef void fill_scores(self, TextScratch* words) noexcept nogil:
        cdef Py_ssize_t i
        self.select(self.scores, True)
        if words.found < self.most_best:
            # The words have found all that have any of them.
            for i in range(self.n_selected):
                self.scores[self.places[i]] = 0
            return
        rewind(words)
        look_ahead(words, self.selected, self.n_selected)
        score_slots(words, self.selected, self.n_selected, self.values)
        for i in range(self.n_selected):
            self.scores[self.places[i]] = self.values[i]

    cdef void fill_distances(self, const Scratch* walk) noexcept nogil:
        cdef Py_ssize_t i
        self.n_selected = 0
        for i in range(self.n):
            self.take(i, True)
        self.compare_selected(walk)

    cdef void compare_selected(self, const Scratch* walk) noexcept nogil:
        cdef const Space* exact = &self.graph.core.exact
        cdef Py_ssize_t i
        exact.many(query_of(&self.graph.core, walk), exact.rows, self.selected, self.n_selected, exact.d, self.found)
        for i in range(self.n_selected):
            self.distances[self.places[i]] = self.graph.vectors.distance(self.found[i])

    cdef bint compare_few(self, const Scratch* walk, Py_ssize_t k, double alpha) noexcept nogil:
        """Fill in the distances that the best `k` by ``minmax`` depend on. Returns 0 where that is not known.

        These are the least, the largest, and those of the candidates that may be among the best. For the others codes
        give bounds, and there are three candidates in four whose rows, which nobody has read lately, are not read:

        1. Those are compared that may be the nearest or the farthest.
        2. With these every bound of a distance becomes a bound of a score. So many candidates score at least `limit`
           as are wanted: those are compared, too, that may score as much.
        3. The others get the largest distance that they may have. So they score less than `limit`.
        """
        cdef float* low = self.values
        cdef float* high = self.distances
        cdef double nearest, farthest, limit
        cdef Py_ssize_t i
        if self.n <= k or not bound_distances(&self.graph.core, walk, self.slots, self.n, self.found, low, high):
            return False
        nearest, farthest = high[0], low[0]
        for i in range(self.n):
            nearest, farthest = min(nearest, high[i]), max(farthest, low[i])
        self.n_selected = 0
        for i in range(self.n):
            self.take(i, low[i] <= nearest or high[i] >= farthest)
        self.compare_selected(walk)
        nearest = farthest = high[self.places[0]]
        for i in range(self.n_selected):
            low[self.places[i]] = high[self.places[i]]
            nearest, farthest = min(nearest, high[self.places[i]]), max(farthest, high[self.places[i]])
        if nearest == farthest:
            return False
        limit = self.limit(k, alpha, nearest, farthest)
        self.n_selected = 0
        for i in range(self.n):
            high[i] = <float>min(high[i], farthest)
            self.take(i, low[i] < high[i] and score_of(nearest, farthest, low[i], self.text[i], alpha) >= limit)
        self.compare_selected(walk)
        return True

    cdef inline void take(self, Py_ssize_t i, bint is_selected) noexcept nogil:
        """Add a candidate to the selected ones, if it is."""
        self.places[self.n_selected] = <uint32_t>i
        self.selected[self.n_selected] = self.slots[i]
        self.n_selected += is_selected

    cdef double limit(self, Py_ssize_t k, double alpha, double nearest, double farthest) noexcept nogil:
        """Return what the best `k` score at least, the rest being rounded off; leaves the text parts in ``text``."""
        cdef Py_ssize_t i
        for i in range(self.n):
            self.text[i] = self.scores[i]
        spread(self.text, self.n, 1 if self.text[0] > 0 else 0)
        for i in range(self.n):
            self.fused[i] = score_of(nearest, farthest, self.distances[i], self.text[i], alpha)
        choose_first(self.fused, self.n, k, self.places)
        return self.fused[self.places[k - 1]] - ROUNDING

    cdef void choose(self, Hits hits, int method, double alpha) noexcept nogil:
        """Make one score of two, and put the best into `hits`."""
        cdef Py_ssize_t i, at
        for i in range(self.n):
            self.nearness[i] = -<double>self.distances[i]
            self.text[i] = self.scores[i]
        make_parts(method, self.nearness, self.text, self.fused, self.n)
        for i in range(self.n):
            self.fused[i] = alpha * self.nearness[i] + (1 - alpha) * self.text[i]
        hits.n = min(hits.n, self.n)
        hits.n_candidates = self.n
        choose_first(self.fused, self.n, hits.n, self.places)
        for i in range(hits.n):
            at = self.places[i]
            hits.slots[i] = self.slots[at]
            hits.distances[i] = self.distances[at]
            hits.text_scores[i] = self.scores[at]
            hits.fused[i] = self.fused[at]
            hits.vector_parts[i] = self.nearness[at]
            hits.text_parts[i] = self.text[at]

    cdef void fill_hits(self, Hits hits, const Scratch* walk, TextScratch* words) noexcept nogil:
        """What a side did not find counts nothing, but it can be said."""
        cdef const Space* exact = &self.graph.core.exact
        cdef Py_ssize_t i, at
        exact.many(query_of(&self.graph.core, walk), exact.rows, hits.slots, hits.n, exact.d, self.found)
        for i in range(hits.n):
            hits.distances[i] = self.graph.vectors.distance(self.found[i])
            self.entries[i] = <uint64_t>hits.slots[i] << 32 | <uint64_t>i
        sort_entries(self.entries, hits.n)
        rewind(words)
        for i in range(hits.n):
            at = <uint32_t>self.entries[i]
            score_slots(words, &hits.slots[at], 1, &hits.text_scores[at])


cdef inline float as_float(uint32_t bits) noexcept nogil:
    cdef float value
    memcpy(&value, &bits, 4)
    return value


cdef inline double score_of(double nearest, double farthest, double distance, double text_part,
                            double alpha) noexcept nogil:
    """Return the score of a candidate by ``minmax``, but for rounding."""
    return alpha * (farthest - distance) / (farthest - nearest) + (1 - alpha) * text_part


cdef inline bint is_before(const double* fused, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    return fused[i] > fused[j] or (fused[i] == fused[j] and i < j)


cdef void choose_first(const double* fused, Py_ssize_t n, Py_ssize_t k, uint32_t* places) noexcept nogil:
    """Leave the places of the `k` largest of `n` in `places`, the largest first; ties by place. A heap sort."""
    cdef Py_ssize_t i
    for i in range(k):
        places[i] = <uint32_t>i
    for i in range(k // 2 - 1, -1, -1):
        sink(fused, places, i, k)
    for i in range(k, n):
        if k and is_before(fused, i, places[0]):
            places[0] = <uint32_t>i
            sink(fused, places, 0, k)
    for i in range(k - 1, 0, -1):
        places[0], places[i] = places[i], places[0]
        sink(fused, places, 0, i)


cdef void sink(const double* fused, uint32_t* places, Py_ssize_t i, Py_ssize_t size) noexcept nogil:
    """Let a place sink to where those below it are better: the worst is on top."""
    cdef uint32_t moved = places[i]
    cdef Py_ssize_t child = 2 * i + 1
    while child < size:
        if child + 1 < size and is_before(fused, places[child], places[child + 1]):
            child += 1
        if is_before(fused, places[child], moved):
            break
        places[i] = places[child]
        i = child
        child = 2 * i + 1
    places[i] = moved
