"""How are strings kept by number, and found again, in few bytes?

`Blobs` puts byte strings one after the other into an arena, each after its length (LEB128 varint); eight bytes per
number say where it starts. `StringMap` adds an open-addressing table of numbers: 4 bytes per place for the number and
1 for a tag of the hash, so that a probe touches a string only where 1 place in 254 would lie.

A frozen view shares the arena: bytes below its length never change, `compact` moves to a new arena and leaves the old
one to the view. The offsets are copied at `freeze`. Numbers are stored in the machine's order, which is little-endian
on every machine we build for.
"""

import os
import sys

import numpy as np

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memcmp, memcpy, memset

from kektordb._memory cimport free_block, resize_block
from kektordb.errors import CorruptSnapshot
from kektordb.types import Section

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    bint PyUnicode_CheckExact(object text)
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    int PyBUF_WRITE

cdef extern from *:
    """
    #if defined(_MSC_VER) && !defined(__clang__)
    #include <intrin.h>
    static __inline uint64_t strings_high(uint64_t a, uint64_t b) { return __umulh(a, b); }
    #else
    static inline uint64_t strings_high(uint64_t a, uint64_t b) {
        return (uint64_t)(((unsigned __int128)a * b) >> 64);
    }
    #endif
    """
    uint64_t strings_high(uint64_t a, uint64_t b) noexcept nogil

cdef enum:
    EMPTY = 0
    TOMB = 1
    FIRST_TAG = 2
    MAX_VARINT = 5
    MIN_PLACES = 16
    MANY_BYTES = 1 << 20
    WASTE_MIN = 1 << 20  # below it a compaction frees too little to be worth a copy

cdef uint64_t ABSENT = 0xFFFFFFFFFFFFFFFFu
# Lengths are kept in 32 bits: five bytes of varint.
cdef size_t MAX_BLOB = 0xFFFFFFFFu
cdef uint64_t HIGH_BITS = 0x8080808080808080u

# Drawn once per process, so that nobody can prepare ids that fall on one place of the table.
cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")
cdef uint64_t FACTOR = int.from_bytes(os.urandom(8), "little") | 1
cdef uint64_t LAST_FACTOR = int.from_bytes(os.urandom(8), "little") | 1


@cython.final
cdef class Arena:
    """Own the bytes; views of frozen states keep it alive after its `Blobs` moved on."""

    def __dealloc__(self):
        if self.capacity >= MANY_BYTES:
            with nogil:  # the system takes back a large one page by page
                free_block(self.data, self.capacity)
        else:
            free_block(self.data, self.capacity)
        self.data = NULL

    cdef int grow(self, size_t needed) except -1:
        """Make the capacity at least `needed`."""
        cdef size_t capacity = _grown(self.capacity, needed, 1)
        if needed <= self.capacity:
            return 0
        cdef char* moved = <char*>resize_block(self.data, self.capacity, capacity)
        if moved == NULL:
            raise MemoryError(f"no memory for {capacity} bytes of strings")
        self.data = moved
        self.capacity = capacity
        return 0

    def read(self, size_t start, size_t stop):
        """Return a copy of the bytes from `start` to `stop`."""
        if start > stop or stop > self.used:
            raise ValueError(f"expected a range within {self.used} bytes, got {start} to {stop}")
        return PyBytes_FromStringAndSize(self.data + start, <Py_ssize_t>(stop - start))


@cython.final
cdef class Blobs:
    """Byte strings by dense number."""

    def __cinit__(self):
        self.arena = Arena()

    def __dealloc__(self):
        free_block(self.start, <size_t>self.start_capacity * sizeof(uint64_t))
        self.start = NULL

    cdef int reserve(self, Py_ssize_t n_numbers, size_t n_bytes, Py_ssize_t n_puts) except -1:
        cdef size_t overhead = <size_t>n_puts * MAX_VARINT
        cdef Py_ssize_t capacity
        cdef uint64_t* moved
        if n_numbers > self.start_capacity:
            capacity = <Py_ssize_t>_grown(<size_t>self.start_capacity, <size_t>n_numbers, sizeof(uint64_t))
            moved = <uint64_t*>resize_block(
                self.start, <size_t>self.start_capacity * sizeof(uint64_t), <size_t>capacity * sizeof(uint64_t)
            )
            if moved == NULL:
                raise MemoryError(f"no memory for the offsets of {capacity} strings")
            self.start = moved
            self.start_capacity = capacity
        if n_bytes > <size_t>sys.maxsize - self.arena.used - overhead:
            raise MemoryError(f"no memory for {n_bytes} bytes of strings")
        self.arena.grow(self.arena.used + n_bytes + overhead)
        if n_numbers > self.n_numbers:
            # Only now, and not up to the capacity: pages that nobody touched cost nothing.
            memset(self.start + self.n_numbers, 0xFF, <size_t>(n_numbers - self.n_numbers) * sizeof(uint64_t))
            self.n_numbers = n_numbers
        return 0

    cdef bint has_room(self, Py_ssize_t n_numbers, size_t n_bytes, Py_ssize_t n_puts) noexcept nogil:
        cdef size_t needed = n_bytes + <size_t>n_puts * MAX_VARINT
        return n_numbers <= self.n_numbers and needed <= self.arena.capacity - self.arena.used

    cdef void put(self, uint32_t number, const char* data, size_t n) noexcept nogil:
        memcpy(self.put_space(number, n), data, n)

    cdef char* put_space(self, uint32_t number, size_t n) noexcept nogil:
        cdef size_t at = self.arena.used
        cdef size_t rest = n
        cdef char* target = self.arena.data
        self.drop(number)
        self.start[number] = at
        while rest >= 0x80:
            target[at] = <char>(rest | 0x80)
            rest >>= 7
            at += 1
        target[at] = <char>rest
        self.arena.used = at + 1 + n
        if <Py_ssize_t>number >= self.n_used:
            self.n_used = <Py_ssize_t>number + 1
        return target + at + 1

    cdef const char* get(self, uint32_t number, size_t* n) noexcept nogil:
        if <Py_ssize_t>number >= self.n_numbers or self.start[number] == ABSENT:
            return NULL
        return after_length(self.arena.data + self.start[number], n)

    cdef void drop(self, uint32_t number) noexcept nogil:
        cdef size_t n
        cdef const char* data = self.get(number, &n)
        if data != NULL:
            self.waste += n + <size_t>(data - (self.arena.data + self.start[number]))
            self.start[number] = ABSENT

    cdef bint is_wasteful(self) noexcept nogil:
        return self.waste > WASTE_MIN and self.waste > self.arena.used // 2

    cdef int _compact(self) except -1:
        cdef Arena fresh = Arena()
        cdef Py_ssize_t number
        cdef size_t n
        cdef size_t whole
        cdef const char* data
        cdef const char* begin
        fresh.grow(self.arena.used - self.waste)
        with nogil:
            for number in range(self.n_used):
                data = self.get(<uint32_t>number, &n)
                if data != NULL:
                    begin = self.arena.data + self.start[number]
                    whole = n + <size_t>(data - begin)
                    memcpy(fresh.data + fresh.used, begin, whole)
                    self.start[number] = fresh.used
                    fresh.used += whole
        self.arena = fresh
        self.waste = 0
        return 0

    @property
    def used_bytes(self):
        """Bytes of the arena that hold strings, dropped ones included."""
        return self.arena.used

    @property
    def wasted_bytes(self):
        """Bytes of dropped and replaced strings."""
        return self.waste

    def memory_bytes(self):
        """Return the allocated bytes."""
        return self.arena.capacity + <size_t>self.start_capacity * sizeof(uint64_t)

    def set(self, uint32_t number, data):
        """Keep a copy of `data` under `number`, instead of what was there."""
        cdef const uint8_t[::1] view = data
        cdef size_t n = <size_t>view.shape[0]
        if number == NO_SLOT or n > MAX_BLOB:
            raise ValueError(f"expected a number below 2^32 - 1 and less than 4 GiB, got {number} and {n} bytes")
        self.reserve(max(self.n_numbers, <Py_ssize_t>number + 1), n, 1)
        self.put(number, <const char*>&view[0] if n else <const char*>self.arena.data, n)

    def get_bytes(self, uint32_t number):
        """Return a copy of the string under `number`, None when there is none."""
        cdef size_t n = 0
        cdef const char* data = self.get(number, &n)
        return None if data == NULL else PyBytes_FromStringAndSize(data, <Py_ssize_t>n)

    def remove(self, uint32_t number):
        """Forget the string under `number`, if there is one."""
        self.drop(number)

    def compact(self):
        """Copy what is left into an arena without waste; frozen views keep the old one."""
        self._compact()

    def compact_if_wasteful(self):
        """Compact when more than half of the arena, and more than 1 MiB, is waste; return whether it did."""
        if not self.is_wasteful():
            return False
        self._compact()
        return True

    def freeze(self, str prefix):
        """Return the sections ``<prefix>/arena`` and ``<prefix>/start`` of the present state."""
        cdef Py_ssize_t n_bytes = self.n_used * <Py_ssize_t>sizeof(uint64_t)
        starts = PyBytes_FromStringAndSize(<const char*>self.start, n_bytes)
        return [
            Section(f"{prefix}/arena", 1, self.arena.used, self.arena.read),
            Section(f"{prefix}/start", sizeof(uint64_t), n_bytes, _reader(starts)),
        ]

    def load(self, str prefix, reader, Py_ssize_t n):
        """Replace the contents by the sections that `freeze` gave, checked.

        Parameters
        ----------
        prefix : str
            As given to `freeze`.
        reader : SectionReader
            The snapshot.
        n : int
            Numbers that the owner has; a string under a larger one is damage.

        Raises
        ------
        CorruptSnapshot
            The sections are not what `freeze` writes.
        """
        cdef Blobs fresh = Blobs()
        cdef size_t n_start_bytes = reader.size(f"{prefix}/start")
        cdef size_t n_arena_bytes = reader.size(f"{prefix}/arena")
        cdef Py_ssize_t n_used = <Py_ssize_t>(n_start_bytes // sizeof(uint64_t))
        cdef Py_ssize_t damaged
        if n_start_bytes % sizeof(uint64_t) or n_used > n:
            raise CorruptSnapshot(f"{prefix}/start: expected at most {n} offsets, got {n_start_bytes} bytes")
        fresh.reserve(n, n_arena_bytes, 0)
        if n_arena_bytes:
            reader.read_into(f"{prefix}/arena", _writable(fresh.arena.data, n_arena_bytes))
            fresh.arena.used = n_arena_bytes
        if n_start_bytes:
            reader.read_into(f"{prefix}/start", _writable(<char*>fresh.start, n_start_bytes))
            fresh.n_used = n_used
        with nogil:
            damaged = _count_waste(fresh)
        if damaged >= 0:
            raise CorruptSnapshot(f"{prefix}/start: offset {damaged} does not lead to a string in the arena")
        self.arena = fresh.arena
        self.start, fresh.start = fresh.start, self.start
        self.n_numbers = fresh.n_numbers
        self.n_used = n_used
        self.start_capacity = fresh.start_capacity
        self.waste = fresh.waste


@cython.final
cdef class StringMap:
    """Strings by dense number, and the number of a string."""

    def __cinit__(self):
        self.blobs = Blobs()

    def __dealloc__(self):
        self._free_table()
        self._drop_fresh()

    cdef void _free_table(self) noexcept:
        free_block(self.table, <size_t>self.table_capacity * sizeof(uint32_t))
        free_block(self.tags, <size_t>self.table_capacity)
        self.table = NULL
        self.tags = NULL

    def __len__(self):
        return self.size

    cdef uint32_t find(self, const char* data, size_t n) noexcept nogil:
        return NO_SLOT if self.size == 0 else self._find(data, n, _hash(data, n))

    cdef uint32_t _find(self, const char* data, size_t n, uint64_t h) noexcept nogil:
        """Find a string whose hash is `h`; the table is not empty."""
        cdef uint8_t tag = _tag(h)
        cdef Py_ssize_t place = <Py_ssize_t>strings_high(h, <uint64_t>self.table_capacity)
        cdef const char* other
        cdef size_t n_other = 0
        # There is an empty place always: the table is never more than 85 % full.
        while self.tags[place] != EMPTY:
            if self.tags[place] == tag:
                other = self.blobs.get(self.table[place], &n_other)
                if n_other == n and memcmp(other, data, n) == 0:
                    return self.table[place]
            place += 1
            if place == self.table_capacity:
                place = 0
        return NO_SLOT

    cdef int reserve(self, Py_ssize_t n_more, size_t n_bytes) except -1:
        self.blobs.reserve(self.blobs.n_used + n_more, n_bytes, n_more)
        if not self._has_places(n_more):
            self.prepare(n_more)
        self._adopt()
        return 0

    cdef bint _has_places(self, Py_ssize_t n_more) noexcept nogil:
        return _places(self.size + self.n_tombs + n_more) <= self.table_capacity

    cdef int add(self, uint32_t number, const char* data, size_t n) except -1:
        self.reserve(1, n)
        if <Py_ssize_t>number >= self.blobs.n_numbers:
            self.blobs.reserve(<Py_ssize_t>number + 1, n, 1)
        self.add_reserved(number, data, n)
        return 0

    cdef void add_reserved(self, uint32_t number, const char* data, size_t n) noexcept nogil:
        self.blobs.put(number, data, n)
        self._insert(number, _hash(data, n))
        self.size += 1

    cdef void remove(self, uint32_t number) noexcept nogil:
        cdef size_t n = 0
        cdef const char* data = self.blobs.get(number, &n)
        cdef uint64_t h
        cdef Py_ssize_t place
        if data == NULL:
            return
        self._drop_fresh()
        h = _hash(data, n)
        place = <Py_ssize_t>strings_high(h, <uint64_t>self.table_capacity)
        while self.tags[place] < FIRST_TAG or self.table[place] != number:
            place = place + 1 if place + 1 < self.table_capacity else 0
        self.tags[place] = TOMB
        self.n_tombs += 1
        # A tomb before an empty place keeps no chain together.
        if self.tags[place + 1 if place + 1 < self.table_capacity else 0] == EMPTY:
            while self.tags[place] == TOMB:
                self.tags[place] = EMPTY
                self.n_tombs -= 1
                place = place - 1 if place else self.table_capacity - 1
        self.blobs.drop(number)
        self.size -= 1

    cdef const char* get(self, uint32_t number, size_t* n) noexcept nogil:
        return self.blobs.get(number, n)

    cdef int prepare(self, Py_ssize_t n_more) except -1:
        if not self._has_places(n_more) and _places(self.size + n_more) > self.fresh_capacity:
            self._prepare(self.size + n_more)
        return 0

    cdef int _prepare(self, Py_ssize_t n_strings) except -1:
        """Make a table with room for `n_strings` and some more, with the present ones in it."""
        cdef Py_ssize_t number
        cdef size_t n = 0
        cdef const char* data
        self._new_table(n_strings)
        with nogil:
            for number in range(self.blobs.n_used):
                data = self.blobs.get(<uint32_t>number, &n)
                if data != NULL:
                    _insert_into(
                        self.fresh_table, self.fresh_tags, self.fresh_capacity, <uint32_t>number, _hash(data, n)
                    )
        return 0

    cdef int _new_table(self, Py_ssize_t n_strings) except -1:
        # Large tables grow by little: a rebuild costs 30 ns a string, an empty place 5 bytes for ever.
        cdef Py_ssize_t more = n_strings if n_strings < 4096 else n_strings // 8
        cdef Py_ssize_t capacity = _places(n_strings + more)
        cdef uint8_t* tags = <uint8_t*>resize_block(NULL, 0, <size_t>capacity)
        cdef uint32_t* table = <uint32_t*>resize_block(NULL, 0, <size_t>capacity * sizeof(uint32_t))
        if tags == NULL or table == NULL:
            free_block(tags, <size_t>capacity)
            free_block(table, <size_t>capacity * sizeof(uint32_t))
            raise MemoryError(f"no memory for a table of {capacity} strings")
        self._drop_fresh()
        memset(tags, EMPTY, <size_t>capacity)
        self.fresh_tags, self.fresh_table, self.fresh_capacity = tags, table, capacity
        return 0

    cdef void _adopt(self) noexcept:
        """Take the fresh table, if there is one."""
        if self.fresh_table != NULL:
            self._free_table()
            self.table, self.tags, self.table_capacity = self.fresh_table, self.fresh_tags, self.fresh_capacity
            self.fresh_table, self.fresh_tags, self.fresh_capacity = NULL, NULL, 0
            self.n_tombs = 0

    cdef void _drop_fresh(self) noexcept nogil:
        """Give the fresh table up: it does not know of a change that comes now."""
        free_block(self.fresh_table, <size_t>self.fresh_capacity * sizeof(uint32_t))
        free_block(self.fresh_tags, <size_t>self.fresh_capacity)
        self.fresh_table, self.fresh_tags, self.fresh_capacity = NULL, NULL, 0

    cdef void _insert(self, uint32_t number, uint64_t hash) noexcept nogil:
        self.n_tombs -= _insert_into(self.table, self.tags, self.table_capacity, number, hash)

    cdef uint32_t _insert_unless_equal(self, uint32_t number) noexcept nogil:
        """Insert a string of `blobs`; return the number of an equal one that is in the table, else NO_SLOT."""
        cdef size_t n = 0
        cdef const char* data = self.blobs.get(number, &n)
        cdef uint32_t other = self.find(data, n)
        if other == NO_SLOT:
            self._insert(number, _hash(data, n))
            self.size += 1
        return other

    def find_str(self, str text):
        """Return the number of `text`, -1 when it is not here."""
        cdef Py_ssize_t n = 0
        cdef const char* data
        cdef uint32_t number
        try:
            data = PyUnicode_AsUTF8AndSize(text, &n)
        except UnicodeEncodeError:  # a lone surrogate: cannot have been added
            return -1
        number = self.find(data, <size_t>n)
        return -1 if number == NO_SLOT else number

    def find_many(self, list texts):
        """Return the numbers of `texts`: (n,) uint32, 0xFFFFFFFF where a text is not here."""
        numbers = np.full(len(texts), <uint32_t>NO_SLOT, np.uint32)
        cdef uint32_t[::1] target = numbers
        cdef Py_ssize_t n = 0
        cdef Py_ssize_t i
        cdef const char* data
        for i in range(len(texts)):
            try:
                data = PyUnicode_AsUTF8AndSize(texts[i], &n)
            except UnicodeEncodeError:
                continue
            target[i] = self.find(data, <size_t>n)
        return numbers

    def add_str(self, uint32_t number, str text):
        """Add `text` under `number`; neither may be here already (ValueError)."""
        cdef Py_ssize_t n = 0
        cdef size_t n_other = 0
        cdef const char* data = PyUnicode_AsUTF8AndSize(text, &n)
        if number == NO_SLOT or self.blobs.get(number, &n_other) != NULL or self.find(data, <size_t>n) != NO_SLOT:
            raise ValueError(f"number {number} or text {text[:100]!r} is taken already")
        self.add(number, data, <size_t>n)

    def add_many(self, uint32_t first, list texts not None):
        """Add `texts` under the numbers from `first` on; none of them may be here already.

        Raises ValueError, UnicodeEncodeError, MemoryError: nothing was added.
        """
        cdef uint32_t number = first
        cdef Py_ssize_t n = 0, n_done = 0
        cdef size_t n_other = 0
        cdef const char* data
        cdef uint64_t h
        cdef str text
        self.reserve(len(texts), utf8_size(texts))
        if first > NO_SLOT - len(texts):
            raise ValueError(f"number {first} is too large")
        self.blobs.reserve(max(self.blobs.n_numbers, <Py_ssize_t>first + len(texts)), 0, 0)
        for text in texts:
            data = PyUnicode_AsUTF8AndSize(text, &n)
            h = _hash(data, <size_t>n)
            if self.blobs.get(number, &n_other) != NULL or self._find(data, <size_t>n, h) != NO_SLOT:
                while n_done:
                    n_done -= 1
                    self.remove(first + <uint32_t>n_done)
                raise ValueError(f"number {number} or text {text[:100]!r} is taken already")
            self.blobs.put(number, data, <size_t>n)
            self._insert(number, h)
            self.size += 1
            n_done += 1
            number += 1

    def remove_many(self, list texts not None):
        """Remove those of `texts` that are here; return their numbers."""
        cdef Py_ssize_t n = 0
        cdef const char* data
        cdef uint32_t number
        cdef list removed = []
        utf8_size(texts)  # raises now, or not at all
        for text in texts:
            data = PyUnicode_AsUTF8AndSize(text, &n)
            number = self.find(data, <size_t>n)
            if number != NO_SLOT:
                self.remove(number)
                removed.append(number)
        return removed

    def find_first(self, list texts not None):
        """Return the place in the list of the first of `texts` that is here, -1 when none is."""
        cdef Py_ssize_t i, n = 0
        cdef const char* data
        if self.size == 0:
            return -1
        for i in range(len(texts)):
            if i & 0xFFF == 0xFFF:
                with nogil:  # other threads get their turn: a look-up may take a miss of the cache
                    pass
            data = PyUnicode_AsUTF8AndSize(texts[i], &n)
            if self.find(data, <size_t>n) != NO_SLOT:
                return i
        return -1

    def get_str(self, uint32_t number):
        """Return the string under `number`, None when there is none."""
        cdef size_t n = 0
        cdef const char* data = self.blobs.get(number, &n)
        return None if data == NULL else PyUnicode_DecodeUTF8(data, <Py_ssize_t>n, NULL)

    def get_many(self, const uint32_t[::1] numbers):
        """Return the strings under `numbers`, None where there is none."""
        cdef Py_ssize_t i
        cdef size_t n = 0
        cdef const char* data
        cdef list found = []
        for i in range(numbers.shape[0]):
            data = self.blobs.get(numbers[i], &n)
            found.append(None if data == NULL else PyUnicode_DecodeUTF8(data, <Py_ssize_t>n, NULL))
        return found

    def remove_number(self, uint32_t number):
        """Remove the string under `number`, if there is one."""
        self.remove(number)

    def reserve_more(self, Py_ssize_t n_more, size_t n_bytes):
        """Make room for `n_more` strings with `n_bytes` UTF-8 bytes together."""
        if n_more < 0:
            raise ValueError(f"expected a number of strings, got {n_more}")
        self.reserve(n_more, n_bytes)

    def has_room(self, Py_ssize_t n_more, size_t n_bytes):
        """Tell whether `reserve_more` has nothing to do."""
        return self._has_places(n_more) and self.blobs.has_room(self.blobs.n_used + n_more, n_bytes, n_more)

    def prepare_more(self, Py_ssize_t n_more):
        """Do of `reserve_more` what takes long and can be done beside look-ups; no change runs meanwhile."""
        self.prepare(n_more)

    def compact_if_wasteful(self):
        """Compact the arena when more than half of it, and more than 1 MiB, is waste; return whether it did."""
        return self.blobs.compact_if_wasteful()

    def memory_bytes(self):
        """Return the allocated bytes."""
        return self.blobs.memory_bytes() + <size_t>(self.table_capacity + self.fresh_capacity) * (sizeof(uint32_t) + 1)

    def freeze(self, str prefix):
        """Return the sections of the present state; the table is not among them."""
        return self.blobs.freeze(prefix)

    def load(self, str prefix, reader, Py_ssize_t n, Py_ssize_t max_bytes=1024):
        """Replace the contents by the sections that `freeze` gave, checked, and build the table.

        Parameters
        ----------
        prefix : str
            As given to `freeze`.
        reader : SectionReader
            The snapshot.
        n : int
            Numbers that the owner has; a string under a larger one is damage.
        max_bytes : int
            Longest string that the owner accepts; the shortest has 1 byte.

        Raises
        ------
        CorruptSnapshot
            The sections are not what `freeze` writes, a string has a wrong length or is not UTF-8, or stands twice.
        """
        cdef StringMap fresh = StringMap()
        cdef Py_ssize_t number
        cdef Py_ssize_t n_strings
        cdef uint32_t twin = NO_SLOT
        fresh.blobs.load(prefix, reader, n)
        n_strings = _check_texts(fresh.blobs, prefix, max_bytes)
        fresh._new_table(n_strings)
        fresh._adopt()
        with nogil:
            for number in range(fresh.blobs.n_used):
                if fresh.blobs.start[number] != ABSENT:
                    twin = fresh._insert_unless_equal(<uint32_t>number)
                    if twin != NO_SLOT:
                        break
        if twin != NO_SLOT:
            raise CorruptSnapshot(f"{prefix}: strings {twin} and {number} are equal")
        self.blobs = fresh.blobs
        self.size = fresh.size
        self.n_tombs = 0
        self.table_capacity = fresh.table_capacity
        self.table, fresh.table = fresh.table, self.table
        self.tags, fresh.tags = fresh.tags, self.tags
        self._drop_fresh()


def utf8_size(list texts not None):
    """Return the bytes of `texts` together in UTF-8, and see to it that asking for them needs no memory any more.

    Raises UnicodeEncodeError for lone surrogates.
    """
    cdef Py_ssize_t n = 0, total = 0
    cdef str text
    for text in texts:
        PyUnicode_AsUTF8AndSize(text, &n)
        total += n
    return total


def are_plain(list texts not None, Py_ssize_t most):
    """Tell whether all are of the type str itself, ASCII, and have 1 to `most` characters."""
    for text in texts:
        if not (PyUnicode_CheckExact(text) and PyUnicode_IS_ASCII(text) and 0 < PyUnicode_GET_LENGTH(text) <= most):
            return False
    return True


cdef inline bint _insert_into(
    uint32_t* table, uint8_t* tags, Py_ssize_t capacity, uint32_t number, uint64_t hash
) noexcept nogil:
    """Put a number into a free place of a table; return whether that held a tomb."""
    cdef Py_ssize_t place = <Py_ssize_t>strings_high(hash, <uint64_t>capacity)
    cdef bint was_tomb
    while tags[place] >= FIRST_TAG:
        place += 1
        if place == capacity:
            place = 0
    was_tomb = tags[place] == TOMB
    tags[place] = _tag(hash)
    table[place] = number
    return was_tomb


cdef inline size_t _grown(size_t present, size_t needed, size_t item_bytes) noexcept nogil:
    """Return the capacity that follows `present`: realloc moves pages, not bytes, so large arrays grow by little."""
    cdef size_t more = present // 16 if present * item_bytes > (1 << 20) else present // 2
    cdef size_t least = 16
    return max(needed, present + more, least)


cdef Py_ssize_t _count_waste(Blobs blobs) noexcept nogil:
    """Set the waste of freshly loaded blobs; return the first number whose string is damaged, -1 when none is."""
    cdef size_t used = blobs.arena.used
    cdef size_t live = 0
    cdef size_t at
    cdef size_t last
    cdef size_t n = 0
    cdef Py_ssize_t number
    for number in range(blobs.n_used):
        if blobs.start[number] == ABSENT:
            continue
        at = blobs.start[number]
        if at >= used:
            return number
        last = min(used, at + MAX_VARINT)
        while at < last and <uint8_t>blobs.arena.data[at] >= 0x80:
            at += 1
        if at == last:
            return number
        at = <size_t>(after_length(blobs.arena.data + blobs.start[number], &n) - blobs.arena.data)
        if n > used - at:
            return number
        live += at + n - blobs.start[number]
        if live > used:  # strings that share bytes
            return number
    blobs.waste = used - live
    return -1


cdef Py_ssize_t _check_texts(Blobs blobs, str prefix, Py_ssize_t max_bytes) except -1:
    """Refuse strings of wrong length and strings that are not UTF-8; return how many there are."""
    cdef Py_ssize_t number
    cdef Py_ssize_t n_strings = 0
    cdef size_t n = 0
    cdef const char* data
    for number in range(blobs.n_used):
        data = blobs.get(<uint32_t>number, &n)
        if data == NULL:
            continue
        n_strings += 1
        if n < 1 or n > <size_t>max_bytes:
            raise CorruptSnapshot(f"{prefix}: string {number} has {n} bytes, expected 1 to {max_bytes}")
        if not _is_ascii(data, n):
            try:
                PyUnicode_DecodeUTF8(data, <Py_ssize_t>n, NULL)
            except UnicodeDecodeError as error:
                raise CorruptSnapshot(f"{prefix}: string {number} is not UTF-8") from error
    return n_strings


cdef inline bint _is_ascii(const char* data, size_t n) noexcept nogil:
    cdef uint64_t word = 0
    cdef uint64_t seen = 0
    cdef size_t at = 0
    while at + 8 <= n:
        memcpy(&word, data + at, 8)
        seen |= word
        at += 8
    word = 0
    memcpy(&word, data + at, n - at)
    return ((seen | word) & HIGH_BITS) == 0


cdef inline Py_ssize_t _places(Py_ssize_t n_strings) noexcept nogil:
    """Return the places of a table that `n_strings` fill to at most 85 %."""
    return n_strings + n_strings * 3 // 17 + MIN_PLACES


cdef inline uint64_t _mix(uint64_t a, uint64_t b) noexcept nogil:
    return strings_high(a, b) ^ (a * b)


cdef inline uint64_t _hash(const char* data, size_t n) noexcept nogil:
    """Hash by folded 64 x 64 bit products of secret factors, eight bytes at a time."""
    cdef uint64_t h = SEED ^ n
    cdef uint64_t word = 0
    cdef size_t at = 0
    while at + 8 < n:
        memcpy(&word, data + at, 8)
        h = _mix(h ^ word, FACTOR) + SEED
        at += 8
    if n >= 8:  # the last eight bytes, a part of them for the second time: no loop over single bytes
        memcpy(&word, data + n - 8, 8)
    elif n >= 4:
        word = _four(data) | (_four(data + n - 4) << 32)
    elif n > 0:
        word = <uint8_t>data[0] | (<uint64_t><uint8_t>data[n >> 1] << 8) | (<uint64_t><uint8_t>data[n - 1] << 16)
    return _mix(h ^ word, LAST_FACTOR)


cdef inline uint64_t _four(const char* data) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, data, 4)
    return word


cdef inline uint8_t _tag(uint64_t hash) noexcept nogil:
    # From the low end: the place comes from the high one.
    cdef uint8_t tag = <uint8_t>hash
    return tag if tag >= FIRST_TAG else <uint8_t>(tag + FIRST_TAG)


cdef object _writable(char* data, size_t n):
    return PyMemoryView_FromMemory(data, <Py_ssize_t>n, PyBUF_WRITE)


def _reader(bytes data):
    view = memoryview(data)

    def read(start, stop):
        return view[start:stop]

    return read
