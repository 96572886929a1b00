"""Memory that grows in place."""

cdef class Region:
    cdef char* data             # 64-byte aligned; moves when it grows
    cdef readonly size_t size   # usable bytes
    cdef int grow(self, size_t n_bytes) except -1
    # For bytes that nobody else uses.
    cdef void touch(self, size_t start, size_t stop) noexcept nogil
    cdef void release(self, size_t start, size_t stop) noexcept nogil

# realloc and free for arrays that may be large; the caller keeps the size. NULL when there is no memory.
cdef void* resize_block(void* old, size_t old_size, size_t size) noexcept nogil
cdef void free_block(void* data, size_t size) noexcept nogil

# Whether a test wants the request for memory to fail that comes now: for those who ask malloc themselves.
cdef bint is_refused() noexcept nogil
