"""What are the texts of one field? Inverted lists by term, and by slot the length and the terms of each text.

The forward lists, terms by slot, are there for deletion: the text itself is not needed to take it out of the statistics
at once. Whatever of a deleted text stays behind, in both kinds of lists, scores nothing and goes when it is a burden.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from kektordb._lists cimport (
    ABSENT_BITS,
    MAX_EXACT,
    List,
    Sealed,
    alloc_list,
    blocks_of,
    bytes_of,
    cell_t,
    compact_cell,
    df_of,
    forget,
    free_list,
    is_cell_sound,
    is_list_sound,
    length_of,
    list_bytes,
    list_in,
    make_room,
    n_blocks_of,
    n_of,
    put,
    strike,
)
from kektordb._memory cimport Region
from kektordb._postings cimport Block, new_block
from kektordb._strings cimport Blobs
from kektordb._types cimport NO_SLOT, slot_t
from kektordb._walk cimport prefetch

from kektordb.errors import CorruptSnapshot
from kektordb.types import Section

cdef enum:
    # A list is written anew when a quarter of it, and more than a few, are of deleted texts.
    DEAD_SHIFT = 2
    DEAD_MIN = 32
    # What one removal writes anew at most, beside one list: a millisecond, since searches wait.
    COMPACT_BUDGET = 1 << 16
    WASTE_MIN = 1 << 20
    AHEAD = 64                  # terms whose memory is asked for together
    IS_LIST = 2                 # stands for an address in the cells of a snapshot


cdef packed struct Row:
    # one list in a snapshot, in the order of terms
    uint32_t df
    uint32_t n
    uint32_t last
    uint32_t impact
    uint32_t used
    uint32_t n_blocks


# ---------------------------------------------------------------------------------------------------------- one field

@cython.final
# The collector would take the regions away before __dealloc__ reads the cells in them. (They lead to no cycle.)
@cython.no_gc_clear
cdef class TextField:
    """The texts of one field."""

    def __cinit__(self):
        self.cells_region = Region()
        self.lengths_region = Region()
        self.terms = Blobs()

    def __dealloc__(self):
        cdef Py_ssize_t i
        with nogil:  # of many terms it takes a while
            for i in range(self.n_terms):
                free_list(list_in(self.cells[i]))
                self.cells[i] = 0

    cdef bint has(self, Py_ssize_t slot) noexcept nogil:
        return slot < self.n_slots and self.lengths[slot] != 0

    cdef cell_t cell_of(self, uint64_t term) noexcept nogil:
        """Return the postings of a term, 0 when there are none."""
        return self.cells[term] if term < <uint64_t>self.n_terms else 0

    cdef int reserve(self, Py_ssize_t n_slots, Py_ssize_t n_terms) except -1:
        """Make room for slots and terms below these numbers, in everything but the lists themselves."""
        self.lengths_region.grow(<size_t>n_slots * sizeof(uint32_t))
        self.lengths = <uint32_t*>self.lengths_region.data
        self.cells_region.grow(<size_t>n_terms * sizeof(cell_t))
        self.cells = <cell_t*>self.cells_region.data
        self.n_terms = max(self.n_terms, n_terms)
        return 0

    cdef bint make_rooms(self, slot_t slot, const uint32_t* terms, const uint32_t* counts,
                         Py_ssize_t n) noexcept nogil:
        """Make room in the lists of `terms`; 0 when there is no memory, and nothing was changed then."""
        cdef Py_ssize_t i
        for i in range(n):
            if i % AHEAD == 0:
                self.look_ahead(terms + i, min(n - i, <Py_ssize_t>AHEAD))
            if make_room(&self.cells[terms[i]], slot, counts[i], self.lengths) < 0:
                return 0
        return 1

    cdef void look_ahead(self, const uint32_t* terms, Py_ssize_t n) noexcept nogil:
        """Ask for the memory that `make_room` reads, of all terms at once: each read by itself would wait."""
        cdef Py_ssize_t i
        cdef List* l
        for i in range(n):
            prefetch(&self.cells[terms[i]])
        for i in range(n):
            prefetch(list_in(self.cells[terms[i]]))
        for i in range(n):
            l = list_in(self.cells[terms[i]])
            if l != NULL:
                prefetch(bytes_of(l) + l.used)
                prefetch(l.index)

    cdef void put_all(self, slot_t slot, const uint32_t* terms, const uint32_t* counts, Py_ssize_t n,
                      uint32_t length) noexcept nogil:
        """Add a text for which there is room."""
        cdef Py_ssize_t i
        cdef float value = <float>length
        cdef uint32_t bits
        memcpy(&bits, &value, 4)
        self.lengths[slot] = bits ^ ABSENT_BITS
        if <Py_ssize_t>slot >= self.n_slots:
            self.n_slots = <Py_ssize_t>slot + 1
        for i in range(n):
            put(&self.cells[terms[i]], slot, counts[i], self.lengths)
        self.n_docs += 1
        self.total_length += length
        self.n_postings += n

    cdef void strike_all(self, slot_t slot) noexcept nogil:
        """Forget what lists still hold of the deleted text of a slot that is about to get another one."""
        cdef size_t n_bytes = 0
        cdef const char* at = self.terms.get(slot, &n_bytes)
        cdef const char* stop
        cdef uint32_t term = NO_SLOT
        if at == NULL:
            return
        stop = at + n_bytes
        while at < stop:
            at = next_term(at, &term)
            strike(self.cells[term], slot)
        self.terms.drop(slot)
        self.dead_bytes -= n_bytes

    cdef void drop(self, slot_t slot) noexcept nogil:
        """Take a text out of the statistics; its postings stay. Lists neither grow nor shrink."""
        cdef size_t n_bytes = 0
        cdef const char* at = self.terms.get(slot, &n_bytes)
        cdef const char* stop = at + n_bytes
        cdef uint32_t term = NO_SLOT
        self.n_docs -= 1
        self.total_length -= <uint64_t>length_of(self.lengths, slot)
        self.lengths[slot] = 0
        self.dead_bytes += n_bytes
        while at < stop:
            at = next_term(at, &term)
            forget(&self.cells[term], slot)
            self.n_postings -= 1

    cdef void tidy(self, slot_t slot) noexcept nogil:
        """Write anew those lists of a dropped text in which there are many postings of such."""
        cdef size_t n_bytes = 0
        cdef const char* at = self.terms.get(slot, &n_bytes)
        cdef const char* stop = at + n_bytes
        cdef uint32_t n, term = NO_SLOT
        cdef Py_ssize_t budget = COMPACT_BUDGET
        if at == NULL or self.has(slot):
            return
        while at < stop and budget > 0:
            at = next_term(at, &term)
            n = n_of(self.cells[term])
            if n - df_of(self.cells[term]) > DEAD_MIN + (n >> DEAD_SHIFT):
                budget -= n
                compact_cell(&self.cells[term], self.lengths)  # without memory it stays as it is

    cdef int compact(self) except -1:
        """Write everything anew without deleted texts."""
        cdef Py_ssize_t i
        cdef bint has_memory = True
        with nogil:
            for i in range(self.n_terms):
                if n_of(self.cells[i]) > df_of(self.cells[i]):
                    has_memory = has_memory and compact_cell(&self.cells[i], self.lengths) == 0
            if has_memory:
                for i in range(self.terms.n_used):
                    if not self.has(i):
                        self.terms.drop(<uint32_t>i)
        if not has_memory:
            raise MemoryError("no memory to compact the text index")
        self.dead_bytes = 0
        self.terms._compact()
        return 0

    cdef bint is_wasteful(self) noexcept nogil:
        return self.dead_bytes > WASTE_MIN and self.dead_bytes > self.terms.arena.used // 2

    def stats(self):
        """Return counts, and bytes by part."""
        cdef Py_ssize_t i
        cdef size_t lists = self.n_terms * sizeof(cell_t)
        cdef Py_ssize_t n_terms = 0
        cdef Py_ssize_t n_stale = 0
        for i in range(self.n_terms):
            if list_in(self.cells[i]) != NULL:
                lists += list_bytes(list_in(self.cells[i]))
            n_terms += df_of(self.cells[i]) > 0
            n_stale += n_of(self.cells[i]) - df_of(self.cells[i])
        return {
            "n_docs": self.n_docs,
            "total_length": self.total_length,
            "n_terms": n_terms,
            "n_postings": self.n_postings,
            "n_stale_postings": n_stale,
            "list_bytes": lists,
            "forward_bytes": self.terms.memory_bytes(),
            "length_bytes": self.n_slots * sizeof(uint32_t),
            "wasted_bytes": self.dead_bytes,
        }

    # ---- snapshots

    def freeze(self, str prefix):
        """Return the sections of the present state, all copied but the forward lists."""
        cdef Py_ssize_t i, n_blocks = 0, n_bytes = 0, n_rows = 0
        cdef List* l
        cdef Row* row
        cdef Block rows, blocks, data, cells, lengths
        for i in range(self.n_terms):
            l = list_in(self.cells[i])
            if l != NULL:
                n_rows += 1
                n_blocks += n_blocks_of(l)
                n_bytes += l.used
        rows = new_block(n_rows * <Py_ssize_t>sizeof(Row))
        blocks = new_block(n_blocks * <Py_ssize_t>sizeof(Sealed))
        data = new_block(n_bytes)
        cells = new_block(self.n_terms * <Py_ssize_t>sizeof(cell_t))
        lengths = new_block(self.n_slots * <Py_ssize_t>sizeof(uint32_t))
        row = <Row*>rows.data
        n_blocks = 0
        n_bytes = 0
        with nogil:
            if self.n_slots:
                memcpy(lengths.data, self.lengths, self.n_slots * sizeof(uint32_t))
            for i in range(self.n_terms):
                l = list_in(self.cells[i])
                (<cell_t*>cells.data)[i] = self.cells[i] if l == NULL else <cell_t>IS_LIST
                if l == NULL:
                    continue
                row.df, row.n, row.last, row.impact, row.used = l.df, l.n, l.last, l.impact, l.used
                row.n_blocks = n_blocks_of(l)
                memcpy(data.data + n_bytes, bytes_of(l), l.used)
                n_bytes += l.used
                if row.n_blocks:
                    memcpy(<Sealed*>blocks.data + n_blocks, blocks_of(l), row.n_blocks * sizeof(Sealed))
                n_blocks += row.n_blocks
                row += 1
        return [
            Section(f"{prefix}/cells", sizeof(cell_t), cells.size, cells.read),
            Section(f"{prefix}/lists", sizeof(Row), rows.size, rows.read),
            Section(f"{prefix}/blocks", sizeof(Sealed), blocks.size, blocks.read),
            Section(f"{prefix}/bytes", 1, data.size, data.read),
            Section(f"{prefix}/lengths", sizeof(uint32_t), lengths.size, lengths.read),
            *self.terms.freeze(f"{prefix}/terms"),
        ]

    def load(self, str prefix, reader, Py_ssize_t n_slots):
        """Fill a new field from the sections that `freeze` gave. Raises CorruptSnapshot for what it cannot be."""
        cdef Block cells = _loaded(reader, f"{prefix}/cells")
        cdef Block rows = _loaded(reader, f"{prefix}/lists")
        cdef Block blocks = _loaded(reader, f"{prefix}/blocks")
        cdef Block data = _loaded(reader, f"{prefix}/bytes")
        cdef Py_ssize_t n_length_bytes = reader.size(f"{prefix}/lengths")
        cdef int fault = 0
        self.n_slots = n_length_bytes // <Py_ssize_t>sizeof(uint32_t)
        if cells.size % sizeof(cell_t) or n_length_bytes % sizeof(uint32_t) or self.n_slots > n_slots:
            raise CorruptSnapshot(f"{prefix}: sections of {cells.size} and {n_length_bytes} bytes cannot be")
        self.reserve(self.n_slots, cells.size // <Py_ssize_t>sizeof(cell_t))
        if n_length_bytes:
            target = PyMemoryView_FromMemory(<char*>self.lengths, n_length_bytes, PyBUF_WRITE)
            reader.read_into(f"{prefix}/lengths", target)
        self.terms.load(f"{prefix}/terms", reader, self.n_slots)
        with nogil:
            fault = _read_lists(self, <const cell_t*>cells.data, rows, blocks, data)
            if fault == 0 and not self.check():
                fault = 1
        if fault < 0:
            raise MemoryError(f"no memory for the lists of {self.n_terms} terms")
        if fault:
            raise CorruptSnapshot(f"{prefix}: the lists contradict one another")

    cdef bint check(self) noexcept nogil:
        """Check what was loaded against itself, and count what is not stored."""
        cdef Py_ssize_t i
        cdef float length
        cdef uint32_t* seen
        cdef bint is_sound = True
        for i in range(self.n_slots):
            if self.lengths[i] == 0:
                continue
            length = length_of(self.lengths, <slot_t>i)
            # Also false for NaN.
            if not 0 <= length <= MAX_EXACT or length != <float><uint32_t>length:
                return False
            self.n_docs += 1
            self.total_length += <uint64_t>length
        for i in range(self.n_terms):
            if self.cells[i] & 1:
                if not is_cell_sound(self.cells[i], self.n_slots, self.lengths):
                    return False
            elif self.cells[i] and not is_list_sound(list_in(self.cells[i]), self.n_slots, self.lengths):
                return False
        seen = <uint32_t*>calloc(self.n_terms + 1, sizeof(uint32_t))
        if seen != NULL:  # without memory the check is left out: what it finds can only make statistics wrong
            is_sound = self.check_terms(seen)
            free(seen)
        return is_sound

    cdef bint check_terms(self, uint32_t* seen) noexcept nogil:
        """Tell whether the forward lists name, for each term, as many texts as its list has."""
        cdef Py_ssize_t i
        cdef size_t n_bytes = 0
        cdef const char* at
        cdef const char* stop
        cdef uint32_t term
        for i in range(self.n_slots):
            at = self.terms.get(<uint32_t>i, &n_bytes)
            if at == NULL:
                if self.has(i):
                    return False
                continue
            stop = at + n_bytes
            if n_bytes and (stop - 1)[0] & 0x80:
                return False
            term = NO_SLOT
            while at < stop:
                at = next_term(at, &term)
                if term >= <uint64_t>self.n_terms:
                    return False
                if self.has(i):
                    seen[term] += 1
                    self.n_postings += 1
            if not self.has(i):
                self.dead_bytes += n_bytes
        for i in range(self.n_terms):
            if seen[i] != df_of(self.cells[i]):
                return False
        return True


cdef int _read_lists(TextField field, const cell_t* cells, Block rows, Block blocks, Block data) noexcept nogil:
    """Make the lists of a new field; 1 when they are damaged, -1 when there is no memory."""
    cdef Py_ssize_t i, n_blocks = 0, n_bytes = 0, n_rows = rows.size // <Py_ssize_t>sizeof(Row)
    cdef const Row* row = <const Row*>rows.data
    cdef List* l
    for i in range(field.n_terms):
        if cells[i] == 0 or cells[i] & 1:
            field.cells[i] = cells[i]
            continue
        if cells[i] != IS_LIST or n_rows == 0 or row.used > data.size - n_bytes:
            return 1
        if row.n_blocks > blocks.size // <Py_ssize_t>sizeof(Sealed) - n_blocks:
            return 1
        l = alloc_list(row.used, row.n_blocks)
        if l == NULL:
            return -1
        field.cells[i] = <cell_t><size_t>l
        l.df, l.n, l.last, l.impact = row.df, row.n, row.last, row.impact
        memcpy(bytes_of(l), data.data + n_bytes, row.used)
        n_bytes += row.used
        if row.n_blocks:
            memcpy(blocks_of(l), <Sealed*>blocks.data + n_blocks, row.n_blocks * sizeof(Sealed))
            n_blocks += row.n_blocks
            if not _set_index(l):
                return 1
        row += 1
        n_rows -= 1
    return n_rows or n_bytes != data.size or n_blocks * <Py_ssize_t>sizeof(Sealed) != blocks.size


cdef bint _set_index(List* l) noexcept nogil:
    """Fill in what the blocks say together."""
    cdef uint32_t i
    cdef uint64_t n = 0
    cdef const Sealed* last = &blocks_of(l)[l.index.n_blocks - 1]
    for i in range(l.index.n_blocks):
        n += blocks_of(l)[i].n
    l.index.n_sealed = <uint32_t>n
    l.index.tail_at = last.at + (last.n * last.slot_bits + 7) // 8 + (last.n * last.tf_bits + 7) // 8
    return n <= l.n and l.index.tail_at <= l.used


cdef Block _loaded(reader, str name):
    cdef Block block = new_block(reader.size(name))
    if block.size:
        reader.read_into(name, PyMemoryView_FromMemory(block.data, block.size, PyBUF_WRITE))
    return block
