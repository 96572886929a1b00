"""How do many searches and one writer take turns, without a thread that waits while it holds the GIL?

Made of Python's own thread locks, which one thread may take and another give back. `guard` covers the counters and is
held for a few instructions only; nothing in there needs the GIL, so it may be awaited with it. The other three are
batons:

1. A writer takes `writers`, announces itself in `has_writer` (new readers wait from here on), and waits for `room`,
   which the last reader gives, unless there is no reader.
2. A reader that finds `has_writer` counts itself in `n_waiting` and waits for `gate`.
3. A writer that leaves admits all waiting readers at once: it counts them as readers before any other writer can look,
   and gives `gate`, which each of them hands on to the next. So neither side can starve the other.

The counters are safe without the GIL too (free-threaded Python). A lock is not usable in a forked child when a thread
of the parent held it.
"""

cimport cython
from cpython.pythread cimport (
    NOWAIT_LOCK,
    WAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
)


cdef PyThread_type_lock _new_lock(bint is_taken) except NULL:
    cdef PyThread_type_lock lock = PyThread_allocate_lock()
    if lock == NULL:
        raise MemoryError("no memory for a lock")
    if is_taken:
        PyThread_acquire_lock(lock, NOWAIT_LOCK)
    return lock


@cython.final
cdef class LockState:
    """What the lock and its two sides share."""

    def __cinit__(self):
        self.guard = _new_lock(False)
        self.writers = _new_lock(False)
        self.gate = _new_lock(True)
        self.room = _new_lock(True)

    def __dealloc__(self):
        if self.guard != NULL:
            PyThread_free_lock(self.guard)
        if self.writers != NULL:
            PyThread_free_lock(self.writers)
        # Freed in the state that free expects: not taken.
        if self.gate != NULL:
            PyThread_release_lock(self.gate)
            PyThread_free_lock(self.gate)
        if self.room != NULL:
            PyThread_release_lock(self.room)
            PyThread_free_lock(self.room)

    cdef bint try_read(self) noexcept nogil:
        """Become a reader, or be counted as one that waits: then `wait_read` must follow."""
        cdef bint is_free
        PyThread_acquire_lock(self.guard, WAIT_LOCK)
        is_free = not self.has_writer
        if is_free:
            self.n_readers += 1
        else:
            self.n_waiting += 1
        PyThread_release_lock(self.guard)
        return is_free

    cdef void wait_read(self) noexcept nogil:
        PyThread_acquire_lock(self.gate, WAIT_LOCK)
        PyThread_acquire_lock(self.guard, WAIT_LOCK)
        # A reader that came later may have taken this one's turn; the counts are right all the same.
        self.n_admitted -= 1
        if self.n_admitted > 0:
            PyThread_release_lock(self.gate)
        PyThread_release_lock(self.guard)

    cdef bint end_read(self) noexcept nogil:
        """Return False when there was no reader."""
        cdef bint was_reader
        PyThread_acquire_lock(self.guard, WAIT_LOCK)
        was_reader = self.n_readers > 0
        if was_reader:
            self.n_readers -= 1
            if self.n_readers == 0 and self.writer_waits:
                self.writer_waits = False
                PyThread_release_lock(self.room)
        PyThread_release_lock(self.guard)
        return was_reader

    cdef bint try_write(self) noexcept nogil:
        """Become the writer if nobody is here; else nothing changed."""
        cdef bint is_free
        if not PyThread_acquire_lock(self.writers, NOWAIT_LOCK):
            return False
        PyThread_acquire_lock(self.guard, WAIT_LOCK)
        is_free = self.n_readers == 0
        self.has_writer = is_free
        PyThread_release_lock(self.guard)
        if not is_free:
            PyThread_release_lock(self.writers)
        return is_free

    cdef void wait_write(self) noexcept nogil:
        cdef bint must_wait
        PyThread_acquire_lock(self.writers, WAIT_LOCK)
        PyThread_acquire_lock(self.guard, WAIT_LOCK)
        self.has_writer = True
        must_wait = self.n_readers > 0
        self.writer_waits = must_wait
        PyThread_release_lock(self.guard)
        if must_wait:
            PyThread_acquire_lock(self.room, WAIT_LOCK)

    cdef bint end_write(self) noexcept nogil:
        """Return False when there was no writer."""
        cdef bint was_writer
        PyThread_acquire_lock(self.guard, WAIT_LOCK)
        # An announced writer that still waits for readers is not inside.
        was_writer = self.has_writer and self.n_readers == 0
        if was_writer:
            self.has_writer = False
            self.n_writes += 1
            # Those admitted last time have all been readers before this writer came in: n_admitted is 0 here.
            self.n_admitted = self.n_readers = self.n_waiting
            self.n_waiting = 0
            if self.n_admitted > 0:
                PyThread_release_lock(self.gate)
        PyThread_release_lock(self.guard)
        if was_writer:
            PyThread_release_lock(self.writers)
        return was_writer


@cython.final
cdef class RWLock:
    """Many readers or one writer; a waiting writer stops new readers.

    Not reentrant, in no combination: a thread that holds it for reading and asks again, for reading or for writing,
    may wait for itself for ever. The GIL is released only when there is something to wait for. Waiting is not
    interrupted by signals.

    Attributes
    ----------
    read, write
        Context managers, usable by any number of threads at once: ``with lock.read: …``.
    """

    def __cinit__(self):
        self.state = LockState()
        self.read = ReadSide(self.state)
        self.write = WriteSide(self.state)

    cdef void enter_read(self) noexcept nogil:
        if not self.state.try_read():
            self.state.wait_read()

    cdef void leave_read(self) noexcept nogil:
        self.state.end_read()

    cdef void enter_write(self) noexcept nogil:
        self.state.wait_write()

    cdef void leave_write(self) noexcept nogil:
        self.state.end_write()

    @property
    def has_writer(self):
        """Whether a writer is inside or waits for readers to leave; may be old news at once."""
        PyThread_acquire_lock(self.state.guard, WAIT_LOCK)
        is_here = self.state.has_writer
        PyThread_release_lock(self.state.guard)
        return is_here

    @property
    def n_writes(self):
        """Writers that have left; for a reader it stays as it is."""
        return self.state.n_writes

    @property
    def n_waiting(self):
        """Readers that wait for a writer to leave; may be old news at once."""
        PyThread_acquire_lock(self.state.guard, WAIT_LOCK)
        n = self.state.n_waiting
        PyThread_release_lock(self.state.guard)
        return n

    def acquire_read(self):
        """Wait until no writer is here or waiting, and become a reader."""
        _acquire_read(self.state)

    def release_read(self):
        """Stop being a reader; RuntimeError when there is none."""
        _release_read(self.state)

    def acquire_write(self):
        """Wait until nobody else is here, and become the writer."""
        _acquire_write(self.state)

    def release_write(self):
        """Stop being the writer; RuntimeError when there is none."""
        _release_write(self.state)


@cython.final
cdef class ReadSide:
    """``with lock.read``: hold the lock as one of the readers."""

    def __cinit__(self, LockState state not None):
        self.state = state

    def __enter__(self):
        _acquire_read(self.state)

    def __exit__(self, kind, error, trace):
        _release_read(self.state)


@cython.final
cdef class WriteSide:
    """``with lock.write``: hold the lock as its only user."""

    def __cinit__(self, LockState state not None):
        self.state = state

    def __enter__(self):
        _acquire_write(self.state)

    def __exit__(self, kind, error, trace):
        _release_write(self.state)


cdef inline int _acquire_read(LockState state) except -1:
    if not state.try_read():
        with nogil:
            state.wait_read()
    return 0


cdef inline int _release_read(LockState state) except -1:
    if not state.end_read():
        raise RuntimeError("release_read without acquire_read")
    return 0


cdef inline int _acquire_write(LockState state) except -1:
    if not state.try_write():
        with nogil:
            state.wait_write()
    return 0


cdef inline int _release_write(LockState state) except -1:
    if not state.end_write():
        raise RuntimeError("release_write without acquire_write")
    return 0
