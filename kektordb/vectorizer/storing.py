"""How do the changes of documents get into the database? Whole ones: chunks and record in one batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kektordb.database import Database
from kektordb.index import Index
from kektordb.vectorizer.ledger import Ledger, Record
from kektordb.vectorizer.planning import Change

__all__ = ["forget", "store"]

Rows = npt.NDArray[np.float32]


def store(
    database: Database, index: Index, ledger: Ledger, changes: Sequence[Change], vectors: Mapping[bytes, Rows]
) -> None:
    """Write the changes of some documents, all or none. A crash leaves each document as it was, or as it is now.

    Parameters
    ----------
    changes : sequence of Change
        Of different documents.
    vectors : dict
        A row for the hash of each new chunk.

    Raises
    ------
    KektorError
        Nothing was written.
    """
    new = [(id, vectors[digest], metadata) for change in changes for id, _, digest, metadata in change.new]
    new += [one for change in changes for one in change.taken]
    with database.batch():
        if new:
            rows = np.stack([row for _, row, _ in new])
            index.upsert_batch([id for id, _, _ in new], rows, [metadata for _, _, metadata in new])
        for change in changes:
            record = change.record
            # Somebody else may have deleted items since they were looked at.
            if not all(id in index for id in change.kept):
                record = _to_look_at(record)
            for id, metadata in change.renewed:
                if id in index:
                    index.update_metadata(id, metadata, replace=True)
                else:
                    record = _to_look_at(record)
            _delete(index, change.stale)
            ledger.put(change.entry.key, record)


def forget(database: Database, index: Index, ledger: Ledger, keys: Iterable[str]) -> int:
    """Delete the chunks and records of documents that have gone; return how many chunks went."""
    n = 0
    with database.batch():
        for key in keys:
            record = ledger.get(key)
            if record is not None:
                n += _delete(index, ledger.ids(key, record))
                ledger.forget(key)
    return n


def _to_look_at(record: Record) -> Record:
    return Record("", record.setup, record.hashes)


def _delete(index: Index, ids: Iterable[str]) -> int:
    there = [id for id in ids if id in index]
    if there:
        index.delete(there)
    return len(there)
