"""8-bit codes by slot, on which the graph is walked."""

from libc.stdint cimport uint8_t

from kektordb._memory cimport Region
from kektordb._scale cimport Scale
from kektordb._vectors cimport Vectors

cdef enum:
    TRAIN_ROWS = 1000           # that a range is chosen from at least; a graph with fewer rows has no codes

cdef enum:
    ERROR_STEPS = 8             # classes of errors from one power of two to the next
    LEAST_ERROR = 32            # class of the error 1; smaller ones have smaller classes, and 0 the smallest
    NO_BOUND = 255              # the error may be anything


cdef class Codes:
    cdef readonly Scale scale
    cdef readonly Py_ssize_t stride
    cdef Vectors vectors
    cdef Region region
    cdef Region error_region
    cdef uint8_t* rows                      # moves when the region grows
    cdef uint8_t* errors                    # of each row, see `error_class`; moves likewise
    cdef Py_ssize_t n
    cdef int reserve(self, Py_ssize_t n) except -1
    cdef void encode(self, Py_ssize_t slot, float* buffer) noexcept nogil
