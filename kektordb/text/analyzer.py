"""Which terms does a text have, and where do they stand in it?

1. *Tokens* are cut from the text as it is: a letter, digit or underscore and all that follow, with combining marks and
   joiners between them. Nothing else is ever part of a term, so that a text may be cut at any other character.
2. Each token is *normalised* by itself: NFKC, casefold, soft hyphens and variation selectors out.
3. Each normalised token is *split* where normalising brought in other characters (a fraction becomes two numbers), and
   between Han or kana and the rest. Runs of Han and kana become bigrams, a single character stays; all else is a word.
   A word of more than 255 bytes of UTF-8 is no word of any language and is dropped.
4. Stop words go out, and each word is stemmed.

The order makes offsets possible: normalising changes lengths, but only within a token. Since no token crosses an ASCII
character other than a letter, digit or underscore, `_vocabulary` may cut a text there and remember what came of each
piece.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from kektordb.errors import ConfigError

__all__ = ["MAX_WORD_BYTES", "SIMPLE", "Analyzer", "is_han_or_kana", "languages", "normalised"]

SIMPLE = "simple"
MAX_WORD_BYTES = 255
# Tokens whose pieces are remembered; about 10 MB when it is full. Sentences of Han are longer and hardly come twice.
CACHED_TOKENS = 1 << 15
CACHED_LENGTH = 40

# Algorithms that are a second one for the language of another.
SAME_LANGUAGE = {"porter": "english", "dutch_porter": "dutch"}

# Not joined to the letters but by typography: the same word is written with and without them. The non-joiner (U+200C)
# goes out only after stemming, because the Persian algorithm tells endings by it.
IGNORED = dict.fromkeys([0xAD, 0x200D, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)])
NON_JOINER = "\u200c"
DOTTED_I = "i\u0307"  # what casefold makes of the Turkish capital

HAN_KANA = (
    "\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001aff0-\U0001afff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
HAN_KANA_CHARACTER = re.compile(f"[{HAN_KANA}]")
ASCII_TOKEN = re.compile(r"\w+", re.ASCII)


class Piece(NamedTuple):
    """One term of a token, and where it stands in the original token."""

    term: str
    start: int
    end: int
    is_stop_word: bool


def languages() -> list[str]:
    """Return the names that `Analyzer` takes: "simple", and every Snowball algorithm that is installed."""
    import Stemmer

    return sorted({SIMPLE, *Stemmer.algorithms()})


class Analyzer:
    """Turns texts into terms. Any number of threads may use one.

    Parameters
    ----------
    language : str
        A name of `languages`. "simple" does not stem and has no stop words of its own.
    stop_words : sequence of str, optional
        Instead of the language's own; empty for none. What follows the apostrophe of a word stands for itself: "don't"
        takes out "t", and leaves "don".

    Attributes
    ----------
    language : str
    stop_words : frozenset of str
        As they are compared: normalised, not stemmed.

    Raises
    ------
    ConfigError
        Unknown language; a stop word that is not one word.
    """

    def __init__(self, language: str, stop_words: Sequence[str] | None = None) -> None:
        self.language = language
        self._stem = _stemmer(language)
        self.stop_words = _own_stop_words(language) if stop_words is None else _words_of(stop_words)
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[Piece, ...]] = {}

    def __repr__(self) -> str:
        return f"<Analyzer {self.language}, {len(self.stop_words)} stop words>"

    def analyse(self, text: str) -> list[str]:
        """Return the terms of `text` in their order, a term as often as it stands there."""
        return list(self.iterate(text))

    def iterate(self, text: str, keep_stop_words: bool = False) -> Iterator[str]:
        """Yield the terms of `text` one by one."""
        for match in _token_pattern(text.isascii()).finditer(text):
            for piece in self._pieces(match[0]):
                if keep_stop_words or not piece.is_stop_word:
                    yield piece.term

    def spans(self, text: str) -> list[tuple[str, int, int]]:
        """Return (term, start, end) for each term of `analyse`, with offsets in `text` itself."""
        return list(self.iterate_spans(text))

    def iterate_spans(self, text: str) -> Iterator[tuple[str, int, int]]:
        """Yield what `spans` returns, without holding it all."""
        for match in _token_pattern(text.isascii()).finditer(text):
            at = match.start()
            for term, start, end, is_stop_word in self._pieces(match[0]):
                if not is_stop_word:
                    yield term, at + start, at + end

    def term_of(self, word: str) -> str | None:
        """Return the term of one token of ASCII in lower case, None when it is a stop word or too long.

        What `analyse` gives for it, without cutting and remembering: for who remembers words himself.
        """
        if word in self.stop_words or len(word) > MAX_WORD_BYTES:
            return None
        return self._stemmed(word)

    def _pieces(self, token: str) -> Sequence[Piece] | Iterator[Piece]:
        pieces = self._cache.get(token)
        if pieces is not None:
            return pieces
        if len(token) > CACHED_LENGTH:
            return self._analysed(token)
        pieces = tuple(self._analysed(token))
        with self._lock:
            if len(self._cache) >= CACHED_TOKENS:
                self._cache.clear()
            self._cache[token] = pieces
        return pieces

    def _analysed(self, token: str) -> Iterator[Piece]:
        """Normalise a token, split it, stem the words."""
        normal = normalised(token)
        bounds = None if token.isascii() or token == normal else _bounds(token, normal)
        for word, start, end, is_bigram in _split(normal):
            bare = word.replace(NON_JOINER, "")
            term = bare if is_bigram else self._stemmed(word).replace(NON_JOINER, "") or bare
            if not term:  # joiners in a run of Han join nothing
                continue
            first, last = (start, end) if bounds is None else (bounds[start][0], bounds[end - 1][1])
            yield Piece(term, first, last, bare in self.stop_words)

    def _stemmed(self, word: str) -> str:
        if self._stem is None:
            return word
        with self._lock:  # a stemmer works in memory of its own
            # What stems to nothing ("s", by Porter's first algorithm) stays as it is.
            return self._stem(word) or word


# ------------------------------------------------------------------------------------------------------------- tokens


def normalised(token: str) -> str:
    """Return a token as it is compared, before stemming."""
    if token.isascii():
        return token.lower()
    folded = unicodedata.normalize("NFKC", token.translate(IGNORED)).casefold()
    # Casefolding may take a character apart.
    return unicodedata.normalize("NFKC", folded).replace(DOTTED_I, "i")


def is_han_or_kana(character: str) -> bool:
    """Tell whether a character is of a script that puts no spaces between words."""
    return not character.isascii() and HAN_KANA_CHARACTER.match(character) is not None


def _token_pattern(is_ascii: bool) -> re.Pattern[str]:
    return ASCII_TOKEN if is_ascii else _unicode_patterns()[0]


@lru_cache(maxsize=1)
def _unicode_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    r"""Return the patterns of a token, and of a run of Han and kana or else of a word within a normalised token.

    ``\w`` has no combining marks, and without them no word of Hindi or Tamil stays whole. Most marks of Unicode lie
    below U+20000; asking for the category of each takes some 20 ms, once, and not for ASCII.
    """
    ranges: list[list[int]] = [[0xAD, 0xAD], [0x200C, 0x200D], [0xE0100, 0xE01EF]]
    for code in range(0x300, 0x20000):
        if unicodedata.category(chr(code)) in ("Mn", "Mc"):
            if ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    marks = "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
    word = rf"[^\W{HAN_KANA}]+(?:[{marks}]+[^\W{HAN_KANA}]*)*"
    return re.compile(rf"\w[\w{marks}]*"), re.compile(rf"(?P<run>[{HAN_KANA}][{HAN_KANA}{marks}]*)|{word}")


def _split(normal: str) -> Iterator[tuple[str, int, int, bool]]:
    """Yield (word, start, end, is a piece of a run of Han or kana) of a normalised token."""
    if ASCII_TOKEN.fullmatch(normal):
        if len(normal) <= MAX_WORD_BYTES:
            yield normal, 0, len(normal), False
        return
    for match in _unicode_patterns()[1].finditer(normal):
        start, end = match.span()
        if match["run"] is None:
            if len(match[0].encode()) <= MAX_WORD_BYTES:
                yield match[0], start, end, False
        elif end - start == 1:
            yield match[0], start, end, True
        else:
            for at in range(start, end - 1):
                yield normal[at : at + 2], at, at + 2, True


def _bounds(token: str, normal: str) -> list[tuple[int, int]]:
    """Return, for each character of a normalised token, the range of the original that it came from.

    Characters with their marks are normalised one after the other; where that is not what normalising the whole gave
    (syllables of Hangul written as letters), every character came from the whole token.
    """
    bounds: list[tuple[int, int]] = []
    parts: list[str] = []
    at = 0
    while at < len(token):
        end = at + 1
        while end < len(token) and _joins(token[end]):
            end += 1
        parts.append(normalised(token[at:end]))
        bounds += [(at, end)] * len(parts[-1])
        at = end
    if "".join(parts) != normal:
        return [(0, len(token))] * len(normal)
    return bounds


def _joins(character: str) -> bool:
    # The half-width voice marks of kana are letters to Unicode.
    return unicodedata.category(character) in ("Mn", "Mc", "Cf") or character in "\uff9e\uff9f"


# ---------------------------------------------------------------------------------------------------------- languages


def _stemmer(language: str) -> Callable[[str], str] | None:
    known = languages()
    if language not in known:
        raise ConfigError(f"unknown text language {language!r}: expected one of {', '.join(known)}")
    if language == SIMPLE:
        return None
    import Stemmer

    # No cache of its own: words come here once, and it would be filled under our lock.
    stem: Callable[[str], str] = Stemmer.Stemmer(language, 0).stemWord
    return stem


@lru_cache(maxsize=64)
def _own_stop_words(language: str) -> frozenset[str]:
    """Return the stop words that Snowball has for a language; none where it has no list."""
    path = Path(__file__).parent / "stop_words" / f"{SAME_LANGUAGE.get(language, language)}.txt"
    if language == SIMPLE or not path.exists():
        return frozenset()
    return _words_of(path.read_text(encoding="utf-8").split())


def _words_of(stop_words: Sequence[str]) -> frozenset[str]:
    """Return stop words as tokens of a text are compared with them."""
    if isinstance(stop_words, str):
        raise ConfigError(f"stop_words: expected a list of words, got the text {stop_words[:50]!r}")
    found: set[str] = set()
    for entry in stop_words:
        if not isinstance(entry, str):
            raise ConfigError(f"stop_words: expected words, got {entry!r}")
        tokens = _token_pattern(entry.isascii()).findall(entry)
        words = [word.replace(NON_JOINER, "") for token in tokens for word, *_ in _split(normalised(token))]
        if len(words) != 1 and not (words and set(entry) & {"'", "\u2019"}):
            raise ConfigError(f"stop_words: expected single words, got {entry[:50]!r}")
        found.update(words if len(words) == 1 else words[1:])
    return frozenset(found)
