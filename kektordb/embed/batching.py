"""How do many texts go through a model or service that takes some at a time?"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from kektordb.embed.contract import Rows, as_texts, checked, redacted
from kektordb.embed.retrying import Retrying
from kektordb.errors import ConfigError, EmbedderError
from kektordb.validation import check_embedder_name

__all__ = ["BatchingEmbedder"]

# Of texts in a request, and of requests at a time: beyond these it is a mistake.
MAX_BATCH = 65_536
MAX_CONCURRENCY = 256


class BatchingEmbedder(ABC):
    """What all embedders here have in common: batches, threads, retries, and a look at each answer.

    A subclass says how one batch is embedded. Usable from any number of threads, if its `_documents` is.

    Parameters
    ----------
    name : str
    batch_size : int
        Texts in one request.
    concurrency : int
        Requests at a time.
    dim : int, optional
        What the model gives; the first answer decides when it is left out.
    retrying : Retrying
    document_prefix, query_prefix : str
        Put before each text: some models want to be told what it is, such as ``"search_query: "``.
    """

    def __init__(
        self,
        name: str,
        *,
        batch_size: int = 32,
        concurrency: int = 1,
        dim: int | None = None,
        retrying: Retrying | None = None,
        document_prefix: str = "",
        query_prefix: str = "",
    ) -> None:
        self.name = check_embedder_name(name)
        self.batch_size = check_count(batch_size, "batch_size", MAX_BATCH)
        self.concurrency = check_count(concurrency, "concurrency", MAX_CONCURRENCY)
        self.dim = None if dim is None else check_count(dim, "dim", MAX_BATCH)
        self._is_stated = dim is not None
        self._retrying = Retrying() if retrying is None else retrying
        self._prefixes = check_prefix(document_prefix), check_prefix(query_prefix)
        self._lock = threading.Lock()

    @property
    def identity(self) -> str:
        """The name, and all else that decides which vector a text gets: vectors of the same identity may be kept."""
        document, query = self._prefixes
        return self.name + (f" {document!r} {query!r}" if document or query else "")

    def embed_documents(self, texts: Sequence[str]) -> Rows:
        """Return a vector for each text, (n, dim). All of them, or EmbedderError."""
        given = [self._prefixes[0] + text for text in as_texts(texts)]
        size = self.batch_size
        parts = [given[start : start + size] for start in range(0, len(given), size)]
        if len(parts) == 0:
            return np.empty((0, self.dim or 0), np.float32)
        if len(parts) == 1 or self.concurrency == 1:
            given_up = threading.Event()
            rows = [self._part(part, False, given_up) for part in parts]
        else:
            rows = self._in_threads(parts)
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def embed_query(self, text: str) -> Rows:
        """Return the vector of a text that is searched for, (dim,). Raises EmbedderError."""
        if not isinstance(text, str):
            raise ConfigError(f"expected a text as str, got {type(text).__name__}")
        row: Rows = self._part([self._prefixes[1] + text], True, threading.Event())[0]
        return row

    def close(self) -> None:
        """Let go of what is open: connections, where there are any. It can be used again after that."""
        return

    @abstractmethod
    def _documents(self, texts: list[str]) -> Any:
        """Return a vector for each text of one batch. What it raises besides EmbedderError counts as temporary."""

    def _query(self, text: str) -> Any:
        """Return the vector of a query; as that of a document unless a subclass knows better."""
        return checked(self._documents([text]), 1, None, self.name)[0]

    # ------------------------------------------------------------------------------------------------------ one batch

    def _in_threads(self, parts: list[list[str]]) -> list[Rows]:
        given_up = threading.Event()
        failures: list[BaseException] = []

        def work(part: list[str]) -> Rows | None:
            if given_up.is_set():
                return None
            try:
                return self._part(part, False, given_up)
            except BaseException as error:
                failures.append(error)
                given_up.set()
                raise

        pool = ThreadPoolExecutor(min(self.concurrency, len(parts)), "kektordb-embed")
        try:
            futures = [pool.submit(work, part) for part in parts]
            wait(futures, return_when=FIRST_EXCEPTION)
            if failures:
                raise failures[0]
            return [rows for future in futures if (rows := future.result()) is not None]
        finally:
            given_up.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _part(self, texts: list[str], is_query: bool, given_up: threading.Event) -> Rows:
        return self._retrying.run(lambda: self._try(texts, is_query), given_up)

    def _try(self, texts: list[str], is_query: bool) -> Rows:
        try:
            answer = [self._query(texts[0])] if is_query else self._documents(texts)
        except EmbedderError:
            raise
        except Exception as error:
            # Whatever a model or a callable raises; its words may hold a secret, and end up in a log.
            text = redacted(str(error))
            raise EmbedderError(f"{self.name} failed with {type(error).__name__}: {text}") from error
        rows = checked(answer, len(texts), self.dim, self.name)
        if self.dim is None:
            with self._lock:
                if self.dim is None:
                    self.dim = rows.shape[1]
            # Another thread may have been faster, with another dimension.
            return checked(rows, len(texts), self.dim, self.name)
        return rows

    def unlearn(self) -> None:
        """Forget a dimension that was learned from an answer: it turned out to be wrong."""
        with self._lock:
            if not self._is_stated:
                self.dim = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def check_count(value: object, name: str, most: int) -> int:
    """Return `value` if it is an integer from 1 to `most`. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= most:
        raise ConfigError(f"expected {name} to be an integer from 1 to {most}, got {value!r:.80}")
    return int(value)


def check_prefix(value: object) -> str:
    """Return `value` if it is a str. Raises ConfigError."""
    if not isinstance(value, str):
        raise ConfigError(f"expected a prefix as str, got {type(value).__name__}")
    return value
