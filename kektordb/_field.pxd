from libc.stdint cimport uint8_t, uint32_t, uint64_t

from kektordb._bitmap cimport Bitmap
from kektordb._packed cimport Cursor, Head
from kektordb._postings cimport Block, Coming, Pairs, Postings, Terms
from kektordb._strings cimport StringMap
from kektordb._types cimport slot_t

cdef enum:
    TRUE_MARK
    FALSE_MARK
    NULL_MARK
    OTHER_MARK
    N_MARKS


cdef class Field:
    cdef readonly str name
    cdef Coming coming  # shared by the postings of all fields
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
    cdef int add_text(self, const char* data, size_t n, slot_t slot, bint is_removal) except -1
    cdef int add_number(self, int place, uint64_t key, slot_t slot, bint is_removal) except -1
    cdef int make_room(self) except -1
    # Let new postings say what they want; raises Unprepared where none may be made now.
    cdef Postings track(self, Postings postings)
    cdef const char* text(self, uint32_t term, size_t* n) noexcept nogil
    cdef uint32_t find_text(self, const char* data, size_t n) noexcept nogil
    cdef int sort_texts(self) except -1
    cdef Py_ssize_t lower_bound(self, Block order, const char* data, size_t n, bint is_after) noexcept nogil
    cdef Bitmap texts_between(self, bytes low, bytes high, bint has_low, bint has_high)
    cdef int purge(self, Bitmap alive) except -1
    cdef int compact_texts(self) except -1


cdef bint add_scalar(Field field, object value, slot_t slot, bint is_removal) except -1
cdef int add_read(Field field, Head* head, Cursor* cursor, slot_t slot) except -1
cdef bint add_element(Field field, const uint8_t* begin, const uint8_t* end, slot_t slot) except -1
cdef int mark_of(object value) noexcept
