"""Which slots? Packed bitmaps of 64-bit words, the result of a filter and the record of what is alive.

Invariant: bits at and beyond ``n_bits`` are zero, in the words in use and in the spare words behind them. So counting,
combining and growing never need to look at where the last word ends.
"""

from cpython cimport array
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

import array
import sys

from kektordb._memory cimport is_refused
from kektordb._types cimport slot_t, word_t

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define kektor_ctz64(x) __builtin_ctzll(x)
    #else
    #include <intrin.h>
    static int kektor_ctz64(unsigned __int64 x) { unsigned long i; _BitScanForward64(&i, x); return (int)i; }
    #endif
    """
    int kektor_ctz64(word_t word) noexcept nogil

cdef array.array _SLOTS = array.array("I")
cdef bint _SWAPPED = sys.byteorder != "little"


cdef Py_ssize_t bitmap_count(const word_t* words, Py_ssize_t n_words) noexcept nogil:
    # Arithmetic instead of the popcnt instruction: the baseline x86-64 has none, and this loop vectorises.
    cdef Py_ssize_t i
    cdef word_t x, total = 0
    for i in range(n_words):
        x = words[i]
        x = x - ((x >> 1) & 0x5555555555555555u)
        x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u)
        x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Fu
        x = x + (x >> 8)
        x = x + (x >> 16)
        x = x + (x >> 32)
        total += x & 0x7F
    return <Py_ssize_t>total


cdef Py_ssize_t _count_and(const word_t* a, const word_t* b, Py_ssize_t n_words) noexcept nogil:
    cdef Py_ssize_t i, j, n, total = 0
    cdef word_t block[64]
    i = 0
    while i < n_words:
        n = min(64, n_words - i)
        for j in range(n):
            block[j] = a[i + j] & b[i + j]
        total += bitmap_count(block, n)
        i += n
    return total


cdef void _write_slots(const word_t* words, Py_ssize_t n_words, slot_t* out) noexcept nogil:
    cdef Py_ssize_t i, n = 0
    cdef word_t word
    for i in range(n_words):
        word = words[i]
        while word:
            out[n] = <slot_t>(i * 64 + kektor_ctz64(word))
            n += 1
            word &= word - 1


cdef class Bitmap:
    """A set of slots below a fixed bound.

    Operations between bitmaps of different length take what is missing as zero and keep the length of the left one.
    Nothing here locks: a bitmap that one thread changes must not be read by another.

    Parameters
    ----------
    n_bits : int
        Number of slots.
    fill : bool
        Start with all of them in the set.
    """

    def __cinit__(self, Py_ssize_t n_bits, bint fill=False):
        if n_bits < 0:
            raise ValueError(f"a bitmap cannot have {n_bits} bits")
        self._reserve((n_bits + 63) >> 6)
        self.n_bits = n_bits
        self.n_words = (n_bits + 63) >> 6
        if fill:
            self.invert()

    def __dealloc__(self):
        free(self.words)
        self.words = NULL

    cdef int _reserve(self, Py_ssize_t n_words) except -1:
        cdef word_t* words
        if n_words <= self._capacity_words and self.words != NULL:
            return 0
        if is_refused():
            words = NULL
        elif self.words == NULL:
            words = <word_t*>calloc(n_words + 1, sizeof(word_t))
        else:
            words = <word_t*>realloc(self.words, (n_words + 1) * sizeof(word_t))
        if words == NULL:
            raise MemoryError(f"no room for a bitmap of {n_words} words")
        if self.words != NULL:
            memset(words + self._capacity_words, 0, (n_words + 1 - self._capacity_words) * sizeof(word_t))
        self.words = words
        self._capacity_words = n_words
        return 0

    def resize(self, Py_ssize_t n_bits):
        """Grow to `n_bits`; new bits are zero. Shrinking is an error. Amortised: capacity grows by half."""
        cdef Py_ssize_t n_words = (n_bits + 63) >> 6
        if n_bits < self.n_bits:
            raise ValueError(f"a bitmap of {self.n_bits} bits cannot shrink to {n_bits}")
        if n_words > self._capacity_words:
            self._reserve(max(n_words, self._capacity_words + (self._capacity_words >> 1)))
        self.n_bits = n_bits
        self.n_words = n_words

    def reserve(self, Py_ssize_t n_bits):
        """Get the memory that `resize` to at most `n_bits` will take."""
        cdef Py_ssize_t n_words = (n_bits + 63) >> 6
        if n_words > self._capacity_words:
            self._reserve(max(n_words, self._capacity_words + (self._capacity_words >> 1)))

    def set(self, Py_ssize_t slot):
        """Put `slot` into the set. IndexError beyond ``n_bits``."""
        if not 0 <= slot < self.n_bits:
            raise IndexError(f"slot {slot} of a bitmap of {self.n_bits} bits")
        bitmap_set(self.words, <slot_t>slot)

    def set_range(self, Py_ssize_t start, Py_ssize_t stop):
        """Put the slots from `start` up to `stop`, excluded, into the set. IndexError beyond ``n_bits``."""
        cdef Py_ssize_t slot = start
        if not 0 <= start <= stop <= self.n_bits:
            raise IndexError(f"slots {start} to {stop} of a bitmap of {self.n_bits} bits")
        while slot < stop and slot & 63:
            bitmap_set(self.words, <slot_t>slot)
            slot += 1
        while slot + 64 <= stop:
            self.words[slot >> 6] = ~<word_t>0
            slot += 64
        while slot < stop:
            bitmap_set(self.words, <slot_t>slot)
            slot += 1

    def clear(self, Py_ssize_t slot):
        """Take `slot` out of the set. IndexError beyond ``n_bits``."""
        if not 0 <= slot < self.n_bits:
            raise IndexError(f"slot {slot} of a bitmap of {self.n_bits} bits")
        bitmap_clear(self.words, <slot_t>slot)

    def __contains__(self, slot):
        cdef Py_ssize_t number = slot
        return 0 <= number < self.n_bits and bitmap_get(self.words, <slot_t>number)

    def __len__(self):
        return self.n_bits

    def __eq__(self, other):
        if not isinstance(other, Bitmap):
            return NotImplemented
        return self.n_bits == (<Bitmap>other).n_bits and self.to_bytes() == other.to_bytes()

    __hash__ = None

    def __repr__(self):
        return f"Bitmap({self.n_bits} bits, {self.count()} set)"

    def iand(self, Bitmap other not None):
        """Keep what is also in `other`, in place."""
        cdef Py_ssize_t i, n = min(self.n_words, other.n_words)
        cdef word_t* mine = self.words
        cdef const word_t* theirs = other.words
        with nogil:
            for i in range(n):
                mine[i] &= theirs[i]
            memset(mine + n, 0, (self.n_words - n) * sizeof(word_t))

    def ior(self, Bitmap other not None):
        """Add what is in `other` and below ``n_bits``, in place."""
        cdef Py_ssize_t i, n = min(self.n_words, other.n_words)
        cdef word_t* mine = self.words
        cdef const word_t* theirs = other.words
        with nogil:
            for i in range(n):
                mine[i] |= theirs[i]
        self._trim()

    def iandnot(self, Bitmap other not None):
        """Take out what is in `other`, in place."""
        cdef Py_ssize_t i, n = min(self.n_words, other.n_words)
        cdef word_t* mine = self.words
        cdef const word_t* theirs = other.words
        with nogil:
            for i in range(n):
                mine[i] &= ~theirs[i]

    def invert(self):
        """Replace the set by its complement below ``n_bits``, in place."""
        cdef Py_ssize_t i, n = self.n_words
        cdef word_t* mine = self.words
        with nogil:
            for i in range(n):
                mine[i] = ~mine[i]
        self._trim()

    cdef void _trim(self) noexcept:
        if self.n_bits & 63:
            self.words[self.n_words - 1] &= ((<word_t>1) << (self.n_bits & 63)) - 1

    def copy(self):
        """Return an independent bitmap of the same slots."""
        cdef Bitmap twin = Bitmap(self.n_bits)
        memcpy(twin.words, self.words, self.n_words * sizeof(word_t))
        return twin

    def count(self):
        """Return the number of slots in the set."""
        cdef Py_ssize_t total
        with nogil:
            total = bitmap_count(self.words, self.n_words)
        return total

    def is_empty(self):
        """Tell whether no slot is in the set; stops at the first that is."""
        cdef Py_ssize_t i
        for i in range(self.n_words):
            if self.words[i]:
                return False
        return True

    def count_and(self, Bitmap other not None):
        """Return the number of slots that are in both sets."""
        cdef Py_ssize_t total
        with nogil:
            total = _count_and(self.words, other.words, min(self.n_words, other.n_words))
        return total

    def slots(self):
        """Return the slots in ascending order as an ``array.array`` of uint32 (NumPy takes it without a copy)."""
        cdef array.array out = array.clone(_SLOTS, self.count(), zero=False)
        cdef slot_t* target = <slot_t*>out.data.as_voidptr
        with nogil:
            _write_slots(self.words, self.n_words, target)
        return out

    @staticmethod
    def from_slots(slots, Py_ssize_t n_bits):
        """Make a bitmap of `n_bits` from any iterable of slots. IndexError beyond ``n_bits``."""
        cdef Bitmap made = Bitmap(n_bits)
        for slot in slots:
            made.set(slot)
        return made

    def to_bytes(self):
        """Return the words, little-endian, as bytes; 8 bytes for each 64 slots begun."""
        if _SWAPPED:
            return b"".join(int(self.words[i]).to_bytes(8, "little") for i in range(self.n_words))
        return (<const char*>self.words)[:self.n_words * 8]

    @staticmethod
    def from_bytes(data, Py_ssize_t n_bits):
        """Make a bitmap of `n_bits` from what :meth:`to_bytes` gave. ValueError when the length does not fit."""
        cdef Bitmap made = Bitmap(n_bits)
        cdef const uint8_t[::1] view = data
        cdef Py_ssize_t i
        if view.shape[0] != made.n_words * 8:
            raise ValueError(f"{n_bits} bits need {made.n_words * 8} bytes, got {view.shape[0]}")
        for i in range(view.shape[0]):
            made.words[i >> 3] |= (<word_t>view[i]) << (8 * (i & 7))
        made._trim()
        return made

    def memory_bytes(self):
        """Return the bytes allocated, spare room included."""
        return (self._capacity_words + 1) * sizeof(word_t)
