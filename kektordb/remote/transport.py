"""How does a request reach the server, and its answer come back? Over kept connections, again where it may."""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np

from kektordb.addresses import DEFAULT_PORT, port_of, tls_context
from kektordb.errors import ConfigError, DatabaseClosed, ServerUnreachable
from kektordb.idle import has_come
from kektordb.remote.failures import failure_of

__all__ = ["JSON", "MSGPACK", "Transport", "path_of"]

JSON, MSGPACK = "application/json", "application/msgpack"
# The server closes what has been idle for 75 seconds; a request must not be on its way then.
MAX_IDLE_S = 60.0
MAX_KEPT = 16
# Between two tries; the second time twice as long.
PAUSE_S = 0.2
BUSY = 503
# A larger body is not copied to stand behind its head.
MAX_JOINED = 256 << 10


class _Connection(HTTPConnection):
    """A connection that sends the head of a request and a small body at once: the server wakes once for them."""

    _held: list[bytes] | None = None

    def send(self, data: Any) -> None:
        """Send bytes, or keep them until the whole request is there."""
        if self._held is None:
            super().send(data)
        else:
            self._held.append(data)

    def ask(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> None:
        """Send a whole request."""
        held: list[bytes] = []
        self._held = held
        try:
            self.request(method, path, content, headers)
        finally:
            self._held = None
        if content is not None and len(content) > MAX_JOINED:
            for part in held:
                self.send(part)
        else:
            self.send(b"".join(held))


class _SecureConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class Transport:
    """The way to one server. Usable from any thread: each request has a connection to itself.

    Parameters
    ----------
    url : str
        ``http://host:port``, also with a path below which the server is mounted; or ``https://``.
    token : str, optional
    timeout : float
        Seconds that a connection, and each part of an answer, may take.
    retries : int
        How often a request is sent again that may be: a read, or a write that can be done twice.
    ca_file, verify
        See `tls_context`.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int = 2,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        verify: bool = True,
    ) -> None:
        self.url = url
        self._secure, self._host, self._port, self._root = _parse(url)
        self._timeout = _checked_timeout(timeout)
        if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= 100:
            raise ConfigError(f"expected retries to be an integer from 0 to 100, got {retries!r:.80}")
        self._retries = retries
        self._context = tls_context(self._secure, ca_file, verify)
        self._headers = {} if token is None else {"authorization": f"Bearer {_checked_token(token)}"}
        self._lock = threading.Lock()
        self._kept: list[tuple[float, _Connection]] = []
        self._pid = os.getpid()
        self.closed = False

    def close(self) -> None:
        """Close the connections; requests after this raise DatabaseClosed."""
        with self._lock:
            self.closed = True
            kept, self._kept = self._kept, []
        for _, connection in kept:
            connection.close()

    def get(self, path: str) -> Any:
        """Return what a GET answers."""
        return self.request("GET", path, repeatable=True)

    def post(self, path: str, body: Mapping[str, Any], *, repeatable: bool = False, timeout: float = 0) -> Any:
        """Return what a POST answers."""
        return self.request("POST", path, body, repeatable=repeatable, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool = False,
        kind: str = MSGPACK,
        timeout: float = 0,
    ) -> Any:
        """Send one request; return its decoded answer, None when that is empty.

        Parameters
        ----------
        method, path : str
            The path with its parts quoted; see `path_of`.
        body : dict, optional
            Arrays in it are sent as float32.
        repeatable : bool
            Whether it may be sent again when nobody knows what became of it.
        kind : str
            Of both bodies: msgpack or JSON.
        timeout : float
            Seconds for this request, when they are more than those of the transport.

        Raises
        ------
        ServerUnreachable
            No answer came.
        KektorError
            What the answer says.
        """
        content = None if body is None else _encode(body, kind)
        headers = {**self._headers, "accept": kind}
        if content is not None:
            headers["content-type"] = kind
        seconds = max(timeout, self._timeout)
        tries_left = self._retries
        pause_s = PAUSE_S
        while True:
            fresh = None
            try:
                connection, fresh = self._connection(seconds)
                status, found, answer = self._exchange(connection, method, path, content, headers)
            except (OSError, HTTPException) as error:
                # Without a connection nothing was sent: that may be tried again whatever it was.
                may_repeat = repeatable or fresh is None
                if not may_repeat or tries_left == 0 or isinstance(error, ssl.SSLCertVerificationError):
                    raise ServerUnreachable(self._reason(error, seconds)) from error
            else:
                if status < 400:
                    return _decode(answer, found)
                if status != BUSY or not repeatable or tries_left == 0:
                    raise failure_of(status, _decode_failure(answer, found), body)
            tries_left -= 1
            time.sleep(pause_s)
            pause_s *= 2

    def _exchange(
        self, connection: _Connection, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> tuple[int, str, bytes]:
        try:
            connection.ask(method, self._root + path, content, headers)
            answer = connection.getresponse()
            body = answer.read()
        except BaseException:
            connection.close()
            raise
        if answer.will_close:
            connection.close()
        else:
            self._keep(connection)
        return answer.status, answer.headers.get("content-type", ""), body

    def _connection(self, seconds: float) -> tuple[_Connection, bool]:
        """Return a connection, and whether it is a new one. Raises OSError when none can be made."""
        now = time.monotonic()
        while True:
            with self._lock:
                if self._pid != os.getpid():
                    # After a fork they belong to the parent, too: two would talk at the same time.
                    self._pid, kept, self._kept = os.getpid(), self._kept, []
                    for _, connection in kept:
                        connection.close()
                if self.closed:
                    raise DatabaseClosed(f"the connection to {self.url} was closed")
                idle = self._kept.pop() if self._kept else None
            if idle is None:
                break
            since, connection = idle
            if now - since < MAX_IDLE_S and not has_come(connection.sock):
                connection.sock.settimeout(seconds)
                return connection, False
            connection.close()
        if self._context is None:
            connection = _Connection(self._host, self._port, timeout=seconds)
        else:
            connection = _SecureConnection(self._host, self._port, timeout=seconds, context=self._context)
        connection.connect()
        return connection, True

    def _keep(self, connection: _Connection) -> None:
        with self._lock:
            if not self.closed and len(self._kept) < MAX_KEPT:
                self._kept.append((time.monotonic(), connection))
                return
        connection.close()

    def _reason(self, error: Exception, seconds: float) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer from {self.url} within {seconds:g} s"
        return f"cannot reach {self.url}: {error or type(error).__name__}"


def path_of(*parts: str) -> str:
    """Return a path of the server; what stands in the parts after the first one is quoted."""
    first, *rest = parts
    return "/".join([first, *(quote(part, safe="") for part in rest)])


def _parse(url: str) -> tuple[bool, str, int, str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(f"expected a URL such as http://localhost:{DEFAULT_PORT}, got {url!r:.80}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"expected a URL such as http://localhost:{DEFAULT_PORT}, got {url!r:.80}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError("expected a URL without user, query and fragment; a token is given as token=")
    secure = parts.scheme == "https"
    return secure, parts.hostname, port_of(secure, port), parts.path.rstrip("/")


def _checked_timeout(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e9:
        raise ConfigError(f"expected timeout to be seconds above 0, got {timeout!r:.80}")
    return float(timeout)


def _checked_token(token: str) -> str:
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        raise ConfigError("expected a token of printable ASCII characters without blanks")
    return token


def _array(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.astype("<f4", copy=False).tobytes()
    raise NotImplementedError(f"expected what JSON has, got {type(value).__name__}")


def _numbers(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise NotImplementedError(f"expected what JSON has, got {type(value).__name__}")


_TO_MSGPACK = msgspec.msgpack.Encoder(enc_hook=_array)
_TO_JSON = msgspec.json.Encoder(enc_hook=_numbers)


def _encode(body: Mapping[str, Any], kind: str) -> bytes:
    try:
        return _TO_MSGPACK.encode(body) if kind == MSGPACK else _TO_JSON.encode(body)
    except (NotImplementedError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"this cannot be sent: {error}") from None


def _decode(content: bytes, kind: str) -> Any:
    if not content:
        return None
    try:
        if kind.startswith(MSGPACK):
            return msgspec.msgpack.decode(content)
        if kind.startswith(JSON):
            return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise ServerUnreachable(f"the answer is no KektorDB's: {error}") from None
    raise ServerUnreachable(f"the answer is no KektorDB's: expected {MSGPACK}, got {kind or 'nothing'}")


def _decode_failure(content: bytes, kind: str) -> Any:
    try:
        return _decode(content, kind)
    except ServerUnreachable:
        return content[:500].decode(errors="replace").strip()
