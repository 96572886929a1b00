"""The state of a database as text, to be compared with that of another one."""

from __future__ import annotations

import json
from typing import Any

from kektordb.database import Database

__all__ = ["contents"]


def contents(db: Database) -> str:
    """Everything in a database: indexes with their items in order, and keys."""
    found: dict[str, Any] = {}
    for name in db:
        index = db[name]
        items = [item for item in index.get_many(index.ids()) if item is not None]
        of_items = [[item.id, item.vector.tolist(), item.metadata] for item in items]
        found[name] = [index.config.metric, index.config.precision, index.dim, of_items]
    return json.dumps([found, {key: value.hex() for key, value in db.kv.items()}])
