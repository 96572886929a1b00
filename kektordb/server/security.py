"""May this request come in? Its Host, its Origin, its token, and the size that it announces."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence

from kektordb.errors import ConfigError
from kektordb.server.errors import HttpError
from kektordb.server.options import Options

__all__ = ["Door", "Visitor", "is_loopback", "parse_address"]

NOBODY, READER, WRITER = 0, 1, 2

_PORT = re.compile(rb":[0-9]*$")
_CLOSE = ((b"connection", b"close"),)
_CHALLENGE = ((b"www-authenticate", b"Bearer"),)
_BEARER = b"bearer "


class Visitor:
    """What the headers of a request say.

    Attributes
    ----------
    may : int
        NOBODY, READER or WRITER.
    n_bytes : int
        Size of the body as announced; -1 when it is not.
    sends_msgpack, wants_msgpack : bool
    """

    __slots__ = ("may", "n_bytes", "sends_msgpack", "wants_msgpack")

    def __init__(self) -> None:
        self.may = NOBODY
        self.n_bytes = -1
        self.sends_msgpack = False
        self.wants_msgpack = False


class Door:
    """Looks at the headers of each request.

    Parameters
    ----------
    options : Options
    """

    def __init__(self, options: Options) -> None:
        self._tokens = [
            (token.encode(), may)
            for token, may in ((options.token, WRITER), (options.read_only_token, READER))
            if token is not None
        ]
        hosts = options.allowed_hosts
        self._hosts = None if hosts is None else frozenset(host.lower().encode() for host in hosts)
        self._origins = frozenset(origin.lower().encode() for origin in options.allowed_origins)
        # Headers of Host that were let in: always the same few.
        self._known_hosts: set[bytes] = set()
        self._max_bytes = options.limits.max_body_bytes

    def admit(self, headers: Iterable[tuple[bytes, bytes]], scheme: str = "http") -> Visitor:
        """Return what the headers say; their names are in lower case.

        Raises HttpError: 400 or 421 for the Host, 403 for the Origin, 401 for the token, 413 for the announced size,
        415 for a body that is compressed.
        """
        visitor = Visitor()
        host = origin = token = accept = None
        n_hosts = 0
        for name, value in headers:
            if name == b"host":
                host, n_hosts = value, n_hosts + 1
            elif name == b"origin":
                origin = value
            elif name == b"authorization":
                token = value
            elif name == b"content-length":
                visitor.n_bytes = int(value) if value.isdigit() and len(value) < 19 else self._max_bytes + 1
            elif name == b"content-encoding":
                self._check_encoding(value)
            elif name == b"content-type":
                visitor.sends_msgpack = b"msgpack" in value
            elif name == b"accept":
                accept = value
        visitor.wants_msgpack = accept is not None and b"msgpack" in accept
        if n_hosts != 1 or host is None:
            raise HttpError(400, "expected one Host header", headers=_CLOSE)
        if host not in self._known_hosts:
            self._check_host(host)
        if origin is not None:
            self._check_origin(origin.lower(), host.lower(), scheme)
        visitor.may = WRITER if not self._tokens else self._who(token)
        if visitor.n_bytes > self._max_bytes:
            raise self.too_large()
        return visitor

    def _check_encoding(self, value: bytes) -> None:
        if value.lower() not in (b"", b"identity"):
            raise HttpError(
                415, "expected a body without Content-Encoding: compressed ones are not read", headers=_CLOSE
            )

    def _check_host(self, host: bytes) -> None:
        if self._hosts is not None and _PORT.sub(b"", host).lower() not in self._hosts:
            raise HttpError(421, "this server is not known under the name in the Host header", headers=_CLOSE)
        if len(self._known_hosts) < 64:
            self._known_hosts.add(host)

    def _check_origin(self, origin: bytes, host: bytes, scheme: str) -> None:
        if origin != scheme.encode() + b"://" + host and origin not in self._origins:
            raise HttpError(403, "web pages of another origin may not call", headers=_CLOSE)

    def _who(self, given: bytes | None) -> int:
        if given is None:
            return NOBODY
        if given[: len(_BEARER)].lower() == _BEARER:
            given = given[len(_BEARER) :]
        given, may = given.strip(), NOBODY
        for token, allowed in self._tokens:  # all of them, in the time that it takes
            if hmac.compare_digest(token, given):
                may = max(may, allowed)
        return may

    def refuse(self, headers: Sequence[tuple[bytes, bytes]]) -> HttpError:
        """Return why a request is let do nothing."""
        missing = not any(name == b"authorization" for name, _ in headers)
        text = "Unauthorized: missing Authorization header" if missing else "Unauthorized: invalid token"
        return HttpError(401, text, plain=True, headers=_CHALLENGE)

    def too_large(self) -> HttpError:
        """Return the answer to a body over the limit."""
        return HttpError(413, f"expected a body of at most {self._max_bytes:,} bytes", headers=_CLOSE)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port``, ``:port`` or ``[::1]:port``. Raises ConfigError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"expected an address as host:port, got {address!r:.80}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"expected an address such as [::1]:9091, got {address!r:.80}")
    return host, int(port)
