"""Which texts hold these words? What `CONTAINS` asks of an index, and how phrases are found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from kektordb._bitmap import Bitmap
from kektordb._columns import Columns
from kektordb.text.snippet import phrase_finder

if TYPE_CHECKING:
    from kektordb.text import Analyzer

__all__ = ["Texts", "estimate_words", "has_phrases", "match_words", "split_phrases"]

# Not every quotation mark begins or ends a phrase: a board may be 5" x 7".
_PHRASE = re.compile(r'(?<!\w)"([^"]*)"(?!\w)')


class Texts(Protocol):
    """What an index with an analyzer offers to filters."""

    @property
    def analyzer(self) -> Analyzer:
        """What cuts texts and questions into terms."""
        ...

    def is_indexed(self, field: str) -> bool:
        """Tell whether the texts of a field are searched, if there are any."""
        ...

    def contains(self, field: str, words: str, all: bool, into: Bitmap) -> int:
        """Set the bits of the slots whose text has any, or each, of `words`; of no words: none."""
        ...

    def estimate(self, field: str, words: str, all: bool) -> int:
        """Return about how many slots `contains` would match; cheap."""
        ...

    def strings_of(self, slot: int, field: str) -> list[str]:
        """Return the stored strings of a slot: several where the field is a list."""
        ...


def split_phrases(words: str) -> tuple[str, list[str]]:
    """Return what stands outside of phrases, and the phrases without their quotation marks."""
    return _PHRASE.sub(" ", words), _PHRASE.findall(words)


def has_phrases(words: str) -> bool:
    """Tell whether finding these words may mean to read stored texts."""
    return _PHRASE.search(words) is not None


def match_words(
    columns: Columns, texts: Texts, field: str, words: str, all: bool, n_slots: int, among: Bitmap | None = None
) -> Bitmap:
    """Find the texts with any, or each, of the words and phrases.

    Stop words are no words here, but count within a phrase. Where no word is left, nothing matches.

    Parameters
    ----------
    among : Bitmap, optional
        Rows to stay within; it saves reading the texts of others.

    Returns
    -------
    Bitmap
        New, of `n_slots` bits.
    """
    rows = Bitmap(n_slots)
    single, phrases = split_phrases(words)
    phrases = [phrase for phrase in phrases if _has_words(phrase, texts)]
    if all:
        _add_candidates(columns, texts, field, words, bool(phrases), rows)
    else:
        texts.contains(field, single, False, rows)
    if among is not None:
        rows.iand(among)
    for phrase in phrases:
        if all:
            _keep_phrase(texts, field, phrase, rows)
            continue
        found = Bitmap(n_slots)
        _add_candidates(columns, texts, field, phrase, True, found)
        if among is not None:
            found.iand(among)
        found.iandnot(rows)
        _keep_phrase(texts, field, phrase, found)
        rows.ior(found)
    return rows


def estimate_words(columns: Columns, texts: Texts, field: str, words: str, all: bool) -> int:
    """Return about how many rows `match_words` would find, and never less; no text is read."""
    single, phrases = split_phrases(words)
    phrases = [phrase for phrase in phrases if _has_words(phrase, texts)]
    if all:
        return _estimate_candidates(columns, texts, field, words, bool(phrases))
    found = [_estimate_candidates(columns, texts, field, phrase, True) for phrase in phrases]
    return texts.estimate(field, single, False) + sum(found)


def _estimate_candidates(columns: Columns, texts: Texts, field: str, words: str, or_present: bool) -> int:
    if or_present and _is_stopped(words, texts):
        return columns.present(field)
    return texts.estimate(field, words, True)


def _has_words(text: str, texts: Texts) -> bool:
    return next(texts.analyzer.iterate(text, keep_stop_words=True), None) is not None


def _is_stopped(text: str, texts: Texts) -> bool:
    """Tell whether a text has no words but stop words."""
    return next(texts.analyzer.iterate(text), None) is None


def _add_candidates(columns: Columns, texts: Texts, field: str, words: str, or_present: bool, rows: Bitmap) -> None:
    """Add the texts with each of the words; every one, if there are only stop words and phrases of them are sought."""
    if or_present and _is_stopped(words, texts):
        columns.present(field, rows)
    else:
        texts.contains(field, words, True, rows)


def _keep_phrase(texts: Texts, field: str, phrase: str, rows: Bitmap) -> None:
    """Drop the rows without the phrase; all of them have its words."""
    analyzer = texts.analyzer
    n_words = sum(1 for _ in analyzer.iterate(phrase, keep_stop_words=True))
    if n_words == 1 and not _is_stopped(phrase, texts):
        return
    is_in = phrase_finder(phrase, analyzer)
    for slot in rows.slots():
        # One by one: a phrase does not begin in one string of a list and end in the next.
        if not any(is_in(text) for text in texts.strings_of(slot, field)):
            rows.clear(slot)
