from libc.stdint cimport int64_t, uint64_t

cdef enum:
    AS_FLOAT
    AS_LARGE_POSITIVE
    AS_LARGE_NEGATIVE
    NOWHERE

cdef uint64_t float_key(double value) noexcept nogil
cdef int unsigned_place(uint64_t number, uint64_t* key) noexcept nogil
cdef int negative_place(int64_t number, uint64_t* key) noexcept nogil
cdef int number_place(object number, uint64_t* key) except -1
cdef uint64_t low_key(object low, bint has_low) except? 1
cdef uint64_t high_key(object high, bint has_high) except? 1
cdef object integer_bound(object low, bint has_low, object least)
cdef Py_ssize_t sort_keys(uint64_t* keys, Py_ssize_t n) noexcept nogil
