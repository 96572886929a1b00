"""Memory that grows in place."""

cdef class Region:
    cdef char* data             # 64-byte aligned; moves when it grows
    cdef readonly size_t size   # usable bytes
    cdef int grow(self, size_t n_bytes) except -1
