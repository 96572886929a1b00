"""``kektordb dump`` and ``kektordb load``."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from kektordb.commands.answer import Answer, bar, count, new_command

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands
    from kektordb.safety.dumping import DumpReport

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Describe the commands."""
    parser = new_command(commands, "dump", _dump, "write all data to files that need no kektordb to be read")
    parser.add_argument("path", metavar="PATH", help="the database, a directory that may be in use, or a backup file")
    parser.add_argument("out", metavar="OUT", help="a directory that is empty, or not there")
    parser.add_argument("--format", choices=("npy", "parquet"), default="npy", help="of the items; npy by default")
    parser = new_command(commands, "load", _load, "make a database of what dump wrote")
    parser.add_argument("dump", metavar="DUMP", help="the directory that dump wrote")
    parser.add_argument("path", metavar="PATH", help="a directory that is empty, or not there")


def _dump(arguments: Namespace) -> Answer:
    from kektordb.safety.dumping import dump

    return _answer(dump(arguments.path, arguments.out, format=arguments.format, progress=bar(arguments)), arguments.out)


def _load(arguments: Namespace) -> Answer:
    from kektordb.safety.undumping import load

    return _answer(load(arguments.dump, arguments.path, progress=bar(arguments)), arguments.path)


def _answer(report: DumpReport, path: str) -> Answer:
    import msgspec

    indexes, items = count(report.n_indexes, "index", "indexes"), count(report.n_items, "item")
    return Answer(msgspec.to_builtins(report), f"{path}: {indexes}, {items}, {count(report.n_keys, 'key')}")
