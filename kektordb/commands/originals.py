"""How is a running server copied, ours or the original's? Indexes with their items, and keys if it lists them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import numpy as np

from kektordb.data.parts import Part
from kektordb.errors import ConfigError, KektorError, ServerError, StorageError
from kektordb.progress import show
from kektordb.remote.transport import JSON, Transport, path_of
from kektordb.text import languages

if TYPE_CHECKING:
    from kektordb.commands.target import AnyDatabase

__all__ = ["Copied", "CopiedIndex", "Source", "copy_all"]

PAGE = 500
TIMEOUT_S = 120.0
NOT_THERE = (404, 405)


class CopiedIndex(NamedTuple):
    """How many items were copied, of how many."""

    name: str
    n_items: int
    n_expected: int


class Copied(NamedTuple):
    """What was copied; `n_keys` is None when keys cannot be listed."""

    indexes: list[CopiedIndex]
    n_keys: int | None


class Source:
    """A server that is read with what all versions of the original understand: JSON.

    Parameters
    ----------
    url : str
    token : str, optional
    known_ids : str, optional
        A file with ids, one a line, for versions before 0.5, which cannot list theirs.
    ca_file : str, optional
        Certificates to trust.
    """

    def __init__(
        self, url: str, token: str | None = None, known_ids: str | None = None, ca_file: str | None = None
    ) -> None:
        self._transport = Transport(url, token, TIMEOUT_S, ca_file=ca_file)
        self._known: list[str] | None = None
        if known_ids is not None:
            try:
                with open(known_ids, encoding="utf-8") as file:
                    self._known = list(dict.fromkeys(line.rstrip("\n") for line in file if line.strip()))
            except (OSError, UnicodeDecodeError) as error:
                raise StorageError(f"cannot read {known_ids}: {error}") from None

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def indexes(self) -> list[dict[str, Any]]:
        """Return what is known of each index."""
        return sorted(self._get("/vector/indexes") or [], key=lambda info: str(info["name"]))

    def items(self, name: str) -> Iterator[Part]:
        """Give all items of an index that can be found."""
        for ids in self._ids(name):
            body = {"index_name": name, "ids": ids}
            path = "/vector/actions/get-vectors"
            found = self._transport.request("POST", path, body, repeatable=True, kind=JSON) or []
            # Its answers are in no order.
            by_id = {item["id"]: item for item in found}
            some = [by_id[id] for id in ids if id in by_id]
            if some:
                vectors = np.array([item["vector"] for item in some], np.float32)
                yield Part([item["id"] for item in some], vectors, [item.get("metadata") or None for item in some])

    def _ids(self, name: str) -> Iterator[list[str]]:
        if self._known is not None:
            for start in range(0, len(self._known), PAGE):
                yield self._known[start : start + PAGE]
            return
        offset = 0
        while True:
            try:
                page = self._get(f"{path_of('/vector/indexes', name)}/export?limit={PAGE}&offset={offset}")
            except KektorError as error:
                if getattr(error, "status", None) not in NOT_THERE:
                    raise
                raise ConfigError(
                    f"this server is too old to list the ids of index {name!r}: give them with --known-ids FILE"
                ) from None
            yield [item["id"] for item in page.get("data") or []]
            if not page.get("has_more") or page["next_offset"] <= offset:
                return
            offset = page["next_offset"]

    def keys(self) -> Iterator[tuple[str, str]] | None:
        """Give all keys with their values; None when the server cannot list them, as the original cannot."""
        try:
            page = self._get("/kv?limit=1000")
        except ServerError as error:
            if error.status not in NOT_THERE:
                raise
            return None
        return self._pairs(page)

    def _pairs(self, page: dict[str, Any]) -> Iterator[tuple[str, str]]:
        while True:
            for key in page["keys"]:
                yield key, self._get(path_of("/kv", key))["value"]
            after = page.get("next")
            if not after:
                return
            page = self._get(f"/kv?{urlencode({'limit': 1000, 'after': after})}")

    def _get(self, path: str) -> Any:
        return self._transport.request("GET", path, repeatable=True, kind=JSON)


def copy_all(source: Source, database: AnyDatabase, only: str | None, replace: bool, progress: bool) -> Copied:
    """Copy indexes, or `only` one of them, with their items, and keys when all is copied.

    Raises
    ------
    IndexExists
        An index is there already, and items shall not be replaced.
    KektorError
    """
    infos = [info for info in source.indexes() if only in (None, info["name"])]
    if only is not None and not infos:
        raise ConfigError(f"that server has no index {only!r}")
    copied = []
    total = sum(int(info.get("vector_count", 0)) for info in infos)
    with show(progress, total, "copying", "items") as step:
        n_before = 0
        for info in infos:
            name, n = info["name"], 0
            if name not in database or not replace:
                _create(database, info)
            index = database.index(name)
            put = index.upsert_batch if replace else index.add_batch
            for part in source.items(name):
                put(part.ids, part.vectors, part.metadata)
                n += len(part.ids)
                if step is not None:
                    step(n_before + n)
            n_before += n
            copied.append(CopiedIndex(name, n, int(info.get("vector_count", n))))
    return Copied(copied, _copy_keys(source, database) if only is None else 0)


def _create(database: AnyDatabase, info: dict[str, Any]) -> None:
    language = info.get("text_language") or ""
    database.create_index(
        info["name"],
        metric=info.get("metric") or "euclidean",
        precision=info.get("precision") or "float32",
        m=max(2, int(info.get("m") or 16)),
        ef_construction=int(info.get("ef_construction") or 200),
        # The original takes any word, and has no analyzer for those that it does not know.
        text_language=language if language in languages() else "",
    )


def _copy_keys(source: Source, database: AnyDatabase) -> int | None:
    pairs = source.keys()
    if pairs is None:
        return None
    n = 0
    for key, value in pairs:
        database.kv[key] = value
        n += 1
    return n
