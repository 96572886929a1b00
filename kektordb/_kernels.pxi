# The loops, compiled once per instruction set: plain typed code that the compiler vectorises (see setup.py for its
# flags). Four rows at once share each load of the query; the prefetch rolls ahead of the row being computed.

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint32_t

from kektordb._distance cimport Kernels
from kektordb._types cimport key_t, slot_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__GNUC__) || defined(__clang__)
    #define KEKTOR_PREFETCH(address) __builtin_prefetch(address)
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
    """
    void prefetch "KEKTOR_PREFETCH"(const void* address) noexcept nogil
    uint32_t key_of "kektor_key"(float value) noexcept nogil

cdef enum:
    LINE = 16                   # floats in one cache line
    # Prefetching: 8 rows of 128 dimensions ahead, and of each row the first lines; the hardware streams the others once
    # these were asked for. More of either was not faster on any data set of benchmarks/search.py, and often slower.
    AHEAD_FLOATS = 512
    ROW_FLOATS = 64


cdef inline void prefetch_row(const float* row, Py_ssize_t d) noexcept nogil:
    cdef Py_ssize_t i = 0
    if d > ROW_FLOATS:
        d = ROW_FLOATS
    while i < d:
        prefetch(row + i)
        i += LINE


cdef inline float l2_one(const float* q, const float* a, Py_ssize_t d) noexcept nogil:
    cdef Py_ssize_t j
    cdef float s = 0, t
    for j in range(d):
        t = q[j] - a[j]
        s = s + t * t
    return s


cdef inline float ip_one(const float* q, const float* a, Py_ssize_t d) noexcept nogil:
    cdef Py_ssize_t j
    cdef float s = 0
    for j in range(d):
        s = s + q[j] * a[j]
    return s


cdef void l2_many(const float* q, const float* base, Py_ssize_t stride, const slot_t* ids,
                  Py_ssize_t n, Py_ssize_t d, key_t* out) noexcept nogil:
    cdef Py_ssize_t i = 0, j, p, ahead = AHEAD_FLOATS // d + 4
    cdef const float* a
    cdef const float* b
    cdef const float* c
    cdef const float* e
    cdef float s0, s1, s2, s3, t0, t1, t2, t3
    p = n if n < ahead else ahead
    for j in range(p):
        prefetch_row(base + <Py_ssize_t>ids[j] * stride, d)
    while i + 4 <= n:
        a = base + <Py_ssize_t>ids[i] * stride
        b = base + <Py_ssize_t>ids[i + 1] * stride
        c = base + <Py_ssize_t>ids[i + 2] * stride
        e = base + <Py_ssize_t>ids[i + 3] * stride
        j = 0
        while j < 4 and p < n:
            prefetch_row(base + <Py_ssize_t>ids[p] * stride, d)
            p += 1
            j += 1
        s0 = s1 = s2 = s3 = 0
        for j in range(d):
            t0 = q[j] - a[j]
            t1 = q[j] - b[j]
            t2 = q[j] - c[j]
            t3 = q[j] - e[j]
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
        out[i] = key_of(l2_one(q, base + <Py_ssize_t>ids[i] * stride, d))
        i += 1


cdef void ip_many(const float* q, const float* base, Py_ssize_t stride, const slot_t* ids,
                  Py_ssize_t n, Py_ssize_t d, key_t* out) noexcept nogil:
    cdef Py_ssize_t i = 0, j, p, ahead = AHEAD_FLOATS // d + 4
    cdef const float* a
    cdef const float* b
    cdef const float* c
    cdef const float* e
    cdef float s0, s1, s2, s3
    p = n if n < ahead else ahead
    for j in range(p):
        prefetch_row(base + <Py_ssize_t>ids[j] * stride, d)
    while i + 4 <= n:
        a = base + <Py_ssize_t>ids[i] * stride
        b = base + <Py_ssize_t>ids[i + 1] * stride
        c = base + <Py_ssize_t>ids[i + 2] * stride
        e = base + <Py_ssize_t>ids[i + 3] * stride
        j = 0
        while j < 4 and p < n:
            prefetch_row(base + <Py_ssize_t>ids[p] * stride, d)
            p += 1
            j += 1
        s0 = s1 = s2 = s3 = 0
        for j in range(d):
            s0 = s0 + q[j] * a[j]
            s1 = s1 + q[j] * b[j]
            s2 = s2 + q[j] * c[j]
            s3 = s3 + q[j] * e[j]
        out[i] = key_of(-s0)
        out[i + 1] = key_of(-s1)
        out[i + 2] = key_of(-s2)
        out[i + 3] = key_of(-s3)
        i += 4
    while i < n:
        out[i] = key_of(-ip_one(q, base + <Py_ssize_t>ids[i] * stride, d))
        i += 1


cdef Kernels TABLE
TABLE.l2_many = l2_many
TABLE.ip_many = ip_many


def table():
    """Return the addresses of these kernels as a capsule for ``_distance``."""
    return PyCapsule_New(<void*>&TABLE, b"kektordb.kernels", NULL)
