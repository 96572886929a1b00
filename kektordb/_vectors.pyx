"""How are vectors stored? Rows of float32 by slot, zero-padded to whole cache lines; normalised for cosine."""

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.math cimport isfinite, sqrt
from libc.string cimport memcpy, memset

from kektordb._distance cimport active_kernels, distance_of_key
from kektordb._memory cimport Region
from kektordb.types import Section

import numpy as np

METRICS = ("cosine", "euclidean", "dot")
MAX_DIM = 65_536

cdef enum:
    LINE = 16       # floats in one cache line: a row begins on one, and a kernel never meets a ragged tail

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
    """

    def __cinit__(self, Py_ssize_t dim, str metric):
        self.dim = dim
        self.metric = metric
        self.stride = (dim + LINE - 1) // LINE * LINE
        self.normalise = metric == "cosine"
        self.many = active_kernels().l2_many if metric == "euclidean" else active_kernels().ip_many
        self.region = Region()

    cdef int reserve(self, Py_ssize_t n) except -1:
        self.region.grow(<size_t>n * self.stride * sizeof(float))
        self.rows = <float*>self.region.data
        return 0

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
        """Check vectors at the door and give them the form in which they are stored.

        Parameters
        ----------
        source : float32 (n, dim)

        Returns
        -------
        rows : float32 (n, dim)
            Normalised for cosine; a copy in any case.
        bad : int
            The first row that holds NaN or Inf or is too long for float32 distances; -1 when all are good.
        """
        cdef Py_ssize_t i, n = source.shape[0], bad = -1
        rows = np.empty((n, self.dim), dtype=np.float32)
        cdef float[:, ::1] target = rows
        with nogil:
            for i in range(n):
                if not self.prepare(&source[i, 0], &target[i, 0]):
                    bad = i
                    break
        return rows, bad

    def put(self, Py_ssize_t first, const float[:, ::1] source):
        """Copy prepared rows to the slots from `first` on; room is there."""
        cdef Py_ssize_t i
        cdef float* target
        with nogil:
            for i in range(source.shape[0]):
                target = self.rows + (first + i) * self.stride
                memcpy(target, &source[i, 0], self.dim * sizeof(float))
                memset(target + self.dim, 0, (self.stride - self.dim) * sizeof(float))

    def get(self, const unsigned int[::1] slots):
        """Return the stored vectors of these slots, float32 (n, dim), copied."""
        cdef Py_ssize_t i
        found = np.empty((slots.shape[0], self.dim), dtype=np.float32)
        cdef float[:, ::1] target = found
        for i in range(slots.shape[0]):
            memcpy(&target[i, 0], self.rows + <Py_ssize_t>slots[i] * self.stride, self.dim * sizeof(float))
        return found

    def read(self, size_t start, size_t stop):
        """Copy stored bytes, padding included. Rows never change while their item lives."""
        return (<char*>self.rows)[start:stop]

    def freeze(self, Py_ssize_t n):
        """List the section of the first `n` rows."""
        return [Section("vectors/rows", 4, n * self.stride * 4, self.read)]

    def load(self, object reader, Py_ssize_t n):
        """Fill the first `n` rows from a snapshot."""
        self.reserve(n)
        if n:
            rows = PyMemoryView_FromMemory(self.region.data, n * self.stride * 4, PyBUF_WRITE)
            reader.read_into("vectors/rows", rows)

    def memory_bytes(self, Py_ssize_t n):
        """Return the bytes that `n` rows take."""
        return n * self.stride * 4
