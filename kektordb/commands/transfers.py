"""``kektordb import`` and ``kektordb export``."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from contextlib import closing
from typing import TYPE_CHECKING

from kektordb.commands.answer import DAMAGED, DONE, Answer, bar, count, new_command, table
from kektordb.commands.target import add_creation, add_target, index_of, opened, token_of
from kektordb.data.formats import FORMATS, WRITTEN
from kektordb.errors import ConfigError, KektorError

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Describe the commands."""
    parser = new_command(commands, "import", _import, "add the items of a file, or of another server")
    parser.add_argument("database", metavar="DB", help="the database: a directory, or the URL of a server")
    parser.add_argument(
        "index", metavar="INDEX", nargs="?", help="the name of the index; with --from the only one taken"
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="the items")
    parser.add_argument(
        "--token-file", metavar="FILE", help="holds the token that the server asks for; or KEKTOR_TOKEN"
    )
    parser.add_argument("--ca-file", metavar="FILE", help="certificates to trust for an https:// URL; PEM")
    parser.add_argument("--format", choices=FORMATS, help="of the file; by its ending otherwise")
    parser.add_argument("--ids", metavar="IDS", help="a file with the ids, one a line, beside .npy and .fvecs")
    parser.add_argument("--metadata", metavar="OBJECTS", help="a file with the metadata, JSON a line, beside these")
    parser.add_argument(
        "--from", metavar="URL", dest="source", help="copy all of a running server, also the original's"
    )
    parser.add_argument("--from-token-file", metavar="FILE", help="holds the token of that server")
    parser.add_argument("--from-ca-file", metavar="FILE", help="certificates to trust for an https:// URL; PEM")
    parser.add_argument("--known-ids", metavar="IDS", help="a file with ids, for servers that cannot list them")
    add_creation(parser)
    parser = new_command(commands, "export", _export, "write the items of an index to a file")
    add_target(parser)
    parser.add_argument("file", metavar="FILE", help="the file, which must not be there")
    parser.add_argument("--format", choices=WRITTEN, help="of the file; by its ending otherwise")
    parser.add_argument("--filter", metavar="FILTER", help="only items that match")


# ------------------------------------------------------------------------------------------------------------- import


def _import(arguments: Namespace) -> Answer:
    if arguments.source is not None:
        return _import_from(arguments)
    if arguments.index is None or arguments.file is None:
        raise ConfigError("expected an index and a file, or --from URL")
    if any(given is not None for given in (arguments.known_ids, arguments.from_token_file, arguments.from_ca_file)):
        raise ConfigError("--known-ids, --from-token-file and --from-ca-file are for --from")
    began = time.monotonic()
    given = {"format": arguments.format, "ids": arguments.ids, "metadata": arguments.metadata}
    with opened(arguments, writing=True) as database:
        index = index_of(database, arguments)
        try:
            n_added = index.add_file(arguments.file, **given, replace=arguments.replace, progress=bar(arguments))
        except KektorError as error:
            # The message is all that a person sees.
            notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
            raise type(error)(f"{error}{notes}") from error
        finally:
            database.sync()
        n_items = len(index)
    data = {"index": arguments.index, "n_added": n_added, "n_items": n_items, "seconds": time.monotonic() - began}
    return Answer(data, f"{arguments.index}: {count(n_added, 'item')} came in, it has {n_items:,} now")


def _import_from(arguments: Namespace) -> Answer:
    from kektordb.commands.originals import Source, copy_all

    if arguments.file is not None or arguments.ids is not None or arguments.metadata is not None:
        raise ConfigError("expected either a file or --from URL")
    if arguments.create or arguments.metric or arguments.precision or arguments.text_language:
        raise ConfigError("with --from indexes are made as they are there")
    source = Source(arguments.source, token_of(arguments.from_token_file), arguments.known_ids, arguments.from_ca_file)
    with closing(source), opened(arguments, writing=True) as database:
        copied = copy_all(source, database, arguments.index, arguments.replace, bar(arguments))
        database.sync()
    rows = [(one.name, one.n_items, one.n_expected) for one in copied.indexes]
    is_whole = all(one.n_items >= one.n_expected for one in copied.indexes)
    parts = [table(("index", "copied", "there"), rows)] if rows else ["there are no indexes"]
    if copied.n_keys is None:
        parts.append("keys: this server cannot list them")
    else:
        parts.append(count(copied.n_keys, "key"))
    if not is_whole:
        parts.append("not all items could be found: give their ids with --known-ids")
    data = {
        "indexes": {one.name: {"n_items": one.n_items, "n_expected": one.n_expected} for one in copied.indexes},
        "n_keys": copied.n_keys,
    }
    return Answer(data, "\n\n".join(parts), DONE if is_whole else DAMAGED)


# ------------------------------------------------------------------------------------------------------------- export


def _export(arguments: Namespace) -> Answer:
    with opened(arguments, writing=False) as database:
        index = database.index(arguments.index)
        n_written = index.export(
            arguments.file, format=arguments.format, filter=arguments.filter, progress=bar(arguments)
        )
    data = {"index": arguments.index, "file": os.path.abspath(arguments.file), "n_items": n_written}
    return Answer(data, f"{arguments.file}: {count(n_written, 'item')}")
