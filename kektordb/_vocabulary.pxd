"""The terms of an index by number: what other Cython modules may call."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

cimport cython

from kektordb._strings cimport StringMap

cdef enum:
    MAX_WORD_BYTES = 255


# A stretch of a text without an ASCII character or other gap that cannot be part of a term.
cdef struct Stretch:
    Py_ssize_t start  # in bytes of UTF-8
    Py_ssize_t end
    bint is_ascii
    char lowered[MAX_WORD_BYTES + 1]  # the beginning of it, ASCII letters lower-cased


@cython.final
cdef class Vocabulary:
    cdef readonly object analyzer
    cdef StringMap terms
    # Stretches that were analysed before, and what they mean: a term, none, or a group of terms.
    cdef StringMap stretches
    cdef uint32_t* meanings
    cdef Py_ssize_t meanings_capacity
    cdef uint32_t* groups  # one after the other: how many terms, and the terms
    cdef Py_ssize_t groups_used
    cdef Py_ssize_t groups_capacity
    # The count that goes on: by term how often it came, and the terms that came.
    cdef uint32_t* counts
    cdef uint32_t* touched
    cdef Py_ssize_t counts_capacity
    cdef Py_ssize_t n_touched
    cdef Py_ssize_t n_tokens
    cdef bint is_counting
    cdef Py_ssize_t max_stretches

    cdef Py_ssize_t _count_known(
        self, const uint8_t* text, Py_ssize_t n, Py_ssize_t at, Stretch* stretch
    ) noexcept nogil
    cdef int _count_new(self, const uint8_t* text, Stretch* stretch) except -1
    cdef void _hit(self, uint32_t term) noexcept nogil
    cdef uint32_t _find_stretch(self, const uint8_t* text, Stretch* stretch) noexcept nogil
    cdef uint32_t _number(self, str term) except? 0xFFFFFFFF
    cdef int _remember(self, const char* data, size_t n, list numbers) except -1
    cdef int _forget_stretches(self) except -1
    cdef object _take(self)
