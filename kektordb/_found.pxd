"""The found items of a search, for the module that searches."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t

from kektordb._strings cimport Blobs, StringMap


cdef struct Numbers:
    # what a search found, best first; NULL for what it did not ask for
    Py_ssize_t n
    const uint32_t* slots
    const float* distances
    const float* text_scores
    const double* fused


cdef class Found:
    cdef readonly bint _is_product  # whether scores are those of the metric "dot"
    cdef readonly object _vectors  # float32 (n, dim); None when they were not asked for
    cdef readonly object _store  # that decodes the rows of metadata; None when they were not asked for
    cdef public list _snippets  # of the items, and
    cdef public list _explanations  # why each is here; None unless they were asked for
    cdef list texts  # the ids, and
    cdef object numbers  # the distances, once somebody has asked for them
    cdef Py_ssize_t n
    cdef size_t* bounds
    cdef const double* fused  # in the block, as the following are; NULL for what the search did not ask for
    cdef const float* near
    cdef const float* text

    cdef str _id(self, Py_ssize_t i)
    cdef object _floats(self, const float* values)
    # Copies the texts of the slots, and their numbers; `rows` may be None.
    cdef int fill(self, StringMap ids, Blobs rows, const Numbers* numbers) except -1


# Both need the lock under which the slots were found, and make instances of `kind`, a subclass of Found. Each slot has
# its id in `ids`; where it has no row of metadata in `rows`, its metadata is {}. `rows` and `store` may be None, both.
# Vectors are float32 (n, dim) or None.
cdef Found collect(kind, StringMap ids, Blobs rows, store, const Numbers* numbers, bint is_product, vectors)

# The results of many searches, without vectors: (n, k) each, of which counts[i] are filled in row i.
cdef list collect_many(kind, StringMap ids, Blobs rows, store, const uint32_t[:, ::1] slots,
                       const float[:, ::1] distances, const int64_t[::1] counts, bint is_product)
