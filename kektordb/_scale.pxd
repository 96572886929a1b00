"""The scale on which bytes stand for components, and how well it has fitted the rows so far."""

from libc.stdint cimport uint8_t

from kektordb._distance cimport Kernels

cdef inline bint is_zero(const float* row, Py_ssize_t d) noexcept nogil:
    cdef Py_ssize_t j = 0
    while j < d and row[j] == 0:
        j += 1
    return j == d


cdef class Scale:
    cdef readonly double low, unit          # code c stands for low + c * unit
    cdef readonly Py_ssize_t n_trained      # rows that there were when it was chosen
    cdef readonly double trained_error      # mean squared error of a row then, in units of a code
    cdef readonly str metric
    cdef readonly Py_ssize_t dim
    cdef readonly bint is_final             # rows are kept as codes only
    cdef readonly Py_ssize_t n              # rows encoded
    cdef double total_error, total_square
    cdef double longest                     # largest component, either way; known for products only
    cdef readonly Py_ssize_t n_zero         # rows without a direction, whose codes say nothing of their distances
    cdef Py_ssize_t n_recent
    cdef double recent_error
    cdef double last_error                  # mean error of the last rows that are complete
    cdef double recent_low, recent_high     # ends of recent rows that did not fit, of rows that are final
    cdef double last_low, last_high         # of the last ones that are complete
    cdef bint normalised, product
    cdef const Kernels* kernels
    cdef double encode(self, const float* row, uint8_t* codes) noexcept nogil
    cdef double usual_error(self) noexcept nogil
    cdef double mean_error(self) noexcept nogil
    cdef double mean_square(self) noexcept nogil
