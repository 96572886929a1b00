"""How is a service asked that may be slow, huge, broken or bad? JSON over HTTP, within bounds of time and bytes."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from kektordb.bounded import BoundedSocket, TooMuch
from kektordb.embed.contract import redacted
from kektordb.errors import ConfigError, EmbedderError
from kektordb.idle import has_come

__all__ = ["Poster"]

T = TypeVar("T")

CONNECT_S: Final = 10.0
MIN_BYTES_PER_S: Final = 16 << 10
MAX_ERROR_BYTES: Final = 16 << 10
MAX_IDLE_S: Final = 30.0
MAX_KEPT: Final = 16
# What may be over the next time: timeouts and too many requests. So is whatever is wrong with the server itself.
TEMPORARY: Final = frozenset({408, 425, 429})


class Poster:
    """The way to one service. Usable from any number of threads: each request has a connection to itself.

    It follows no redirects and knows no proxies; what comes back is bounded before it is read.

    Parameters
    ----------
    name : str
        Of the embedder, for errors.
    url : str
        ``http://`` or ``https://``, without name and password, query and fragment.
    key : str, optional
        Sent as a bearer token; never shown.
    timeout : float
        Seconds for an answer, beside one for each 16 KiB of it.
    max_response_bytes : int
    """

    def __init__(
        self, name: str, url: str, key: str | None = None, *, timeout: float = 120.0, max_response_bytes: int = 64 << 20
    ) -> None:
        self._name = name
        self._is_secure, self._host, self._port, self._root = _parse(url)
        self._key = None if key is None else _checked_key(key)
        self._timeout_s = _checked_seconds(timeout)
        if isinstance(max_response_bytes, bool) or not isinstance(max_response_bytes, int) or max_response_bytes < 1:
            raise ConfigError(f"expected max_response_bytes to be an integer above 0, got {max_response_bytes!r:.80}")
        self._max_bytes = max_response_bytes
        self._context = ssl.create_default_context() if self._is_secure else None
        self._lock = threading.Lock()
        self._kept: list[tuple[float, HTTPConnection]] = []
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<Poster {self._host}:{self._port}>"

    def close(self) -> None:
        """Close the connections that lie still; the next request makes a new one."""
        with self._lock:
            kept, self._kept = self._kept, []
        for _, connection in kept:
            connection.close()

    def __del__(self) -> None:
        if hasattr(self, "_kept"):  # not when it was refused
            self.close()

    def post(self, path: str, body: dict[str, Any], kind: type[T]) -> T:
        """Return what a POST of `body` answers, as a `kind`.

        Raises EmbedderError: permanent for a refusal, a redirect, an answer that is too large or of another form.
        """
        try:
            content = msgspec.json.encode(body)
        except (msgspec.MsgspecError, UnicodeEncodeError) as error:
            raise EmbedderError(f"{self._name}: the texts cannot be sent: {error}", permanent=True) from None
        try:
            answer = self._exchange(self._root + path, content)
        except TooMuch:
            text = f"{self._name} answers with more than {self._max_bytes:,} bytes"
            raise EmbedderError(text, permanent=True) from None
        except (OSError, HTTPException, ValueError) as error:
            what = "no answer in time" if isinstance(error, TimeoutError) else redacted(str(error), self._key)
            is_permanent = isinstance(error, ssl.SSLCertVerificationError)
            text = f"{self._name} at {self._host}:{self._port} cannot be asked: {what or type(error).__name__}"
            raise EmbedderError(text, permanent=is_permanent) from error
        try:
            return msgspec.json.decode(answer, type=kind)
        except msgspec.ValidationError as error:
            raise EmbedderError(f"{self._name} answers in another form: {error}", permanent=True) from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            shown = redacted(answer[:1000].decode(errors="replace"), self._key)
            raise EmbedderError(f"{self._name} answers with what is no JSON: {shown!r}") from None

    # ------------------------------------------------------------------------------------------------------ one call

    def _exchange(self, path: str, content: bytes) -> bytes:
        """Return the body of an answer that is none of an error."""
        response, connection = self._begin(path, content)
        is_whole = False
        try:
            if not 200 <= response.status < 300:
                raise self._refused(response)
            if response.length is not None and response.length > self._max_bytes:
                raise TooMuch
            answer = response.read()
            is_whole = True
            return answer
        finally:
            if is_whole and not response.will_close:
                self._keep(connection)
            else:
                connection.close()
            response.close()

    def _begin(self, path: str, content: bytes) -> tuple[HTTPResponse, HTTPConnection]:
        headers = {"content-type": "application/json", "accept": "application/json", "user-agent": "kektordb"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        while True:
            connection, is_new = self._connection()
            try:
                connection.request("POST", path, content, headers)
                return connection.getresponse(), connection
            except (ConnectionResetError, BrokenPipeError):
                # One that lay still may have been closed meanwhile; `RemoteDisconnected` is a reset, too.
                connection.close()
                if is_new:
                    raise
            except BaseException:
                connection.close()
                raise

    def _refused(self, response: HTTPResponse) -> EmbedderError:
        status = response.status
        if 300 <= status < 400:
            return EmbedderError(f"{self._name} redirects, which is not followed", permanent=True, status=status)
        said = redacted(_said(response.read(MAX_ERROR_BYTES)), self._key)
        is_temporary = status in TEMPORARY or status >= 500
        hint = ": is it the key?" if status in (401, 403) else ""
        return EmbedderError(
            f"{self._name} at {self._host}:{self._port} answers with status {status}{hint}{': ' if said else ''}{said}",
            permanent=not is_temporary,
            status=status,
            retry_after_s=_seconds(response.getheader("retry-after", "")),
        )

    # --------------------------------------------------------------------------------------------------- connections

    def _connection(self) -> tuple[HTTPConnection, bool]:
        """Return a connection, and whether it is a new one. Raises OSError when none can be made."""
        while True:
            with self._lock:
                if self._pid != os.getpid():
                    # After a fork they belong to the parent, too: two would talk at the same time.
                    self._pid, self._kept = os.getpid(), []
                found = self._kept.pop() if self._kept else None
            if found is None:
                return self._connect(), True
            since, connection = found
            if time.monotonic() - since < MAX_IDLE_S and not has_come(connection.sock):
                connection.sock.settimeout(self._timeout_s)
                return connection, False
            connection.close()

    def _connect(self) -> HTTPConnection:
        seconds = min(CONNECT_S, self._timeout_s)
        if self._context is None:
            connection = HTTPConnection(self._host, self._port, timeout=seconds)
        else:
            connection = HTTPSConnection(self._host, self._port, timeout=seconds, context=self._context)
        connection.connect()
        connection.sock.settimeout(self._timeout_s)

        def respond(sock: socket.socket, *args: object, **more: object) -> HTTPResponse:
            bounded = BoundedSocket(sock, self._timeout_s, self._max_bytes + MAX_ERROR_BYTES, MIN_BYTES_PER_S)
            return HTTPResponse(bounded, *args, **more)  # type: ignore[arg-type]

        connection.response_class = respond  # type: ignore[assignment]
        return connection

    def _keep(self, connection: HTTPConnection) -> None:
        with self._lock:
            if len(self._kept) < MAX_KEPT and self._pid == os.getpid():
                self._kept.append((time.monotonic(), connection))
                return
        connection.close()


class _Failure(msgspec.Struct):
    error: Any = None
    detail: Any = None
    message: Any = None


def _said(content: bytes) -> str:
    """Return the words of an error, in whichever of the usual forms."""
    try:
        found = msgspec.json.decode(content, type=_Failure)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return content.decode(errors="replace")
    words = found.error or found.detail or found.message or ""
    if isinstance(words, dict):
        words = words.get("message", words)
    return words if isinstance(words, str) else str(words)


def _seconds(text: str | None) -> float:
    """Return the seconds of a ``Retry-After``; a date is passed over."""
    return float(text) if text is not None and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text.strip()) else 0.0


def _parse(url: str) -> tuple[bool, str, int, str]:
    """Return what an address says: whether it is secure, host, port, and the path. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except (ValueError, TypeError, AttributeError):
        host, port, parts = None, None, urlsplit("")
    fine = bool(host) and re.fullmatch("[!-~]+", url) is not None and parts.scheme in ("http", "https")
    if not fine or "@" in parts.netloc or parts.query or parts.fragment:
        # Not shown: it may hold a password.
        raise ConfigError("expected the URL of a service, http:// or https://, without password, query and fragment")
    assert host is not None
    is_secure = parts.scheme == "https"
    return is_secure, host, port or (443 if is_secure else 80), parts.path.rstrip("/")


def _checked_seconds(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e6:
        raise ConfigError(f"expected timeout to be seconds above 0, got {timeout!r:.80}")
    return float(timeout)


def _checked_key(key: str) -> str:
    if not isinstance(key, str) or re.fullmatch("[!-~]{1,4096}", key) is None:
        raise ConfigError("expected a key of printable ASCII characters without blanks")
    return key
