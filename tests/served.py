"""Calls an ASGI application without a socket, and raw sockets of a server process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

Header = tuple[bytes, bytes]
ROOT = Path(__file__).parent.parent


class Answered:
    """An answer: status, headers, body."""

    def __init__(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        self.status = status
        self.headers = dict(headers)
        self.body = body

    @property
    def json(self) -> Any:
        assert self.headers[b"content-type"] == b"application/json"
        assert self.body.endswith(b"\n")
        return json.loads(self.body)

    @property
    def msgpack(self) -> Any:
        assert self.headers[b"content-type"] == b"application/msgpack"
        return msgspec.msgpack.decode(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:200]!r}"


class Caller:
    """Speaks to an application."""

    def __init__(self, app: Any, *, token: str | None = None, host: bytes = b"localhost:9091") -> None:
        self.app = app
        self._runner = asyncio.Runner()
        self._headers: list[Header] = [(b"host", host)]
        if token is not None:
            self._headers.append((b"authorization", f"Bearer {token}".encode()))

    def close(self) -> None:
        self._runner.close()
        self.app.close()

    def __call__(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        headers: Sequence[Header] = (),
        parts: Sequence[bytes] | None = None,
        root: str = "",
    ) -> Answered:
        """Return the answer; `body` becomes JSON unless it is bytes, `parts` are the pieces that it comes in."""
        if parts is None:
            content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            parts = [content]
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": unquote(root + path, errors="replace"),
            "raw_path": (root + path).encode(),
            "root_path": root,
            "query_string": query.encode(),
            "headers": [*self._headers, *headers],
        }
        waiting, sent = list(parts), []

        async def receive() -> dict[str, Any]:
            if not waiting:
                await asyncio.Event().wait()  # it stays until it has its answer
            return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        self._runner.run(self.app(scope, receive, send))
        return Answered(sent[0]["status"], sent[0]["headers"], b"".join(message["body"] for message in sent[1:]))

    def ok(self, method: str, target: str, body: Any = None, **more: Any) -> Any:
        """Return the JSON of an answer that is no error."""
        answer = self(method, target, body, **more)
        assert answer.status in (200, 202), answer
        return answer.json

    def packed(self, target: str, body: Any) -> Answered:
        """Return the answer to a body in msgpack, in msgpack."""
        kinds = [(b"content-type", b"application/msgpack"), (b"accept", b"application/msgpack")]
        return self("POST", target, msgspec.msgpack.encode(body), headers=kinds)


class Served:
    """A server process.

    Parameters
    ----------
    command : sequence of str
        What Python is given; it logs the address that it listens at.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        for package in ("uvicorn", "httptools"):
            pytest.importorskip(package, reason="the extra `server` is not installed")
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
            text=True,
        )
        assert self.process.stderr is not None
        self.log: list[str] = []
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found[1])
                return
        raise AssertionError(f"the server did not begin: {''.join(self.log)}")

    def connect(self, timeout: float = 10.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def raw(self, data: bytes, timeout: float = 10.0) -> bytes:
        """Send bytes; return all that comes until the other side closes or has answered once."""
        with self.connect(timeout) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            return read_answer(connection)

    def call(self, method: str, target: str, body: Any = None, headers: bytes = b"") -> tuple[int, bytes]:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(content)}\r\n".encode()
        answer = self.raw(head + headers + b"\r\n" + content)
        return int(answer[9:12]), answer.partition(b"\r\n\r\n")[2]

    def memory_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024

    def end(self, kill: bool = False) -> int:
        """End the process; return its status."""
        (self.process.kill if kill else self.process.terminate)()
        _, errors = self.process.communicate(timeout=30)
        self.log.append(errors)
        return self.process.returncode


def read_answer(connection: socket.socket) -> bytes:
    """Return one answer with its body, or what came before the other side closed."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if end and (length is None or len(body) >= int(length[1])):
            return data
        try:
            part = connection.recv(65_536)
        except ConnectionResetError:
            return data
        if not part:
            return data
        data += part
