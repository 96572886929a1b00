"""What is an embedder, and which of its answers can be used?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from kektordb._vectors import MAX_DIM
from kektordb.errors import ConfigError, EmbedderError

__all__ = ["Embedder", "as_texts", "checked", "redacted"]

Rows = npt.NDArray[np.float32]

MAX_SHOWN = 200
# What looks like a secret in a text that somebody else wrote.
_SECRETS = re.compile(r"(?i)(bearer\s+|\bsk-|(?:key|token|secret|password)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;]+")


@runtime_checkable
class Embedder(Protocol):
    """What makes vectors of texts; usable from any number of threads. `name` and `dim` may be attributes."""

    @property
    def name(self) -> str:
        """Which model it is, such as ``"ollama:nomic-embed-text"``: kept with an index, and compared."""
        ...

    @property
    def dim(self) -> int | None:
        """Components of a vector; None until the first answer."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> Rows:
        """Return a vector for each text, (n, dim). Raises EmbedderError."""
        ...

    def embed_query(self, text: str) -> Rows:
        """Return the vector of a text that is searched for, (dim,). Raises EmbedderError."""
        ...


def as_texts(texts: Sequence[str]) -> list[str]:
    """Return texts as a list. Raises ConfigError for what is none."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence | np.ndarray):
        raise ConfigError(f"expected a sequence of texts, got {type(texts).__name__}")
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(f"expected texts as str, got {type(text).__name__} {text!r:.80}")
    return [str(text) for text in texts]


def checked(answer: object, n: int, dim: int | None, name: str) -> Rows:
    """Return what an embedder answered as an array of its own or the answer itself, (n, dim), C-contiguous.

    Raises EmbedderError, permanent, when it is not `n` rows of finite numbers, or not of `dim` components.
    """
    try:
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(answer, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        raise EmbedderError(f"{name} answers with what is no matrix of numbers", permanent=True) from None
    if n == 0 and rows.size == 0:
        return np.empty((0, dim or 0), np.float32)
    if rows.ndim != 2 or len(rows) != n:
        found = "x".join(map(str, rows.shape)) or "one"
        raise EmbedderError(f"{name} answers {n} texts with {found} numbers, not with {n} vectors", permanent=True)
    if not 1 <= rows.shape[1] <= MAX_DIM:
        raise EmbedderError(
            f"{name} answers with vectors of {rows.shape[1]} dimensions, expected 1 to {MAX_DIM}", permanent=True
        )
    if dim is not None and rows.shape[1] != dim:
        raise EmbedderError(f"{name} answers with {rows.shape[1]} dimensions, expected {dim}", permanent=True)
    if not np.isfinite(rows).all():
        raise EmbedderError(f"{name} answers with numbers that are not finite", permanent=True)
    return rows


def redacted(text: str, secret: str | None = None) -> str:
    """Return the beginning of a text that somebody else wrote, in one line, without what looks like a secret."""
    text = text[: 20 * MAX_SHOWN]
    if secret:
        text = text.replace(secret, "***")
    text = _SECRETS.sub(r"\1***", text)
    return " ".join(text.split())[:MAX_SHOWN]
