"""How long calls take, counted in fixed buckets.

Counting takes no lock: with the GIL no count is lost, and without it one may be, now and then.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memset

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(_WIN32)
    #include <windows.h>
    static uint64_t kektor_now_ns(void) {
        static LARGE_INTEGER frequency;
        LARGE_INTEGER ticks;
        if (!frequency.QuadPart) QueryPerformanceFrequency(&frequency);
        QueryPerformanceCounter(&ticks);
        return (uint64_t)((double)ticks.QuadPart * 1e9 / (double)frequency.QuadPart);
    }
    #else
    #include <time.h>
    static inline uint64_t kektor_now_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    #endif
    #if defined(__GNUC__) || defined(__clang__)
    #define kektor_last_bit(x) (63 - __builtin_clzll(x))
    #else
    #include <intrin.h>
    static __inline int kektor_last_bit(uint64_t x) { unsigned long i; _BitScanReverse64(&i, x); return (int)i; }
    #endif
    """
    uint64_t kektor_now_ns() noexcept nogil
    int last_bit "kektor_last_bit"(uint64_t x) noexcept nogil


cdef uint64_t now_ns() noexcept nogil:
    """Return nanoseconds of a clock that never goes back."""
    return kektor_now_ns()


cdef inline int bucket_of(uint64_t ns) noexcept nogil:
    """Return the bucket of a duration: its highest bit and the two below it."""
    cdef int bit, bucket
    if ns < 4:
        return 0
    bit = last_bit(ns)
    bucket = (bit - 2) * 4 + <int>(ns >> (bit - 2) & 3)
    return bucket if bucket < N_BUCKETS else N_BUCKETS - 1


cdef uint64_t end_of(int bucket) noexcept nogil:
    """Return the nanoseconds at which the next bucket begins."""
    return <uint64_t>(5 + bucket % 4) << (bucket // 4)


cdef class Latencies:
    """A histogram of durations."""

    def __cinit__(self):
        memset(self.counts, 0, sizeof(self.counts))

    cdef void add(self, uint64_t ns) noexcept nogil:
        self.counts[bucket_of(ns)] += 1
        self.total_ns += ns
        if ns > self.longest_ns:
            self.longest_ns = ns

    def note(self, uint64_t ns):
        """Count a call that took so many nanoseconds."""
        self.add(ns)

    @property
    def count(self):
        """Calls so far."""
        cdef uint64_t total = 0
        cdef int i
        for i in range(N_BUCKETS):
            total += self.counts[i]
        return total

    @property
    def total_s(self):
        """Seconds of all together."""
        return self.total_ns * 1e-9

    @property
    def longest_s(self):
        """Seconds of the longest."""
        return self.longest_ns * 1e-9

    def buckets(self):
        """Return (seconds, calls that took less) where that number changes, ascending; empty without a call."""
        cdef uint64_t total = 0
        cdef int i
        found = []
        for i in range(N_BUCKETS):
            if self.counts[i]:
                total += self.counts[i]
                found.append((end_of(i) * 1e-9, total))
        return found

    def quantile(self, double share):
        """Return the seconds within which so large a share of the calls was done, at most a quarter too high; or 0."""
        cdef uint64_t total = self.count, seen = 0
        cdef int i
        for i in range(N_BUCKETS):
            seen += self.counts[i]
            if seen and seen >= share * total:
                return min(end_of(i), self.longest_ns) * 1e-9
        return 0.0
