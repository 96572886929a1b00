"""How are key-value pairs kept in memory, and how does ``db.kv`` show them?"""

from __future__ import annotations

import struct
import threading
from bisect import bisect_left
from collections.abc import Iterator, MutableMapping
from heapq import merge
from typing import Protocol, overload

from kektordb.errors import ConfigError, CorruptSnapshot
from kektordb.links import RESERVED, Links
from kektordb.types import Section, SectionReader

__all__ = ["AllKeys", "KeyValue", "KeyValueDatabase", "KeyValueView", "PendingPairs", "check_key", "check_value"]

MAX_KEY_BYTES = 65_536
MAX_VALUE_BYTES = 256 << 20
# Bytes of a key, bytes of its value.
LENGTHS = struct.Struct("<II")
# The two objects beside their text (49 + 33 bytes) and their place in a dict (about 100 at its emptiest).
PAIR_BYTES = 180
# So many changes are looked at beside an order before a new one is made of both.
MANY_CHANGES = 1024


class _Order:
    """The keys of one moment in order, which are not there before they are sorted, and what has come and gone since."""

    def __init__(self) -> None:
        self.keys: list[str] | None = None  # set once: running iterators keep it
        self.changes: list[tuple[str, bool]] = []  # keys, and whether they are there


class KeyValue:
    """Pairs of str keys and bytes values, and the links among them; pure memory.

    Trusts its callers: keys and values passed `check_key` and `check_value`. `set`, `delete`, `freeze` and `load` need
    the commit lock; the others may run beside them.

    Attributes
    ----------
    n_own : int
        Keys of the user's own: all but those that the database keeps for itself, which begin with `RESERVED`.
    """

    def __init__(self) -> None:
        self._pairs: dict[str, bytes] = {}
        self.n_own = 0
        self._n_text_bytes = 0
        self._order: _Order | None = None
        self._order_lock = threading.Lock()
        self.links = Links()

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, key: object) -> bool:
        return key in self._pairs

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, None when there is none."""
        return self._pairs.get(key)

    def set(self, key: str, value: bytes) -> None:
        """Set the value of a key."""
        before = self._pairs.get(key)
        self._pairs[key] = value
        if before is None:
            self._n_text_bytes += _utf8_size(key) + len(value)
            self._note(key, True)
            if key.startswith(RESERVED):
                self.links.note(key)
            else:
                self.n_own += 1
        else:
            self._n_text_bytes += len(value) - len(before)

    def delete(self, key: str) -> bool:
        """Forget a key; return whether it was there."""
        before = self._pairs.pop(key, None)
        if before is None:
            return False
        self._n_text_bytes -= _utf8_size(key) + len(before)
        self._note(key, False)
        if key.startswith(RESERVED):
            self.links.forget(key)
        else:
            self.n_own -= 1
        return True

    def prefix(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys that begin with `prefix`, as they are now, in order of their UTF-8 bytes."""
        order = self._order
        if order is None or (order.keys is not None and len(order.changes) > MANY_CHANGES):
            order = self._sort(order)
        if order is None or order.keys is None:
            # Another thread sorts. The keys are copied in one step, and sorted then.
            return _run(sorted(self._pairs), prefix)
        changes = order.changes[:]
        return _run(order.keys, prefix) if not changes else _woven(order.keys, changes, prefix)

    def _note(self, key: str, is_there: bool) -> None:
        """Tell the order of a key that came or went, after that: an order that is begun meanwhile has it or is told."""
        with self._order_lock:
            order = self._order
            if order is not None:
                order.changes.append((key, is_there))
                if len(order.changes) > MANY_CHANGES + len(self._pairs) // 4:
                    self._order = None  # nobody asks for it

    def _sort(self, old: _Order | None) -> _Order | None:
        """Put a new order in the place of an old one; None when another thread has done so."""
        order = _Order()
        with self._order_lock:
            if self._order is not old:
                return None
            self._order = order
            changes = [] if old is None else old.changes
        keys = None if old is None else old.keys
        order.keys = sorted(self._pairs) if keys is None else list(_woven(keys, changes, ""))
        return order

    def memory_bytes(self) -> int:
        """Return the bytes that the pairs take, estimated."""
        return self._n_text_bytes + PAIR_BYTES * len(self._pairs) + 8 * len(self._pairs if self._order else ())

    def freeze(self) -> list[Section]:
        """Return the section ``kv/pairs`` of the present state; costs a copy of the dict, not of its contents.

        The section: for each pair the lengths of key and value (uint32 each, little-endian), the key, the value.
        """
        n_bytes = self._n_text_bytes + LENGTHS.size * len(self._pairs)
        return [Section("kv/pairs", 1, n_bytes, _Encoding(self._pairs.copy()).read)]

    def load(self, reader: SectionReader) -> None:
        """Replace the pairs by those of a snapshot. Raises CorruptSnapshot when its bytes are no pairs."""
        data = memoryview(reader.read("kv/pairs"))
        fresh = KeyValue()
        at = 0
        while at < len(data):
            start = at + LENGTHS.size
            n_key, n_value = LENGTHS.unpack_from(data, at) if start <= len(data) else (0, 0)
            at = start + n_key + n_value
            if at > len(data) or not 1 <= n_key <= MAX_KEY_BYTES or n_value > MAX_VALUE_BYTES:
                raise CorruptSnapshot("kv/pairs: lengths that cannot be", offset=start)
            try:
                key = str(data[start : start + n_key], "utf-8")
            except UnicodeDecodeError as error:
                raise CorruptSnapshot("kv/pairs: a key that is not UTF-8", offset=start) from error
            if key in fresh:
                raise CorruptSnapshot(f"kv/pairs: key {key[:100]!r} stands twice", offset=start)
            fresh.set(key, bytes(data[start + n_key : at]))
        self._pairs, self.n_own, self._n_text_bytes = fresh._pairs, fresh.n_own, fresh._n_text_bytes
        self.links, self._order = fresh.links, None


class _Encoding:
    """The bytes of ``kv/pairs``, made as they are asked for: in ascending ranges, or again from the start."""

    def __init__(self, pairs: dict[str, bytes]) -> None:
        self._pairs = pairs
        self._rewind()

    def _rewind(self) -> None:
        self._rest = iter(self._pairs.items())
        self._pieces: list[memoryview] = []  # what follows first stands last
        self._at = 0

    def read(self, start: int, stop: int) -> bytearray:
        """Return the bytes from `start` to `stop`."""
        if start < self._at:
            self._rewind()
        self._take(start - self._at)
        return self._take(stop - start)

    def _take(self, n_bytes: int) -> bytearray:
        found = bytearray()
        while len(found) < n_bytes:
            if not self._pieces:
                key, value = next(self._rest)
                text = key.encode()
                self._pieces = [memoryview(value), memoryview(LENGTHS.pack(len(text), len(value)) + text)]
            piece = self._pieces.pop()
            n_wanted = n_bytes - len(found)
            found += piece[:n_wanted]
            if len(piece) > n_wanted:
                self._pieces.append(piece[n_wanted:])
        self._at += n_bytes
        return found


class PendingPairs:
    """Pairs as they will be when the changes of a batch are applied; for the thread of the batch alone.

    Parameters
    ----------
    pairs : KeyValue
        As they are; nobody changes them meanwhile.
    """

    def __init__(self, pairs: KeyValue) -> None:
        self._pairs = pairs
        self._changes: dict[str, bytes | None] = {}  # None where a key goes
        # Their keys alone: those that `pairs` has not, and those of `pairs` that go.
        self._added, self._gone = KeyValue(), KeyValue()

    def __len__(self) -> int:
        return len(self._pairs) + len(self._added) - len(self._gone)

    @property
    def n_own(self) -> int:
        """Keys of the user's own."""
        return self._pairs.n_own + self._added.n_own - self._gone.n_own

    def __contains__(self, key: object) -> bool:
        return self._changes[key] is not None if key in self._changes else key in self._pairs

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, None when there is none."""
        return self._changes[key] if key in self._changes else self._pairs.get(key)

    def change(self, key: str, value: bytes | None) -> None:
        """Set the value of a key; None deletes it."""
        self._changes[key] = value
        if key in self._pairs:
            if value is None:
                self._gone.set(key, b"")
            else:
                self._gone.delete(key)
        elif value is None:
            self._added.delete(key)
        else:
            self._added.set(key, b"")

    def prefix(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys that begin with `prefix`, as they are now, in order of their UTF-8 bytes."""
        left = _without(self._pairs.prefix(prefix), self._gone.prefix(prefix))
        return merge(left, self._added.prefix(prefix))


class KeyValueDatabase(Protocol):
    """What `KeyValueView` needs of a database; both raise when it is closed."""

    def _kv(self) -> KeyValue | PendingPairs:
        """Return the pairs as the calling thread sees them."""
        ...

    def _kv_commit(self, key: str, value: bytes | None) -> None:
        """Set a key durably; None deletes it."""
        ...


class KeyValueView(MutableMapping[str, bytes]):
    """The key-value store of a database, ``db.kv``: a mapping from str to bytes, in key order.

    Each change is one durable operation; those in ``with db.batch()`` are one together, which only its own thread sees
    before it ends. Keys have 1 to 65,536 bytes of UTF-8, values up to 256 MiB; others raise ConfigError. An iterator
    shows the keys of the moment it was made. Usable from any thread.

    What the database keeps for itself, under keys that begin with ``"\\0kektordb\\0"``, is not here: such a key is not
    found, and setting or deleting it raises ConfigError.
    """

    # Keys that begin so are out of reach.
    _hidden: tuple[str, ...] = (RESERVED,)

    def __init__(self, database: KeyValueDatabase) -> None:
        self._database = database

    def _find(self, key: str) -> bytes | None:
        value = self._database._kv().get(key)
        return None if value is None or key.startswith(self._hidden) else value

    def _within_reach(self, key: str) -> str:
        if isinstance(key, str) and key.startswith(self._hidden):
            raise ConfigError(f"this key is reserved: those that begin with {RESERVED!r} are the database's own")
        return key

    def __getitem__(self, key: str) -> bytes:
        value = self._find(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: bytes | bytearray | memoryview | str) -> None:
        """Set a key; a str is stored as its UTF-8 bytes, a buffer is copied."""
        self._database._kv_commit(self._within_reach(check_key(key)), check_value(value))

    def __delitem__(self, key: str) -> None:
        if self._within_reach(key) not in self:
            raise KeyError(key)
        self._database._kv_commit(key, None)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._find(key) is not None

    def __len__(self) -> int:
        return self._database._kv().n_own

    def __iter__(self) -> Iterator[str]:
        return self.prefix("")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} keys>"

    @overload
    def get_str(self, key: str) -> str | None: ...
    @overload
    def get_str(self, key: str, default: str) -> str: ...
    def get_str(self, key: str, default: str | None = None) -> str | None:
        """Return the value of a key as text, `default` when there is none; UnicodeDecodeError when it is not UTF-8."""
        value = self._find(key)
        return default if value is None else value.decode()

    def prefix(self, prefix: str) -> Iterator[str]:
        """Iterate over the keys that begin with `prefix`, in key order."""
        if not isinstance(prefix, str):
            raise ConfigError(f"expected a str as prefix, got {type(prefix).__name__}")
        return (key for key in self._database._kv().prefix(prefix) if not key.startswith(self._hidden))

    def clear(self) -> None:
        """Delete all keys, one durable operation each; stops at the first error."""
        for key in self:
            self._database._kv_commit(key, None)


class AllKeys(KeyValueView):
    """The same with nothing hidden, for what the database keeps for itself."""

    _hidden = ()

    def __len__(self) -> int:
        return len(self._database._kv())


def check_key(key: object) -> str:
    """Return `key` if it is a str of 1 to 65,536 UTF-8 bytes; else raise ConfigError."""
    if not isinstance(key, str):
        raise ConfigError(f"expected a str as key, got {type(key).__name__}")
    n_bytes = len(_utf8(key, "key"))
    if not 1 <= n_bytes <= MAX_KEY_BYTES:
        raise ConfigError(f"expected a key of 1 to {MAX_KEY_BYTES} bytes, got {n_bytes}")
    return str.__str__(key)


def check_value(value: bytes | bytearray | memoryview | str) -> bytes:
    """Return `value` as bytes of its own, at most 256 MiB of them; else raise ConfigError."""
    if isinstance(value, str):
        value = _utf8(value, "value")
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise ConfigError(f"expected bytes, bytearray, memoryview or str as value, got {type(value).__name__}")
    n_bytes = value.nbytes if isinstance(value, memoryview) else len(value)
    if n_bytes > MAX_VALUE_BYTES:
        raise ConfigError(f"expected a value of at most {MAX_VALUE_BYTES} bytes, got {n_bytes}")
    return bytes(value)


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"expected a {what} without lone surrogates, got {text[:40]!a}") from None


def _utf8_size(key: str) -> int:
    return len(key) if key.isascii() else len(key.encode())


def _woven(ordered: list[str], changes: list[tuple[str, bool]], prefix: str) -> Iterator[str]:
    """Iterate over the keys that begin with `prefix` of an order and the changes since, in order.

    No more is looked at than the changes and the keys that are asked for.
    """
    last = dict(changes)
    at = bisect_left(ordered, prefix)
    for key in sorted(key for key in last if key.startswith(prefix)):
        place = bisect_left(ordered, key, at)
        for i in range(at, place):
            yield ordered[i]
        at = place + (place < len(ordered) and ordered[place] == key)
        if last[key]:
            yield key
    yield from _run(ordered, prefix, at)


def _run(ordered: list[str], prefix: str, start: int = 0) -> Iterator[str]:
    for i in range(bisect_left(ordered, prefix, start), len(ordered)):
        if not ordered[i].startswith(prefix):
            return
        yield ordered[i]


def _without(keys: Iterator[str], gone: Iterator[str]) -> Iterator[str]:
    """Leave out keys of a row in order; all that go are in it, in the same order."""
    out = next(gone, None)
    for key in keys:
        if key == out:
            out = next(gone, None)
        else:
            yield key
