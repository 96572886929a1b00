"""How are the slots and counts of one term kept in few bytes? Inverted lists of sealed blocks and a tail.

A posting is a slot and a count (tf). The newest up to 128 of a list lie in its tail, as varints: the difference to the
slot before, less one, and a bit that says whether the count is 1; else the count follows. A full tail is sealed: a
block of differences and counts, each packed in as many bits as the largest takes, and 16 bytes that say where it lies
and what it can contribute to a score at most.

Most terms are rare, so there is an array of *cells*, 8 bytes a term, and a cell holds up to 7 bytes of postings itself;
only a term with more has a list. (Of 109,000 terms in 42,000 paragraphs 86 % have none.)

Postings of deleted texts stay in a list until it is compacted; the lengths of their slots are infinite, so that they
score nothing. When such a slot gets a text again, they are struck first: a count of zero in a block; a tail is written
anew. A cell is written anew at once.

An *impact* is four bytes: the least length, as a code, of texts that have the term once, twice, and more often, and the
largest count. It bounds the score of a block whatever the average length is by now.

Whatever can fail for want of memory, fails in `make_room`, `compact_cell` and `alloc_list`, and changes nothing then.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from kektordb._memory cimport free_block, resize_block
from kektordb._types cimport NO_SLOT, slot_t

cdef enum:
    ALIGN = 16                  # what malloc rounds to; 8 bytes of each piece are its own
    FIRST_BYTES = 24            # of a new list
    MAX_LIST = 0xF0000000u
    NOTHING = 0xFF              # the code of no length at all
    MAX_CODE = 0xFE
    EXACT_CODES = 16            # lengths below twice that are their own code
    NO_IMPACT = 0x00FFFFFFu

# More than any length but that of no text.
cdef float NO_LENGTH = 1e30


# ------------------------------------------------------------------------------------------------------------ impacts

cdef inline uint32_t _length_code(float length) noexcept nogil:
    """Return a code whose length is not above `length`, with steps of a sixteenth."""
    cdef uint32_t whole = <uint32_t>length
    cdef uint32_t shift = 0
    cdef uint32_t code
    while whole >> shift >= 2 * EXACT_CODES:
        shift += 1
    code = whole if whole < EXACT_CODES else EXACT_CODES * shift + (whole >> shift)
    return code if code < MAX_CODE else <uint32_t>MAX_CODE


cdef inline float _code_length(uint32_t code) noexcept nogil:
    cdef uint32_t shift
    if code < 2 * EXACT_CODES:
        return <float>code
    shift = code // EXACT_CODES - 1
    return <float>((code - EXACT_CODES * shift) << shift)


cdef inline uint32_t _impact(uint32_t tf, float length) noexcept nogil:
    cdef uint32_t code = _length_code(length)
    cdef uint32_t most = tf if tf < 0xFF else 0xFFu
    if tf == 1:
        return 0x00FFFF00u | code | most << 24
    if tf == 2:
        return 0x00FF00FFu | code << 8 | most << 24
    return 0x0000FFFFu | code << 16 | most << 24


cdef inline uint32_t _merged(uint32_t a, uint32_t b) noexcept nogil:
    """Return the impact of what either impact is of."""
    cdef uint32_t once = min(a & 0xFF, b & 0xFF)
    cdef uint32_t twice = min(a >> 8 & 0xFF, b >> 8 & 0xFF)
    cdef uint32_t more = min(a >> 16 & 0xFF, b >> 16 & 0xFF)
    return once | twice << 8 | more << 16 | max(a >> 24, b >> 24) << 24


cdef uint32_t impact_of(const slot_t* slots, const uint32_t* tfs, uint32_t n, const uint32_t* lengths) noexcept nogil:
    """Return the impact of postings; those of deleted texts have none."""
    cdef uint32_t i, tf, most = 0, impact = 0
    cdef float length, once = NO_LENGTH, twice = NO_LENGTH, more = NO_LENGTH
    for i in range(n):
        tf = tfs[i]
        length = length_of(lengths, slots[i])
        if tf == 0 or length >= NO_LENGTH:
            continue
        most = max(most, tf)
        if tf == 1:
            once = min(once, length)
        elif tf == 2:
            twice = min(twice, length)
        else:
            more = min(more, length)
    impact = min(most, <uint32_t>0xFF) << 24
    impact |= _length_code(once) if once < NO_LENGTH else <uint32_t>NOTHING
    impact |= (_length_code(twice) if twice < NO_LENGTH else <uint32_t>NOTHING) << 8
    return impact | (_length_code(more) if more < NO_LENGTH else <uint32_t>NOTHING) << 16


cdef float impact_score(uint32_t impact, float at_zero, float per_word) noexcept nogil:
    """Return the largest ``tf / (tf + at_zero + per_word * length)`` of any posting that the impact covers."""
    cdef float most = 0
    cdef float tf = <float>(impact >> 24)
    if impact & 0xFF != NOTHING:
        most = 1 / (1 + (at_zero + per_word * _code_length(impact & 0xFF)))
    if impact >> 8 & 0xFF != NOTHING:
        most = max(most, 2 / (2 + (at_zero + per_word * _code_length(impact >> 8 & 0xFF))))
    if impact >> 16 & 0xFF != NOTHING:
        if tf == 0xFF:
            return 1
        most = max(most, tf / (tf + (at_zero + per_word * _code_length(impact >> 16 & 0xFF))))
    return most


# ------------------------------------------------------------------------------------------------------------- coding

cdef inline uint64_t _load(const uint8_t* data) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, data, 8)
    return word


cdef uint8_t* _pack(const uint32_t* values, uint32_t n, uint32_t bits, uint8_t* out) noexcept nogil:
    cdef uint64_t held = 0
    cdef uint32_t i, n_held = 0
    for i in range(n):
        held |= <uint64_t>values[i] << n_held
        n_held += bits
        while n_held >= 8:
            out[0] = <uint8_t>held
            out += 1
            held >>= 8
            n_held -= 8
    if n_held:
        out[0] = <uint8_t>held
        out += 1
    return out


cdef inline void _unpack(const uint8_t* data, uint32_t n, uint32_t bits, uint32_t* values) noexcept nogil:
    cdef uint32_t mask = <uint32_t>((<uint64_t>1 << bits) - 1)
    cdef uint32_t i, at = 0
    for i in range(n):
        values[i] = <uint32_t>(_load(data + (at >> 3)) >> (at & 7)) & mask
        at += bits


cdef uint32_t _encode_block(const slot_t* slots, const uint32_t* tfs, uint32_t n, slot_t before,
                            const uint32_t* lengths, uint8_t* out, Sealed* block) noexcept nogil:
    """Write a block and what is known of it, but where it lies; return its bytes."""
    cdef uint32_t gaps[ROOM]
    cdef uint32_t i, any_gap = 0, any_tf = 1
    for i in range(n):
        gaps[i] = slots[i] - before - 1
        before = slots[i]
        any_gap |= gaps[i]
        any_tf |= tfs[i]
    block.last = before
    block.n = <uint8_t>n
    block.unused = 0
    block.slot_bits = <uint8_t>width(any_gap)
    block.tf_bits = <uint8_t>width(any_tf)
    block.impact = impact_of(slots, tfs, n, lengths)
    return <uint32_t>(_pack(tfs, n, block.tf_bits, _pack(gaps, n, block.slot_bits, out)) - out)


cdef void decode_block(const uint8_t* data, const Sealed* block, slot_t before, slot_t* slots,
                       uint32_t* tfs) noexcept nogil:
    """Decode a block of the list with these bytes; `before` is the last slot of the block before, or NO_SLOT."""
    cdef uint32_t n = block.n
    cdef uint32_t i
    cdef const uint8_t* at = data + block.at
    _unpack(at, n, block.slot_bits, slots)
    _unpack(at + (n * block.slot_bits + 7) // 8, n, block.tf_bits, tfs)
    for i in range(n):
        before += slots[i] + 1
        slots[i] = before


cdef inline slot_t _before(const List* l, uint32_t block) noexcept nogil:
    """Return the last slot before a block, or before the tail: ``block`` is the number of blocks then."""
    return NO_SLOT if block == 0 else blocks_of(l)[block - 1].last


cdef inline uint8_t* _write_varint(uint8_t* out, uint64_t value) noexcept nogil:
    while value >= 0x80:
        out[0] = <uint8_t>(value | 0x80)
        value >>= 7
        out += 1
    out[0] = <uint8_t>value
    return out + 1


cdef inline const uint8_t* _read_varint(const uint8_t* data, uint64_t* value) noexcept nogil:
    cdef int shift = 7
    value[0] = data[0] & 0x7F
    while data[0] >= 0x80:
        data += 1
        value[0] |= <uint64_t>(data[0] & 0x7F) << shift
        shift += 7
    return data + 1


cdef inline uint8_t* _write_posting(uint8_t* out, slot_t slot, slot_t before, uint32_t tf) noexcept nogil:
    out = _write_varint(out, gap_code(slot, before, tf))
    return out if tf == 1 else _write_varint(out, tf)


cdef uint32_t decode_tail(const List* l, slot_t* slots, uint32_t* tfs) noexcept nogil:
    """Decode what is not sealed, return how many postings that is."""
    cdef uint32_t i, n = n_tail_of(l)
    cdef slot_t before = _before(l, n_blocks_of(l))
    cdef const uint8_t* at = bytes_of(l) + (0 if l.index == NULL else l.index.tail_at)
    cdef uint64_t code = 0
    for i in range(n):
        at = _read_varint(at, &code)
        before += <uint32_t>(code >> 1) + 1
        slots[i] = before
        if code & 1:
            tfs[i] = 1
        else:
            at = _read_varint(at, &code)
            tfs[i] = <uint32_t>code
    return n


cdef void _write_tail(List* l, const slot_t* slots, const uint32_t* tfs, uint32_t n) noexcept nogil:
    """Replace the tail by `n` postings, for which there is room; the number of postings is the caller's to set."""
    cdef uint8_t* data = bytes_of(l)
    cdef uint8_t* at = data + (0 if l.index == NULL else l.index.tail_at)
    cdef slot_t before = _before(l, n_blocks_of(l))
    cdef uint32_t i
    for i in range(n):
        at = _write_posting(at, slots[i], before, tfs[i])
        before = slots[i]
    l.used = <uint32_t>(at - data)


cdef uint32_t decode_cell(cell_t cell, slot_t* slots, uint32_t* tfs) noexcept nogil:
    """Decode what a cell holds itself, return how many postings that is."""
    # Room for 14 varints whatever the bytes are, since a damaged cell is decoded to be checked.
    cdef uint8_t[24] data
    cdef uint32_t i, n = <uint32_t>(cell >> 1 & 7)
    cdef slot_t before = NO_SLOT
    cdef const uint8_t* at = data
    cdef uint64_t code = 0
    if not cell & 1:
        return 0
    cell >>= 8
    memcpy(data, &cell, 8)
    memset(data + 8, 0, 16)
    for i in range(n):
        at = _read_varint(at, &code)
        before += <uint32_t>(code >> 1) + 1
        slots[i] = before
        tfs[i] = 1
        if not code & 1:
            at = _read_varint(at, &code)
            tfs[i] = <uint32_t>code
    return n


cdef bint encode_cell(const slot_t* slots, const uint32_t* tfs, uint32_t n, cell_t* cell) noexcept nogil:
    """Make a cell of some postings; 0 when they are too many."""
    cdef uint8_t[2 * MAX_VARINT + FEW] data
    cdef uint8_t* at = data
    cdef slot_t before = NO_SLOT
    cdef uint32_t i
    cdef uint64_t held = 0
    if n == 0:
        cell[0] = 0
        return True
    if n > FEW:
        return False
    for i in range(n):
        at = _write_posting(at, slots[i], before, tfs[i])
        before = slots[i]
        if at - data > FEW:
            return False
    memcpy(&held, data, <size_t>(at - data))
    cell[0] = held << 8 | <uint64_t>(at - data) << 4 | n << 1 | 1
    return True


# ------------------------------------------------------------------------------------------------------------- memory

cdef int grow(cell_t* cell, size_t needed) noexcept nogil:
    """Make the capacity of the list in a cell at least `needed`, an eighth more when it grows by little."""
    cdef List* l = list_in(cell[0])
    cdef size_t total = needed
    if needed <= l.capacity:
        return 0
    if needed < l.capacity + l.capacity // 8:
        total = l.capacity + l.capacity // 8
    total = (sizeof(List) + total + ALIGN - 1 + SLACK) // ALIGN * ALIGN - SLACK
    if total > MAX_LIST:
        return -1
    l = <List*>resize_block(l, sizeof(List) + l.capacity, total)
    if l == NULL:
        return -1
    l.capacity = <uint32_t>(total - sizeof(List))
    cell[0] = <cell_t><size_t>l
    return 0


cdef void trim(cell_t* cell) noexcept nogil:
    """Give back what a list has room for beyond an eighth of what it holds; its few postings go into the cell again."""
    cdef List* l = list_in(cell[0])
    cdef cell_t small = 0
    cdef slot_t slots[ROOM]
    cdef uint32_t tfs[ROOM]
    cdef size_t total
    if l == NULL:
        return
    if l.n <= FEW and l.n == l.df and n_blocks_of(l) == 0:
        if encode_cell(slots, tfs, decode_tail(l, slots, tfs), &small):
            free_list(l)
            cell[0] = small
            return
    _trim_index(l)
    total = sizeof(List) + l.used + max(l.used // 8, <uint32_t>SLACK)
    total = (total + ALIGN - 1 + SLACK) // ALIGN * ALIGN - SLACK
    if total < sizeof(List) + l.capacity:
        l = <List*>resize_block(l, sizeof(List) + l.capacity, total)
        if l != NULL:  # else the larger one serves as well
            l.capacity = <uint32_t>(total - sizeof(List))
            cell[0] = <cell_t><size_t>l


cdef void _trim_index(List* l) noexcept nogil:
    cdef uint32_t capacity = n_blocks_of(l)
    cdef Index* index
    capacity += capacity // 8
    if l.index == NULL or l.index.capacity <= capacity + 1:
        return
    if capacity == 0:
        free_block(l.index, _index_bytes(l.index.capacity))
        l.index = NULL
        return
    index = <Index*>resize_block(l.index, _index_bytes(l.index.capacity), _index_bytes(capacity))
    if index != NULL:
        index.capacity = capacity
        l.index = index


cdef inline size_t _index_bytes(uint32_t capacity) noexcept nogil:
    return sizeof(Index) + capacity * sizeof(Sealed)


cdef int grow_index(List* l, uint32_t n_more) noexcept nogil:
    """Make room for `n_more` blocks."""
    cdef uint32_t capacity = n_more
    cdef size_t old_bytes = 0
    cdef Index* index
    if l.index != NULL:
        if n_more <= l.index.capacity - l.index.n_blocks:
            return 0
        capacity = max(l.index.n_blocks + n_more, l.index.capacity + l.index.capacity // 8)
        old_bytes = _index_bytes(l.index.capacity)
    index = <Index*>resize_block(l.index, old_bytes, _index_bytes(capacity))
    if index == NULL:
        return -1
    if l.index == NULL:
        index.n_blocks = 0
        index.n_sealed = 0
        index.tail_at = 0
    index.capacity = capacity
    l.index = index
    return 0


cdef List* alloc_list(uint32_t used, uint32_t n_blocks) noexcept nogil:
    """Make a list with room for exactly what is going to be read into it; NULL when there is no memory."""
    cdef uint32_t capacity = used + (SLACK if n_blocks else 0)
    cdef List* l = <List*>resize_block(NULL, 0, sizeof(List) + capacity)
    if l == NULL:
        return NULL
    memset(l, 0, sizeof(List))
    l.capacity = capacity
    l.used = used
    if n_blocks:
        l.index = <Index*>resize_block(NULL, 0, _index_bytes(n_blocks))
        if l.index == NULL:
            free_list(l)
            return NULL
        l.index.n_blocks = n_blocks
        l.index.capacity = n_blocks
    return l


cdef void free_list(List* l) noexcept nogil:
    if l != NULL:
        if l.index != NULL:
            free_block(l.index, _index_bytes(l.index.capacity))
        free_block(l, sizeof(List) + l.capacity)


cdef size_t list_bytes(const List* l) noexcept nogil:
    """Return the bytes of a list, what malloc keeps for itself included."""
    cdef size_t total = sizeof(List) + l.capacity + SLACK
    if l.index != NULL:
        total += sizeof(Index) + l.index.capacity * sizeof(Sealed) + SLACK
    return total


cdef int make_list(cell_t* cell, const uint32_t* lengths) noexcept nogil:
    """Move what a cell holds itself into a list."""
    cdef slot_t[FEW + 1] slots
    cdef uint32_t[FEW + 1] tfs
    cdef uint32_t n = decode_cell(cell[0], slots, tfs)
    cdef List* l = alloc_list(FIRST_BYTES, 0)
    if l == NULL:
        return -1
    _write_tail(l, slots, tfs, n)
    l.n = n
    l.df = n
    l.last = slots[n - 1] if n else 0
    l.impact = impact_of(slots, tfs, n, lengths)
    cell[0] = <cell_t><size_t>l
    return 0


# ------------------------------------------------------------------------------------------------------------ changes

cdef int make_room(cell_t* cell, slot_t slot, uint32_t tf, const uint32_t* lengths) noexcept nogil:
    """Make sure that `put` of this posting has room; what there is stays the same."""
    cdef size_t needed
    cdef cell_t tried = cell[0]
    cdef List* l
    if tried == 0 or tried & 1:
        if put_in_cell(&tried, slot, tf):
            return 0
        if make_list(cell, lengths) < 0:
            return -1
    if n_tail_of(list_in(cell[0])) == FULL and _seal(cell, lengths) < 0:
        return -1
    l = list_in(cell[0])
    if l.n == 0 or slot > l.last:
        needed = l.used + varint_bytes(gap_code(slot, l.last if l.n else <slot_t>NO_SLOT, tf))
        if tf != 1:
            needed += varint_bytes(tf)
    elif n_blocks_of(l) and slot <= _before(l, l.index.n_blocks):
        needed = l.used + MAX_PACKED
        if grow_index(l, 1) < 0:
            return -1
    else:
        needed = l.used + 3 * MAX_VARINT
    if n_blocks_of(l):
        needed += SLACK
    return grow(cell, needed)


cdef bint put_in_cell(cell_t* cell, slot_t slot, uint32_t tf) noexcept nogil:
    cdef slot_t[FEW + 1] slots
    cdef uint32_t[FEW + 1] tfs
    cdef uint32_t n = decode_cell(cell[0], slots, tfs)
    n = _insert(slots, tfs, n, slot, tf)
    return encode_cell(slots, tfs, n, cell)


cdef int _seal(cell_t* cell, const uint32_t* lengths) noexcept nogil:
    """Turn the tail into a block."""
    cdef slot_t slots[ROOM]
    cdef uint32_t tfs[ROOM]
    cdef uint32_t n = decode_tail(list_in(cell[0]), slots, tfs)
    return _append_block(cell, slots, tfs, n, lengths)


cdef int _append_block(cell_t* cell, const slot_t* slots, const uint32_t* tfs, uint32_t n,
                       const uint32_t* lengths) noexcept nogil:
    """Write a block over the tail, which the caller has decoded."""
    cdef List* l = list_in(cell[0])
    cdef uint8_t packed[MAX_PACKED]
    cdef Sealed block
    cdef uint32_t n_bytes
    if grow_index(l, 1) < 0:
        return -1
    n_bytes = _encode_block(slots, tfs, n, _before(l, l.index.n_blocks), lengths, packed, &block)
    if grow(cell, <size_t>l.index.tail_at + n_bytes + SLACK) < 0:
        return -1
    l = list_in(cell[0])
    block.at = l.index.tail_at
    memcpy(bytes_of(l) + block.at, packed, n_bytes)
    blocks_of(l)[l.index.n_blocks] = block
    l.index.n_blocks += 1
    l.index.n_sealed += n
    l.index.tail_at += n_bytes
    l.used = l.index.tail_at
    return 0


cdef void put(cell_t* cell, slot_t slot, uint32_t tf, const uint32_t* lengths) noexcept nogil:
    """Add a posting after `make_room`; the length of the slot is known by now."""
    cdef List* l
    cdef uint8_t* data
    cdef slot_t slots[ROOM]
    cdef uint32_t tfs[ROOM]
    if cell[0] == 0 or cell[0] & 1:
        put_in_cell(cell, slot, tf)
        return
    l = list_in(cell[0])
    data = bytes_of(l)
    l.impact = _merged(l.impact if l.n else <uint32_t>NO_IMPACT, _impact(tf, length_of(lengths, slot)))
    l.df += 1
    if l.n == 0 or slot > l.last:
        l.used = <uint32_t>(_write_posting(data + l.used, slot, l.last if l.n else <slot_t>NO_SLOT, tf) - data)
        l.last = slot
        l.n += 1
    elif n_blocks_of(l) and slot <= _before(l, l.index.n_blocks):
        _put_in_block(l, slot, tf, lengths)
    else:
        _write_tail(l, slots, tfs, _insert(slots, tfs, decode_tail(l, slots, tfs), slot, tf))
        l.n += 1


cdef inline uint32_t _insert(slot_t* slots, uint32_t* tfs, uint32_t n, slot_t slot, uint32_t tf) noexcept nogil:
    """Insert a posting into sorted ones, or replace the one of this slot; return how many they are then."""
    cdef uint32_t i = n
    while i > 0 and slots[i - 1] >= slot:
        i -= 1
    if i < n and slots[i] == slot:
        tfs[i] = tf
        return n
    memmove(slots + i + 1, slots + i, (n - i) * sizeof(slot_t))
    memmove(tfs + i + 1, tfs + i, (n - i) * sizeof(uint32_t))
    slots[i] = slot
    tfs[i] = tf
    return n + 1


cdef uint32_t _find_block(const List* l, slot_t slot) noexcept nogil:
    """Return the first block that does not end before `slot`."""
    cdef uint32_t low = 0, high = l.index.n_blocks, middle
    while low < high:
        middle = (low + high) >> 1
        if blocks_of(l)[middle].last < slot:
            low = middle + 1
        else:
            high = middle
    return low


cdef void _put_in_block(List* l, slot_t slot, uint32_t tf, const uint32_t* lengths) noexcept nogil:
    """Write the block where a posting belongs anew, as two when it is full."""
    cdef slot_t slots[ROOM]
    cdef uint32_t tfs[ROOM]
    cdef uint8_t packed[2 * MAX_PACKED]
    cdef Sealed made[2]
    cdef uint32_t at = _find_block(l, slot)
    cdef Sealed* blocks = blocks_of(l)
    cdef uint32_t n_old = blocks[at].n
    cdef uint32_t old_bytes = packed_bytes(n_old, blocks[at].slot_bits, blocks[at].tf_bits)
    cdef slot_t before = _before(l, at)
    cdef uint32_t n, half, n_bytes, start, i
    cdef uint8_t* data = bytes_of(l)
    decode_block(data, &blocks[at], before, slots, tfs)
    n = _insert(slots, tfs, n_old, slot, tf)
    half = n // 2 if n > FULL else n
    start = blocks[at].at
    made[0].at = start
    n_bytes = _encode_block(slots, tfs, half, before, lengths, packed, &made[0])
    if half < n:
        made[1].at = start + n_bytes
        n_bytes += _encode_block(slots + half, tfs + half, n - half, made[0].last, lengths, packed + n_bytes, &made[1])
        memmove(blocks + at + 2, blocks + at + 1, (l.index.n_blocks - at - 1) * sizeof(Sealed))
        blocks[at + 1] = made[1]
        l.index.n_blocks += 1
    blocks[at] = made[0]
    memmove(data + start + n_bytes, data + start + old_bytes, l.used - start - old_bytes)
    memcpy(data + start, packed, n_bytes)
    for i in range(at + (2 if half < n else 1), l.index.n_blocks):
        blocks[i].at += n_bytes - old_bytes
    l.index.tail_at += n_bytes - old_bytes
    l.index.n_sealed += n - n_old
    l.used += n_bytes - old_bytes
    l.n += n - n_old


cdef uint32_t forget(cell_t* cell, slot_t slot) noexcept nogil:
    """Count a text no longer; return how many postings of deleted texts there are now. Needs no memory."""
    cdef slot_t[FEW + 1] slots
    cdef uint32_t[FEW + 1] tfs
    cdef uint32_t i, kept = 0
    cdef uint32_t n
    if cell[0] and not cell[0] & 1:
        list_in(cell[0]).df -= 1
        return list_in(cell[0]).n - list_in(cell[0]).df
    n = decode_cell(cell[0], slots, tfs)
    for i in range(n):
        slots[kept] = slots[i]
        tfs[kept] = tfs[i]
        kept += slots[i] != slot
    # Two gaps that become one take no more bytes than both.
    encode_cell(slots, tfs, kept, cell)
    return 0


cdef void strike(cell_t cell, slot_t slot) noexcept nogil:
    """Take the posting of a deleted text away, if it is here still; needs no memory."""
    cdef slot_t slots[ROOM]
    cdef uint32_t tfs[ROOM]
    cdef uint32_t i, n, at
    cdef List* l = list_in(cell)
    if l == NULL or l.n == 0 or slot > l.last:
        return
    if n_blocks_of(l) and slot <= _before(l, l.index.n_blocks):
        at = _find_block(l, slot)
        decode_block(bytes_of(l), &blocks_of(l)[at], _before(l, at), slots, tfs)
        for i in range(blocks_of(l)[at].n):
            if slots[i] == slot:
                _clear_count(bytes_of(l), &blocks_of(l)[at], i)
        return
    n = decode_tail(l, slots, tfs)
    for i in range(n):
        if slots[i] == slot:
            memmove(slots + i, slots + i + 1, (n - i - 1) * sizeof(slot_t))
            memmove(tfs + i, tfs + i + 1, (n - i - 1) * sizeof(uint32_t))
            _write_tail(l, slots, tfs, n - 1)
            l.n -= 1
            l.last = slots[n - 2] if n > 1 else _before(l, n_blocks_of(l))
            return


cdef void _clear_count(uint8_t* data, const Sealed* block, uint32_t i) noexcept nogil:
    cdef uint8_t* tfs = data + block.at + (<uint32_t>block.n * block.slot_bits + 7) // 8
    cdef uint32_t bit
    for bit in range(i * block.tf_bits, (i + 1) * block.tf_bits):
        tfs[bit >> 3] &= <uint8_t>~(1 << (bit & 7))


cdef int compact_cell(cell_t* cell, const uint32_t* lengths) noexcept nogil:
    """Write the list of a cell anew without the postings of deleted texts."""
    cdef cell_t fresh = 0
    cdef List* l = list_in(cell[0])
    cdef slot_t slots[ROOM + FULL]
    cdef uint32_t tfs[ROOM + FULL]
    cdef uint32_t i, at, n, kept = 0
    if l == NULL:
        return 0
    for at in range(n_blocks_of(l) + 1):
        if kept >= FULL:
            if _move_block(&fresh, slots, tfs, lengths) < 0:
                free_list(list_in(fresh))
                return -1
            kept -= FULL
            memcpy(slots, slots + FULL, kept * sizeof(slot_t))
            memcpy(tfs, tfs + FULL, kept * sizeof(uint32_t))
        if at < n_blocks_of(l):
            decode_block(bytes_of(l), &blocks_of(l)[at], _before(l, at), slots + kept, tfs + kept)
            n = kept + blocks_of(l)[at].n
        else:
            n = kept + decode_tail(l, slots + kept, tfs + kept)
        for i in range(kept, n):
            slots[kept] = slots[i]
            tfs[kept] = tfs[i]
            kept += tfs[i] != 0 and lengths[slots[i]] != 0
    for i in range(kept):
        if make_room(&fresh, slots[i], tfs[i], lengths) < 0:
            free_list(list_in(fresh))
            return -1
        put(&fresh, slots[i], tfs[i], lengths)
    free_list(l)
    cell[0] = fresh
    return 0


cdef int _move_block(cell_t* cell, const slot_t* slots, const uint32_t* tfs, const uint32_t* lengths) noexcept nogil:
    """Append a full block to a list without a tail."""
    cdef List* l
    if cell[0] == 0 and make_list(cell, lengths) < 0:
        return -1
    if _append_block(cell, slots, tfs, FULL, lengths) < 0:
        return -1
    l = list_in(cell[0])
    l.impact = _merged(l.impact, blocks_of(l)[l.index.n_blocks - 1].impact)
    l.last = slots[FULL - 1]
    l.n += FULL
    l.df += FULL
    return 0


# ----------------------------------------------------------------------------------------------------------- checking

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
