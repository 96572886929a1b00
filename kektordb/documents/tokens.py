"""How long is a text, in characters or tokens?

Each model counts tokens in its own way, and the way is a file of some megabytes that comes with it. Ours is a rule
that needs none: a run of Latin letters is a token for each five of them, digits for each three, other letters one for
each two (Chinese, Japanese and Korean ones each), and any other visible character is one. For English prose that is
some 1.3 tokens a word, about what models count.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from typing import Protocol

__all__ = ["Ruler", "count_tokens", "ruler"]

TOKEN = re.compile(
    r"[A-Za-z]{1,5}|[0-9]{1,3}|[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]"
    r"|[^\W\d_A-Za-z\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]{1,2}|\S"
)


def count_tokens(text: str) -> int:
    """Return about how many tokens a model would make of a text."""
    return sum(1 for _ in TOKEN.finditer(text))


class Ruler(Protocol):
    """Measures lengths in one text."""

    def after(self, start: int, length: int) -> int:
        """Return the largest end so that ``text[start:end]`` is at most so long."""

    def before(self, end: int, length: int) -> int:
        """Return the smallest start so that ``text[start:end]`` is at most so long."""


def ruler(text: str, unit: str) -> Ruler:
    """Return what measures a text in a unit, ``characters`` or ``tokens``."""
    return _Tokens(text) if unit == "tokens" else _Characters(text)


class _Characters:
    def __init__(self, text: str) -> None:
        self._n = len(text)

    def after(self, start: int, length: int) -> int:
        return min(start + length, self._n)

    def before(self, end: int, length: int) -> int:
        return max(end - length, 0)


class _Tokens:
    """A token that a cut goes through counts on both sides: each side has at most that many when counted alone."""

    def __init__(self, text: str) -> None:
        self._n = len(text)
        self._starts = array("i")
        self._ends = array("i")
        for match in TOKEN.finditer(text):
            self._starts.append(match.start())
            self._ends.append(match.end())

    def after(self, start: int, length: int) -> int:
        beyond = bisect_right(self._ends, start) + length
        return self._starts[beyond] if beyond < len(self._starts) else self._n

    def before(self, end: int, length: int) -> int:
        beyond = bisect_left(self._starts, end) - length - 1
        return self._ends[beyond] if beyond >= 0 else 0
