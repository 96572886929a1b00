"""How much memory will writes take? Found out, and got, before they are logged: applying them then asks for none."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from msgspec import msgpack

from kektordb._metadata import decode_metadata, encode_metadata, encoded_size
from kektordb._room import TextRoom
from kektordb._strings import utf8_size
from kektordb.errors import VectorError
from kektordb.operations import PutItems, PutMetadata
from kektordb.text.fields import Counted

if TYPE_CHECKING:
    from kektordb.collection import Collection

__all__ = ["SLICE", "Reservations", "changed_parts"]

# Rows that come in at once while searches wait: about a millisecond of work under the write lock.
SLICE = 256
# Of lists that grow, as many as take about as long.
SLICE_LISTS = 4096
# Rows for which memory is got at least: address space for the most part, until it is written to.
AHEAD = 256
# Bytes of metadata from which on an update looks for what it does not change.
LONG = 4096

Put: TypeAlias = PutItems | PutMetadata
# Of each row the words; or the numbers of fields that lose their text, and the words of those that get one.
Words: TypeAlias = list[list[Counted]]
Changes: TypeAlias = tuple[list[int], list[Counted]]
W = TypeVar("W", Words, Changes)


class Reservations:
    """The memory of writes to one collection that are checked and not yet applied; the commit lock is held.

    Each reservation is for all writes that wait, and takes the place of the one before. What a write that failed has
    reserved stays for the next ones.

    Parameters
    ----------
    collection : Collection
    """

    def __init__(self, collection: Collection) -> None:
        # Weak, since the collection has this one: a cycle would keep the memory of an index that is gone for a while.
        self._collection: Collection = weakref.proxy(collection)
        self.n_rows = 0  # slots for which there is memory in the graph
        # What was found out on the way, by the operation's identity.
        self._words: dict[int, tuple[PutItems, Words]] = {}
        self._changes: dict[int, tuple[PutMetadata, Changes]] = {}
        self._room: TextRoom | None = None

    def make(self, operations: Sequence[Put]) -> None:
        """Get the memory that applying `operations` one after the other takes.

        MemoryError changes nothing that can be seen; nor does VectorError, when rows are not of one dimension, which
        they are unless a log or a leader says so.
        """
        collection = self._collection
        puts = [operation for operation in operations if isinstance(operation, PutItems)]
        self._check_dims(puts)
        updates = [operation for operation in operations if isinstance(operation, PutMetadata)]
        olds = self._before(operations) if updates else []
        # What takes long is done beside the searches.
        collection.columns.merge_beside()
        collection.metadata.expect([blob for put in puts for blob in put.metadata])
        self._room = None
        if collection.texts is not None:
            self._room = self._text_room(puts, updates, olds)
        indexed = [put.metadata for put in puts]
        if updates:
            # What is put may be taken away again, by the next update.
            parts = [changed_parts(update, old) for update, (_, old) in zip(updates, olds, strict=True)]
            new = [
                update.metadata if coming is None else encode_metadata(coming)
                for update, (_, coming) in zip(updates, parts, strict=True)
            ]
            indexed += [*indexed, new, new, [encode_metadata(going) for going, _ in parts]]
        encoded = list(chain.from_iterable(indexed)) if len(indexed) != 1 else indexed[0]
        self._get(puts, updates, encoded)

    def _check_dims(self, puts: list[PutItems]) -> None:
        dim = self._collection.dim
        for put in puts:
            found = put.vectors.shape[1]
            dim = dim or found
            if found != dim:
                raise VectorError(f"expected {dim} dimensions, got {found} (id {put.ids[0]!r:.80})")

    def _before(self, operations: Sequence[Put]) -> list[tuple[int, dict[str, Any]]]:
        """Return for each update the slot, and the metadata that it will find; -1 when it will find no item."""
        collection = self._collection
        first, found = collection.n_slots, []
        waiting: dict[str, tuple[int, bytes]] = {}
        for operation in operations:
            if isinstance(operation, PutItems):
                waiting.update(zip(operation.ids, enumerate(operation.metadata, first), strict=True))
                first += len(operation.ids)
                continue
            slot = collection.ids.find_str(operation.id)
            if operation.id in waiting:
                slot, blob = waiting[operation.id]
                old = decode_metadata(blob) if blob else {}
            else:
                old = collection.metadata.get(slot) if slot >= 0 else {}
            found.append((slot, old))
            waiting[operation.id] = (slot, operation.metadata)
        return found

    # ------------------------------------------------------------------------------------------------------- getting

    def _get(self, puts: list[PutItems], updates: list[PutMetadata], encoded: list[bytes]) -> None:
        collection, columns, room = self._collection, self._collection.columns, self._room
        columns.forget()
        is_small = len(encoded) <= SLICE
        has_rows = self._has_rows(puts, updates)
        has_columns = is_small and columns.expect(encoded, True) and columns.has_room()
        # Most single rows find room, and no search has to wait.
        if has_rows and has_columns and room is None:
            return
        if not has_rows:
            collection.ids.prepare_more(max(sum(len(put.ids) for put in puts), AHEAD))
        columns.forget()
        with collection.lock.write:
            if not has_rows:
                self._get_rows(puts, updates)
            if is_small and not has_columns:
                columns.expect(encoded)
                columns.reserve()
            more = room is not None and room.make(SLICE_LISTS)
        while room is not None and more:
            with collection.lock.write:
                more = room.make(SLICE_LISTS)
        if not is_small:
            self._get_columns(encoded)

    def _get_columns(self, encoded: list[bytes]) -> None:
        columns, lock = self._collection.columns, self._collection.lock
        for start in range(0, len(encoded), SLICE):
            with lock.write:
                columns.expect(encoded[start : start + SLICE])
        with lock.write:
            columns.reserve()

    def _sizes(self, puts: list[PutItems], updates: list[PutMetadata]) -> tuple[int, int, int, int]:
        """Return rows, bytes of ids, bytes of metadata and pieces of metadata."""
        n, n_id_bytes = 0, 0
        n_bytes, n_pieces = sum(len(update.metadata) for update in updates), len(updates)
        for put in puts:
            n += len(put.ids)
            n_id_bytes += utf8_size(put.ids)
            size, pieces = encoded_size(put.metadata)
            n_bytes += size
            n_pieces += pieces
        return n, n_id_bytes, n_bytes, n_pieces

    def _has_rows(self, puts: list[PutItems], updates: list[PutMetadata]) -> bool:
        collection = self._collection
        n, n_id_bytes, n_bytes, n_pieces = self._sizes(puts, updates)
        if puts:
            collection.graph_for(puts[0].vectors.shape[1])
        n_slots = collection.n_slots + n
        return bool(
            n_slots <= self.n_rows
            and collection.ids.has_room(n, n_id_bytes)
            and collection.metadata.has_room(n_slots, n_bytes, n_pieces)
        )

    def _get_rows(self, puts: list[PutItems], updates: list[PutMetadata]) -> None:
        collection = self._collection
        n, n_id_bytes, n_bytes, n_pieces = self._sizes(puts, updates)
        ahead = max(n, AHEAD)
        n_slots = collection.n_slots + ahead
        if puts:
            collection.graph_for(puts[0].vectors.shape[1]).reserve(ahead)
            collection.ids.reserve_more(ahead, n_id_bytes)
            collection.alive.reserve(n_slots)
        collection.metadata.reserve(n_slots, n_bytes, n_pieces)
        if puts:
            self.n_rows = n_slots

    # --------------------------------------------------------------------------------------------------------- texts

    def _text_room(
        self, puts: list[PutItems], updates: list[PutMetadata], olds: list[tuple[int, dict[str, Any]]]
    ) -> TextRoom:
        texts = self._collection.texts
        assert texts is not None
        words = {id(put): (put, self._kept(self._words, put) or texts.count(put.metadata)) for put in puts}
        changes = {}
        changed = []
        for update, (slot, old) in zip(updates, olds, strict=True):
            found = self._kept(self._changes, update) or texts.changes(old, decode_metadata(update.metadata))
            changes[id(update)] = (update, found)
            if slot >= 0 and found[1]:
                changed.append((slot, found[1]))
        self._words, self._changes = words, changes
        rows = words[id(puts[0])][1] if len(puts) == 1 else [row for _, of_put in words.values() for row in of_put]
        return texts.room(self._collection.n_slots, rows, changed)

    @staticmethod
    def _kept(known: dict[int, tuple[Any, W]], operation: Put) -> W | None:
        found = known.get(id(operation))
        return found[1] if found is not None and found[0] is operation else None

    def words(self, operation: PutItems) -> Words:
        """Return the words of a reserved write that is applied now."""
        texts = self._collection.texts
        assert texts is not None
        found = self._kept(self._words, operation)
        return texts.count(operation.metadata) if found is None else found

    def changes(self, operation: PutMetadata, old: dict[str, Any], new: dict[str, Any]) -> Changes:
        """Return what a reserved update changes that is applied now."""
        texts = self._collection.texts
        assert texts is not None
        found = self._kept(self._changes, operation)
        return texts.changes(old, new) if found is None else found

    def give_back(self) -> None:
        """Give back what was not taken, after all is applied; the write lock is held."""
        self._collection.columns.trim()
        if self._room is not None:
            self._room.trim()
        self.forget()

    def forget(self) -> None:
        """Forget what was found out about writes that are applied."""
        self._room = None
        if self._words or self._changes:
            self._words, self._changes = {}, {}


def changed_parts(update: PutMetadata, old: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what an update takes out of the columns and what it puts in; None is all of it.

    Of much metadata, the fields that stay as they are are left out: a list of thousands is not indexed anew whenever
    a number beside it changes. Of little, to look costs more than to index.
    """
    if len(update.metadata) < LONG:
        return old, None
    new = decode_metadata(update.metadata)
    if any("." in key for key in (*old, *new)):
        return old, new  # a key with a dot may be the same field as a nested one
    same = {key for key, value in new.items() if key in old and _is_same(old[key], value)}
    going, coming = ({key: one[key] for key in one if key not in same} for one in (old, new))
    return going, coming


def _is_same(a: object, b: object) -> bool:
    """Tell whether two values are encoded alike: 1, 1.0 and True are equal, and three values."""
    return bool(a == b) and msgpack.encode(a) == msgpack.encode(b)
