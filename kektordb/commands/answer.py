"""How does a command answer: to a program as JSON, to a human as text, to a shell by its exit status?"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

__all__ = ["DAMAGED", "DONE", "FAILED", "TORN", "USAGE", "Answer", "bar", "count", "new_command", "printable", "table"]

# Exit statuses; docs/cli.md says what they mean.
DONE, TORN, DAMAGED, FAILED, USAGE = 0, 1, 2, 3, 64

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    Commands = _SubParsersAction[ArgumentParser]


class Answer(NamedTuple):
    """What a command found.

    Attributes
    ----------
    data : dict
        For ``--json``.
    text : str
        For a human.
    status : int
        Of the process.
    """

    data: dict[str, Any]
    text: str
    status: int = DONE


def new_command(commands: Commands, name: str, run: Callable[[Namespace], Answer], help: str) -> ArgumentParser:
    """Add a command with the options that all have."""
    parser = commands.add_parser(name, help=help, description=help[:1].upper() + help[1:] + ".", allow_abbrev=False)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="answer as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def bar(arguments: Namespace) -> bool:
    """Tell whether progress is shown: to a human at a terminal."""
    return not arguments.json and not arguments.quiet and sys.stderr.isatty()


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under a head, numbers to the right."""
    texts = [[f"{cell:,}" if isinstance(cell, int) else printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    numeric = [all(isinstance(row[i], int) for row in rows) and bool(rows) for i in range(len(head))]
    lines = []
    for row in [list(head), *texts]:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def printable(text: str) -> str:
    """Return a text without what a terminal would obey: such characters are written as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def count(n: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
