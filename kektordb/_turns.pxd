"""Turns of threads that search and want to go on in Python."""

cdef void leave() noexcept
cdef void wait_turn() noexcept nogil
