"""How far are rows from a query at least, and at most? Codes tell, by a quarter of the memory that the rows take.

The distance of two points differs from that of their codes by no more than the distances of the points from their
codes: the triangle inequality. No assumption is made about these errors, which are known for each row.
"""

from libc.math cimport INFINITY, sqrt

from kektordb._codes cimport ERROR_STEPS, LEAST_ERROR, NO_BOUND
from kektordb._find cimport encode_query
from kektordb._hnsw cimport Graph
from kektordb._types cimport key_t, slot_t
from kektordb._walk cimport Core, Scratch, prefetch

import numpy as np

cdef enum:
    LINE_BYTES = 64

# What rounding may do to a distance: relatively, and for cosine, where it is 1 less a product of unit vectors, at all.
# Vectors of halves are as long as halves can be made.
cdef double ROUNDING = 1e-3
cdef double UNIT_ROUNDING = 1e-5
cdef double HALF_ROUNDING = 1e-3

cdef double[256] ERROR_OF
for _number in range(256):
    ERROR_OF[_number] = 2. ** ((_number - LEAST_ERROR) / float(ERROR_STEPS))
ERROR_OF[NO_BOUND] = INFINITY


def bounds(Graph graph not None, const float[::1] query not None, const slot_t[::1] slots not None):
    """Return what the distances of some rows from a query are at least and at most.

    Parameters
    ----------
    graph : Graph
    query : float32 (dim,)
        As the user gave it.
    slots : uint32 (n,)

    Returns
    -------
    low, high : float32 (n,)
        Both None where codes bound nothing, or the query holds NaN or Inf or is too long.
    """
    cdef Py_ssize_t n = slots.shape[0]
    cdef bint are_known = False
    cdef Scratch* s = graph.take(1)
    if s == NULL:
        raise MemoryError("no memory to bound distances")
    try:
        low, high = np.empty((2, n + 1), np.float32)
        keys = np.empty(n + 1, np.uint32)
        are_known = can_bound(&graph.core) and graph.vectors.prepare(&query[0], s.query)
        if are_known:
            are_known = _bound(graph, s, slots, keys, low, high)
    finally:
        graph.give(s)
    return (low[:n], high[:n]) if are_known else (None, None)


cdef bint _bound(Graph graph, Scratch* s, const slot_t[::1] slots, key_t[::1] keys, float[::1] low, float[::1] high):
    encode_query(&graph.core, s)
    return bound_distances(&graph.core, s, &slots[0], slots.shape[0], &keys[0], &low[0], &high[0])


cdef void look_ahead(const Core* g, const slot_t* slots, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef const char* line
    cdef const char* end
    for i in range(n):
        prefetch(&g.code_errors[slots[i]])
        line = g.codes.rows + slots[i] * g.codes.row_bytes
        end = line + g.codes.row_bytes
        while line < end:
            prefetch(line)
            line += LINE_BYTES


cdef bint bound_distances(const Core* g, const Scratch* s, const slot_t* slots, Py_ssize_t n, key_t* keys, float* low,
                          float* high) noexcept nogil:
    cdef double error, own_error, distance, least, most, scale, margin = 0
    cdef Py_ssize_t i
    scale = 1 / (<double>g.per_unit * g.per_unit)
    if g.cosine:
        # A zero vector has no direction.
        if _is_zero(s.query, g.dim):
            return False
        scale /= 2
        margin = HALF_ROUNDING if g.exact.halves else UNIT_ROUNDING
    g.codes.many(s.code, g.codes.rows, slots, n, g.codes.d, keys)
    own_error = sqrt(s.code_error) * (1 + ROUNDING)
    for i in range(n):
        distance = sqrt(<double>keys[i])
        error = ERROR_OF[g.code_errors[slots[i]]] + own_error
        least = max(distance - error, 0.)
        most = distance + error
        low[i] = <float>(least * least * scale * (1 - ROUNDING) - margin)
        high[i] = <float>(most * most * scale * (1 + ROUNDING) + margin)
    return True


cdef bint _is_zero(const float* query, Py_ssize_t dim) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(dim):
        if query[i] != 0:
            return False
    return True
