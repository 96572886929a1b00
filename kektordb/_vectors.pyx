"""How are vectors stored? Rows by slot, zero-padded to whole cache lines, normalised for cosine; exact as given, as
halves, or as bytes.

A row of bytes is the row that its codes stand for: distances are those to that one, and it is what comes back. For
``euclidean`` all rows are on one scale, so that distances of codes are those of rows. For ``cosine`` and ``dot`` each
row has a scale of its own, 4 bytes beside it: code c stands for ``factor * (c - 128)``. There is nothing to train
then, and for ``cosine`` the factor gives a row unit length exactly (docs/precision.md has the measurements).
"""

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.math cimport fabs, isfinite, sqrt
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy, memset

from kektordb._distance cimport TAIL_BYTES, QueryTail, active_kernels, distance_of_key
from kektordb._memory cimport Region
from kektordb._scale cimport Scale

from kektordb.errors import CorruptSnapshot
from kektordb.types import Section

import numpy as np

METRICS = ("cosine", "euclidean", "dot")
PRECISIONS = ("float32", "float16", "int8")
MAX_DIM = 65_536
MAX_HALF = 65_504

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* The half nearest to a float, to even where two are; infinity from 65,520 on. Adding 0.5 rounds what is too small
       for a half's exponent to multiples of 2^-24, its smallest number. */
    static inline uint16_t kektor_to_half(float value) {
        uint32_t bits, sign;
        memcpy(&bits, &value, 4);
        sign = bits >> 16 & 0x8000u;
        bits &= 0x7fffffffu;
        if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
        if (bits < 0x38800000u) {
            memcpy(&value, &bits, 4);
            value += 0.5f;
            memcpy(&bits, &value, 4);
            return (uint16_t)(sign | (bits - 0x3f000000u));
        }
        return (uint16_t)(sign | ((bits + 0xfffu + (bits >> 13 & 1u) - 0x38000000u) >> 13));
    }
    """
    uint16_t to_half "kektor_to_half"(float value) noexcept nogil

cdef enum:
    LINE_BYTES = 64     # a row begins on a cache line, and a kernel never meets a ragged tail
    INFINITE_HALF = 0x7c00
    FEW = 256           # rows that are copied sooner than another thread would give the GIL back

# Squared norms stay below this, so that no distance overflows float32: (a - b)^2 <= 4 max(a^2, b^2).
cdef double MAX_SQUARED_NORM = 8e37
# The longest component of a row, from which on its codes have a scale.
cdef double LEAST = 1e-30


cdef void scale_alone(double longest, float* low, float* per_unit) noexcept nogil:
    per_unit[0] = <float>(127 / longest)
    low[0] = <float>(-128 * longest / 127)


cdef class Vectors:
    """Rows of one index.

    Parameters
    ----------
    dim : int
        Components of a vector, 1 to 65,536.
    metric : str
        ``cosine`` (rows are stored normalised), ``euclidean`` or ``dot``.
    precision : str
        ``float32``; ``float16``: IEEE halves, to which rows are rounded at the door; or ``int8``.
    scale : Scale, optional
        On which bytes stand for components: with ``int8`` and ``euclidean``, and only then.
    """

    def __cinit__(self, Py_ssize_t dim, str metric, str precision="float32", Scale scale=None):
        cdef const Kernels* kernels = active_kernels()
        cdef Py_ssize_t c
        if (scale is None) == (precision == "int8" and metric == "euclidean"):
            raise ValueError(f"expected a scale for bytes and squared distances only, got {scale} with {precision}")
        self.dim = dim
        self.metric = metric
        self.precision = precision
        self.halves = precision == "float16"
        self.scale = scale
        self.coded = precision == "int8"
        self.factored = self.coded and scale is None
        self.item_bytes = 1 if self.coded else 2 if self.halves else 4
        self.stride = (dim * self.item_bytes + LINE_BYTES - 1) // LINE_BYTES * (LINE_BYTES // self.item_bytes)
        self.normalise = metric == "cosine"
        self.metric_is_dot = metric == "dot"
        if metric == "euclidean":
            self.many = kernels.u8f_l2 if self.coded else kernels.f16_l2 if self.halves else kernels.f32_l2
        else:
            self.many = kernels.u8f_ip if self.coded else kernels.f16_ip if self.halves else kernels.f32_ip
        self.widen = kernels.widen
        self.kernels = kernels
        self.region = Region()
        self.factor_region = Region()
        for c in range(256):
            self.meanings[c] = <float>(c - 128)
        if scale is not None:
            self.low = <float>scale.low
            self.unit = <float>scale.unit
            for c in range(256):
                self.meanings[c] = <float>(scale.low + <double>c * scale.unit)

    cdef int reserve(self, Py_ssize_t n) except -1:
        self.region.grow(<size_t>n * self.stride * self.item_bytes)
        self.rows = self.region.data
        if self.factored:
            self.factor_region.grow(<size_t>n * sizeof(float))
            self.factors = <float*>self.factor_region.data
        return 0

    def reserve_more(self, Py_ssize_t n):
        """Get the memory of `n` rows in all. Raises MemoryError."""
        self.reserve(n)

    cdef const float* row(self, Py_ssize_t slot, float* buffer) noexcept nogil:
        """Return a stored row as float32 (stride,): in place, or widened or decoded into `buffer`."""
        if self.coded:
            self.decode(slot, buffer)
            return buffer
        if not self.halves:
            return <const float*>self.rows + slot * self.stride
        self.widen(<const uint16_t*>self.rows + slot * self.stride, self.stride, buffer)
        return buffer

    cdef void decode(self, Py_ssize_t slot, float* target) noexcept nogil:
        cdef const uint8_t* codes = <const uint8_t*>self.rows + slot * self.stride
        cdef float factor = self.factors[slot] if self.factored else 1
        cdef Py_ssize_t j
        for j in range(self.dim):
            target[j] = self.meanings[codes[j]] * factor
        memset(target + self.dim, 0, (self.stride - self.dim) * sizeof(float))

    cdef bint encode(self, Py_ssize_t slot, const float* row) noexcept nogil:
        """Store a prepared row, float32 (dim,). Returns 0 when it is too large for halves."""
        cdef char* target = self.rows + slot * self.stride * self.item_bytes
        cdef uint16_t* half = <uint16_t*>target
        cdef Py_ssize_t j
        cdef bint is_good = True
        if self.factored:
            self.factors[slot] = self.encode_alone(row, <uint8_t*>target)
        elif self.coded:
            self.scale.encode(row, <uint8_t*>target)
        elif self.halves:
            for j in range(self.dim):
                half[j] = to_half(row[j])
                is_good = is_good and half[j] & INFINITE_HALF != INFINITE_HALF
        else:
            memcpy(target, row, self.dim * sizeof(float))
        memset(target + self.dim * self.item_bytes, 128 if self.factored else 0,
               (self.stride - self.dim) * self.item_bytes)
        return is_good

    cdef float encode_alone(self, const float* row, uint8_t* codes) noexcept nogil:
        """Encode a row on a scale of its own. Returns its factor, 0 for a zero row."""
        cdef Py_ssize_t j
        cdef double longest = 0, square = 0, of_row = 0
        cdef float low, per_unit
        for j in range(self.dim):
            longest = max(longest, fabs(row[j]))
            of_row += <double>row[j] * row[j]
        if longest < LEAST:
            memset(codes, 128, self.dim)
            return 0
        scale_alone(longest, &low, &per_unit)
        self.kernels.encode(row, self.dim, low, per_unit, codes)
        self.longest_square = max(self.longest_square, of_row)
        self.total_square += of_row
        if not self.normalise:
            return <float>(longest / 127)
        for j in range(self.dim):
            square += (<double>codes[j] - 128) ** 2
        return <float>(1 / sqrt(square))

    cdef void ask(self, const float* query, float* target) noexcept nogil:
        """Make of a prepared query one for `many`; `target` has room for a row of floats and a tail."""
        cdef Py_ssize_t j
        cdef QueryTail* tail = <QueryTail*>(target + self.stride)
        cdef float low = 0 if self.factored else self.low
        memset(target, 0, self.stride * sizeof(float))
        for j in range(self.dim):
            target[j] = query[j] - low
        tail.scale = self.unit
        tail.factors = self.factors

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
        cdef Py_ssize_t i
        # With the GIL: the caller holds up searches, and who gives the GIL away may wait for it for milliseconds.
        for i in range(source.shape[0]):
            self.encode(first + i, &source[i, 0])

    def convert(self, Vectors source not None, Py_ssize_t start, Py_ssize_t stop):
        """Store the rows of other vectors, in the same slots. Releases the GIL; reserves what it takes.

        Nobody searches these vectors yet, and those of `source` do not move meanwhile.

        Returns
        -------
        int
            The first slot whose row is too large for halves; -1 when all fit.
        """
        cdef Py_ssize_t i, bad = -1
        buffer = np.empty(source.stride, dtype=np.float32)
        cdef float[::1] row = buffer
        self.reserve(stop)
        with nogil:
            for i in range(start, stop):
                if not self.encode(i, source.row(i, &row[0])):
                    bad = i
                    break
        return bad

    def get(self, const unsigned int[::1] slots):
        """Return the stored vectors of these slots, float32 (n, dim), copied. Releases the GIL for many of them."""
        cdef Py_ssize_t i, n = slots.shape[0]
        found = np.empty((slots.shape[0], self.dim), dtype=np.float32)
        buffer = np.empty(self.stride, dtype=np.float32)
        cdef float[:, ::1] target = found
        cdef float[::1] row = buffer
        if n <= FEW:
            for i in range(n):
                memcpy(&target[i, 0], self.row(slots[i], &row[0]), self.dim * sizeof(float))
            return found
        with nogil:
            for i in range(n):
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
        prepared = np.zeros(2 * self.stride + TAIL_BYTES, dtype=np.float32)
        keys = np.empty(n + 1, dtype=np.uint32)
        cdef float[::1] target = found
        cdef float[::1] padded = prepared
        cdef unsigned int[::1] keys_view = keys
        cdef float* asked = &padded[0]
        with nogil:
            is_good = self.prepare(&query[0], &padded[0])
            if self.coded:
                asked += self.stride
                self.ask(&padded[0], asked)
            if is_good and n:
                self.many(asked, self.rows, &slots[0], n, self.stride, &keys_view[0])
                for i in range(n):
                    target[i] = self.distance(keys_view[i])
        return found if is_good else None

    def read(self, size_t start, size_t stop):
        """Copy stored bytes, padding included. Rows never change while their item lives."""
        return self.rows[start:stop]

    def read_factors(self, size_t start, size_t stop):
        """Copy factors of rows of bytes."""
        return (<char*>self.factors)[start:stop]

    def meta(self):
        """Return what is not in a section: the precision, and for bytes the scale and what was learnt of the rows."""
        meta = {"precision": self.precision}
        if self.scale is not None:
            return {**meta, "scale": self.scale.meta(), "sums": self.scale.sums()}
        if self.factored:
            return {**meta, "longest_square": self.longest_square, "total_square": self.total_square}
        return meta

    @staticmethod
    def of_meta(Py_ssize_t dim, str metric, dict meta):
        """Make vectors without rows as `meta` described others."""
        cdef Vectors vectors
        scale = None
        if "scale" in meta:
            scale = Scale(metric, dim, **meta["scale"], is_final=True)
            scale.learn(meta["sums"])
        vectors = Vectors(dim, metric, meta["precision"], scale)
        vectors.longest_square = meta.get("longest_square", 0)
        vectors.total_square = meta.get("total_square", 0)
        return vectors

    def freeze(self, Py_ssize_t n):
        """List the sections of the first `n` rows."""
        sections = [Section("vectors/rows", self.item_bytes, n * self.stride * self.item_bytes, self.read)]
        if self.factored:
            sections.append(Section("vectors/factors", 4, n * sizeof(float), self.read_factors))
        return sections

    def load(self, object reader, Py_ssize_t n):
        """Fill the first `n` rows from a snapshot. Raises CorruptSnapshot when there are others."""
        cdef Py_ssize_t n_bytes = n * self.stride * self.item_bytes
        if reader.size("vectors/rows") != n_bytes:
            raise CorruptSnapshot(f"vectors/rows: expected {n_bytes} bytes, got {reader.size('vectors/rows')}")
        self.reserve(n)
        if n:
            rows = PyMemoryView_FromMemory(self.region.data, n_bytes, PyBUF_WRITE)
            reader.read_into("vectors/rows", rows)
        if n and self.factored:
            factors = PyMemoryView_FromMemory(self.factor_region.data, n * sizeof(float), PyBUF_WRITE)
            reader.read_into("vectors/factors", factors)

    cpdef Py_ssize_t memory_bytes(self, Py_ssize_t n):
        """Return the bytes that `n` rows take."""
        return n * (self.stride * self.item_bytes + <Py_ssize_t>sizeof(float) * self.factored)
