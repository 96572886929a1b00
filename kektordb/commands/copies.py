"""``kektordb backup`` and ``kektordb restore``."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING

from kektordb.commands.answer import Answer, bar, new_command

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Describe the commands."""
    parser = new_command(commands, "backup", _backup, "write a database into one file, also while it is in use")
    parser.add_argument("path", metavar="PATH", help="the database, a directory")
    parser.add_argument("file", metavar="FILE", help="the backup; an older one goes when the new one is complete")
    parser = new_command(commands, "restore", _restore, "make a database of a backup, every byte of which is verified")
    parser.add_argument("file", metavar="FILE", help="the backup")
    parser.add_argument("path", metavar="PATH", help="a directory that is empty, or not there")


def _backup(arguments: Namespace) -> Answer:
    from kektordb.database import Database

    with Database.open(os.path.abspath(arguments.path), read_only=True) as database:
        report = database.backup(arguments.file, progress=bar(arguments))
        n_items = sum(len(database[name]) for name in database)
        data = {
            "path": os.path.abspath(arguments.path),
            "file": os.path.abspath(arguments.file),
            "n_bytes": report.bytes_written,
            "n_indexes": len(database),
            "n_items": n_items,
            "n_keys": len(database.kv),
            "seconds": report.seconds,
        }
    text = f"{arguments.file}: {report.bytes_written:,} bytes, {n_items:,} items, {data['n_keys']:,} keys"
    return Answer(data, text)


def _restore(arguments: Namespace) -> Answer:
    from kektordb.safety.backup import restore

    restore(arguments.file, arguments.path, progress=bar(arguments))
    data = {"file": os.path.abspath(arguments.file), "path": os.path.abspath(arguments.path)}
    return Answer(data, f"{arguments.path} is a database of what {arguments.file} holds")
