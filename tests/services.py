"""A service on this machine that answers as a test says, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Asked", "Service", "serving"]


@dataclass
class Asked:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Service:
    """What answers: ``answer(asked)`` gives status, headers and body; None closes the connection without a word.

    A body that is an iterator of bytes is sent piece by piece, without a length.
    """

    answer: Callable[[Asked], tuple[int, dict[str, str], Any] | None]
    asked: list[Asked] = field(default_factory=list)
    n_connections: int = 0
    url: str = ""
    # Set when the test is over, so that an answer that waits does not outlive it.
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(answer: Callable[[Asked], tuple[int, dict[str, str], Any] | None]) -> Iterator[Service]:
    """Serve `answer` on a port of 127.0.0.1 for as long as the block takes."""
    service = Service(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            service.n_connections += 1
            super().setup()

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            heads = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.path, heads, json.loads(content))
            service.asked.append(asked)
            found = service.answer(asked)
            if found is None:
                self.close_connection = True
                return
            status, headers, body = found
            is_whole = isinstance(body, bytes | dict | list)
            if isinstance(body, dict | list):
                body = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if is_whole and "content-length" not in headers:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            try:
                for piece in [body] if is_whole else body:
                    self.wfile.write(piece)
            except OSError:
                self.close_connection = True
            if not is_whole:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """A client that goes away is no error here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            service.over.set()
            server.shutdown()
            thread.join()
