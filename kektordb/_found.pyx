"""What of the found items is copied while the lock is held, so that it can be decoded after?

One block for each search, whatever happens to its items meanwhile: ``bounds`` (offsets of the texts in the block, one
more than there are texts), then the distances, then the texts: the ids, and after them the rows of metadata, if they
were asked for.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

from kektordb._strings cimport Blobs, StringMap

import numpy as np

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define found_prefetch(p) __builtin_prefetch(p)
    #else
    #define found_prefetch(p) ((void)(p))
    #endif
    """
    void prefetch "found_prefetch"(const void* address) noexcept nogil


cdef class Found:
    """The found items of one search, nearest first. Made by `collect`."""

    def __dealloc__(self):
        PyMem_Free(self.bounds)
        self.bounds = NULL

    def __len__(self):
        return self.n

    @property
    def ids(self):
        """The ids of the items, list of str."""
        cdef Py_ssize_t i
        if self.texts is None:
            self.texts = [self._id(i) for i in range(self.n)]
        return self.texts

    @property
    def distances(self):
        """The distances of the items, float32 (n,)."""
        cdef float[::1] target
        if self.numbers is None:
            numbers = np.empty(self.n, np.float32)
            if self.n:
                target = numbers
                memcpy(&target[0], self._values(), self.n * sizeof(float))
            self.numbers = numbers
        return self.numbers

    cdef const float* _values(self) noexcept nogil:
        # After the bounds, of which the first says where the texts begin.
        return <const float*>(<const char*>self.bounds + self.bounds[0]) - self.n

    def _distance(self, Py_ssize_t i):
        return self._values()[i]

    cdef str _id(self, Py_ssize_t i):
        return PyUnicode_DecodeUTF8(
            <const char*>self.bounds + self.bounds[i], <Py_ssize_t>(self.bounds[i + 1] - self.bounds[i]), NULL
        )

    def _metadata(self, Py_ssize_t i):
        """Return the metadata of item `i`, which is there: a new dict; None when it was not asked for."""
        if self._store is None:
            return None
        i += self.n
        return self._store.decode(PyBytes_FromStringAndSize(
            <const char*>self.bounds + self.bounds[i], <Py_ssize_t>(self.bounds[i + 1] - self.bounds[i])
        ))

    cdef int fill(self, StringMap ids, Blobs rows, const uint32_t* slots, const float* distances,
                  Py_ssize_t n) except -1:
        """Copy the texts of `n` slots and their distances; `rows` may be None. The collection's lock is held."""
        cdef Py_ssize_t n_texts = n if rows is None else 2 * n
        cdef size_t first = <size_t>(n_texts + 1) * sizeof(size_t) + <size_t>n * sizeof(float), total = first
        cdef size_t* bounds
        # Each step waits for memory, so all items take it together: offsets, texts, copies.
        _touch_starts(ids.blobs, slots, n)
        if rows is not None:
            _touch_starts(rows, slots, n)
        _touch_texts(ids.blobs, slots, n)
        if rows is not None:
            _touch_texts(rows, slots, n)
        total += _measure(ids.blobs, slots, n)
        if rows is not None:
            total += _measure(rows, slots, n)
        bounds = <size_t*>PyMem_Malloc(total)
        if bounds == NULL:
            raise MemoryError("no memory for the results of a search")
        bounds[0] = first
        if n:
            memcpy(bounds + n_texts + 1, distances, n * sizeof(float))
        _copy(ids.blobs, slots, n, bounds, bounds)
        if rows is not None:
            _copy(rows, slots, n, bounds, bounds + n)
        self.bounds = bounds
        self.n = n
        return 0


cdef Found collect(kind, StringMap ids, Blobs rows, store, const uint32_t* slots, const float* distances, Py_ssize_t n,
                   bint is_product, vectors):
    cdef Found found = kind()
    found.fill(ids, rows, slots, distances, n)
    found._is_product = is_product
    found._store = store
    found._vectors = vectors
    return found


cdef list collect_many(kind, StringMap ids, Blobs rows, store, const uint32_t[:, ::1] slots,
                       const float[:, ::1] distances, const int64_t[::1] counts, bint is_product):
    cdef Py_ssize_t i, k = slots.shape[1]
    cdef list all_found = []
    for i in range(slots.shape[0]):
        all_found.append(collect(kind, ids, rows, store, &slots[i, 0] if k else NULL, &distances[i, 0] if k else NULL,
                                 counts[i], is_product, None))
    return all_found


cdef inline void _touch_starts(Blobs blobs, const uint32_t* slots, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        prefetch(blobs.start + slots[i])


cdef inline void _touch_texts(Blobs blobs, const uint32_t* slots, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if <Py_ssize_t>slots[i] < blobs.n_numbers and blobs.start[slots[i]] < blobs.arena.used:
            prefetch(blobs.arena.data + blobs.start[slots[i]])


cdef inline size_t _measure(Blobs blobs, const uint32_t* slots, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef size_t length = 0
    cdef size_t total = 0
    for i in range(n):
        if blobs.get(slots[i], &length) != NULL:
            total += length
    return total


cdef inline void _copy(Blobs blobs, const uint32_t* slots, Py_ssize_t n, size_t* block, size_t* bounds) noexcept nogil:
    """Copy texts to where ``bounds[0]`` says, and write the bounds after it."""
    cdef Py_ssize_t i
    cdef size_t length = 0
    cdef const char* text
    for i in range(n):
        bounds[i + 1] = bounds[i]
        text = blobs.get(slots[i], &length)
        if text != NULL:
            memcpy(<char*>block + bounds[i], text, length)
            bounds[i + 1] += length
