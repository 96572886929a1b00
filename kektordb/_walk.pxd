"""One search of the graph: its C structures, and what insertion shares with it."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from kektordb._distance cimport TAIL_BYTES, QueryTail, many_t
from kektordb._types cimport key_t, slot_t, word_t

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__GNUC__) || defined(__clang__)
    #define kektor_prefetch(p) __builtin_prefetch((p), 0, 2)
    /* What a row got before it was linked to is there for whoever follows the link. */
    #define kektor_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define kektor_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define kektor_load_top(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define kektor_store_top(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define kektor_load_flag(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define kektor_set_flag(p) __atomic_store_n((p), 1, __ATOMIC_RELEASE)
    #define kektor_try_lock(p) (__atomic_exchange_n((p), 1, __ATOMIC_ACQUIRE) == 0)
    #define kektor_unlock(p) __atomic_store_n((p), 0, __ATOMIC_RELEASE)
    #define kektor_first_bit(w) __builtin_ctzll(w)
    #else
    #include <intrin.h>
    #define kektor_prefetch(p) ((void)(p))
    #define kektor_load(p) (*(volatile uint32_t*)(p))
    #define kektor_store(p, v) (*(volatile uint32_t*)(p) = (v))
    #define kektor_load_top(p) (*(volatile uint64_t*)(p))
    #define kektor_store_top(p, v) (*(volatile uint64_t*)(p) = (v))
    #define kektor_load_flag(p) (*(volatile uint8_t*)(p))
    #define kektor_set_flag(p) (*(volatile uint8_t*)(p) = 1)
    #define kektor_try_lock(p) (_InterlockedExchange8((char*)(p), 1) == 0)
    #define kektor_unlock(p) ((void)_InterlockedExchange8((char*)(p), 0))
    static __inline int kektor_first_bit(uint64_t w) { unsigned long i; _BitScanForward64(&i, w); return (int)i; }
    #endif
    #if defined(_WIN32)
    #include <windows.h>
    #define kektor_yield() SwitchToThread()
    #else
    #include <sched.h>
    #define kektor_yield() sched_yield()
    #endif
    /* Critical sections are microseconds; after a while the holder has lost its processor, so ours is given up too. */
    static inline void kektor_lock(uint8_t* lock) {
        int spins = 0;
        while (!kektor_try_lock(lock)) if (++spins > 200) { kektor_yield(); spins = 0; }
    }
    """
    void prefetch "kektor_prefetch"(const void* address) noexcept nogil
    slot_t load_slot "kektor_load"(const slot_t* address) noexcept nogil
    void store_slot "kektor_store"(slot_t* address, slot_t value) noexcept nogil
    void store_top "kektor_store_top"(uint64_t* address, uint64_t value) noexcept nogil
    uint64_t load_top "kektor_load_top"(const uint64_t* address) noexcept nogil
    bint load_flag "kektor_load_flag"(const uint8_t* address) noexcept nogil
    void set_flag "kektor_set_flag"(uint8_t* address) noexcept nogil
    void lock "kektor_lock"(uint8_t* address) noexcept nogil
    void unlock "kektor_unlock"(uint8_t* address) noexcept nogil
    int first_bit "kektor_first_bit"(uint64_t word) noexcept nogil

cdef enum:
    CHUNK = 256                 # rows handed to a kernel at once by everything but a walk
    MAX_LEVEL = 15
    LINE_SLOTS = 16             # slots in one cache line


cdef struct Space:
    # what distances are computed on: rows as they are stored, or their codes
    const char* rows
    Py_ssize_t d                # components of a padded row
    Py_ssize_t row_bytes
    many_t many
    bint halves                 # rows must be widened before they can be queries


cdef struct Core:
    Space exact
    Space codes
    bint coded                  # there are codes, and walks use them
    bint only_codes             # rows are bytes: both spaces are the same rows
    bint factored               # with factors, so that keys of codes are distances for cosine
    const float* factors        # by slot
    float unit                  # of bytes without factors
    double longest_square       # of rows with factors, squared
    double mean_square          # likewise
    bint product                # keys of codes are products, not distances
    bint cosine                 # keys of rows are products, those of codes are distances
    Py_ssize_t n_zero           # rows whose codes say nothing: zero rows, for cosine
    float low, per_unit         # code = round((component - low) * per_unit)
    double code_error           # mean squared error of a row, in units of a code
    const uint8_t* code_errors  # of each row, see `_codes.error_class`; NULL where codes are the rows
    double code_square          # mean squared length of a row, likewise; known for products only
    Py_ssize_t dim
    float (*encode)(const float* row, Py_ssize_t d, float low, float per_unit, uint8_t* codes) noexcept nogil
    void (*widen)(const uint16_t* row, Py_ssize_t d, float* out) noexcept nogil
    # graph; every list holds slots and ends with NO_SLOT unless it is full
    Py_ssize_t n                # slots in use, linked or not
    Py_ssize_t m, m0            # most neighbours above and on level 0
    Py_ssize_t width            # m0 in whole cache lines
    Py_ssize_t ef_construction
    slot_t* links               # level 0: `width` entries a slot
    slot_t* upper               # levels above: `m` entries a level
    uint32_t* upper_at          # first upper list of a slot, counted in lists
    uint8_t* levels
    uint64_t top                # level << 32 | entry point; all ones when empty
    uint8_t top_lock
    uint8_t* locks              # striped spin locks for changing lists
    # copy-on-write of level 0 while a frozen view is being saved
    Py_ssize_t cow_chunks       # 0: no view
    uint8_t* cow_done
    uint8_t* cow_locks
    slot_t* cow_shadow
    uint8_t* changed            # lists of level 0, bit 0: since they were saved whole, bit 1: since the last view

cdef struct Watch:
    # how a filtered walk knows when to stop
    const word_t* words         # rows that are allowed
    Py_ssize_t need             # so many allowed ones, expanded, are as good as a whole pool
    double most                 # expansions that cost as much as reading all allowed rows
    bint hopeless               # it would have taken more than that


cdef struct Patch:
    # lists of level 0 that a trial search sees instead of those of the graph, as if one row had never come in
    slot_t hidden               # that row
    Py_ssize_t n
    const slot_t* owners        # ascending
    const slot_t* lists         # `m0` slots each


cdef struct Scratch:
    Scratch* next
    uint8_t* visited            # epoch in which a slot was seen
    Py_ssize_t n_visited
    uint8_t epoch
    uint64_t* pool              # sorted: key << 32 | slot << 1 | expanded
    uint64_t* candidates
    Py_ssize_t n_pool
    slot_t* work
    key_t* keys
    slot_t* chosen
    key_t* chosen_keys
    float* query                # padded, as rows are
    float* asked                # what rows of bytes are compared with: the query, and a tail
    float* row                  # a row that is the query while neighbours are chosen
    uint8_t* code               # codes of the query, padded, and a tail
    const Patch* patch          # NULL but in trial searches
    double code_error           # squared error of these codes
    double code_square          # squared length of these codes; known for products only
    double code_scale           # by how much a key of codes grows with a product
    double code_origin          # key of codes of the product 0, where they have factors


cdef inline const Space* walked(const Core* g) noexcept nogil:
    """The space in which the graph is walked and built."""
    return &g.codes if g.coded else &g.exact


cdef inline const void* row_as_query(const Core* g, const Space* space, slot_t slot, float* buffer) noexcept nogil:
    """Return a row as what rows of a space are compared with: in place, or made in `buffer`."""
    cdef const char* row = space.rows + <Py_ssize_t>slot * space.row_bytes
    if space.halves:
        g.widen(<const uint16_t*>row, space.d, buffer)
        return buffer
    if g.factored and space == &g.codes:
        return row_as_code(g, slot, buffer)
    if g.only_codes and space == &g.exact:
        return row_as_floats(g, slot, buffer)
    return row


cdef inline const void* query_of(const Core* g, const Scratch* s) noexcept nogil:
    """Return the query as what stored rows are compared with."""
    return s.asked if g.only_codes else s.query


cdef inline const slot_t* list_of(const Core* g, slot_t slot, int level) noexcept nogil:
    if level == 0:
        return g.links + <Py_ssize_t>slot * g.width
    return g.upper + (<Py_ssize_t>g.upper_at[slot] + level - 1) * g.m


cdef inline int top_level(uint64_t top) noexcept nogil:
    return <int>(top >> 32)

cdef inline void new_epoch(Scratch* s) noexcept nogil:
    s.epoch += 1
    if s.epoch == 0:
        memset(s.visited, 0, s.n_visited)
        s.epoch = 1


cdef inline void sort_candidates(uint64_t* a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef uint64_t x
    for i in range(1, n):
        x = a[i]
        j = i - 1
        while j >= 0 and a[j] > x:
            a[j + 1] = a[j]
            j -= 1
        a[j + 1] = x


cdef inline slot_t slot_of(uint64_t entry) noexcept nogil:
    return <slot_t>(entry >> 1 & 0x7FFFFFFF)


cdef inline key_t key_of(uint64_t entry) noexcept nogil:
    return <key_t>(entry >> 32)


cdef inline uint64_t entry_of(key_t key, slot_t slot) noexcept nogil:
    return <uint64_t>key << 32 | <uint64_t>slot << 1


cdef const void* row_as_code(const Core* g, slot_t slot, float* buffer) noexcept nogil
cdef const void* row_as_floats(const Core* g, slot_t slot, float* buffer) noexcept nogil
cdef double key_scale(const Core* g, double square) noexcept nogil
cdef uint32_t key_origin(const Core* g) noexcept nogil
cdef Py_ssize_t search_level(const Core* g, const Space* space, Scratch* s, const void* query, int level,
                             Py_ssize_t n_entries, Py_ssize_t ef, Watch* watch) noexcept nogil
cdef uint64_t descend(const Core* g, const Space* space, Scratch* s, const void* query, uint64_t top,
                      int target) noexcept nogil
cdef Py_ssize_t descend_wide(const Core* g, const Space* space, Scratch* s, const void* query, uint64_t top,
                             int target) noexcept nogil
cdef void sort_entries(uint64_t* a, Py_ssize_t n) noexcept nogil
cdef void rekey(const Space* space, Scratch* s, const void* query, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t mark(Scratch* s, Py_ssize_t n) noexcept nogil
cdef bint fit_scratch(Scratch* s, const Core* g, Py_ssize_t n_rows, Py_ssize_t n_pool) noexcept nogil
cdef void free_scratch(Scratch* s) noexcept nogil
cdef void wipe_scratch(Scratch* s, const Core* g) noexcept nogil
