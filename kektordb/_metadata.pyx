"""How is the metadata of items checked, encoded and kept in few bytes?

The encoding is MessagePack. A row of the store holds only the values: its top-level keys, a "shape", are kept once for
all rows that have the same ones in the same order.

    row = varint(shape), array of values        shape 0: varint(0), map of the whole object
"""

import math
import sys

import msgspec

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next, PyDict_Values
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from kektordb._packed cimport A_LIST, A_MAP, MAX_DEPTH, Cursor, Head, read_head, skip_value
from kektordb._strings cimport Blobs

from kektordb.errors import CorruptSnapshot, MetadataError
from kektordb.types import Section

cdef extern from "Python.h":
    bint PyBool_Check(object value)
    bint PyUnicode_CheckExact(object value)
    bint PyLong_CheckExact(object value)
    bint PyFloat_CheckExact(object value)
    bint PyDict_CheckExact(object value)
    bint PyList_CheckExact(object value)
    bint PyTuple_CheckExact(object value)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    double PyFloat_AS_DOUBLE(object value)

cdef enum:
    MAX_BYTES = 16 << 20
    MAX_SHAPES = 60_000
    MAX_SHAPE_KEYS = 64
    # Shapes are never forgotten, so keys that change all the time must not fill the memory.
    MAX_FORM_BYTES = 4 << 20
    KEY_BYTES = 58  # of a string object, beside its text
    MAX_SHAPE_BYTES = 8 << 10
    MAX_ALL_SHAPE_BYTES = 64 << 20
    MAX_IDLE_BUFFER = 1 << 16
    SHAPE_BYTES = 3  # of the largest shape's varint
    AT_ONCE = 1024  # rows that are encoded before another thread may have the GIL
    PLAIN = 0  # the shape of rows that keep their keys

cdef Py_ssize_t CLOSER_LOOK = -sys.maxsize

cdef object _encoder = msgspec.msgpack.Encoder()
cdef object _encode = _encoder.encode
cdef object _encode_into = _encoder.encode_into
cdef object _decode_object = msgspec.msgpack.Decoder(dict[str, object]).decode
cdef object _decode_values = msgspec.msgpack.Decoder(list).decode
cdef object _decode_shapes = msgspec.msgpack.Decoder(list[list[str]]).decode


def encode_metadata(obj):
    """Check that `obj` is a JSON object and encode it.

    Parameters
    ----------
    obj : dict
        Keys are strings; values None, bool, int within [-2^63, 2^64), finite float, str without lone surrogates,
        list (a tuple counts as one) or dict; at most 32 levels and 16 MiB encoded. Instances of subclasses are stored
        as their base.

    Returns
    -------
    bytes
        MessagePack; `decode_metadata` gives the object back exactly, key order included.

    Raises
    ------
    MetadataError
        Names the path of the first value that does not fit, and what it is.
    """
    cdef Py_ssize_t left = _weigh(obj, 1, MAX_BYTES) if PyDict_CheckExact(obj) else CLOSER_LOOK
    encoded = None
    if CLOSER_LOOK < left < 0:
        raise MetadataError(f"metadata: expected at most {MAX_BYTES} bytes encoded")
    if left >= 0:
        try:
            encoded = _encode(obj)
        except (OverflowError, UnicodeEncodeError):
            pass  # _plain says where
    if encoded is None:
        if not isinstance(obj, dict):
            raise MetadataError(f"metadata: expected an object (dict with str keys), got {_kind(obj)}")
        encoded = _encode(_plain(obj, "", 1, [MAX_BYTES]))
    if PyBytes_GET_SIZE(encoded) > MAX_BYTES:
        raise MetadataError(f"metadata: expected at most {MAX_BYTES} bytes encoded, got {len(encoded)}")
    return encoded


def encode_many(metadata, list ids not None):
    """Encode the metadata of many items; None becomes b"", which is what an item without metadata has.

    Raises MetadataError, which also names the id of the first that does not fit. Other threads get their turn of the
    GIL meanwhile.
    """
    cdef list encoded = []
    for value in metadata:
        if len(encoded) % AT_ONCE == 0:
            _yield()
        try:
            encoded.append(b"" if value is None else encode_metadata(value))
        except MetadataError as error:
            raise MetadataError(f"metadata of id {ids[len(encoded)]!r}: {error}") from None
    if len(encoded) != len(ids):
        raise MetadataError(f"expected {len(ids)} metadata, one for each id, got {len(encoded)}")
    return encoded


def encoded_size(list encoded not None):
    """Return the bytes of encoded metadata together, and how many of them are not empty."""
    cdef bytes data
    cdef Py_ssize_t n_bytes = 0, n_rows = 0
    for data in encoded:
        n_bytes += PyBytes_GET_SIZE(data)
        n_rows += PyBytes_GET_SIZE(data) > 0
    return n_bytes, n_rows


def decode_metadata(data):
    """Decode what `encode_metadata` returned; MetadataError when it is not that."""
    try:
        return _decode_object(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MetadataError(f"not encoded metadata: {error}") from error


@cython.final
cdef class MetadataStore:
    """Metadata by slot. Changes need the write lock of the collection, reads its read lock, `decode` none."""

    cdef readonly Blobs rows
    cdef list shapes  # tuples of keys by number; number 0 is PLAIN
    cdef dict shape_numbers
    cdef Py_ssize_t shape_bytes
    # Numbers of shapes by form: the encoded keys, one after the other. Shapes not used of late may be missing.
    cdef dict forms
    cdef Py_ssize_t form_bytes
    cdef bytes last_form
    cdef uint32_t last_shape
    cdef bytearray buffer  # of `put`; never shorter than the number of a shape

    def __cinit__(self):
        self.rows = Blobs()
        self.shapes = [()]
        self.shape_numbers = {}
        self.forms = {}
        self.last_form = b""
        self.buffer = bytearray(SHAPE_BYTES)

    def reserve(self, Py_ssize_t n_slots, size_t n_bytes, Py_ssize_t n_rows=1):
        """Make room, so that the `put` of `n_rows` rows below `n_slots` needs no more.

        Parameters
        ----------
        n_slots : int
            One more than the largest slot.
        n_bytes : int
            Sum of the rows' sizes as encoded by `encode_metadata`.
        n_rows : int
            How many they are.
        """
        if n_slots < 0 or n_rows < 0:
            raise ValueError(f"expected numbers of slots and rows, got {n_slots} and {n_rows}")
        if self.rows.is_wasteful():
            self.rows._compact()
        self.rows.reserve(n_slots, n_bytes + SHAPE_BYTES * <size_t>n_rows, n_rows)

    def has_room(self, Py_ssize_t n_slots, size_t n_bytes, Py_ssize_t n_rows):
        """Tell whether `reserve` has nothing to do."""
        return not self.rows.is_wasteful() and self.rows.has_room(n_slots, n_bytes + SHAPE_BYTES * n_rows, n_rows)

    def expect(self, list encoded not None):
        """Learn the keys of rows to come, as `encode_metadata` returned them, so that `put_many` only copies.

        Rows whose keys are too many, or too long, to be kept once are put by way of an object all the same. Raises
        MetadataError for what is not encoded metadata.
        """
        cdef bytes data
        cdef Layout layout
        cdef uint32_t shape
        cdef size_t n
        for data in encoded:
            n = <size_t>PyBytes_GET_SIZE(data)
            if n and _read_layout(&layout, PyBytes_AS_STRING(data), n) and not self._is_known(&layout, &shape):
                metadata = decode_metadata(data)
                if metadata and self._shape_of(metadata) != PLAIN:
                    self._note_form(data)

    def put_many(self, uint32_t first, list encoded not None):
        """Set the metadata of the slots from `first` on, one for each of `encoded`.

        What `encode_metadata` returned is copied without a detour over objects; b"" is for none. Raises MetadataError
        for what is not encoded metadata; those before it are set.
        """
        cdef uint32_t slot = first
        cdef bytes data
        cdef size_t n_bytes = SHAPE_BYTES * <size_t>len(encoded)
        for data in encoded:
            n_bytes += <size_t>PyBytes_GET_SIZE(data)
        self.rows.reserve(max(self.rows.n_numbers, <Py_ssize_t>first + len(encoded)), n_bytes, len(encoded))
        for data in encoded:
            if not self._put_encoded(slot, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data)):
                self.put(slot, decode_metadata(data))
                self._note_form(data)
            slot += 1

    cdef bint _put_encoded(self, uint32_t slot, const char* data, size_t n) except -1:
        """Store a row by copying its values; False when its shape must be looked up, or it is nothing to copy."""
        cdef Layout layout
        cdef uint32_t shape
        cdef size_t n_head, n_values
        cdef char* target
        if n == 0:
            self.rows.drop(slot)
            return True
        if not _read_layout(&layout, data, n) or not self._is_known(&layout, &shape):
            return False
        n_head = (1 if shape < 0x80 else 2 if shape < 0x4000 else 3) + (1 if layout.n < 16 else 3)
        n_values = n - layout.n_bytes_of_keys - layout.start
        # Three bytes longer than the object at most, which is what `put_many` reserves: that of the shape's number.
        target = self.rows.put_space(slot, n_head + n_values)
        _write_row(target, shape, &layout)
        return True

    cdef bint _is_known(self, const Layout* layout, uint32_t* shape) except -1:
        if not _has_form(layout, self.last_form):
            form = _form_of(layout)
            number = self.forms.get(form)
            if number is None:
                return False
            self.last_form, self.last_shape = form, number
        shape[0] = self.last_shape
        return True

    cdef int _note_form(self, bytes data) except -1:
        """Remember the shape of a row that was just put, so that the next one of its form is copied."""
        cdef Layout layout
        cdef bytes form
        if not _read_layout(&layout, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data)):
            return 0
        keys = tuple(decode_metadata(data))
        number = self.shape_numbers.get(keys)
        form = _form_of(&layout)
        if number is not None and len(keys) == layout.n and self.form_bytes + len(form) <= MAX_FORM_BYTES:
            self.forms[form] = number
            self.form_bytes += len(form)
        return 0

    def put(self, uint32_t slot, dict metadata):
        """Set the metadata of a slot to an object that `decode_metadata` returned."""
        cdef uint32_t shape
        cdef Py_ssize_t at = 0
        cdef char* head = PyByteArray_AS_STRING(self.buffer)
        cdef Py_ssize_t n
        if not metadata:
            self.rows.drop(slot)
            return
        shape = self._shape_of(metadata)
        values = metadata if shape == PLAIN else PyDict_Values(metadata)
        while shape >= 0x80:
            head[at] = <char>(shape | 0x80)
            shape >>= 7
            at += 1
        head[at] = <char>shape
        _encode_into(values, self.buffer, at + 1)
        n = PyByteArray_GET_SIZE(self.buffer)
        self.rows.reserve(max(self.rows.n_numbers, <Py_ssize_t>slot + 1), <size_t>n, 1)
        self.rows.put(slot, PyByteArray_AS_STRING(self.buffer), <size_t>n)
        if n < SHAPE_BYTES or n > MAX_IDLE_BUFFER:
            self.buffer = bytearray(SHAPE_BYTES)

    cdef uint32_t _shape_of(self, dict metadata) except? PLAIN:
        cdef Py_ssize_t n_bytes = 0
        if len(metadata) > MAX_SHAPE_KEYS:
            return PLAIN
        keys = tuple(metadata)
        number = self.shape_numbers.get(keys)
        if number is not None:
            return number
        n_bytes = _keys_bytes(keys)
        if (
            len(self.shapes) > MAX_SHAPES
            or n_bytes > MAX_SHAPE_BYTES
            or self.shape_bytes + n_bytes > MAX_ALL_SHAPE_BYTES
        ):
            return PLAIN
        return self._add_shape(tuple([sys.intern(key) if type(key) is str else str(key) for key in keys]))

    cdef uint32_t _add_shape(self, tuple keys) except? PLAIN:
        number = len(self.shapes)
        self.shapes.append(keys)
        self.shape_numbers[keys] = number
        self.shape_bytes += _keys_bytes(keys)
        return number

    def get(self, uint32_t slot):
        """Return the metadata of a slot, a new dict; {} when there is none."""
        cdef size_t n = 0
        cdef const char* data = self.rows.get(slot, &n)
        return {} if data == NULL else self._decode(data, n)

    def encoded(self, const uint32_t[::1] slots):
        """Return the metadata of these slots as `put_many` takes it: what `encode_metadata` returned for each."""
        cdef Py_ssize_t i
        cdef size_t n = 0
        cdef const char* data
        cdef list found = []
        for i in range(slots.shape[0]):
            data = self.rows.get(slots[i], &n)
            found.append(b"" if data == NULL else _encode(self._decode(data, n)))
        return found

    def give_up(self):
        """Forget all rows, and give back their memory; `decode` goes on."""
        self.rows = Blobs()

    def raw(self, uint32_t slot):
        """Return a copy of the row for a later `decode`; b"" when there is none."""
        cdef size_t n = 0
        cdef const char* data = self.rows.get(slot, &n)
        return b"" if data == NULL else PyBytes_FromStringAndSize(data, <Py_ssize_t>n)

    def decode(self, bytes raw):
        """Return the metadata that a row from `raw` holds, whatever happened to its slot meanwhile."""
        return self._decode(PyBytes_AS_STRING(raw), <size_t>PyBytes_GET_SIZE(raw)) if raw else {}

    cdef dict _decode(self, const char* data, size_t n):
        cdef uint32_t shape = 0
        cdef size_t at = _read_shape(<const uint8_t*>data, n, &shape)
        cdef Py_ssize_t i
        cdef dict found = {}
        if at == 0 or shape >= <size_t>len(self.shapes):
            raise ValueError("not a row of this store")
        payload = PyBytes_FromStringAndSize(data + at, <Py_ssize_t>(n - at))
        if shape == PLAIN:
            return _decode_object(payload)
        cdef tuple keys = self.shapes[shape]
        cdef list values = _decode_values(payload)
        for i in range(min(len(keys), len(values))):
            found[keys[i]] = values[i]
        return found

    def drop(self, uint32_t slot):
        """Forget the metadata of a slot."""
        self.rows.drop(slot)

    def compact_if_wasteful(self):
        """Give dropped rows' memory back when it is more than half, and more than 1 MiB; return whether it did."""
        return self.rows.compact_if_wasteful()

    def memory_bytes(self):
        """Return the allocated bytes, those of the shapes estimated."""
        shapes = self.shape_bytes + 100 * len(self.shapes) + self.form_bytes + 100 * len(self.forms)
        return self.rows.memory_bytes() + shapes + sys.getsizeof(self.buffer)

    def freeze(self):
        """Return the sections of the present state: ``metadata/arena``, ``metadata/start``, ``metadata/shapes``."""
        view = memoryview(_encode(self.shapes[1:]))
        return [
            *self.rows.freeze("metadata"),
            Section("metadata/shapes", 1, len(view), lambda start, stop: view[start:stop]),
        ]

    def load(self, reader, Py_ssize_t n_slots):
        """Replace the contents by the sections that `freeze` gave, checked to the last value.

        Parameters
        ----------
        reader : SectionReader
            The snapshot.
        n_slots : int
            Slots of the collection.

        Raises
        ------
        CorruptSnapshot
            The sections are not what `freeze` writes.
        """
        cdef MetadataStore fresh = MetadataStore()
        cdef Py_ssize_t slot
        try:
            shapes = _decode_shapes(reader.read("metadata/shapes") or b"\x90")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptSnapshot(f"metadata/shapes: {error}") from error
        for number, keys in enumerate(shapes, 1):
            if number > MAX_SHAPES or not 0 < len(keys) <= MAX_SHAPE_KEYS or len(set(keys)) < len(keys):
                raise CorruptSnapshot(f"metadata/shapes: shape {number} cannot have been written")
            fresh._add_shape(tuple([sys.intern(key) for key in keys]))
        fresh.rows.load("metadata", reader, n_slots)
        for slot in range(fresh.rows.n_used):
            if not fresh._is_sound(<uint32_t>slot):
                raise CorruptSnapshot(f"metadata/arena: the row of slot {slot} is damaged")
        self.rows = fresh.rows
        self.shapes = fresh.shapes
        self.shape_numbers = fresh.shape_numbers
        self.shape_bytes = fresh.shape_bytes
        self.forms, self.form_bytes, self.last_form = {}, 0, b""

    cdef bint _is_sound(self, uint32_t slot) except -1:
        cdef size_t n = 0
        cdef const uint8_t* data = <const uint8_t*>self.rows.get(slot, &n)
        cdef uint32_t shape = 0
        cdef size_t at
        cdef Cursor cursor
        cdef Cursor values
        cdef Head head
        if data == NULL:
            return True
        at = _read_shape(data, n, &shape)
        if at == 0 or shape >= <size_t>len(self.shapes):
            return False
        cursor.at = data + at
        cursor.end = data + n
        values = cursor
        read_head(&values, &head)
        if shape == PLAIN:
            if head.kind != A_MAP:
                return False
        elif head.kind != A_LIST or head.n != <size_t>len(<tuple>self.shapes[shape]):
            return False
        return skip_value(&cursor, 1) and cursor.at == cursor.end


cdef int _yield() except -1:
    with nogil:
        pass
    return 0


cdef Py_ssize_t _keys_bytes(tuple keys) except -1:
    return sum([KEY_BYTES + len(key) for key in keys])


cdef Py_ssize_t _weigh(object value, int depth, Py_ssize_t budget) noexcept:
    """Take the least size of `value` from `budget`; negative when that is too little, CLOSER_LOOK for other types.

    Each value counts at least a byte, so that a list that contains another one twice, 32 times over, ends soon.
    """
    cdef Py_ssize_t position = 0
    cdef PyObject* key
    cdef PyObject* item
    budget -= 1
    if PyUnicode_CheckExact(value):
        return budget - PyUnicode_GET_LENGTH(value)
    if PyLong_CheckExact(value) or value is None or PyBool_Check(value):
        return budget
    if PyFloat_CheckExact(value):
        return budget - 8 if isfinite(PyFloat_AS_DOUBLE(value)) else CLOSER_LOOK
    if depth > MAX_DEPTH:
        return CLOSER_LOOK
    if PyDict_CheckExact(value):
        while budget >= 0 and PyDict_Next(value, &position, &key, &item):
            if not PyUnicode_CheckExact(<object>key):
                return CLOSER_LOOK
            budget = _weigh(<object>item, depth + 1, budget - 1 - PyUnicode_GET_LENGTH(<object>key))
        return budget
    if PyList_CheckExact(value):
        for element in <list>value:
            budget = _weigh(element, depth + 1, budget)
            if budget < 0:
                return budget
        return budget
    if PyTuple_CheckExact(value):
        for element in <tuple>value:
            budget = _weigh(element, depth + 1, budget)
            if budget < 0:
                return budget
        return budget
    return CLOSER_LOOK


cdef object _plain(object value, str path, int depth, list budget):
    """Return a copy of `value` made of exact JSON types; MetadataError where that cannot be."""
    budget[0] -= 1
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value, path, budget)
    if isinstance(value, int):
        if not -(1 << 63) <= value < (1 << 64):
            raise MetadataError(f"metadata {_at(path)}: expected an integer within [-2^63, 2^64), got {_kind(value)}")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MetadataError(f"metadata {_at(path)}: expected a finite number, got {float(value)}")
        return float(value)
    if not isinstance(value, (dict, list, tuple)):
        raise MetadataError(
            f"metadata {_at(path)}: expected null, bool, number, string, list or object, got {_kind(value)}"
        )
    if depth > MAX_DEPTH:
        raise MetadataError(f"metadata {_at(path)}: expected at most {MAX_DEPTH} levels of objects and lists")
    if budget[0] < 0:
        raise MetadataError(f"metadata: expected at most {MAX_BYTES} bytes encoded")
    if not isinstance(value, dict):
        return [_plain(element, f"{path}[{i}]", depth + 1, budget) for i, element in enumerate(value)]
    found = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise MetadataError(f"metadata {_at(path)}: expected strings as keys, got {_kind(key)}")
        inner = f"{path}.{key}" if path else str(key)
        found[_plain_text(key, inner, budget)] = _plain(item, inner, depth + 1, budget)
    return found


cdef str _plain_text(object text, str path, list budget):
    try:
        budget[0] -= len(text.encode())
    except UnicodeEncodeError:
        raise MetadataError(f"metadata {_at(path)}: expected text without lone surrogates, got {text[:40]!a}") from None
    if budget[0] < 0:
        raise MetadataError(f"metadata: expected at most {MAX_BYTES} bytes encoded")
    return str.__str__(text)


cdef str _at(str path):
    return ascii(path[:200]) if path else "object"


cdef str _kind(object value):
    kind = type(value).__name__
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"{kind} of {value.bit_length()} bits"
    if isinstance(value, (int, float, bytes)):
        return f"{kind} {value!r:.80}"
    module = type(value).__module__
    return kind if module == "builtins" else f"{module}.{kind}"  # NumPy has a bool of its own


cdef inline size_t _read_shape(const uint8_t* data, size_t n, uint32_t* shape) noexcept nogil:
    """Return how many bytes the number of the shape takes, 0 when it is none."""
    cdef size_t i
    cdef uint32_t value = 0
    for i in range(min(n, <size_t>SHAPE_BYTES)):
        value |= <uint32_t>(data[i] & 0x7F) << (7 * i)
        if data[i] < 0x80:
            shape[0] = value
            return i + 1
    return 0


# ----------------------------------------------------------------------------------- encoded objects, taken apart

cdef struct Layout:
    const char* data
    Py_ssize_t n  # keys
    size_t start  # of the first key
    size_t n_bytes_of_keys
    uint32_t[MAX_SHAPE_KEYS] key  # where each key starts
    uint32_t[MAX_SHAPE_KEYS + 1] value  # where each value starts; behind the last one, where it stops


cdef bint _read_layout(Layout* layout, const char* data, size_t n) noexcept nogil:
    """Find the keys and values of an encoded object; False when it is none, has no key, or too many for a shape."""
    cdef Cursor cursor
    cdef Head head
    cdef Py_ssize_t i
    cursor.at = <const uint8_t*>data
    cursor.end = cursor.at + n
    read_head(&cursor, &head)
    if n > MAX_BYTES or head.kind != A_MAP or head.n == 0 or head.n > MAX_SHAPE_KEYS:
        return False
    layout.data = data
    layout.n = <Py_ssize_t>head.n
    layout.start = <size_t>(<const char*>cursor.at - data)
    layout.n_bytes_of_keys = 0
    for i in range(layout.n):
        layout.key[i] = <uint32_t>(<const char*>cursor.at - data)
        # A key that is no string has no place in a shape; the same holds for what is no text in UTF-8.
        if cursor.at >= cursor.end or not _is_text(cursor.at[0]) or not skip_value(&cursor, 1):
            return False
        layout.value[i] = <uint32_t>(<const char*>cursor.at - data)
        layout.n_bytes_of_keys += layout.value[i] - layout.key[i]
        if not skip_value(&cursor, 2):
            return False
    layout.value[layout.n] = <uint32_t>n
    return cursor.at == cursor.end


cdef inline bint _is_text(uint8_t tag) noexcept nogil:
    return 0xA0 <= tag < 0xC0 or 0xD9 <= tag <= 0xDB


cdef bint _has_form(const Layout* layout, bytes form) noexcept:
    cdef const char* known = PyBytes_AS_STRING(form)
    cdef Py_ssize_t i
    cdef size_t n
    if layout.n_bytes_of_keys != <size_t>PyBytes_GET_SIZE(form):
        return False
    for i in range(layout.n):
        n = layout.value[i] - layout.key[i]
        if memcmp(known, layout.data + layout.key[i], n) != 0:
            return False
        known += n
    return True


cdef bytes _form_of(const Layout* layout):
    cdef bytes form = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>layout.n_bytes_of_keys)
    cdef char* target = PyBytes_AS_STRING(form)
    cdef Py_ssize_t i
    cdef size_t n
    for i in range(layout.n):
        n = layout.value[i] - layout.key[i]
        memcpy(target, layout.data + layout.key[i], n)
        target += n
    return form


cdef void _write_row(char* target, uint32_t shape, const Layout* layout) noexcept nogil:
    """Write the number of the shape and an array of the values."""
    cdef Py_ssize_t i
    cdef size_t stop, n
    while shape >= 0x80:
        target[0] = <char>(shape | 0x80)
        shape >>= 7
        target += 1
    target[0] = <char>shape
    if layout.n < 16:
        target[1] = <char>(0x90 | layout.n)
        target += 2
    else:
        target[1] = <char>0xDC
        target[2] = 0
        target[3] = <char>layout.n
        target += 4
    for i in range(layout.n):
        stop = layout.key[i + 1] if i + 1 < layout.n else layout.value[layout.n]
        n = stop - layout.value[i]
        memcpy(target, layout.data + layout.value[i], n)
        target += n
