"""Where does a number stand among others? Keys of 64 bits that order as the numbers do, and exact bounds for them.

A number that a float64 holds exactly has the key of that float. Only integers of up to 64 bits that no float64 holds
stand elsewhere, by their size; nothing is rounded, so 2**53 + 1 never equals 2**53.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    int64_t PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1

cdef uint64_t SIGN = 0x8000000000000000u
cdef double INFINITE = float("inf")


cdef uint64_t float_key(double value) noexcept nogil:
    """Return an integer that orders as the float does; -0.0 counts as 0.0."""
    cdef uint64_t bits
    value += 0.0
    memcpy(&bits, &value, sizeof(bits))
    return ~bits if bits & SIGN else bits | SIGN


cdef int unsigned_place(uint64_t number, uint64_t* key) noexcept nogil:
    """Do what `number_place` does, for an integer that is not negative."""
    cdef double nearest = <double>number
    # The largest ones round up to 2^64, which no integer of 64 bits is.
    if nearest < 18446744073709551616.0 and <uint64_t>nearest == number:
        key[0] = float_key(nearest)
        return AS_FLOAT
    key[0] = number
    return AS_LARGE_POSITIVE


cdef int negative_place(int64_t number, uint64_t* key) noexcept nogil:
    """Do what `number_place` does, for a negative integer."""
    cdef double nearest = <double>number
    if <int64_t>nearest == number:
        key[0] = float_key(nearest)
        return AS_FLOAT
    key[0] = 0 - <uint64_t>number
    return AS_LARGE_NEGATIVE


cdef int number_place(object number, uint64_t* key) except -1:
    """Say in which postings a number stands, and under which key; NOWHERE for what no metadata can hold."""
    cdef int overflow = 0
    cdef int64_t small
    cdef double nearest
    if isinstance(number, float):
        nearest = number
        key[0] = float_key(nearest)
        return AS_FLOAT if -INFINITE < nearest < INFINITE else NOWHERE
    small = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow == 0 and -(<int64_t>1 << 53) <= small <= (<int64_t>1 << 53):
        key[0] = float_key(<double>small)
        return AS_FLOAT
    try:
        nearest = number
    except OverflowError:
        return NOWHERE
    if int(nearest) == number:
        key[0] = float_key(nearest)
        return AS_FLOAT
    if -(1 << 63) <= number < 0:
        key[0] = -number
        return AS_LARGE_NEGATIVE
    if 0 < number < 1 << 64:
        key[0] = number
        return AS_LARGE_POSITIVE
    return NOWHERE


cdef (double, int) _nearest(object number):
    """Return the float nearest to a number, and whether it is below (-1), equal to (0) or above (1) the number."""
    cdef double nearest
    if isinstance(number, float):
        return number, 0
    try:
        nearest = number
    except OverflowError:
        return (INFINITE, 1) if number > 0 else (-INFINITE, -1)
    exact = int(nearest)
    return nearest, 0 if exact == number else -1 if exact < number else 1


cdef uint64_t low_key(object low, bint has_low) except? 1:
    cdef double nearest
    cdef int side
    nearest, side = _nearest(low)
    return float_key(nearest) + (side < 0 or (side == 0 and not has_low))


cdef uint64_t high_key(object high, bint has_high) except? 1:
    cdef double nearest
    cdef int side
    nearest, side = _nearest(high)
    return float_key(nearest) - (side > 0 or (side == 0 and not has_high))


cdef object integer_bound(object low, bint has_low, object least):
    """Return the smallest integer from `least` on that is above `low`, or equal to it if `has_low`."""
    if low is None or low <= least:
        return least
    if low >= -least:
        return -least
    whole = int(low)  # towards zero
    if whole < low or (whole == low and not has_low):
        return whole + 1
    return whole


cdef Py_ssize_t sort_keys(uint64_t* keys, Py_ssize_t n) noexcept nogil:
    """Sort ascending and drop repetitions; return how many are left. Heap sort: lists of parameters may be long."""
    cdef Py_ssize_t start = n // 2, stop = n, root, child, kept, i
    cdef uint64_t held
    if n < 2:
        return n
    while stop > 1:
        if start > 0:
            start -= 1
            held = keys[start]
        else:
            stop -= 1
            held = keys[stop]
            keys[stop] = keys[0]
        root = start
        while 2 * root + 1 < stop:
            child = 2 * root + 1
            if child + 1 < stop and keys[child] < keys[child + 1]:
                child += 1
            if keys[child] <= held:
                break
            keys[root] = keys[child]
            root = child
        keys[root] = held
    kept = 1
    for i in range(1, n):
        if keys[i] != keys[kept - 1]:
            keys[kept] = keys[i]
            kept += 1
    return kept
