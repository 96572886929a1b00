"""A program whose children bring an index in step with a folder, to be killed by a test; and what they do it with.

The program itself opens nothing: it imports once, and then forks a child for each line that it reads.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

import kektordb
from kektordb.documents import Chunking
from kektordb.embed import Embedder, as_embedder
from kektordb.vectorizer import syncing
from kektordb.vectorizer.folder import FolderSource
from kektordb.vectorizer.vectorizer import Vectorizer

DIM = 8
SMALL = Chunking("recursive", 120, 0)


def vector_of(text: str) -> npt.NDArray[np.float32]:
    """Return the vector that a text always gets."""
    seed = xxhash.xxh3_64_intdigest(text.encode())
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def stub(seconds: float = 0.0, seen: list[str] | None = None) -> Embedder:
    """Return an embedder that takes `seconds` a text, and notes the texts."""

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if seen is not None:
            seen.extend(texts)
        if seconds:
            time.sleep(seconds * len(texts))
        return np.stack([vector_of(text) for text in texts])

    return as_embedder(embed, name="stub", concurrency=1)


def vectorizer(db: kektordb.Database, folder: str, seconds: float = 0.0) -> Vectorizer:
    """Return the vectorizer of a folder."""
    return Vectorizer(db, "docs", "docs", FolderSource(folder), stub(seconds), chunking=SMALL)


def say(word: str) -> None:
    """Write a line at once: two processes write."""
    os.write(1, f"{word}\n".encode())


def _run(path: str, folder: str) -> None:
    say("begins")
    with kektordb.open(path, autosave="", n_threads=1) as db:
        vectorizer(db, folder, 0.0005).sync()
    say("done")
    signal.pause()  # until it is killed: a process that has ended may have left its number to another one


def _child(run: Callable[[str, str], None], path: str, folder: str) -> None:
    status = 1
    try:
        run(path, folder)
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    # So that there are many moments between the first document and the last.
    syncing.SLICE_TEXTS = 16
    for line in sys.stdin:
        path, folder = line.rstrip("\n").split("\t")
        process = os.fork()
        if process == 0:
            _child(_run, path, folder)
        say(f"process {process}")
        os.waitpid(process, 0)
        say("dead")
