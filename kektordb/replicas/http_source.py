"""How does a follower ask a leader that is far away? Over HTTP, within bounds of time and bytes: it may be bad."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final, Self
from urllib.parse import urlencode, urlsplit

import msgspec

from kektordb.addresses import port_of, tls_context
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
    """A leader that ``kektordb serve`` serves; a `Source`, for any number of threads.

    Parameters
    ----------
    url : str
        Such as ``http://leader:9091``; without a port 9091 for ``http``, and 443 for ``https``.
    token : str, optional
        That of all requests; one for reading is not enough.
    timeout_s : float
        For an answer to begin, and to come, beside a second for each 16 KiB.
    max_bytes, max_snapshot_bytes : int
        Of an answer, head included. A record is as large as the batch that it was.
    wait_s : float
        How long a follower that has all there is lets the server hold its question; 0 asks again and again.
    ca_file : str or path, optional
        Of ``https``: certificates in PEM that are trusted, of authorities or the server's own, instead of the system's.
    verify : bool
        False trusts whoever answers: he reads the token, and gives what data he likes.

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
        wait_s: float = 10.0,
        ca_file: str | os.PathLike[str] | None = None,
        verify: bool = True,
    ) -> None:
        self._is_secure, self._host, self._port, self._prefix = _parse(url)
        self._context = tls_context(self._is_secure, ca_file, verify)
        if token is not None and re.fullmatch("[!-~]{1,4096}", token) is None:
            raise ConfigError("expected a token of printable ASCII characters without blanks")
        self._headers = {"accept": "application/octet-stream, application/msgpack"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._max_snapshot_bytes = max_snapshot_bytes
        self.wait_s = wait_s
        # Several: one waits for what is new while another thread asks what there is.
        self._lock = threading.Lock()
        self._idle: list[_Line] = []
        self._busy: set[_Line] = set()
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
        """Let calls in other threads fail soon, and all others until `close`."""
        with self._lock:
            self._interrupted = True
            busy = list(self._busy)
        for line in busy:
            with contextlib.suppress(OSError):
                line.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections; the source can be used again after that."""
        self._close_idle()
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ one call

    def _ask(self, target: str, seconds: float, max_bytes: int) -> Iterator[bytes]:
        """Yield the body of an answer, piece by piece. What the caller does between them is not waited for in vain."""
        line = response = None
        is_whole = False
        try:
            with self._naming():
                line, response = self._begin(target, seconds, max_bytes)
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
            is_whole = response.isclosed()
        finally:
            if response is not None:
                response.close()
            if line is not None:
                self._give_back(line, is_whole)

    def _begin(self, target: str, seconds: float, max_bytes: int) -> tuple[_Line, http.client.HTTPResponse]:
        for _ in range(2):
            line, is_new = self._take()

            def respond(sock: socket.socket, *args: object, **more: object) -> http.client.HTTPResponse:
                bounded = BoundedSocket(sock, seconds, max_bytes, MIN_BYTES_PER_S)
                return http.client.HTTPResponse(bounded, *args, **more)  # type: ignore[arg-type]

            line.connection.response_class = respond  # type: ignore[assignment]
            try:
                line.socket.settimeout(self._timeout_s)
                line.connection.request("GET", self._prefix + target, headers=self._headers)
                return line, line.connection.getresponse()
            except BaseException as error:
                self._give_back(line, False)
                # Connections that lay still may have been closed meanwhile.
                closed = isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError)
                if is_new or self._interrupted or not closed:
                    raise
                self._close_idle()
        raise http.client.RemoteDisconnected("closed again and again")

    # --------------------------------------------------------------------------------------------------- connections

    def _take(self) -> tuple[_Line, bool]:
        """Return a connection that nobody else uses, and whether it is new."""
        with self._lock:
            self._require_wanted()
            if self._idle:
                line = self._idle.pop()
                self._busy.add(line)
                return line, False
        seconds = min(CONNECT_S, self._timeout_s)
        connection: http.client.HTTPConnection
        if self._context is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        else:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=self._context)
        connection.connect()
        line = _Line(connection, connection.sock)
        try:
            with self._lock:
                self._require_wanted()  # an interrupt may have come before there was anything to shut down
                self._busy.add(line)
        except BaseException:
            connection.close()
            raise
        return line, True

    def _give_back(self, line: _Line, is_usable: bool) -> None:
        with self._lock:
            self._busy.discard(line)
            if is_usable and not self._interrupted and line.connection.sock is not None:
                self._idle.append(line)
                return
        line.connection.close()

    def _close_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.connection.close()

    def _require_wanted(self) -> None:
        if self._interrupted:
            raise ConnectionAbortedError("interrupted")

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Turn what a line does into StorageError."""
        try:
            self._require_wanted()
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


class _Line:
    """A connection with its socket, which a last answer takes away from it."""

    def __init__(self, connection: http.client.HTTPConnection, sock: socket.socket) -> None:
        self.connection = connection
        self.socket = sock


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
    return is_secure, host, port_of(is_secure, port), parts.path.rstrip("/")
