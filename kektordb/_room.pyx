"""How much memory will the lists of a text index take when these texts are added? Found out before, and got before.

What `_lists` does to a list when a posting is added is done here to a few numbers instead: bytes of the tail, when it
is sealed and into how many bytes. So the room is that which adding will take, and adding does not ask for any. Texts
that change an item come in where they belong, and there the sizes depend on all that happens before: for their lists
there are bounds, and what was too much is given back afterwards.
"""

cimport cython
from cpython cimport array as c_array
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from kektordb._bm25 cimport TextIndex
from kektordb._lists cimport (
    FEW,
    FULL,
    MAX_PACKED,
    MAX_VARINT,
    ROOM,
    SLACK,
    List,
    blocks_of,
    cell_t,
    decode_cell,
    decode_tail,
    encode_cell,
    gap_code,
    grow,
    grow_index,
    list_in,
    make_list,
    n_blocks_of,
    n_of,
    n_tail_of,
    packed_bytes,
    trim as trim_list,
    varint_bytes,
    width,
)
from kektordb._memory cimport is_refused
from kektordb._types cimport NO_SLOT, slot_t

cdef enum:
    MOST_BYTES = 8              # of a posting in a block: 32 bits of slot and 25 of count
    FEWEST = FULL // 2          # postings of a block that is not the only one


# ------------------------------------------------------------------------------------------------------------ one list

cdef void _begin(Growth* g, cell_t cell) noexcept nogil:
    cdef List* l = list_in(cell)
    g.is_cell = l == NULL
    g.cell = cell
    if l != NULL:
        g.last = l.last if l.n else <slot_t>NO_SLOT
        g.n_tail = n_tail_of(l)
        g.is_measured = g.n_tail == 0
        g.tail_at = 0 if l.index == NULL else l.index.tail_at
        g.used = l.used


cdef void _foresee(Growth* g, cell_t cell, slot_t slot, uint32_t tf) noexcept nogil:
    """Take in a posting of a slot above all others; `cell` is what there is now."""
    if g.is_cell:
        if _goes_into_cell(&g.cell, slot, tf):
            return
        _leave_cell(g)
    if g.n_tail == FULL:
        if not g.is_measured:
            _measure(g, list_in(cell))
        g.tail_at += packed_bytes(FULL, width(g.gaps), width(g.tfs | 1))
        g.used = g.tail_at
        g.needed = max(g.needed, g.used + SLACK)
        g.n_blocks += 1
        g.n_tail = g.gaps = g.tfs = 0
        g.is_measured = True
    g.used += varint_bytes(gap_code(slot, g.last, tf))
    if tf != 1:
        g.used += varint_bytes(tf)
    g.needed = max(g.needed, g.used + SLACK)
    g.gaps |= slot - g.last - 1
    g.tfs |= tf
    g.last = slot
    g.n_tail += 1


cdef bint _goes_into_cell(cell_t* cell, slot_t slot, uint32_t tf) noexcept nogil:
    """Put a posting into a cell if it fits; where the slot has one, with the larger count: it may be there yet."""
    cdef slot_t[FEW + 1] slots
    cdef uint32_t[FEW + 1] tfs
    cdef uint32_t n = decode_cell(cell[0], slots, tfs)
    cdef uint32_t i = n
    while i > 0 and slots[i - 1] > slot:
        slots[i] = slots[i - 1]
        tfs[i] = tfs[i - 1]
        i -= 1
    if i > 0 and slots[i - 1] == slot:
        tfs[i - 1] = max(tfs[i - 1], tf)
        while i < n:
            slots[i] = slots[i + 1]
            tfs[i] = tfs[i + 1]
            i += 1
        return encode_cell(slots, tfs, n, cell)
    slots[i] = slot
    tfs[i] = tf
    return encode_cell(slots, tfs, n + 1, cell)


cdef void _leave_cell(Growth* g) noexcept nogil:
    """Go on as a list with what is in the cell."""
    cdef slot_t[FEW + 1] slots
    cdef uint32_t[FEW + 1] tfs
    cdef uint32_t i
    g.n_tail = decode_cell(g.cell, slots, tfs)
    g.used = g.cell >> 4 & 15 if g.cell else 0
    g.last = NO_SLOT
    for i in range(g.n_tail):
        g.gaps |= slots[i] - g.last - 1
        g.tfs |= tfs[i]
        g.last = slots[i]
    g.is_measured = True
    g.is_cell = False


cdef void _measure(Growth* g, const List* l) noexcept nogil:
    """Add what is in the tail already to `gaps` and `tfs`."""
    cdef slot_t slots[ROOM]
    cdef uint32_t tfs[ROOM]
    cdef uint32_t i, n = decode_tail(l, slots, tfs)
    cdef slot_t before = NO_SLOT
    if n_blocks_of(l):
        before = blocks_of(l)[l.index.n_blocks - 1].last
    for i in range(n):
        g.gaps |= slots[i] - before - 1
        g.tfs |= tfs[i]
        before = slots[i]


cdef void _bound(Growth* g, cell_t cell) noexcept nogil:
    """Set what is enough for `n_more` postings in whatever order, some of them instead of others."""
    cdef uint64_t n = n_of(cell) + g.n_more
    cdef uint64_t used = <uint64_t>FEW if list_in(cell) == NULL else list_in(cell).used
    cdef uint32_t n_blocks = n_blocks_of(list_in(cell)) if list_in(cell) != NULL else 0
    g.needed = used + g.n_more * 3 * MAX_VARINT + SLACK
    if n > FULL or n_blocks:
        g.needed += min(<uint64_t>g.n_more * MAX_PACKED, n * MOST_BYTES) + 2 * MAX_PACKED
        g.n_blocks = <uint32_t>min(<uint64_t>g.n_more, n // FEWEST) + 1


cdef int _make(cell_t* cell, Growth* g, const uint32_t* lengths) noexcept nogil:
    """Give a list its room; -1 when there is no memory."""
    if g.is_cell:
        return 0
    if list_in(cell[0]) == NULL and make_list(cell, lengths) < 0:
        return -1
    if g.n_blocks and grow_index(list_in(cell[0]), g.n_blocks) < 0:
        return -1
    return grow(cell, g.needed)


# ----------------------------------------------------------------------------------------------------------- one field

@cython.final
cdef class FieldRoom:
    """The lists of one field that will grow, in a table by term."""

    def __dealloc__(self):
        free(self.places)
        self.places = NULL

    cdef int note(self, slot_t slot, const uint32_t* terms, Py_ssize_t n) except -1:
        """Count a text; all are counted before any is foreseen."""
        cdef Py_ssize_t i
        cdef uint32_t before = NO_SLOT
        for i in range(n):
            self.n_bytes += varint_bytes(terms[i] - before - 1)
            before = terms[i]
        self.n_texts += 1
        self.n_postings += n
        self.n_slots = max(self.n_slots, <Py_ssize_t>slot + 1)
        if n:
            self.n_terms = max(self.n_terms, <Py_ssize_t>terms[n - 1] + 1)
        return 0

    cdef int open(self) except -1:
        self.n_places = 16
        while self.n_places < 2 * self.n_postings:
            self.n_places *= 2
        self.is_direct = self.n_places >= self.n_terms
        if self.is_direct:
            self.n_places = self.n_terms
        if not is_refused():
            self.places = <Growth*>calloc(self.n_places + 1, sizeof(Growth))
        if self.places == NULL:
            raise MemoryError(f"no memory to look at the lists of {self.n_postings} postings")
        return 0

    cdef Growth* place_of(self, uint32_t term) noexcept nogil:
        cdef Py_ssize_t at = term
        if not self.is_direct:
            at = <Py_ssize_t>(<uint32_t>(term * 0x9E3779B1u)) & (self.n_places - 1)
            while self.places[at].n_more and self.places[at].term != term:
                at = (at + 1) & (self.n_places - 1)
        return &self.places[at]

    cdef void foresee(self, slot_t slot, const uint32_t* terms, const uint32_t* counts, Py_ssize_t n,
                      bint is_loose) noexcept nogil:
        cdef Py_ssize_t i
        cdef Growth* g
        cdef cell_t cell
        self.is_loose |= is_loose
        for i in range(n):
            g = self.place_of(terms[i])
            cell = 0 if self.field is None else self.field.cell_of(terms[i])
            if g.n_more == 0:
                g.term = terms[i]
                _begin(g, cell)
            g.n_more += 1
            g.is_loose |= is_loose
            if not g.is_loose:
                _foresee(g, cell, slot, counts[i])
            elif g.is_cell:
                g.is_cell = _goes_into_cell(&g.cell, slot, counts[i])

    cdef int make(self, Py_ssize_t n_lists) except -1:
        """Give the next `n_lists` lists their room; return whether any are left."""
        cdef Growth* g
        cdef int fault = 0
        with nogil:
            while self.next < self.n_places and n_lists > 0 and fault == 0:
                g = &self.places[self.next]
                if g.n_more:
                    n_lists -= 1
                    if g.is_loose:
                        _bound(g, self.field.cells[g.term])
                    fault = _make(&self.field.cells[g.term], g, self.field.lengths)
                self.next += 1
        if fault:
            raise MemoryError(f"no memory for the lists of {self.n_postings} postings")
        return self.next < self.n_places

    cdef void trim(self) noexcept nogil:
        """Give back what the bounds were too large by."""
        cdef Py_ssize_t i
        if self.is_loose and self.places != NULL:
            for i in range(self.n_places):
                if self.places[i].n_more and self.places[i].is_loose:
                    trim_list(&self.field.cells[self.places[i].term])


# ----------------------------------------------------------------------------------------------------------- all fields

@cython.final
cdef class TextRoom:
    """Room for texts that will be added to an index, before anything else happens to it.

    Making one only looks at the index; `make` needs the write lock.

    Parameters
    ----------
    index : TextIndex
    first : int
        Slot of the first of `texts`; all slots from it on are without text.
    texts : list of list of (field, terms, counts, length)
        By slot; as for `TextIndex.add`.
    changed : list of (slot, list of (field, terms, counts, length))
        Texts that will be added at any time, also instead of those that the slots have now.

    Raises
    ------
    MemoryError
    """

    cdef TextIndex index
    cdef dict fields
    cdef Py_ssize_t n_longest

    def __cinit__(self, TextIndex index not None, Py_ssize_t first, list texts not None, list changed not None):
        cdef Py_ssize_t slot
        self.index = index
        self.fields = {}
        for slot, text in enumerate(texts, first):
            self._note(slot, text)
        for slot, text in changed:
            self._note(slot, text)
        for room in self.fields.values():
            (<FieldRoom>room).open()
        # First, so that no size is taken for exact that what changes makes wrong.
        for slot, text in changed:
            self._foresee(slot, text, True)
        for slot, text in enumerate(texts, first):
            self._foresee(slot, text, False)

    cdef int _note(self, Py_ssize_t slot, list text) except -1:
        cdef FieldRoom room
        cdef c_array.array terms
        for number, terms, _, _ in text:
            room = self.fields.get(number)
            if room is None:
                room = FieldRoom.__new__(FieldRoom)
                if number < len(self.index.fields):
                    room.field = self.index.fields[number]
                self.fields[number] = room
            room.note(<slot_t>slot, terms.data.as_uints, len(terms))
            self.n_longest = max(self.n_longest, len(terms))
        return 0

    cdef int _foresee(self, Py_ssize_t slot, list text, bint is_loose) except -1:
        cdef c_array.array terms, counts
        for number, terms, counts, _ in text:
            (<FieldRoom>self.fields[number]).foresee(
                <slot_t>slot, terms.data.as_uints, counts.data.as_uints, len(terms), is_loose
            )
        return 0

    def make(self, Py_ssize_t n_lists):
        """Get the room for the next `n_lists` lists; return whether any are left. MemoryError moves nothing."""
        cdef FieldRoom room
        self.index.make_room(self.n_longest)
        for number, room in self.fields.items():
            if room.next == 0:
                room.field = self.index.field_of(number)
                room.field.reserve(room.n_slots, room.n_terms)
                room.field.terms.reserve(max(room.field.terms.n_numbers, room.n_slots), room.n_bytes, room.n_texts)
            if room.next < room.n_places and room.make(n_lists):
                return True
        return False

    def trim(self):
        """Give back what changed texts did not take, after all were added; needs the write lock and no memory."""
        cdef FieldRoom room
        for room in self.fields.values():
            with nogil:
                room.trim()
