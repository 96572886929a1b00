"""Which slots have this value? Postings: a sorted base that never changes, and a small delta in the order of events.

A base is two arrays. `Pairs` keeps (key, slot) in order, 12 bytes an entry, for values that seldom repeat: numbers.
`Terms` keeps the slots of each term one after the other and where they start, 4 bytes an entry and 4 a term, for dense
keys that repeat: the numbers of distinct strings. What is added or removed goes to the delta; when that is full, a
merge writes a new base. So a frozen view needs only a reference to the base and a copy of the delta.

A removal takes all entries of a slot away, as many as were added, before others of that slot are added. Therefore a
slot matches exactly if the last event of it among those that match was an addition, or if the base has it and no
event matches: replaying the delta in order gives the right bits even where a slot has several values.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from kektordb._bitmap cimport bitmap_clear, bitmap_get, bitmap_set
from kektordb._memory cimport free_block, resize_block
from kektordb._types cimport NO_SLOT, slot_t, word_t

from kektordb.errors import CorruptSnapshot
from kektordb.types import Section

cdef extern from "Python.h":
    int PyBUF_WRITE

cdef enum:
    EARLY_SHARE = 4  # the share of the delta that is free yet when a merge is due
    RUN = 8  # entries that insertion sort orders before merging begins

ctypedef fused sorted_t:
    slot_t
    uint64_t


cdef class Block:
    """Bytes that are written once, then shared."""

    def __dealloc__(self):
        free_block(self.data, self.allocated)
        self.data = NULL

    cdef int shrink(self, Py_ssize_t n_bytes) except -1:
        cdef char* data = <char*>resize_block(self.data, self.allocated, n_bytes + 1)
        if data != NULL:  # else the larger one serves as well
            self.data = data
            self.allocated = n_bytes + 1
        self.size = n_bytes
        return 0

    def read(self, Py_ssize_t start, Py_ssize_t stop):
        """Return a copy of the bytes from `start` to `stop`."""
        if not 0 <= start <= stop <= self.size:
            raise ValueError(f"expected a range within {self.size} bytes, got {start} to {stop}")
        return PyBytes_FromStringAndSize(self.data + start, stop - start)


cdef Block new_block(Py_ssize_t n_bytes):
    cdef Block block = Block.__new__(Block)
    block.data = <char*>resize_block(NULL, 0, n_bytes + 1)
    if block.data == NULL:
        raise MemoryError(f"no memory for {n_bytes} bytes of postings")
    block.allocated = n_bytes + 1
    block.size = n_bytes
    return block


cdef Block _loaded(reader, str name):
    cdef Py_ssize_t n_bytes = reader.size(name)
    cdef Block block = new_block(n_bytes)
    if n_bytes:
        reader.read_into(name, PyMemoryView_FromMemory(block.data, n_bytes, PyBUF_WRITE))
    return block


class Unprepared(Exception):
    """Something must be made before entries can be counted."""


cdef class Coming:
    """What is known about entries to come."""

    def __cinit__(self):
        self.full, self.parts, self.roomy = [], [], []


cdef class Postings:
    """What `Pairs` and `Terms` share: the delta, and matching.

    Parameters
    ----------
    merge_at : int
        Entries of the delta from which on a merge pays, however small the base is.
    """

    def __cinit__(self, Py_ssize_t merge_at):
        self.index = new_block(0)
        self.slots = new_block(0)
        self.merge_at = max(1, merge_at)

    def __dealloc__(self):
        free_block(self.delta, <size_t>self.delta_capacity * sizeof(entry_t))
        self.delta = NULL

    cdef int append(self, uint64_t key, slot_t slot, bint is_removal) except -1:
        cdef entry_t* entry
        if slot == NO_SLOT:
            if self.n_coming == 0:
                self.coming.parts.append(self)
            self.n_coming += 1
            return 0
        if self.n_delta >= self.room:
            self._grow_delta()
        entry = &self.delta[self.n_delta]
        entry.key = key
        entry.slot = slot
        entry.is_removal = is_removal
        self.n_delta += 1
        self.n_removals += is_removal
        self.n_live += 1 - 2 * is_removal
        return 0

    cdef int _grow_delta(self) except -1:
        """Make room for one entry more, by a merge when the delta is as large as it may be; ask for one before that."""
        cdef Py_ssize_t limit = max(self.merge_at, self.n_base >> MERGE_SHIFT)
        cdef Py_ssize_t early = limit // EARLY_SHARE
        if self.n_delta >= limit and self._merged():
            limit = max(self.merge_at, self.n_base >> MERGE_SHIFT)
            early = limit // EARLY_SHARE
        elif self.n_delta >= limit - early and self.coming is not None:
            self.coming.full.append(self)
        if self.n_delta < limit - early:
            limit -= early
        elif self.n_delta >= limit:
            limit = self.n_delta + early + 1  # without memory for a merge: the next attempt
        if self.n_delta >= self.delta_capacity:
            self._resize(min(limit, max(16, 2 * self.delta_capacity)))
        self.room = min(limit, self.delta_capacity)
        return 0

    cdef int _merged(self) except -1:
        """Merge; return whether there was memory for that."""
        try:
            self.prepare()
        except MemoryError:
            return False
        self.adopt()
        return True

    cdef int _resize(self, Py_ssize_t capacity) except -1:
        cdef entry_t* delta = <entry_t*>resize_block(
            self.delta, <size_t>self.delta_capacity * sizeof(entry_t), <size_t>capacity * sizeof(entry_t)
        )
        if delta == NULL:
            raise MemoryError(f"no memory for {capacity} postings")
        self.delta = delta
        self.delta_capacity = capacity
        return 0

    cdef bint has_room(self) noexcept nogil:
        return self.n_delta + self.n_coming <= self.delta_capacity

    cdef int reserve(self) except -1:
        cdef Py_ssize_t limit = max(self.merge_at, self.n_base >> MERGE_SHIFT)
        if not self.has_room():
            # A merge that fails leaves everything in the delta, so it has room for all.
            self._resize(max(self.n_delta + self.n_coming, min(limit, 2 * self.delta_capacity), 16))
            if self.delta_capacity > limit:
                self.coming.roomy.append(self)
        return 0

    cdef void trim(self) noexcept:
        cdef Py_ssize_t capacity = max(self.n_delta, self.merge_at, self.n_base >> MERGE_SHIFT)
        cdef entry_t* delta
        if self.delta_capacity > capacity:
            delta = <entry_t*>resize_block(
                self.delta, <size_t>self.delta_capacity * sizeof(entry_t), <size_t>capacity * sizeof(entry_t)
            )
            if delta != NULL:  # else the larger one serves as well
                self.delta = delta
                self.delta_capacity = capacity
                self.room = min(self.room, capacity)

    cdef int prepare(self) except -1:
        cdef entry_t* changes
        cdef Py_ssize_t n_changes
        cdef Block held
        if self.fresh_slots is not None or self.n_delta == 0:
            return 0
        held = new_block(2 * self.n_delta * <Py_ssize_t>sizeof(entry_t))
        changes = <entry_t*>held.data
        with nogil:
            memcpy(changes, self.delta, self.n_delta * sizeof(entry_t))
            _sort(changes, changes + self.n_delta, self.n_delta)
            n_changes = _keep_last(changes, self.n_delta)
        self._merge_base(changes, n_changes)
        return 0

    cdef int adopt(self) except -1:
        if self.fresh_slots is None:
            return 0
        self.index, self.slots = self.fresh_index, self.fresh_slots
        self.fresh_index, self.fresh_slots = None, None
        self.n_base = self.slots.size // <Py_ssize_t>sizeof(slot_t)
        self.n_delta = self.n_removals = self.room = 0
        return 0

    cdef int purge(self, const word_t* alive, Py_ssize_t n_alive) except -1:
        """Merge, and leave out the slots that are not alive."""
        self.prepare()
        self.adopt()
        self._drop_dead(alive, n_alive)
        self.n_base = self.n_live = self.slots.size // <Py_ssize_t>sizeof(slot_t)
        return 0

    cdef int _merge_base(self, const entry_t* changes, Py_ssize_t n_changes) except -1:
        """Write the fresh base: the present one with sorted changes, each entry at most once among them."""
        raise NotImplementedError

    cdef int _drop_dead(self, const word_t* alive, Py_ssize_t n_alive) except -1:
        raise NotImplementedError

    cdef void _span(self, uint64_t low, uint64_t high, Py_ssize_t* start, Py_ssize_t* stop) noexcept nogil:
        start[0] = 0
        stop[0] = 0

    cdef Py_ssize_t _match_base(self, uint64_t low, uint64_t high, word_t* rows) noexcept nogil:
        cdef Py_ssize_t i, start, stop
        cdef const slot_t* slots = <const slot_t*>self.slots.data
        self._span(low, high, &start, &stop)
        if rows != NULL:
            for i in range(start, stop):
                bitmap_set(rows, slots[i])
        return stop - start

    cdef Py_ssize_t match_range(self, uint64_t low, uint64_t high, word_t* rows) noexcept nogil:
        """Match keys from `low` to `high`, both included; return the entries that match."""
        cdef Py_ssize_t i, n
        cdef uint64_t width = high - low
        if low > high:
            return 0
        n = self._match_base(low, high, rows)
        for i in range(self.n_delta):
            if self.delta[i].key - low <= width:
                n += _replay(&self.delta[i], rows)
        return n

    cdef Py_ssize_t match_keys(self, const uint64_t* keys, Py_ssize_t n_keys, word_t* rows) noexcept nogil:
        """Match any of `keys`, ascending and distinct; return the entries that match."""
        cdef Py_ssize_t i, place, n = 0
        if n_keys == 1:
            return self.match_range(keys[0], keys[0], rows)
        for i in range(n_keys):
            n += self._match_base(keys[i], keys[i], rows)
        for i in range(self.n_delta):
            place = _bisect(keys, n_keys, self.delta[i].key)
            if place < n_keys and keys[place] == self.delta[i].key:
                n += _replay(&self.delta[i], rows)
        return n

    cdef Py_ssize_t match_terms(self, const word_t* selected, Py_ssize_t n_terms, word_t* rows) noexcept nogil:
        """Match the keys below `n_terms` whose bits are set in `selected`; return the entries that match."""
        cdef Py_ssize_t at, term, n = 0
        for at in range((n_terms + 63) >> 6):
            if selected[at] == 0:
                continue
            for term in range(at * 64, min(n_terms, at * 64 + 64)):
                if bitmap_get(selected, <slot_t>term):
                    n += self._match_base(<uint64_t>term, <uint64_t>term, rows)
        for at in range(self.n_delta):
            if bitmap_get(selected, <slot_t>self.delta[at].key):
                n += _replay(&self.delta[at], rows)
        return n

    def memory_bytes(self):
        """Return the bytes allocated."""
        return self.index.size + self.slots.size + self.delta_capacity * <Py_ssize_t>sizeof(entry_t)

    def freeze(self, str prefix):
        """Return the sections of the present state: the base by reference, a copy of the delta."""
        cdef Py_ssize_t n_bytes = self.n_delta * <Py_ssize_t>sizeof(entry_t)
        cdef Block delta = new_block(n_bytes)
        if n_bytes:
            memcpy(delta.data, self.delta, n_bytes)
        return [
            Section(f"{prefix}.index", self._item_bytes(), self.index.size, self.index.read),
            Section(f"{prefix}.slots", sizeof(slot_t), self.slots.size, self.slots.read),
            Section(f"{prefix}.delta", sizeof(entry_t), delta.size, delta.read),
        ]

    def load(self, str prefix, reader, Py_ssize_t n_slots, Py_ssize_t n_terms, Py_ssize_t n_live):
        """Replace the contents by the sections that `freeze` gave. Raises CorruptSnapshot for what it cannot be."""
        cdef Block delta = _loaded(reader, f"{prefix}.delta")
        cdef bint is_sound
        if delta.size % <Py_ssize_t>sizeof(entry_t):
            raise CorruptSnapshot(f"{prefix}.delta: a part of an entry")
        self.index = _loaded(reader, f"{prefix}.index")
        self.slots = _loaded(reader, f"{prefix}.slots")
        self.n_base = self.slots.size // <Py_ssize_t>sizeof(slot_t)
        self.n_delta = delta.size // <Py_ssize_t>sizeof(entry_t)
        self._resize(self.n_delta)
        memcpy(self.delta, delta.data, delta.size)
        self.room = 0
        self.n_live = n_live
        with nogil:
            is_sound = self._is_sound(n_slots, n_terms)
        if not is_sound:
            raise CorruptSnapshot(f"{prefix}: the postings contradict one another")

    def _item_bytes(self):
        raise NotImplementedError

    cdef bint _is_index_sound(self) noexcept nogil:
        return False

    cdef bint _is_sound(self, Py_ssize_t n_slots, Py_ssize_t n_terms) noexcept nogil:
        """Check what was loaded, so that no later access can leave an array; count removals on the way."""
        cdef Py_ssize_t i
        cdef const slot_t* slots = <const slot_t*>self.slots.data
        if self.slots.size != self.n_base * <Py_ssize_t>sizeof(slot_t) or not self._is_index_sound():
            return False
        for i in range(self.n_base):
            if slots[i] >= n_slots:
                return False
        self.n_removals = 0
        for i in range(self.n_delta):
            if self.delta[i].slot >= n_slots or self.delta[i].is_removal > 1:
                return False
            if n_terms >= 0 and self.delta[i].key >= <uint64_t>n_terms:
                return False
            self.n_removals += self.delta[i].is_removal
        return True


cdef class Pairs(Postings):
    """Postings of 64-bit keys; ``index`` is the key of each entry."""

    cdef void _span(self, uint64_t low, uint64_t high, Py_ssize_t* start, Py_ssize_t* stop) noexcept nogil:
        cdef const uint64_t* keys = <const uint64_t*>self.index.data
        start[0] = _bisect(keys, self.n_base, low)
        if high == 0xFFFFFFFFFFFFFFFFu:
            stop[0] = self.n_base
        else:
            stop[0] = start[0] + _bisect(keys + start[0], self.n_base - start[0], high + 1)

    cdef int _merge_base(self, const entry_t* changes, Py_ssize_t n_changes) except -1:
        cdef Py_ssize_t n_most = self.n_base + n_changes
        cdef Block index = new_block(n_most * <Py_ssize_t>sizeof(uint64_t))
        cdef Block slots = new_block(n_most * <Py_ssize_t>sizeof(slot_t))
        cdef const uint64_t* old_keys = <const uint64_t*>self.index.data
        cdef const slot_t* old_slots = <const slot_t*>self.slots.data
        cdef uint64_t* keys = <uint64_t*>index.data
        cdef slot_t* targets = <slot_t*>slots.data
        cdef Py_ssize_t i = 0, j, n = 0, run
        cdef const entry_t* change
        with nogil:
            for j in range(n_changes + 1):
                change = &changes[j]
                run = self.n_base - i
                if j < n_changes:
                    run = _pairs_before(old_keys + i, old_slots + i, run, change)
                memcpy(keys + n, old_keys + i, run * sizeof(uint64_t))
                memcpy(targets + n, old_slots + i, run * sizeof(slot_t))
                i += run
                n += run
                if j == n_changes:
                    break
                if i < self.n_base and old_keys[i] == change.key and old_slots[i] == change.slot:
                    i += 1
                if not change.is_removal:
                    keys[n] = change.key
                    targets[n] = change.slot
                    n += 1
        index.shrink(n * <Py_ssize_t>sizeof(uint64_t))
        slots.shrink(n * <Py_ssize_t>sizeof(slot_t))
        self.fresh_index, self.fresh_slots = index, slots
        return 0

    cdef int _drop_dead(self, const word_t* alive, Py_ssize_t n_alive) except -1:
        cdef Block index = new_block(self.n_base * <Py_ssize_t>sizeof(uint64_t))
        cdef Block slots = new_block(self.n_base * <Py_ssize_t>sizeof(slot_t))
        cdef const uint64_t* old_keys = <const uint64_t*>self.index.data
        cdef const slot_t* old_slots = <const slot_t*>self.slots.data
        cdef Py_ssize_t i, n = 0
        for i in range(self.n_base):
            (<uint64_t*>index.data)[n] = old_keys[i]
            (<slot_t*>slots.data)[n] = old_slots[i]
            n += _is_alive(old_slots[i], alive, n_alive)
        index.shrink(n * <Py_ssize_t>sizeof(uint64_t))
        slots.shrink(n * <Py_ssize_t>sizeof(slot_t))
        self.index, self.slots = index, slots
        return 0

    cdef bint _is_index_sound(self) noexcept nogil:
        cdef Py_ssize_t i
        cdef const uint64_t* keys = <const uint64_t*>self.index.data
        if self.index.size != self.n_base * <Py_ssize_t>sizeof(uint64_t):
            return False
        for i in range(1, self.n_base):
            if keys[i - 1] > keys[i]:
                return False
        return True

    def _item_bytes(self):
        return sizeof(uint64_t)


cdef class Terms(Postings):
    """Postings of dense keys; ``index`` says where the slots of each term start, and at its end where the last stop."""

    cdef Py_ssize_t n_terms(self) noexcept nogil:
        """Return how many terms the base knows."""
        return max(0, self.index.size // <Py_ssize_t>sizeof(uint32_t) - 1)

    cdef void _span(self, uint64_t low, uint64_t high, Py_ssize_t* start, Py_ssize_t* stop) noexcept nogil:
        cdef const uint32_t* starts = <const uint32_t*>self.index.data
        cdef uint64_t n_terms = <uint64_t>self.n_terms()
        start[0] = 0
        stop[0] = 0
        if low < n_terms:
            start[0] = starts[low]
            stop[0] = starts[min(high, n_terms - 1) + 1]

    cdef int _merge_base(self, const entry_t* changes, Py_ssize_t n_changes) except -1:
        cdef Py_ssize_t n_old = self.n_terms()
        cdef Py_ssize_t n_terms = max(n_old, <Py_ssize_t>changes[n_changes - 1].key + 1)
        cdef Py_ssize_t n_most = self.n_base + n_changes
        if n_most > 0xFFFFFFFF:
            raise MemoryError(f"a field holds at most {0xFFFFFFFF} values, this would be {n_most}")
        cdef Block index = new_block((n_terms + 1) * <Py_ssize_t>sizeof(uint32_t))
        cdef Block slots = new_block(n_most * <Py_ssize_t>sizeof(slot_t))
        cdef const uint32_t* old_starts = <const uint32_t*>self.index.data
        cdef const slot_t* old_slots = <const slot_t*>self.slots.data
        cdef uint32_t* starts = <uint32_t*>index.data
        cdef slot_t* targets = <slot_t*>slots.data
        # i: slots of the old base that are done; n: slots of the new one; term: the next whose start is not written.
        cdef Py_ssize_t i = 0, j, n = 0, term = 0, stop = 0, run
        cdef const entry_t* change
        with nogil:
            for j in range(n_changes):
                change = &changes[j]
                if j == 0 or change.key != changes[j - 1].key:
                    while term <= <Py_ssize_t>change.key:
                        starts[term] = <uint32_t>((old_starts[term] if term < n_old else self.n_base) + n - i)
                        term += 1
                    run = starts[term - 1] - n
                    memcpy(targets + n, old_slots + i, run * sizeof(slot_t))
                    i += run
                    n += run
                    stop = old_starts[term] if term <= n_old else self.n_base
                run = _bisect(old_slots + i, stop - i, change.slot)
                memcpy(targets + n, old_slots + i, run * sizeof(slot_t))
                i += run
                n += run
                if i < stop and old_slots[i] == change.slot:
                    i += 1
                if not change.is_removal:
                    targets[n] = change.slot
                    n += 1
            while term <= n_terms:
                starts[term] = <uint32_t>((old_starts[term] if term < n_old else self.n_base) + n - i)
                term += 1
            memcpy(targets + n, old_slots + i, (self.n_base - i) * sizeof(slot_t))
            n += self.n_base - i
        slots.shrink(n * <Py_ssize_t>sizeof(slot_t))
        self.fresh_index, self.fresh_slots = index, slots
        return 0

    cdef int _drop_dead(self, const word_t* alive, Py_ssize_t n_alive) except -1:
        cdef Py_ssize_t n_terms = self.n_terms()
        cdef Block index = new_block(self.index.size)
        cdef Block slots = new_block(self.slots.size)
        cdef const uint32_t* old_starts = <const uint32_t*>self.index.data
        cdef const slot_t* old_slots = <const slot_t*>self.slots.data
        cdef Py_ssize_t term, i, n = 0
        for term in range(n_terms):
            (<uint32_t*>index.data)[term] = <uint32_t>n
            for i in range(<Py_ssize_t>old_starts[term], <Py_ssize_t>old_starts[term + 1]):
                (<slot_t*>slots.data)[n] = old_slots[i]
                n += _is_alive(old_slots[i], alive, n_alive)
        if self.index.size:
            (<uint32_t*>index.data)[n_terms] = <uint32_t>n
        slots.shrink(n * <Py_ssize_t>sizeof(slot_t))
        self.index, self.slots = index, slots
        return 0

    cdef bint _is_index_sound(self) noexcept nogil:
        cdef Py_ssize_t i
        cdef const uint32_t* starts = <const uint32_t*>self.index.data
        cdef Py_ssize_t n_terms = self.n_terms()
        if self.index.size == 0:
            return self.n_base == 0
        if self.index.size % <Py_ssize_t>sizeof(uint32_t) or starts[0] != 0 or starts[n_terms] != self.n_base:
            return False
        for i in range(n_terms):
            if starts[i] > starts[i + 1]:
                return False
        return True

    def _item_bytes(self):
        return sizeof(uint32_t)


cdef inline int _replay(const entry_t* entry, word_t* rows) noexcept nogil:
    if entry.is_removal:
        if rows != NULL:
            bitmap_clear(rows, entry.slot)
        return -1
    if rows != NULL:
        bitmap_set(rows, entry.slot)
    return 1


cdef inline bint _is_alive(slot_t slot, const word_t* alive, Py_ssize_t n_alive) noexcept nogil:
    return slot < n_alive and bitmap_get(alive, slot)


cdef inline bint _is_before(uint64_t key, slot_t slot, const entry_t* other) noexcept nogil:
    return key < other.key or (key == other.key and slot < other.slot)


cdef Py_ssize_t _pairs_before(
    const uint64_t* keys, const slot_t* slots, Py_ssize_t n, const entry_t* entry
) noexcept nogil:
    """Return how many of the sorted pairs come before an entry; quick when they are few."""
    cdef Py_ssize_t low = 0, step = 1, high, middle
    while low + step <= n and _is_before(keys[low + step - 1], slots[low + step - 1], entry):
        low += step
        step *= 2
    high = min(n, low + step - 1)
    while low < high:
        middle = (low + high) >> 1
        if _is_before(keys[middle], slots[middle], entry):
            low = middle + 1
        else:
            high = middle
    return low


cdef Py_ssize_t _bisect(const sorted_t* values, Py_ssize_t n, sorted_t value) noexcept nogil:
    """Return how many of the sorted values are below one; quick when all are, as those of new rows find."""
    cdef Py_ssize_t low = 0, high = n, middle
    if n == 0 or values[n - 1] < value:
        return n
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


cdef void _sort(entry_t* entries, entry_t* spare, Py_ssize_t n) noexcept nogil:
    """Order by key and slot by merge sort from short runs; stable: the events of one entry stay in their order."""
    cdef Py_ssize_t start, width, i, j, middle, stop, at
    cdef entry_t held
    start = 0
    while start < n:
        for i in range(start + 1, min(n, start + RUN)):
            held = entries[i]
            j = i
            while j > start and _is_before(held.key, held.slot, &entries[j - 1]):
                entries[j] = entries[j - 1]
                j -= 1
            entries[j] = held
        start += RUN
    width = RUN
    while width < n:
        start = 0
        while start + width < n:
            middle = start + width
            stop = min(n, middle + width)
            if _is_before(entries[middle].key, entries[middle].slot, &entries[middle - 1]):
                memcpy(spare, entries + start, width * sizeof(entry_t))
                i, j, at = 0, middle, start
                while i < width:
                    if j < stop and _is_before(entries[j].key, entries[j].slot, &spare[i]):
                        entries[at] = entries[j]
                        j += 1
                    else:
                        entries[at] = spare[i]
                        i += 1
                    at += 1
            start += 2 * width
        width *= 2


cdef Py_ssize_t _keep_last(entry_t* entries, Py_ssize_t n) noexcept nogil:
    """Of sorted events keep the last one of each entry; return how many are left."""
    cdef Py_ssize_t i, kept = 0
    for i in range(n):
        if i + 1 < n and entries[i].key == entries[i + 1].key and entries[i].slot == entries[i + 1].slot:
            continue
        entries[kept] = entries[i]
        kept += 1
    return kept
