"""Can lists that were read from a file be used without leaving any array, and do they count rightly?"""

from libc.stdint cimport uint8_t, uint32_t

from kektordb._lists cimport (
    FEW,
    FULL,
    MAX_EXACT,
    ROOM,
    List,
    Sealed,
    blocks_of,
    bytes_of,
    cell_t,
    decode_block,
    decode_cell,
    decode_tail,
    encode_cell,
    n_blocks_of,
    n_tail_of,
    packed_bytes,
)
from kektordb._types cimport NO_SLOT, slot_t

cdef enum:
    MAX_VARINT = 5


cdef bint is_list_sound(const List* l, Py_ssize_t n_slots, const uint32_t* lengths) noexcept nogil:
    """Tell whether a list that was read from a file can be used without leaving any array, and counts rightly."""
    cdef slot_t slots[ROOM]
    cdef uint32_t tfs[ROOM]
    cdef uint32_t at, df = 0, tail_at = 0, n_sealed = 0
    cdef uint32_t n_blocks = n_blocks_of(l)
    cdef const Sealed* block
    cdef slot_t before = NO_SLOT
    if l.n == 0:
        return l.used == 0 and n_blocks == 0 and l.df == 0
    for at in range(n_blocks):
        block = &blocks_of(l)[at]
        if block.n == 0 or block.n > FULL or block.slot_bits > 32 or not 0 < block.tf_bits <= 25 or block.at != tail_at:
            return False
        tail_at += packed_bytes(block.n, block.slot_bits, block.tf_bits)
        if tail_at > l.used:
            return False
        decode_block(bytes_of(l), block, before, slots, tfs)
        if not _are_sound(slots, tfs, block.n, before, n_slots, lengths, &df) or slots[block.n - 1] != block.last:
            return False
        n_sealed += block.n
        before = block.last
    if n_blocks and (l.index.tail_at != tail_at or l.index.n_sealed != n_sealed):
        return False
    if n_sealed > l.n or l.n - n_sealed > FULL or not _is_tail_sound(l, tail_at):
        return False
    at = decode_tail(l, slots, tfs)
    if not _are_sound(slots, tfs, at, before, n_slots, lengths, &df):
        return False
    return l.last == (slots[at - 1] if at else before) and df == l.df


cdef bint is_cell_sound(cell_t cell, Py_ssize_t n_slots, const uint32_t* lengths) noexcept nogil:
    """Tell the same of what a cell holds itself."""
    cdef slot_t[FEW + 1] slots
    cdef uint32_t[FEW + 1] tfs
    cdef cell_t again = 0
    cdef uint32_t df = 0
    cdef uint32_t n = <uint32_t>(cell >> 1 & 7)
    if n == 0:
        return False
    decode_cell(cell, slots, tfs)
    if not _are_sound(slots, tfs, n, NO_SLOT, n_slots, lengths, &df) or df != n:
        return False
    return encode_cell(slots, tfs, n, &again) and again == cell


cdef bint _are_sound(const slot_t* slots, const uint32_t* tfs, uint32_t n, slot_t before, Py_ssize_t n_slots,
                     const uint32_t* lengths, uint32_t* df) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if slots[i] >= n_slots or (before != NO_SLOT and slots[i] <= before) or tfs[i] > MAX_EXACT:
            return False
        before = slots[i]
        df[0] += tfs[i] != 0 and lengths[slots[i]] != 0
    return True


cdef bint _is_tail_sound(const List* l, uint32_t at) noexcept nogil:
    """Tell whether the tail holds as many varints as it must, and ends with the last one."""
    cdef const uint8_t* data = bytes_of(l)
    cdef uint32_t i, length, first, n = n_tail_of(l)
    cdef bint has_count = False
    i = 0
    while i < n:
        first = at
        while at < l.used and data[at] >= 0x80:
            at += 1
        length = at - first + 1
        if at >= l.used or length > MAX_VARINT:
            return False
        at += 1
        if has_count or data[first] & 1:
            has_count = False
            i += 1
        else:
            has_count = True
    return at == l.used
