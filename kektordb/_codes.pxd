"""8-bit codes by slot, on which the graph is walked."""

from libc.stdint cimport uint8_t

from kektordb._distance cimport Kernels
from kektordb._memory cimport Region
from kektordb._vectors cimport Vectors

cdef enum:
    TRAIN_ROWS = 1000           # that a range is chosen from at least; a graph with fewer rows has no codes

cdef class Codes:
    cdef readonly double low, unit          # code c stands for low + c * unit
    cdef readonly Py_ssize_t n_trained      # rows that there were when the range was chosen
    cdef readonly double trained_error      # mean squared error of a row then, in units of a code
    cdef readonly Py_ssize_t stride
    cdef Vectors vectors
    cdef Region region
    cdef uint8_t* rows                      # moves when the region grows
    cdef const Kernels* kernels
    cdef Py_ssize_t n
    cdef double total_error, total_square
    cdef double longest                     # largest component, either way; known for products only
    cdef Py_ssize_t n_zero                  # rows without a direction, whose codes say nothing of their distances
    cdef Py_ssize_t n_recent
    cdef double recent_error
    cdef double last_error                  # mean error of the last RECENT rows that are complete
    cdef int reserve(self, Py_ssize_t n) except -1
    cdef void encode(self, Py_ssize_t first, Py_ssize_t stop, float* buffer) noexcept nogil
    cdef double mean_error(self) noexcept nogil
