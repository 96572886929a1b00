"""``kektordb info``."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kektordb.commands.answer import Answer, count, new_command, table

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands

__all__ = ["add", "contents", "sizes", "table_of_indexes"]


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
    parts = [f"{arguments.path}: {kind}, {contents(stats)}"]
    if stats["indexes"]:
        parts.append(table_of_indexes(stats))
    parts.append(sizes(stats))
    if report is not None and report.torn_bytes:
        parts.append(f"{report.torn_bytes:,} bytes at the end of the log were never made durable and do not count")
    return Answer(data, "\n\n".join(parts))


def contents(stats: Mapping[str, Any]) -> str:
    """Count the indexes and keys of what `Database.stats` said."""
    return f"{count(len(stats['indexes']), 'index', 'indexes')}, {count(stats['n_keys'], 'key')}"


def sizes(stats: Mapping[str, Any]) -> str:
    """Say how large the files are; nothing for a database without."""
    parts = [f"snapshot: {stats['snapshot_bytes']:,} bytes"] if "snapshot_bytes" in stats else []
    if stats.get("log_bytes"):
        parts.append(f"log: {stats['log_bytes']:,} bytes   last record: {stats['last_seq']:,}")
    return "   ".join(parts)


def table_of_indexes(stats: Mapping[str, Any]) -> str:
    """Return a line for each index."""
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
    return table(("index", "items", "deleted", "dim", "metric", "precision", "text", "memory"), rows)
