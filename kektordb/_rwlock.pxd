"""The readers-writer lock for other Cython modules."""

cimport cython
from cpython.pythread cimport PyThread_type_lock


@cython.final
cdef class LockState:
    cdef PyThread_type_lock guard
    cdef PyThread_type_lock writers
    cdef PyThread_type_lock gate
    cdef PyThread_type_lock room
    cdef Py_ssize_t n_readers
    cdef Py_ssize_t n_waiting
    cdef Py_ssize_t n_admitted
    cdef Py_ssize_t n_writes
    cdef bint has_writer
    cdef bint writer_waits

    cdef bint try_read(self) noexcept nogil
    cdef void wait_read(self) noexcept nogil
    cdef bint end_read(self) noexcept nogil
    cdef bint try_write(self) noexcept nogil
    cdef void wait_write(self) noexcept nogil
    cdef bint end_write(self) noexcept nogil


@cython.final
cdef class RWLock:
    cdef LockState state
    cdef readonly ReadSide read
    cdef readonly WriteSide write

    # To be called without the GIL: they wait, and the thread that they wait for may need it.
    cdef void enter_read(self) noexcept nogil
    cdef void leave_read(self) noexcept nogil
    cdef void enter_write(self) noexcept nogil
    cdef void leave_write(self) noexcept nogil


@cython.final
cdef class ReadSide:
    cdef LockState state


@cython.final
cdef class WriteSide:
    cdef LockState state
