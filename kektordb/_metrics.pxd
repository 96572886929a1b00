"""How long calls take, counted in fixed buckets."""

from libc.stdint cimport uint64_t

cdef enum:
    # Four to each power of two of nanoseconds: a bucket ends at most a quarter above where it begins.
    N_BUCKETS = 160


cdef class Latencies:
    cdef uint64_t counts[N_BUCKETS]
    cdef uint64_t total_ns, longest_ns
    cdef void add(self, uint64_t ns) noexcept nogil


cdef uint64_t now_ns() noexcept nogil
