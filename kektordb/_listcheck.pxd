"""Lists that were read from a file: what other Cython modules may ask."""

from libc.stdint cimport uint32_t

from kektordb._lists cimport List, cell_t


cdef bint is_list_sound(const List* l, Py_ssize_t n_slots, const uint32_t* lengths) noexcept nogil
cdef bint is_cell_sound(cell_t cell, Py_ssize_t n_slots, const uint32_t* lengths) noexcept nogil
