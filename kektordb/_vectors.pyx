"""How are vectors stored? Rows by slot, zero-padded to whole cache lines, normalised for cosine; exact as given, or as
halves.
"""

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.math cimport isfinite, sqrt
from libc.stdint cimport uint16_t
from libc.string cimport memcpy, memset

from kektordb._distance cimport active_kernels, distance_of_key
from kektordb._memory cimport Region
from kektordb.types import Section

import numpy as np

METRICS = ("cosine", "euclidean", "dot")
PRECISIONS = ("float32", "float16")
MAX_DIM = 65_536

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* The half of a float that a half holds exactly, as prepared rows do: the bias changed by a power of two, so that
       small ones become denormal in both forms, and the bits moved into place. */
    static inline uint16_t kektor_to_half(float value) {
        uint32_t bits;
        value *= 0x1p-112f;
        memcpy(&bits, &value, 4);
        return (uint16_t)((bits >> 16 & 0x8000u) | (bits >> 13 & 0x7fffu));
    }
    """
    uint16_t to_half "kektor_to_half"(float value) noexcept nogil

cdef enum:
    LINE_BYTES = 64     # a row begins on a cache line, and a kernel never meets a ragged tail

# Squared norms stay below this, so that no distance overflows float32: (a - b)^2 <= 4 max(a^2, b^2).
cdef double MAX_SQUARED_NORM = 8e37


cdef class Vectors:
    """Rows of one index.

    Parameters
    ----------
    dim : int
        Components of a vector, 1 to 65,536.
    metric : str
        ``cosine`` (rows are stored normalised), ``euclidean`` or ``dot``.
    precision : str
        ``float32``, or ``float16``: IEEE halves, to which rows are rounded at the door.
    """

    def __cinit__(self, Py_ssize_t dim, str metric, str precision="float32"):
        cdef const Kernels* kernels = active_kernels()
        self.dim = dim
        self.metric = metric
        self.precision = precision
        self.halves = precision == "float16"
        self.item_bytes = 2 if self.halves else 4
        self.stride = (dim * self.item_bytes + LINE_BYTES - 1) // LINE_BYTES * (LINE_BYTES // self.item_bytes)
        self.normalise = metric == "cosine"
        self.metric_is_dot = metric == "dot"
        if metric == "euclidean":
            self.many = kernels.f16_l2 if self.halves else kernels.f32_l2
        else:
            self.many = kernels.f16_ip if self.halves else kernels.f32_ip
        self.widen = kernels.widen
        self.region = Region()

    cdef int reserve(self, Py_ssize_t n) except -1:
        self.region.grow(<size_t>n * self.stride * self.item_bytes)
        self.rows = self.region.data
        return 0

    cdef const float* row(self, Py_ssize_t slot, float* buffer) noexcept nogil:
        """Return a stored row as float32 (stride,): in place, or widened into `buffer`."""
        if not self.halves:
            return <const float*>self.rows + slot * self.stride
        self.widen(<const uint16_t*>self.rows + slot * self.stride, self.stride, buffer)
        return buffer

    cdef int prepare(self, const float* source, float* target) noexcept nogil:
        """Copy a vector to `target`, normalised for cosine. Returns 0 when it is NaN, Inf or too long."""
        cdef double total = 0, scale
        cdef Py_ssize_t i
        for i in range(self.dim):
            total += <double>source[i] * <double>source[i]
        if not isfinite(total) or (total > MAX_SQUARED_NORM and not self.normalise):
            return 0
        if self.normalise and total > 0:
            scale = 1 / sqrt(total)
            for i in range(self.dim):
                target[i] = <float>(source[i] * scale)
        elif target != source:
            memcpy(target, source, self.dim * sizeof(float))
        return 1

    cdef float distance(self, unsigned int key) noexcept nogil:
        """Turn a kernel's key into the metric's distance."""
        cdef float value = distance_of_key(key)
        if self.normalise:
            value = 1 + value
            return 0 if value < 0 else 2 if value > 2 else value
        return value

    def prepare_rows(self, const float[:, ::1] source):
        """Check vectors at the door and give them the values with which they are stored.

        Parameters
        ----------
        source : float32 (n, dim)

        Returns
        -------
        rows : float32 (n, dim)
            Normalised for cosine, rounded for float16; a copy in any case.
        bad : int
            The first row that holds NaN or Inf, or is too long for float32 distances, or too large for float16; -1 when
            all are good.
        """
        cdef Py_ssize_t i, n = source.shape[0], bad = -1
        rows = np.empty((n, self.dim), dtype=np.float32)
        cdef float[:, ::1] target = rows
        with nogil:
            for i in range(n):
                if not self.prepare(&source[i, 0], &target[i, 0]):
                    bad = i
                    break
        if self.halves and bad < 0:
            with np.errstate(over="ignore"):
                rows = rows.astype(np.float16).astype(np.float32)
            large = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if len(large):
                bad = large[0]
        return rows, bad

    def put(self, Py_ssize_t first, const float[:, ::1] source):
        """Copy prepared rows to the slots from `first` on; room is there."""
        cdef Py_ssize_t i, j
        cdef char* target
        cdef uint16_t* half
        # With the GIL: the caller holds up searches, and who gives the GIL away may wait for it for milliseconds.
        for i in range(source.shape[0]):
            target = self.rows + (first + i) * self.stride * self.item_bytes
            if self.halves:
                half = <uint16_t*>target
                for j in range(self.dim):
                    half[j] = to_half(source[i, j])
            else:
                memcpy(target, &source[i, 0], self.dim * self.item_bytes)
            memset(target + self.dim * self.item_bytes, 0, (self.stride - self.dim) * self.item_bytes)

    def get(self, const unsigned int[::1] slots):
        """Return the stored vectors of these slots, float32 (n, dim), copied."""
        cdef Py_ssize_t i
        found = np.empty((slots.shape[0], self.dim), dtype=np.float32)
        buffer = np.empty(self.stride, dtype=np.float32)
        cdef float[:, ::1] target = found
        cdef float[::1] row = buffer
        for i in range(slots.shape[0]):
            memcpy(&target[i, 0], self.row(slots[i], &row[0]), self.dim * sizeof(float))
        return found

    def distances(self, const float[::1] query, const unsigned int[::1] slots):
        """Return the distances of these slots from a query, float32 (n,), exact as those of a search.

        None when the query, float32 (dim,) as the user gave it, holds NaN or Inf or is too long. Releases the GIL.
        """
        cdef Py_ssize_t i, n = slots.shape[0]
        cdef bint is_good
        if query.shape[0] != self.dim:
            raise ValueError(f"expected {self.dim} dimensions, got {query.shape[0]}")
        found = np.empty(n, dtype=np.float32)
        prepared = np.zeros(self.stride, dtype=np.float32)
        keys = np.empty(n + 1, dtype=np.uint32)
        cdef float[::1] target = found
        cdef float[::1] padded = prepared
        cdef unsigned int[::1] keys_view = keys
        with nogil:
            is_good = self.prepare(&query[0], &padded[0])
            if is_good and n:
                self.many(&padded[0], self.rows, &slots[0], n, self.stride, &keys_view[0])
                for i in range(n):
                    target[i] = self.distance(keys_view[i])
        return found if is_good else None

    def read(self, size_t start, size_t stop):
        """Copy stored bytes, padding included. Rows never change while their item lives."""
        return self.rows[start:stop]

    def freeze(self, Py_ssize_t n):
        """List the section of the first `n` rows."""
        return [Section("vectors/rows", self.item_bytes, self.memory_bytes(n), self.read)]

    def load(self, object reader, Py_ssize_t n):
        """Fill the first `n` rows from a snapshot."""
        self.reserve(n)
        if n:
            rows = PyMemoryView_FromMemory(self.region.data, self.memory_bytes(n), PyBUF_WRITE)
            reader.read_into("vectors/rows", rows)

    cpdef Py_ssize_t memory_bytes(self, Py_ssize_t n):
        """Return the bytes that `n` rows take."""
        return n * self.stride * self.item_bytes
