"""The graph: how are the nearest vectors found without looking at all of them?

Hierarchical navigable small worlds after Malkov & Yashunin, "Efficient and robust approximate nearest neighbor search
using Hierarchical Navigable Small World graphs" (2016). This is the owner of the arrays; how a row is inserted is in
`_insert`, how a level is searched in `_walk`, and how a query is answered in `_find`.

Who may call what together: `link`, `search` and `search_batch` with each other; `reserve`, `append`, `adopt`, `load`,
`freeze` and `thaw` with nothing. A frozen view is taken while no `link` runs, and read while any of them runs.
"""

from cpython.buffer cimport PyBUF_WRITE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.memoryview cimport PyMemoryView_FromMemory
from cython.parallel cimport prange, threadid
from libc.math cimport log
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset

from kektordb._bitmap cimport Bitmap
from kektordb._codes cimport TRAIN_ROWS, Codes
from kektordb._distance cimport active_kernels
from kektordb._find cimport find as find_rows, pool_size
from kektordb._insert cimport COW_SHIFT, N_LOCKS, cow_copy, draw_level, insert
from kektordb._memory cimport Region, is_refused
from kektordb._scale cimport Scale
from kektordb._team cimport team
from kektordb._turns cimport leave, wait_turn
from kektordb._types cimport NO_SLOT, slot_t, word_t
from kektordb._vectors cimport Vectors
from kektordb._walk cimport (
    LINE_SLOTS,
    MAX_LEVEL,
    Scratch,
    fit_scratch,
    free_scratch,
    key_of,
    list_of,
    load_slot,
    load_top,
    lock,
    slot_of,
    top_level,
    unlock,
    wipe_scratch,
)
from kektordb.errors import CorruptSnapshot
from kektordb.types import Section

import numpy as np

cdef enum:
    ALONE = 256   # first rows of a graph, linked by one thread: rows that do not see each other make islands
    MAX_ROWS = 0x7FFFFFFF
    CHANGED_SHARE = 3           # a view holds the lists that changed when they are at most a third of all

cdef uint64_t EMPTY = <uint64_t>-1


# ------------------------------------------------------------------------------------------------------- the graph

cdef class Graph:
    """An HNSW graph over the rows of `vectors`.

    Parameters
    ----------
    vectors : Vectors
        Where the rows live; only this graph appends to them.
    m : int
        Neighbours of a row on the levels above 0; twice as many on level 0.
    ef_construction : int
        Candidates kept while a row is inserted.
    seed : int
        Of the levels. The same seed, order of insertion and one thread give the same graph.
    coded : bool
        Walk on 8-bit codes, where they are shorter than the rows, once there are rows enough to choose their range:
        `train`.
    """

    def __cinit__(self, Vectors vectors, Py_ssize_t m, Py_ssize_t ef_construction, uint64_t seed, bint coded=True):
        self.vectors = vectors
        self.seed = seed
        self.links = Region()
        self.upper = Region()
        self.upper_at = Region()
        self.levels = Region()
        self.changed = Region()
        self.shadow = Region()
        self.n_frozen = -1
        self.core.m = m
        self.core.m0 = 2 * m
        self.core.width = (2 * m + LINE_SLOTS - 1) // LINE_SLOTS * LINE_SLOTS
        self.core.ef_construction = ef_construction
        self.core.product = vectors.metric_is_dot
        self.core.cosine = vectors.normalise
        self.core.codes.d = self.core.codes.row_bytes = (vectors.dim + 63) // 64 * 64
        self.is_coded = coded
        self.core.dim = vectors.dim
        self.core.encode = active_kernels().encode
        self.core.widen = active_kernels().widen
        self.core.top = EMPTY
        self.attach()
        self.core.locks = <uint8_t*>PyMem_Calloc(N_LOCKS, 1)
        if self.core.locks == NULL:
            raise MemoryError()

    cdef void attach(self):
        """Take in what these vectors are; where their rows are is for `point` to say."""
        cdef Vectors vectors = self.vectors
        self.core.exact.many = vectors.many
        self.core.exact.d = vectors.stride
        self.core.exact.row_bytes = vectors.stride * vectors.item_bytes
        self.core.exact.halves = vectors.halves
        self.core.only_codes = vectors.coded
        self.core.factored = vectors.factored
        self.core.unit = vectors.unit
        if vectors.factored:
            self.core.codes.many = active_kernels().u8s_ip
        else:
            self.core.codes.many = active_kernels().u8_ip if vectors.metric_is_dot else active_kernels().u8_l2
        # Codes that take as many cache lines as the rows themselves would only be less exact.
        self.wants_codes = (self.is_coded and not vectors.coded
                            and self.core.codes.row_bytes < self.core.exact.row_bytes)

    def __dealloc__(self):
        cdef Scratch* s = self.free
        cdef Scratch* following
        while s != NULL:
            following = s.next
            free_scratch(s)
            s = following
        if self.writer != NULL:
            free_scratch(self.writer)
        PyMem_Free(self.core.locks)
        PyMem_Free(self.core.cow_done)
        PyMem_Free(self.core.cow_locks)

    # ---- scratch: one per running search, kept for the next one

    cdef Scratch* take(self, Py_ssize_t n_pool) noexcept nogil:
        """Take scratch with room for a pool of `n_pool`; NULL when there is no memory."""
        cdef Scratch* s
        lock(&self.free_lock)
        s = self.free
        if s != NULL:
            self.free = s.next
        unlock(&self.free_lock)
        if s == NULL and not is_refused():
            s = <Scratch*>calloc(1, sizeof(Scratch))
        if s != NULL and not fit_scratch(s, &self.core, self.core.n, n_pool):
            free_scratch(s)
            s = NULL
        return s

    cdef void give(self, Scratch* s) noexcept nogil:
        lock(&self.free_lock)
        s.next = self.free
        self.free = s
        unlock(&self.free_lock)

    # ---- writing

    def __len__(self):
        return self.core.n

    def reserve(self, Py_ssize_t n_more):
        """Get all memory that appending `n_more` rows will take; raises MemoryError and changes nothing else."""
        cdef Py_ssize_t i, n = self.core.n + n_more, lists = self.n_upper
        cdef double factor = 1 / log(self.core.m)
        if n > MAX_ROWS:
            raise MemoryError(f"an index holds at most {MAX_ROWS} rows")
        for i in range(n_more):
            lists += draw_level(self.seed, self.n_drawn + i, factor)
        try:
            self.vectors.reserve(n)
            if self.codes is not None:
                self.codes.reserve(n)
            self.links.grow(<size_t>n * self.core.width * sizeof(slot_t))
            self.upper.grow(<size_t>lists * self.core.m * sizeof(slot_t))
            self.upper_at.grow(<size_t>n * sizeof(uint32_t))
            self.levels.grow(<size_t>n)
            self.changed.grow(<size_t>n)
        finally:
            self.point()  # some may have moved, others not
        if self.writer == NULL:
            self.writer = self.take(self.core.ef_construction)
        if self.writer == NULL or not fit_scratch(self.writer, &self.core, n, self.core.ef_construction):
            raise MemoryError("no memory to link rows")

    def touch(self, Py_ssize_t n_more):
        """Have the pages brought in that the next `n_more` rows will be written to; room was reserved.

        The system clears up to 2 MiB for one row, which takes a while: searches may run meanwhile, unlike in `append`.
        """
        cdef size_t first = self.core.n, stop = self.core.n + n_more
        cdef size_t row_bytes = self.vectors.stride * self.vectors.item_bytes
        cdef size_t list_bytes = self.core.width * sizeof(slot_t)
        with nogil:
            self.vectors.region.touch(first * row_bytes, stop * row_bytes)
            self.links.touch(first * list_bytes, stop * list_bytes)
            if self.codes is not None:
                self.codes.region.touch(first * self.codes.stride, stop * self.codes.stride)
                self.codes.error_region.touch(first, stop)

    cdef int point(self) except -1:
        cdef Scale scale = self.vectors.scale
        self.core.exact.rows = self.vectors.rows
        self.core.coded = self.codes is not None or (self.vectors.coded and self.is_coded)
        if self.vectors.coded:
            self.core.codes.rows = self.vectors.rows
            self.core.factors = self.vectors.factors
            self.core.longest_square = self.vectors.longest_square
            self.core.mean_square = self.vectors.total_square / self.core.n if self.core.n else 0
        elif self.codes is not None:
            scale = self.codes.scale
            self.core.codes.rows = <const char*>self.codes.rows
        self.core.code_errors = NULL if self.codes is None else self.codes.errors
        if scale is not None:
            self.core.low = <float>scale.low
            self.core.per_unit = <float>(1 / scale.unit)
            self.core.code_error = scale.mean_error()
            self.core.n_zero = scale.n_zero
            self.core.code_square = scale.mean_square()
        self.core.links = <slot_t*>self.links.data
        self.core.upper = <slot_t*>self.upper.data
        self.core.upper_at = <uint32_t*>self.upper_at.data
        self.core.levels = <uint8_t*>self.levels.data
        self.core.changed = <uint8_t*>self.changed.data
        return 0

    def append(self, const float[:, ::1] rows):
        """Put prepared rows into the next slots, unlinked, and return the first slot. Room was reserved."""
        cdef Py_ssize_t first = self.core.n, i, n = rows.shape[0]
        cdef double factor = 1 / log(self.core.m)
        cdef int level
        self.vectors.put(first, rows)
        for i in range(first, first + n):
            level = draw_level(self.seed, self.n_drawn + (i - first), factor)
            self.core.levels[i] = level
            self.core.upper_at[i] = self.n_upper
            if level:
                memset(self.core.upper + self.n_upper * self.core.m, 0xFF, level * self.core.m * sizeof(slot_t))
            self.n_upper += level
        memset(self.core.links + first * self.core.width, 0xFF, n * self.core.width * sizeof(slot_t))
        memset(self.core.changed + first, 3, n)
        self.n_drawn += n
        if self.codes is not None:
            self.codes.append(first + n)
        self.core.n = first + n
        self.point()
        return first

    # ---- codes

    def train(self, rows=None):
        """Make codes when there shall be some and there are not, or their range no longer fits.

        Nothing changes yet, and searches may run meanwhile, but no other call that changes the graph: `adopt` what is
        returned.

        Parameters
        ----------
        rows : float32 (n, dim), optional
            Prepared rows that are about to be appended: they help to choose the range.

        Returns
        -------
        Codes or None
        """
        cdef Py_ssize_t n = self.core.n
        if not self.wants_codes:
            return None
        if self.codes is None:
            if n + (0 if rows is None else len(rows)) < TRAIN_ROWS:
                return None
        elif not self.codes.drifted():
            return None
        return Codes.train(self.vectors, n, rows)

    def adopt(self, Codes codes not None):
        """Walk on these codes of all rows from now on."""
        codes.reserve(self.vectors.region.size // self.core.exact.row_bytes)
        self.codes = codes
        self.point()

    def codes_of(self, Vectors vectors not None, Py_ssize_t n):
        """Make the codes on which this graph would walk with its `n` rows in other vectors; None for none."""
        if (self.is_coded and not vectors.coded and n >= TRAIN_ROWS
                and self.core.codes.row_bytes < vectors.stride * vectors.item_bytes):
            return Codes.train(vectors, n)
        return None

    def exchange(self, Vectors vectors not None, Codes codes=None):
        """Have the same rows in other vectors from now on, and walk on `codes` of them.

        The vectors have room for as many rows as this graph. Nothing else runs meanwhile.
        """
        cdef Scratch* s = self.free
        self.vectors = vectors
        self.codes = codes
        self.attach()
        self.point()
        while s != NULL:
            wipe_scratch(s, &self.core)
            s = s.next
        if self.writer != NULL:
            wipe_scratch(self.writer, &self.core)

    def link(self, Py_ssize_t first, Py_ssize_t n, int n_threads):
        """Link `n` appended rows into the graph. Releases the GIL; searches may run meanwhile.

        With one thread the graph depends only on seed and order. Where there is memory for fewer threads there are
        fewer; there is for one after `reserve`, else MemoryError is raised before anything moved.
        """
        cdef Scratch** scratches = <Scratch**>PyMem_Calloc(n_threads, sizeof(Scratch*))
        cdef Py_ssize_t i, alone
        cdef int t, n_team
        if scratches == NULL:
            raise MemoryError()
        try:
            scratches[0], self.writer = self.writer, NULL
            for t in range(n_threads):
                if scratches[t] == NULL:
                    scratches[t] = self.take(self.core.ef_construction)
                if scratches[t] == NULL:
                    n_threads = t
                    break
            if n_threads == 0:
                raise MemoryError("no memory to insert rows")
            with nogil:
                alone = first
                while alone < first + n and (n_threads == 1 or alone < ALONE):
                    insert(&self.core, scratches[0], <slot_t>alone)
                    alone += 1
                if alone < first + n:
                    n_team = team(n_threads)
                    for i in prange(alone, first + n, num_threads=n_team, schedule="dynamic", chunksize=1):
                        insert(&self.core, scratches[threadid()], <slot_t>i)
        finally:
            self.writer = scratches[0]
            for t in range(1, n_threads):
                if scratches[t] != NULL:
                    self.give(scratches[t])
            PyMem_Free(scratches)

    # ---- searching

    def search(self, const float[::1] query, Py_ssize_t k, Py_ssize_t ef, Bitmap allowed=None,
               Py_ssize_t n_allowed=-1):
        """Find the `k` nearest rows.

        Parameters
        ----------
        query : float32 (dim,)
            As the user gave it; checked and normalised here.
        k, ef : int
            Results wanted, and candidates kept by the walk; `ef` is at least `k`, or 0: every row is compared.
        allowed : Bitmap, optional
            Only these slots are returned; its length is ``len(self)``.
        n_allowed : int, optional
            How many bits of `allowed` are set, when the caller knows.

        Returns
        -------
        slots : uint32 (n,)
        distances : float32 (n,)
            Nearest first, ties by slot; ``n = min(k, allowed rows)``. Both None when the query holds NaN or Inf or is
            too long for float32 distances.
        """
        cdef Py_ssize_t found
        if n_allowed < 0:
            n_allowed = self.core.n if allowed is None else allowed.count()
        if query.shape[0] != self.core.dim:
            raise ValueError(f"expected {self.core.dim} dimensions, got {query.shape[0]}")
        # One more than there may be: an address is taken of the first.
        slots = np.empty(min(k, n_allowed) + 1, dtype=np.uint32)
        distances = np.empty(min(k, n_allowed) + 1, dtype=np.float32)
        cdef slot_t[::1] slots_view = slots
        cdef float[::1] distances_view = distances
        found = self.find(&query[0], k, ef, allowed, n_allowed, &slots_view[0], &distances_view[0])
        if found < 0:
            return None, None
        return slots[:found], distances[:found]

    cdef Py_ssize_t find(self, const float* query, Py_ssize_t k, Py_ssize_t ef, Bitmap allowed, Py_ssize_t n_allowed,
                         slot_t* slots, float* distances) except -2:
        cdef Py_ssize_t n_pool
        cdef long long found = -1
        cdef Scratch* s
        cdef const word_t* words = NULL if allowed is None else allowed.words
        k = min(k, n_allowed)
        ef = min(max(ef, k, 1), max(self.core.n, 1)) if ef else 0
        n_pool = pool_size(self.core.n, k, ef, n_allowed)
        leave()
        with nogil:
            s = self.take(n_pool)
            if s != NULL:
                self.search_row(s, query, k, k, ef, words, n_allowed, slots, distances, &found)
                self.give(s)
            wait_turn()
        if s == NULL:
            raise MemoryError("no memory to search")
        return found

    def search_batch(self, const float[:, ::1] queries, Py_ssize_t k, Py_ssize_t ef, int n_threads,
                     Bitmap allowed=None):
        """Find the `k` nearest rows of each query, on `n_threads` threads and without the GIL.

        Returns
        -------
        slots : uint32 (n, k)
        distances : float32 (n, k)
        counts : int64 (n,)
            How many of a row are filled; -1 for a query that holds NaN or Inf.
        """
        cdef Py_ssize_t n = queries.shape[0], i, n_pool
        cdef Py_ssize_t n_allowed = self.core.n if allowed is None else allowed.count()
        cdef const word_t* words = NULL if allowed is None else allowed.words
        k = min(k, n_allowed)
        ef = min(max(ef, k, 1), max(self.core.n, 1)) if ef else 0
        slots = np.empty((n, k), dtype=np.uint32)
        distances = np.empty((n, k), dtype=np.float32)
        counts = np.zeros(n, dtype=np.int64)
        if n == 0 or k == 0:
            return slots, distances, counts
        cdef slot_t[:, ::1] slots_view = slots
        cdef float[:, ::1] distances_view = distances
        cdef long long[::1] counts_view = counts
        cdef Scratch** scratches = <Scratch**>PyMem_Calloc(n_threads, sizeof(Scratch*))
        cdef int t, n_team
        if scratches == NULL:
            raise MemoryError()
        n_pool = pool_size(self.core.n, k, ef, n_allowed)
        try:
            for t in range(n_threads):
                scratches[t] = self.take(n_pool)
                if scratches[t] == NULL:
                    raise MemoryError("no memory to search")
            with nogil:
                n_team = team(n_threads)
                for i in prange(n, num_threads=n_team, schedule="dynamic", chunksize=8):
                    self.search_row(scratches[threadid()], &queries[i, 0], k, k, ef, words, n_allowed,
                                    &slots_view[i, 0], &distances_view[i, 0], &counts_view[i])
        finally:
            for t in range(n_threads):
                if scratches[t] != NULL:
                    self.give(scratches[t])
            PyMem_Free(scratches)
        return slots, distances, counts

    cdef void search_row(self, Scratch* s, const float* query, Py_ssize_t k, Py_ssize_t sure, Py_ssize_t ef,
                         const word_t* words, Py_ssize_t n_allowed, slot_t* slots, float* distances,
                         long long* count) noexcept nogil:
        cdef Py_ssize_t i, found
        count[0] = -1
        if self.vectors.prepare(query, s.query):
            found = find_rows(&self.core, s, k, sure, ef, words, n_allowed)
            for i in range(found):
                slots[i] = slot_of(s.pool[i])
                distances[i] = self.vectors.distance(key_of(s.pool[i]))
            count[0] = found

    # ---- snapshots

    def meta(self):
        """Return what is not in a section: rows, upper lists, entry point and top level."""
        codes = None if self.codes is None else self.codes.meta()
        return {
            "n": self.core.n,
            "n_upper": self.n_upper,
            "n_drawn": self.n_drawn,
            "top": self.core.top,
            "vectors": self.vectors.meta(),
            "codes": codes,
        }

    def freeze(self, bint whole=True):
        """Freeze a view: list its sections. They stay as they are now until `thaw`, while rows are added.

        Level 0 is copied on write, chunk by chunk; the small rest is copied at once. Rows and levels never change.
        Unless the view must be `whole`, and when few lists have changed since level 0 was saved whole, it names that
        section as it is and adds the lists that changed: an insertion changes a list here and there, in every block.
        """
        cdef Py_ssize_t n = self.core.n, chunks = (n + (1 << COW_SHIFT) - 1) >> COW_SHIFT, i, n_changed = 0
        cdef Py_ssize_t list_bytes = self.core.width * <Py_ssize_t>sizeof(slot_t)
        self.thaw()
        upper = (<char*>self.core.upper)[:self.n_upper * self.core.m * sizeof(slot_t)] if self.n_upper else b""
        if chunks:
            # The last chunk may be copied when more rows have come in.
            self.shadow.grow((chunks << COW_SHIFT) * list_bytes)
            self.core.cow_shadow = <slot_t*>self.shadow.data
            self.core.cow_done = <uint8_t*>PyMem_Calloc(chunks, 1)
            self.core.cow_locks = <uint8_t*>PyMem_Calloc(chunks, 1)
            if self.core.cow_done == NULL or self.core.cow_locks == NULL:
                self.thaw()
                raise MemoryError("no memory for a frozen view")
            self.core.cow_chunks = chunks
        for i in range(n):
            n_changed += self.core.changed[i] & 1
            self.core.changed[i] &= 1
        sections = [
            *self.vectors.freeze(n),
            Section("graph/upper", 4, len(upper), lambda start, stop: upper[start:stop]),
            Section("graph/upper_at", 4, n * sizeof(uint32_t), self._read_upper_at),
            Section("graph/levels", 1, n, self._read_levels),
        ]
        if whole or not self.n_whole or n_changed * CHANGED_SHARE > n:
            self.n_frozen = n
            return [Section("graph/links", 4, n * list_bytes, self._read_links), *sections]
        slots = np.flatnonzero(np.frombuffer(<uint8_t[:n]>self.core.changed, np.uint8)).astype(np.uint32)
        return [
            Section("graph/links", 4, self.n_whole * list_bytes, None),
            Section("graph/changed", 4, slots.nbytes, lambda start, stop: slots.data.cast("B")[start:stop]),
            Section("graph/changed_links", 4, n_changed * list_bytes, self._reader_of_lists(slots)),
            *sections,
        ]

    def _read_links(self, Py_ssize_t start, Py_ssize_t stop):
        cdef Py_ssize_t chunk, chunk_bytes = (self.core.width << COW_SHIFT) * <Py_ssize_t>sizeof(slot_t)
        for chunk in range(start // chunk_bytes, (stop + chunk_bytes - 1) // chunk_bytes):
            cow_copy(&self.core, chunk)
        copied = (<char*>self.core.cow_shadow)[start:stop]
        self.shadow.release(start, stop)  # each byte is read once
        return copied

    def _reader_of_lists(self, slots):
        """Make the read function of a section that holds the lists of `slots`, one after the other."""
        def read(Py_ssize_t start, Py_ssize_t stop):
            cdef Py_ssize_t list_bytes = self.core.width * <Py_ssize_t>sizeof(slot_t), first = start // list_bytes
            cdef const slot_t[::1] wanted = slots[first:(stop + list_bytes - 1) // list_bytes]
            cdef Py_ssize_t i
            copied = bytearray(wanted.shape[0] * list_bytes)
            cdef char[::1] target = copied
            for i in range(wanted.shape[0]):
                cow_copy(&self.core, wanted[i] >> COW_SHIFT)
                memcpy(&target[i * list_bytes], self.core.cow_shadow + wanted[i] * self.core.width, list_bytes)
            return copied[start - first * list_bytes:stop - first * list_bytes]
        return read

    def saved(self):
        """Take note that the frozen view is in the newest snapshot. No `link` runs meanwhile."""
        cdef Py_ssize_t i
        if self.n_frozen >= 0:
            self.n_whole = self.n_frozen
            for i in range(self.core.n):
                self.core.changed[i] >>= 1

    def _read_upper_at(self, size_t start, size_t stop):
        return (<char*>self.core.upper_at)[start:stop]

    def _read_levels(self, size_t start, size_t stop):
        return (<char*>self.core.levels)[start:stop]

    def thaw(self):
        """Give up the frozen view. No `link` runs meanwhile."""
        self.core.cow_chunks = 0
        self.n_frozen = -1
        self.shadow.release(0, self.shadow.size)
        PyMem_Free(self.core.cow_done)
        PyMem_Free(self.core.cow_locks)
        self.core.cow_done = NULL
        self.core.cow_locks = NULL

    def load(self, dict meta, object reader):
        """Fill an empty graph from a snapshot. Raises CorruptSnapshot when a list points outside."""
        cdef Py_ssize_t n = meta["n"], n_upper = meta["n_upper"]
        cdef object upper = n_upper
        # What follows takes memory for so many; a number of Python does not overflow.
        require_size(reader, "graph/levels", n)
        require_size(reader, "graph/upper", upper * self.core.m * sizeof(slot_t))
        cdef Py_ssize_t list_bytes = self.core.width * <Py_ssize_t>sizeof(slot_t)
        if "vectors" in meta:
            self.exchange(Vectors.of_meta(self.core.dim, self.vectors.metric, meta["vectors"]))
        self.vectors.load(reader, n)
        self.n_upper = n_upper
        self.n_whole = reader.size("graph/links") // list_bytes
        if self.n_whole > n:
            raise CorruptSnapshot(f"the graph of a snapshot is damaged: {self.n_whole} lists of {n} rows")
        self.links.grow(n * list_bytes)
        self.changed.grow(n)
        load_region(reader, "graph/links", self.links, self.n_whole * list_bytes)
        load_region(reader, "graph/upper", self.upper, n_upper * self.core.m * sizeof(slot_t))
        load_region(reader, "graph/upper_at", self.upper_at, n * sizeof(uint32_t))
        load_region(reader, "graph/levels", self.levels, n)
        self.core.n = n
        self.core.top = meta["top"]
        self.n_drawn = meta.get("n_drawn", n)
        self.point()
        self._load_changed(reader)
        fault = self.fault()
        if fault:
            raise CorruptSnapshot(f"the graph of a snapshot is damaged: {fault}")
        self._load_codes(meta)

    def _load_codes(self, dict meta):
        """Make the codes of all rows again; a snapshot of an older version knows no range."""
        cdef Codes codes = None
        if "codes" not in meta:
            codes = self.train()
        elif meta["codes"] is not None and self.wants_codes:
            codes = Codes(self.vectors, **meta["codes"])
            codes.append(self.core.n)
        if codes is not None:
            self.adopt(codes)

    def _load_changed(self, reader):
        """Put the lists that changed after level 0 was saved whole in their places."""
        cdef Py_ssize_t list_bytes = self.core.width * <Py_ssize_t>sizeof(slot_t), i, n = self.core.n
        cdef Py_ssize_t n_changed = reader.size("graph/changed") // <Py_ssize_t>sizeof(slot_t)
        if reader.size("graph/changed_links") != n_changed * list_bytes:
            raise CorruptSnapshot("the graph of a snapshot is damaged: changed rows and lists differ in number")
        cdef const slot_t[::1] slots
        cdef const unsigned char[::1] lists
        if n_changed:
            slots = np.frombuffer(reader.read("graph/changed"), np.uint32)
            lists = reader.read("graph/changed_links")
        for i in range(n_changed):
            if slots[i] >= n:
                raise CorruptSnapshot(f"the graph of a snapshot is damaged: row {slots[i]} of {n} changed")
            memcpy(self.core.links + slots[i] * self.core.width, &lists[i * list_bytes], list_bytes)
            self.core.changed[slots[i]] = 1
        for i in range(self.n_whole, n):
            if not self.core.changed[i]:
                raise CorruptSnapshot(f"the graph of a snapshot is damaged: row {i} has no list")

    def fault(self):
        """Say which invariant of the graph is broken; "" when all hold."""
        cdef Py_ssize_t i, j, lists = 0, n = self.core.n
        cdef slot_t slot
        cdef const slot_t* links
        cdef int level, worst = -1
        cdef uint64_t top = load_top(&self.core.top)
        if (top == EMPTY) != (n == 0):
            return "the entry point does not fit the number of rows"
        with nogil:
            for i in range(n):
                level = self.core.levels[i]
                if level > MAX_LEVEL or <Py_ssize_t>self.core.upper_at[i] + level > self.n_upper:
                    worst = 0
                    break
                lists += level
            if worst < 0 and lists != self.n_upper:
                worst = 0
            if worst < 0 and n > 0 and (<slot_t>top >= n
                                        or self.core.levels[<slot_t>top] != top_level(top)):
                worst = 1
            if worst < 0:
                for i in range(n):
                    links = self.core.links + i * self.core.width
                    for j in range(self.core.m0):
                        slot = load_slot(&links[j])
                        if slot != NO_SLOT and slot >= n:
                            worst = 2
                    for level in range(1, self.core.levels[i] + 1):
                        links = list_of(&self.core, <slot_t>i, level)
                        for j in range(self.core.m):
                            slot = load_slot(&links[j])
                            if slot != NO_SLOT and (slot >= n or self.core.levels[slot] < level):
                                worst = 2
        if worst < 0:
            return ""
        return ("levels and upper lists differ", "the entry point is not on the top level",
                "a list points to a row that is not there")[worst]

    # ---- looking inside

    def neighbours(self, Py_ssize_t slot, int level=0):
        """Return the slots that a row links to on a level."""
        cdef const slot_t* links = list_of(&self.core, <slot_t>slot, level)
        cdef Py_ssize_t most = self.core.m if level else self.core.m0
        cdef Py_ssize_t j
        cdef slot_t to
        found = []
        for j in range(most):
            to = load_slot(&links[j])
            if to != NO_SLOT:
                found.append(to)
        return found

    def level(self, Py_ssize_t slot):
        """Return the highest level of a row."""
        return self.core.levels[slot]

    def memory_bytes(self):
        """Return the bytes that links and codes take, without the rows."""
        cdef Py_ssize_t codes = self.core.codes.row_bytes + 1 if self.codes is not None else 0
        # A slot costs its list, codes and their error, where its upper lists begin, its level, and whether its list has
        # changed.
        return (self.core.n * (self.core.width * sizeof(slot_t) + codes + sizeof(uint32_t) + 2)
                + self.n_upper * self.core.m * sizeof(slot_t))


cdef require_size(object reader, str name, object n_bytes):
    if reader.size(name) != n_bytes:
        raise CorruptSnapshot(f"{name}: expected {n_bytes} bytes, got {reader.size(name)}")


cdef load_region(object reader, str name, Region region, Py_ssize_t n_bytes):
    require_size(reader, name, n_bytes)
    region.grow(n_bytes)
    if n_bytes:
        reader.read_into(name, PyMemoryView_FromMemory(region.data, n_bytes, PyBUF_WRITE))
