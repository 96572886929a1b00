"""Which items have this value in their metadata? Postings by field, kept beside the metadata for filters.

A value of a list counts as a value of the field. Nested objects are fields by dotted names. Lists inside lists, objects
inside lists and null inside lists are not indexed; the field exists all the same.

Nothing here locks: look-ups may run beside one another (each drops the GIL), changes may not run beside anything.
"""

import json

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp

from kektordb._bitmap cimport Bitmap, bitmap_count, bitmap_get
from kektordb._field cimport OTHER_MARK, Field, add_element, add_read, add_scalar, mark_of
from kektordb._like cimport ANY_RUN, after_prefix, compile_pattern, fits, in_lower_case, lower
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
from kektordb._packed cimport A_LIST, A_MAP, Cursor, Head, read_head, skip_value
from kektordb._postings cimport Coming, Postings
from kektordb._types cimport NO_SLOT, slot_t, word_t

from kektordb._metadata import decode_metadata
from kektordb._postings import Unprepared
from kektordb.errors import CorruptSnapshot
from kektordb.types import Section

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    # Objects deeper than this are not indexed, since the walk over them recurses; metadata is refused long before.
    MAX_NESTING = 64
    # An estimate looks at this many strings at most, and scales up.
    SAMPLE = 1024
    MERGE_AT = 4096
    MAX_GUESSES = 256  # keys of a row whose fields are remembered

cdef uint64_t MAX_KEY = 0xFFFFFFFFFFFFFFFFu


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
        self._coming = Coming.__new__(Coming)
        self._prepared, self._guesses = [], []

    def add(self, Py_ssize_t slot, dict metadata not None):
        """Index the metadata of `slot`, which has none so far. `metadata` has been validated."""
        if not 0 <= slot < <Py_ssize_t>NO_SLOT:
            raise ValueError(f"slot {slot} is out of range")
        self._adopt()
        self.n_slots = max(self.n_slots, slot + 1)
        self.version += 1
        self._walk(metadata, None, <slot_t>slot, False, 0)

    def add_many(self, Py_ssize_t first, list encoded not None):
        """Do the same for the slots from `first` on, with what `encode_metadata` returned; b"" for an item without.

        Raises MetadataError for what is not encoded metadata; those before it are indexed.
        """
        cdef Py_ssize_t slot = first
        cdef bytes data
        if not 0 <= first < <Py_ssize_t>NO_SLOT - len(encoded):
            raise ValueError(f"slot {first} is out of range")
        self._adopt()
        self.n_slots = max(self.n_slots, first + len(encoded))
        self.version += 1
        for data in encoded:
            if PyBytes_GET_SIZE(data):
                if not self._add_encoded(<slot_t>slot, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data)):
                    self._walk(decode_metadata(data), None, <slot_t>slot, False, 0)
            slot += 1

    def remove(self, Py_ssize_t slot, dict metadata not None):
        """Take `slot` out again; `metadata` is what was added for it, all of it."""
        if not 0 <= slot < self.n_slots:
            raise ValueError(f"slot {slot} is out of range")
        self._adopt()
        self.version += 1
        self._walk(metadata, None, <slot_t>slot, True, 0)

    def merge_beside(self):
        """Merge what is nearly full, so that no later change has to; look-ups may run beside it, changes may not.

        The next change lets the merged take the place of the old. Without this, a change merges in place.
        """
        cdef list full = self._coming.full
        if not full:
            return
        try:
            for part in full:
                self._prepared.append(part)  # before it is, so that it is never forgotten
                (<Postings>part).prepare()
            full.clear()
            for field in self._fields.values():
                (<Field>field).make_room()
        except MemoryError:
            pass  # what was not merged stays as it is, which only costs time

    def expect(self, list encoded not None, bint is_probe=False):
        """Count what `add_many` of these, or `remove`, will add, on top of what was counted before.

        Makes the fields that are missing, and keeps the strings that are new: a change, though no look-up tells it.

        Parameters
        ----------
        encoded : list of bytes
            As for `add_many`.
        is_probe : bool
            Change nothing, and return False where something is missing: look-ups may run beside it then.

        Returns
        -------
        bool
        """
        cdef bytes data
        self._coming.is_probe = is_probe
        try:
            for data in encoded:
                if PyBytes_GET_SIZE(data):
                    if not self._add_encoded(NO_SLOT, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data)):
                        self._walk(decode_metadata(data), None, NO_SLOT, False, 0)
        except Unprepared:
            self._forget_coming()
            return False
        finally:
            self._coming.is_probe = False
        return True

    def has_room(self):
        """Tell whether `reserve` has nothing to do; then forget what was counted."""
        for part in self._coming.parts:
            if not (<Postings>part).has_room():
                return False
        self._forget_coming()
        return True

    def reserve(self):
        """Get the memory for all that `expect` counted, so that no change up to that fails; then forget the count."""
        self._adopt()
        for part in self._coming.parts:
            (<Postings>part).reserve()
        self._forget_coming()

    def forget(self):
        """Forget what `expect` counted."""
        self._forget_coming()

    def is_roomy(self):
        """Tell whether `trim` has something to do."""
        return bool(self._coming.roomy)

    def trim(self):
        """Give back what `reserve` got for many rows at once."""
        if self._coming.roomy:
            for part in self._coming.roomy:
                (<Postings>part).trim()
            self._coming.roomy.clear()

    cdef int _forget_coming(self) except -1:
        for part in self._coming.parts:
            (<Postings>part).n_coming = 0
        self._coming.parts.clear()
        return 0

    cdef int _adopt(self) except -1:
        if self._prepared:
            for part in self._prepared:
                (<Postings>part).adopt()
            self._prepared.clear()
        return 0

    cdef Field _field(self, str name):
        cdef Field field = self._fields.get(name)
        if field is None:
            if self._coming.is_probe:
                raise Unprepared
            field = Field.__new__(Field, name, self._merge_at, self._coming)
            self._fields[name] = field
        return field

    cdef Field _guess(self, Field parent, const char* key, size_t n):
        """Return the field of a key. Rows resemble one another: look first at the field that came here last time."""
        cdef Guess guess
        cdef Py_ssize_t at = self._n_guessed
        self._n_guessed += 1
        if at < len(self._guesses):
            guess = self._guesses[at]
            if (
                guess.parent is parent
                and <size_t>PyBytes_GET_SIZE(guess.key) == n
                and memcmp(PyBytes_AS_STRING(guess.key), key, n) == 0
            ):
                return guess.field
        guess = Guess.__new__(Guess)
        guess.parent = parent
        guess.key = PyBytes_FromStringAndSize(key, <Py_ssize_t>n)
        name = guess.key.decode()
        guess.field = self._field(name if parent is None else f"{parent.name}.{name}")
        if at < len(self._guesses):
            self._guesses[at] = guess
        elif at < MAX_GUESSES:
            self._guesses.append(guess)
        return guess.field

    cdef int _add_encoded(self, slot_t slot, const char* data, size_t n) except -1:
        """Index encoded metadata; return 0, and do nothing, when it is left to the decoder."""
        cdef Cursor cursor
        cdef Head head
        cursor.at = <const uint8_t*>data
        cursor.end = cursor.at + n
        # All of it first, so that nothing is half indexed.
        if not skip_value(&cursor, 1) or cursor.at != cursor.end:
            return 0
        cursor.at = <const uint8_t*>data
        read_head(&cursor, &head)
        if head.kind != A_MAP:
            return 0
        self._n_guessed = 0
        self._walk_encoded(&cursor, head.n, None, slot)
        return 1

    cdef int _walk_encoded(self, Cursor* cursor, uint64_t n, Field parent, slot_t slot) except -1:
        cdef Head key
        cdef Field field
        while n > 0:
            read_head(cursor, &key)
            field = self._guess(parent, <const char*>cursor.at, <size_t>key.n)
            cursor.at += key.n
            self._put_encoded(cursor, field, slot)
            n -= 1
        return 0

    cdef int _put_encoded(self, Cursor* cursor, Field field, slot_t slot) except -1:
        cdef Head head
        cdef const uint8_t* begin
        cdef bint is_indexed = False
        read_head(cursor, &head)
        if head.kind == A_LIST:
            while head.n > 0:
                begin = cursor.at
                skip_value(cursor, 2)
                is_indexed |= add_element(field, begin, cursor.end, slot)
                head.n -= 1
            if not is_indexed:
                field.add_mark(OTHER_MARK, slot, False)
        elif head.kind == A_MAP:
            field.add_mark(OTHER_MARK, slot, False)
            self._walk_encoded(cursor, head.n, field, slot)
        else:
            add_read(field, &head, cursor, slot)
        return 0

    cdef int _walk(self, dict metadata, str prefix, slot_t slot, bint is_removal, int depth) except -1:
        for name, value in metadata.items():
            self._put(name if prefix is None else f"{prefix}.{name}", value, slot, is_removal, depth)
        return 0

    cdef int _put(self, str name, object value, slot_t slot, bint is_removal, int depth) except -1:
        cdef Field field = self._fields.get(name) if is_removal else self._field(name)
        cdef bint is_indexed = False
        if field is None:
            return 0
        if isinstance(value, list):
            for element in <list>value:
                if element is not None and add_scalar(field, element, slot, is_removal):
                    is_indexed = True
            if not is_indexed:
                field.add_mark(OTHER_MARK, slot, is_removal)
        elif isinstance(value, dict):
            field.add_mark(OTHER_MARK, slot, is_removal)
            if depth < MAX_NESTING:
                self._walk(value, name, slot, is_removal, depth + 1)
        elif not add_scalar(field, value, slot, is_removal):
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
        self._adopt()
        self.version += 1
        for name, field in list(self._fields.items()):
            (<Field>field).purge(alive)
            if not field.is_used():
                del self._fields[name]
        self._coming.full.clear()
        self._coming.roomy.clear()
        self._guesses.clear()

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
        cdef Coming coming = Coming.__new__(Coming)
        cdef Field field
        head = bytes(reader.read("columns/fields"))
        try:
            for i, shape in enumerate(json.loads(head) if head else []):
                field = Field(str(shape["name"]), self._merge_at, coming)
                field.load(f"columns/{i}", reader, n_slots, shape)
                fields[field.name] = field
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise CorruptSnapshot(f"columns/fields: not a list of fields ({error})") from error
        self._fields = fields
        self._coming, self._prepared, self._guesses = coming, [], []
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
        return _match_pattern(found, pattern, rows, False)

    def ilike(self, str field, str pattern not None, Bitmap rows=None):
        """Match strings by a pattern as `like` does, without regard to upper and lower case."""
        cdef Field found = self._fields.get(field)
        self._target(rows)
        if found is None or found.strings is None:
            return 0
        return _match_pattern(found, in_lower_case(pattern), rows, True)

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
                keys[4 * n_values + n_marks] = mark_of(value)
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


cdef Py_ssize_t _match_pattern(Field field, str pattern, Bitmap rows, bint in_any_case) except -1:
    """Match by LIKE: only the terms that begin as the pattern does, and of these the ones that the rest fits.

    `in_any_case` looks at all terms in lower case, as which the pattern is given.
    """
    cdef list compiled = compile_pattern(pattern)
    cdef Py_ssize_t n_codes = len(compiled), n_prefix = 0, i
    cdef Bitmap selected
    cdef unsigned short* codes
    cdef Py_ssize_t n_texts
    cdef bint has_room
    while not in_any_case and n_prefix < n_codes and compiled[n_prefix] < ANY_RUN:
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
        has_room = _keep_fitting(field, selected, codes, n_codes, i, in_any_case)
    free(codes)
    if not has_room:
        raise MemoryError("no memory for a text in lower case")
    return i * _match_selected(field, selected, rows)


cdef bint _keep_fitting(
    Field field,
    Bitmap selected,
    const unsigned short* codes,
    Py_ssize_t n_codes,
    Py_ssize_t stride,
    bint in_any_case,
) noexcept nogil:
    """Keep of the selected terms those that fit the pattern; of `stride` terms look at one, and drop the others.

    False when there is no memory for a term in lower case.
    """
    cdef Py_ssize_t term, n_seen = 0
    cdef const char* data
    cdef char* lowered = NULL
    cdef char* grown
    cdef size_t n = 0, n_room = 0
    for term in range(field.n_texts):
        if not bitmap_get(selected.words, <slot_t>term):
            continue
        data = field.text(<uint32_t>term, &n)
        if in_any_case:
            if 2 * n > n_room:
                grown = <char*>realloc(lowered, 4 * n)
                if grown == NULL:
                    free(lowered)
                    return False
                lowered, n_room = grown, 4 * n
            n = <size_t>lower(data, <Py_ssize_t>n, lowered)
            data = lowered
        if n_seen % stride != 0 or not fits(data, <Py_ssize_t>n, codes, n_codes):
            selected.words[term >> 6] &= ~((<word_t>1) << (term & 63))
        n_seen += 1
    free(lowered)
    return True


def _slicer(bytes data):
    def read(start, stop):
        return data[start:stop]

    return read
