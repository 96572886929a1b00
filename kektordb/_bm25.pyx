"""Which texts fit these words best? An inverted index of several text fields, scored by BM25.

Terms are numbers here; words become terms elsewhere. For each field there are inverted lists (`_lists`), the length of
each slot's text, and its terms in a forward list, so that a deleted text is taken out of the statistics at once: the
score uses, as Robertson & Zaragoza, "The probabilistic relevance framework" (2009), with Lucene's idf and without its
constant factor k1 + 1,

    weight * ln(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / average length))

summed over fields and terms; N, df and the average are of the texts that the field has now.

Nothing here locks: look-ups may run beside one another (each drops the GIL), changes may not run beside anything.
"""

import numpy as np

from libc.math cimport log
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc

from kektordb._bitmap cimport Bitmap, bitmap_set
from kektordb._lists cimport (
    MAX_EXACT,
    ROOM,
    List,
    blocks_of,
    bytes_of,
    cell_t,
    decode_block,
    decode_cell,
    decode_tail,
    df_of,
    length_of,
    list_in,
    n_blocks_of,
)
from kektordb._memory cimport free_block, resize_block
from kektordb._textfield cimport TextField, next_term
from kektordb._topk cimport (
    Cursor,
    Scratch,
    Words,
    count_of,
    find_best,
    find_best_among,
    fit_scratch,
    free_scratch,
    look_ahead,
    open_cursor,
    score_slots,
    sort_best,
)
from kektordb._types cimport NO_SLOT, slot_t, word_t
from kektordb._walk cimport lock, unlock

from kektordb.errors import ConfigError, CorruptSnapshot
from kektordb.types import Section

cdef enum:
    MAX_FIELDS = 256  # as in text/fields.py
    MAX_VARINT = 5
    # A slot that is looked up in a list costs as much as this many postings that are scored one after the other.
    LOOKUP_COST = 32
    SPARSE_SHIFT = 3            # filters that allow less than an eighth are asked before scoring
    MAX_IDLE_CURSORS = 256      # scratch for more words is not kept

# Keeps 0 / 0 and 0 * infinity out of scores where k1 or b is zero.
cdef float TINY = 1e-30


# ---------------------------------------------------------------------------------------------------------- the index

cdef class TextIndex:
    """Texts by field and slot, as term numbers and counts.

    Parameters
    ----------
    k1, b : float
        Of BM25: how soon more of the same word counts no more, and how much long texts are marked down.
    """

    def __cinit__(self, double k1=1.2, double b=0.75):
        if not 0 <= k1 <= 1000 or not 0 <= b <= 1:
            raise ConfigError(f"expected k1 from 0 to 1000 and b from 0 to 1, got {k1} and {b}")
        self.k1 = k1
        self.b = b
        self.fields = []

    def __dealloc__(self):
        cdef Scratch* s = self.free
        cdef Scratch* following
        while s != NULL:
            following = s.next
            free_scratch(s)
            s = following
        self.free = NULL
        free_block(self.buffer, self.buffer_bytes)
        self.buffer = NULL

    # ---- scratch: one per running search, kept for the next one

    cdef Scratch* take(self, Py_ssize_t n_cursors, Py_ssize_t n_heap) noexcept nogil:
        """Take scratch with room for so many lists and results; NULL when there is no memory."""
        cdef Scratch* s
        lock(&self.free_lock)
        s = self.free
        if s != NULL:
            self.free = s.next
        unlock(&self.free_lock)
        if s == NULL:
            s = <Scratch*>calloc(1, sizeof(Scratch))
        if s != NULL and not fit_scratch(s, n_cursors, n_heap):
            free_scratch(s)
            s = NULL
        return s

    cdef void give(self, Scratch* s) noexcept nogil:
        if s.n_cursors > MAX_IDLE_CURSORS:
            free_scratch(s)
            return
        lock(&self.free_lock)
        s.next = self.free
        self.free = s
        unlock(&self.free_lock)

    # ---- writing

    def add(self, Py_ssize_t field, Py_ssize_t slot, const uint32_t[::1] terms, const uint32_t[::1] counts,
            Py_ssize_t length):
        """Add the text of a slot in a field. MemoryError changes nothing.

        Parameters
        ----------
        field : int
            Number of the field, below 65,536; fields up to the largest ever given exist.
        slot : int
            Slots that come in ascending order are fastest; any other works as well.
        terms, counts : uint32 (n,)
            Distinct terms, ascending, and how often each occurs, 1 to 2^24.
        length : int
            Words of the text, at most 2^24; terms that were left out count or do not, as the caller likes.

        Raises
        ------
        ValueError
            The slot has a text in this field, or the arguments do not fit.
        """
        cdef Py_ssize_t i, n = terms.shape[0]
        cdef size_t n_bytes = 0
        cdef bint has_room
        cdef TextField target
        if not 0 <= field < MAX_FIELDS or not 0 <= slot < NO_SLOT or not 0 <= length <= MAX_EXACT:
            raise ValueError(f"expected a field, a slot and at most {MAX_EXACT} words, got {field}, {slot}, {length}")
        if counts.shape[0] != n:
            raise ValueError(f"expected as many counts as terms, got {counts.shape[0]} and {n}")
        for i in range(n):
            if (i and terms[i] <= terms[i - 1]) or terms[i] == NO_SLOT or not 0 < counts[i] <= MAX_EXACT:
                raise ValueError(f"expected ascending terms with counts, got {terms[i]} with {counts[i]} at {i}")
        target = self.field_of(field)
        if target.has(slot):
            raise ValueError(f"slot {slot} has a text in field {field}")
        self._encode(&terms[0] if n else NULL, n, &n_bytes)
        target.reserve(slot + 1, <Py_ssize_t>terms[n - 1] + 1 if n else 0)
        target.terms.reserve(slot + 1, n_bytes, 1)
        with nogil:
            target.strike_all(<slot_t>slot)
            has_room = n == 0 or target.make_rooms(<slot_t>slot, &terms[0], &counts[0], n)
            if has_room:
                target.put_all(<slot_t>slot, &terms[0] if n else NULL, &counts[0] if n else NULL, n, <uint32_t>length)
                target.terms.put(<uint32_t>slot, self.buffer, n_bytes)
        if not has_room:
            raise MemoryError(f"no memory for the {n} terms of a text")

    cdef TextField field_of(self, Py_ssize_t number):
        while len(self.fields) <= number:
            self.fields.append(TextField())
        return self.fields[number]

    cdef int make_room(self, Py_ssize_t n) except -1:
        cdef size_t needed = <size_t>n * MAX_VARINT + 1
        cdef char* buffer
        if needed > self.buffer_bytes:
            buffer = <char*>resize_block(self.buffer, self.buffer_bytes, needed)
            if buffer == NULL:
                raise MemoryError(f"no memory for the {n} terms of a text")
            self.buffer = buffer
            self.buffer_bytes = needed
        return 0

    cdef int _encode(self, const uint32_t* terms, Py_ssize_t n, size_t* n_bytes) except -1:
        """Write a forward list, the differences of terms less one as varints, into the buffer."""
        cdef uint32_t gap, before = NO_SLOT
        cdef char* at
        cdef Py_ssize_t i
        self.make_room(n)
        at = self.buffer
        for i in range(n):
            gap = terms[i] - before - 1
            before = terms[i]
            while gap >= 0x80:
                at[0] = <char>(gap | 0x80)
                gap >>= 7
                at += 1
            at[0] = <char>gap
            at += 1
        n_bytes[0] = <size_t>(at - self.buffer)
        return 0

    def remove(self, Py_ssize_t field, Py_ssize_t slot):
        """Remove the text of a slot in a field; return whether there was one. Needs no memory.

        What it leaves behind stays until `tidy`, so that room which was made for texts to come stays as well.
        """
        cdef TextField target
        if not 0 <= field < len(self.fields) or slot < 0:
            return False
        target = self.fields[field]
        if not target.has(slot):
            return False
        with nogil:
            target.drop(<slot_t>slot)
        return True

    def remove_all(self, Py_ssize_t slot):
        """Remove the texts of a slot in all fields; return how many there were."""
        cdef Py_ssize_t field, n = 0
        for field in range(len(self.fields)):
            n += self.remove(field, slot)
        return n

    def tidy(self, Py_ssize_t slot):
        """Write the lists anew in which a quarter is of removed texts, looking at those of one removed slot.

        Takes a millisecond at most. Without memory they stay as they are, which only costs time.
        """
        cdef TextField field
        for field in self.fields:
            if 0 <= slot < field.n_slots:
                with nogil:
                    field.tidy(<slot_t>slot)

    def compact(self):
        """Write everything anew without what deleted texts left behind.

        Takes about 50 ns a posting. `tidy` does it for lists; for the forward lists
        nothing else does, see ``wasted_bytes`` of `stats`.
        """
        for field in self.fields:
            (<TextField>field).compact()

    def is_wasteful(self):
        """Tell whether `compact` pays: more than half of a field's forward lists, and 1 MiB, are of deleted texts."""
        cdef TextField field
        for field in self.fields:
            if field.is_wasteful():
                return True
        return False

    # ---- searching

    cdef Scratch* open(self, object query, Py_ssize_t k) except NULL:
        cdef dict weights = {}
        cdef double weight, idf, average, df
        cdef Py_ssize_t number, term, last = -1, n_slots = 0
        cdef Scratch* s
        cdef TextField field
        cdef cell_t cell
        for number, term, given in query:
            weight = given
            if not 0 <= weight < 1e30:
                raise ValueError(f"expected a weight that is not negative, got {given!r}")
            weights[(number, term)] = weights.get((number, term), 0.0) + weight
        for field in self.fields:
            n_slots = max(n_slots, field.n_slots)
        k = max(0, min(k, n_slots))
        s = self.take(len(weights) + 1, k + 1)
        if s == NULL:
            raise MemoryError("no memory to search")
        s.n = s.n_fields = 0
        s.k = k
        s.found = 0
        s.threshold = 0
        s.allowed = NULL
        s.n_words = 0
        s.is_sparse = False
        for (number, term), given in weights.items():
            if not 0 <= number < len(self.fields):
                continue
            field = self.fields[number]
            cell = field.cell_of(<uint64_t>term)
            df = df_of(cell)
            if df == 0 or given == 0:
                continue
            idf = log(1 + (field.n_docs - df + 0.5) / (df + 0.5))
            average = max(1, <double>field.total_length) / field.n_docs
            open_cursor(&s.cursors[s.n], cell, field.lengths, <float>(<double>given * idf),
                        <float>(self.k1 * (1 - self.b)) + TINY, <float>(self.k1 * self.b / average) + TINY)
            s.cursors[s.n].term = <uint32_t>term
            if number != last:
                s.fields[s.n_fields] = Words(field.terms.start, field.terms.arena.data, field.lengths, field.n_slots,
                                             0, <int>s.n, 0)
                s.n_fields += 1
                last = number
            s.n += 1
            s.fields[s.n_fields - 1].stop = <int>s.n
            s.fields[s.n_fields - 1].wanted |= <uint64_t>1 << (term & 63)
        return s

    def search(self, query, Py_ssize_t k, Bitmap allowed=None, Py_ssize_t n_allowed=-1):
        """Find the `k` texts that score highest. Releases the GIL.

        Parameters
        ----------
        query : iterable of (field, term, weight)
            Weights are not negative; those of a pair that comes twice add up. Unknown terms are passed over.
        k : int
            Results wanted.
        allowed : Bitmap, optional
            Only these slots are returned.
        n_allowed : int, optional
            How many bits of `allowed` are set, when the caller knows.

        Returns
        -------
        slots : uint32 (n,)
        scores : float32 (n,)
            Highest first, ties by slot; all above zero.
        """
        cdef Scratch* s = self.open(query, k)
        if n_allowed < 0 and allowed is not None:
            n_allowed = allowed.count()
        with nogil:
            self.find(s, allowed, n_allowed)
            sort_best(s)
        try:
            return _results(s)
        finally:
            self.give(s)

    cdef void find(self, Scratch* s, Bitmap allowed, Py_ssize_t n_allowed) noexcept nogil:
        cdef Py_ssize_t i, n_postings = 0
        for i in range(s.n):
            n_postings += s.cursors[i].n_list
        s.k = min(s.k, n_postings)
        if s.k == 0:
            return
        if allowed is None:
            find_best(s)
            return
        s.allowed = allowed.words
        s.n_words = allowed.n_words
        s.is_sparse = n_allowed < (allowed.n_bits >> SPARSE_SHIFT)
        if n_allowed * s.n * LOOKUP_COST < n_postings:
            find_best_among(s)
        else:
            find_best(s)

    def scores(self, query, const uint32_t[::1] slots):
        """Return the score of each of these slots: (n,) float32, 0 where no term occurs. Releases the GIL.

        Parameters
        ----------
        query : iterable of (field, term, weight)
            As for `search`.
        slots : uint32 (n,)
            In any order; ascending ones save sorting them.
        """
        cdef Py_ssize_t i, n = slots.shape[0]
        cdef bint is_sorted = True
        cdef const uint32_t[::1] ordered = slots
        cdef float[::1] target
        cdef Scratch* s
        for i in range(1, n):
            if slots[i] < slots[i - 1]:
                is_sorted = False
                break
        order = None
        if not is_sorted:
            order = np.argsort(slots)
            ordered = np.asarray(slots)[order]
        scores = np.zeros(n, np.float32)
        if n == 0:
            return scores
        target = scores
        s = self.open(query, 0)
        with nogil:
            look_ahead(s, &ordered[0], n)
            score_slots(s, &ordered[0], n, &target[0])
        self.give(s)
        if order is None:
            return scores
        unordered = np.empty(n, np.float32)
        unordered[order] = scores
        return unordered

    def explain(self, query, Py_ssize_t slot):
        """Say how the score of a slot comes about.

        Returns
        -------
        list of dict
            For each distinct (field, term) of the query: ``field``, ``term``, ``weight``, ``tf``, ``df``, ``n_docs``,
            ``idf``, ``length`` (None when the slot has no text there), ``average_length`` and ``score``, its part.
        """
        cdef dict weights = {}
        cdef TextField field
        cdef cell_t cell
        cdef Cursor* c
        cdef Scratch* s
        cdef double tf, df, idf, average, length
        cdef Py_ssize_t number, term
        for number, term, given in query:
            weights[(number, term)] = weights.get((number, term), 0.0) + given
        parts = []
        s = self.take(1, 1)
        if s == NULL:
            raise MemoryError("no memory to search")
        c = &s.cursors[0]
        for (number, term), given in weights.items():
            part = {"field": number, "term": term, "weight": given, "tf": 0, "df": 0, "n_docs": 0, "idf": 0.0,
                    "length": None, "average_length": 0.0, "score": 0.0}
            parts.append(part)
            if not 0 <= number < len(self.fields):
                continue
            field = self.fields[number]
            average = <double>field.total_length / field.n_docs if field.n_docs else 0
            part["n_docs"] = field.n_docs
            part["average_length"] = average
            length = 0
            if 0 <= slot < field.n_slots and field.has(slot):
                length = length_of(field.lengths, <slot_t>slot)
                part["length"] = int(length)
            cell = field.cell_of(<uint64_t>term)
            df = df_of(cell)
            if df == 0:
                continue
            idf = log(1 + (field.n_docs - df + 0.5) / (df + 0.5))
            part["df"] = df_of(cell)
            part["idf"] = idf
            if part["length"] is not None:
                open_cursor(c, cell, field.lengths, 1, 1, 1)
                part["tf"] = count_of(c, <slot_t>slot)
            tf = part["tf"]
            if tf:
                part["score"] = given * idf * tf / (tf + self.k1 * (1 - self.b + self.b * length / max(average, 1e-9)))
        self.give(s)
        return parts

    # ---- looking up

    def contains(self, Py_ssize_t field, terms, bint all, Bitmap into not None):
        """Add to `into` the slots whose text has any, or with `all` each, of the terms; of no terms: none."""
        cdef TextField target
        cdef cell_t cell
        cdef Py_ssize_t term
        cdef Bitmap found = None
        cdef Bitmap both = None
        if not 0 <= field < len(self.fields):
            return
        target = self.fields[field]
        for term in terms:
            cell = target.cell_of(<uint64_t>term)
            if cell == 0:
                if all:
                    return
                continue
            if not all:
                with nogil:
                    _mark(cell, target.lengths, into.words, into.n_bits)
                continue
            both = Bitmap(into.n_bits)
            with nogil:
                _mark(cell, target.lengths, both.words, both.n_bits)
            if found is not None:
                both.iand(found)
            found = both
        if found is not None:
            into.ior(found)

    def df(self, Py_ssize_t field, uint64_t term):
        """Return how many texts of a field have a term."""
        if not 0 <= field < len(self.fields):
            return 0
        return df_of((<TextField>self.fields[field]).cell_of(term))

    def length(self, Py_ssize_t field, Py_ssize_t slot):
        """Return the words of the text of a slot, None when it has none."""
        cdef TextField target
        if not 0 <= field < len(self.fields) or slot < 0:
            return None
        target = self.fields[field]
        return int(length_of(target.lengths, <slot_t>slot)) if target.has(slot) else None

    def terms(self, Py_ssize_t field, Py_ssize_t slot):
        """Return the terms of the text of a slot, ascending; none when it has no text."""
        cdef TextField target
        cdef size_t n_bytes = 0
        cdef const char* at
        cdef const char* stop
        cdef uint32_t term = NO_SLOT
        found = []
        if not 0 <= field < len(self.fields) or slot < 0 or not (<TextField>self.fields[field]).has(slot):
            return found
        target = self.fields[field]
        at = target.terms.get(<uint32_t>slot, &n_bytes)
        stop = at + n_bytes
        while at < stop:
            at = next_term(at, &term)
            found.append(term)
        return found

    def texts(self, Py_ssize_t field, const uint32_t[::1] slots):
        """Return the texts of slots, as `add` takes them, one after the other.

        Parameters
        ----------
        field : int
            Below `n_fields`.
        slots : uint32 (n,)
            Ascending.

        Returns
        -------
        starts : int64 (n + 1,)
            Where the terms of each text start, and where the last ones stop.
        terms, counts : uint32 (starts[n],)
        lengths : int64 (n,)
            -1 for a slot without a text.
        """
        cdef TextField target = self.fields[field]
        cdef Py_ssize_t i, n = 0
        starts, lengths = np.zeros(slots.shape[0] + 1, np.int64), np.full(slots.shape[0], -1, np.int64)
        cdef long long[::1] starts_view = starts
        cdef long long[::1] lengths_view = lengths
        with nogil:
            for i in range(slots.shape[0]):
                starts_view[i] = n
                if target.has(slots[i]):
                    n += _count_terms(target, slots[i])
                    lengths_view[i] = <long long>length_of(target.lengths, slots[i])
            starts_view[slots.shape[0]] = n
        # One more than there are: an address is taken of the first.
        terms, counts = np.empty(n + 1, np.uint32), np.empty(n + 1, np.uint32)
        self._read_texts(target, slots, starts_view, terms, counts)
        return starts, terms[:n], counts[:n], lengths

    cdef int _read_texts(self, TextField field, const uint32_t[::1] slots, const long long[::1] starts,
                         uint32_t[::1] terms, uint32_t[::1] counts) except -1:
        """Read the terms of texts from the forward lists, and how often they come from the inverted lists."""
        cdef Py_ssize_t i, j, n = starts[slots.shape[0]]
        # term << 32 | place: by term, and for each by slot, so that each list is read once.
        order = np.empty(n + 1, np.uint64)
        owner = np.empty(n + 1, np.uint32)
        cdef uint64_t[::1] order_view = order
        cdef uint32_t[::1] owner_view = owner
        cdef Scratch* s
        cdef Cursor* c
        with nogil:
            for i in range(slots.shape[0]):
                if starts[i + 1] > starts[i]:
                    _read_terms(field, slots[i], &terms[starts[i]])
                for j in range(starts[i], starts[i + 1]):
                    order_view[j] = <uint64_t>terms[j] << 32 | <uint64_t>j
                    owner_view[j] = slots[i]
        order[:n].sort()
        s = self.take(1, 1)
        if s == NULL:
            raise MemoryError("no memory to read texts")
        with nogil:
            c = &s.cursors[0]
            for i in range(n):
                j = <Py_ssize_t><uint32_t>order_view[i]
                if i == 0 or order_view[i] >> 32 != order_view[i - 1] >> 32:
                    open_cursor(c, field.cells[terms[j]], field.lengths, 1, 1, 1)
                counts[j] = count_of(c, owner_view[j])
        self.give(s)
        return 0

    @property
    def n_fields(self):
        """Fields that exist."""
        return len(self.fields)

    def stats(self, Py_ssize_t field):
        """Return ``n_docs``, ``total_length``, ``n_terms``, ``n_postings`` and bytes of one field."""
        if not 0 <= field < len(self.fields):
            raise IndexError(f"field {field} of {len(self.fields)}")
        return self.fields[field].stats()

    def memory_bytes(self):
        """Return the bytes allocated."""
        total = 0
        for field in range(len(self.fields)):
            parts = self.stats(field)
            total += parts["list_bytes"] + parts["forward_bytes"] + parts["length_bytes"]
        return total

    # ---- snapshots

    def freeze(self, str prefix):
        """Return the sections of the present state; they stay as they are now while writes go on."""
        numbers = np.asarray([len(self.fields)], np.uint32).tobytes()
        sections = [Section(f"{prefix}/fields", 4, 4, lambda start, stop: numbers[start:stop])]
        for number, field in enumerate(self.fields):
            sections += field.freeze(f"{prefix}/{number}")
        return sections

    def load(self, str prefix, reader, Py_ssize_t n_slots):
        """Replace the contents by the sections that `freeze` gave. Raises CorruptSnapshot for what they cannot be.

        Parameters
        ----------
        prefix : str
            As given to `freeze`.
        reader : SectionReader
            The snapshot.
        n_slots : int
            Slots that the owner has; a text of a larger one is damage.
        """
        numbers = reader.read(f"{prefix}/fields")
        n_fields = int.from_bytes(numbers, "little")
        if len(numbers) != 4 or n_fields > MAX_FIELDS:
            raise CorruptSnapshot(f"{prefix}/fields: expected the number of fields, got {len(numbers)} bytes")
        fields = []
        for number in range(n_fields):
            field = TextField()
            field.load(f"{prefix}/{number}", reader, n_slots)
            fields.append(field)
        self.fields = fields


cdef void _mark(cell_t cell, const uint32_t* lengths, word_t* rows, Py_ssize_t n_bits) noexcept nogil:
    """Set the bits of the texts that have a term."""
    cdef slot_t slots[ROOM]
    cdef uint32_t tfs[ROOM]
    cdef uint32_t i, at, n, n_blocks = 0
    cdef slot_t before = NO_SLOT
    cdef const List* l = list_in(cell)
    if l != NULL:
        n_blocks = n_blocks_of(l)
    for at in range(n_blocks + 1):
        if at < n_blocks:
            n = blocks_of(l)[at].n
            decode_block(bytes_of(l), &blocks_of(l)[at], before, slots, tfs)
            before = blocks_of(l)[at].last
        elif l != NULL:
            n = decode_tail(l, slots, tfs)
        else:
            n = decode_cell(cell, slots, tfs)
        for i in range(n):
            if tfs[i] and lengths[slots[i]] and slots[i] < n_bits:
                bitmap_set(rows, slots[i])


cdef Py_ssize_t _count_terms(TextField field, slot_t slot) noexcept nogil:
    cdef size_t n_bytes = 0
    cdef const char* at = field.terms.get(slot, &n_bytes)
    cdef const char* stop = at + n_bytes
    cdef Py_ssize_t n = 0
    while at < stop:
        n += not at[0] & 0x80  # the last byte of a varint
        at += 1
    return n


cdef void _read_terms(TextField field, slot_t slot, uint32_t* terms) noexcept nogil:
    cdef size_t n_bytes = 0
    cdef const char* at = field.terms.get(slot, &n_bytes)
    cdef const char* stop = at + n_bytes
    cdef uint32_t term = NO_SLOT
    while at < stop:
        at = next_term(at, &term)
        terms[0] = term
        terms += 1


cdef tuple _results(Scratch* s):
    cdef Py_ssize_t i
    slots = np.empty(s.found, np.uint32)
    scores = np.empty(s.found, np.float32)
    cdef uint32_t[::1] slots_view = slots
    cdef uint32_t[::1] bits = scores.view(np.uint32)
    for i in range(s.found):
        slots_view[i] = ~<uint32_t>s.heap[i]
        bits[i] = <uint32_t>(s.heap[i] >> 32)
    return slots, scores
