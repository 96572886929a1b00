"""Room for the postings of texts that are yet to be added."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

cimport cython

from kektordb._lists cimport cell_t
from kektordb._textfield cimport TextField
from kektordb._types cimport slot_t


cdef struct Growth:
    # what the list of a term will be like
    uint32_t term
    uint32_t n_more             # postings to come; 0 in a place that is free
    cell_t cell                 # as it will be, while they fit into it
    bint is_cell
    bint is_loose               # they come in an order that is not known: bounds, no sizes
    bint is_measured            # `gaps` and `tfs` are of the whole tail
    slot_t last
    uint32_t n_tail
    uint32_t gaps               # of the tail, all bits that are in any
    uint32_t tfs
    uint32_t n_blocks           # more than there are
    uint64_t tail_at
    uint64_t used
    uint64_t needed


@cython.final
cdef class FieldRoom:
    cdef TextField field        # None for one that is yet to be made
    cdef Growth* places
    cdef Py_ssize_t n_places    # a power of two, or as many as there are terms
    cdef bint is_direct         # the place of a term is its number
    cdef Py_ssize_t next        # place whose list is the next to get its room
    cdef Py_ssize_t n_postings
    cdef Py_ssize_t n_terms
    cdef Py_ssize_t n_slots
    cdef Py_ssize_t n_texts
    cdef size_t n_bytes         # of forward lists
    cdef bint is_loose

    cdef int note(self, slot_t slot, const uint32_t* terms, Py_ssize_t n) except -1
    cdef int open(self) except -1
    cdef Growth* place_of(self, uint32_t term) noexcept nogil
    cdef void foresee(self, slot_t slot, const uint32_t* terms, const uint32_t* counts, Py_ssize_t n,
                      bint is_loose) noexcept nogil
    cdef int make(self, Py_ssize_t n_lists) except -1
    cdef void trim(self) noexcept nogil
