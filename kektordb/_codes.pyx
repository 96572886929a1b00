"""What does a walk of the graph compare? A byte for each component of a row, on a scale that follows the data.

Codes are for walking only. What a search returns was compared in the precision in which rows are stored, and codes
are never saved: they are made again from the rows. Rows that are stored as bytes need none: they are codes themselves.
"""

from libc.math cimport ceil, log2

from kektordb._memory cimport Region
from kektordb._scale cimport Scale
from kektordb._vectors cimport Vectors

import numpy as np

TRAIN_FROM = TRAIN_ROWS

cdef enum:
    LINE_BYTES = 64
    SAMPLE = 1 << 20            # components that a range is chosen from, about
    FEW = 256                   # rows that are encoded sooner than another thread would give the GIL back

# Of a class: what sums in single precision and logarithms may be off.
cdef double ROUNDING = 0.01


def _step(Py_ssize_t dim, Py_ssize_t n):
    return max(1, n // max(TRAIN_FROM, SAMPLE // dim))


def sample_of(Vectors vectors, Py_ssize_t n, step=None):
    """Return every `step`-th of `n` rows, float32 (m, dim), copied; by default as many as a scale is chosen by.

    None of the rows may move meanwhile: a millisecond or two.
    """
    return vectors.get(np.arange(0, n, _step(vectors.dim, n) if step is None else step, dtype=np.uint32))


def choose_scale(Vectors vectors, Py_ssize_t n, rows=None, bint is_final=False):
    """Choose a scale for `n` stored rows; `rows`, which are about to be stored, help to choose.

    Parameters
    ----------
    vectors : Vectors
        None of its rows may move meanwhile.
    n : int
    rows : float32 (n_more, dim), optional
    is_final : bool
        Rows will be kept as codes only.

    Returns
    -------
    Scale
    """
    n_more = 0 if rows is None else len(rows)
    step = _step(vectors.dim, n + n_more)
    samples = [sample_of(vectors, n, step)] if n else []
    if n_more:
        samples.append(rows[::step])
    sample = samples[0] if len(samples) == 1 else np.concatenate(samples)
    return Scale.train(vectors.metric, np.ascontiguousarray(sample), n + n_more, is_final, vectors.scale)


cdef class Codes:
    """Codes of the first rows of `vectors`; see `train` to choose the range.

    Parameters
    ----------
    vectors : Vectors
    low, unit, n_trained, trained_error
        Of the `Scale`.
    """

    def __cinit__(self, Vectors vectors, double low, double unit, Py_ssize_t n_trained, double trained_error):
        self.vectors = vectors
        self.scale = Scale(vectors.metric, vectors.dim, low, unit, n_trained, trained_error)
        self.stride = (vectors.dim + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
        self.region = Region()
        self.error_region = Region()

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
        codes = Codes(vectors, **choose_scale(vectors, n, rows).meta())
        codes.append(n)
        return codes

    @property
    def low(self):
        """What code 0 stands for."""
        return self.scale.low

    @property
    def unit(self):
        """By how much a component grows from code to code."""
        return self.scale.unit

    @property
    def n_trained(self):
        """Rows that there were when the range was chosen."""
        return self.scale.n_trained

    def append(self, Py_ssize_t n):
        """Encode rows up to the n-th, from where it stopped the last time. Raises MemoryError."""
        buffer = np.empty(self.vectors.stride, dtype=np.float32)
        cdef float[::1] row = buffer
        cdef Py_ssize_t i
        self.reserve(n)
        if n - self.n <= FEW:
            # The caller holds up searches, and who gives the GIL away may wait for it for milliseconds.
            for i in range(self.n, n):
                self.encode(i, &row[0])
        else:
            with nogil:
                for i in range(self.n, n):
                    self.encode(i, &row[0])
        self.n = n

    def reserve_more(self, Py_ssize_t n):
        """Get the memory for codes of `n` rows in all. Raises MemoryError."""
        self.reserve(n)

    cdef int reserve(self, Py_ssize_t n) except -1:
        self.region.grow(<size_t>n * self.stride)
        self.rows = <uint8_t*>self.region.data
        self.error_region.grow(<size_t>n)
        self.errors = <uint8_t*>self.error_region.data
        return 0

    cdef void encode(self, Py_ssize_t slot, float* buffer) noexcept nogil:
        cdef double error = self.scale.encode(self.vectors.row(slot, buffer), self.rows + slot * self.stride)
        self.errors[slot] = error_class(error)

    def drifted(self):
        """Tell whether the range should be chosen anew."""
        return self.scale.drifted()

    def meta(self):
        """Return what `Codes` takes besides the vectors."""
        return self.scale.meta()

    def get(self, Py_ssize_t slot):
        """Return the codes of a row, uint8 (dim,), copied."""
        return np.frombuffer(self.rows[slot * self.stride:slot * self.stride + self.vectors.dim], np.uint8)


cdef uint8_t error_class(double error) noexcept nogil:
    """Return the smallest class whose errors are no smaller than the root of a squared error."""
    cdef double steps
    if error < 2. ** (-2 * LEAST_ERROR / ERROR_STEPS):
        return 0
    steps = ceil(log2(error) * ERROR_STEPS / 2 + ROUNDING) + LEAST_ERROR
    return <uint8_t>steps if steps < NO_BOUND else NO_BOUND
