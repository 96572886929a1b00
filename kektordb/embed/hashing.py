"""Which vectors do texts get without a model? Hashes of their words: for tests and demonstrations only."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

import numpy as np
from xxhash import xxh3_64_intdigest

from kektordb.embed.batching import BatchingEmbedder, check_count
from kektordb.embed.contract import Rows

__all__ = ["HashingEmbedder"]

MAX_DIM = 65_536
N_GRAM = 3
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
            self._fill(row, text)
        return rows

    def _fill(self, row: Rows, text: str) -> None:
        counts = Counter(_features(text))
        for feature, n in counts.items():
            number = xxh3_64_intdigest(feature.encode("utf-8", "surrogatepass"))
            # The highest bit is the sign, the others choose the component.
            sign = 1.0 if number >> 63 else -1.0
            weight = 1.0 if len(feature) == N_GRAM + 1 and feature[0] == "#" else 2.0
            row[(number & (2**63 - 1)) % len(row)] += sign * weight * n**0.5
        length = float(np.sqrt(np.dot(row.astype(np.float64), row.astype(np.float64))))
        if length:
            row /= length


def _features(text: str) -> list[str]:
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    found = list(words)
    for word in words:
        padded = f"<{word}>"
        found += ["#" + padded[at : at + N_GRAM] for at in range(len(padded) - N_GRAM + 1)]
    return found
