"""How far are rows from a query, as far as codes tell?"""

from kektordb._types cimport key_t, slot_t
from kektordb._walk cimport Core, Scratch

# Whether codes bound distances: those of products bound little, and bytes that are rows are compared as soon.
cdef inline bint can_bound(const Core* g) noexcept nogil:
    return g.code_errors != NULL and not g.product

# Asks for what `bound_distances` will read.
cdef void look_ahead(const Core* g, const slot_t* slots, Py_ssize_t n) noexcept nogil

# Bounds the distances of n rows from the query that a search has left in its scratch, as `Vectors.distance` would give
# them; `keys` is room for n. Returns 0 where they bound nothing after all.
cdef bint bound_distances(const Core* g, const Scratch* s, const slot_t* slots, Py_ssize_t n, key_t* keys, float* low,
                          float* high) noexcept nogil
