"""``kektordb import`` and ``kektordb export``."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from contextlib import closing
from typing import TYPE_CHECKING

from kektordb.commands.answer import DAMAGED, DONE, Answer, bar, count, new_command, table
from kektordb.commands.formats import FORMATS, WRITTEN, format_of
from kektordb.commands.target import add_creation, add_target, index_of, opened, token_of
from kektordb.errors import ConfigError, KektorError

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands

__all__ = ["add"]

ROWS = 10_000


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
    from kektordb.commands.readers import n_items_of, read_parts
    from kektordb.progress import show

    if arguments.source is not None:
        return _import_from(arguments)
    if arguments.index is None or arguments.file is None:
        raise ConfigError("expected an index and a file, or --from URL")
    if any(given is not None for given in (arguments.known_ids, arguments.from_token_file, arguments.from_ca_file)):
        raise ConfigError("--known-ids, --from-token-file and --from-ca-file are for --from")
    format = format_of(arguments.file, arguments.format)
    began = time.monotonic()
    n_added = 0
    total = n_items_of(arguments.file, format) if bar(arguments) else 0
    parts = read_parts(arguments.file, format, ROWS, arguments.ids, arguments.metadata)
    with opened(arguments, writing=True) as database:
        index = index_of(database, arguments)
        put = index.upsert_batch if arguments.replace else index.add_batch
        try:
            with show(bar(arguments), total, "importing", "items") as step:
                for part in parts:
                    put(part.ids, part.vectors, part.metadata)
                    n_added += len(part.ids)
                    if step is not None:
                        step(n_added)
        except KektorError as error:
            # The message is all that a person sees.
            raise type(error)(f"{error} ({count(n_added, 'item')} before came in)") if n_added else error from None
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
    from kektordb.commands.writers import writing
    from kektordb.progress import show

    format = format_of(arguments.file, arguments.format)
    if format not in WRITTEN:
        raise ConfigError(f"expected one of {', '.join(WRITTEN)} to write, got {format}")
    n_written = 0
    with opened(arguments, writing=False) as database:
        index = database.index(arguments.index)
        ids = index.ids(arguments.filter)
        with (
            writing(arguments.file, format) as write,
            show(bar(arguments), len(ids), "exporting", "items") as step,
        ):
            for start in range(0, len(ids), ROWS):
                # One that was deleted meanwhile is left out.
                items = [item for item in index.get_many(ids[start : start + ROWS]) if item is not None]
                write(items)
                n_written += len(items)
                if step is not None:
                    step(min(start + ROWS, len(ids)))
    data = {"index": arguments.index, "file": os.path.abspath(arguments.file), "n_items": n_written}
    return Answer(data, f"{arguments.file}: {count(n_written, 'item')}")
