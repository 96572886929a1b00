"""Which terms does an index have, by number, and how often does a text have each?

No Python object is made for a token. A text is cut, as UTF-8, into stretches at ASCII characters that are no letter,
digit or underscore, and at common spaces and marks beyond ASCII; the analyser promises that no term crosses one. A
stretch that was seen before means a term, none, or several, by a table; only a new one goes through the analyser. ASCII
letters are lower-cased before they are looked up, other stretches are looked up as they are.

A count changes the vocabulary and needs the writer's lock of its owner; `find` changes nothing at all.
"""

from array import array

cimport cython
from cpython cimport array as c_array
from cpython.unicode cimport PyUnicode_AsUTF8String, PyUnicode_DecodeUTF8
from libc.stdlib cimport qsort
from libc.string cimport memset

from kektordb._memory cimport free_block, resize_block
from kektordb._types cimport NO_SLOT

from kektordb.errors import CorruptSnapshot

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    NO_TERM = 0xFFFFFFFFu  # the meaning of stop words and of words that are too long
    GROUP = 0x80000000u  # in a meaning: the rest is a place in `groups`
    LONG_TEXT = 1 << 16  # bytes from which on it pays to let other threads run meanwhile

# Stretches that are remembered; some 30 MB when all are. A collection that has more repeats few of them.
MAX_STRETCHES = 1 << 20

# By byte: itself, lower-cased, within a stretch; 0 between stretches.
cdef uint8_t[256] FOLDED
for _byte in range(256):
    FOLDED[_byte] = ord(chr(_byte).lower()) if _byte < 128 and (chr(_byte).isalnum() or _byte == 95) else 0
    if _byte >= 128:
        FOLDED[_byte] = _byte
# U+0080 to U+00BF that are part of terms: feminine and masculine ordinal, soft hyphen, superscripts, micro, fractions.
cdef unsigned long long LATIN_PARTS = 0
for _byte in (0xAA, 0xAD, 0xB2, 0xB3, 0xB5, 0xB9, 0xBA, 0xBC, 0xBD, 0xBE):
    LATIN_PARTS |= 1ull << (_byte - 0x80)

cdef c_array.array EMPTY = array("I")


@cython.final
cdef class Vocabulary:
    """The terms of one index: numbers from 0, in the order in which they came, for ever.

    Parameters
    ----------
    analyzer : Analyzer
    max_stretches : int
        Stretches of texts to remember; when there are more, all are forgotten.
    """

    def __cinit__(self, analyzer, Py_ssize_t max_stretches=MAX_STRETCHES):
        self.analyzer = analyzer
        self.terms = StringMap()
        self.stretches = StringMap()
        self.max_stretches = max_stretches

    def __dealloc__(self):
        free_block(self.meanings, <size_t>self.meanings_capacity * sizeof(uint32_t))
        free_block(self.groups, <size_t>self.groups_capacity * sizeof(uint32_t))
        free_block(self.counts, <size_t>self.counts_capacity * sizeof(uint32_t))
        free_block(self.touched, <size_t>self.counts_capacity * sizeof(uint32_t))
        self.meanings = self.groups = self.counts = self.touched = NULL

    def __len__(self):
        return self.terms.size

    def term(self, uint32_t number):
        """Return the term of a number. Raises IndexError when there is none."""
        term = self.terms.get_str(number)
        if term is None:
            raise IndexError(f"expected a number below {self.terms.size}, got {number}")
        return term

    def number(self, str term):
        """Return the number of a term, -1 when it is unknown."""
        return self.terms.find_str(term)

    def add(self, str term):
        """Return the number of a term, which is new perhaps: the writer's, as `count` is."""
        return self._number(term)

    def count(self, str text):
        """Count the terms of `text`; new ones get numbers.

        The writer's: nobody else may use the vocabulary meanwhile. After an error terms may be there that no text has.

        Returns
        -------
        terms : array of "I"
            The numbers of the different terms, ascending.
        counts : array of "I"
            How often each is in the text.
        length : int
            The sum of `counts`: tokens that gave a term.
        """
        cdef Py_ssize_t n = 0
        cdef Py_ssize_t at = 0
        cdef Stretch stretch
        if self.is_counting:
            raise RuntimeError("expected one writer at a time")
        held = _held(text)
        cdef const uint8_t* data = _bytes_of(held, &n)
        self.is_counting = True
        try:
            while True:
                if n - at > LONG_TEXT:
                    with nogil:
                        at = self._count_known(data, n, at, &stretch)
                else:
                    at = self._count_known(data, n, at, &stretch)
                if at < 0:
                    return self._take()
                self._count_new(data, &stretch)
        finally:
            for at in range(self.n_touched):
                self.counts[self.touched[at]] = 0
            self.n_touched = self.n_tokens = 0
            self.is_counting = False

    cdef Py_ssize_t _count_known(
        self, const uint8_t* text, Py_ssize_t n, Py_ssize_t at, Stretch* stretch
    ) noexcept nogil:
        """Count up to a stretch that is new, and return where it ends; -1 at the end of the text."""
        cdef uint32_t number
        cdef uint32_t meaning
        cdef uint32_t* group
        cdef uint32_t i
        while _next_stretch(text, n, at, stretch):
            at = stretch.end
            if stretch.is_ascii and stretch.end - stretch.start > MAX_WORD_BYTES:
                continue
            number = self._find_stretch(text, stretch)
            if number == NO_SLOT:
                return at
            meaning = self.meanings[number]
            if meaning == NO_TERM:
                continue
            if meaning < GROUP:
                self._hit(meaning)
                continue
            group = self.groups + (meaning & ~<uint32_t>GROUP)
            for i in range(1, group[0] + 1):
                self._hit(group[i])
        return -1

    cdef void _hit(self, uint32_t term) noexcept nogil:
        if self.counts[term] == 0:
            self.touched[self.n_touched] = term
            self.n_touched += 1
        self.counts[term] += 1
        self.n_tokens += 1

    cdef uint32_t _find_stretch(self, const uint8_t* text, Stretch* stretch) noexcept nogil:
        cdef size_t n = <size_t>(stretch.end - stretch.start)
        if stretch.is_ascii:
            return self.stretches.find(stretch.lowered, n)
        return self.stretches.find(<const char*>text + stretch.start, n) if n <= MAX_WORD_BYTES else NO_SLOT

    cdef int _count_new(self, const uint8_t* text, Stretch* stretch) except -1:
        """Analyse a stretch, count its terms, and remember them unless it is long."""
        cdef uint32_t number
        cdef list numbers
        cdef Py_ssize_t n = stretch.end - stretch.start
        cdef const char* data = <const char*>text + stretch.start
        if stretch.is_ascii:
            data = &stretch.lowered[0]
        surface = PyUnicode_DecodeUTF8(data, n, NULL)
        if n > MAX_WORD_BYTES:
            for term in self.analyzer.iterate(surface):
                self._hit(self._number(term))
            return 0
        if stretch.is_ascii:
            term = self.analyzer.term_of(surface)
            numbers = [] if term is None else [self._number(term)]
        else:
            numbers = [self._number(term) for term in self.analyzer.iterate(surface)]
        self._remember(data, <size_t>n, numbers)
        for number in numbers:
            self._hit(number)
        return 0

    cdef uint32_t _number(self, str term) except? 0xFFFFFFFF:
        """Return the number of a term, which is new perhaps."""
        cdef Py_ssize_t n = 0
        cdef const char* data = PyUnicode_AsUTF8AndSize(term, &n)
        cdef uint32_t number = self.terms.find(data, <size_t>n)
        cdef Py_ssize_t capacity
        if number != NO_SLOT:
            return number
        number = <uint32_t>self.terms.size
        if number >= GROUP:
            raise OverflowError("expected less than 2^31 terms")
        if self.terms.size == self.counts_capacity:
            capacity = self.counts_capacity + self.counts_capacity // 2 + 64
            # The capacity is that of both, and so of neither until both are there.
            self.touched = _resized(self.touched, self.counts_capacity, capacity)
            try:
                self.counts = _resized(self.counts, self.counts_capacity, capacity)
            except MemoryError:
                self.touched = _resized(self.touched, capacity, self.counts_capacity)
                raise
            memset(self.counts + self.counts_capacity, 0, <size_t>(capacity - self.counts_capacity) * sizeof(uint32_t))
            self.counts_capacity = capacity
        self.terms.add(number, data, <size_t>n)
        return number

    cdef int _remember(self, const char* data, size_t n, list numbers) except -1:
        cdef Py_ssize_t n_numbers = len(numbers)
        cdef Py_ssize_t capacity
        cdef uint32_t meaning = NO_TERM
        cdef Py_ssize_t i
        if self.stretches.size >= self.max_stretches or self.groups_used + n_numbers >= GROUP:
            self._forget_stretches()
        if self.stretches.size == self.meanings_capacity:
            capacity = self.meanings_capacity + self.meanings_capacity // 2 + 64
            self.meanings = _resized(self.meanings, self.meanings_capacity, capacity)
            self.meanings_capacity = capacity
        if n_numbers == 1:
            meaning = numbers[0]
        elif n_numbers > 1:
            if self.groups_used + n_numbers + 1 > self.groups_capacity:
                capacity = self.groups_capacity + self.groups_capacity // 2 + n_numbers + 64
                self.groups = _resized(self.groups, self.groups_capacity, capacity)
                self.groups_capacity = capacity
            meaning = GROUP | <uint32_t>self.groups_used
            self.groups[self.groups_used] = <uint32_t>n_numbers
            for i in range(n_numbers):
                self.groups[self.groups_used + 1 + i] = numbers[i]
            self.groups_used += n_numbers + 1
        self.meanings[self.stretches.size] = meaning
        self.stretches.add(<uint32_t>self.stretches.size, data, n)
        return 0

    cdef int _forget_stretches(self) except -1:
        self.stretches = StringMap()
        self.groups_used = 0
        return 0

    cdef object _take(self):
        """Return what was counted."""
        cdef c_array.array terms = c_array.clone(EMPTY, self.n_touched, zero=False)
        cdef c_array.array counts = c_array.clone(EMPTY, self.n_touched, zero=False)
        cdef Py_ssize_t i
        if self.n_touched:
            qsort(self.touched, <size_t>self.n_touched, sizeof(uint32_t), _compare)
        for i in range(self.n_touched):
            terms.data.as_uints[i] = self.touched[i]
            counts.data.as_uints[i] = self.counts[self.touched[i]]
        return terms, counts, self.n_tokens

    def find(self, str text):
        """Return (number, count in `text`) of the terms of `text` that are known, by ascending number.

        Changes nothing: any number of readers may call it at once, while no writer counts.
        """
        cdef Py_ssize_t n = 0
        cdef Py_ssize_t at = 0
        cdef Stretch stretch
        cdef dict found = {}
        cdef uint32_t number
        cdef uint32_t meaning
        cdef uint32_t i
        held = _held(text)
        cdef const uint8_t* data = _bytes_of(held, &n)
        while _next_stretch(data, n, at, &stretch):
            at = stretch.end
            if stretch.is_ascii and stretch.end - stretch.start > MAX_WORD_BYTES:
                continue
            number = self._find_stretch(data, &stretch)
            meaning = NO_TERM if number == NO_SLOT else self.meanings[number]
            if number == NO_SLOT:
                surface = PyUnicode_DecodeUTF8(<const char*>data + stretch.start, stretch.end - stretch.start, NULL)
                for term in self.analyzer.iterate(surface):
                    _tally(found, self.terms.find_str(term))
            elif meaning < GROUP:
                _tally(found, meaning)
            elif meaning != NO_TERM:
                meaning &= ~<uint32_t>GROUP
                for i in range(1, self.groups[meaning] + 1):
                    _tally(found, self.groups[meaning + i])
        return sorted(found.items())

    def memory_bytes(self):
        """Return the allocated bytes, remembered stretches included."""
        return (
            self.terms.memory_bytes()
            + self.stretches.memory_bytes()
            + sizeof(uint32_t) * <size_t>(self.meanings_capacity + self.groups_capacity + 2 * self.counts_capacity)
        )

    def freeze(self, str prefix):
        """Return the sections of the present terms; they stay as they are whatever comes after."""
        return self.terms.freeze(prefix)

    def load(self, str prefix, reader):
        """Replace the terms by those that `freeze` gave, checked. Raises CorruptSnapshot, and changes nothing then."""
        cdef Py_ssize_t n = <Py_ssize_t>(reader.size(f"{prefix}/start") // sizeof(unsigned long long))
        cdef StringMap terms = StringMap()
        cdef Py_ssize_t capacity = max(n, self.counts_capacity)
        terms.load(prefix, reader, n)
        if terms.size != n or n >= GROUP:
            raise CorruptSnapshot(f"{prefix}: expected {n} terms, got {terms.size}")
        cdef uint32_t* counts = _resized(NULL, 0, capacity)
        try:
            self.touched = _resized(self.touched, self.counts_capacity, capacity)
        except MemoryError:
            free_block(counts, <size_t>capacity * sizeof(uint32_t))
            raise
        memset(counts, 0, <size_t>capacity * sizeof(uint32_t))
        free_block(self.counts, <size_t>self.counts_capacity * sizeof(uint32_t))
        self.counts = counts
        self.counts_capacity = capacity
        self.terms = terms
        self._forget_stretches()


cdef inline void _tally(dict found, Py_ssize_t number):
    if number >= 0:
        found[number] = found.get(number, 0) + 1


cdef inline object _held(str text):
    """Return what holds the UTF-8 of a text: itself when it is ASCII, else a copy that goes away with the call."""
    if text.isascii():
        return text
    try:
        return PyUnicode_AsUTF8String(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")  # a lone surrogate stands between words, and "?" does as well


cdef const uint8_t* _bytes_of(object held, Py_ssize_t* n) except NULL:
    if isinstance(held, str):
        return <const uint8_t*>PyUnicode_AsUTF8AndSize(held, n)
    n[0] = len(<bytes>held)
    return <const uint8_t*><const char*><bytes>held


cdef uint32_t* _resized(uint32_t* old, Py_ssize_t old_size, Py_ssize_t size) except? NULL:
    cdef void* moved = resize_block(old, <size_t>old_size * sizeof(uint32_t), <size_t>size * sizeof(uint32_t))
    if moved == NULL and size:
        raise MemoryError(f"no memory for {size} numbers of terms")
    return <uint32_t*>moved


cdef inline bint _next_stretch(
    const uint8_t* text, Py_ssize_t n, Py_ssize_t at, Stretch* stretch
) noexcept nogil:
    """Find the stretch that begins at or after `at`."""
    cdef uint8_t folded = 0
    cdef uint8_t high = 0
    cdef Py_ssize_t length = 0
    cdef Py_ssize_t gap
    while at < n:
        folded = FOLDED[text[at]]
        if folded >= 0x80:
            gap = _gap(text + at, n - at)
            if gap == 0:
                break
            at += gap
        elif folded:
            break
        else:
            at += 1
    if at >= n:
        return False
    stretch.start = at
    while at < n:
        folded = FOLDED[text[at]]
        if folded == 0 or (folded >= 0x80 and _gap(text + at, n - at)):
            break
        high |= folded
        if length < MAX_WORD_BYTES:
            stretch.lowered[length] = <char>folded
            length += 1
        at += 1
    stretch.end = at
    stretch.is_ascii = high < 0x80
    return True


cdef inline Py_ssize_t _gap(const uint8_t* text, Py_ssize_t n) noexcept nogil:
    """Return the bytes of the character at `text` if it is a common one that is part of no term; else 0.

    Others are cut out by the analyser, as parts of a longer stretch.
    """
    cdef uint8_t second
    cdef uint8_t third
    if text[0] == 0xC2 and n >= 2:  # U+0080 to U+00BF
        return 0 if (LATIN_PARTS >> (text[1] & 0x3F)) & 1 else 2
    if n < 3:
        return 0
    second = text[1]
    third = text[2]
    if text[0] == 0xE2 and second == 0x80:  # U+2000 to U+203F: dashes, quotes, spaces; not the joiners
        return 0 if third == 0x8C or third == 0x8D else 3
    if text[0] == 0xE3 and second == 0x80:  # U+3000 to U+3004, U+3008 to U+3020: spaces and marks between Han
        return 3 if third <= 0x84 or 0x88 <= third <= 0xA0 else 0
    if text[0] == 0xEF and second == 0xBC:  # U+FF01 to U+FF0F, U+FF1A to U+FF20: wide punctuation
        return 3 if third <= 0x8F or 0x9A <= third <= 0xA0 else 0
    return 0


cdef int _compare(const void* a, const void* b) noexcept nogil:
    cdef uint32_t first = (<const uint32_t*>a)[0]
    cdef uint32_t second = (<const uint32_t*>b)[0]
    return <int>(first > second) - <int>(first < second)
