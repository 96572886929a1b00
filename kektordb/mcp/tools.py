"""What may a language model do with a database? A few verbs, whose answers are plain data of bounded size."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kektordb.errors import ConfigError, IdError, MetadataError, ReadOnlyDatabase

if TYPE_CHECKING:
    from kektordb.database import Database
    from kektordb.index import Index
    from kektordb.remote.database import RemoteDatabase
    from kektordb.remote.index import RemoteIndex

    AnyDatabase = Database | RemoteDatabase
    AnyIndex = Index | RemoteIndex

__all__ = ["Tools"]

# What one call gives and takes at most: a model reads it all.
MAX_K = 100
MAX_IDS = 100
MAX_TEXTS = 1000
MAX_INDEXES = 200
MAX_FIELDS = 200
# Characters of a text in the metadata of a hit; `get` gives it whole.
MAX_CHARACTERS = 2000
# Characters of a value that `kv_get` gives.
MAX_VALUE = 200_000


class Tools:
    """The tools of one database. Each method is a tool: its documentation is what the model reads.

    Parameters
    ----------
    database : Database or RemoteDatabase
    embedder : str, optional
        The name of an embedder: indexes with its vectors take and find texts by meaning, and a new index may come to
        have it. ``"auto"`` for whatever each index says that it was filled with.
    allow_writes : bool
        Without it the verbs that write raise ReadOnlyDatabase.
    """

    def __init__(self, database: AnyDatabase, embedder: str | None = None, allow_writes: bool = False) -> None:
        self.allow_writes = allow_writes
        self._database = database
        self._embedder = embedder
        self._attaching = threading.Lock()

    # ------------------------------------------------------------------------------------------------------- reading

    def list_indexes(self) -> dict[str, Any]:
        """List the indexes of the database: collections of items that can be searched.

        Each has its name, how many items it holds, and whether texts can be searched by words (text_language) or by
        meaning (by_meaning).
        """
        self._look()
        found = []
        for name, stats in list(self._database.stats()["indexes"].items())[:MAX_INDEXES]:
            found.append({"name": name, **self._summary(stats)})
        return {"indexes": found}

    def describe_index(self, index: str) -> dict[str, Any]:
        """Describe one index: its size and metric, how it can be searched, and the fields that filters can use.

        Filters are conditions on these fields: price < 50 AND color IN ('red', 'blue') AND NOT EXISTS(sold);
        name LIKE 'a%'; CONTAINS(text, 'word').
        """
        self._look()
        found = self._index(index)
        fields = found.fields()
        return {"name": index, **self._summary(found.stats()), "fields": fields[:MAX_FIELDS], "n_fields": len(fields)}

    def search(
        self,
        index: str,
        text: str | None = None,
        vector: list[float] | None = None,
        filter: str | None = None,
        k: int = 10,
    ) -> dict[str, Any]:
        """Find the k items that fit best: by a text, by a vector, or with only a filter the first ones that match it.

        A text is compared by meaning and by words, as far as the index can do both. The best come first; a larger score
        is better. Long texts in the metadata are cut short and end in "…": get gives them whole. k is 1 to 100.
        """
        self._look()
        found = self._index(index)
        if isinstance(k, bool) or not 1 <= k <= MAX_K:
            raise ConfigError(f"expected k to be from 1 to {MAX_K}, got {k}")
        filter = filter if filter and filter.strip() else None
        if text is not None and vector is not None:
            raise ConfigError("expected a text or a vector, got both")
        if text is None and vector is None:
            return self._first(found, filter, k)
        options: dict[str, Any] = {"k": k, "filter": filter}
        if vector is not None:
            hits = found.search(vector, **options)
        elif self._embeds(found):
            hits = found.search(query_text=text, snippet=bool(found.config.text_language), **options)
        elif found.config.text_language:
            hits = found.search(text=text, snippet=True, **options)
        else:
            raise ConfigError(
                f"index {index!r} cannot be searched by text: it has no text_language, and no embedder is at hand; "
                "search by a vector or a filter"
            )
        return {"hits": [self._hit(hit) for hit in hits]}

    def get(self, index: str, ids: list[str], with_vectors: bool = False) -> dict[str, Any]:
        """Return the items of these ids with their whole metadata; ids that are not there are listed in missing."""
        self._look()
        if len(ids) > MAX_IDS:
            raise IdError(f"expected at most {MAX_IDS} ids, got {len(ids)}")
        items = self._index(index).get_many(ids)
        found = [
            {"id": item.id, "metadata": item.metadata, **({"vector": item.vector.tolist()} if with_vectors else {})}
            for item in items
            if item is not None
        ]
        return {"items": found, "missing": [id for id, item in zip(ids, items, strict=True) if item is None]}

    def kv_get(self, key: str) -> dict[str, Any]:
        """Return the value of a key in the key-value store of the database; null when there is none.

        A value that is no text comes as base64.
        """
        self._look()
        value = self._database.kv.get(key)
        if value is None:
            return {"key": key, "value": None}
        try:
            text, encoding = value.decode(), "text"
        except UnicodeDecodeError:
            text, encoding = base64.b64encode(value).decode(), "base64"
        if len(text) > MAX_VALUE:
            raise ConfigError(f"the value of key {key!r:.80} is too long to be given: {len(value):,} bytes")
        return {"key": key, "value": text, "encoding": encoding}

    # ------------------------------------------------------------------------------------------------------- writing

    def add_texts(
        self,
        index: str,
        texts: list[str],
        ids: list[str] | None = None,
        metadata: list[dict[str, Any]] | None = None,
        replace: bool = False,
    ) -> dict[str, Any]:
        """Store texts as items of an index: all of them, or none. Returns their ids, which are made up if not given.

        metadata is one object for each text, for filters; the text itself is stored in its field text. replace lets
        items take the place of those that have the same ids.
        """
        self._require_writes()
        found = self._index(index)
        if not 1 <= len(texts) <= MAX_TEXTS:
            raise ConfigError(f"expected 1 to {MAX_TEXTS} texts, got {len(texts)}")
        if self._embeds(found, to_fill=True):
            return {"ids": found.add_texts(texts, ids, metadata, replace=replace)}
        config = found.config
        if config.embedder:
            raise ConfigError(f"index {index!r} has vectors of {config.embedder!r}, which is not at hand here")
        if not config.text_language:
            raise ConfigError(f"index {index!r} has no text_language, and no embedder is at hand: texts were not found")
        return {"ids": self._add_plain(found, texts, ids, metadata, replace)}

    def kv_set(self, key: str, value: str) -> dict[str, Any]:
        """Set a key in the key-value store of the database to a text; it takes the place of what was there."""
        self._require_writes()
        self._database.kv[key] = value
        return {"key": key}

    # -------------------------------------------------------------------------------------------------------- inside

    def _look(self) -> None:
        """See what the writer of a database that is opened read-only has done since."""
        refresh = getattr(self._database, "refresh", None)
        if refresh is not None and getattr(self._database, "read_only", False):
            refresh()

    def _require_writes(self) -> None:
        if not self.allow_writes:
            raise ReadOnlyDatabase("this server was started without --allow-writes")

    def _index(self, name: str) -> AnyIndex:
        return self._database.index(name)

    def _summary(self, stats: Mapping[str, Any]) -> dict[str, Any]:
        stored = stats.get("embedder") or None
        return {
            "n_items": stats["n_items"],
            "dim": stats["dim"] or None,
            "metric": stats["metric"],
            "text_language": stats.get("text_language") or None,
            "embedder": stored,
            "by_meaning": stored is not None and self._embedder in ("auto", stored),
        }

    def _embeds(self, index: AnyIndex, to_fill: bool = False) -> bool:
        """Attach the embedder of an index, and tell whether there is one; an empty index may come to have it."""
        if self._embedder is None:
            return False
        stored = index.config.embedder
        wanted = stored if self._embedder == "auto" else self._embedder
        if not wanted or (stored != wanted and (stored or not to_fill or len(index))):
            return False
        with self._attaching:
            if index.embedder is None or index.embedder.name != wanted:
                index.attach_embedder(wanted)
        return True

    def _add_plain(
        self,
        index: AnyIndex,
        texts: list[str],
        ids: list[str] | None,
        metadata: list[dict[str, Any]] | None,
        replace: bool,
    ) -> list[str]:
        """Add texts that are found by their words alone: their vectors are zeros, which are as far from all others."""
        # The first vector decides the dimension of an index; where there is none, one component says the least.
        rows = np.zeros((len(texts), index.dim or 1), np.float32)
        given = metadata if metadata is not None else [{}] * len(texts)
        if len(given) != len(texts):
            raise ConfigError(f"expected {len(texts)} metadata, one for each text, got {len(given)}")
        for own, text in zip(given, texts, strict=True):
            if own.get("text", text) != text:
                raise MetadataError("expected metadata without 'text', under which the text is stored")
        named = ids if ids is not None else [os.urandom(16).hex() for _ in texts]
        put = index.upsert_batch if replace else index.add_batch
        put(named, rows, [{**own, "text": text} for own, text in zip(given, texts, strict=True)])
        return named

    def _first(self, index: AnyIndex, filter: str | None, k: int) -> dict[str, Any]:
        ids = index.ids(filter)
        items = [item for item in index.get_many(ids[:k]) if item is not None]
        return {
            "hits": [{"id": item.id, "metadata": shortened(item.metadata)} for item in items],
            "n_matching": len(ids),
        }

    def _hit(self, hit: Any) -> dict[str, Any]:
        found = {"id": hit.id, "score": hit.score, "distance": hit.distance, "text_score": hit.text_score}
        found["snippet"] = hit.snippet or None
        shown = {key: value for key, value in found.items() if value is not None}
        return {**shown, "metadata": shortened(hit.metadata)}


def shortened(value: Any) -> Any:
    """Return metadata with long texts cut short."""
    if isinstance(value, str):
        return value if len(value) <= MAX_CHARACTERS else value[:MAX_CHARACTERS] + "…"
    if isinstance(value, dict):
        return {key: shortened(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shortened(one) for one in value]
    return value
