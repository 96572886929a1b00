"""Which vectors has an index already? Those of the same texts under other ids: of files renamed, moved, or copied."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kektordb.index import Index
from kektordb.precision import same_again
from kektordb.vectorizer.ledger import hash_of_id

__all__ = ["Known"]

Row = npt.NDArray[np.float32]

# A text may stand in each of 100,000 documents: who has found it once need not look for it among so many items again.
MAX_RECENT = 1024


class Known:
    """Vectors that a vectorizer has stored, by text.

    What is taken is a row as it is stored, normalised and in the precision of the index, and only where storing it anew
    changes no bit of it. It is what the embedder's answer would become, if that is the same each time. In an index that
    was compressed it is what the compression left of it, as with an item that has stayed.

    One embedder made all of them: an index takes no other (`Vectorizer`).

    Parameters
    ----------
    index : Index
    name : str
        Of the vectorizer: items of others are not looked at.
    """

    def __init__(self, index: Index, name: str) -> None:
        self._index = index
        self._name = name
        self._recent: dict[bytes, Row | None] = {}

    def vectors(self, texts: Mapping[bytes, str]) -> dict[bytes, Row]:
        """Return the vectors of those texts, given by hash, that are there."""
        unknown = {digest: text for digest, text in texts.items() if digest not in self._recent}
        found = self._recent | (self._find(unknown) if unknown else {})
        self._recent = found if len(found) <= MAX_RECENT else {}
        return {digest: row for digest in texts if (row := found.get(digest)) is not None}

    def _find(self, texts: Mapping[bytes, str]) -> dict[bytes, Row | None]:
        """Return the vector of each text that has an item; None where it cannot be taken."""
        # One state of the index, from the hashes to the rows: another one may have other dimensions.
        collection = self._index._collection()
        if collection.graph is None or not len(collection):
            return {}
        ids: dict[bytes, str] = {}
        hashes = [digest.hex() for digest in texts]
        for id in collection.matching_ids("content_hash IN $hashes", {"hashes": hashes}):
            digest = hash_of_id(self._name, id)
            if digest is not None and digest in texts:
                ids.setdefault(digest, id)
        found: dict[bytes, Row | None] = dict.fromkeys(ids)
        items = zip(ids, collection.items(list(ids.values())), strict=True)
        # Anybody may put in an item with such an id, or change the metadata of one.
        there = [
            (digest, item.vector)
            for digest, item in items
            if item is not None and item.metadata.get("content_chunk") == texts[digest]
        ]
        if there:
            same = same_again(collection.graph.vectors, np.stack([row for _, row in there]))
            found |= {digest: row for (digest, row), is_same in zip(there, same, strict=True) if is_same}
        return found
