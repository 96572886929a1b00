"""The text index: what other Cython modules may hold of it."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from kektordb._bitmap cimport Bitmap
from kektordb._textfield cimport TextField
from kektordb._topk cimport Scratch


cdef class TextIndex:
    cdef readonly double k1
    cdef readonly double b
    cdef list fields
    cdef Scratch* free
    cdef uint8_t free_lock
    cdef char* buffer
    cdef size_t buffer_bytes

    cdef Scratch* take(self, Py_ssize_t n_cursors, Py_ssize_t n_heap) noexcept nogil
    cdef void give(self, Scratch* s) noexcept nogil
    # The field of a number, which is made if there is none.
    cdef TextField field_of(self, Py_ssize_t number)
    # Makes room to encode a text of `n` terms.
    cdef int make_room(self, Py_ssize_t n) except -1
    cdef int _encode(self, const uint32_t* terms, Py_ssize_t n, size_t* n_bytes) except -1
    # Takes scratch with a cursor for each list that a query, as for `search`, needs, and room for `k` results.
    cdef Scratch* open(self, object query, Py_ssize_t k) except NULL
    # Leaves the best of the allowed texts (None: all) in ``s.heap``, in no order; `n_allowed` counts with them only.
    cdef void find(self, Scratch* s, Bitmap allowed, Py_ssize_t n_allowed) noexcept nogil
    cdef int _read_texts(self, TextField field, const uint32_t[::1] slots, const long long[::1] starts,
                         uint32_t[::1] terms, uint32_t[::1] counts) except -1
