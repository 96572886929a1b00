"""One insertion into the graph, and how its lists are changed."""

from libc.stdint cimport uint64_t

from kektordb._types cimport slot_t
from kektordb._walk cimport Core, Scratch

cdef enum:
    N_LOCKS = 65536             # stripes: two threads meet by chance once in 65,536
    COW_SHIFT = 13              # 8,192 lists to a copy-on-write chunk

cdef void insert(Core* g, Scratch* s, slot_t slot) noexcept nogil
cdef void cow_copy(Core* g, Py_ssize_t chunk) noexcept nogil
cdef int draw_level(uint64_t seed, uint64_t counter, double factor) noexcept nogil
