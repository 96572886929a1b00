"""How does a server process live? It opens the database, listens, and at SIGTERM finishes, closes and ends."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import uvicorn

from kektordb import errors
from kektordb.database import Database
from kektordb.replicas.http_source import HttpSource
from kektordb.server.app import Application, create_app
from kektordb.server.logs import start_logging
from kektordb.server.options import LOOPBACK, Limits, Options
from kektordb.server.protocol import protocol_for
from kektordb.server.security import is_loopback, parse_address

__all__ = [
    "DEFAULT_ADDRESS",
    "DEFAULT_DIRECTORY",
    "Settings",
    "check_token",
    "config_for",
    "parse_address",
    "read_token",
    "serve",
]

_log = logging.getLogger("kektordb.server")

DEFAULT_ADDRESS = "127.0.0.1:9091"
DEFAULT_DIRECTORY = "kektordb-data"
# Requests that are not answered then are given up.
SHUTDOWN_S = 60
BACKLOG = 1024
_HOST = re.compile(r"[^\s/@:\[\]]+|\[[0-9a-fA-F:.]+\]")
_ORIGIN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/@?#]+")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is started with.

    Attributes
    ----------
    address : str
        ``host:port``; without a host all addresses of the machine, which takes a token. Port 0 is any free one.
    directory : str
        Of the database.
    save : sequence of str
        When to save by itself: pairs of seconds and changes, such as ``"60 1000"``.
    aof_rewrite_percentage : int
        See `Database.open`.
    sync : str
        See `Database.open`.
    token, read_only_token : str or None
        What requests must bear.
    allowed_hosts, allowed_origins : sequence of str
        See `Options`; names beside those of the address.
    follow, follow_token, follow_ca_file : str or None
        Address of the server of another database, which this one follows; what that asks for; certificates to trust.
    vectorizers : str or None
        The file that says which folders are kept in step; see docs/rag.md.
    profiling : bool
    log_level : str
    log_json : bool
    limits : Limits
    """

    address: str = DEFAULT_ADDRESS
    directory: str = DEFAULT_DIRECTORY
    save: Sequence[str] = ("60 1000",)
    aof_rewrite_percentage: int = 100
    sync: str = "everysec"
    token: str | None = None
    read_only_token: str | None = None
    allowed_hosts: Sequence[str] = ()
    allowed_origins: Sequence[str] = ()
    follow: str | None = None
    follow_token: str | None = None
    follow_ca_file: str | None = None
    vectorizers: str | None = None
    profiling: bool = False
    log_level: str = "info"
    log_json: bool = False
    limits: Limits = Limits()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals as a wish to end. uvicorn would raise them again afterwards, before the database is closed."""
        before = {kind: signal.signal(kind, self.handle_exit) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let those go who wait for a record: that may be long."""
        app = self.config.app
        assert isinstance(app, Application)
        app.release()
        await super().shutdown(sockets)


def serve(settings: Settings) -> None:
    """Serve a database until SIGTERM or SIGINT. All that was acknowledged is durable when it returns.

    Raises
    ------
    ConfigError
        Also when the address can be reached from elsewhere and there is no token.
    DatabaseLocked, CorruptData, StorageError
    """
    host, port = parse_address(settings.address)
    if not is_loopback(host) and settings.token is None:
        raise errors.ConfigError(
            f"expected a token to serve at {host or 'all addresses'}, which others can reach: "
            "give --auth-token-file or KEKTOR_TOKEN, or serve at 127.0.0.1"
        )
    options = _options(settings, host)
    vectorizers = _vectorizers(settings.vectorizers)
    start_logging(settings.log_level, settings.log_json)
    source = None
    if settings.follow is not None:
        source = HttpSource(settings.follow, settings.follow_token, ca_file=settings.follow_ca_file)
    listener = _listen(host, port)
    try:
        database = Database.open(
            settings.directory,
            sync=settings.sync,
            autosave=list(settings.save),
            aof_rewrite_percentage=settings.aof_rewrite_percentage,
            follow=source,
        )
    except BaseException:
        listener.close()
        raise
    with database:
        try:
            vectorizers(database)
        except BaseException:
            listener.close()
            raise
        _run(database, options, listener)
    _log.info("the database is closed")


def _vectorizers(path: str | None) -> Callable[[Database], None]:
    """Return what lets the vectorizers of a file work. Raises ConfigError."""
    if path is None:
        return lambda _: None
    from kektordb.vectorizer.config import load_config, start_all

    configs = load_config(path)
    return lambda database: start_all(database, configs)


def _run(database: Database, options: Options, listener: socket.socket) -> None:
    app = create_app(database, options)
    host, port = listener.getsockname()[:2]
    # What is there now stays: no collection need look at it again.
    gc.collect()
    gc.freeze()
    _log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    _Server(config_for(app)).run(sockets=[listener])


def config_for(app: Application) -> uvicorn.Config:
    """Return how uvicorn is to run an application."""
    limits = app.service.limits
    return uvicorn.Config(
        app,
        loop="auto",
        http=protocol_for(app),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.max_connections,
        timeout_keep_alive=int(limits.keep_alive_s),
        timeout_graceful_shutdown=SHUTDOWN_S,
    )


def _options(settings: Settings, host: str) -> Options:
    """Return the options of the application.

    On this machine alone any page in a browser could call under a name of its own that leads here; elsewhere the token
    keeps it out, and the names are not known.
    """
    _check_names(settings)
    hosts: tuple[str, ...] | None = None
    if is_loopback(host):
        hosts = (*LOOPBACK, host, *settings.allowed_hosts)
    elif settings.allowed_hosts:
        # From this machine as well: its own health check asks 127.0.0.1.
        hosts = (*LOOPBACK, host, *settings.allowed_hosts)
    return Options(
        token=settings.token,
        read_only_token=settings.read_only_token,
        allowed_hosts=hosts,
        allowed_origins=tuple(settings.allowed_origins),
        profiling=settings.profiling,
        limits=settings.limits,
    )


def _check_names(settings: Settings) -> None:
    """Refuse what would let in nobody, or more than it says. Raises ConfigError."""
    if settings.read_only_token is not None and settings.read_only_token == settings.token:
        raise errors.ConfigError("expected another token for reading: who bears this one may write")
    for name in settings.allowed_hosts:
        if not _HOST.fullmatch(name):
            raise errors.ConfigError(f"expected a host as a name without scheme and port, got {name!r:.80}")
    for origin in settings.allowed_origins:
        if not _ORIGIN.fullmatch(origin):
            raise errors.ConfigError(f"expected an origin such as https://db.example, and no path, got {origin!r:.80}")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise errors.ConfigError(f"cannot listen on {host or '*'}:{port}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener


def read_token(path: str | os.PathLike[str]) -> str:
    """Return the token in a file. Raises ConfigError."""
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"cannot read the token file: {error}") from None
    return check_token(token)


def check_token(token: str) -> str:
    """Return a token that a header can bear. Raises ConfigError."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise errors.ConfigError("expected a token of printable ASCII characters without blanks")
    return token
