"""How do a distance and a text score become one score? The arithmetic of `fusion`, which says what it means.

It knows the candidates only by their place in the arrays. Native, because after a search caches are cold.
"""

from libc.math cimport INFINITY, isnan, sqrt
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

# By the number that stands for it.
METHODS = ("minmax", "rrf", "dbsf", "legacy")
# The constant of the paper: Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion …", SIGIR 2009.
RRF_K = RANK_K

cdef enum:
    MINMAX = 0
    RRF = 1
    DBSF = 2
    RANK_K = 60


def parts(int method, double[::1] nearness not None, double[::1] text not None, double[::1] spare not None):
    """Turn the sides of candidates into their parts, in place; see `fusion.sides`. All are of one length."""
    cdef Py_ssize_t n = nearness.shape[0]
    if text.shape[0] != n or spare.shape[0] != n:
        raise ValueError(f"expected arrays of one length, got {n}, {text.shape[0]} and {spare.shape[0]}")
    if n:
        make_parts(method, &nearness[0], &text[0], &spare[0], n)


cdef void make_parts(int method, double* nearness, double* text, double* spare, Py_ssize_t n) noexcept nogil:
    if n == 0:
        return
    if method == MINMAX:
        spread(nearness, n, 1)
        spread(text, n, 1 if text[0] > 0 else 0)
    elif method == RRF:
        _take_ranks(nearness, spare, n, -INFINITY)
        _take_ranks(text, spare, n, 0)
    elif method == DBSF:
        _standardise(nearness, n)
        _standardise(text, n)
    else:
        _as_original(nearness, text, n)


cdef inline void _find_range(const double* values, Py_ssize_t n, double* low, double* high) noexcept nogil:
    cdef Py_ssize_t i
    low[0] = high[0] = values[0]
    for i in range(1, n):
        low[0] = min(low[0], values[i])
        high[0] = max(high[0], values[i])


cdef void spread(double* values, Py_ssize_t n, double constant) noexcept nogil:
    """Spread values from 1, the best, to 0; `constant` where all are equal."""
    cdef Py_ssize_t i
    cdef double low, high
    _find_range(values, n, &low, &high)
    for i in range(n):
        values[i] = (values[i] - low) / (high - low) if low != high else constant


cdef void _standardise(double* values, Py_ssize_t n) noexcept nogil:
    """Put the mean at 0.5, and what lies three standard deviations from it at 0 and 1."""
    cdef Py_ssize_t i
    cdef double low, high, width, mean = 0, variance = 0
    _find_range(values, n, &low, &high)
    for i in range(n):
        mean += values[i]
    mean /= n
    for i in range(n):
        variance += (values[i] - mean) * (values[i] - mean)
    width = 6 * sqrt(variance / n)
    for i in range(n):
        # Asked of the values themselves: the deviation of equal values may come out as a rounding error.
        values[i] = 0.5 + (values[i] - mean) / width if low != high else 0.5


cdef void _take_ranks(double* values, double* spare, Py_ssize_t n, double worse) noexcept nogil:
    """Put 1 / (RANK_K + rank) in the place of what is better than `worse`, ranks from 1, and 0 in that of the others.

    Equal values share the better rank: which of them came first says nothing.
    """
    cdef Py_ssize_t i, rank = 0, n_found = 0
    cdef uint32_t* places = <uint32_t*>spare
    cdef double value, before = 0
    for i in range(n):
        if values[i] > worse:
            places[n_found] = <uint32_t>i
            n_found += 1
        else:
            values[i] = 0
    places = _sort(values, places, places + n, n_found)
    for i in range(n_found):
        value = values[places[i]]
        if i == 0 or value != before:
            rank = i + 1
        before = value
        values[places[i]] = 1. / (RANK_K + rank)


cdef uint32_t* _sort(const double* values, uint32_t* places, uint32_t* room, Py_ssize_t n) noexcept nogil:
    """Sort `n` places by their values, the largest first; returns where they are: there, or in `room`.

    By merging without branches, which in data without order would be foreseen half the time.
    """
    cdef Py_ssize_t start, width = 1
    while width < n:
        start = 0
        while start < n:
            _merge(values, places + start, min(width, n - start), min(2 * width, n - start), room + start)
            start += 2 * width
        places, room = room, places
        width *= 2
    return places


cdef inline void _merge(const double* values, const uint32_t* places, Py_ssize_t middle, Py_ssize_t stop,
                        uint32_t* into) noexcept nogil:
    """Merge the sorted places before `middle` with those from there to `stop`."""
    cdef Py_ssize_t i = 0, j = middle
    cdef bint is_second
    while i < middle and j < stop:
        is_second = values[places[j]] > values[places[i]]
        into[i + j - middle] = places[j] if is_second else places[i]
        i += not is_second
        j += is_second
    memcpy(into + i + j - middle, places + i, (middle - i) * sizeof(uint32_t))
    memcpy(into + j, places + j, (stop - j) * sizeof(uint32_t))


cdef void _as_original(double* nearness, double* text, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double best = 0, nearer
    for i in range(n):
        if text[i] > best:
            best = text[i]
    for i in range(n):
        nearer = -INFINITY if isnan(nearness[i]) else nearness[i]
        nearness[i] = max(nearer, 0.) + 1 / (1 - min(nearer, 0.))
        text[i] = text[i] / best if text[i] > 0 else 0
