"""8-bit codes by slot, on which the graph is walked."""

from libc.stdint cimport uint8_t

from kektordb._memory cimport Region
from kektordb._scale cimport Scale
from kektordb._vectors cimport Vectors

cdef enum:
    TRAIN_ROWS = 1000           # that a range is chosen from at least; a graph with fewer rows has no codes

cdef class Codes:
    cdef readonly Scale scale
    cdef readonly Py_ssize_t stride
    cdef Vectors vectors
    cdef Region region
    cdef uint8_t* rows                      # moves when the region grows
    cdef Py_ssize_t n
    cdef int reserve(self, Py_ssize_t n) except -1
