"""Which items have this value in their metadata? Postings by field, kept beside the metadata for filters.

Each field has up to five postings: marks (true, false, null, and "has no value of another kind"), strings by the number
of the distinct string, numbers as float64, and integers that a float64 cannot hold, positive and negative, by size.
So each value is in one of them only, and numbers compare exactly whatever they are stored as.

A value of a list counts as a value of the field. Nested objects are fields by dotted names. Lists inside lists, objects
inside lists and null inside lists are not indexed; the field exists all the same.

Nothing here locks: look-ups may run beside one another (each drops the GIL), changes may not run beside anything.
"""

import json

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from kektordb._bitmap cimport Bitmap, bitmap_count, bitmap_get, bitmap_set
from kektordb._like cimport ANY_RUN, after_prefix, compile_pattern, fits
from kektordb._numbers cimport (
    AS_FLOAT,
    AS_LARGE_NEGATIVE,
    AS_LARGE_POSITIVE,
    NOWHERE,
    high_key,
    integer_bound,
    low_key,
    number_place,
    sort_keys,
)
from kektordb._postings cimport Block, Pairs, Postings, Terms, new_block
from kektordb._strings cimport StringMap
from kektordb._types cimport NO_SLOT, slot_t, word_t

from kektordb.errors import CorruptSnapshot
from kektordb.types import Section

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    TRUE_MARK
    FALSE_MARK
    NULL_MARK
    OTHER_MARK
    N_MARKS

cdef enum:
    # Objects deeper than this are not indexed, since the walk over them recurses; metadata is refused long before.
    MAX_NESTING = 64
    # Terms that may lie outside the sorted order: comparing each costs less than sorting again after each write.
    MIN_UNSORTED = 1024
    SORT_SHIFT = 4
    # An estimate looks at this many strings at most, and scales up.
    SAMPLE = 1024
    MERGE_AT = 4096

cdef uint64_t MAX_KEY = 0xFFFFFFFFFFFFFFFFu


cdef class Field:
    """The postings of one field."""

    def __cinit__(self, Py_ssize_t merge_at):
        self.merge_at = merge_at
        self.n_texts = 1  # term 0 is the empty string, which the map of strings does not take
        self.order = new_block(0)

    cdef int add_mark(self, int mark, slot_t slot, bint is_removal) except -1:
        if self.marks is None:
            if is_removal:
                return 0
            self.marks = Terms.__new__(Terms, self.merge_at)
        return self.marks.append(<uint64_t>mark, slot, is_removal)

    cdef int add_text(self, str text, slot_t slot, bint is_removal) except -1:
        cdef Py_ssize_t n = 0
        cdef const char* data = PyUnicode_AsUTF8AndSize(text, &n)
        cdef uint32_t term
        if self.strings is None:
            if is_removal:
                return 0
            self.strings = Terms.__new__(Terms, self.merge_at)
            self.texts = StringMap()
        term = self.find_text(data, <size_t>n)
        if term == NO_SLOT:
            if is_removal:
                return 0
            term = <uint32_t>self.n_texts
            self.texts.add(term, data, <size_t>n)
            self.n_texts += 1
        return self.strings.append(term, slot, is_removal)

    cdef int add_number(self, object number, slot_t slot, bint is_removal) except -1:
        cdef uint64_t key = 0
        cdef int place = number_place(number, &key)
        cdef Pairs postings
        if place == AS_FLOAT:
            if self.numbers is None:
                self.numbers = Pairs.__new__(Pairs, self.merge_at)
            postings = self.numbers
        elif place == AS_LARGE_POSITIVE:
            if self.large_positive is None:
                self.large_positive = Pairs.__new__(Pairs, self.merge_at)
            postings = self.large_positive
        elif place == AS_LARGE_NEGATIVE:
            if self.large_negative is None:
                self.large_negative = Pairs.__new__(Pairs, self.merge_at)
            postings = self.large_negative
        else:
            raise ValueError(f"expected a finite number of at most 64 bits, got {number!r}")
        return postings.append(key, slot, is_removal)

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
        cdef Py_ssize_t n_old = _n_terms(self.order)
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
        cdef Py_ssize_t low = 0, high = _n_terms(order), middle
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
            stop = _n_terms(order) if high_data == NULL else self.lower_bound(order, high_data, n_high, has_high)
            for i in range(start, stop):
                bitmap_set(selected.words, terms[i])
            for i in range(_n_terms(order), self.n_texts):
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
            (<Postings>part).merge(alive.words, alive.n_bits)
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
                self.strings = Terms(self.merge_at)
                self.strings.load(f"{prefix}/strings", reader, n_slots, self.n_texts, n_live)
                if self.strings.n_terms() > self.n_texts:
                    raise CorruptSnapshot(f"{prefix}/strings: postings of strings that are not there")
            elif name == "marks":
                self.marks = Terms(self.merge_at)
                self.marks.load(f"{prefix}/marks", reader, n_slots, N_MARKS, n_live)
            elif name in ("numbers", "large_positive", "large_negative"):
                part = Pairs(self.merge_at)
                part.load(f"{prefix}/{name}", reader, n_slots, -1, n_live)
                if name == "numbers":
                    self.numbers = part
                elif name == "large_positive":
                    self.large_positive = part
                else:
                    self.large_negative = part
            else:
                raise CorruptSnapshot(f"{prefix}: unknown postings {name!r}")


cdef class Columns:
    """The indexed values of all items, by field.

    Look-ups take the field, what is asked, and a bitmap whose bits they set for the rows that match (bits that are set
    stay set); with None instead they only count. They return the number of matching entries: that of rows, but for
    rows that match with several elements of a list; without a bitmap, where very many strings match or a LIKE pattern
    has no fixed beginning, it is extrapolated.

    Parameters
    ----------
    merge_at : int
        Changes of one field that are kept aside before they are merged; for tests.
    """

    def __cinit__(self, Py_ssize_t merge_at=MERGE_AT):
        self._fields = {}
        self._merge_at = merge_at

    def add(self, Py_ssize_t slot, dict metadata not None):
        """Index the metadata of `slot`, which has none so far. `metadata` has been validated."""
        if not 0 <= slot < <Py_ssize_t>NO_SLOT:
            raise ValueError(f"slot {slot} is out of range")
        self.n_slots = max(self.n_slots, slot + 1)
        self.version += 1
        self._walk(metadata, None, <slot_t>slot, False, 0)

    def remove(self, Py_ssize_t slot, dict metadata not None):
        """Take `slot` out again; `metadata` is what was added for it, all of it."""
        if not 0 <= slot < self.n_slots:
            raise ValueError(f"slot {slot} is out of range")
        self.version += 1
        self._walk(metadata, None, <slot_t>slot, True, 0)

    cdef int _walk(self, dict metadata, str prefix, slot_t slot, bint is_removal, int depth) except -1:
        for name, value in metadata.items():
            self._put(name if prefix is None else f"{prefix}.{name}", value, slot, is_removal, depth)
        return 0

    cdef int _put(self, str name, object value, slot_t slot, bint is_removal, int depth) except -1:
        cdef Field field = self._fields.get(name)
        cdef bint is_indexed = False
        if field is None:
            if is_removal:
                return 0
            field = Field.__new__(Field, self._merge_at)
            self._fields[name] = field
        if isinstance(value, list):
            for element in <list>value:
                if element is not None and _add_scalar(field, element, slot, is_removal):
                    is_indexed = True
            if not is_indexed:
                field.add_mark(OTHER_MARK, slot, is_removal)
        elif isinstance(value, dict):
            field.add_mark(OTHER_MARK, slot, is_removal)
            if depth < MAX_NESTING:
                self._walk(value, name, slot, is_removal, depth + 1)
        elif not _add_scalar(field, value, slot, is_removal):
            raise ValueError(f"expected a JSON value, got {type(value).__name__}")
        return 0

    def fields(self):
        """Return the names of the fields that items have, sorted."""
        return sorted([name for name, field in self._fields.items() if field.is_used()])

    def memory_bytes(self):
        """Return the bytes allocated for values, without those of the names and one small object per field."""
        return sum([field.memory_bytes() for field in self._fields.values()])

    def rebuild(self, Bitmap alive not None):
        """Forget the slots that are not `alive`, and the fields and strings that only they had."""
        self.version += 1
        for name, field in list(self._fields.items()):
            (<Field>field).purge(alive)
            if not field.is_used():
                del self._fields[name]

    def freeze(self):
        """Return the sections of the present state; they stay as they are while writers go on."""
        named = list(self._fields.items())
        shapes = [{"name": name, **field.shape()} for name, field in named]
        head = json.dumps(shapes, separators=(",", ":")).encode()
        sections = [Section("columns/fields", 1, len(head), _slicer(head))]
        for i, (_, field) in enumerate(named):
            sections += field.freeze(f"columns/{i}")
        return sections

    def load(self, reader, Py_ssize_t n_slots):
        """Replace the contents by the sections that `freeze` gave. Raises CorruptSnapshot."""
        cdef dict fields = {}
        cdef Field field
        head = bytes(reader.read("columns/fields"))
        try:
            for i, shape in enumerate(json.loads(head) if head else []):
                field = Field(self._merge_at)
                field.load(f"columns/{i}", reader, n_slots, shape)
                fields[str(shape["name"])] = field
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise CorruptSnapshot(f"columns/fields: not a list of fields ({error})") from error
        self._fields = fields
        self.n_slots = n_slots
        self.version += 1

    cdef word_t* _target(self, Bitmap rows) except? NULL:
        if rows is None:
            return NULL
        if rows.n_bits < self.n_slots:
            raise ValueError(f"expected a bitmap of at least {self.n_slots} bits, got {rows.n_bits}")
        return rows.words

    def equal(self, str field, tuple values not None, Bitmap rows=None):
        """Match any of `values` (str, bool, int, float, None), each by its own type: 1 is not "1" and not True."""
        cdef Field found = self._fields.get(field)
        self._target(rows)
        if found is None or not values:
            return 0
        return _match_values(found, values, rows)

    def range(self, str field, low, high, bint has_low, bint has_high, Bitmap rows=None):
        """Match values between `low` and `high`, both numbers or both str; None is no bound.

        `has_low` and `has_high` say whether the bounds match themselves. Strings compare by code points.
        """
        cdef Field found = self._fields.get(field)
        self._target(rows)
        if found is None:
            return 0
        if isinstance(low, str) or isinstance(high, str):
            if found.strings is None:
                return 0
            return _match_selected(
                found, found.texts_between(_utf8(low), _utf8(high), has_low, has_high), rows
            )
        return _match_numbers_between(found, low, high, has_low, has_high, rows)

    def like(self, str field, str pattern not None, Bitmap rows=None):
        """Match strings by a pattern: ``%`` any run, ``_`` any one character, a backslash takes their meaning."""
        cdef Field found = self._fields.get(field)
        self._target(rows)
        if found is None or found.strings is None:
            return 0
        return _match_pattern(found, pattern, rows)

    def present(self, str field, Bitmap rows=None):
        """Match the rows that have the field, with whatever value."""
        cdef Field found = self._fields.get(field)
        self._target(rows)
        if found is None:
            return 0
        return sum([_match_range(part, 0, MAX_KEY, rows) for _, part in found.postings()])

    def null(self, str field, Bitmap rows=None):
        """Match the rows where the field is null."""
        return self.equal(field, (None,), rows)


cdef bint _add_scalar(Field field, object value, slot_t slot, bint is_removal) except -1:
    """Add or remove one value; return False when it is none that can be indexed."""
    if isinstance(value, str):
        field.add_text(value, slot, is_removal)
    elif value is True or value is False or value is None:
        field.add_mark(_mark(value), slot, is_removal)
    elif isinstance(value, (int, float)):
        field.add_number(value, slot, is_removal)
    else:
        return False
    return True


cdef int _mark(object value) noexcept:
    return TRUE_MARK if value is True else FALSE_MARK if value is False else NULL_MARK


cdef Py_ssize_t _match_range(Postings part, uint64_t low, uint64_t high, Bitmap rows) except -1:
    """Match keys of one of the postings; by way of a bitmap of its own where removals would clear bits of others."""
    cdef Py_ssize_t n
    cdef Bitmap target = rows
    cdef word_t* words = NULL
    if rows is not None:
        if part.n_removals:
            target = Bitmap.__new__(Bitmap, rows.n_bits)
        words = target.words
    with nogil:
        n = part.match_range(low, high, words)
    if target is not rows:
        rows.ior(target)
    return max(0, n)


cdef Py_ssize_t _match_keys(Postings part, uint64_t* keys, Py_ssize_t n_keys, Bitmap rows) except -1:
    cdef Py_ssize_t n
    cdef Bitmap target = rows
    cdef word_t* words = NULL
    if part is None or n_keys == 0:
        return 0
    if rows is not None:
        if part.n_removals:
            target = Bitmap.__new__(Bitmap, rows.n_bits)
        words = target.words
    with nogil:
        n_keys = sort_keys(keys, n_keys)
        n = part.match_keys(keys, n_keys, words)
    if target is not rows:
        rows.ior(target)
    return max(0, n)


cdef Py_ssize_t _match_selected(Field field, Bitmap selected, Bitmap rows) except -1:
    """Match the strings whose terms are in `selected`; a count of many is a share of all."""
    cdef Py_ssize_t n
    cdef Bitmap target = rows
    cdef word_t* words = NULL
    if rows is None:
        n = bitmap_count(selected.words, selected.n_words)
        if n > SAMPLE:
            return <Py_ssize_t>(<double>field.strings.n_live * n / selected.n_bits)
    else:
        if field.strings.n_removals:
            target = Bitmap.__new__(Bitmap, rows.n_bits)
        words = target.words
    with nogil:
        n = field.strings.match_terms(selected.words, selected.n_bits, words)
    if target is not rows:
        rows.ior(target)
    return max(0, n)


cdef Py_ssize_t _match_values(Field field, tuple values, Bitmap rows) except -1:
    """Sort the values into one list of keys for each of the postings, and match each list."""
    cdef Py_ssize_t n_values = len(values)
    cdef uint64_t on_stack[5 * 8]
    cdef uint64_t* keys = on_stack
    cdef Py_ssize_t n_texts = 0, n_marks = 0, n_total = 0
    cdef Py_ssize_t[4] n_numbers = [0, 0, 0, 0]
    cdef uint64_t key = 0
    cdef int place
    if n_values > 8:
        keys = <uint64_t*>malloc(5 * n_values * sizeof(uint64_t))
        if keys == NULL:
            raise MemoryError(f"no memory for a list of {n_values} values")
    try:
        for value in values:
            if isinstance(value, str):
                if field.strings is not None and _find(field, value, &key):
                    keys[3 * n_values + n_texts] = key
                    n_texts += 1
            elif value is None or value is True or value is False:
                keys[4 * n_values + n_marks] = _mark(value)
                n_marks += 1
            else:
                place = number_place(value, &key)
                if place != NOWHERE:
                    keys[place * n_values + n_numbers[place]] = key
                    n_numbers[place] += 1
        n_total = _match_keys(field.strings, keys + 3 * n_values, n_texts, rows)
        n_total += _match_keys(field.marks, keys + 4 * n_values, n_marks, rows)
        n_total += _match_keys(field.numbers, keys, n_numbers[AS_FLOAT], rows)
        n_total += _match_keys(field.large_positive, keys + n_values, n_numbers[AS_LARGE_POSITIVE], rows)
        n_total += _match_keys(field.large_negative, keys + 2 * n_values, n_numbers[AS_LARGE_NEGATIVE], rows)
    finally:
        if keys != on_stack:
            free(keys)
    return n_total


cdef bint _find(Field field, str text, uint64_t* key) except -1:
    cdef Py_ssize_t n = 0
    cdef const char* data
    cdef uint32_t term
    try:
        data = PyUnicode_AsUTF8AndSize(text, &n)
    except UnicodeEncodeError:  # a lone surrogate, which no metadata holds
        return False
    term = field.find_text(data, <size_t>n)
    key[0] = term
    return term != NO_SLOT


cdef bytes _utf8(str text):
    # Lone surrogates equal nothing, but have their place in the order of code points.
    return None if text is None else text.encode("utf-8", "surrogatepass")


cdef Py_ssize_t _match_numbers_between(
    Field field, object low, object high, bint has_low, bint has_high, Bitmap rows
) except -1:
    cdef uint64_t first = 0 if low is None else low_key(low, has_low)
    cdef uint64_t last = MAX_KEY if high is None else high_key(high, has_high)
    cdef Py_ssize_t n = 0
    if field.numbers is not None and first <= last:
        n = _match_range(field.numbers, first, last, rows)
    if field.large_positive is not None or field.large_negative is not None:
        n += _match_large_between(field, low, high, has_low, has_high, rows)
    return n


cdef Py_ssize_t _match_large_between(
    Field field, object low, object high, bint has_low, bint has_high, Bitmap rows
) except -1:
    """Match integers that no float holds, in Python's integers: exact, and such fields are rare."""
    cdef Py_ssize_t n = 0
    first = integer_bound(low, has_low, -(1 << 64))
    last = -integer_bound(None if high is None else -high, has_high, -(1 << 64))
    if field.large_positive is not None and max(first, 0) <= min(last, MAX_KEY):
        n += _match_range(field.large_positive, max(first, 0), min(last, MAX_KEY), rows)
    if field.large_negative is not None and max(-last, 0) <= min(-first, MAX_KEY):
        n += _match_range(field.large_negative, max(-last, 0), min(-first, MAX_KEY), rows)
    return n


cdef inline Py_ssize_t _n_terms(Block order) noexcept nogil:
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


cdef Py_ssize_t _match_pattern(Field field, str pattern, Bitmap rows) except -1:
    """Match by LIKE: only the terms that begin as the pattern does, and of these the ones that the rest fits."""
    cdef list compiled = compile_pattern(pattern)
    cdef Py_ssize_t n_codes = len(compiled), n_prefix = 0, i
    cdef Bitmap selected
    cdef unsigned short* codes
    cdef Py_ssize_t n_texts
    while n_prefix < n_codes and compiled[n_prefix] < ANY_RUN:
        n_prefix += 1
    prefix = bytes(compiled[:n_prefix])
    if n_prefix:
        selected = field.texts_between(prefix, after_prefix(prefix), True, False)
    else:
        selected = Bitmap.__new__(Bitmap, field.n_texts, True)
    if n_codes == n_prefix + 1 and compiled[n_prefix] == ANY_RUN:
        return _match_selected(field, selected, rows)
    codes = <unsigned short*>malloc((n_codes + 1) * sizeof(unsigned short))
    if codes == NULL:
        raise MemoryError("no memory for a pattern")
    for i in range(n_codes):
        codes[i] = compiled[i]
    with nogil:
        n_texts = bitmap_count(selected.words, selected.n_words)
        i = max(1, n_texts // SAMPLE) if rows is None else 1
        _keep_fitting(field, selected, codes, n_codes, i)
    free(codes)
    return i * _match_selected(field, selected, rows)


cdef void _keep_fitting(
    Field field, Bitmap selected, const unsigned short* codes, Py_ssize_t n_codes, Py_ssize_t stride
) noexcept nogil:
    """Keep of the selected terms those that fit the pattern; of `stride` terms look at one, and drop the others."""
    cdef Py_ssize_t term, n_seen = 0
    cdef const char* data
    cdef size_t n = 0
    for term in range(field.n_texts):
        if not bitmap_get(selected.words, <slot_t>term):
            continue
        data = field.text(<uint32_t>term, &n)
        if n_seen % stride != 0 or not fits(data, <Py_ssize_t>n, codes, n_codes):
            selected.words[term >> 6] &= ~((<word_t>1) << (term & 63))
        n_seen += 1


def _slicer(bytes data):
    def read(start, stop):
        return data[start:stop]

    return read
