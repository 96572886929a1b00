"""The graph: shared C structures of the search and the build."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from kektordb._distance cimport many_t
from kektordb._memory cimport Region
from kektordb._types cimport key_t, slot_t, word_t
from kektordb._vectors cimport Vectors

cdef struct Core:
    # rows
    const float* rows
    Py_ssize_t stride
    many_t many
    # graph; every list holds slots and ends with NO_SLOT unless it is full
    Py_ssize_t n                # slots in use, linked or not
    Py_ssize_t m, m0            # most neighbours above and on level 0
    Py_ssize_t width            # m0 in whole cache lines
    Py_ssize_t ef_construction
    slot_t* links               # level 0: `width` entries a slot
    slot_t* upper               # levels above: `m` entries a level
    uint32_t* upper_at          # first upper list of a slot, counted in lists
    uint8_t* levels
    uint64_t top                # level << 32 | entry point; all ones when empty
    uint8_t top_lock
    uint8_t* locks              # striped spin locks for changing lists
    # copy-on-write of level 0 while a frozen view is being saved
    Py_ssize_t cow_chunks       # 0: no view
    uint8_t* cow_done
    uint8_t* cow_locks
    slot_t* cow_shadow

cdef struct Scratch:
    Scratch* next
    uint16_t* visited           # epoch in which a slot was seen
    Py_ssize_t n_visited
    uint16_t epoch
    uint64_t* pool              # sorted: key << 32 | slot << 1 | expanded
    uint64_t* candidates
    Py_ssize_t n_pool
    slot_t* work
    key_t* keys
    slot_t* chosen
    key_t* chosen_keys
    float* query

cdef class Graph:
    cdef Core core
    cdef readonly Vectors vectors
    cdef readonly uint64_t seed
    cdef Region links, upper, upper_at, levels
    cdef Py_ssize_t n_upper
    cdef Scratch* free
    cdef uint8_t free_lock
    cdef int point(self) except -1
    cdef Py_ssize_t pool_size(self, Py_ssize_t k, Py_ssize_t ef, Py_ssize_t n_allowed) noexcept
    cdef Scratch* take(self, Py_ssize_t n_pool) noexcept nogil
    cdef void give(self, Scratch* scratch) noexcept nogil
    cdef Py_ssize_t find(self, Scratch* s, Py_ssize_t k, Py_ssize_t ef, const word_t* words,
                         Py_ssize_t n_allowed) noexcept nogil
    cdef void _search_row(self, Scratch* s, const float* query, Py_ssize_t k, Py_ssize_t ef, const word_t* words,
                          Py_ssize_t n_allowed, slot_t* slots, float* distances, long long* count) noexcept nogil
