"""What are the values of one field? Postings by kind of value, and the distinct strings with their order.

Each field has up to five postings: marks (true, false, null, and "has no value of another kind"), strings by the number
of the distinct string, numbers as float64, and integers that a float64 cannot hold, positive and negative, by size.
So each value is in one of them only, and numbers compare exactly whatever they are stored as.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from kektordb._bitmap cimport Bitmap, bitmap_set
from kektordb._numbers cimport (
    AS_FLOAT,
    AS_LARGE_POSITIVE,
    NOWHERE,
    float_key,
    negative_place,
    number_place,
    unsigned_place,
)
from kektordb._packed cimport (
    A_FALSE,
    A_FLOAT,
    A_LIST,
    A_MAP,
    A_NULL,
    A_TEXT,
    A_TRUE,
    AN_UNSIGNED,
    Cursor,
    Head,
    read_head,
)
from kektordb._postings cimport MERGE_SHIFT, Block, Coming, Pairs, Postings, Terms, new_block
from kektordb._strings cimport StringMap
from kektordb._types cimport NO_SLOT, slot_t

from kektordb._postings import Unprepared
from kektordb.errors import CorruptSnapshot

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    # Terms that may lie outside the sorted order: comparing each costs less than sorting again after each write.
    MIN_UNSORTED = 1024
    SORT_SHIFT = 4
    LARGE_TABLE = 8192  # strings from which on filling a larger table takes a good part of a millisecond


cdef class Field:
    """The postings of one field."""

    def __cinit__(self, str name, Py_ssize_t merge_at, Coming coming not None):
        self.name = name
        self.merge_at = merge_at
        self.coming = coming
        self.n_texts = 1  # term 0 is the empty string, which the map of strings does not take
        self.order = new_block(0)

    cdef Postings track(self, Postings postings):
        if self.coming.is_probe:
            raise Unprepared
        postings.coming = self.coming
        return postings

    cdef int add_mark(self, int mark, slot_t slot, bint is_removal) except -1:
        if self.marks is None:
            if is_removal:
                return 0
            self.marks = self.track(Terms.__new__(Terms, self.merge_at))
        return self.marks.append(<uint64_t>mark, slot, is_removal)

    cdef int add_text(self, const char* data, size_t n, slot_t slot, bint is_removal) except -1:
        cdef uint32_t term
        if self.strings is None:
            if is_removal:
                return 0
            made = self.track(Terms.__new__(Terms, self.merge_at))
            self.texts = StringMap()
            self.strings = made
        term = self.find_text(data, n)
        if term == NO_SLOT:
            if is_removal:
                return 0
            if self.coming.is_probe:
                raise Unprepared
            term = <uint32_t>self.n_texts
            self.texts.add(term, data, n)
            self.n_texts += 1
        return self.strings.append(term, slot, is_removal)

    cdef int add_number(self, int place, uint64_t key, slot_t slot, bint is_removal) except -1:
        """Add or remove a number by what `number_place` says about it."""
        if place == AS_FLOAT:
            if self.numbers is None:
                self.numbers = self.track(Pairs.__new__(Pairs, self.merge_at))
            return self.numbers.append(key, slot, is_removal)
        if place == AS_LARGE_POSITIVE:
            if self.large_positive is None:
                self.large_positive = self.track(Pairs.__new__(Pairs, self.merge_at))
            return self.large_positive.append(key, slot, is_removal)
        if self.large_negative is None:
            self.large_negative = self.track(Pairs.__new__(Pairs, self.merge_at))
        return self.large_negative.append(key, slot, is_removal)

    cdef int make_room(self) except -1:
        """Make the table of strings larger, beside, before it is full, where that takes long."""
        if self.texts is not None and self.texts.size > LARGE_TABLE:
            self.texts.prepare(max(self.merge_at, self.texts.size >> MERGE_SHIFT))
        return 0

    cdef const char* text(self, uint32_t term, size_t* n) noexcept nogil:
        """Return the bytes of a term, valid until the next change."""
        n[0] = 0
        if term == 0:
            return b""
        return self.texts.get(term, n)

    cdef uint32_t find_text(self, const char* data, size_t n) noexcept nogil:
        return 0 if n == 0 else self.texts.find(data, n)

    def postings(self):
        """Return (name, postings) of what there is."""
        parts = (
            ("marks", self.marks),
            ("strings", self.strings),
            ("numbers", self.numbers),
            ("large_positive", self.large_positive),
            ("large_negative", self.large_negative),
        )
        return [(name, part) for name, part in parts if part is not None]

    def is_used(self):
        """Tell whether any item has the field."""
        for _, part in self.postings():
            if (<Postings>part).n_live > 0:
                return True
        return False

    def memory_bytes(self):
        """Return the bytes allocated."""
        total = self.order.size + sum([part.memory_bytes() for _, part in self.postings()])
        return total if self.texts is None else total + self.texts.memory_bytes()

    cdef int sort_texts(self) except -1:
        """Bring the order up to date when more terms lie outside it than are cheap to compare one by one.

        Look-ups of several threads may come here: all happens under the GIL, and the old order lives on for who has it.
        """
        cdef Py_ssize_t n_old = _n_terms_of(self.order)
        cdef Py_ssize_t n_new = self.n_texts - n_old
        cdef Py_ssize_t i, j, at
        cdef Block order
        cdef uint32_t* terms
        cdef uint32_t* fresh
        cdef const uint32_t* old = <const uint32_t*>self.order.data
        if n_new <= MIN_UNSORTED + (n_old >> SORT_SHIFT):
            return 0
        order = new_block(self.n_texts * <Py_ssize_t>sizeof(uint32_t))
        terms = <uint32_t*>order.data
        fresh = <uint32_t*>malloc(2 * n_new * sizeof(uint32_t))
        if fresh == NULL:
            raise MemoryError(f"no memory to sort {n_new} strings")
        for i in range(n_new):
            fresh[i] = <uint32_t>(n_old + i)
        _sort_terms(self, fresh, fresh + n_new, n_new)
        i, j = 0, 0
        for at in range(self.n_texts):
            if j == n_new or (i < n_old and _compare_terms(self, old[i], fresh[j]) < 0):
                terms[at] = old[i]
                i += 1
            else:
                terms[at] = fresh[j]
                j += 1
        free(fresh)
        self.order = order
        return 0

    cdef Py_ssize_t lower_bound(self, Block order, const char* data, size_t n, bint is_after) noexcept nogil:
        """Return the first place in an order whose text is not before `data`, or, with `is_after`, is after it."""
        cdef const uint32_t* terms = <const uint32_t*>order.data
        cdef Py_ssize_t low = 0, high = _n_terms_of(order), middle
        cdef const char* other
        cdef size_t n_other = 0
        cdef int comparison
        while low < high:
            middle = (low + high) >> 1
            other = self.text(terms[middle], &n_other)
            comparison = _compare_bytes(other, n_other, data, n)
            if comparison < 0 or (is_after and comparison == 0):
                low = middle + 1
            else:
                high = middle
        return low

    cdef Bitmap texts_between(self, bytes low, bytes high, bint has_low, bint has_high):
        """Return the terms from `low` (included if `has_low`) to `high` (likewise); None is no bound."""
        cdef Bitmap selected = Bitmap.__new__(Bitmap, self.n_texts)
        cdef const char* low_data = NULL if low is None else PyBytes_AS_STRING(low)
        cdef const char* high_data = NULL if high is None else PyBytes_AS_STRING(high)
        cdef size_t n_low = 0 if low is None else PyBytes_GET_SIZE(low)
        cdef size_t n_high = 0 if high is None else PyBytes_GET_SIZE(high)
        cdef Py_ssize_t i, start, stop
        cdef const uint32_t* terms
        cdef const char* data
        cdef size_t n = 0
        cdef int comparison
        self.sort_texts()
        cdef Block order = self.order  # another thread may put a newer one in its place while the GIL is away
        with nogil:
            terms = <const uint32_t*>order.data
            start = 0 if low_data == NULL else self.lower_bound(order, low_data, n_low, not has_low)
            stop = _n_terms_of(order) if high_data == NULL else self.lower_bound(order, high_data, n_high, has_high)
            for i in range(start, stop):
                bitmap_set(selected.words, terms[i])
            for i in range(_n_terms_of(order), self.n_texts):
                data = self.text(<uint32_t>i, &n)
                if low_data != NULL:
                    comparison = _compare_bytes(data, n, low_data, n_low)
                    if comparison < 0 or (comparison == 0 and not has_low):
                        continue
                if high_data != NULL:
                    comparison = _compare_bytes(data, n, high_data, n_high)
                    if comparison > 0 or (comparison == 0 and not has_high):
                        continue
                bitmap_set(selected.words, <slot_t>i)
        return selected

    cdef int purge(self, Bitmap alive) except -1:
        for _, part in self.postings():
            (<Postings>part).purge(alive.words, alive.n_bits)
        if self.strings is not None:
            self.compact_texts()
        return 0

    cdef int compact_texts(self) except -1:
        """Drop the strings that no item has, by numbering the others anew. The delta must be empty."""
        cdef StringMap texts = StringMap()
        cdef Terms old = self.strings
        cdef const uint32_t* starts = <const uint32_t*>old.index.data
        cdef Py_ssize_t n_old = old.n_terms()
        cdef Py_ssize_t term, n_new = 1
        cdef Block index = new_block((n_old + 1) * <Py_ssize_t>sizeof(uint32_t))
        cdef uint32_t* targets = <uint32_t*>index.data
        cdef const char* data
        cdef size_t n = 0
        targets[0] = 0
        targets[1] = starts[1] if n_old > 0 else 0
        for term in range(1, n_old):
            if starts[term + 1] > starts[term]:
                data = self.text(<uint32_t>term, &n)
                texts.add(<uint32_t>n_new, data, n)
                n_new += 1
                targets[n_new] = starts[term + 1]
        if n_old > 0:
            index.shrink((n_new + 1) * <Py_ssize_t>sizeof(uint32_t))
            old.index = index
        self.texts, self.n_texts, self.order = texts, n_new, new_block(0)
        return 0

    def freeze(self, str prefix):
        """Return the sections of the present state."""
        sections = [section for name, part in self.postings() for section in part.freeze(f"{prefix}/{name}")]
        return sections if self.texts is None else sections + self.texts.freeze(f"{prefix}/texts")

    def shape(self):
        """Return what `load` must know beside the sections."""
        return {"texts": self.n_texts, "live": {name: (<Postings>part).n_live for name, part in self.postings()}}

    def load(self, str prefix, reader, Py_ssize_t n_slots, dict shape):
        """Replace the contents by what `freeze` gave. Raises CorruptSnapshot."""
        cdef dict live = shape["live"]
        self.n_texts = shape["texts"]
        if not 1 <= self.n_texts <= max(1, reader.size(f"{prefix}/texts/start") // 8):
            raise CorruptSnapshot(f"{prefix}: {self.n_texts} strings are more than there are")
        for name, n_live in live.items():
            if name == "strings":
                self.texts = StringMap()
                self.texts.load(f"{prefix}/texts", reader, self.n_texts, 1 << 32)
                if self.texts.size != self.n_texts - 1:
                    raise CorruptSnapshot(f"{prefix}/texts: expected {self.n_texts - 1} strings, got {self.texts.size}")
                self.strings = self.track(Terms(self.merge_at))
                self.strings.load(f"{prefix}/strings", reader, n_slots, self.n_texts, n_live)
                if self.strings.n_terms() > self.n_texts:
                    raise CorruptSnapshot(f"{prefix}/strings: postings of strings that are not there")
            elif name == "marks":
                self.marks = self.track(Terms(self.merge_at))
                self.marks.load(f"{prefix}/marks", reader, n_slots, N_MARKS, n_live)
            elif name in ("numbers", "large_positive", "large_negative"):
                part = self.track(Pairs(self.merge_at))
                part.load(f"{prefix}/{name}", reader, n_slots, -1, n_live)
                if name == "numbers":
                    self.numbers = part
                elif name == "large_positive":
                    self.large_positive = part
                else:
                    self.large_negative = part
            else:
                raise CorruptSnapshot(f"{prefix}: unknown postings {name!r}")


cdef bint add_scalar(Field field, object value, slot_t slot, bint is_removal) except -1:
    """Add or remove one value; return False when it is none that can be indexed."""
    cdef Py_ssize_t n = 0
    cdef uint64_t key = 0
    cdef const char* data
    cdef int place
    if isinstance(value, str):
        data = PyUnicode_AsUTF8AndSize(value, &n)
        field.add_text(data, <size_t>n, slot, is_removal)
    elif value is True or value is False or value is None:
        field.add_mark(mark_of(value), slot, is_removal)
    elif isinstance(value, (int, float)):
        place = number_place(value, &key)
        if place == NOWHERE:
            raise ValueError(f"expected a finite number of at most 64 bits, got {value!r}")
        field.add_number(place, key, slot, is_removal)
    else:
        return False
    return True


cdef int add_read(Field field, Head* head, Cursor* cursor, slot_t slot) except -1:
    """Add one scalar whose head was read; the text of a string, which is behind it, is passed."""
    cdef uint64_t key = 0
    cdef int place
    if head.kind == A_TEXT:
        field.add_text(<const char*>cursor.at, <size_t>head.n, slot, False)
        cursor.at += head.n
    elif head.kind <= A_TRUE:
        field.add_mark(
            TRUE_MARK if head.kind == A_TRUE else FALSE_MARK if head.kind == A_FALSE else NULL_MARK, slot, False
        )
    elif head.kind == A_FLOAT:
        field.add_number(AS_FLOAT, float_key(head.real), slot, False)
    elif head.kind == AN_UNSIGNED:
        place = unsigned_place(head.n, &key)
        field.add_number(place, key, slot, False)
    else:
        place = negative_place(head.negative, &key)
        field.add_number(place, key, slot, False)
    return 0


cdef bint add_element(Field field, const uint8_t* begin, const uint8_t* end, slot_t slot) except -1:
    """Add an element of a list; return False for null, lists and objects, which are not indexed."""
    cdef Cursor cursor
    cdef Head head
    cursor.at, cursor.end = begin, end
    read_head(&cursor, &head)
    if head.kind == A_NULL or head.kind == A_LIST or head.kind == A_MAP:
        return False
    add_read(field, &head, &cursor, slot)
    return True


cdef int mark_of(object value) noexcept:
    return TRUE_MARK if value is True else FALSE_MARK if value is False else NULL_MARK


cdef inline Py_ssize_t _n_terms_of(Block order) noexcept nogil:
    return order.size // <Py_ssize_t>sizeof(uint32_t)


cdef int _compare_bytes(const char* a, size_t n_a, const char* b, size_t n_b) noexcept nogil:
    cdef int comparison = memcmp(a, b, min(n_a, n_b))
    if comparison != 0 or n_a == n_b:
        return comparison
    return -1 if n_a < n_b else 1


cdef int _compare_terms(Field field, uint32_t a, uint32_t b) noexcept nogil:
    cdef size_t n_a = 0, n_b = 0
    cdef const char* data_a = field.text(a, &n_a)
    cdef const char* data_b = field.text(b, &n_b)
    return _compare_bytes(data_a, n_a, data_b, n_b)


cdef void _sort_terms(Field field, uint32_t* terms, uint32_t* spare, Py_ssize_t n) noexcept nogil:
    """Merge sort by text, bottom up."""
    cdef Py_ssize_t width = 1, start, middle, stop, i, j, at
    while width < n:
        start = 0
        while start + width < n:
            middle = start + width
            stop = min(n, middle + width)
            memcpy(spare, terms + start, width * sizeof(uint32_t))
            i, j, at = 0, middle, start
            while i < width:
                if j < stop and _compare_terms(field, terms[j], spare[i]) < 0:
                    terms[at] = terms[j]
                    j += 1
                else:
                    terms[at] = spare[i]
                    i += 1
                at += 1
            start += 2 * width
        width *= 2
