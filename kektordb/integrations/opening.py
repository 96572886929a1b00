"""Which index does a store mean? One that is there, or a new one, of a database that is open, a path, or a server."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from kektordb.client import KektorDBClient
from kektordb.database import Database
from kektordb.errors import ConfigError, IdError, IndexExists, ItemNotFound
from kektordb.index import Index
from kektordb.lifetime import open_databases
from kektordb.operations import IndexConfig
from kektordb.remote import RemoteDatabase, RemoteIndex, connect

__all__ = ["AnyDatabase", "AnyIndex", "Source", "address_of", "delete_present", "index_of", "made_anew"]

AnyDatabase: TypeAlias = Database | RemoteDatabase
AnyIndex: TypeAlias = Index | RemoteIndex
Source: TypeAlias = AnyDatabase | AnyIndex | KektorDBClient | str | os.PathLike[str]

# What would give other results than those that were asked for; the rest only makes them faster or slower.
_DECISIVE = ("metric", "text_language", "dim")


def index_of(
    source: Source, name: str | None, text_key: str, settings: Mapping[str, Any], token: str | None = None
) -> AnyIndex:
    """Return a handle to an index, which is made when it is not there.

    Parameters
    ----------
    source : Database, RemoteDatabase, Index, RemoteIndex, KektorDBClient, str or path
        A str that begins with ``http://`` or ``https://`` is the address of a server, another the path of a database.
        One that this process has open for writing is not opened again.
    name : str or None
        Of the index; None when `source` is one.
    text_key : str
        The field that holds the texts: the only one that is searched for words, unless `settings` say otherwise.
    settings : dict
        For `Database.create_index`.
    token : str, optional
        For a server.

    Raises
    ------
    ConfigError
        There is such an index, with another metric, language or dimension.
    """
    if isinstance(source, Index | RemoteIndex):
        if name is not None and name != source.name:
            raise ConfigError(f"expected no index name, or {source.name!r}, beside an index, got {name!r:.80}")
        return _agreeing(source, settings)
    if name is None:
        raise ConfigError("expected the name of an index")
    database = _database_of(source, token)
    if name not in database:
        wanted = dict(settings)
        if wanted.get("text_language"):
            wanted.setdefault("text_fields", [text_key])
        try:
            return database.create_index(name, **wanted)
        except IndexExists:
            pass  # somebody was faster
    return _agreeing(database.index(name), settings)


def _database_of(source: object, token: str | None) -> AnyDatabase:
    if isinstance(source, Database | RemoteDatabase):
        return source
    if isinstance(source, KektorDBClient):
        return RemoteDatabase(source._transport)
    if not isinstance(source, str | os.PathLike):
        raise ConfigError(f"expected a database, a path or an address, got {type(source).__name__}")
    path = os.fsdecode(source)
    if path.startswith(("http://", "https://")):
        return connect(path, token=token)
    if path != ":memory:":
        place = Path(path).resolve()
        for database in list(open_databases):
            is_there = database.path is not None and database.path.resolve() == place
            if is_there and not database.closed and not database.read_only:
                return database
    return Database.open(path)


def _agreeing(index: AnyIndex, settings: Mapping[str, Any]) -> AnyIndex:
    if any(settings.get(key) is not None for key in _DECISIVE):
        config = index.config
        there = {"metric": config.metric, "text_language": config.text_language, "dim": index.dim}
        for key in _DECISIVE:
            wanted = settings.get(key)
            if wanted is not None and there[key] is not None and there[key] != wanted:
                raise ConfigError(f"expected {key} {wanted!r:.80}, but the index {index.name!r} has {there[key]!r}")
    return index


def address_of(source: Source) -> str:
    """Return the path or the address that `source` is found by again; ``:memory:`` for one that is not."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    if isinstance(source, KektorDBClient):
        return source.base_url
    database = source.database if isinstance(source, Index | RemoteIndex) else source
    if isinstance(database, RemoteDatabase):
        return database._transport.url
    return ":memory:" if database.path is None else str(database.path)


def delete_present(index: AnyIndex, ids: Sequence[str]) -> int:
    """Delete those of some items that are there, and count them. Raises IdError."""
    if isinstance(ids, str | bytes):
        raise IdError(f"expected a list of ids, got {type(ids).__name__} {ids!r:.80}")
    wanted = list(dict.fromkeys(ids))
    while wanted:
        try:
            return index.delete(wanted)
        except ItemNotFound:
            wanted = [item.id for item in index.get_many(wanted) if item is not None]
    return 0


def made_anew(index: AnyIndex) -> AnyIndex:
    """Drop an index, and make an empty one of its name, configuration, and embedder where one is attached."""
    config: IndexConfig = index.config
    settings: dict[str, Any] = {name: getattr(config, name) for name in IndexConfig.__struct_fields__}
    settings |= {"dim": config.dim or None, "maintenance": config.maintenance.to_json(), "embedder": index.embedder}
    if not config.text_language:
        settings |= {"text_fields": None, "stop_words": None, "field_weights": None}
    index.database.drop_index(index.name)
    return index.database.create_index(index.name, **settings)
