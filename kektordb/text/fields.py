"""What do the texts of one index say, by field and slot?

The *text* of a field is every string that a filter would compare with it: its value, or the strings of its list, one
after the other; fields of nested objects have dotted names. A field with an empty text has a text.

A vocabulary must not be read while it grows. Writers count words before they ask for the collection's write lock, so
that searches go on meanwhile; a lock of its own, held for one text, keeps readers of the vocabulary out.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb._bitmap import Bitmap
from kektordb._bm25 import TextIndex
from kektordb._metadata import MetadataStore, decode_metadata
from kektordb._room import TextRoom
from kektordb._vocabulary import Vocabulary
from kektordb.errors import CorruptSnapshot
from kektordb.operations import IndexConfig
from kektordb.text.analyzer import Analyzer
from kektordb.types import Section, SectionReader

if TYPE_CHECKING:
    from kektordb._bm25 import _Texts

__all__ = ["MAX_FIELDS", "Counted", "TermNumbers", "TextFields", "TextQuery", "turns"]

# A field takes memory for each slot. Keys that are data, different in each item, must not become a thousand of them.
MAX_FIELDS: Final = 256
# What `TextIndex` counts to.
_MAX_COUNT: Final = 1 << 24
# Queries that are remembered, and how long they may be, in characters and in terms times fields: about 3 MB at most.
_MAX_KEPT: Final = 512
_MAX_KEPT_LENGTH: Final = 256
_MAX_KEPT_TERMS: Final = 64
# Terms that come in at once while searches wait: about a millisecond of work under the write lock.
_TURN_TERMS: Final = 8192
# As in `_columns`: what is deeper is not indexed.
_MAX_NESTING: Final = 64

Numbers: TypeAlias = "array[int]"
# Number of the field, numbers of the terms, how often each is there, words.
Counted: TypeAlias = tuple[int, Numbers, Numbers, int]
# Number of a field, number of a term, weight.
TextQuery: TypeAlias = list[tuple[int, int, float]]


class TermNumbers:
    """Numbers of terms by those that other fields have for them. An array: a dict of millions is not freed at once."""

    def __init__(self) -> None:
        self._ours: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def find(self, terms: npt.NDArray[np.uint32], add: Callable[[int], int]) -> npt.NDArray[np.int64]:
        """Return ours of distinct terms, ascending ones; `add` makes those that come for the first time."""
        n_known, n = len(self._ours), int(terms[-1]) + 1 if len(terms) else 0
        if n > n_known:
            self._ours = np.concatenate([self._ours, np.full(n + n // 2 - n_known, -1, np.int64)])
        ours = self._ours[terms]
        new = ours < 0
        if new.any():
            ours[new] = [add(term) for term in terms[new].tolist()]
            self._ours[terms] = ours
        return ours


class TextFields:
    """The texts of one index.

    Parameters
    ----------
    config : IndexConfig
        With a text language.
    metadata : MetadataStore
        Where the texts themselves are.

    Attributes
    ----------
    analyzer : Analyzer
    vocabulary : Vocabulary
    index : TextIndex
        By the numbers of fields.
    names : list of str
        Of the fields that have a text, by number.
    """

    def __init__(self, config: IndexConfig, metadata: MetadataStore) -> None:
        self.analyzer = Analyzer(config.text_language, config.stop_words)
        self.vocabulary = Vocabulary(self.analyzer)
        self.index = TextIndex(config.k1, config.b)
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._chosen = None if config.text_fields is None else frozenset(config.text_fields)
        self._weights: dict[str, float] = config.field_weights or {}
        self._metadata = metadata
        self._lock = threading.Lock()
        self._removed: list[int] = []
        # What `query` returned, for as long as there are so many terms and fields.
        self._kept: dict[tuple[str, str | None], TextQuery] = {}
        self._kept_of = (0, 0)

    # ------------------------------------------------------------------------------------------------------ writing

    def count(self, encoded: Iterable[bytes]) -> list[list[Counted]]:
        """Count the words of items, given as encoded metadata: the writer's, beside searches."""
        return [self._count(self.texts_of(decode_metadata(blob))) if blob else [] for blob in encoded]

    def _count(self, texts: Mapping[str, str]) -> list[Counted]:
        counted = []
        for name, text in texts.items():
            number = self._number(name)
            if number >= 0:
                with self._lock:
                    terms, counts, length = self.vocabulary.count(text)
                if length > _MAX_COUNT:
                    length, counts = _MAX_COUNT, array("I", (min(count, _MAX_COUNT) for count in counts))
                counted.append((number, terms, counts, length))
        return counted

    def _number(self, name: str) -> int:
        """Return the number of a field, which is new perhaps; -1 when there are too many."""
        number = self._numbers.get(name)
        if number is None:
            number = len(self.names)
            if number >= MAX_FIELDS:
                return -1
            self.names.append(name)
            self._numbers[name] = number
        return number

    def add(self, slot: int, counted: Iterable[Counted]) -> None:
        """Add the texts of a slot; the write lock is held, as for the methods below."""
        for number, terms, counts, length in counted:
            self.index.add(number, slot, terms, counts, length)

    def texts_at(self, slots: npt.NDArray[np.uint32]) -> list[tuple[str, _Texts]]:
        """Return the texts of slots, ascending ones, by field; the read lock is held."""
        numbers = range(min(len(self.names), self.index.n_fields))
        return [(self.names[number], self.index.texts(number, slots)) for number in numbers]

    def add_copies(self, first: int, copies: list[tuple[str, _Texts]], of: TextFields, known: TermNumbers) -> None:
        """Add texts that `of.texts_at` returned, to the slots from `first` on, without analysing them.

        Parameters
        ----------
        known : TermNumbers
            Our numbers by those of `of`, for the terms that came so far.
        """
        for name, (starts, terms, counts, lengths) in copies:
            slots = np.flatnonzero(lengths >= 0)
            if not len(slots):
                continue
            number = self._number(name)
            different, places = np.unique(terms, return_inverse=True)
            ours = known.find(different, lambda term: self.vocabulary.add(of.term(term)))[places]
            # Terms ascend within a text; ours may stand in another order.
            order = np.argsort(np.repeat(np.arange(len(lengths)) << 32, np.diff(starts)) | ours)
            sorted_terms, sorted_counts = ours[order].astype(np.uint32), counts[order]
            for slot in slots.tolist():
                part = slice(starts[slot], starts[slot + 1])
                length = int(lengths[slot])
                self.index.add(number, first + slot, sorted_terms[part], sorted_counts[part], length)

    def room(self, first: int, texts: list[list[Counted]], changed: list[tuple[int, list[Counted]]]) -> TextRoom:
        """Look how much memory it takes to add texts to the slots from `first` on, and to change others.

        No lock is needed for looking.
        """
        return TextRoom(self.index, first, texts, changed)

    def remove(self, slot: int) -> None:
        """Remove the texts of a slot; what they leave behind is for `tidy`."""
        if self.index.remove_all(slot):
            self._removed.append(slot)

    def changes(self, old: dict[str, Any], new: dict[str, Any]) -> tuple[list[int], list[Counted]]:
        """Return the numbers of the fields whose text is no longer that of `old`, and what they have now."""
        before, after = self.texts_of(old), self.texts_of(new)
        changed = [name for name in before | after if before.get(name) != after.get(name)]
        gone = [self._numbers[name] for name in changed if name in before and name in self._numbers]
        return gone, self._count({name: after[name] for name in changed if name in after})

    def replace(self, slot: int, changes: tuple[list[int], list[Counted]]) -> None:
        """Apply what `changes` returned."""
        for number in changes[0]:
            self.index.remove(number, slot)
        self.add(slot, changes[1])

    def tidy(self, n: int) -> bool:
        """Give back memory of removed texts where they are many, looking at `n` of them; return whether any are left.

        MemoryError changes nothing.
        """
        removed = self._removed
        for slot in removed[-n:]:
            self.index.tidy(slot)
        del removed[-n:]
        if removed:
            return True
        if self.index.is_wasteful():
            self.index.compact()
        return False

    # ------------------------------------------------------------------------------------------------------ reading

    def texts_of(self, metadata: dict[str, Any]) -> dict[str, str]:
        """Return the text of each indexed field; the strings of a list stand on lines of their own."""
        found: dict[str, str] = {}
        chosen = self._chosen
        for name, text in _strings(metadata, "", 0):
            if chosen is None or name in chosen:
                found[name] = f"{found[name]}\n{text}" if name in found else text
        return found

    def strings_of(self, slot: int, field: str) -> list[str]:
        """Return the stored strings of a field, in their order."""
        return [text for name, text in _strings(self._metadata.get(slot), "", 0) if name == field]

    def is_indexed(self, field: str) -> bool:
        """Tell whether the texts of a field are searched, if there are any."""
        return field in self._chosen if self._chosen is not None else True

    def query(self, words: str, field: str | None = None) -> TextQuery:
        """Return what to ask the index for these words, in one field or in all of them; the read lock is held.

        A word that comes twice counts twice. The list is shared, and must not be changed.
        """
        key = words, field
        now = len(self.vocabulary), len(self.names)
        if now == self._kept_of:
            kept = self._kept.get(key)
            if kept is not None:
                return kept
        with self._lock:
            terms = self.vocabulary.find(words)
        numbers = [number for number, name in enumerate(self.names) if field is None or name == field]
        weights = [self._weights.get(self.names[number], 1.0) for number in numbers]
        query = [
            (number, term, weight * count)
            for number, weight in zip(numbers, weights, strict=True)
            for term, count in terms
        ]
        if len(words) <= _MAX_KEPT_LENGTH and len(query) <= _MAX_KEPT_TERMS:
            self._keep(key, query, now)
        return query

    def _keep(self, key: tuple[str, str | None], query: TextQuery, now: tuple[int, int]) -> None:
        """Remember a query that was analysed when there were so many terms and fields."""
        with self._lock:
            if now != self._kept_of:
                self._kept, self._kept_of = {}, now
            elif len(self._kept) >= _MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = query

    def term(self, number: int) -> str:
        """Return the term of a number."""
        with self._lock:
            return self.vocabulary.term(number)

    def contains(self, field: str, words: str, all: bool, into: Bitmap) -> int:
        """Add the slots whose text has any, or each, of the analysed words; return how many match.

        Without a word that counts, none match. The read lock is held.
        """
        number = self._numbers.get(field, -1)
        terms = self._terms(words)
        if number < 0 or (all and -1 in terms):
            return 0
        found = Bitmap(into.n_bits)
        self.index.contains(number, [term for term in terms if term >= 0], all, found)
        into.ior(found)
        return found.count()

    def estimate(self, field: str, words: str, all: bool) -> int:
        """Return about how many slots `contains` would add, and never less."""
        number = self._numbers.get(field, -1)
        if not 0 <= number < self.index.n_fields:
            return 0
        found = [self.index.df(number, term) if term >= 0 else 0 for term in self._terms(words)]
        if all:
            return min(found, default=0)
        return min(sum(found), self.index.stats(number)["n_docs"])

    def _terms(self, words: str) -> set[int]:
        """Return the numbers of the analysed words; -1 among them when one is in no text."""
        terms = set(self.analyzer.iterate(words))
        with self._lock:
            return {self.vocabulary.number(term) for term in terms}

    def search(
        self, query: TextQuery, k: int, allowed: Bitmap | None, n_allowed: int
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        """Find the `k` slots that score highest: uint32 (n,) and float32 (n,), see `TextIndex.search`."""
        return self.index.search(query, k, allowed, n_allowed if allowed is not None else -1)

    def memory_bytes(self) -> int:
        """Return the bytes of lists and vocabulary."""
        return self.index.memory_bytes() + self.vocabulary.memory_bytes()

    def stats(self) -> dict[str, dict[str, int]]:
        """Return texts, different terms and words of each field."""
        shown = {"n_docs": "n_texts", "n_terms": "n_terms", "n_postings": "n_postings", "total_length": "n_words"}
        fields = {name: self.index.stats(number) for number, name in enumerate(self.names[: self.index.n_fields])}
        return {name: {shown[key]: found[key] for key in shown} for name, found in fields.items()}

    # ---------------------------------------------------------------------------------------------------- snapshots

    def freeze(self) -> list[Section]:
        """Return the sections of the present texts; the write lock is held."""
        names = msgspec.msgpack.encode(self.names)
        return [
            Section("text/names", 1, len(names), lambda start, stop: names[start:stop]),
            *self.vocabulary.freeze("text/terms"),
            *self.index.freeze("text"),
        ]

    def load(self, reader: SectionReader, n_slots: int) -> None:
        """Fill empty texts from a snapshot, without analysing any. Raises CorruptSnapshot."""
        try:
            names = msgspec.msgpack.decode(reader.read("text/names"), type=list[str])
        except (msgspec.DecodeError, ValueError) as error:
            raise CorruptSnapshot(f"text/names: expected the names of fields: {error}") from error
        self.vocabulary.load("text/terms", reader)
        self.index.load("text", reader, n_slots)
        if len(set(names)) != len(names) or not self.index.n_fields <= len(names) <= MAX_FIELDS:
            raise CorruptSnapshot(f"text/names: expected {self.index.n_fields} different names, got {names!r:.200}")
        self.names = names
        self._numbers = {name: number for number, name in enumerate(names)}


def turns(counted: list[list[Counted]]) -> Iterator[slice]:
    """Cut rows where their texts become too many terms for one turn under the write lock."""
    start = n_terms = 0
    for i, texts in enumerate(counted):
        n = sum(len(terms) for _, terms, *_ in texts)
        if n_terms and n_terms + n > _TURN_TERMS:
            yield slice(start, i)
            start, n_terms = i, 0
        n_terms += n
    yield slice(start, len(counted))


def _strings(metadata: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield each string with the name of its field."""
    for key, value in metadata.items():
        if isinstance(value, str):
            yield prefix + key, value
        elif isinstance(value, list):
            yield from ((prefix + key, element) for element in value if isinstance(element, str))
        elif isinstance(value, dict) and depth < _MAX_NESTING:
            yield from _strings(value, f"{prefix}{key}.", depth + 1)
