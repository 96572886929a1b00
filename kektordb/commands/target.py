"""Which database does a command mean? A directory, or a server by its URL."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kektordb.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from kektordb.database import Database
    from kektordb.index import Index
    from kektordb.remote import RemoteDatabase, RemoteIndex

    AnyDatabase = Database | RemoteDatabase
    AnyIndex = Index | RemoteIndex

__all__ = ["add_creation", "add_target", "index_of", "is_url", "opened", "token_of"]


def add_target(parser: ArgumentParser, index: bool = True, needed: bool = True) -> None:
    """Let a command have a database, and an index in it."""
    parser.add_argument(
        "database",
        metavar="DB",
        nargs=None if needed else "?",
        help="the database: a directory, or the URL of a server"
        + ("" if needed else "; KEKTOR_DATA_DIR, or kektordb-data"),
    )
    if index:
        parser.add_argument("index", metavar="INDEX", help="the name of the index")
    parser.add_argument(
        "--token-file", metavar="FILE", help="holds the token that the server asks for; or KEKTOR_TOKEN"
    )
    parser.add_argument("--ca-file", metavar="FILE", help="certificates to trust for an https:// URL; PEM")


def add_creation(parser: ArgumentParser) -> None:
    """Let a command make the index that it writes to."""
    parser.add_argument("--create", action="store_true", help="make the index if it is not there")
    parser.add_argument("--metric", choices=("cosine", "euclidean", "dot"), help="of a new index; cosine by default")
    parser.add_argument(
        "--precision", choices=("float32", "float16", "int8"), help="of a new index; float32 by default"
    )
    parser.add_argument("--text-language", metavar="LANGUAGE", help="of a new index whose texts are searched")
    parser.add_argument("--replace", action="store_true", help="take the place of items that are there")


def is_url(where: str) -> bool:
    """Tell whether a database is on a server."""
    return where.startswith(("http://", "https://"))


def token_of(path: str | None) -> str | None:
    """Return the token in a file, or that of the environment. Raises ConfigError."""
    if path is None:
        return os.environ.get("KEKTOR_TOKEN") or None
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token file: {error}") from None


@contextmanager
def opened(arguments: Namespace, *, writing: bool) -> Iterator[AnyDatabase]:
    """Give the database that a command means; one in a directory is opened for writing only then."""
    where = arguments.database
    if is_url(where):
        from kektordb.remote import connect

        with connect(where, token=token_of(arguments.token_file), ca_file=arguments.ca_file) as remote:
            yield remote
        return
    if arguments.ca_file is not None:
        raise ConfigError("expected --ca-file beside the https:// URL of a server")
    from kektordb.database import Database

    makes = getattr(arguments, "create", False) or getattr(arguments, "source", None)
    if writing and not makes and not os.path.isdir(where):
        hint = "; --create makes one" if hasattr(arguments, "create") else ""
        raise StorageError(f"there is no database at {where}{hint}")
    with Database.open(os.path.abspath(where), read_only=not writing) as database:
        yield database


def index_of(database: AnyDatabase, arguments: Namespace) -> AnyIndex:
    """Return the index that a command writes to; with ``--create`` a new one. Raises IndexNotFound."""
    given = {key: getattr(arguments, key) for key in ("metric", "precision", "text_language")}
    options = {key: value for key, value in given.items() if value is not None}
    if options and not arguments.create:
        raise ConfigError("expected --create beside --metric, --precision and --text-language")
    if arguments.create and arguments.index not in database:
        return database.create_index(arguments.index, **options)
    return database.index(arguments.index)
