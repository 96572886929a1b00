"""Which texts score highest? MaxScore in windows of slots, with the bounds of blocks.

After Turtle & Flood, "Query evaluation: strategies and optimizations" (1995), with block bounds as in Ding & Suel,
"Faster top-k document retrieval using block-max indexes" (2011). For each window of 2048 slots:

1. Each list says how much it can add in this window. If all together cannot pass the threshold, the score of the k-th
   best so far, nothing of the window is looked at.
2. Lists are put in order of that bound. Those that together cannot pass the threshold are optional: a text found only
   there is of no use. Postings of the others are scored, block by block, into sums by slot.
3. A text whose sum and what the optional lists may add pass the threshold is looked up in these, the strongest first,
   until it is known to fail or has its score.

Sums are in double precision of parts in single precision, so they do not depend on the order of the lists, and texts
alike tie exactly. Results are compared by score as float32, then by slot.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcpy

from kektordb._lists cimport (
    ROOM,
    blocks_of,
    bytes_of,
    cell_t,
    decode_block,
    decode_cell,
    decode_tail,
    impact_of,
    impact_score,
    length_of,
    list_in,
    n_blocks_of,
    n_of,
    n_tail_of,
)
from kektordb._strings cimport after_length
from kektordb._textfield cimport next_term
from kektordb._types cimport NO_SLOT, slot_t, word_t
from kektordb._walk cimport first_bit, prefetch

cdef enum:
    STEP = 8                    # postings passed at once on the way to a slot
    FEW_BLOCKS = 8              # more blocks in a window than that have the bound of the list
    WIDE = 4 * WINDOW           # blocks over more slots are decoded to see whether a window has any of them
    LINE_BYTES = 64
    LOOKUP_BYTES = 64           # of the terms of a text, which are read as soon as a slot is found in one list

# Bounds are computed in single precision, other than the scores; they must not lie below them.
cdef float UPWARDS = 1.000001


# ------------------------------------------------------------------------------------------------------------- memory

cdef bint fit_scratch(Scratch* s, Py_ssize_t n_cursors, Py_ssize_t n_heap) noexcept nogil:
    """Make room for so many lists and results. Returns 0 when there is no memory."""
    cdef void* moved
    if n_cursors > s.n_cursors:
        moved = realloc(s.cursors, n_cursors * sizeof(Cursor))
        if moved == NULL:
            return 0
        s.cursors = <Cursor*>moved
        moved = realloc(s.order, n_cursors * sizeof(int))
        if moved == NULL:
            return 0
        s.order = <int*>moved
        moved = realloc(s.bounds, n_cursors * sizeof(double))
        if moved == NULL:
            return 0
        s.bounds = <double*>moved
        moved = realloc(s.fields, n_cursors * sizeof(Words))
        if moved == NULL:
            return 0
        s.fields = <Words*>moved
        s.n_cursors = n_cursors
    if n_heap > s.n_heap:
        moved = realloc(s.heap, n_heap * sizeof(uint64_t))
        if moved == NULL:
            return 0
        s.heap = <uint64_t*>moved
        s.n_heap = n_heap
    return 1


cdef void free_scratch(Scratch* s) noexcept nogil:
    free(s.cursors)
    free(s.order)
    free(s.bounds)
    free(s.fields)
    free(s.heap)
    free(s)


# ------------------------------------------------------------------------------------------------------------ cursors

cdef void open_cursor(Cursor* c, cell_t cell, const uint32_t* lengths, float weight, float at_zero,
                      float per_word) noexcept nogil:
    """Stand before the first posting of a term that has any."""
    c.cell = cell
    c.list = list_in(cell)
    c.n_list = n_of(cell)
    c.lengths = lengths
    c.weight = weight
    c.at_zero = at_zero
    c.per_word = per_word
    c.blocks = NULL
    c.n_blocks = 0
    _go_back(c)


cdef void _go_back(Cursor* c) noexcept nogil:
    """Stand before the first posting."""
    if c.list == NULL:
        c.block = 0
        c.at = 0
        c.n = <int>decode_cell(c.cell, c.slots, c.tfs)
        c.last = c.block_last = c.slots[c.n - 1]
        c.slots[c.n] = NO_SLOT
        c.most = c.block_most = _bound(c, impact_of(c.slots, c.tfs, c.n, c.lengths))
    else:
        c.n_blocks = n_blocks_of(c.list)
        if c.n_blocks:
            c.blocks = blocks_of(c.list)
        c.last = c.list.last
        c.most = _bound(c, c.list.impact)
        c.block = -1
        next_block(c)
    c.window_most = c.most


cdef inline float _bound(const Cursor* c, uint32_t impact) noexcept nogil:
    return c.weight * impact_score(impact, c.at_zero, c.per_word) * UPWARDS


cdef int next_block(Cursor* c) noexcept nogil:
    """Go to the next block, which may be the tail; return 0 at the end."""
    c.block += 1
    c.n = -1
    c.at = 0
    if c.block < c.n_blocks:
        c.block_last = c.blocks[c.block].last
        c.block_most = _bound(c, c.blocks[c.block].impact)
        return 1
    if c.block == c.n_blocks and c.list != NULL and n_tail_of(c.list):
        c.block_last = c.last
        c.block_most = c.most
        return 1
    c.block = c.n_blocks + 1
    c.block_last = NO_SLOT
    c.block_most = 0
    c.n = 0
    c.slots[0] = NO_SLOT
    return 0


cdef inline void _settle(Cursor* c, slot_t slot) noexcept nogil:
    """Go to the block that has `slot`, if any has."""
    while c.block_last < slot:
        next_block(c)


cdef inline void _open_block(Cursor* c) noexcept nogil:
    if c.n >= 0:
        return
    if c.block < c.n_blocks:
        c.n = c.blocks[c.block].n
        decode_block(bytes_of(c.list), &c.blocks[c.block], _block_first(c) - 1, c.slots, c.tfs)
    else:
        c.n = <int>decode_tail(c.list, c.slots, c.tfs)
    c.slots[c.n] = NO_SLOT


cdef inline slot_t _block_first(const Cursor* c) noexcept nogil:
    """Return a slot before which the block has nothing."""
    return 0 if c.block == 0 else c.blocks[c.block - 1].last + 1


cdef inline void _advance(Cursor* c, slot_t slot) noexcept nogil:
    """Within the open block, go to the first posting not before `slot`."""
    cdef int at = c.at
    while at + STEP < c.n and c.slots[at + STEP] < slot:
        at += STEP
    while c.slots[at] < slot:
        at += 1
    c.at = at


cdef inline float _part(float weight, float tf, float norm) noexcept nogil:
    return weight * (tf / (tf + norm))


cdef uint32_t count_of(Cursor* c, slot_t slot) noexcept nogil:
    """Return how often the text of a slot has the term; the slot is not before the last one asked for."""
    _settle(c, slot)
    _open_block(c)
    _advance(c, slot)
    if c.slots[c.at] != slot or c.lengths[slot] == 0:
        return 0
    return c.tfs[c.at]


cdef inline double _add_from(Cursor* c, slot_t slot) noexcept nogil:
    """Return what the list adds to the score of a slot in the block where the cursor is."""
    _open_block(c)
    _advance(c, slot)
    if c.slots[c.at] != slot:
        return 0
    return _part(c.weight, <float>c.tfs[c.at], c.at_zero + c.per_word * length_of(c.lengths, slot))


# ------------------------------------------------------------------------------------------------------- given slots

cdef void rewind(Scratch* s) noexcept nogil:
    """Let all cursors begin again."""
    cdef Py_ssize_t i
    for i in range(s.n):
        _go_back(&s.cursors[i])


cdef void look_ahead(const Scratch* s, const slot_t* slots, Py_ssize_t n) noexcept nogil:
    """Ask for the terms of slots, of all at once: each read by itself would wait."""
    cdef Py_ssize_t i, f
    cdef const Words* words
    for f in range(s.n_fields):
        words = &s.fields[f]
        for i in range(n):
            prefetch(&words.lengths[slots[i]])
            prefetch(&words.start[slots[i]])
        for i in range(n):
            if _has_text(words, slots[i]):
                prefetch(words.data + words.start[slots[i]])
                prefetch(words.data + words.start[slots[i]] + LINE_BYTES)


cdef inline bint _has_text(const Words* words, slot_t slot) noexcept nogil:
    return <Py_ssize_t>slot < words.n_slots and words.lengths[slot] != 0


cdef void score_slots(Scratch* s, const slot_t* slots, Py_ssize_t n, float* scores) noexcept nogil:
    """Score slots that come in ascending order, after all that were scored before."""
    cdef Py_ssize_t i, f
    cdef double score
    for i in range(n):
        score = 0
        for f in range(s.n_fields):
            score += _score_words(s, &s.fields[f], slots[i])
        scores[i] = <float>score


cdef double _score_words(Scratch* s, const Words* words, slot_t slot) noexcept nogil:
    """Return the score of a slot in one field.

    Most texts have none of the words: that is known sooner from the terms of the text, unless it is long, than from the
    lists.
    """
    cdef double score = 0
    cdef size_t n_bytes = 0
    cdef const char* at
    cdef const char* end
    cdef uint32_t term = NO_SLOT
    cdef int i
    if not _has_text(words, slot):
        return 0
    at = after_length(words.data + words.start[slot], &n_bytes)
    if n_bytes > <size_t>(LOOKUP_BYTES * (words.stop - words.first)):
        for i in range(words.first, words.stop):
            score += _score_in(&s.cursors[i], slot)
        return score
    end = at + n_bytes
    while at < end:
        at = next_term(at, &term)
        if words.wanted >> (term & 63) & 1:
            for i in range(words.first, words.stop):
                if s.cursors[i].term == term:
                    score += _score_in(&s.cursors[i], slot)
    return score


cdef inline double _score_in(Cursor* c, slot_t slot) noexcept nogil:
    _settle(c, slot)
    return _add_from(c, slot)


# --------------------------------------------------------------------------------------------------------------- heap

cdef inline uint64_t _entry(float score, slot_t slot) noexcept nogil:
    cdef uint32_t bits
    memcpy(&bits, &score, 4)
    return <uint64_t>bits << 32 | <uint32_t>~slot


cdef void _keep(Scratch* s, slot_t slot, float score) noexcept nogil:
    """Put a result among the best, unless `k` better ones are there; zero is no result."""
    cdef uint64_t entry = _entry(score, slot)
    cdef uint64_t* heap = s.heap
    cdef Py_ssize_t i, child
    cdef float least
    cdef uint32_t bits
    if not score > 0:
        return
    if s.found < s.k:
        i = s.found
        s.found += 1
        while i and heap[(i - 1) >> 1] > entry:
            heap[i] = heap[(i - 1) >> 1]
            i = (i - 1) >> 1
        heap[i] = entry
        if s.found < s.k:
            return
    elif entry > heap[0]:
        i = 0
        child = 1
        heap[s.k] = <uint64_t>-1    # so that the last one has a sibling, which is never chosen
        while child < s.k:
            child += heap[child + 1] < heap[child]  # no branch: it would be foreseen half the time
            if heap[child] >= entry:
                break
            heap[i] = heap[child]
            i = child
            child = 2 * i + 1
        heap[i] = entry
    bits = <uint32_t>(heap[0] >> 32)
    memcpy(&least, &bits, 4)
    s.threshold = least


cdef int _compare(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = (<const uint64_t*>a)[0]
    cdef uint64_t y = (<const uint64_t*>b)[0]
    return -1 if x > y else x < y


cdef void sort_best(Scratch* s) noexcept nogil:
    """Order the results: the best first."""
    qsort(s.heap, s.found, sizeof(uint64_t), _compare)


# ------------------------------------------------------------------------------------------------------------ searching

cdef void find_best_among(Scratch* s) noexcept nogil:
    """Keep the best of the allowed slots by scoring each."""
    cdef Py_ssize_t w
    cdef word_t word
    cdef slot_t slot
    cdef float score
    for w in range(s.n_words):
        word = s.allowed[w]
        while word:
            slot = <slot_t>(w * 64 + first_bit(word))
            word &= word - 1
            score_slots(s, &slot, 1, &score)
            _keep(s, slot, score)


cdef void find_best(Scratch* s) noexcept nogil:
    """Keep the best of all slots that are allowed."""
    cdef uint64_t low = 0, stop = 0
    cdef Py_ssize_t i
    cdef double most
    for i in range(s.n):
        s.order[i] = <int>i
        stop = max(stop, <uint64_t>s.cursors[i].last + 1)
    while low < stop:
        if s.allowed == NULL or _any_allowed(s, low >> 6):
            most = 0
            for i in range(s.n):
                _bound_window(&s.cursors[i], <slot_t>low)
                most += s.cursors[i].window_most
            if most > s.threshold:
                _search_window(s, <slot_t>low)
        low += WINDOW


cdef inline word_t _allowed_word(const Scratch* s, Py_ssize_t word) noexcept nogil:
    return s.allowed[word] if word < s.n_words else 0


cdef bint _any_allowed(const Scratch* s, Py_ssize_t word) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(word, min(word + MARK_WORDS, s.n_words)):
        if s.allowed[i]:
            return True
    return False


cdef inline bint _is_allowed(const Scratch* s, slot_t slot) noexcept nogil:
    return s.allowed == NULL or (_allowed_word(s, slot >> 6) >> (slot & 63)) & 1


cdef void _bound_window(Cursor* c, slot_t low) noexcept nogil:
    """Set what the list can add to a score in the window that begins with `low`."""
    cdef uint64_t stop = <uint64_t>low + WINDOW
    cdef Py_ssize_t block
    cdef float most
    _settle(c, low)
    if c.n < 0 and c.block_last - _block_first(c) > WIDE:
        _open_block(c)
    if c.n >= 0:
        _advance(c, low)
        if c.slots[c.at] >= stop:
            c.window_most = 0
            return
    elif _block_first(c) >= stop:
        c.window_most = 0
        return
    most = c.block_most
    block = c.block
    while block < c.n_blocks and <uint64_t>c.blocks[block].last + 1 < stop:
        block += 1
        if block == c.n_blocks or block - c.block == FEW_BLOCKS:
            most = c.most
            break
        most = max(most, _bound(c, c.blocks[block].impact))
    c.window_most = most


cdef int _order_cursors(Scratch* s) noexcept nogil:
    """Put the cursors in order of their bounds, sum these up, and return how many are optional."""
    cdef Py_ssize_t i, j
    cdef int moved
    cdef int n_optional = 0
    cdef double total = 0
    for i in range(1, s.n):
        moved = s.order[i]
        j = i
        while j and s.cursors[s.order[j - 1]].window_most > s.cursors[moved].window_most:
            s.order[j] = s.order[j - 1]
            j -= 1
        s.order[j] = moved
    for i in range(s.n):
        total += s.cursors[s.order[i]].window_most
        s.bounds[i] = total
        if total <= s.threshold:
            n_optional += 1
    return n_optional


cdef void _search_window(Scratch* s, slot_t low) noexcept nogil:
    cdef int n_optional = _order_cursors(s)
    cdef Py_ssize_t i
    if n_optional == s.n:
        return
    if n_optional == s.n - 1:
        _search_single(s, &s.cursors[s.order[n_optional]], low, n_optional)
        return
    for i in range(n_optional, s.n):
        if s.cursors[s.order[i]].window_most > 0:
            _add_list(s, &s.cursors[s.order[i]], low)
    _take_sums(s, low, n_optional)


cdef inline int _score_run(Scratch* s, Cursor* c, int stop) noexcept nogil:
    """Score the postings from the cursor to `stop` and leave them in ``slots`` and ``part``; return how many."""
    cdef int i, n = 0
    cdef int first = c.at
    cdef const slot_t* slots = c.slots + first
    cdef const uint32_t* tfs = c.tfs + first
    cdef float weight = c.weight, at_zero = c.at_zero, per_word = c.per_word
    cdef float[ROOM] lengths, counts
    if s.allowed != NULL and s.is_sparse:
        for i in range(stop - first):
            s.slots[n] = slots[i]
            counts[n] = <float><int>tfs[i]
            n += _is_allowed(s, slots[i])
    else:
        n = stop - first
        memcpy(s.slots, slots, n * sizeof(slot_t))
        for i in range(n):
            counts[i] = <float><int>tfs[i]
    for i in range(n):
        lengths[i] = length_of(c.lengths, s.slots[i])
    for i in range(n):
        s.part[i] = _part(weight, counts[i], at_zero + per_word * lengths[i])
    c.at = stop
    return n


cdef inline int _run_end(const Cursor* c, uint64_t stop) noexcept nogil:
    """Return the first posting of the open block, from the cursor on, that is not before `stop`."""
    cdef int at = c.at
    if c.block_last < stop:
        return c.n
    while at + STEP < c.n and c.slots[at + STEP] < stop:
        at += STEP
    while c.slots[at] < stop:
        at += 1
    return at


cdef void _add_list(Scratch* s, Cursor* c, slot_t low) noexcept nogil:
    """Add what a list scores in the window to the sums."""
    cdef uint64_t stop = <uint64_t>low + WINDOW
    cdef int i, n
    cdef uint32_t at
    while True:
        if c.n < 0:
            if _block_first(c) >= stop:
                return
            _open_block(c)
        _advance(c, low)
        n = _score_run(s, c, _run_end(c, stop))
        for i in range(n):
            at = s.slots[i] - low
            s.sums[at] += s.part[i]
            s.marks[at >> 6] |= <word_t>1 << (at & 63)
        if c.at < c.n or not next_block(c):
            return


cdef void _take_sums(Scratch* s, slot_t low, int n_optional) noexcept nogil:
    """Look at each text of the window that has a sum, and clear the sums."""
    cdef double rest = s.bounds[n_optional - 1] if n_optional else 0
    cdef double score
    cdef word_t word
    cdef Py_ssize_t i
    cdef uint32_t at
    for i in range(MARK_WORDS):
        word = s.marks[i]
        s.marks[i] = 0
        while word:
            at = <uint32_t>(i * 64 + first_bit(word))
            word &= word - 1
            score = s.sums[at]
            s.sums[at] = 0
            if score + rest > s.threshold and _is_allowed(s, low + at):
                _complete(s, low + at, score, n_optional)


cdef void _search_single(Scratch* s, Cursor* c, slot_t low, int n_optional) noexcept nogil:
    """Search a window where only one list can bring in a text: no sums are needed, and weak blocks are passed over."""
    cdef uint64_t stop = <uint64_t>low + WINDOW
    cdef double rest = s.bounds[n_optional - 1] if n_optional else 0
    cdef int i, n
    while True:
        if c.n < 0 and _block_first(c) >= stop:
            return
        if c.block_most + rest <= s.threshold:
            if c.block_last >= stop or not next_block(c):
                return
            continue
        _open_block(c)
        _advance(c, low)
        n = _score_run(s, c, _run_end(c, stop))
        for i in range(n):
            if s.part[i] + rest > s.threshold and _is_allowed(s, s.slots[i]):
                _complete(s, s.slots[i], s.part[i], n_optional)
        if c.at < c.n or not next_block(c):
            return


cdef void _complete(Scratch* s, slot_t slot, double score, int n_optional) noexcept nogil:
    """Add what the optional lists have, and keep the result if it is good."""
    cdef int i = n_optional - 1
    cdef Cursor* c
    while i >= 0:
        if score + s.bounds[i] <= s.threshold:
            return
        c = &s.cursors[s.order[i]]
        if c.window_most > 0:
            _settle(c, slot)
            if score + c.block_most + (s.bounds[i - 1] if i else 0) <= s.threshold:
                return
            score += _add_from(c, slot)
        i -= 1
    _keep(s, slot, <float>score)
