"""Inverted lists: the postings of one term in few bytes. Their C structures, and what may be done with them."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from kektordb._types cimport NO_SLOT, slot_t

cdef enum:
    FULL = 128                  # postings of a sealed block
    ROOM = FULL + 1             # places of a buffer that a block is decoded into, with one for a posting or sentinel
    FEW = 7                     # postings that a cell may hold
    MAX_EXACT = 1 << 24         # counts and lengths are exact in float32 up to here
    SLACK = 8                   # bytes after the last block that an unaligned read may touch
    MAX_VARINT = 5
    MAX_PACKED = ROOM * 8 + 2 * SLACK

# What a length array holds for a slot without text, so that untouched memory means "no text": lengths are kept as the
# bits of float32 infinity changed by the bits of the length. An infinite length makes every score of the slot zero.
cdef enum:
    ABSENT_BITS = 0x7F800000


cdef struct Sealed:
    # 128 postings, or fewer after changes, that lie bit-packed in the bytes of the list
    slot_t last                 # the largest slot
    uint32_t at                 # first byte
    uint32_t impact
    uint8_t slot_bits           # width of the differences of slots
    uint8_t tf_bits             # width of the counts
    uint8_t n                   # postings, those of deleted texts included
    uint8_t unused


cdef struct Index:
    # before the `Sealed` blocks of a list, in one piece of memory with them
    uint32_t n_blocks
    uint32_t capacity
    uint32_t n_sealed           # postings in all blocks
    uint32_t tail_at            # bytes of all blocks


cdef struct List:
    # the bytes of the blocks and of the tail follow, in one piece of memory
    Index* index                # NULL while nothing is sealed
    uint32_t capacity           # bytes that may follow
    uint32_t used
    uint32_t df                 # texts that have the term
    uint32_t n                  # postings, those of deleted texts included
    slot_t last                 # the largest slot
    uint32_t impact             # of all postings


# All postings of a term: 0 for none; an odd number that holds a few; or the address of a List.
ctypedef uint64_t cell_t


cdef inline List* list_in(cell_t cell) noexcept nogil:
    """Return the list of a cell, NULL when it holds its few postings itself."""
    return NULL if cell & 1 else <List*><size_t>cell


cdef inline uint32_t df_of(cell_t cell) noexcept nogil:
    """Return how many texts have the term. A cell holds none of deleted texts."""
    if cell & 1:
        return <uint32_t>(cell >> 1 & 7)
    return list_in(cell).df if cell else 0


cdef inline uint32_t n_of(cell_t cell) noexcept nogil:
    """Return how many postings there are, those of deleted texts included."""
    if cell & 1:
        return <uint32_t>(cell >> 1 & 7)
    return list_in(cell).n if cell else 0


cdef inline uint8_t* bytes_of(const List* l) noexcept nogil:
    return <uint8_t*>(l + 1)


cdef inline Sealed* blocks_of(const List* l) noexcept nogil:
    return <Sealed*>(l.index + 1)


cdef inline uint32_t n_blocks_of(const List* l) noexcept nogil:
    return 0 if l.index == NULL else l.index.n_blocks


cdef inline uint32_t n_tail_of(const List* l) noexcept nogil:
    return l.n if l.index == NULL else l.n - l.index.n_sealed


cdef inline float length_of(const uint32_t* lengths, slot_t slot) noexcept nogil:
    cdef uint32_t bits = lengths[slot] ^ ABSENT_BITS
    cdef float length
    memcpy(&length, &bits, 4)
    return length


cdef inline uint32_t width(uint32_t value) noexcept nogil:
    cdef uint32_t bits = 0
    while value >> bits:
        bits += 1
        if bits == 32:
            break
    return bits


cdef inline uint32_t packed_bytes(uint32_t n, uint32_t slot_bits, uint32_t tf_bits) noexcept nogil:
    return (n * slot_bits + 7) // 8 + (n * tf_bits + 7) // 8


cdef inline uint32_t varint_bytes(uint64_t value) noexcept nogil:
    cdef uint32_t n = 1
    while value >= 0x80:
        value >>= 7
        n += 1
    return n


cdef inline uint64_t gap_code(slot_t slot, slot_t before, uint32_t tf) noexcept nogil:
    return <uint64_t><uint32_t>(slot - before - 1) << 1 | (tf == 1)


cdef int make_room(cell_t* cell, slot_t slot, uint32_t tf, const uint32_t* lengths) noexcept nogil
cdef void put(cell_t* cell, slot_t slot, uint32_t tf, const uint32_t* lengths) noexcept nogil
cdef uint32_t forget(cell_t* cell, slot_t slot) noexcept nogil
cdef void strike(cell_t cell, slot_t slot) noexcept nogil
cdef int compact_cell(cell_t* cell, const uint32_t* lengths) noexcept nogil
cdef void free_list(List* l) noexcept nogil
cdef size_t list_bytes(const List* l) noexcept nogil
cdef uint32_t decode_cell(cell_t cell, slot_t* slots, uint32_t* tfs) noexcept nogil
cdef void decode_block(const uint8_t* data, const Sealed* block, slot_t before, slot_t* slots,
                       uint32_t* tfs) noexcept nogil
cdef uint32_t decode_tail(const List* l, slot_t* slots, uint32_t* tfs) noexcept nogil
cdef uint32_t impact_of(const slot_t* slots, const uint32_t* tfs, uint32_t n, const uint32_t* lengths) noexcept nogil
cdef float impact_score(uint32_t impact, float at_zero, float per_word) noexcept nogil
cdef List* alloc_list(uint32_t used, uint32_t n_blocks) noexcept nogil
cdef bint is_list_sound(const List* l, Py_ssize_t n_slots, const uint32_t* lengths) noexcept nogil
cdef bint is_cell_sound(cell_t cell, Py_ssize_t n_slots, const uint32_t* lengths) noexcept nogil
cdef bint put_in_cell(cell_t* cell, slot_t slot, uint32_t tf) noexcept nogil
cdef bint encode_cell(const slot_t* slots, const uint32_t* tfs, uint32_t n, cell_t* cell) noexcept nogil
cdef int make_list(cell_t* cell, const uint32_t* lengths) noexcept nogil
cdef int grow(cell_t* cell, size_t needed) noexcept nogil
cdef int grow_index(List* l, uint32_t n_more) noexcept nogil
cdef void trim(cell_t* cell) noexcept nogil
