"""How do items that are dicts, as the original's client takes them, go to a server? As columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kektordb._metadata import encode_many
from kektordb.errors import ConfigError, VectorError
from kektordb.remote.batches import put_all
from kektordb.remote.transport import Transport
from kektordb.validation import as_rows, check_ids

__all__ = ["send_items"]


def send_items(transport: Transport, name: str, items: Sequence[Mapping[str, Any]]) -> None:
    """Send items, each with ``id``, ``vector`` and perhaps ``metadata``.

    Raises
    ------
    KektorError
        Nothing was sent if they are no items; see `put_all` for the rest.
    """
    try:
        ids = [item["id"] for item in items]
        vectors = [item["vector"] for item in items]
        metadata = [item.get("metadata") or None for item in items]
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"expected items with id and vector: {error!r}") from None
    checked = check_ids(ids)
    try:
        rows = as_rows(vectors, len(checked), 0)
    except VectorError as error:
        raise VectorError(f"vector dimension mismatch: {error}") from None
    put_all(transport, name, checked, rows, encode_many(metadata, checked), replace=False)
