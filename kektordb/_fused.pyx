"""Which of the candidates of a hybrid search are the best? In few instructions: after a search caches are cold."""

from libc.stdint cimport uint32_t

import numpy as np

cdef enum:
    FEW = 64        # results up to which keeping a sorted list beats sorting all


def minmax(const float[::1] distances not None, const float[::1] scores not None, double alpha):
    """Return what `fusion.fuse` returns for ``minmax``: float64 (n,). Both arrays are of one length, without NaN."""
    cdef Py_ssize_t i, n = distances.shape[0]
    cdef double near_low, near_high, text_low, text_high, near_part, text_part
    if scores.shape[0] != n:
        raise ValueError(f"expected two arrays of one length, got {n} and {scores.shape[0]}")
    fused = np.empty(n, dtype=np.float64)
    cdef double[::1] target = fused
    if n == 0:
        return fused
    near_low = near_high = distances[0]
    text_low = text_high = scores[0]
    for i in range(n):
        if distances[i] != distances[i] or scores[i] != scores[i]:
            raise ValueError("fusion 'minmax' needs both scores of every candidate")
        near_low, near_high = min(near_low, distances[i]), max(near_high, distances[i])
        text_low, text_high = min(text_low, scores[i]), max(text_high, scores[i])
    for i in range(n):
        near_part, text_part = 1.0, 1.0 if text_low > 0 else 0.0
        if near_low != near_high:
            near_part = (near_high - distances[i]) / (near_high - near_low)
        if text_low != text_high:
            text_part = (scores[i] - text_low) / (text_high - text_low)
        target[i] = alpha * near_part + (1 - alpha) * text_part
    return fused


def first(const double[::1] fused not None, const uint32_t[::1] slots not None, Py_ssize_t k):
    """Return the places of the `k` largest, the largest first and equal ones by slot: intp (min(k, n),)."""
    cdef Py_ssize_t i, j, count = 0, n = fused.shape[0]
    cdef Py_ssize_t[FEW] kept
    if slots.shape[0] != n:
        raise ValueError(f"expected two arrays of one length, got {n} and {slots.shape[0]}")
    k = min(k, n)
    if k > FEW:
        return np.lexsort((slots, np.negative(fused)))[:k]
    for i in range(n):
        if count == k:
            if k == 0 or not _is_before(fused, slots, i, kept[k - 1]):
                continue
        else:
            count += 1
        j = count - 1
        while j > 0 and _is_before(fused, slots, i, kept[j - 1]):
            kept[j] = kept[j - 1]
            j -= 1
        kept[j] = i
    order = np.empty(k, dtype=np.intp)
    cdef Py_ssize_t[::1] target = order
    for i in range(k):
        target[i] = kept[i]
    return order


cdef inline bint _is_before(const double[::1] fused, const uint32_t[::1] slots, Py_ssize_t i, Py_ssize_t j) noexcept:
    return fused[i] > fused[j] or (fused[i] == fused[j] and slots[i] < slots[j])
