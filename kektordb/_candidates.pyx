"""Which items did either side of a search find, and what did only one of them see?"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.math cimport NAN
from libc.stdint cimport uint32_t, uint64_t

from kektordb._walk cimport sort_entries

import numpy as np


def merge(const uint32_t[::1] near, const float[::1] distances, const uint32_t[::1] best, const float[::1] scores):
    """Join the candidates of the vector side and of the text side, each with different slots, in any order.

    Parameters
    ----------
    near, best : uint32 (n,) and (m,)
        Slots, below 2^31.
    distances, scores : float32 (n,) and (m,)

    Returns
    -------
    slots : uint32 (c,)
        Of both sides, ascending.
    distances, scores : float32 (c,)
        NaN where a side did not find the slot.
    no_distance, no_score : uint32 (…,)
        The places of these.
    """
    cdef Py_ssize_t n = near.shape[0], m = best.shape[0], i = 0, j = 0, at = 0, n_far = 0, n_other = 0
    cdef uint32_t a, b
    slots = np.empty(n + m, np.uint32)
    all_distances, all_scores = np.empty((2, n + m), np.float32)
    no_distance, no_score = np.empty(m, np.uint32), np.empty(n, np.uint32)
    cdef uint32_t[::1] slots_view = slots
    cdef float[::1] distances_view = all_distances
    cdef float[::1] scores_view = all_scores
    cdef uint32_t[::1] far = no_distance
    cdef uint32_t[::1] other = no_score
    cdef uint64_t* entries = <uint64_t*>PyMem_Malloc((n + m + 1) * sizeof(uint64_t))
    if entries == NULL:
        raise MemoryError("no memory for candidates")
    with nogil:
        for i in range(n):
            entries[i] = <uint64_t>near[i] << 32 | <uint64_t>i
        for j in range(m):
            entries[n + j] = <uint64_t>best[j] << 32 | <uint64_t>j
        sort_entries(entries, n)
        sort_entries(entries + n, m)
        i = j = 0
        while i < n or j < m:
            a = <uint32_t>(entries[i] >> 32) if i < n else 0xFFFFFFFFu
            b = <uint32_t>(entries[n + j] >> 32) if j < m else 0xFFFFFFFFu
            slots_view[at] = a if a < b else b
            distances_view[at] = scores_view[at] = NAN
            if a <= b:
                distances_view[at] = distances[<uint32_t>entries[i]]
                i += 1
            else:
                far[n_far] = <uint32_t>at
                n_far += 1
            if b <= a:
                scores_view[at] = scores[<uint32_t>entries[n + j]]
                j += 1
            else:
                other[n_other] = <uint32_t>at
                n_other += 1
            at += 1
    PyMem_Free(entries)
    return slots[:at], all_distances[:at], all_scores[:at], no_distance[:n_far], no_score[:n_other]
