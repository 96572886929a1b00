"""What must happen to the items of a document? Its chunks now, beside those that are in the index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb._metadata import decode_metadata, encode_metadata
from kektordb.documents import Chunk, Document
from kektordb.errors import ConfigError, DocumentError, IdError, MetadataError
from kektordb.index import Index
from kektordb.vectorizer.ledger import Ledger, Record, chunk_hash, chunk_ids
from kektordb.vectorizer.sources import Entry
from kektordb.vectorizer.taking import Known

__all__ = ["Change", "Planner", "Split"]


Split = Callable[[Document], Sequence[Chunk]]
Describe = Callable[[Entry, Document, Sequence[Chunk]], list[dict[str, Any]]]


class Change(msgspec.Struct):
    """What is to be written for one document: all of it at once.

    Attributes
    ----------
    entry : Entry
    record : Record
        As it will be.
    new : list of (id, text, hash, metadata)
        Chunks that need a vector of the embedder.
    taken : list of (id, vector, metadata)
        New items whose vector another item has; see `Known`.
    kept : list of str
        Items that stay as they are, vector and metadata.
    renewed : list of (id, metadata)
        Items whose vector stays.
    stale : list of str
        Items that go.
    """

    entry: Entry
    record: Record
    new: list[tuple[str, str, bytes, dict[str, Any]]]
    taken: list[tuple[str, npt.NDArray[np.float32], dict[str, Any]]]
    kept: list[str]
    renewed: list[tuple[str, dict[str, Any]]]
    stale: list[str]


class Planner:
    """Says what must happen to documents.

    Parameters
    ----------
    index : Index
    ledger : Ledger
    name : str
        Of the vectorizer.
    setup : str
        See `Record`.
    split : callable
        From a document to its chunks.
    describe : callable
        From an entry, its document and its chunks to the metadata of each chunk.
    """

    def __init__(self, index: Index, ledger: Ledger, name: str, setup: str, split: Split, describe: Describe) -> None:
        self._index = index
        self._ledger = ledger
        self._name = name
        self._setup = setup
        self._split = split
        self._describe = describe
        self._known = Known(index, name)

    def is_unchanged(self, entry: Entry) -> bool:
        """Tell whether a document need not be read."""
        record = self._ledger.get(entry.key)
        return record is not None and entry.stamp != "" and record.stamp == entry.stamp and record.setup == self._setup

    def plan(self, entry: Entry, document: Document) -> Change | None:
        """Return what must be written for a document, as it was read; None for nothing.

        Raises DocumentError when it cannot be cut, or its key or metadata cannot be stored.
        """
        try:
            return self._planned(entry, document)
        except (MetadataError, IdError, ConfigError, UnicodeError) as error:
            raise DocumentError(f"it cannot be stored: {error}") from error

    def _planned(self, entry: Entry, document: Document) -> Change | None:
        chunks = self._chunks(document)
        hashes = [chunk_hash(chunk.text) for chunk in chunks]
        ids = chunk_ids(self._name, entry.key, hashes)
        record = Record(entry.stamp, self._setup, b"".join(hashes))
        before = self._ledger.get(entry.key)
        change = Change(entry, record, [], [], [], [], [])
        described = self._describe(entry, document, chunks)
        there = self._index.get_many(ids)
        for id, chunk, digest, metadata, item in zip(ids, chunks, hashes, described, there, strict=True):
            as_stored = decode_metadata(encode_metadata(metadata))
            if item is None:
                change.new.append((id, chunk.text, digest, metadata))
            elif item.metadata != as_stored:
                change.renewed.append((id, metadata))
            else:
                change.kept.append(id)
        if before is not None:
            wanted = set(ids)
            change.stale = [id for id in self._ledger.ids(entry.key, before) if id not in wanted]
        if before == record and not (change.new or change.renewed or change.stale):
            return None
        self._take(change)
        return change

    def _take(self, change: Change) -> None:
        known = self._known.vectors({digest: text for _, text, digest, _ in change.new})
        change.taken = [(id, known[digest], metadata) for id, _, digest, metadata in change.new if digest in known]
        change.new = [one for one in change.new if one[2] not in known]

    def _chunks(self, document: Document) -> list[Chunk]:
        try:
            return [chunk for chunk in self._split(document) if chunk.text.strip()]
        except Exception as error:  # may be a function of the caller's
            raise DocumentError(f"it cannot be cut: {type(error).__name__}: {error}") from error
