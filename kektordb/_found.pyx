"""What of the found items is copied while the lock is held, so that it can be decoded after?

One block for each search, whatever happens to its items meanwhile: ``bounds`` (offsets of the texts in the block, one
more than there are texts), then fused scores, distances and text scores, as far as the search has them, then the texts:
the ids, and after them the rows of metadata, if they were asked for.
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
        """The distances of the items, float32 (n,); NaN when the search had no vector."""
        if self.numbers is None:
            self.numbers = np.full(self.n, np.nan, np.float32) if self.near == NULL else self._floats(self.near)
        return self.numbers

    @property
    def text_scores(self):
        """BM25 of the items, float32 (n,); None when the search had no text."""
        return None if self.text == NULL else self._floats(self.text)

    def _fused_scores(self):
        """Return what became of distance and text score, float64 (n,); None unless there are both."""
        cdef double[::1] target
        if self.fused == NULL:
            return None
        scores = np.empty(self.n)
        if self.n:
            target = scores
            memcpy(&target[0], self.fused, self.n * sizeof(double))
        return scores

    cdef object _floats(self, const float* values):
        cdef float[::1] target
        floats = np.empty(self.n, np.float32)
        if self.n:
            target = floats
            memcpy(&target[0], values, self.n * sizeof(float))
        return floats

    def _distance(self, Py_ssize_t i):
        return None if self.near == NULL else self.near[i]

    def _text_score(self, Py_ssize_t i):
        return None if self.text == NULL else self.text[i]

    def _fused_score(self, Py_ssize_t i):
        return None if self.fused == NULL else self.fused[i]

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

    cdef int fill(self, StringMap ids, Blobs rows, const Numbers* numbers) except -1:
        """Copy the texts of the slots, and their numbers; `rows` may be None. The collection's lock is held."""
        cdef Py_ssize_t n = numbers.n, n_texts = n if rows is None else 2 * n
        cdef const uint32_t* slots = numbers.slots
        cdef size_t total = <size_t>(n_texts + 1) * sizeof(size_t), first
        cdef char* block
        # Each step waits for memory, so all items take it together: offsets, texts, copies.
        _touch_starts(ids.blobs, slots, n)
        if rows is not None:
            _touch_starts(rows, slots, n)
        _touch_texts(ids.blobs, slots, n)
        if rows is not None:
            _touch_texts(rows, slots, n)
        first = total + <size_t>n * (_size(numbers.fused, sizeof(double)) + _size(numbers.distances, sizeof(float))
                                     + _size(numbers.text_scores, sizeof(float)))
        total = first + _measure(ids.blobs, slots, n)
        if rows is not None:
            total += _measure(rows, slots, n)
        block = <char*>PyMem_Malloc(total)
        if block == NULL:
            raise MemoryError("no memory for the results of a search")
        self.bounds = <size_t*>block
        self.bounds[0] = first
        self.n = n
        block += <size_t>(n_texts + 1) * sizeof(size_t)
        self.fused = <const double*>_put(&block, numbers.fused, n, sizeof(double))
        self.near = <const float*>_put(&block, numbers.distances, n, sizeof(float))
        self.text = <const float*>_put(&block, numbers.text_scores, n, sizeof(float))
        _copy(ids.blobs, slots, n, self.bounds, self.bounds)
        if rows is not None:
            _copy(rows, slots, n, self.bounds, self.bounds + n)
        return 0


cdef inline size_t _size(const void* values, size_t item_bytes) noexcept nogil:
    return 0 if values == NULL else item_bytes


cdef inline const void* _put(char** at, const void* values, Py_ssize_t n, size_t item_bytes) noexcept nogil:
    """Copy numbers into the block, unless there are none, and return where they lie there."""
    cdef char* begin = at[0]
    if values == NULL:
        return NULL
    if n:
        memcpy(begin, values, <size_t>n * item_bytes)
    at[0] += <size_t>n * item_bytes
    return begin


cdef Found collect(kind, StringMap ids, Blobs rows, store, const Numbers* numbers, bint is_product, vectors):
    cdef Found found = kind()
    found.fill(ids, rows, numbers)
    found._is_product = is_product
    found._store = store
    found._vectors = vectors
    return found


cdef list collect_many(kind, StringMap ids, Blobs rows, store, const uint32_t[:, ::1] slots,
                       const float[:, ::1] distances, const int64_t[::1] counts, bint is_product):
    cdef Py_ssize_t i, k = slots.shape[1]
    cdef list all_found = []
    cdef Numbers numbers = Numbers(0, NULL, NULL, NULL, NULL)
    for i in range(slots.shape[0]):
        numbers.n = counts[i]
        if k:
            numbers.slots = &slots[i, 0]
            numbers.distances = &distances[i, 0]
        all_found.append(collect(kind, ids, rows, store, &numbers, is_product, None))
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
