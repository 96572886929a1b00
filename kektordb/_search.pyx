"""How does a search of a collection go from a query to its results, in few instructions?

A walk through the graph leaves nothing else in the caches, so what comes before and after it costs by the memory that
it touches: C fields instead of a dict, one block of copies for each search instead of objects for each item.
"""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    Py_buffer,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from kektordb._bitmap cimport Bitmap
from kektordb._candidates cimport Hits
from kektordb._found cimport Numbers, collect, collect_many
from kektordb._hnsw cimport Graph
from kektordb._metrics cimport Latencies, now_ns
from kektordb._rwlock cimport LockState, RWLock
from kektordb._strings cimport Blobs, StringMap
from kektordb._types cimport slot_t

import numpy as np

from kektordb.errors import VectorError
from kektordb.results import Results

cdef enum:
    FEW = 256       # results for which the stack has room

cdef object _array = np.ndarray


def is_query(vector, Py_ssize_t dim):
    """Tell whether `vector` is what a graph takes as it is: a plain array, float32 (dim,), contiguous and aligned."""
    cdef Py_buffer view
    cdef bint fits
    if type(vector) is not _array:
        return False
    try:
        PyObject_GetBuffer(vector, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except (ValueError, BufferError):
        return False
    fits = (
        view.ndim == 1
        and view.shape[0] == dim
        and view.format[0] == c"f"
        and view.format[1] == 0
        and <size_t>view.buf % sizeof(float) == 0
    )
    PyBuffer_Release(&view)
    return fits


cdef class Searchable:
    """What a search reads of a collection, and the search; the rest of `Collection` changes it, under the write lock.

    Attributes
    ----------
    lock : RWLock
    graph : Graph or None
        None until the first vector has decided the dimension.
    dim : int
        Of the graph; 0 without one.
    ids : StringMap
        By slot, of the living items.
    metadata : MetadataStore
    alive : Bitmap
    n_alive : int
    is_product : bool
        Whether scores are those of the metric ``dot``.
    searches : Latencies
    n_batch_queries : int
        Queries that came in batches.
    """

    cdef public RWLock lock
    cdef public Graph graph
    cdef public Py_ssize_t dim
    cdef public StringMap ids
    cdef public object metadata
    cdef public Bitmap alive
    cdef public Py_ssize_t n_alive
    cdef public bint is_product
    cdef public Latencies searches
    cdef public long long n_batch_queries

    def __cinit__(self, *args, **options):
        self.searches = Latencies()

    def search(self, query, k, ef, plan, params, wanted):
        """Find the `k` nearest items.

        Parameters
        ----------
        query : float32 (dim,)
            As `is_query` wants it, of any dimension while there is no graph.
        k, ef : int
            `ef` is at least `k`, or 0: every item is compared.
        plan : Plan or None
            Of the filter.
        params : dict or None
        wanted : set of str
            ``metadata``, ``vector``.

        Returns
        -------
        Results

        Raises
        ------
        VectorError
            Also for NaN and Inf.
        FilterError
        """
        cdef LockState state = self.lock.state
        cdef uint64_t began = now_ns()
        if not state.try_read():
            with nogil:
                state.wait_read()
        try:
            if self.graph is None:
                return self._nothing(Results)
            self._check_dim(len(query))
            allowed, n_allowed = self.allowed(plan, params)
            found = self._find(query, k, ef, allowed, n_allowed, wanted)
            self.searches.add(now_ns() - began)
            return found
        finally:
            state.end_read()

    cdef object _find(self, query, Py_ssize_t k, Py_ssize_t ef, Bitmap allowed, Py_ssize_t n_allowed, wanted):
        """Search the graph and collect what was found; the read lock is held."""
        cdef Py_buffer view
        cdef slot_t few_slots[FEW]
        cdef float few_distances[FEW]
        cdef slot_t* slots = few_slots
        cdef float* distances = few_distances
        cdef Numbers numbers
        cdef Py_ssize_t found
        k = min(k, n_allowed)
        if k > FEW:
            # Room for both in one block.
            slots = <slot_t*>PyMem_Malloc(k * (sizeof(slot_t) + sizeof(float)))
            if slots == NULL:
                raise MemoryError("no memory for the results of a search")
            distances = <float*>(slots + k)
        try:
            PyObject_GetBuffer(query, &view, PyBUF_C_CONTIGUOUS)
            try:
                found = self.graph.find(<const float*>view.buf, k, ef, allowed, n_allowed, slots, distances)
            finally:
                PyBuffer_Release(&view)
            if found < 0:
                raise VectorError(self.refused("the query"))
            numbers = Numbers(found, slots, distances, NULL, NULL)
            return self._collect(Results, &numbers, wanted)
        finally:
            if slots != few_slots:
                PyMem_Free(slots)

    def gather(self, kind, Hits hits, wanted):
        """Return what was found as a subclass of `Results`; the read lock is held, since before the search.

        Parameters
        ----------
        kind : type
        hits : Hits or None
            None: nothing was found.
        wanted : set of str
            As for `search`.
        """
        cdef Numbers numbers
        if hits is None:
            return self._nothing(kind)
        numbers = Numbers(hits.n, hits.slots, hits.distances, hits.text_scores, hits.fused)
        return self._collect(kind, &numbers, wanted)

    cpdef tuple allowed(self, plan, params):
        """Return the slots that a search may give back, None for all, and how many; the read lock is held."""
        if plan is not None:
            return self._matches(plan, params)
        return None if self.n_alive == len(self.graph) else self.alive, self.n_alive

    def search_batch(self, queries, k, ef, plan, params, wanted, n_threads):
        """Find the `k` nearest items of each query, on `n_threads` threads; see `search`. Returns list of Results."""
        cdef Blobs rows = None
        with self.lock.read:
            if self.graph is None:
                return [self._nothing(Results) for _ in queries]
            self._check_dim(queries.shape[1])
            allowed, _ = self.allowed(plan, params)
            self.n_batch_queries += queries.shape[0]
            slots, distances, counts = self.graph.search_batch(queries, k, ef, n_threads, allowed)
            bad = np.flatnonzero(counts < 0)
            if len(bad):
                raise VectorError(self.refused(f"query {bad[0]}"))
            if "vector" in wanted:
                return [self._collect_row(slots[i, :n], distances[i, :n], wanted) for i, n in enumerate(counts)]
            store = self.metadata if "metadata" in wanted else None
            if store is not None:
                rows = store.rows
            return collect_many(Results, self.ids, rows, store, slots, distances, counts, self.is_product)

    cdef int _check_dim(self, Py_ssize_t dim) except -1:
        # Again, under the lock: the first item may have come in since the call began.
        if dim != self.dim:
            raise VectorError(f"expected {self.dim} dimensions, got {dim}")
        return 0

    cdef object _nothing(self, kind):
        cdef Numbers numbers = Numbers(0, NULL, NULL, NULL, NULL)
        return collect(kind, self.ids, None, None, &numbers, self.is_product, None)

    cdef object _collect_row(self, const slot_t[::1] slots, const float[::1] distances, wanted):
        cdef Numbers numbers
        if slots.shape[0] == 0:
            return self._nothing(Results)
        numbers = Numbers(slots.shape[0], &slots[0], &distances[0], NULL, NULL)
        return self._collect(Results, &numbers, wanted)

    cdef object _collect(self, kind, const Numbers* numbers, wanted):
        """Turn slots into results; the read lock is held. Every slot is alive, and so has an id."""
        cdef Blobs rows = None
        cdef Py_ssize_t n = numbers.n
        store, vectors = None, None
        if "metadata" in wanted:
            store = self.metadata
            rows = store.rows
        if "vector" in wanted:
            vectors = self.graph.vectors.get(np.array(<slot_t[:n]>numbers.slots) if n else np.empty(0, np.uint32))
        return collect(kind, self.ids, rows, store, numbers, self.is_product, vectors)
