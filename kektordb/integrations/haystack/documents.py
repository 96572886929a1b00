"""What of a document is kept in an item? All: the content and ``meta`` so that they are found, the rest beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from haystack.dataclasses import ByteStream, Document, SparseEmbedding

from kektordb.query import Expression, F

__all__ = ["CONTENT", "document_of", "item_of", "with_embedding"]

CONTENT = "content"
_ID = "id"
_META = "meta"
_BARE = "no_embedding"
# Lists in lists are kept and not looked at, so that they cost no more than their bytes.
_EMBEDDING = "embedding"
_BLOB = "blob"
_SPARSE = "sparse_embedding"


def with_embedding() -> Expression:
    """Match documents that have an embedding: the others have zeros for one."""
    return ~F(_BARE).exists()


def item_of(document: Document, dim: int, exact: bool) -> tuple[list[float], dict[str, Any]]:
    """Return the vector and the metadata of a document's item.

    Parameters
    ----------
    document : Document
    dim : int
        Of the zeros that stand for an embedding that is not there.
    exact : bool
        Whether the embedding is kept as it is, too.
    """
    metadata: dict[str, Any] = {_ID: document.id, CONTENT: document.content, _META: document.meta}
    if document.blob is not None:
        metadata[_BLOB] = [document.blob.to_dict()]
    if document.sparse_embedding is not None:
        metadata[_SPARSE] = [document.sparse_embedding.to_dict()]
    if document.embedding is None:
        metadata[_BARE] = True
        return [0.0] * dim, metadata
    if exact:
        metadata[_EMBEDDING] = [list(document.embedding)]
    return list(document.embedding), metadata


def document_of(
    id: str,
    metadata: Mapping[str, Any] | None,
    vector: npt.NDArray[np.float32] | None = None,
    score: float | None = None,
) -> Document:
    """Return the document of an item; without a vector it has no embedding."""
    known = metadata or {}
    embedding: list[float] | None = None
    if vector is not None and not known.get(_BARE):
        embedding = known[_EMBEDDING][0] if _EMBEDDING in known else vector.tolist()
    content, meta, blob, sparse = (known.get(key) for key in (CONTENT, _META, _BLOB, _SPARSE))
    return Document(
        id=id,
        content=content if isinstance(content, str) else None,
        meta=dict(meta) if isinstance(meta, Mapping) else {},
        blob=ByteStream.from_dict(blob[0]) if isinstance(blob, list) else None,
        sparse_embedding=SparseEmbedding.from_dict(sparse[0]) if isinstance(sparse, list) else None,
        embedding=embedding,
        score=score,
    )
