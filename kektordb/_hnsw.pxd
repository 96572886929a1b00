"""The graph over the rows of one index."""

from libc.stdint cimport uint8_t, uint64_t

from kektordb._bitmap cimport Bitmap
from kektordb._codes cimport Codes
from kektordb._memory cimport Region
from kektordb._types cimport slot_t, word_t
from kektordb._vectors cimport Vectors
from kektordb._walk cimport Core, Scratch

cdef class Graph:
    cdef Core core
    cdef readonly Vectors vectors
    cdef readonly Codes codes   # None until there are rows enough
    cdef bint is_coded          # walks on codes, where there are any
    cdef bint wants_codes       # beside the rows
    cdef readonly uint64_t seed
    cdef Region links, upper, upper_at, levels, changed, shadow
    cdef Py_ssize_t n_whole     # rows whose lists a snapshot holds as one section
    cdef Py_ssize_t n_frozen    # rows of the frozen view, when it holds them so; -1 when it holds changes
    cdef Py_ssize_t n_upper
    cdef uint64_t n_drawn       # levels drawn so far: a slot that is used again draws another one
    cdef Scratch* free
    cdef Scratch* writer        # of `link`: got when room is, so that it never waits for memory
    cdef uint8_t free_lock
    cdef void attach(self)
    cdef int point(self) except -1
    cdef Scratch* take(self, Py_ssize_t n_pool) noexcept nogil
    cdef void give(self, Scratch* scratch) noexcept nogil
    # Finds the `k` nearest of the allowed rows (None: all), at least `ef` candidates wide, and returns how many it has
    # written; -1 for a query that holds NaN or Inf or is too long. Releases the GIL.
    cdef Py_ssize_t find(self, const float* query, Py_ssize_t k, Py_ssize_t ef, Bitmap allowed, Py_ssize_t n_allowed,
                         slot_t* slots, float* distances) except -2
    # The same in scratch of the caller, which then holds the prepared query; see `_find.find` for `sure`. `count` is -1
    # for a bad query.
    cdef void search_row(self, Scratch* s, const float* query, Py_ssize_t k, Py_ssize_t sure, Py_ssize_t ef,
                         const word_t* words, Py_ssize_t n_allowed, slot_t* slots, float* distances,
                         long long* count) noexcept nogil
