"""``kektordb serve``."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kektordb.commands.answer import Answer, new_command
from kektordb.errors import ConfigError

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands
    from kektordb.server.serving import Settings

__all__ = ["add", "settings_of"]

INSTALL = "expected the packages of the server: pip install 'kektordb[server]'"


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = new_command(commands, "serve", _serve, "serve a database over HTTP until SIGTERM")
    parser.add_argument("--http-addr", metavar="HOST:PORT", help="where to listen; 127.0.0.1:9091, or port KEKTOR_PORT")
    parser.add_argument("--data-dir", metavar="DIR", help="the database; KEKTOR_DATA_DIR, or kektordb-data")
    parser.add_argument(
        "--save",
        metavar='"SECONDS CHANGES"',
        action="append",
        help='save when both have passed; "60 1000" by default, "" for never; may be given again',
    )
    parser.add_argument(
        "--aof-rewrite-percentage",
        metavar="N",
        type=int,
        default=100,
        help="save when the log is larger than this share of the snapshot; 100 by default, 0 for never",
    )
    parser.add_argument(
        "--sync",
        choices=("always", "everysec", "no"),
        default="everysec",
        help="when writes are made durable against loss of power; everysec by default",
    )
    parser.add_argument("--follow", metavar="URL", help="follow the database of another server, and serve it read-only")
    parser.add_argument("--follow-token-file", metavar="FILE", help="holds the token that the other server asks for")
    parser.add_argument("--follow-ca-file", metavar="FILE", help="certificates to trust for an https:// URL; PEM")
    _add_security(parser)
    parser.add_argument("--vectorizers-config", metavar="FILE", help="YAML: folders to keep indexes in step with")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="what is logged"
    )
    parser.add_argument("--log-json", action="store_true", help="write the log as JSON, a line for each entry")


def _add_security(parser: ArgumentParser) -> None:
    parser.add_argument("--auth-token-file", metavar="FILE", help="holds the token of all requests; or KEKTOR_TOKEN")
    parser.add_argument("--auth-token", metavar="TOKEN", help="the token itself, which other users of the machine see")
    parser.add_argument("--read-only-token-file", metavar="FILE", help="holds a token for requests that change nothing")
    parser.add_argument(
        "--allowed-host", metavar="NAME", action="append", default=[], help="a name of this server; may be given again"
    )
    parser.add_argument(
        "--allowed-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="of web pages whose requests come through a proxy, such as https://db.example; may be given again",
    )
    parser.add_argument("--profiling", action="store_true", help="serve /debug/profile")


def _serve(arguments: Namespace) -> Answer:
    try:
        from kektordb.server.serving import serve
    except ImportError:
        raise ConfigError(INSTALL) from None
    settings = settings_of(arguments, os.environ)
    if arguments.auth_token is not None:
        print("kektordb: --auth-token can be seen by all users of this machine: use --auth-token-file", file=sys.stderr)
    serve(settings)
    return Answer({"served": settings.directory}, "")


def settings_of(arguments: Namespace, environment: Mapping[str, str]) -> Settings:
    """Return what a server is started with: flags first, then the environment. Raises ConfigError."""
    from kektordb.server.serving import DEFAULT_ADDRESS, DEFAULT_DIRECTORY, Settings, check_token, read_token

    address = arguments.http_addr
    if address is None:
        port = environment.get("KEKTOR_PORT")
        address = f"127.0.0.1:{port.removeprefix(':')}" if port else DEFAULT_ADDRESS
    token = environment.get("KEKTOR_TOKEN") or None
    if arguments.auth_token_file is not None:
        token = read_token(arguments.auth_token_file)
    elif arguments.auth_token is not None:
        token = arguments.auth_token
    reading = arguments.read_only_token_file
    if reading is not None and token is None:
        raise ConfigError("expected a token for writing beside --read-only-token-file: everybody could write without")
    follow, follow_token = arguments.follow, arguments.follow_token_file
    if follow_token is not None and follow is None:
        raise ConfigError("expected --follow beside --follow-token-file")
    if arguments.follow_ca_file is not None and follow is None:
        raise ConfigError("expected --follow beside --follow-ca-file")
    if follow is not None and not follow.startswith(("http://", "https://")):
        raise ConfigError(f"expected --follow to be an address such as http://leader:9091, got {follow!r:.80}")
    return Settings(
        address=address,
        directory=arguments.data_dir or environment.get("KEKTOR_DATA_DIR") or DEFAULT_DIRECTORY,
        save=("60 1000",) if arguments.save is None else arguments.save,
        aof_rewrite_percentage=arguments.aof_rewrite_percentage,
        sync=arguments.sync,
        token=None if token is None else check_token(token),
        read_only_token=None if reading is None else read_token(reading),
        allowed_hosts=arguments.allowed_host,
        allowed_origins=arguments.allowed_origin,
        follow=follow,
        follow_token=None if follow_token is None else read_token(follow_token),
        follow_ca_file=arguments.follow_ca_file,
        vectorizers=arguments.vectorizers_config or None,
        profiling=arguments.profiling,
        log_level=arguments.log_level,
        log_json=arguments.log_json,
    )
