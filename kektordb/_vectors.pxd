"""Vectors by slot, as the kernels want them."""

from libc.stdint cimport uint16_t

from kektordb._distance cimport Kernels, many_t
from kektordb._memory cimport Region

cdef class Vectors:
    cdef readonly str metric, precision
    cdef readonly Py_ssize_t dim
    cdef readonly Py_ssize_t stride         # components of a padded row
    cdef readonly Py_ssize_t item_bytes
    cdef Region region
    cdef char* rows                         # moves when the region grows
    cdef many_t many
    cdef bint normalise, halves, metric_is_dot
    cdef void (*widen)(const uint16_t* row, Py_ssize_t d, float* out) noexcept nogil
    cdef int reserve(self, Py_ssize_t n) except -1
    cdef const float* row(self, Py_ssize_t slot, float* buffer) noexcept nogil
    cdef int prepare(self, const float* source, float* target) noexcept nogil
    cdef float distance(self, unsigned int key) noexcept nogil
    cpdef Py_ssize_t memory_bytes(self, Py_ssize_t n)
