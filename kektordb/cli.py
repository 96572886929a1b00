"""What does ``kektordb`` on a command line do? It finds the command, runs it, and shows its answer."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from kektordb import __version__
from kektordb.commands import copies, dumps, info, mcp, safety, search, serve, shell, transfers, vectorize
from kektordb.commands.answer import FAILED, USAGE
from kektordb.errors import KektorError
from kektordb.interrupts import Uninterrupted

__all__ = ["main"]

FAMILIES = (info, search, shell, transfers, safety, copies, dumps, vectorize, serve, mcp)
INTERRUPTED = 130  # as shells have it for Ctrl-C


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave with a status that no command has: argparse's own would mean damage."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status. `arguments` are those of the process unless they are given."""
    parsed = _parser().parse_args(arguments)
    try:
        return _run(parsed)
    except BrokenPipeError:  # nobody reads on
        _let_go()
        return FAILED
    except OSError as error:  # those of files are errors of ours: the answer could not be written
        _let_go()
        with contextlib.suppress(OSError):
            print(f"kektordb: {error}", file=sys.stderr)
        return FAILED


def _run(parsed: Namespace) -> int:
    try:
        with Uninterrupted():  # modules in C lose an interrupt that comes while they are made
            import_module("kektordb.database")
        answer = parsed.run(parsed)
        text = json.dumps(answer.data, ensure_ascii=False) if parsed.json and answer.data else answer.text
        if text:
            print(text, flush=True)
    except KektorError as error:
        if parsed.json:
            failure = {"error": {"type": type(error).__name__, "message": str(error)}}
            print(json.dumps(failure, ensure_ascii=False), flush=True)
        print(f"kektordb: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("kektordb: interrupted", file=sys.stderr)
        return INTERRUPTED
    return int(answer.status)


def _let_go() -> None:
    """Give up standard output: Python would complain once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> ArgumentParser:
    parser = _Parser(
        prog="kektordb",
        description="An embedded vector database: search it, fill it, look after its files.",
        epilog="Exit status: 0 done or sound, 1 torn tail, 2 damage, 3 failed, 64 wrong usage.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kektordb {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for family in FAMILIES:
        family.add(commands)
    return parser
