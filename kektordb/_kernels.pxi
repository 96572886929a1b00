# The loops, compiled once per instruction set: plain typed code that the compiler vectorises (see setup.py for its
# flags). Four rows at once share each load of the query; the prefetch rolls ahead of the row being computed.

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t

from kektordb._distance cimport Kernels, QueryTail
from kektordb._types cimport key_t, slot_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__GNUC__) || defined(__clang__)
    /* Into the second-level cache: the first has a dozen or two of buffers for lines on their way, and many rows are
       wanted at once (2.5 times faster on Zen 4). */
    #define KEKTOR_PREFETCH(address) __builtin_prefetch(address, 0, 2)
    #else
    #define KEKTOR_PREFETCH(address) ((void)(address))
    #endif
    /* Order-preserving image of a float: negative values are flipped whole, others get the top bit. Both zeros are
       one key, so that equal distances tie. */
    static inline uint32_t kektor_key(float value) {
        uint32_t bits;
        memcpy(&bits, &value, 4);
        if (bits == 0x80000000u) bits = 0;
        return bits ^ ((uint32_t)((int32_t)bits >> 31) | 0x80000000u);
    }
    /* A half as a float: its bits moved into place, and the exponent's bias made good by a power of two. Finite halves
       only. Unlike a conversion instruction this is part of every baseline, and every compiler vectorises it. */
    static inline float kektor_half(uint16_t half) {
        uint32_t bits = (uint32_t)(half & 0x7fffu) << 13 | (uint32_t)(half & 0x8000u) << 16;
        float value;
        memcpy(&value, &bits, 4);
        return value * 0x1p112f;
    }
    """
    void prefetch "KEKTOR_PREFETCH"(const void* address) noexcept nogil
    uint32_t key_of "kektor_key"(float value) noexcept nogil
    float half_to_float "kektor_half"(uint16_t half) noexcept nogil

ctypedef fused component:
    float
    uint16_t

cdef enum:
    LINE_BYTES = 64
    # Prefetching: so many bytes of rows ahead, and of each row the first lines; the hardware streams the others once
    # these were asked for. Measured with benchmarks/search.py, 100 to 784 dimensions.
    AHEAD_BYTES = 8192
    ROW_BYTES = 4096
    CODES_AHEAD_BYTES = 8192
    CODES_ROW_BYTES = 1024

# The largest float that an int holds.
cdef float INT_END = 2147483520.


cdef inline void prefetch_row(const char* row, Py_ssize_t n_bytes) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < n_bytes:
        prefetch(row + i)
        i += LINE_BYTES


cdef inline float value_of(component x) noexcept nogil:
    if component is float:
        return x
    else:
        return half_to_float(x)


# ------------------------------------------------------------------------------------------- float32 and float16 rows

cdef inline void l2_many(const float* q, const component* rows, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                         key_t* out) noexcept nogil:
    cdef Py_ssize_t i = 0, j, p, row_bytes = d * <Py_ssize_t>sizeof(component)
    cdef Py_ssize_t ahead = AHEAD_BYTES // row_bytes + 4
    cdef Py_ssize_t first_bytes = row_bytes if row_bytes < ROW_BYTES else ROW_BYTES
    cdef const component* a
    cdef const component* b
    cdef const component* c
    cdef const component* e
    cdef float s0, s1, s2, s3, t0, t1, t2, t3
    p = n if n < ahead else ahead
    for j in range(p):
        prefetch_row(<const char*>(rows + <Py_ssize_t>ids[j] * d), first_bytes)
    while i + 4 <= n:
        a = rows + <Py_ssize_t>ids[i] * d
        b = rows + <Py_ssize_t>ids[i + 1] * d
        c = rows + <Py_ssize_t>ids[i + 2] * d
        e = rows + <Py_ssize_t>ids[i + 3] * d
        j = 0
        while j < 4 and p < n:
            prefetch_row(<const char*>(rows + <Py_ssize_t>ids[p] * d), first_bytes)
            p += 1
            j += 1
        s0 = s1 = s2 = s3 = 0
        for j in range(d):
            t0 = q[j] - value_of(a[j])
            t1 = q[j] - value_of(b[j])
            t2 = q[j] - value_of(c[j])
            t3 = q[j] - value_of(e[j])
            s0 = s0 + t0 * t0
            s1 = s1 + t1 * t1
            s2 = s2 + t2 * t2
            s3 = s3 + t3 * t3
        out[i] = key_of(s0)
        out[i + 1] = key_of(s1)
        out[i + 2] = key_of(s2)
        out[i + 3] = key_of(s3)
        i += 4
    while i < n:
        a = rows + <Py_ssize_t>ids[i] * d
        s0 = 0
        for j in range(d):
            t0 = q[j] - value_of(a[j])
            s0 = s0 + t0 * t0
        out[i] = key_of(s0)
        i += 1


cdef inline void ip_many(const float* q, const component* rows, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                         key_t* out) noexcept nogil:
    cdef Py_ssize_t i = 0, j, p, row_bytes = d * <Py_ssize_t>sizeof(component)
    cdef Py_ssize_t ahead = AHEAD_BYTES // row_bytes + 4
    cdef Py_ssize_t first_bytes = row_bytes if row_bytes < ROW_BYTES else ROW_BYTES
    cdef const component* a
    cdef const component* b
    cdef const component* c
    cdef const component* e
    cdef float s0, s1, s2, s3
    p = n if n < ahead else ahead
    for j in range(p):
        prefetch_row(<const char*>(rows + <Py_ssize_t>ids[j] * d), first_bytes)
    while i + 4 <= n:
        a = rows + <Py_ssize_t>ids[i] * d
        b = rows + <Py_ssize_t>ids[i + 1] * d
        c = rows + <Py_ssize_t>ids[i + 2] * d
        e = rows + <Py_ssize_t>ids[i + 3] * d
        j = 0
        while j < 4 and p < n:
            prefetch_row(<const char*>(rows + <Py_ssize_t>ids[p] * d), first_bytes)
            p += 1
            j += 1
        s0 = s1 = s2 = s3 = 0
        for j in range(d):
            s0 = s0 + q[j] * value_of(a[j])
            s1 = s1 + q[j] * value_of(b[j])
            s2 = s2 + q[j] * value_of(c[j])
            s3 = s3 + q[j] * value_of(e[j])
        out[i] = key_of(-s0)
        out[i + 1] = key_of(-s1)
        out[i + 2] = key_of(-s2)
        out[i + 3] = key_of(-s3)
        i += 4
    while i < n:
        a = rows + <Py_ssize_t>ids[i] * d
        s0 = 0
        for j in range(d):
            s0 = s0 + q[j] * value_of(a[j])
        out[i] = key_of(-s0)
        i += 1


cdef void f32_l2(const void* q, const void* rows, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                 key_t* out) noexcept nogil:
    l2_many[float](<const float*>q, <const float*>rows, ids, n, d, out)


cdef void f32_ip(const void* q, const void* rows, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                 key_t* out) noexcept nogil:
    ip_many[float](<const float*>q, <const float*>rows, ids, n, d, out)


cdef void f16_l2(const void* q, const void* rows, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                 key_t* out) noexcept nogil:
    l2_many[uint16_t](<const float*>q, <const uint16_t*>rows, ids, n, d, out)


cdef void f16_ip(const void* q, const void* rows, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                 key_t* out) noexcept nogil:
    ip_many[uint16_t](<const float*>q, <const uint16_t*>rows, ids, n, d, out)


cdef void widen(const uint16_t* row, Py_ssize_t d, float* out) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(d):
        out[j] = half_to_float(row[j])


# ----------------------------------------------------------------------------------------------------- 8-bit codes

cdef inline Py_ssize_t codes_ahead(Py_ssize_t d) noexcept nogil:
    return CODES_AHEAD_BYTES // d + 4


cdef void u8_l2(const void* query, const void* base, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                key_t* out) noexcept nogil:
    cdef const uint8_t* q = <const uint8_t*>query
    cdef const uint8_t* rows = <const uint8_t*>base
    cdef Py_ssize_t i = 0, j, p, ahead = codes_ahead(d), first_bytes = d if d < CODES_ROW_BYTES else CODES_ROW_BYTES
    cdef const uint8_t* a
    cdef const uint8_t* b
    cdef const uint8_t* c
    cdef const uint8_t* e
    # Unsigned: 65,536 components of at most 255 squared fit.
    cdef uint32_t s0, s1, s2, s3
    cdef int t0, t1, t2, t3
    p = n if n < ahead else ahead
    for j in range(p):
        prefetch_row(<const char*>(rows + <Py_ssize_t>ids[j] * d), first_bytes)
    while i + 4 <= n:
        a = rows + <Py_ssize_t>ids[i] * d
        b = rows + <Py_ssize_t>ids[i + 1] * d
        c = rows + <Py_ssize_t>ids[i + 2] * d
        e = rows + <Py_ssize_t>ids[i + 3] * d
        j = 0
        while j < 4 and p < n:
            prefetch_row(<const char*>(rows + <Py_ssize_t>ids[p] * d), first_bytes)
            p += 1
            j += 1
        s0 = s1 = s2 = s3 = 0
        for j in range(d):
            t0 = <int>q[j] - <int>a[j]
            t1 = <int>q[j] - <int>b[j]
            t2 = <int>q[j] - <int>c[j]
            t3 = <int>q[j] - <int>e[j]
            s0 += <uint32_t>(t0 * t0)
            s1 += <uint32_t>(t1 * t1)
            s2 += <uint32_t>(t2 * t2)
            s3 += <uint32_t>(t3 * t3)
        out[i] = s0
        out[i + 1] = s1
        out[i + 2] = s2
        out[i + 3] = s3
        i += 4
    while i < n:
        a = rows + <Py_ssize_t>ids[i] * d
        s0 = 0
        for j in range(d):
            t0 = <int>q[j] - <int>a[j]
            s0 += <uint32_t>(t0 * t0)
        out[i] = s0
        i += 1


cdef void u8_ip(const void* query, const void* base, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                key_t* out) noexcept nogil:
    cdef const uint8_t* q = <const uint8_t*>query
    cdef const uint8_t* rows = <const uint8_t*>base
    cdef Py_ssize_t i = 0, j, p, ahead = codes_ahead(d), first_bytes = d if d < CODES_ROW_BYTES else CODES_ROW_BYTES
    cdef const uint8_t* a
    cdef const uint8_t* b
    cdef const uint8_t* c
    cdef const uint8_t* e
    # 65,536 products of at most 128 * 255 fit. One side signed: that is an instruction of its own (vpdpbusd). Codes of
    # rows are 128 above their meaning, which adds 128 times the sum of the query to each product.
    cdef int s0, s1, s2, s3, total = 0
    cdef int8_t x
    cdef uint32_t origin
    for j in range(d):
        total += <int>q[j] - 128
    origin = 0x80000000u + <uint32_t>(128 * total)
    p = n if n < ahead else ahead
    for j in range(p):
        prefetch_row(<const char*>(rows + <Py_ssize_t>ids[j] * d), first_bytes)
    while i + 4 <= n:
        a = rows + <Py_ssize_t>ids[i] * d
        b = rows + <Py_ssize_t>ids[i + 1] * d
        c = rows + <Py_ssize_t>ids[i + 2] * d
        e = rows + <Py_ssize_t>ids[i + 3] * d
        j = 0
        while j < 4 and p < n:
            prefetch_row(<const char*>(rows + <Py_ssize_t>ids[p] * d), first_bytes)
            p += 1
            j += 1
        s0 = s1 = s2 = s3 = 0
        for j in range(d):
            x = <int8_t>(q[j] ^ 0x80)
            s0 += <int>x * <int>a[j]
            s1 += <int>x * <int>b[j]
            s2 += <int>x * <int>c[j]
            s3 += <int>x * <int>e[j]
        out[i] = origin - <uint32_t>s0
        out[i + 1] = origin - <uint32_t>s1
        out[i + 2] = origin - <uint32_t>s2
        out[i + 3] = origin - <uint32_t>s3
        i += 4
    while i < n:
        a = rows + <Py_ssize_t>ids[i] * d
        s0 = 0
        for j in range(d):
            x = <int8_t>(q[j] ^ 0x80)
            s0 += <int>x * <int>a[j]
        out[i] = origin - <uint32_t>s0
        i += 1


# ---------------------------------------------------------------------------- rows of 8-bit codes, query of float32

cdef void u8f_l2(const void* query, const void* base, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                 key_t* out) noexcept nogil:
    cdef const float* q = <const float*>query
    cdef const uint8_t* rows = <const uint8_t*>base
    cdef Py_ssize_t i = 0, j, p, ahead = codes_ahead(d), first_bytes = d if d < CODES_ROW_BYTES else CODES_ROW_BYTES
    cdef const uint8_t* a
    cdef const uint8_t* b
    cdef const uint8_t* c
    cdef const uint8_t* e
    cdef float s0, s1, s2, s3, t0, t1, t2, t3, unit = (<const QueryTail*>(q + d)).scale
    p = n if n < ahead else ahead
    for j in range(p):
        prefetch_row(<const char*>(rows + <Py_ssize_t>ids[j] * d), first_bytes)
    while i + 4 <= n:
        a = rows + <Py_ssize_t>ids[i] * d
        b = rows + <Py_ssize_t>ids[i + 1] * d
        c = rows + <Py_ssize_t>ids[i + 2] * d
        e = rows + <Py_ssize_t>ids[i + 3] * d
        j = 0
        while j < 4 and p < n:
            prefetch_row(<const char*>(rows + <Py_ssize_t>ids[p] * d), first_bytes)
            p += 1
            j += 1
        s0 = s1 = s2 = s3 = 0
        for j in range(d):
            t0 = q[j] - unit * <float><int>a[j]
            t1 = q[j] - unit * <float><int>b[j]
            t2 = q[j] - unit * <float><int>c[j]
            t3 = q[j] - unit * <float><int>e[j]
            s0 = s0 + t0 * t0
            s1 = s1 + t1 * t1
            s2 = s2 + t2 * t2
            s3 = s3 + t3 * t3
        out[i] = key_of(s0)
        out[i + 1] = key_of(s1)
        out[i + 2] = key_of(s2)
        out[i + 3] = key_of(s3)
        i += 4
    while i < n:
        a = rows + <Py_ssize_t>ids[i] * d
        s0 = 0
        for j in range(d):
            t0 = q[j] - unit * <float><int>a[j]
            s0 = s0 + t0 * t0
        out[i] = key_of(s0)
        i += 1


cdef void u8f_ip(const void* query, const void* base, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                 key_t* out) noexcept nogil:
    cdef const float* q = <const float*>query
    cdef const float* factors = (<const QueryTail*>(q + d)).factors
    cdef const uint8_t* rows = <const uint8_t*>base
    cdef Py_ssize_t i = 0, j, p, ahead = codes_ahead(d), first_bytes = d if d < CODES_ROW_BYTES else CODES_ROW_BYTES
    cdef const uint8_t* a
    cdef const uint8_t* b
    cdef const uint8_t* c
    cdef const uint8_t* e
    cdef float s0, s1, s2, s3
    p = n if n < ahead else ahead
    for j in range(p):
        prefetch_row(<const char*>(rows + <Py_ssize_t>ids[j] * d), first_bytes)
    while i + 4 <= n:
        a = rows + <Py_ssize_t>ids[i] * d
        b = rows + <Py_ssize_t>ids[i + 1] * d
        c = rows + <Py_ssize_t>ids[i + 2] * d
        e = rows + <Py_ssize_t>ids[i + 3] * d
        j = 0
        while j < 4 and p < n:
            prefetch_row(<const char*>(rows + <Py_ssize_t>ids[p] * d), first_bytes)
            p += 1
            j += 1
        s0 = s1 = s2 = s3 = 0
        for j in range(d):
            s0 = s0 + q[j] * <float>(<int>a[j] - 128)
            s1 = s1 + q[j] * <float>(<int>b[j] - 128)
            s2 = s2 + q[j] * <float>(<int>c[j] - 128)
            s3 = s3 + q[j] * <float>(<int>e[j] - 128)
        out[i] = key_of(-s0 * factors[ids[i]])
        out[i + 1] = key_of(-s1 * factors[ids[i + 1]])
        out[i + 2] = key_of(-s2 * factors[ids[i + 2]])
        out[i + 3] = key_of(-s3 * factors[ids[i + 3]])
        i += 4
    while i < n:
        a = rows + <Py_ssize_t>ids[i] * d
        s0 = 0
        for j in range(d):
            s0 = s0 + q[j] * <float>(<int>a[j] - 128)
        out[i] = key_of(-s0 * factors[ids[i]])
        i += 1


cdef inline void scale_keys(const QueryTail* tail, const slot_t* ids, Py_ssize_t n, int total,
                            key_t* out) noexcept nogil:
    """Turn sums of products, each `total` too large, into keys; apart from the sums, so that it is vectorised too."""
    cdef Py_ssize_t i
    cdef const float* factors = tail.factors
    cdef float x, scale = tail.scale, most = INT_END if tail.origin > <uint32_t>1 << 30 else 1073741824.
    cdef uint32_t origin = tail.origin
    for i in range(n):
        x = scale * factors[ids[i]] * <float>(<int>out[i] - total)
        x = x if x < most else most
        x = x if x > -INT_END else -INT_END
        out[i] = origin - <uint32_t><int>x


cdef void u8s_ip(const void* query, const void* base, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                 key_t* out) noexcept nogil:
    cdef const uint8_t* q = <const uint8_t*>query
    cdef const QueryTail* tail = <const QueryTail*>(q + d)
    cdef const uint8_t* rows = <const uint8_t*>base
    cdef Py_ssize_t i = 0, j, p, ahead = codes_ahead(d), first_bytes = d if d < CODES_ROW_BYTES else CODES_ROW_BYTES
    cdef const uint8_t* a
    cdef const uint8_t* b
    cdef const uint8_t* c
    cdef const uint8_t* e
    # As in `u8_ip`.
    cdef int s0, s1, s2, s3, total = 0
    cdef int8_t x
    for j in range(d):
        total += <int>q[j] - 128
    total *= 128
    p = n if n < ahead else ahead
    for j in range(p):
        prefetch_row(<const char*>(rows + <Py_ssize_t>ids[j] * d), first_bytes)
        prefetch(tail.factors + ids[j])
    while i + 4 <= n:
        a = rows + <Py_ssize_t>ids[i] * d
        b = rows + <Py_ssize_t>ids[i + 1] * d
        c = rows + <Py_ssize_t>ids[i + 2] * d
        e = rows + <Py_ssize_t>ids[i + 3] * d
        j = 0
        while j < 4 and p < n:
            prefetch_row(<const char*>(rows + <Py_ssize_t>ids[p] * d), first_bytes)
            prefetch(tail.factors + ids[p])
            p += 1
            j += 1
        s0 = s1 = s2 = s3 = 0
        for j in range(d):
            x = <int8_t>(q[j] ^ 0x80)
            s0 += <int>x * <int>a[j]
            s1 += <int>x * <int>b[j]
            s2 += <int>x * <int>c[j]
            s3 += <int>x * <int>e[j]
        out[i] = <key_t>s0
        out[i + 1] = <key_t>s1
        out[i + 2] = <key_t>s2
        out[i + 3] = <key_t>s3
        i += 4
    while i < n:
        a = rows + <Py_ssize_t>ids[i] * d
        s0 = 0
        for j in range(d):
            x = <int8_t>(q[j] ^ 0x80)
            s0 += <int>x * <int>a[j]
        out[i] = <key_t>s0
        i += 1
    scale_keys(tail, ids, n, total, out)


cdef float encode(const float* row, Py_ssize_t d, float low, float per_unit, uint8_t* codes) noexcept nogil:
    cdef Py_ssize_t j
    cdef float x, clipped, error, total = 0
    cdef int code
    for j in range(d):
        x = (row[j] - low) * per_unit
        clipped = x if x > 0 else 0
        clipped = clipped if clipped < 255 else 255
        code = <int>(clipped + <float>0.5)
        codes[j] = <uint8_t>code
        error = x - <float>code
        total = total + error * error
    return total


cdef Kernels TABLE
TABLE.f32_l2 = f32_l2
TABLE.f32_ip = f32_ip
TABLE.f16_l2 = f16_l2
TABLE.f16_ip = f16_ip
TABLE.u8_l2 = u8_l2
TABLE.u8_ip = u8_ip
TABLE.u8f_l2 = u8f_l2
TABLE.u8f_ip = u8f_ip
TABLE.u8s_ip = u8s_ip
TABLE.encode = encode
TABLE.widen = widen


def table():
    """Return the addresses of these kernels as a capsule for ``_distance``."""
    return PyCapsule_New(<void*>&TABLE, b"kektordb.kernels", NULL)
