"""How do the texts of many documents get their vectors, when an embedder may be down, or choke on one of them?"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kektordb.embed.contract import checked
from kektordb.errors import EmbedderError, KektorError
from kektordb.vectorizer.planning import Change

if TYPE_CHECKING:
    from kektordb.embed import Embedder

__all__ = ["Outcome", "embed"]

Rows = npt.NDArray[np.float32]


class Outcome:
    """What became of some documents.

    Attributes
    ----------
    vectors : dict
        A row by the hash of its text.
    done : list of Change
        All their texts have vectors.
    failed : list of (Change, EmbedderError)
        Tried alone, and failed, while the embedder took other texts.
    is_down : bool
        The embedder is not worth asking again in this pass; what is in neither list was not tried.
    error : EmbedderError or None
        The last one.
    """

    def __init__(self) -> None:
        self.vectors: dict[bytes, Rows] = {}
        self.done: list[Change] = []
        self.failed: list[tuple[Change, EmbedderError]] = []
        self.is_down = False
        self.error: EmbedderError | None = None


def embed(
    embedder: Embedder, changes: Sequence[Change], dim: int | None, slice_texts: int, check: Callable[[], None]
) -> Outcome:
    """Ask for the vectors of all new chunks: of all documents together, and one by one when that fails.

    Parameters
    ----------
    embedder : Embedder
    changes : sequence of Change
    dim : int or None
        Components of a vector in the index.
    slice_texts : int
        Texts that the embedder is given at a time.
    check : callable
        Called before each slice; raises to end it.
    """
    outcome = Outcome()
    try:
        outcome.vectors.update(_vectors(embedder, changes, outcome.vectors, dim, slice_texts, check))
        outcome.done += changes
        return outcome
    except EmbedderError as error:
        outcome.error = error
    for change in changes:
        try:
            outcome.vectors.update(_vectors(embedder, [change], outcome.vectors, dim, slice_texts, check))
        except EmbedderError as error:
            outcome.error = error
            if not _is_well(embedder, dim):
                outcome.is_down = True
                break
            outcome.failed.append((change, error))
        else:
            outcome.done.append(change)
    return outcome


def _is_well(embedder: Embedder, dim: int | None) -> bool:
    """Tell whether an embedder has vectors for harmless texts: then it is the document that fails."""
    # No cache shall answer in its place.
    once = random.getrandbits(64)
    try:
        checked(_ask(embedder, [f"first probe {once}", f"second probe {once}"]), 2, dim, embedder.name)
    except EmbedderError:
        return False
    return True


def _vectors(
    embedder: Embedder,
    changes: Sequence[Change],
    known: dict[bytes, Rows],
    dim: int | None,
    slice_texts: int,
    check: Callable[[], None],
) -> dict[bytes, Rows]:
    texts = {digest: text for change in changes for _, text, digest, _ in change.new if digest not in known}
    digests = list(texts)
    found: dict[bytes, Rows] = {}
    for start in range(0, len(digests), slice_texts):
        check()
        some = digests[start : start + slice_texts]
        rows = checked(_ask(embedder, [texts[digest] for digest in some]), len(some), dim, embedder.name)
        dim = rows.shape[1]
        found.update(zip(some, rows, strict=True))
    return found


def _ask(embedder: Embedder, texts: list[str]) -> object:
    try:
        return embedder.embed_documents(texts)
    except KektorError as error:
        if isinstance(error, EmbedderError):
            raise
        raise EmbedderError(f"{embedder.name}: {error}", permanent=True) from error
    except Exception as error:  # somebody else's code: whatever it raises, the documents wait
        raise EmbedderError(f"{embedder.name} raised {type(error).__name__}") from error
