"""One insertion into the graph, and how its lists are changed."""

from libc.stdint cimport uint64_t

from kektordb._types cimport slot_t
from kektordb._walk cimport Core, Scratch, Space

cdef enum:
    N_LOCKS = 65536             # stripes: two threads meet by chance once in 65,536
    COW_SHIFT = 13              # 8,192 lists to a copy-on-write chunk

cdef void insert(Core* g, Scratch* s, slot_t slot) noexcept nogil
cdef void cow_copy(Core* g, Py_ssize_t chunk) noexcept nogil
cdef int draw_level(uint64_t seed, uint64_t counter, double factor) noexcept nogil
# What a row that is linked anew shares with one that is new, see `_heal`.
cdef void write_list(Core* g, slot_t slot, int level, const slot_t* chosen, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t choose_neighbours(const Core* g, const Space* space, Scratch* s, const uint64_t* candidates,
                                  Py_ssize_t n, Py_ssize_t most, slot_t owner) noexcept nogil
cdef void link_back(Core* g, const Space* space, Scratch* s, slot_t slot, slot_t new, int level) noexcept nogil
cdef const Space* settle(const Core* g, Scratch* s, slot_t slot, const float* row, int level,
                         Py_ssize_t ef, Py_ssize_t* n) noexcept nogil
