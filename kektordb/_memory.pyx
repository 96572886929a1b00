"""How do large arrays grow without being copied?

On Linux a region is an anonymous mapping that ``mremap`` extends: pages move, bytes do not, and pages that nobody
touched cost nothing. Elsewhere, and under AddressSanitizer, it is an aligned block that is copied when it grows.
"""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdlib.h>
    #include <string.h>
    /* AddressSanitizer sees the bounds of blocks, not those of mappings. */
    #if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/mman.h>
    #define KEKTOR_HUGE_FROM ((size_t)8 << 20)  /* smaller regions would waste most of a 2 MiB page */
    static void* kektor_region_resize(void* old, size_t old_size, size_t size) {
        void* data = old == NULL
            ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            : mremap(old, old_size, size, MREMAP_MAYMOVE);
        if (data == MAP_FAILED) return NULL;
    #if defined(MADV_HUGEPAGE)
        if (size >= KEKTOR_HUGE_FROM) (void)madvise(data, size, MADV_HUGEPAGE);
    #endif
        return data;
    }
    static void kektor_region_free(void* data, size_t size) { munmap(data, size); }
    static void kektor_region_release(void* data, size_t size) { (void)madvise(data, size, MADV_DONTNEED); }
    #else
    static void kektor_region_release(void* data, size_t size) { (void)data; (void)size; }
    #if defined(_WIN32)
    #include <malloc.h>
    static void* kektor_aligned(size_t size) { return _aligned_malloc(size, 64); }
    static void kektor_region_free(void* data, size_t size) { (void)size; _aligned_free(data); }
    #else
    static void* kektor_aligned(size_t size) { void* p = NULL; return posix_memalign(&p, 64, size) ? NULL : p; }
    static void kektor_region_free(void* data, size_t size) { (void)size; free(data); }
    #endif
    static void* kektor_region_resize(void* old, size_t old_size, size_t size) {
        char* data = (char*)kektor_aligned(size);
        if (data == NULL) return NULL;
        if (old != NULL) { memcpy(data, old, old_size < size ? old_size : size); kektor_region_free(old, old_size); }
        if (old_size < size) memset(data + old_size, 0, size - old_size);
        return data;
    }
    #endif
    static void kektor_region_touch(volatile char* data, size_t size) {
        /* The first byte of each page; writing brings it in, reading alone would not. */
        size_t at = 0;
        while (at < size) {
            data[at] = data[at];
            at += 4096 - ((size_t)(data + at) & 4095);
        }
    }
    """
    void region_touch "kektor_region_touch"(char* data, size_t size) noexcept nogil
    void* region_resize "kektor_region_resize"(void* old, size_t old_size, size_t size) noexcept nogil
    void region_free "kektor_region_free"(void* data, size_t size) noexcept nogil
    void region_release "kektor_region_release"(void* data, size_t size) noexcept nogil

cdef enum:
    PAGE = 4096
    # Blocks from here on are mappings of their own: malloc would keep the holes that they leave when they grow.
    BIG = 1 << 18


# Tests see what happens without memory: so many requests are granted yet, and none after them; all while negative.
cdef Py_ssize_t n_granted = -1


def grant(Py_ssize_t n):
    """For tests: grant `n` more requests for memory and refuse all that follow; -1 grants all again.

    Returns
    -------
    int
        What was left of the last number; -1 when there was none.
    """
    global n_granted
    before = n_granted
    n_granted = n
    return before


cdef bint is_refused() noexcept nogil:
    global n_granted
    if n_granted > 0:
        n_granted -= 1
        return False
    return n_granted == 0


cdef void* resize_block(void* old, size_t old_size, size_t size) noexcept nogil:
    cdef void* data
    if is_refused():
        return NULL
    if old_size >= BIG and size >= BIG:
        return region_resize(old, old_size, size)
    if old_size < BIG and size < BIG:
        return realloc(old, size if size else 1)
    data = region_resize(NULL, 0, size) if size >= BIG else malloc(size if size else 1)
    if data != NULL and old != NULL:
        memcpy(data, old, old_size if old_size < size else size)
        free_block(old, old_size)
    return data


cdef void free_block(void* data, size_t size) noexcept nogil:
    if data != NULL and size >= BIG:
        region_free(data, size)
    else:
        free(data)


cdef class Region:
    """Zero-filled bytes that grow; the owner of one large array."""

    def __dealloc__(self):
        # The system takes its time for a large one, and nobody else can reach it any more.
        if self.data != NULL:
            with nogil:
                region_free(self.data, self.size)

    cdef int grow(self, size_t n_bytes) except -1:
        """Make room for `n_bytes` in all; new bytes are zero. Nobody may read the region meanwhile."""
        cdef size_t size
        cdef void* data
        if n_bytes <= self.size:
            return 0
        # Half as much again: address space only, until it is touched.
        size = self.size + self.size // 2
        if size < n_bytes:
            size = n_bytes
        size = (size + PAGE - 1) // PAGE * PAGE
        data = NULL if is_refused() else region_resize(self.data, self.size, size)
        if data == NULL:
            raise MemoryError(f"no memory for {size} bytes")
        self.data = <char*>data
        self.size = size
        return 0

    cdef void release(self, size_t start, size_t stop) noexcept nogil:
        """Give the whole pages between two offsets back to the system; what they held is lost."""
        start = (start + PAGE - 1) // PAGE * PAGE
        stop = stop // PAGE * PAGE
        if self.data != NULL and start < stop <= self.size:
            region_release(self.data + start, stop - start)

    cdef void touch(self, size_t start, size_t stop) noexcept nogil:
        """Have the pages between two offsets brought in now, rather than at the first use. What they hold stays."""
        stop = min(stop, self.size)
        if start < stop:
            region_touch(self.data + start, stop - start)
