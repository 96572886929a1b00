"""What does encoded metadata say? MessagePack of JSON values, read where it lies, without making Python objects of it.

What `encode_metadata` writes is read; anything else that MessagePack knows (floats of 32 bits, binary, extensions, keys
that are no strings) counts as damage here, and callers leave it to a decoder.
"""

from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy


cdef inline uint64_t _big_endian(const uint8_t* data, int n_bytes) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(n_bytes):
        value = value << 8 | data[i]
    return value


cdef inline void _read_number(Cursor* cursor, Head* head, uint8_t tag) noexcept nogil:
    """Read a number of 1, 2, 4 or 8 bytes behind its tag."""
    cdef int n_bytes = 8 if tag == 0xCB else 1 << (tag & 3)
    cdef uint64_t bits
    if cursor.end - cursor.at < n_bytes:
        return
    bits = _big_endian(cursor.at, n_bytes)
    cursor.at += n_bytes
    if tag == 0xCB:
        memcpy(&head.real, &bits, 8)
        if isfinite(head.real):
            head.kind = A_FLOAT
        return
    head.kind = AN_UNSIGNED
    head.n = bits
    if tag >= 0xD0 and bits >> (8 * n_bytes - 1):
        head.kind = A_NEGATIVE
        if n_bytes < 8:
            bits |= ~<uint64_t>0 << (8 * n_bytes)
        head.negative = <int64_t>bits


cdef inline void _read_size(Cursor* cursor, Head* head, int n_bytes, int kind) noexcept nogil:
    if cursor.end - cursor.at >= n_bytes:
        head.n = _big_endian(cursor.at, n_bytes)
        head.kind = kind
        cursor.at += n_bytes


cdef void read_head(Cursor* cursor, Head* head) noexcept nogil:
    cdef uint8_t tag
    head.kind = NO_VALUE
    if cursor.at >= cursor.end:
        return
    tag = cursor.at[0]
    cursor.at += 1
    head.n = tag
    if tag < 0x80:
        head.kind = AN_UNSIGNED
    elif tag < 0x90:
        head.kind = A_MAP
        head.n = tag & 0x0F
    elif tag < 0xA0:
        head.kind = A_LIST
        head.n = tag & 0x0F
    elif tag < 0xC0:
        head.kind = A_TEXT
        head.n = tag & 0x1F
    elif tag >= 0xE0:
        head.kind = A_NEGATIVE
        head.negative = <int64_t>tag - 256
    elif tag == 0xC0:
        head.kind = A_NULL
    elif tag == 0xC2:
        head.kind = A_FALSE
    elif tag == 0xC3:
        head.kind = A_TRUE
    elif 0xCB <= tag <= 0xD3:
        _read_number(cursor, head, tag)
    elif 0xD9 <= tag <= 0xDB:
        _read_size(cursor, head, 1 << (tag - 0xD9), A_TEXT)
    elif tag == 0xDC or tag == 0xDD:
        _read_size(cursor, head, 2 << (tag - 0xDC), A_LIST)
    elif tag == 0xDE or tag == 0xDF:
        _read_size(cursor, head, 2 << (tag - 0xDE), A_MAP)


cdef bint _skip_text(Cursor* cursor, uint64_t n) noexcept nogil:
    cdef uint64_t i
    cdef uint8_t seen = 0
    if n > <uint64_t>(cursor.end - cursor.at):
        return False
    for i in range(n):
        seen |= cursor.at[i]
    if seen >= 0x80 and not is_utf8(cursor.at, n):
        return False
    cursor.at += n
    return True


cdef bint skip_value(Cursor* cursor, int depth) noexcept nogil:
    cdef Head head
    cdef Head key
    read_head(cursor, &head)
    if head.kind < A_TEXT:
        return True
    if head.kind == A_TEXT:
        return _skip_text(cursor, head.n)
    if head.kind == NO_VALUE or depth > MAX_DEPTH:
        return False
    while head.n > 0:
        if head.kind == A_MAP:
            read_head(cursor, &key)
            if key.kind != A_TEXT or not _skip_text(cursor, key.n):
                return False
        if not skip_value(cursor, depth + 1):
            return False
        head.n -= 1
    return True


cdef bint is_utf8(const uint8_t* data, uint64_t n) noexcept nogil:
    """Tell whether bytes are UTF-8: no surrogates, nothing longer than it must be, nothing above U+10FFFF."""
    cdef uint64_t at = 0
    cdef int more
    cdef uint8_t first, low, high
    while at < n:
        first = data[at]
        at += 1
        if first < 0x80:
            continue
        if first < 0xC2 or first > 0xF4:
            return False
        more = 1 + (first >= 0xE0) + (first >= 0xF0)
        if n - at < <uint64_t>more:
            return False
        low = 0xA0 if first == 0xE0 else 0x90 if first == 0xF0 else 0x80
        high = 0x9F if first == 0xED else 0x8F if first == 0xF4 else 0xBF
        if not low <= data[at] <= high:
            return False
        while more > 1:
            at += 1
            more -= 1
            if data[at] & 0xC0 != 0x80:
                return False
        at += 1
    return True
