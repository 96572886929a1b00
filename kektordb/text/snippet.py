"""Which part of a text shows best that it matches, and does it hold a phrase?"""

from __future__ import annotations

import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from math import fsum

from kektordb.text.analyzer import Analyzer, is_han_or_kana

__all__ = ["contains_phrase", "phrase_finder", "snippet"]

ELLIPSIS = "…"
# How far a cut moves to fall between words. Scripts without spaces are cut where it happens to fall.
MAX_SHIFT = 30

Match = tuple[int, int, str]  # start, end, term


def snippet(
    text: str,
    terms: Collection[str] | Mapping[str, float],
    analyzer: Analyzer,
    width: int = 200,
    mark: tuple[str, str] = ("<b>", "</b>"),
) -> str:
    """Return the passage of `text` that has most of `terms`, with the words they came from marked.

    The passage with the largest sum of weights of different terms wins, then the one with more words that match, then
    the first. Without any match it is the beginning. The time is linear in the length of the text.

    Parameters
    ----------
    text : str
    terms : set of str, or mapping from str to float
        Terms as `Analyzer.analyse` gives them; a mapping weighs them, by their idf for instance.
    analyzer : Analyzer
    width : int
        Characters of the passage, marks and ellipses not counted. Only a single word that is longer makes it longer.
    mark : tuple of str
        What stands before and after each marked word. The text comes as it is: a caller who shows it as HTML marks with
        control characters first, escapes, and then replaces them.

    Returns
    -------
    str
        With "…" where text was cut off.
    """
    weights = terms if isinstance(terms, Mapping) else dict.fromkeys(terms, 1.0)
    best = _best(_matches(text, weights, analyzer), weights, width)
    start, end = _widen(text, best[0][0], best[-1][1], width) if best else _widen(text, 0, 0, width)
    parts = [ELLIPSIS] if start > 0 else []
    at = start
    for first, last in _merged(best):
        parts += [text[at:first], mark[0], text[first:last], mark[1]]
        at = last
    parts.append(text[at:end])
    if end < len(text):
        parts.append(ELLIPSIS)
    return "".join(parts)


def contains_phrase(text: str, phrase: str, analyzer: Analyzer) -> bool:
    """Tell whether the words of `phrase` stand in `text` one after the other.

    Words are compared as terms (`"running shoes"` finds "run shoe"), and stop words count like others: `"state of the
    art"` is not found in "state art". What stands between words does not count. A phrase without words is in no text.
    """
    return phrase_finder(phrase, analyzer)(text)


def phrase_finder(phrase: str, analyzer: Analyzer) -> Callable[[str], bool]:
    """Return `contains_phrase` for one phrase and many texts: the phrase is analysed once.

    By Knuth, Morris and Pratt: no term is looked at twice, however often the phrase repeats itself.
    """
    wanted = list(analyzer.iterate(phrase, keep_stop_words=True))
    # back[n]: how many terms still match when the one after the first n does not.
    back = [-1]
    for term in wanted:
        n = back[-1]
        while n >= 0 and wanted[n] != term:
            n = back[n]
        back.append(n + 1)

    def is_in(text: str) -> bool:
        n = 0
        for term in analyzer.iterate(text, keep_stop_words=True) if wanted else ():
            while n >= 0 and wanted[n] != term:
                n = back[n]
            n += 1
            if n == len(wanted):
                return True
        return False

    return is_in


def _matches(text: str, weights: Mapping[str, float], analyzer: Analyzer) -> Iterator[Match]:
    for term, start, end in analyzer.iterate_spans(text):
        if term in weights:
            yield start, end, term


def _best(matches: Iterable[Match], weights: Mapping[str, float], width: int) -> list[Match]:
    """Return the matches of the best passage: a window of `width` characters slides over them."""
    window: deque[Match] = deque()
    counts: Counter[str] = Counter()
    best: list[Match] = []
    best_value = (-1.0, 0)
    for match in matches:
        window.append(match)
        counts[match[2]] += 1
        while len(window) > 1 and match[1] - window[0][0] > width:
            gone = window.popleft()[2]
            counts[gone] -= 1
            if not counts[gone]:
                del counts[gone]
        # Summed anew, and exactly: a rounding error must not make a later passage the better one.
        value = (fsum(weights[term] for term in counts), len(window))
        if value > best_value:
            best, best_value = list(window), value
    return best


def _merged(matches: list[Match]) -> Iterator[tuple[int, int]]:
    """Join matches that touch: bigrams, and words that came from one token."""
    if not matches:
        return
    first, last, _ = matches[0]
    for start, end, _ in matches[1:]:
        if start > last:
            yield first, last
            first = start
        last = max(last, end)
    yield first, last


def _widen(text: str, start: int, end: int, width: int) -> tuple[int, int]:
    """Spread what is left of `width` over both sides, and cut between words."""
    spare = max(0, width - (end - start))
    first = max(0, min(start - spare // 2, len(text) - width))
    last = min(len(text), max(end, first + width))
    return _cut(text, min(first, start), start, 1), _cut(text, last, end, -1)


def _cut(text: str, at: int, limit: int, step: int) -> int:
    """Move a cut towards `limit` until it falls between words, if that is near; spaces are left out."""
    moved = at
    while moved != limit and abs(moved - at) < MAX_SHIFT and _is_within_word(text, moved):
        moved += step
    if abs(moved - at) == MAX_SHIFT and _is_within_word(text, moved):
        return at
    if 0 < moved < len(text):
        while moved != limit and text[moved if step > 0 else moved - 1].isspace():
            moved += step
    return moved


def _is_within_word(text: str, at: int) -> bool:
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if unicodedata.category(after)[0] == "M":
        return True
    return before.isalnum() and after.isalnum() and not is_han_or_kana(before) and not is_han_or_kana(after)
