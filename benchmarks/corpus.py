"""Which texts does a benchmark search, and for what? Paragraphs of the Python sources that are installed here."""

from __future__ import annotations

import random
import re
import site
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

__all__ = ["documents", "queries"]

SEED = 4
# A paragraph has at least so many words, and as many characters at most: tables of data are not read.
FEWEST_WORDS = 8
MOST_CHARACTERS = 20_000
# Words of every second paragraph say nothing of what is looked for.
N_COMMON = 30
WORD = re.compile(r"[^\W\d_]{3,}")
BLANK_LINE = re.compile(r"\n\s*\n")


def documents(n: int) -> list[str]:
    """Return `n` different paragraphs: the standard library's, then those of installed packages, in random order.

    What they are depends on the machine; the result says how many they are and how long.
    """
    found: dict[str, None] = {}
    for paragraph in paragraphs():
        found[paragraph] = None
        if len(found) == n:
            break
    texts = list(found)
    random.Random(SEED).shuffle(texts)
    return texts


def paragraphs() -> Iterator[str]:
    """Yield the paragraphs of all sources, file by file."""
    folders = [sysconfig.get_paths()["stdlib"], *site.getsitepackages()]
    seen: set[Path] = set()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            if path in seen:
                continue
            seen.add(path)
            try:
                source = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            for paragraph in BLANK_LINE.split(source):
                if len(paragraph) <= MOST_CHARACTERS and len(WORD.findall(paragraph)) >= FEWEST_WORDS:
                    yield paragraph


def queries(texts: list[str], n: int, stop_words: frozenset[str]) -> list[str]:
    """Return `n` queries of 2 to 6 words, all of one text."""
    counts = Counter(word for text in texts for word in set(WORD.findall(text.lower())))
    left_out = stop_words | {word for word, _ in counts.most_common(N_COMMON)}
    generator = random.Random(SEED)
    made: list[str] = []
    while len(made) < n:
        words = [w for w in dict.fromkeys(WORD.findall(generator.choice(texts).lower())) if w not in left_out]
        wanted = generator.randint(2, 6)
        chosen = sorted(generator.sample(range(len(words)), wanted)) if len(words) >= wanted else []
        if chosen:
            made.append(" ".join(words[place] for place in chosen))
    return made
