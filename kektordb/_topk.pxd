"""One text query: its C structures, and what `_bm25` asks for."""

from libc.stdint cimport uint32_t, uint64_t

from kektordb._lists cimport ROOM, List, Sealed, cell_t
from kektordb._types cimport slot_t, word_t

cdef enum:
    WINDOW = 2048               # slots that are scored together: their sums stay in the first-level cache
    MARK_WORDS = 32             # 64 of them a word


cdef struct Cursor:
    # a place in one list, which only moves on
    cell_t cell
    uint32_t term
    const List* list            # NULL: a few postings, decoded from the beginning
    Py_ssize_t n_list           # postings in it
    slot_t last
    const Sealed* blocks
    Py_ssize_t n_blocks
    Py_ssize_t block            # n_blocks: the tail; n_blocks + 1: the end
    slot_t block_last
    int n, at                   # postings decoded, -1 none yet; the next of them
    const uint32_t* lengths
    float weight                # idf included
    float at_zero, per_word     # score = weight * tf / (tf + at_zero + per_word * length)
    float most, block_most      # no posting of the list or of the block scores more
    double window_most          # and none in this window
    slot_t slots[ROOM]          # ends with NO_SLOT
    uint32_t tfs[ROOM]


cdef struct Words:
    # the texts of one field as slots have them, and what the query asks of it
    const uint64_t* start       # of the terms of each slot, in `data`
    const char* data
    const uint32_t* lengths
    Py_ssize_t n_slots
    uint64_t wanted             # a bit for each term asked for, by its last six
    int first, stop             # its cursors


cdef struct Scratch:
    Scratch* next
    Cursor* cursors
    int* order                  # of the cursors, by window_most
    double* bounds              # sums of window_most in that order
    Py_ssize_t n_cursors        # room for so many
    Py_ssize_t n                # in use
    Words* fields               # room as for cursors
    Py_ssize_t n_fields
    uint64_t* heap              # score << 32 | ~slot; the worst first
    Py_ssize_t n_heap           # room for so many
    Py_ssize_t k, found
    double threshold            # scores up to it are of no use
    const word_t* allowed       # NULL: all slots
    Py_ssize_t n_words
    bint is_sparse              # few slots are allowed: ask before scoring
    double sums[WINDOW]         # of the window, zero between windows
    word_t marks[MARK_WORDS]
    float part[ROOM]
    slot_t slots[ROOM]


cdef bint fit_scratch(Scratch* s, Py_ssize_t n_cursors, Py_ssize_t n_heap) noexcept nogil
cdef void free_scratch(Scratch* s) noexcept nogil
cdef void open_cursor(Cursor* c, cell_t cell, const uint32_t* lengths, float weight, float at_zero,
                      float per_word) noexcept nogil
cdef void find_best(Scratch* s) noexcept nogil
cdef void find_best_among(Scratch* s) noexcept nogil
# From the beginning: the scores of slots in ascending order. Before the first of them `look_ahead` may be told of all.
cdef void rewind(Scratch* s) noexcept nogil
cdef void look_ahead(const Scratch* s, const slot_t* slots, Py_ssize_t n) noexcept nogil
cdef void score_slots(Scratch* s, const slot_t* slots, Py_ssize_t n, float* scores) noexcept nogil
cdef uint32_t count_of(Cursor* c, slot_t slot) noexcept nogil
cdef void sort_best(Scratch* s) noexcept nogil
cdef int next_block(Cursor* c) noexcept nogil
