"""Which vectors do texts get without a model? Hashes of their words: for tests and demonstrations only."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from kektordb.embed.batching import BatchingEmbedder, check_count
from kektordb.embed.contract import Rows

__all__ = ["HashingEmbedder"]

MAX_DIM = 65_536
N_GRAM = 3
MAX_REMEMBERED = 64
_WORD = re.compile(r"\w+")


class HashingEmbedder(BatchingEmbedder):
    """Deterministic, offline, without a model: texts are near when they share words, or parts of words.

    Meaning is nothing to it: "car" and "automobile" are as far apart as any two words. It is there so that tests and
    demonstrations run anywhere; use a model for anything else.

    A text becomes counts of its words and of their runs of three characters, each added to, or subtracted from, the
    component that its hash names; the square root of a count damps repetition. Vectors have length 1, that of a text
    without words is zero.

    Parameters
    ----------
    dim : int
    name : str, optional
        ``"hashing:<dim>"`` by default.
    """

    def __init__(self, dim: int = 256, *, name: str | None = None) -> None:
        dim = check_count(dim, "dim", MAX_DIM)
        super().__init__(f"hashing:{dim}" if name is None else name, batch_size=1024, dim=dim)

    def _documents(self, texts: list[str]) -> Rows:
        assert self.dim is not None
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[:] = _vector(text, self.dim)
        return rows


def _vector(text: str, dim: int) -> npt.NDArray[np.float64]:
    row = np.zeros(dim)
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    # A long one would take much room among those that are remembered.
    words = [(_hashes if len(word) <= MAX_REMEMBERED else _hashes.__wrapped__)(word) for word in found]
    for numbers, weight in (([word[0] for word in words], 2.0), ([gram for word in words for gram in word[1:]], 1.0)):
        features, counts = np.unique(np.array(numbers, np.uint64), return_counts=True)
        # The highest bit is the sign, the others choose the component.
        values = np.where(features >> np.uint64(63), weight, -weight) * np.sqrt(counts)
        components = (features & np.uint64(2**63 - 1)) % np.uint64(dim)
        row += np.bincount(components.astype(np.int64), values, dim)
    length = float(np.sqrt(row @ row))
    return row / length if length else row


@lru_cache(1 << 15)
def _hashes(word: str) -> tuple[int, ...]:
    """Return the hash of a word, and those of its runs of characters, which are told from words by a mark."""
    padded = f"<{word}>"
    grams = ["#" + padded[at : at + N_GRAM] for at in range(len(padded) - N_GRAM + 1)]
    return tuple(xxh3_64_intdigest(feature.encode("utf-8", "surrogatepass")) for feature in [word, *grams])
