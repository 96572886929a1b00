"""Where do documents come from? What a source must say, and the source that is a Python iterable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import msgspec
import xxhash

from kektordb.documents import Document
from kektordb.errors import ConfigError

__all__ = ["Entry", "IterableSource", "Scan", "Source"]

# A document of an iterable: key and text, or key, text and metadata.
Given = tuple[str, str] | tuple[str, str, Mapping[str, Any]]


class Entry(msgspec.Struct, frozen=True):
    """A document that is there.

    Attributes
    ----------
    key : str
        Names the document within its source: the path from the folder, with ``/``.
    stamp : str
        Another one when the document may have changed. Empty: nobody can tell, look at it again.
    fields : dict
        What a metadata template may ask for, beside what is known of every chunk.
    given : Any
        What `Source.read` needs.
    """

    key: str
    stamp: str
    fields: Mapping[str, Any] = {}
    given: Any = None


class Scan(msgspec.Struct):
    """What a source holds now.

    Attributes
    ----------
    entries : iterable of Entry
        All documents; read once, to its end.
    total : int or None
        How many, where that is known before they are read.
    holes : list of (str, str)
        Beginnings of keys under which nothing could be seen, and why. What was there counts as there still. Whole when
        the entries were read to their end.
    """

    entries: Iterable[Entry]
    total: int | None
    holes: list[tuple[str, str]]


class Source(Protocol):
    """Where documents come from."""

    def scan(self) -> Scan:
        """Look for all documents. Raises SourceError when the source itself is not there: then nothing has vanished."""

    def read(self, entry: Entry) -> Document:
        """Return a document.

        Raises FileNotFoundError when it has gone since; DocumentError or OSError when it cannot be read.
        """


class IterableSource:
    """Documents that Python code hands over.

    Parameters
    ----------
    documents : iterable or callable
        Of ``(key, text)`` or ``(key, text, metadata)``. A function is called for each look, and returns an iterable; an
        iterator can be looked at once.
    is_complete : bool
        What does not come any more has gone, and its chunks go; otherwise they stay.
    """

    def __init__(self, documents: Iterable[Given] | Callable[[], Iterable[Given]], *, is_complete: bool = True) -> None:
        if not callable(documents) and (isinstance(documents, str | bytes) or not isinstance(documents, Iterable)):
            raise ConfigError(f"expected an iterable of (key, text), got {documents!r:.80}")
        self._documents = documents
        self._is_spent = False
        self._is_complete = is_complete

    def scan(self) -> Scan:
        """See `Source`. An error of the iterable is raised while the entries are read: then nothing has vanished."""
        if self._is_spent:
            raise ConfigError("expected a function or a list of documents to look at it again, got an iterator")
        documents = self._documents() if callable(self._documents) else self._documents
        self._is_spent = iter(documents) is documents and not callable(self._documents)
        total = len(documents) if isinstance(documents, list | tuple) else None
        return Scan(self._entries(documents), total, [] if self._is_complete else [("", "")])

    def _entries(self, documents: Iterable[Given]) -> Iterator[Entry]:
        seen: set[str] = set()
        for one in documents:
            match one:
                case (str(key), str(text)):
                    metadata: Mapping[str, Any] = {}
                case (str(key), str(text), Mapping() as metadata):
                    pass
                case _:
                    raise ConfigError(f"expected documents as (key, text) or (key, text, metadata), got {one!r:.80}")
            if not key or "\0" in key or key in seen:
                raise ConfigError(f"expected each document under a key of its own, without NUL, got {key!r:.80}")

            seen.add(key)
            stamp = xxhash.xxh3_128_hexdigest(repr((text, dict(metadata))).encode("utf-8", "surrogatepass"))
            yield Entry(key, stamp, {"file_path": key, "metadata": metadata}, text)

    def read(self, entry: Entry) -> Document:
        """See `Source`."""
        return Document(text=entry.given)
