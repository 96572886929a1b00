"""On which scale do bytes stand for components? One range for all of them, that follows the data.

Code c stands for ``low + c * unit``. The range leaves out 0.01 % at either end, whose components are clipped: a few
outliers would otherwise make all other codes coarse. For inner products, whose largest belong to outliers, the range
leaves out nothing, and lies around zero, so that 128 is zero and both sides can be codes. benchmarks/quantisers.py
compares it with others.
"""

from libc.math cimport INFINITY, fabs
from libc.string cimport memset

from kektordb._distance cimport active_kernels

import numpy as np

TRAIN_FROM = 1000

cdef enum:
    RECENT = 256                # rows whose mean error is compared with that of the training
    RECENT_FINAL = 32           # where what is clipped is lost

# Components left out at either end of the range.
cdef double TAIL = 1e-4
# A row that lies far outside the range shall not make all sums infinite.
cdef double MAX_ERROR = 1e30
# The inverse of a unit is a finite float.
cdef double MIN_UNIT = 1e-37
# The range no longer fits when codes err so much more than they did, and there are so many more rows.
cdef double DRIFT = 2
cdef double GROWTH = 1.25
cdef double GROWTH_FINAL = 1.05
# For products the longest rows are the answers, and none may be clipped by much.
cdef double BEYOND = 1.25
# One row in seven that lies far outside tells of other data, a few do not: so many times the error is all that counts.
cdef double OUTLIER = 8


cdef class Scale:
    """A range, and the sums that tell how well it fits; see `train` to choose one.

    Parameters
    ----------
    metric : str
    dim : int
    low, unit : float
    n_trained : int
    trained_error : float
    is_final : bool
        Rows are kept as codes only: what is clipped is lost, and a range that does not fit is left sooner.
    """

    def __cinit__(self, str metric, Py_ssize_t dim, double low, double unit, Py_ssize_t n_trained, double trained_error,
                  bint is_final=False):
        self.metric = metric
        self.dim = dim
        self.low = low
        self.unit = unit
        self.n_trained = n_trained
        self.trained_error = trained_error
        self.is_final = is_final
        self.normalised = metric == "cosine"
        self.product = metric == "dot"
        self.kernels = active_kernels()
        self.recent_low = self.last_low = INFINITY
        self.recent_high = self.last_high = -INFINITY

    @staticmethod
    def train(str metric, const float[:, ::1] sample, Py_ssize_t n_rows, bint is_final=False, Scale before=None):
        """Choose a range for `n_rows` rows by some of them.

        Parameters
        ----------
        metric : str
        sample : float32 (n, dim)
            Prepared rows, at least one.
        n_rows : int
        is_final : bool, optional
            For metrics other than ``dot``.
        before : Scale, optional
            Which had clipped rows of late: they say nothing of the range any more, but it remembers.
        """
        cdef double low, high, unit, error
        low, high = _range(np.asarray(sample).ravel(), metric == "dot")
        if before is not None:
            low, high = min(low, before.last_low), max(high, before.last_high)
        unit = max((high - low) / 255, MIN_UNIT)
        error = mean_error_of(sample, low, unit)
        return Scale(metric, sample.shape[1], low, unit, n_rows, error, is_final)

    cdef double encode(self, const float* row, uint8_t* codes) noexcept nogil:
        """Encode a row, and take note of its error. Returns the squared error in units of a code.

        For cosine a zero row is far from all others, but as a point it lies among them, nearer than most. So its codes
        are those of a far corner, which says nothing of its distances: the error is infinite.
        """
        cdef Py_ssize_t j
        cdef double error, square, per_unit = 1 / self.unit, true_error = INFINITY
        cdef double most = OUTLIER * max(self.trained_error, self.dim / 12.)
        if self.normalised and is_zero(row, self.dim):
            memset(codes, 255 if self.low + 127.5 * self.unit >= 0 else 0, self.dim)
            error = self.trained_error
            self.n_zero += 1
        else:
            error = true_error = self.kernels.encode(row, self.dim, <float>self.low, <float>per_unit, codes)
        if not error < MAX_ERROR:
            error = MAX_ERROR
        self.total_error += error
        if self.product:
            square = 0
            for j in range(self.dim):
                square += <double>row[j] * row[j]
                self.longest = max(self.longest, fabs(row[j]))
            self.total_square += square * per_unit * per_unit
        if self.is_final and error > DRIFT * self.usual_error():
            for j in range(self.dim):
                self.recent_low = min(self.recent_low, row[j])
                self.recent_high = max(self.recent_high, row[j])
        self.n += 1
        self.n_recent += 1
        self.recent_error += error if error < most else most
        if self.n_recent == (RECENT_FINAL if self.is_final else RECENT):
            self.last_error = self.recent_error / self.n_recent
            self.n_recent = 0
            self.recent_error = 0
            self.last_low, self.last_high = self.recent_low, self.recent_high
            self.recent_low, self.recent_high = INFINITY, -INFINITY
        return true_error

    cdef double usual_error(self) noexcept nogil:
        """Return the error that a row has by rounding. Whole numbers may have none at all, until one is clipped."""
        return max(self.trained_error, self.dim / 12.) if self.is_final else self.trained_error

    cdef double mean_error(self) noexcept nogil:
        return self.total_error / self.n if self.n else 0

    cdef double mean_square(self) noexcept nogil:
        """Return the mean squared length of a row in units of a code; known for products only."""
        return self.total_square / self.n if self.n else 0

    def drifted(self, const float[:, ::1] rows=None):
        """Tell whether the range should be chosen anew, by the rows encoded so far and by `rows`, which come next."""
        cdef Py_ssize_t n_more = 0 if rows is None else rows.shape[0]
        cdef double longest = self.longest
        if self.n + n_more < (GROWTH_FINAL if self.is_final else GROWTH) * self.n_trained:
            return False
        if self.last_error > DRIFT * self.usual_error():
            return True
        if n_more >= RECENT_FINAL:
            step = max(1, n_more // TRAIN_FROM)
            sample = np.ascontiguousarray(np.asarray(rows)[::step])
            if mean_error_of(sample, self.low, self.unit) > DRIFT * self.usual_error():
                return True
        if self.product and n_more:
            longest = max(longest, float(np.abs(np.asarray(rows)).max()))
        return longest > BEYOND * (self.low + 255 * self.unit)

    def meta(self):
        """Return what `Scale` takes besides metric and dimension."""
        return {"low": self.low, "unit": self.unit, "n_trained": self.n_trained, "trained_error": self.trained_error}

    def sums(self):
        """Return what was learnt of the rows; for `learn`, where the rows are not encoded again."""
        return {
            "n": self.n,
            "n_zero": self.n_zero,
            "total_error": self.total_error,
            "total_square": self.total_square,
            "last_error": self.last_error,
            "last_low": self.last_low,
            "last_high": self.last_high,
        }

    def learn(self, dict sums):
        """Take in what another scale of these rows has learnt."""
        self.n = sums["n"]
        self.n_zero = sums["n_zero"]
        self.total_error = sums["total_error"]
        self.total_square = sums["total_square"]
        self.last_error = sums["last_error"]
        self.last_low = sums["last_low"]
        self.last_high = sums["last_high"]


def _range(values, bint product):
    """Return the ends of a range: around zero for products, or else one that leaves out the tails."""
    cdef Py_ssize_t last = len(values) - 1, at = <Py_ssize_t>(TAIL * last)
    if product:
        high = max(-float(values.min()), float(values.max()))
        # 127 units above zero and 128 below.
        return -high * 128 / 127, high
    parted = np.partition(values, (at, last - at))
    return float(parted[at]), float(parted[last - at])


def mean_error_of(const float[:, ::1] sample, double low, double unit):
    """Return the mean squared error of rows on a range, in units of a code."""
    cdef Py_ssize_t i, n = sample.shape[0], dim = sample.shape[1]
    cdef double total = 0, error
    codes = np.empty(dim, dtype=np.uint8)
    cdef uint8_t[::1] target = codes
    with nogil:
        for i in range(n):
            error = active_kernels().encode(&sample[i, 0], dim, <float>low, <float>(1 / unit), &target[0])
            total += error if error < MAX_ERROR else MAX_ERROR
    return total / n if n else 0
