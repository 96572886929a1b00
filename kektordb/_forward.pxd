"""Forward lists: what other Cython modules may call."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

cimport cython

from kektordb._strings cimport Blobs
from kektordb._types cimport slot_t


@cython.final
cdef class Forward:
    cdef list pieces            # Blobs of N_SLOTS slots each, None where no slot has a text

    # Makes room for a text of `n_bytes` bytes; returns where it is to be put, under the number `place_of` gives.
    cdef Blobs reserve(self, slot_t slot, size_t n_bytes)
    # A view until the next change; NULL when the slot has no text.
    cdef const char* get(self, slot_t slot, size_t* n_bytes)
    # Needs no memory.
    cdef int drop(self, slot_t slot) except -1


cdef uint32_t place_of(slot_t slot) noexcept nogil


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
