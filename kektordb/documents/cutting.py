"""Where is a text cut best, so that an edit moves few cuts?

From the last cut on, a chunk may have any length up to the room there is. Of the places between a part of that room and
all of it, the best kind wins (a heading, the end of a paragraph, of a sentence, ...), and within that kind not the last
one, which would fill chunks better, but the one whose surroundings have the smallest hash. Who begins anew elsewhere,
as after an edit, sees mostly the same places, and soon chooses the same: from there on all chunks are what they were,
and need not be embedded again. This is content-defined chunking (LBFS, 2001), with kinds of places put before it.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

import xxhash

from kektordb.documents.tokens import Ruler

__all__ = [
    "LINE",
    "LINES",
    "NEWLINE",
    "WORD",
    "Kind",
    "Plan",
    "after",
    "at_offsets",
    "cuts",
    "outside",
    "prose",
    "separated",
]

Finder = Callable[[str, int, int], list[int]]

# What decides between two places: enough characters that most are different, few enough that an edit moves few.
CONTEXT = 24
NEWLINE = r"(?>\r\n?|\n)"


class Kind(NamedTuple):
    """A kind of place: a function that finds them, and from which part of the room on they are looked for."""

    find: Finder
    least: float


class Plan(NamedTuple):
    """Kinds of places, the best first; whether the choice is a stable one, or the last place that fits."""

    kinds: tuple[Kind, ...]
    stable: bool = True


def cuts(text: str, start: int, end: int, plan: Plan, ruler: Ruler, rooms: tuple[int, int]) -> list[int]:
    """Return where ``text[start:end]`` is cut, `start` and `end` among it.

    Parameters
    ----------
    rooms : tuple of int
        How long the first piece may be, and how long each other.
    """
    found = [start]
    room = rooms[0]
    while (last := ruler.after(start, room)) < end:
        start = _best(text, start, max(last, start + 1), plan, ruler, room)
        found.append(start)
        room = rooms[1]
    if found[-1] < end:
        found.append(end)
    return found


def _best(text: str, start: int, last: int, plan: Plan, ruler: Ruler, room: int) -> int:
    """Return the best place after `start`, up to `last`."""
    for kind in plan.kinds:
        first = max(ruler.after(start, int(room * kind.least)), start + 1)
        places = [place for place in kind.find(text, first, last) if place > start]
        if places:
            return min(places, key=lambda place: (_hash(text, place), -place)) if plan.stable else places[-1]
    return _whole(text, start, last)


def _hash(text: str, place: int) -> int:
    around = text[max(0, place - CONTEXT) : place + CONTEXT]
    return xxhash.xxh3_64_intdigest(around.encode("utf-8", "surrogatepass"))


def _whole(text: str, start: int, place: int) -> int:
    """Move a cut in a long word to where it does not part a letter from its accents, when that is near."""
    for moved in range(place, max(start, place - 8), -1):
        if moved == len(text) or not (unicodedata.combining(text[moved]) or text[moved] in "\u200d\ufe0e\ufe0f\n"):
            return moved
    return place


def after(pattern: str) -> Finder:
    """Return what finds the ends of the matches of a pattern."""
    search = re.compile(pattern).finditer

    def find(text: str, first: int, last: int) -> list[int]:
        return [match.end() for match in search(text, first - 1, last)]

    return find


def at_offsets(offsets: Sequence[int]) -> Finder:
    """Return what finds given places."""

    def find(text: str, first: int, last: int) -> list[int]:
        return list(offsets[bisect_left(offsets, first) : bisect_right(offsets, last)])

    return find


def outside(find: Finder, spans: Sequence[tuple[int, int]]) -> Finder:
    """Return what finds the same places, but those inside of spans, which are in order."""
    starts = [start for start, _ in spans]

    def is_outside(place: int) -> bool:
        before = bisect_left(starts, place) - 1
        return before < 0 or place >= spans[before][1]

    return lambda text, first, last: [place for place in find(text, first, last) if is_outside(place)]


def separated(separators: Sequence[str]) -> Plan:
    """Return the plan of separators, the best first. An empty one is any place at all."""
    return Plan(tuple(Kind(after(re.escape(one)) if one else _anywhere, 0.5) for one in separators))


def _anywhere(text: str, first: int, last: int) -> list[int]:
    return [_whole(text, first - 1, last)]


PARAGRAPH = after(rf"{NEWLINE}[ \t]*{NEWLINE}\s*")
# Not before a lower-case letter, as after "e.g."; Chinese and Japanese have no space there.
SENTENCE = after(
    r"[.!?\u2026\u0964\u061f\u06d4][\"')\]\u00bb\u201d\u2019]*\s+(?![a-z])"
    r"|[\u3002\uff01\uff1f][\u300d\u300f\u201d\u2019]*\s*"
)
LINE = after(NEWLINE)
WORD = after(r"\s+")
LINES = Plan((Kind(LINE, 0.0), Kind(WORD, 0.5)), stable=False)


def prose(headings: Sequence[int], fences: Sequence[tuple[int, int]] = ()) -> Plan:
    """Return the plan of text with headings at some offsets; what is fenced in is rather not cut, and then at lines."""
    paragraph, sentence = (outside(find, fences) if fences else find for find in (PARAGRAPH, SENTENCE))
    # From half of the room on there are places enough that two sequences of cuts meet after one or two: of words all
    # alike, an edit changed 3 chunks at most; looking only from three quarters on, 22.
    # A paragraph that would fit as a whole is rather left to the next chunk than cut, though this one is small then.
    return Plan(
        (
            Kind(at_offsets(headings), 0.25),
            Kind(paragraph, 0.5),
            Kind(paragraph, 0.25),
            Kind(sentence, 0.5),
            Kind(LINE, 0.5),
            Kind(WORD, 0.5),
        )
    )
