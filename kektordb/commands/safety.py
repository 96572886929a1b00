"""``kektordb check`` and ``kektordb repair``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kektordb.commands.answer import DAMAGED, DONE, TORN, Answer, bar, count, new_command, table

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands
    from kektordb.safety.checking import CheckReport
    from kektordb.safety.rebuilding import Lost
    from kektordb.storage import FileReport

__all__ = ["add"]

SHOWN = 20  # of what is listed for a human


def add(commands: Commands) -> None:
    """Describe the commands."""
    parser = new_command(commands, "check", _check, "read every byte of a database or backup, and say what is damaged")
    parser.add_argument("path", metavar="PATH", help="the database, a directory that may be in use, or a backup file")
    parser.add_argument("--deep", action="store_true", help="load it as well, and check what it holds against itself")
    parser = new_command(commands, "repair", _repair, "make a new database of what can still be read of a damaged one")
    parser.add_argument("path", metavar="PATH", help="the database, which is not changed, or a backup file")
    parser.add_argument("--out", metavar="NEW", required=True, help="a directory that is empty, or not there")


def _check(arguments: Namespace) -> Answer:
    from kektordb.safety.checking import check
    from kektordb.storage import inspection

    report = check(arguments.path, deep=arguments.deep)
    status = {inspection.SOUND: DONE, inspection.TORN: TORN}.get(report.verdict, DAMAGED)
    return Answer(report.to_dict(), _describe(report), status)


def _describe(report: CheckReport) -> str:
    files = [(file.name, file.kind, file.n_bytes, file.n_parts, file.verdict) for file in report.files]
    parts = [table(("file", "kind", "bytes", "records/blocks", "verdict"), files)]
    wrong = _wrong(report.files)
    if report.indexes:
        rows = [
            (index.name, index.n_items, index.n_slots, "sound" if not index.faults else "damaged")
            for index in report.indexes
        ]
        parts.append(table(("index", "items", "slots", "verdict"), rows))
        wrong += [f"index {index.name!r}: {fault}" for index in report.indexes for fault in index.faults]
    wrong += list(report.faults)
    if wrong:
        parts.append(_some(wrong))
    return "\n\n".join([*parts, f"{report.path}: {report.verdict}"])


def _wrong(files: Sequence[FileReport]) -> list[str]:
    return [f"{file.name} at byte {place.offset:,}: {place.what}" for file in files for place in file.damage]


def _some(lines: list[str]) -> str:
    more = [f"... and {len(lines) - SHOWN:,} more (--json lists all)"] if len(lines) > SHOWN else []
    return "\n".join([*lines[:SHOWN], *more])


def _repair(arguments: Namespace) -> Answer:
    from kektordb.safety.repairing import repair

    report = repair(arguments.path, arguments.out, progress=bar(arguments))
    kept = (
        f"{arguments.out}: {count(report.n_indexes, 'index', 'indexes')}, {count(report.n_items, 'item')}, "
        f"{count(report.n_keys, 'key')}, {count(report.n_records, 'record')} of the log"
    )
    parts = [_some(_wrong(report.files))] if any(file.damage for file in report.files) else []
    if report.rebuilt:
        parts.append("made anew from their items: " + ", ".join(report.rebuilt))
    if report.lost:
        parts.append("\n".join(["lost:", *map(_lost, report.lost)]))
    return Answer(report.to_dict(), "\n\n".join([*parts, kept]), DAMAGED if report.lost else DONE)


def _lost(lost: Lost) -> str:
    n = "an unknown number of " if lost.n < 0 else f"{lost.n:,} "
    ids = ", ".join(map(repr, lost.ids[:SHOWN])) + (", ..." if len(lost.ids) > SHOWN else "")
    where = f" of index {lost.index!r}" if lost.index else ""
    return f"  {n}{lost.what}{where}: {lost.why}" + (f": {ids}" if ids else "")
