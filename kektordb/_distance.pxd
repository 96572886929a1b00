"""The kernel table: distances from one query to many rows, compiled per instruction set, chosen at import."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from kektordb._types cimport key_t, slot_t

# out[i] = key of the distance between the query and row ids[i] of `rows`, for i < n: a smaller key is nearer. `d`
# counts the components of a padded row: whole cache lines, aligned to 64 bytes, zeros at the end; so is the query.
ctypedef void (*many_t)(const void* query, const void* rows, const slot_t* ids, Py_ssize_t n, Py_ssize_t d,
                        key_t* out) noexcept nogil

cdef struct QueryTail:
    # what stands behind the `d` components of a query that is compared with rows of bytes
    float scale
    uint32_t origin
    const float* factors    # by slot

cdef struct Kernels:
    # rows and query of float32; keys as `distance_of_key` reads them
    many_t f32_l2       # squared Euclidean distance
    many_t f32_ip       # negated inner product
    # rows of float16, query of float32
    many_t f16_l2
    many_t f16_ip
    # rows and query of 8-bit codes; keys are integers
    many_t u8_l2        # squared Euclidean distance of the codes
    many_t u8_ip        # 2^31 minus the product of the codes, each less 128
    # Rows of bytes on one scale, query of float32 less what code 0 stands for, with a tail: squared distance to what
    # the codes stand for. A code is `scale` more than the one before it.
    many_t u8f_l2
    # Rows of bytes on scales of their own, code c of row i standing for factors[i] * (c - 128); queries with a tail. Of
    # float32: the negated product; of codes, padded with 128: `origin` less the product of what both stand for times
    # `scale`, the query's own scale included.
    many_t u8f_ip
    many_t u8s_ip
    # Write the codes round((row - low) * per_unit), clipped; returns the squared error in units of a code.
    float (*encode)(const float* row, Py_ssize_t d, float low, float per_unit, uint8_t* codes) noexcept nogil
    # float16 to float32
    void (*widen)(const uint16_t* row, Py_ssize_t d, float* out) noexcept nogil

cdef const Kernels* active_kernels() noexcept nogil

cdef float distance_of_key(key_t key) noexcept nogil

# Bytes of room behind a query.
cdef enum:
    TAIL_BYTES = 64
