"""``kektordb info``."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from kektordb.commands.answer import Answer, count, new_command, table

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = new_command(commands, "info", _info, "say what a database or backup holds")
    parser.add_argument("path", metavar="PATH", help="the database, a directory that may be in use, or a backup file")


def _info(arguments: Namespace) -> Answer:
    import msgspec

    from kektordb.database import Database

    with Database.open(os.path.abspath(arguments.path), read_only=True) as database:
        stats = database.stats()
        report = database.recovery_report
    kind = "directory" if os.path.isdir(arguments.path) else "backup"
    data: dict[str, Any] = {"path": os.path.abspath(arguments.path), "kind": kind, **stats}
    data["recovery"] = msgspec.to_builtins(report)
    rows = [
        (
            name,
            index["n_items"],
            index["n_tombstones"],
            index["dim"],
            index["metric"],
            index["stored_precision"],
            index.get("text_language", ""),
            index["memory_bytes"]["total"],
        )
        for name, index in stats["indexes"].items()
    ]
    head = ("index", "items", "deleted", "dim", "metric", "precision", "text", "memory")
    parts = [f"{arguments.path}: {kind}, {count(len(rows), 'index', 'indexes')}, {count(stats['n_keys'], 'key')}"]
    if rows:
        parts.append(table(head, rows))
    sizes = f"snapshot: {stats['snapshot_bytes']:,} bytes"
    if kind == "directory":
        sizes += f"   log: {stats['log_bytes']:,} bytes   last record: {stats['last_seq']:,}"
    parts.append(sizes)
    if report is not None and report.torn_bytes:
        parts.append(f"{report.torn_bytes:,} bytes at the end of the log were never made durable and do not count")
    return Answer(data, "\n\n".join(parts))
