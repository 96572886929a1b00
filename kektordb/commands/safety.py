"""``kektordb check`` and ``kektordb repair``."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from kektordb.commands.answer import DAMAGED, DONE, TORN, Answer, new_command, table

if TYPE_CHECKING:
    from kektordb.checking import CheckReport
    from kektordb.commands.answer import Commands

__all__ = ["add"]

SHOWN = 20  # of what is listed for a human


def add(commands: Commands) -> None:
    """Describe the commands."""
    parser = new_command(commands, "check", _check, "read every byte of a database or backup, and say what is damaged")
    parser.add_argument("path", metavar="PATH", help="the database, a directory that may be in use, or a backup file")
    parser.add_argument("--deep", action="store_true", help="load it as well, and check what it holds against itself")


def _check(arguments: Namespace) -> Answer:
    from kektordb.checking import check
    from kektordb.storage import inspection

    report = check(arguments.path, deep=arguments.deep)
    status = {inspection.SOUND: DONE, inspection.TORN: TORN}.get(report.verdict, DAMAGED)
    return Answer(report.to_dict(), _describe(report), status)


def _describe(report: CheckReport) -> str:
    files = [(file.name, file.kind, file.n_bytes, file.n_parts, file.verdict) for file in report.files]
    parts = [table(("file", "kind", "bytes", "records/blocks", "verdict"), files)]
    wrong = [f"{file.name} at byte {place.offset:,}: {place.what}" for file in report.files for place in file.damage]
    if report.indexes:
        rows = [
            (index.name, index.n_items, index.n_slots, "sound" if not index.faults else "damaged")
            for index in report.indexes
        ]
        parts.append(table(("index", "items", "slots", "verdict"), rows))
        wrong += [f"index {index.name!r}: {fault}" for index in report.indexes for fault in index.faults]
    wrong += report.faults
    if len(wrong) > SHOWN:
        wrong = [*wrong[:SHOWN], f"... and {len(wrong) - SHOWN:,} more (--json lists all)"]
    return "\n\n".join([*parts, *(["\n".join(wrong)] if wrong else []), f"{report.path}: {report.verdict}"])
