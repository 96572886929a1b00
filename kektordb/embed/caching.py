"""How is no text embedded twice? Vectors are kept by model and text: in a key-value store, or in a file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, MutableMapping, Sequence
from os import PathLike

import numpy as np
from xxhash import xxh3_64_intdigest, xxh3_128_hexdigest

from kektordb.embed.contract import Embedder, Rows, as_texts
from kektordb.errors import ConfigError, KektorError

__all__ = ["CachedEmbedder"]

_log = logging.getLogger("kektordb")

PREFIX = "embeddings/"
CHECK_BYTES = 8
# Texts that are embedded before they are kept: many, so that the embedder can use its threads.
SLICE = 4096


class CachedEmbedder:
    """An embedder that looks up what it has embedded before.

    A key is made of everything that decides about a vector: the model, with its options, whether it is a document or a
    query, and the text; a text itself is not kept. A value that is broken, or of another dimension, is embedded again.

    Parameters
    ----------
    embedder : Embedder
    cache : mapping of str to bytes, str or path
        ``db.kv``, or any other mutable mapping; a path is that of a `FileCache`.
    prefix : str
        Of its keys.

    Attributes
    ----------
    n_found, n_asked : int
        Texts whose vectors were there, and others.
    """

    def __init__(
        self,
        embedder: Embedder,
        cache: MutableMapping[str, bytes] | str | PathLike[str],
        *,
        prefix: str = PREFIX,
    ) -> None:
        if isinstance(cache, str | PathLike):
            from kektordb.embed.file_cache import FileCache

            cache = FileCache(cache)
        if not isinstance(cache, MutableMapping):
            raise ConfigError(f"expected a mutable mapping or a path as cache, got {type(cache).__name__}")
        self.embedder = embedder
        self._cache = cache
        model = xxh3_128_hexdigest(str(getattr(embedder, "identity", embedder.name)).encode())
        self._prefixes = f"{prefix}{model}/d/", f"{prefix}{model}/q/"
        self._lock = threading.Lock()
        self._has_failed = False
        self._is_doubtful = False
        self.n_found = 0
        self.n_asked = 0

    @property
    def name(self) -> str:
        """That of the embedder."""
        return self.embedder.name

    @property
    def dim(self) -> int | None:
        """That of the embedder."""
        return self.embedder.dim

    def embed_documents(self, texts: Sequence[str]) -> Rows:
        """Return a vector for each text, (n, dim); see `Embedder`. Equal texts are embedded once."""
        given = as_texts(texts)
        keys = [_key(self._prefixes[0], text) for text in given]
        by_key = dict(zip(keys, given, strict=True))
        found = {key: row for key in by_key if (row := self._find(key)) is not None}
        if _disagree(found):
            found = {}
        n_found = sum(key in found for key in keys)
        self._count(n_found, len(keys) - n_found)
        found |= self._embed({key: text for key, text in by_key.items() if key not in found})
        if _disagree(found):
            # What was kept is not this model's: another one is behind the same name.
            found = self._embed(by_key)
        return np.stack([found[key] for key in keys]) if keys else np.empty((0, self.dim or 0), np.float32)

    def _embed(self, missing: Mapping[str, str]) -> dict[str, Rows]:
        """Embed texts by key, and keep them; what was done before an error need not be done again."""
        keys, texts = list(missing), list(missing.values())
        made: dict[str, Rows] = {}
        for start in range(0, len(texts), SLICE):
            rows = self.embedder.embed_documents(texts[start : start + SLICE])
            pairs = dict(zip(keys[start : start + SLICE], rows, strict=True))
            self._keep(pairs)
            made |= pairs
        return made

    def embed_query(self, text: str) -> Rows:
        """Return the vector of a text that is searched for, (dim,); see `Embedder`."""
        if not isinstance(text, str):
            raise ConfigError(f"expected a text as str, got {type(text).__name__}")
        key = _key(self._prefixes[1], text)
        row = self._find(key)
        self._count(int(row is not None), int(row is None))
        if row is None:
            row = self.embedder.embed_query(text)
            self._keep({key: row})
        return row

    def unlearn(self) -> None:
        """Forget a dimension that turned out to be wrong; nothing is looked up before the embedder gave another one."""
        self._is_doubtful = True
        forget = getattr(self.embedder, "unlearn", None)
        if callable(forget):
            forget()

    def close(self) -> None:
        """Close the embedder, and a file that was given by its path."""
        for part in (self.embedder, self._cache):
            close = getattr(part, "close", None)
            if callable(close):
                close()

    def _count(self, n_found: int, n_asked: int) -> None:
        with self._lock:
            self.n_found += n_found
            self.n_asked += n_asked

    def _find(self, key: str) -> Rows | None:
        if self._is_doubtful and self.dim is None:
            return None
        try:
            value = self._cache.get(key)
        except KektorError as error:
            self._failed(error)
            return None
        if not isinstance(value, bytes) or len(value) <= CHECK_BYTES or len(value) % 4:
            return None
        check, content = value[:CHECK_BYTES], value[CHECK_BYTES:]
        row = np.frombuffer(content, "<f4").astype(np.float32)
        if check != _check(content) or (self.dim is not None and len(row) != self.dim) or not np.isfinite(row).all():
            return None
        return row

    def _keep(self, pairs: Mapping[str, Rows]) -> None:
        contents = {key: row.astype("<f4").tobytes() for key, row in pairs.items()}
        try:
            self._cache.update({key: _check(content) + content for key, content in contents.items()})
        except KektorError as error:
            self._failed(error)

    def _failed(self, error: KektorError) -> None:
        """Go on without the cache: a database that is read-only, full or closed costs time, and no answer."""
        if not self._has_failed:
            self._has_failed = True
            _log.warning("the cache of embeddings of %s cannot be used: %s", self.name, error)

    def __repr__(self) -> str:
        return f"<CachedEmbedder of {self.embedder!r}>"


def _key(prefix: str, text: str) -> str:
    return prefix + xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


def _check(content: bytes) -> bytes:
    return xxh3_64_intdigest(content).to_bytes(CHECK_BYTES, "little")


def _disagree(rows: Mapping[str, Rows]) -> bool:
    return len({len(row) for row in rows.values()}) > 1
