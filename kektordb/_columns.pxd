from libc.stdint cimport uint64_t

from kektordb._bitmap cimport Bitmap
from kektordb._field cimport Field
from kektordb._packed cimport Cursor
from kektordb._postings cimport Coming
from kektordb._types cimport slot_t, word_t


cdef class Guess:
    cdef Field parent
    cdef bytes key
    cdef Field field


cdef class Columns:
    cdef readonly Py_ssize_t n_slots
    cdef readonly Py_ssize_t version
    cdef dict _fields
    cdef Py_ssize_t _merge_at
    cdef Coming _coming  # among them postings that want to be merged
    cdef list _prepared  # those whose new base is ready
    cdef list _guesses  # the fields of the last row, in the order of its keys
    cdef Py_ssize_t _n_guessed

    cdef int _adopt(self) except -1
    cdef int _forget_coming(self) except -1
    cdef Field _field(self, str name)
    cdef Field _guess(self, Field parent, const char* key, size_t n)
    cdef int _add_encoded(self, slot_t slot, const char* data, size_t n) except -1
    cdef int _walk_encoded(self, Cursor* cursor, uint64_t n, Field parent, slot_t slot) except -1
    cdef int _put_encoded(self, Cursor* cursor, Field field, slot_t slot) except -1
    cdef int _walk(self, dict metadata, str prefix, slot_t slot, bint is_removal, int depth) except -1
    cdef int _put(self, str name, object value, slot_t slot, bint is_removal, int depth) except -1
    cdef word_t* _target(self, Bitmap rows) except? NULL
