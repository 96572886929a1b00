"""The nearest rows of one query."""

from libc.stdint cimport uint64_t

from kektordb._types cimport key_t, word_t
from kektordb._walk cimport Core, Scratch

cdef Py_ssize_t find(const Core* g, Scratch* s, Py_ssize_t k, Py_ssize_t sure, Py_ssize_t ef, const word_t* words,
                     Py_ssize_t n_allowed) noexcept nogil
cdef Py_ssize_t pool_size(Py_ssize_t n, Py_ssize_t k, Py_ssize_t ef, Py_ssize_t n_allowed) noexcept nogil
cdef double margin(const Core* g, const Scratch* s, double key) noexcept nogil
cdef Py_ssize_t n_within(const uint64_t* pool, Py_ssize_t n, double limit) noexcept nogil
cdef void encode(const Core* g, Scratch* s, const float* row, float low, float per_unit) noexcept nogil
cdef void encode_query(const Core* g, Scratch* s) noexcept nogil
