from libc.stdint cimport uint32_t, uint64_t

from kektordb._bitmap cimport Bitmap
from kektordb._postings cimport Block, Pairs, Postings, Terms
from kektordb._strings cimport StringMap
from kektordb._types cimport slot_t, word_t


cdef class Field:
    cdef Terms marks
    cdef Terms strings
    cdef Pairs numbers
    cdef Pairs large_positive
    cdef Pairs large_negative
    cdef StringMap texts
    cdef Py_ssize_t n_texts
    cdef Block order
    cdef Py_ssize_t merge_at

    cdef int add_mark(self, int mark, slot_t slot, bint is_removal) except -1
    cdef int add_text(self, str text, slot_t slot, bint is_removal) except -1
    cdef int add_number(self, object number, slot_t slot, bint is_removal) except -1
    cdef const char* text(self, uint32_t term, size_t* n) noexcept nogil
    cdef uint32_t find_text(self, const char* data, size_t n) noexcept nogil
    cdef int sort_texts(self) except -1
    cdef Py_ssize_t lower_bound(self, Block order, const char* data, size_t n, bint is_after) noexcept nogil
    cdef Bitmap texts_between(self, bytes low, bytes high, bint has_low, bint has_high)
    cdef int purge(self, Bitmap alive) except -1
    cdef int compact_texts(self) except -1


cdef class Columns:
    cdef readonly Py_ssize_t n_slots
    cdef readonly Py_ssize_t version
    cdef dict _fields
    cdef Py_ssize_t _merge_at

    cdef int _walk(self, dict metadata, str prefix, slot_t slot, bint is_removal, int depth) except -1
    cdef int _put(self, str name, object value, slot_t slot, bint is_removal, int depth) except -1
    cdef word_t* _target(self, Bitmap rows) except? NULL
