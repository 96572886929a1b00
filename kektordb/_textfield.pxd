"""The texts of one field: its parts, and what `_bm25` asks for."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cimport cython

from kektordb._lists cimport cell_t
from kektordb._memory cimport Region
from kektordb._strings cimport Blobs
from kektordb._types cimport slot_t


@cython.final
cdef class TextField:
    cdef Region cells_region
    cdef Region lengths_region  # see _lists.ABSENT_BITS
    cdef cell_t* cells          # by term
    cdef Py_ssize_t n_terms     # one more than the largest term that any text ever had
    cdef uint32_t* lengths
    cdef Py_ssize_t n_slots     # one more than the largest slot that ever had a text
    cdef Blobs terms            # of each slot, deleted ones included until they are compacted
    cdef uint64_t dead_bytes    # of these, of deleted texts
    cdef Py_ssize_t n_docs
    cdef uint64_t total_length
    cdef uint64_t n_postings    # of texts that are not deleted

    cdef bint has(self, Py_ssize_t slot) noexcept nogil
    cdef cell_t cell_of(self, uint64_t term) noexcept nogil
    cdef int reserve(self, Py_ssize_t n_slots, Py_ssize_t n_terms) except -1
    cdef bint make_rooms(self, slot_t slot, const uint32_t* terms, const uint32_t* counts,
                         Py_ssize_t n) noexcept nogil
    cdef void look_ahead(self, const uint32_t* terms, Py_ssize_t n) noexcept nogil
    cdef void put_all(self, slot_t slot, const uint32_t* terms, const uint32_t* counts, Py_ssize_t n,
                      uint32_t length) noexcept nogil
    cdef void strike_all(self, slot_t slot) noexcept nogil
    cdef void drop(self, slot_t slot) noexcept nogil
    cdef void tidy(self, slot_t slot) noexcept nogil
    cdef int compact(self) except -1
    cdef bint is_wasteful(self) noexcept nogil
    cdef bint check(self) noexcept nogil
    cdef bint check_terms(self, uint32_t* seen) noexcept nogil


cdef inline const char* next_term(const char* at, uint32_t* term) noexcept nogil:
    """Read the next term of a forward list; `term` holds the one before, or NO_SLOT at first."""
    cdef uint32_t gap = <uint8_t>at[0] & 0x7F
    cdef int shift = 7
    while <uint8_t>at[0] >= 0x80:
        at += 1
        gap |= <uint32_t>(<uint8_t>at[0] & 0x7F) << (shift & 31)
        shift += 7
    term[0] += gap + 1
    return at + 1
