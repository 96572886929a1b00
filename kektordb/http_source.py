"""How does a follower ask a leader that is far away? Over HTTP, within bounds of time and bytes: it may be bad."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from collections.abc import Callable, Iterator
from typing import Final, Self
from urllib.parse import urlencode, urlsplit

import msgspec

from kektordb.bounded import BoundedSocket
from kektordb.errors import ConfigError, HistoryDiverged, ReplicationError, SnapshotNeeded, StorageError

__all__ = ["HttpSource"]

CONNECT_S: Final = 10.0
# An answer that comes more slowly than this, after its first `timeout_s`, is given up.
MIN_BYTES_PER_S: Final = 16 << 10
PIECE_BYTES: Final = 256 << 10
MAX_ERROR_BYTES: Final = 16 << 10
MAX_TEXT: Final = 200


class HttpSource:
    """A leader that ``kektordb serve`` serves; a `Source`.

    Parameters
    ----------
    url : str
        Such as ``http://leader:9091``; with ``https`` its certificate is verified.
    token : str, optional
        That of all requests; one for reading is not enough.
    timeout_s : float
        For an answer to begin, and to come, beside a second for each 16 KiB.
    max_bytes, max_snapshot_bytes : int
        Of an answer, head included. A record is as large as the batch that it was.

    Raises
    ------
    ConfigError
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_s: float = 30.0,
        max_bytes: int = 1 << 30,
        max_snapshot_bytes: int = 1 << 40,
    ) -> None:
        self._is_secure, self._host, self._port, self._prefix = _parse(url)
        if token is not None and re.fullmatch("[!-~]{1,4096}", token) is None:
            raise ConfigError("expected a token of printable ASCII characters without blanks")
        self._headers = {"accept": "application/octet-stream, application/msgpack"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._max_snapshot_bytes = max_snapshot_bytes
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._interrupted = False

    def __repr__(self) -> str:
        return f"<kektordb.HttpSource {self._host}:{self._port}>"

    def read(self, position: str, max_bytes: int, timeout: float) -> bytes:
        """See `Feed.read`. Raises also ReplicationError, when the leader refuses the token."""
        query = urlencode({"position": position, "max_bytes": max_bytes, "wait": f"{timeout:.3f}"})
        return b"".join(self._ask(f"/replicate?{query}", timeout + self._timeout_s, self._max_bytes))

    def snapshot(self, write: Callable[[bytes], object]) -> None:
        """See `Feed.snapshot`. Raises also ReplicationError, when the leader refuses the token."""
        for piece in self._ask("/replicate/snapshot", self._timeout_s, self._max_snapshot_bytes):
            write(piece)

    def probe(self) -> None:
        """Ask once, before anything is made for a new follower. Raises what `read` does, but for SnapshotNeeded."""
        with contextlib.suppress(SnapshotNeeded):
            self.read(":0:0000000000000000", 1, 0.0)

    def interrupt(self) -> None:
        """Let a call in another thread fail soon, and all others until `close`."""
        self._interrupted = True
        found = self._socket
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the source can be used again after that."""
        self._drop()
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ one call

    def _ask(self, target: str, seconds: float, max_bytes: int) -> Iterator[bytes]:
        """Yield the body of an answer, piece by piece. What the caller does between them is not waited for in vain."""
        response = None
        try:
            with self._naming():
                response = self._begin(target, seconds, max_bytes)
                if response.status != 200:
                    raise self._refused(response)
            while True:
                with self._naming():
                    piece = response.read(PIECE_BYTES)
                    if not piece and response.length:
                        raise http.client.IncompleteRead(b"", response.length)
                if not piece:
                    break
                yield piece
        except BaseException:
            self._drop()
            raise
        finally:
            if response is not None:
                if not response.isclosed():
                    self._drop()
                response.close()

    def _begin(self, target: str, seconds: float, max_bytes: int) -> http.client.HTTPResponse:
        for _ in range(2):
            is_new = self._connection is None
            connection = self._connection or self._connect()

            def respond(sock: socket.socket, *args: object, **more: object) -> http.client.HTTPResponse:
                bounded = BoundedSocket(sock, seconds, max_bytes, MIN_BYTES_PER_S)
                return http.client.HTTPResponse(bounded, *args, **more)  # type: ignore[arg-type]

            connection.response_class = respond  # type: ignore[assignment]
            try:
                if self._socket is not None:
                    self._socket.settimeout(self._timeout_s)
                connection.request("GET", self._prefix + target, headers=self._headers)
                return connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # A connection that lay still may have been closed meanwhile.
                self._drop()
                if is_new or self._interrupted:
                    raise
        raise http.client.RemoteDisconnected("closed again and again")

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=min(CONNECT_S, self._timeout_s))
        connection.connect()
        self._connection, self._socket = connection, connection.sock
        if self._interrupted:  # it came before there was anything to shut down
            raise ConnectionAbortedError("interrupted")
        return connection

    def _drop(self) -> None:
        connection, self._connection, self._socket = self._connection, None, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Turn what a line does into StorageError."""
        try:
            if self._interrupted:
                raise ConnectionAbortedError("interrupted")
            yield
        except StorageError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            what = (str(error) if isinstance(error, OSError) else "") or type(error).__name__
            raise StorageError(f"the leader {self._host}:{self._port} does not answer as it should: {what}") from error

    def _refused(self, response: http.client.HTTPResponse) -> Exception:
        """Return the error of an answer that is one. Status alone does not do: something on the way may have set it."""
        status = response.status
        try:
            failure = msgspec.msgpack.decode(response.read(MAX_ERROR_BYTES), type=_Failure)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            failure = _Failure("")
        text = f"the leader {self._host}:{self._port} answers with status {status}"
        if failure.error:
            text += f": {failure.error[:MAX_TEXT]!r}"
        if status == 410 and failure.type == "SnapshotNeeded":
            return SnapshotNeeded(text)
        if status == 409 and failure.type == "HistoryDiverged":
            return HistoryDiverged(text)
        if status in (401, 403):
            return ReplicationError(f"{text}: is it the token?")
        return StorageError(text)


class _Failure(msgspec.Struct):
    error: str
    type: str = ""


def _parse(url: str) -> tuple[bool, str, int, str]:
    """Return what an address says: whether it is secure, host, port, and the path before ours. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    fine = bool(host) and re.fullmatch("[!-~]+", url) is not None and parts.scheme in ("http", "https")
    if not fine or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError("expected the address of a leader, such as http://leader:9091, without name and password")
    assert host is not None
    is_secure = parts.scheme == "https"
    return is_secure, host, port or (443 if is_secure else 80), parts.path.rstrip("/")
