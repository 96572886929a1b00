"""Vectors by slot, as the kernels want them."""

from libc.stdint cimport uint8_t, uint16_t

from kektordb._distance cimport Kernels, many_t
from kektordb._memory cimport Region
from kektordb._scale cimport Scale

cdef class Vectors:
    cdef readonly str metric, precision
    cdef readonly Py_ssize_t dim
    cdef readonly Py_ssize_t stride         # components of a padded row
    cdef readonly Py_ssize_t item_bytes
    cdef readonly Scale scale               # of bytes, for squared distances; None otherwise
    cdef Region region, factor_region
    cdef char* rows                         # moves when the region grows
    cdef float* factors                     # by slot, of bytes that are `factored`; else NULL
    cdef float meanings[256]                # of codes, apart from the factor
    cdef float low, unit
    cdef double longest_square, total_square    # squared lengths of rows that are factored
    cdef many_t many                        # with bytes the query is one that `ask` made
    cdef bint normalise, halves, coded, factored, metric_is_dot
    cdef const Kernels* kernels
    cdef void (*widen)(const uint16_t* row, Py_ssize_t d, float* out) noexcept nogil
    cdef int reserve(self, Py_ssize_t n) except -1
    cdef const float* row(self, Py_ssize_t slot, float* buffer) noexcept nogil
    cdef void decode(self, Py_ssize_t slot, float* target) noexcept nogil
    cdef bint encode(self, Py_ssize_t slot, const float* row) noexcept nogil
    cdef float encode_alone(self, const float* row, uint8_t* codes) noexcept nogil
    cdef void ask(self, const float* query, float* target) noexcept nogil
    cdef int prepare(self, const float* source, float* target) noexcept nogil
    cdef float distance(self, unsigned int key) noexcept nogil
    cpdef Py_ssize_t memory_bytes(self, Py_ssize_t n)

# The range of codes that stand for a row whose longest component is `longest`, for `encode`.
cdef void scale_alone(double longest, float* low, float* per_unit) noexcept nogil
