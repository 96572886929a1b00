"""Which terms does the text of a slot have? Forward lists, in pieces that are compacted one at a time.

A forward list is a byte string: the differences of ascending terms less one, as varints. They lie in pieces of 1,024
slots, each with an arena of its own. So what deleted texts leave behind goes in steps of some ten microseconds, while
searches wait, however many texts there are. In a snapshot the pieces are one `Blobs`: its arena and its offsets.
"""

from bisect import bisect_right

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from kektordb._postings cimport Block, new_block
from kektordb._strings cimport Arena, Blobs
from kektordb._types cimport slot_t

from kektordb.types import Section

cdef enum:
    SHIFT = 10
    N_SLOTS = 1 << SHIFT
    WASTE_MIN = 1 << 12         # below it a piece is not worth a copy

cdef uint64_t ABSENT = 0xFFFFFFFFFFFFFFFFu


cdef uint32_t place_of(slot_t slot) noexcept nogil:
    """Return the number of a slot within its piece."""
    return slot & (N_SLOTS - 1)


@cython.final
cdef class Forward:
    """Forward lists by slot."""

    def __cinit__(self):
        self.pieces = []

    cdef Blobs reserve(self, slot_t slot, size_t n_bytes):
        cdef Py_ssize_t number = slot >> SHIFT
        cdef Py_ssize_t n_pieces = len(self.pieces)
        cdef Blobs piece
        if number >= n_pieces:
            if n_pieces and self.pieces[n_pieces - 1] is not None:
                # No more slots come here: it needs no room to grow.
                (<Blobs>self.pieces[n_pieces - 1])._compact()
            self.pieces += [None] * (number + 1 - n_pieces)
        if self.pieces[number] is None:
            self.pieces[number] = Blobs()
        piece = self.pieces[number]
        piece.reserve(N_SLOTS, n_bytes, 1)
        return piece

    cdef const char* get(self, slot_t slot, size_t* n_bytes):
        cdef Blobs piece
        if <Py_ssize_t>(slot >> SHIFT) >= len(self.pieces):
            return NULL
        piece = self.pieces[slot >> SHIFT]
        if piece is None:
            return NULL
        return piece.get(place_of(slot), n_bytes)

    cdef int drop(self, slot_t slot) except -1:
        cdef Blobs piece
        if <Py_ssize_t>(slot >> SHIFT) >= len(self.pieces):
            return 0
        piece = self.pieces[slot >> SHIFT]
        if piece is None:
            return 0
        piece.drop(place_of(slot))
        if piece.waste == piece.arena.used:
            self.pieces[slot >> SHIFT] = None
        elif piece.waste > WASTE_MIN and piece.waste > piece.arena.used // 2:
            try:
                piece._compact()
            except MemoryError:
                pass  # It stays as it is.
        return 0

    @property
    def wasted_bytes(self):
        """Bytes of deleted texts."""
        return sum([piece.wasted_bytes for piece in self.pieces if piece is not None])

    def memory_bytes(self):
        """Return the allocated bytes."""
        return sum([piece.memory_bytes() for piece in self.pieces if piece is not None])

    def freeze(self, str prefix):
        """Return the sections of the present state; they share the arenas, and the offsets are copied."""
        cdef Py_ssize_t i, number, n_slots = 0
        cdef uint64_t at = 0
        cdef uint64_t* target
        cdef Blobs piece
        cdef Block starts
        for number, piece in enumerate(self.pieces):
            if piece is not None and piece.n_used:
                n_slots = (number << SHIFT) + piece.n_used
        starts = new_block(n_slots * <Py_ssize_t>sizeof(uint64_t))
        target = <uint64_t*>starts.data
        for i in range(n_slots):
            target[i] = ABSENT
        arenas = []
        ends = []
        for number, piece in enumerate(self.pieces):
            if piece is None:
                continue
            target = <uint64_t*>starts.data + (number << SHIFT)
            for i in range(piece.n_used):
                if piece.start[i] != ABSENT:
                    target[i] = piece.start[i] + at
            at += piece.arena.used
            arenas.append(piece.arena)
            ends.append(at)
        return [
            Section(f"{prefix}/arena", 1, at, _Arenas(arenas, ends).read),
            Section(f"{prefix}/start", sizeof(uint64_t), starts.size, starts.read),
        ]

    def load(self, str prefix, reader, Py_ssize_t n_slots):
        """Fill empty lists from the sections that `freeze` gave. Raises CorruptSnapshot for what they cannot be."""
        cdef Blobs whole = Blobs()
        cdef Py_ssize_t slot
        cdef size_t n_bytes = 0
        cdef const char* data
        whole.load(prefix, reader, n_slots)
        for slot in range(whole.n_used):
            data = whole.get(<uint32_t>slot, &n_bytes)
            if data != NULL:
                self.reserve(<slot_t>slot, n_bytes).put(place_of(<slot_t>slot), data, n_bytes)


class _Arenas:
    """Several arenas, as they were, one after the other."""

    def __init__(self, list arenas, list ends):
        self.arenas = arenas
        self.ends = ends

    def read(self, start, stop):
        """Return a copy of the bytes from `start` to `stop`."""
        found = bytearray()
        number = bisect_right(self.ends, start)
        while start < stop:
            first = self.ends[number - 1] if number else 0
            end = min(stop, self.ends[number])
            found += (<Arena>self.arenas[number]).read(start - first, end - first)
            start = end
            number += 1
        return found
