"""What a search found, for the modules that make results of it."""

from kektordb._types cimport slot_t


cdef class Hits:
    cdef readonly Py_ssize_t n_candidates
    cdef Py_ssize_t n
    cdef void* block            # that holds the rest; each is best first, and NULL for what the search did not ask for
    cdef double* fused          # NULL: one side alone says how good a hit is
    cdef double* vector_parts
    cdef double* text_parts
    cdef float* distances
    cdef float* text_scores
    cdef slot_t* slots
