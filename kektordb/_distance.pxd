"""The kernel table: distances from one query to many rows, compiled per instruction set, chosen at import."""

from kektordb._types cimport key_t, slot_t

# out[i] = key of the distance between the query and row ids[i] of `base`, for i < n. `stride` and `d` count floats;
# `d` is a multiple of 16 and rows are 64-byte aligned, both zero-padded.
ctypedef void (*many_t)(const float* query, const float* base, Py_ssize_t stride, const slot_t* ids,
                        Py_ssize_t n, Py_ssize_t d, key_t* out) noexcept nogil

cdef struct Kernels:
    many_t l2_many      # squared Euclidean distance
    many_t ip_many      # negated inner product

cdef const Kernels* active_kernels() noexcept nogil

cdef float distance_of_key(key_t key) noexcept nogil
