"""How does one byte stand for a component? Codes of the rows, on a scale that follows the data.

One global range for all components: code c stands for ``low + c * unit``. It leaves out 0.01 % at either end, whose
components are clipped: a few outliers would otherwise make all other codes coarse. For inner products, whose largest
belong to outliers, the range leaves out nothing, and lies around zero, so that 128 is zero and both sides can be codes.

Codes are for walking only. What a search returns was compared in the precision in which rows are stored, and codes
are never saved: they are made again from the rows.
"""

from libc.math cimport fabs
from libc.string cimport memset

from kektordb._distance cimport active_kernels
from kektordb._memory cimport Region
from kektordb._vectors cimport Vectors

import numpy as np

TRAIN_FROM = TRAIN_ROWS

cdef enum:
    LINE_BYTES = 64
    SAMPLE = 1 << 20            # components that a range is chosen from, about
    FEW = 256                   # rows that are encoded sooner than another thread would give the GIL back
    RECENT = 256                # rows whose mean error is compared with that of the training

# Components left out at either end of the range.
cdef double TAIL = 1e-4
# A row that lies far outside the range shall not make all sums infinite.
cdef double MAX_ERROR = 1e30
# The inverse of a unit is a finite float.
cdef double MIN_UNIT = 1e-37
# The range no longer fits when codes err so much more than they did, and there are so many more rows.
cdef double DRIFT = 2
cdef double GROWTH = 1.25
# For products the longest rows are the answers, and none may be clipped by much.
cdef double BEYOND = 1.25
# One row in seven that lies far outside tells of other data, a few do not: so many times the error is all that counts.
cdef double OUTLIER = 8


cdef inline bint is_zero(const float* row, Py_ssize_t d) noexcept nogil:
    cdef Py_ssize_t j = 0
    while j < d and row[j] == 0:
        j += 1
    return j == d


cdef class Codes:
    """Codes of the first rows of `vectors`; see `train` to choose the range.

    Parameters
    ----------
    vectors : Vectors
    low, unit : float
    n_trained : int
    trained_error : float
    """

    def __cinit__(self, Vectors vectors, double low, double unit, Py_ssize_t n_trained, double trained_error):
        self.vectors = vectors
        self.low = low
        self.unit = unit
        self.n_trained = n_trained
        self.trained_error = trained_error
        self.stride = (vectors.dim + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
        self.kernels = active_kernels()
        self.region = Region()

    @staticmethod
    def train(Vectors vectors, Py_ssize_t n, rows=None):
        """Choose a range and encode all rows: n stored ones; `rows`, which are about to be stored, help to choose.

        Parameters
        ----------
        vectors : Vectors
        n : int
            Rows in `vectors`; none of them may move meanwhile.
        rows : float32 (n_more, dim), optional

        Returns
        -------
        Codes
            Of the `n` rows.
        """
        n_more = 0 if rows is None else len(rows)
        wanted = max(TRAIN_FROM, SAMPLE // vectors.dim)
        step = max(1, (n + n_more) // wanted)
        sample = vectors.get(np.arange(0, n, step, dtype=np.uint32))
        if n_more:
            sample = np.concatenate([sample, rows[::step]])
        low, high = _range(sample.ravel(), vectors.metric == "dot")
        unit = max((high - low) / 255, MIN_UNIT)
        error = _mean_error(vectors, sample, low, unit)
        codes = Codes(vectors, low, unit, n + n_more, error)
        codes.append(n)
        return codes

    def append(self, Py_ssize_t n):
        """Encode rows up to the n-th, from where it stopped the last time. Raises MemoryError."""
        buffer = np.empty(self.vectors.stride, dtype=np.float32)
        cdef float[::1] row = buffer
        self.reserve(n)
        if n - self.n <= FEW:
            # The caller holds up searches, and who gives the GIL away may wait for it for milliseconds.
            self.encode(self.n, n, &row[0])
            return
        with nogil:
            self.encode(self.n, n, &row[0])

    cdef int reserve(self, Py_ssize_t n) except -1:
        self.region.grow(<size_t>n * self.stride)
        self.rows = <uint8_t*>self.region.data
        return 0

    cdef void encode(self, Py_ssize_t first, Py_ssize_t stop, float* buffer) noexcept nogil:
        """Encode rows into reserved room; `first` is where it stopped the last time.

        For cosine a zero row is far from all others, but as a point it lies among them, nearer than most. So its codes
        are those of a far corner.
        """
        cdef Py_ssize_t i, j
        cdef const float* row
        cdef double error, square, per_unit = 1 / self.unit
        cdef double most = OUTLIER * max(self.trained_error, self.vectors.dim / 12.)
        for i in range(first, stop):
            row = self.vectors.row(i, buffer)
            if self.vectors.normalise and is_zero(row, self.vectors.dim):
                memset(self.rows + i * self.stride, 255 if self.low + 127.5 * self.unit >= 0 else 0, self.vectors.dim)
                error = self.trained_error
                self.n_zero += 1
            else:
                error = self.kernels.encode(row, self.vectors.dim, <float>self.low, <float>per_unit,
                                            self.rows + i * self.stride)
            if not error < MAX_ERROR:
                error = MAX_ERROR
            self.total_error += error
            if self.vectors.metric_is_dot:
                square = 0
                for j in range(self.vectors.dim):
                    square += <double>row[j] * row[j]
                    self.longest = max(self.longest, fabs(row[j]))
                self.total_square += square * per_unit * per_unit
            self.n_recent += 1
            self.recent_error += error if error < most else most
            if self.n_recent == RECENT:
                self.last_error = self.recent_error / RECENT
                self.n_recent = 0
                self.recent_error = 0
        self.n = stop

    cdef double mean_error(self) noexcept nogil:
        return self.total_error / self.n if self.n else 0

    def drifted(self):
        """Tell whether the range should be chosen anew."""
        if self.n < GROWTH * self.n_trained:
            return False
        return self.last_error > DRIFT * self.trained_error or self.longest > BEYOND * (self.low + 255 * self.unit)

    def meta(self):
        """Return what `Codes` takes besides the vectors."""
        return {"low": self.low, "unit": self.unit, "n_trained": self.n_trained, "trained_error": self.trained_error}

    def get(self, Py_ssize_t slot):
        """Return the codes of a row, uint8 (dim,), copied."""
        return np.frombuffer(self.rows[slot * self.stride:slot * self.stride + self.vectors.dim], np.uint8)


def _range(values, product):
    """Return the ends of a range: around zero for products, or else one that leaves out the tails."""
    cdef Py_ssize_t last = len(values) - 1, at = <Py_ssize_t>(TAIL * last)
    if product:
        high = max(-float(values.min()), float(values.max()))
        # 127 units above zero and 128 below.
        return -high * 128 / 127, high
    parted = np.partition(values, (at, last - at))
    return float(parted[at]), float(parted[last - at])


def _mean_error(Vectors vectors, const float[:, ::1] sample, double low, double unit):
    cdef Py_ssize_t i, n = sample.shape[0]
    cdef double total = 0, error
    codes = np.empty(vectors.dim, dtype=np.uint8)
    cdef uint8_t[::1] target = codes
    for i in range(n):
        error = active_kernels().encode(&sample[i, 0], vectors.dim, <float>low, <float>(1 / unit), &target[0])
        total += error if error < MAX_ERROR else MAX_ERROR
    return total / n if n else 0
