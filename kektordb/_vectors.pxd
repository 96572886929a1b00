"""Vectors by slot, as the kernels want them."""

from kektordb._distance cimport many_t
from kektordb._memory cimport Region

cdef class Vectors:
    cdef readonly str metric
    cdef readonly Py_ssize_t dim, stride
    cdef Region region
    cdef float* rows            # moves when the region grows
    cdef many_t many
    cdef bint normalise
    cdef int reserve(self, Py_ssize_t n) except -1
    cdef int prepare(self, const float* source, float* target) noexcept nogil
    cdef float distance(self, unsigned int key) noexcept nogil
