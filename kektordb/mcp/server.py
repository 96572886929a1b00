"""How does a language model reach the tools? Over the Model Context Protocol, on stdio or on a port of this machine."""

from __future__ import annotations

import functools
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations

from kektordb import __version__
from kektordb.errors import ConfigError, KektorError
from kektordb.mcp.tools import Tools
from kektordb.server.options import LOOPBACK
from kektordb.server.security import is_loopback, parse_address

__all__ = ["http_app", "make_server", "run_http", "run_stdio"]

_log = logging.getLogger("kektordb.mcp")

INSTRUCTIONS = """\
A vector database. list_indexes shows what there is, describe_index the fields that filters can use, search finds \
items by a text, a vector or a filter, get gives whole items by their ids."""
READS = ("list_indexes", "describe_index", "search", "get", "kv_get")
WRITES = ("add_texts", "kv_set")
# Where clients of HTTP find it.
PATH = "/mcp"


def make_server(tools: Tools) -> MCPServer[Any]:
    """Return a server of the tools; those that write are there only when writes are allowed."""
    server: MCPServer[Any] = MCPServer("kektordb", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING")
    for name in (*READS, *(WRITES if tools.allow_writes else ())):
        reads = name in READS
        hints = ToolAnnotations(
            read_only_hint=reads, destructive_hint=not reads, idempotent_hint=reads, open_world_hint=False
        )
        server.add_tool(_answering(getattr(tools, name)), name=name, annotations=hints)
    return server


def _answering(tool: Callable[..., Any]) -> Callable[..., Any]:
    """Let the model read what is wrong with a call, and nothing of what is wrong inside."""

    @functools.wraps(tool)
    def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return tool(*args, **kwargs)
        except KektorError as error:
            raise ToolError(f"{type(error).__name__}: {error}") from error

    return answering


def run_stdio(server: MCPServer[Any]) -> None:
    """Answer the client that started this process, until it closes standard input."""
    server.run("stdio")


def run_http(server: MCPServer[Any], address: str, origins: Sequence[str] = ()) -> None:
    """Answer clients of this machine until SIGTERM or SIGINT. Raises ConfigError for other addresses."""
    import uvicorn

    host, port = parse_address(address)
    if not is_loopback(host):
        raise ConfigError(f"expected an address that only this machine reaches, such as 127.0.0.1:9092, got {address}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error.strerror or error}") from None
    listener.setblocking(False)
    with listener:
        port = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        _log.warning("listening on http://%s:%d%s", shown, port, PATH)
        config = uvicorn.Config(http_app(server, shown, port, origins), log_level="warning", ws="none")
        uvicorn.Server(config).run(sockets=[listener])


def http_app(server: MCPServer[Any], host: str, port: int, origins: Sequence[str] = ()) -> Any:
    """Return the ASGI application. It answers under the names of this machine, to its own pages and to `origins`.

    Another name in the Host header means that a browser was led here by a name of somebody else.
    """
    names = sorted({*LOOPBACK, host})
    settings = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[f"{name}:{port}" for name in names],
        allowed_origins=[*(f"http://{name}:{port}" for name in names), *origins],
    )
    return server.streamable_http_app(streamable_http_path=PATH, host=host, transport_security=settings)
