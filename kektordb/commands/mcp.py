"""``kektordb mcp``."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from kektordb.commands.answer import Answer, new_command
from kektordb.commands.target import add_target, opened
from kektordb.errors import ConfigError

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands

__all__ = ["add"]

INSTALL = "expected the package of the protocol: pip install 'kektordb[mcp]'"


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = new_command(commands, "mcp", _mcp, "let language models use a database, over the Model Context Protocol")
    add_target(parser, index=False)
    parser.add_argument("--allow-writes", action="store_true", help="give also the tools that write")
    parser.add_argument(
        "--embedder",
        metavar="NAME",
        help="makes vectors of texts, such as ollama:nomic-embed-text; auto: that of each index",
    )
    parser.add_argument("--http", metavar="HOST:PORT", help="listen there, on this machine alone, instead of stdio")
    parser.add_argument(
        "--allowed-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="of web pages that may call over HTTP, such as http://localhost:3000; may be given again",
    )


def _mcp(arguments: Namespace) -> Answer:
    try:
        from kektordb.mcp.server import make_server, run_http, run_stdio
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise ConfigError(INSTALL) from None
    from kektordb.mcp.tools import Tools

    if arguments.allowed_origin and arguments.http is None:
        raise ConfigError("expected --http beside --allowed-origin")
    if arguments.embedder not in (None, "auto"):
        from kektordb.embed import as_embedder

        as_embedder(arguments.embedder)  # what is wrong with it shows at once
    # Standard output is for the protocol alone.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    with opened(arguments, writing=arguments.allow_writes) as database:
        server = make_server(Tools(database, arguments.embedder, arguments.allow_writes))
        if arguments.http is not None:
            run_http(server, arguments.http, arguments.allowed_origin)
        else:
            run_stdio(server)
    return Answer({}, "")
