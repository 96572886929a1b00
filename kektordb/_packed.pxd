"""MessagePack of JSON values, read where it lies: what other Cython modules may call."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    MAX_DEPTH = 32  # of objects and lists, the outermost counted

cdef enum:
    A_NULL
    A_FALSE
    A_TRUE
    A_FLOAT
    AN_UNSIGNED
    A_NEGATIVE
    A_TEXT
    A_LIST
    A_MAP
    NO_VALUE

cdef struct Cursor:
    const uint8_t* at
    const uint8_t* end

cdef struct Head:
    int kind
    double real  # of A_FLOAT
    int64_t negative  # of A_NEGATIVE
    uint64_t n  # the number of AN_UNSIGNED; bytes of A_TEXT, elements of A_LIST, pairs of A_MAP

# Read what a value begins with. Behind it lie the bytes of a text, or the elements of a list or map.
cdef void read_head(Cursor* cursor, Head* head) noexcept nogil
# Pass one whole value, checked; False when it is none that `encode_metadata` writes.
cdef bint skip_value(Cursor* cursor, int depth) noexcept nogil
cdef bint is_utf8(const uint8_t* data, uint64_t n) noexcept nogil
