"""Does what an index holds agree with itself? Graph, ids, living slots, vectors, columns, texts: each against another.

What is compared is copied in one piece while no write is under way, so that what a write has half done is no fault; the
comparison itself is in nobody's way. The graph is looked at in slices; what looks wrong in it is looked at again while
no write is under way, for a writer may have been about to link it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from kektordb._columns import Columns
from kektordb._hnsw import Graph
from kektordb.collection import Collection
from kektordb.precision import is_normalised, squared_lengths
from kektordb.text.fields import MAX_FIELDS, TextFields
from kektordb.types import Section

__all__ = ["faults_of"]

SHOWN = 20  # of one kind; where many things are wrong, one more says nothing
ROWS = 4096
Slots = npt.NDArray[np.uint32]
# By field: number of the text's words, and how often each term is there.
Text = dict[str, tuple[int, dict[str, int]]]


def faults_of(collection: Collection, writes: AbstractContextManager[object]) -> list[str]:
    """Return what does not hold, up to 20 of each kind; empty when all does. No write is under way within `writes`."""
    # Between two locks of a write there are rows without links, which is no fault.
    with writes, collection.lock.read:
        graph = collection.graph
        fault = "" if graph is None else graph.fault()
        if fault:
            return [f"graph: {fault}"]  # nothing that follows links may be tried
        copy = _Copy(collection)
    kinds = [copy.ids(), copy.columns(), copy.texts()]
    if graph is not None:
        kinds += [_links(collection, graph, copy.n, writes), _vectors(collection, graph, copy.slots)]
    return [fault for kind in kinds for fault in _some(kind)]


def _some(faults: Iterable[str]) -> Iterator[str]:
    for n, fault in enumerate(faults):
        if n == SHOWN:
            yield f"... and more of {fault.partition(':')[0]}"
            return
        yield fault


# --------------------------------------------------------------------------------------------------------- the graph


def _links(collection: Collection, graph: Graph, n: int, writes: AbstractContextManager[object]) -> Iterator[str]:
    """Look for rows that link to themselves, or twice to the same one, which `Graph.fault` does not."""
    for start in range(0, n, ROWS):
        with collection.lock.read:
            odd = [slot for slot in range(start, min(start + ROWS, n)) if _odd_level(graph, slot) >= 0]
        for slot in odd:
            with writes, collection.lock.read:
                level = _odd_level(graph, slot)
            if level >= 0:
                yield f"graph: slot {slot} links to itself or twice to another on level {level}"


def _odd_level(graph: Graph, slot: int) -> int:
    """Return the level on which a list is odd, -1 for none."""
    for level in range(graph.level(slot) + 1):
        found = graph.neighbours(slot, level)
        if len(set(found)) != len(found) or slot in found:
            return level
    return -1


def _vectors(collection: Collection, graph: Graph, slots: Slots) -> Iterator[str]:
    is_cosine = collection.config.metric == "cosine"
    for start in range(0, len(slots), ROWS):
        some = slots[start : start + ROWS]
        with collection.lock.read:
            rows = graph.vectors.get(some)
        squares = squared_lengths(rows)
        wrong = ~np.isfinite(squares)
        if is_cosine:
            wrong |= (squares != 0) & ~is_normalised(squares)
        for i in np.flatnonzero(wrong).tolist():
            yield f"vectors: slot {some[i]} has a squared length of {squares[i]}"


# ---------------------------------------------------------------------------------------------------------- the copy


class _Copy:
    """What an index held at one moment. The read lock is held while it is made."""

    def __init__(self, collection: Collection) -> None:
        self.n = n = collection.n_slots
        self.alive = collection.alive.copy()
        self.slots: Slots = np.frombuffer(self.alive.slots(), dtype=np.uint32)
        self._config = collection.config
        self._n_alive = collection.n_alive
        self._n_ids = collection.ids.size
        self._ids = collection.ids.get_many(np.arange(n, dtype=np.uint32))
        self._places = collection.ids.find_many([id for id in self._ids if id is not None]).tolist()
        self._metadata = collection.metadata.encoded(self.slots)
        self._store = collection.metadata
        self._columns = _contents(collection.columns.freeze())
        self._texts = None if collection.texts is None else _FrozenTexts(collection.texts, self.slots)

    def ids(self) -> Iterator[str]:
        """Compare ids, their table and the living slots."""
        n_living = self.alive.count()
        if self.alive.n_bits != self.n or n_living != self._n_alive or self._n_ids != self._n_alive:
            found = f"{n_living} living slots of {self.alive.n_bits} and {self._n_ids} ids"
            yield f"ids: {found} for {self._n_alive} items in {self.n} slots"
        living = set(self.slots.tolist())
        places = iter(self._places)
        for slot, id in enumerate(self._ids):
            if (id is not None) != (slot in living):
                yield f"ids: slot {slot} has {'no id but is alive' if id is None else 'an id but is not alive'}"
            place = slot if id is None else next(places)
            if place != slot:
                yield f"ids: {id!r} of slot {slot} is found in slot {place}"

    def columns(self) -> Iterator[str]:
        """Compare the columns with those that the metadata make."""
        ours, fresh = Columns(), Columns()
        ours.load(_Contents(self._columns), self.n)
        encoded = [b""] * self.n
        for slot, blob in zip(self.slots.tolist(), self._metadata, strict=True):
            encoded[slot] = blob
        for start in range(0, self.n, ROWS):
            fresh.add_many(start, encoded[start : start + ROWS])
        for columns in (ours, fresh):
            columns.rebuild(self.alive)
        found, expected = _fields(_contents(ours.freeze())), _fields(_contents(fresh.freeze()))
        for name in sorted(found.keys() | expected.keys()):
            if found.get(name) != expected.get(name):
                yield f"columns: field {name!r} is not what the metadata say"

    def texts(self) -> Iterator[str]:
        """Compare the inverted and forward lists with the analysed texts."""
        if self._texts is None:
            return
        fresh = TextFields(self._config, self._store)
        for i, (slot, blob) in enumerate(zip(self.slots.tolist(), self._metadata, strict=True)):
            expected = _counted(fresh, blob)
            found = self._texts.of(i)
            # Where there were too many fields, which of them count depends on which came first.
            if len(self._texts.names) < MAX_FIELDS and found != expected:
                names = sorted(found.keys() | expected.keys())
                odd = [name for name in names if found.get(name) != expected.get(name)]
                yield f"texts: slot {slot} has other words than its text in {odd}"
        yield from self._texts.wrong_totals()


def _counted(fields: TextFields, blob: bytes) -> Text:
    (counted,) = fields.count([blob])
    return {
        fields.names[number]: (length, {fields.term(term): n for term, n in zip(terms, counts, strict=True)})
        for number, terms, counts, length in counted
    }


class _FrozenTexts:
    """The words of slots as the lists have them; the read lock is held while it is made."""

    def __init__(self, texts: TextFields, slots: Slots) -> None:
        self.names = texts.names
        self._fields = texts.texts_at(slots)
        self._term = texts.term
        self._terms: dict[int, str] = {}
        self._stats = [texts.index.stats(number) for number in range(len(self._fields))]
        self._df = [
            {term: texts.index.df(number, term) for term in np.unique(found[1]).tolist()}
            for number, (_, found) in enumerate(self._fields)
        ]

    def of(self, i: int) -> Text:
        """Return the texts of the i-th slot."""
        found: Text = {}
        for name, (starts, terms, counts, lengths) in self._fields:
            if lengths[i] >= 0:
                part = slice(int(starts[i]), int(starts[i + 1]))
                pairs = zip(terms[part].tolist(), counts[part].tolist(), strict=True)
                found[name] = (int(lengths[i]), {self._text(term): count for term, count in pairs})
        return found

    def wrong_totals(self) -> Iterator[str]:
        """Compare what the statistics say with what the texts come to."""
        for (name, (_, terms, _, lengths)), stats, df in zip(self._fields, self._stats, self._df, strict=True):
            there = lengths >= 0
            if (stats["n_docs"], stats["total_length"]) != (int(there.sum()), int(lengths[there].sum())):
                yield f"texts: the numbers of texts and words of field {name!r} are wrong"
            numbers, counts = np.unique(terms, return_counts=True)
            for term, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                if df[term] != count:
                    yield f"texts: {df[term]} texts of field {name!r} have {self._text(term)!r}, found {count}"

    def _text(self, term: int) -> str:
        text = self._terms.get(term)
        if text is None:
            text = self._terms[term] = self._term(term)
        return text


# ------------------------------------------------------------------------------------------------ columns, compared


class _Contents:
    """Sections in memory, as a reader."""

    def __init__(self, data: dict[str, bytes]) -> None:
        self._data = data

    def size(self, name: str) -> int:
        return len(self._data.get(name, b""))

    def read(self, name: str) -> bytearray:
        return bytearray(self._data.get(name, b""))

    def read_into(self, name: str, target: memoryview) -> None:
        target[:] = self._data[name]


def _contents(sections: list[Section]) -> dict[str, bytes]:
    return {
        section.name: bytes(section.read(0, section.n_bytes)) if section.n_bytes and section.read else b""
        for section in sections
    }


def _fields(data: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """Return by field and part what is comparable: entries in order, strings by themselves and not by their number."""
    found: dict[str, dict[str, Any]] = {}
    for number, shape in enumerate(json.loads(data["columns/fields"] or b"[]")):
        parts = found[shape["name"]] = {}
        for part in shape["live"]:
            prefix = f"columns/{number}/{part}"
            index, slots, delta = (data.get(f"{prefix}.{what}", b"") for what in ("index", "slots", "delta"))
            if slots or delta:
                parts[part] = [index, slots, delta]
        if "strings" in parts:
            parts["strings"] = _by_text(data, f"columns/{number}", *parts["strings"])
    return {name: parts for name, parts in found.items() if parts}


def _by_text(data: dict[str, bytes], prefix: str, index: bytes, slots: bytes, delta: bytes) -> dict[bytes, bytes]:
    places = np.frombuffer(data[f"{prefix}/texts/start"], dtype="<u8").tolist()
    arena = data[f"{prefix}/texts/arena"]
    starts = np.frombuffer(index, dtype="<u4").tolist()
    found = {b"": delta}
    for number, place in enumerate(places[: len(starts) - 1]):
        some = slots[4 * starts[number] : 4 * starts[number + 1]]
        if some:
            found[_blob(arena, place)] = some
    return found


def _blob(arena: bytes, at: int) -> bytes:
    size = shift = 0
    while True:
        byte = arena[at]
        size |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return b"=" + arena[at : at + size]
