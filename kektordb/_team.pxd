"""Threads of a loop that runs on several."""

cdef int team(int n_threads) noexcept nogil
