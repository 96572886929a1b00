from kektordb._types cimport slot_t, word_t


cdef class Bitmap:
    cdef word_t* words
    cdef readonly Py_ssize_t n_bits
    cdef readonly Py_ssize_t n_words
    cdef Py_ssize_t _capacity_words
    cdef int _reserve(self, Py_ssize_t n_words) except -1
    cdef void _trim(self) noexcept


cdef inline bint bitmap_get(const word_t* words, slot_t slot) noexcept nogil:
    return (words[slot >> 6] >> (slot & 63)) & 1


cdef inline void bitmap_set(word_t* words, slot_t slot) noexcept nogil:
    words[slot >> 6] |= (<word_t>1) << (slot & 63)


cdef inline void bitmap_clear(word_t* words, slot_t slot) noexcept nogil:
    words[slot >> 6] &= ~((<word_t>1) << (slot & 63))


cdef Py_ssize_t bitmap_count(const word_t* words, Py_ssize_t n_words) noexcept nogil
