from libc.stdint cimport uint32_t, uint64_t

from kektordb._types cimport slot_t, word_t

cdef enum:
    # A merge rewrites the base once per 1/32 of its size: 33 writes an entry in all, and at most 0.5 bytes a row for
    # the delta of 16-byte entries.
    MERGE_SHIFT = 5

ctypedef struct entry_t:
    uint64_t key
    slot_t slot
    uint32_t is_removal


cdef class Block:
    cdef char* data
    cdef readonly Py_ssize_t size  # bytes
    cdef Py_ssize_t allocated
    cdef int shrink(self, Py_ssize_t n_bytes) except -1


cdef Block new_block(Py_ssize_t n_bytes)


cdef class Coming:
    # What the postings of all fields tell their owner, and ask.
    cdef list full  # those that want to be merged
    cdef list parts  # those that entries are counted for
    cdef list roomy  # those with more room than they take by themselves
    cdef bint is_probe  # nothing may be made, see `Unprepared`


cdef class Postings:
    cdef Block index  # keys or starts, see the subclasses
    cdef Block slots
    cdef Py_ssize_t n_base
    cdef Py_ssize_t n_live  # additions less removals, all time
    cdef entry_t* delta
    cdef Py_ssize_t n_delta
    cdef Py_ssize_t n_removals
    cdef Py_ssize_t delta_capacity
    cdef Py_ssize_t room  # entries up to which the delta may grow before `_grow_delta` looks at it again
    cdef Py_ssize_t merge_at
    cdef Coming coming  # where to say that a merge is due; None where nobody asks
    cdef Py_ssize_t n_coming  # entries counted by `append` for no slot
    cdef Block fresh_index  # the base that `prepare` wrote, or None
    cdef Block fresh_slots

    # With NO_SLOT the entry is only counted, for `reserve` to find.
    cdef int append(self, uint64_t key, slot_t slot, bint is_removal) except -1
    # Get the memory for the entries counted; no append of so many fails after it.
    cdef int reserve(self) except -1
    cdef bint has_room(self) noexcept nogil
    # Give back what `reserve` got beyond what a delta takes by itself.
    cdef void trim(self) noexcept
    # Write a new base with the delta in it, beside the present one: matching may go on meanwhile, changes may not.
    cdef int prepare(self) except -1
    # Let the new base take the place of the old one, before anything else changes. Nobody matches meanwhile.
    cdef int adopt(self) except -1
    cdef int purge(self, const word_t* alive, Py_ssize_t n_alive) except -1
    # With rows NULL the matches are only counted; removals clear bits, so rows must start empty when there are any.
    cdef Py_ssize_t match_range(self, uint64_t low, uint64_t high, word_t* rows) noexcept nogil
    cdef Py_ssize_t match_keys(self, const uint64_t* keys, Py_ssize_t n_keys, word_t* rows) noexcept nogil
    cdef Py_ssize_t match_terms(self, const word_t* selected, Py_ssize_t n_terms, word_t* rows) noexcept nogil

    cdef Py_ssize_t _match_base(self, uint64_t low, uint64_t high, word_t* rows) noexcept nogil
    cdef void _span(self, uint64_t low, uint64_t high, Py_ssize_t* start, Py_ssize_t* stop) noexcept nogil
    cdef int _merge_base(self, const entry_t* changes, Py_ssize_t n_changes) except -1
    cdef int _drop_dead(self, const word_t* alive, Py_ssize_t n_alive) except -1
    cdef int _grow_delta(self) except -1
    cdef int _merged(self) except -1
    cdef int _resize(self, Py_ssize_t capacity) except -1
    cdef bint _is_sound(self, Py_ssize_t n_slots, Py_ssize_t n_terms) noexcept nogil
    cdef bint _is_index_sound(self) noexcept nogil


cdef class Pairs(Postings):
    pass


cdef class Terms(Postings):
    cdef Py_ssize_t n_terms(self) noexcept nogil
