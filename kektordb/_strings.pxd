"""Byte strings by number, and the numbers by string: what other Cython modules may call."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stddef cimport size_t

cimport cython

from kektordb._types cimport NO_SLOT


@cython.final
cdef class Arena:
    cdef char* data
    cdef size_t used
    cdef size_t capacity

    cdef int grow(self, size_t needed) except -1


@cython.final
cdef class Blobs:
    cdef Arena arena
    cdef uint64_t* start  # offset in the arena by number, ABSENT where there is none
    cdef Py_ssize_t n_numbers  # numbers below it may be put
    cdef Py_ssize_t n_used  # one more than the largest number ever put
    cdef Py_ssize_t start_capacity
    cdef size_t waste

    # Makes room for `n_puts` calls of put with `n_bytes` bytes together, numbers below `n_numbers`.
    cdef int reserve(self, Py_ssize_t n_numbers, size_t n_bytes, Py_ssize_t n_puts) except -1
    # Needs reserve; the data must not lie in this arena.
    cdef void put(self, uint32_t number, const char* data, size_t n) noexcept nogil
    # The same, for data that the caller writes to where it returns.
    cdef char* put_space(self, uint32_t number, size_t n) noexcept nogil
    # Whether reserve has nothing to do.
    cdef bint has_room(self, Py_ssize_t n_numbers, size_t n_bytes, Py_ssize_t n_puts) noexcept nogil
    # A view until the next reserve, compact or load; NULL when absent.
    cdef const char* get(self, uint32_t number, size_t* n) noexcept nogil
    cdef void drop(self, uint32_t number) noexcept nogil
    cdef bint is_wasteful(self) noexcept nogil
    cdef int _compact(self) except -1


@cython.final
cdef class StringMap:
    cdef readonly Py_ssize_t size
    cdef Blobs blobs
    cdef uint32_t* table
    cdef uint8_t* tags
    cdef Py_ssize_t table_capacity
    cdef Py_ssize_t n_tombs
    # A larger table that `prepare` made, NULL when there is none; the next reserve takes it.
    cdef uint32_t* fresh_table
    cdef uint8_t* fresh_tags
    cdef Py_ssize_t fresh_capacity

    cdef void _free_table(self) noexcept
    # NO_SLOT when absent.
    cdef uint32_t find(self, const char* data, size_t n) noexcept nogil
    # Makes room for `n_more` strings of `n_bytes` bytes together, numbered below (largest number so far) + n_more + 1.
    cdef int reserve(self, Py_ssize_t n_more, size_t n_bytes) except -1
    # The string must be absent and the number unused; reserves by itself where nobody did.
    cdef int add(self, uint32_t number, const char* data, size_t n) except -1
    # The same after reserve, without the GIL.
    cdef void add_reserved(self, uint32_t number, const char* data, size_t n) noexcept nogil
    cdef void remove(self, uint32_t number) noexcept nogil
    cdef const char* get(self, uint32_t number, size_t* n) noexcept nogil

    cdef bint _has_places(self, Py_ssize_t n_more) noexcept nogil
    cdef uint32_t _find(self, const char* data, size_t n, uint64_t h) noexcept nogil
    # Make the table that reserve will need, beside the present one: look-ups may go on meanwhile, changes may not.
    cdef int prepare(self, Py_ssize_t n_more) except -1
    cdef int _prepare(self, Py_ssize_t n_strings) except -1
    cdef void _adopt(self) noexcept
    cdef void _drop_fresh(self) noexcept nogil
    cdef int _new_table(self, Py_ssize_t n_strings) except -1
    cdef void _insert(self, uint32_t number, uint64_t hash) noexcept nogil
    cdef uint32_t _insert_unless_equal(self, uint32_t number) noexcept nogil


cdef inline const char* after_length(const char* data, size_t* n) noexcept nogil:
    """Return where a string in an arena begins, behind its length."""
    cdef size_t value = <uint8_t>data[0]
    cdef int shift = 7
    if value >= 0x80:
        value &= 0x7F
        while True:
            data += 1
            value |= (<size_t>(<uint8_t>data[0] & 0x7F)) << shift
            shift += 7
            if <uint8_t>data[0] < 0x80:
                break
    n[0] = value
    return data + 1
