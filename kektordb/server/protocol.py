"""How does a connection behave? Slow or great heads close it; a short request is answered at once, without a task."""

from __future__ import annotations

import asyncio
import http
import time
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from kektordb.server.app import ABORT, Answer, Application
from kektordb.server.draining import Drain
from kektordb.server.errors import body_is_late
from kektordb.server.heads import END, MAX_HEAD_BYTES

__all__ = ["protocol_for"]

_START: dict[tuple[int, bytes], bytes] = {}
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}


def _start(status: int, content_type: bytes) -> bytes:
    """Return how an answer begins, up to its length; there are few."""
    start = _STATUS[status] + b"content-type: " + content_type + b"\r\ncontent-length: "
    _START[(status, content_type)] = start
    return start


class _Dates:
    """The headers of all answers as bytes; uvicorn makes a new list each second."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._joined = b""

    def of(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        if headers is not self._headers:
            self._headers = headers
            self._joined = b"".join([b"%b: %b\r\n" % one for one in headers])
        return self._joined


def protocol_for(app: Application) -> type[HttpToolsProtocol]:
    """Return uvicorn's HTTP protocol with three changes.

    It bounds the time and size of the head of a request: uvicorn bounds neither, so that a client that sends a byte now
    and then, or headers without end, holds a connection or memory as long as it likes.

    It bounds how long an answer may lie there that nobody takes, see `Drain`.

    And a request that needs no waiting is answered as soon as its body is there, from the callback of the parser, or
    without the parser when its head is one that came before. The way through ASGI makes a task, an event, a queue of
    messages and two writes for it, which together take longer than a search (benchmarks/http.py).
    """
    limits = app.service.limits
    heads = app.heads
    dates = _Dates()
    drain = Drain(limits.write_s)

    class Protocol(HttpToolsProtocol):
        def __init__(
            self,
            config: Config,
            server_state: ServerState,
            app_state: dict[str, Any],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> None:
            super().__init__(config, server_state, app_state, _loop)
            self._in_head = True
            self._n_head_bytes = 0
            self._n_chunk_bytes = 0
            self._head_timer: asyncio.TimerHandle | None = None
            # A request that may be answered at once: its method, path and query, and the body so far.
            self._quick: tuple[str, bytes, bytes] | None = None
            self._quick_body = bytearray()
            # A chunk that began with a request, until it turns out that it is more or less than a whole one.
            self._chunk = b""
            # A request with a known head, whose body is on its way.
            self._held = b""
            self._body_timer: asyncio.TimerHandle | None = None
            # When the last one was answered; one timer for all of them looks at it.
            self._idle_since = 0.0
            self._idle_timer: asyncio.TimerHandle | None = None

        # ------------------------------------------------------------------------------------------- time and size

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            drain.watch(self.connections, self.loop)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            self._stop_body_timer()
            if self._idle_timer is not None:
                self._idle_timer.cancel()
                self._idle_timer = None
            super().connection_lost(exc)

        def resume_writing(self) -> None:
            drain.progressed(self.transport)
            super().resume_writing()

        def data_received(self, data: bytes) -> None:
            if self._in_head and not self._n_head_bytes:
                if self._held:
                    data, self._held = self._held + data, b""
                if self._answer_known(data):
                    return
                self._chunk = data
            self._parse(data)
            self._chunk = b""
            if self._quick is not None:
                self._await_body()
            else:
                self._stop_body_timer()

        def _answer_known(self, data: bytes) -> bool:
            """Answer a request whose head came before; tell whether the parser has nothing to do with these bytes."""
            known, end = heads.find(data)
            if known is None or not self._is_free():
                return False
            n_missing = end + known.n_body - len(data)
            if n_missing > 0:
                self._held = data
                self._stop_timer()
                self._await_body()
                return True
            if n_missing < 0:
                return False
            answer = app.answer_known(known, data[end:])
            if answer is None:
                return False
            self._stop_timer()
            self._stop_body_timer()
            self._unset_keepalive_if_required()
            self._write(answer, False)
            return True

        def _parse(self, data: bytes) -> None:
            self._n_chunk_bytes = len(data)
            if self._in_head:
                self._n_head_bytes += self._n_chunk_bytes
            super().data_received(data)
            if not self._in_head or not self._n_head_bytes or self.transport.is_closing():
                self._stop_timer()
            elif self._n_head_bytes > limits.max_head_bytes:
                self.send_400_response("The headers are too large.")
            else:
                self._await_head()

        def on_message_begin(self) -> None:
            # The scope is made when it is known that one is needed.
            self.url = b""
            self.expect_100_continue = False
            self.headers = []
            self._in_head = True
            self._n_head_bytes = self._n_chunk_bytes

        def _check_head(self) -> None:
            """Refuse a head that came in one piece and is too large; the parser turns the error into status 400."""
            n_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if n_bytes > limits.max_head_bytes:
                raise ValueError("the headers are too large")

        def _await_head(self) -> None:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(limits.header_s, self._give_up)

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _await_body(self) -> None:
            """Give the body of a quick request its time; that of others is ASGI's to wait for."""
            if self._body_timer is None:
                self._body_timer = self.loop.call_later(limits.body_s, self._refuse_body)

        def _stop_body_timer(self) -> None:
            if self._body_timer is not None:
                self._body_timer.cancel()
                self._body_timer = None

        def _give_up(self) -> None:
            self._head_timer = None
            if not self.transport.is_closing():
                self.transport.close()

        def _refuse_body(self) -> None:
            self._body_timer = None
            if not self.transport.is_closing():
                self._write(app.refuse(None, "other", body_is_late(), time.perf_counter()), True)

        # ------------------------------------------------------------------------------------------- quick answers

        def on_headers_complete(self) -> None:
            self._in_head = False
            if self._n_head_bytes > limits.max_head_bytes:
                self._check_head()
            if self._is_free():
                method = self.parser.get_method().decode("ascii")
                path, _, query = self.url.partition(b"?")
                if app.is_quick(method, path):
                    self._quick = (method, path, query)
                    return
            self._begin_cycle()

        def _begin_cycle(self) -> None:
            """Let uvicorn begin with the request whose head is here."""
            headers, url, expects = self.headers, self.url, self.expect_100_continue
            super().on_message_begin()
            self.headers += headers  # the list that is in the scope as well
            self.url, self.expect_100_continue = url, expects
            super().on_headers_complete()
            # For an answer that nobody takes: `close` would wait until the rest of it is taken.
            self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}

        def _is_free(self) -> bool:
            """Tell whether nothing stands in the way of a quick answer: no request before, none that is special."""
            return (
                (self.cycle is None or self.cycle.response_complete)
                and not self.pipeline
                and not self.expect_100_continue
                and not self.parser.should_upgrade()
                and len(self.connections) < limits.max_connections
                and len(self.tasks) < limits.max_connections
                and not self.flow.write_paused
            )

        def on_body(self, body: bytes) -> None:
            if self._quick is None:
                super().on_body(body)
                return
            self._quick_body += body
            if len(self._quick_body) > limits.inline_body_bytes:
                self._go_slow()

        def on_message_complete(self) -> None:
            self._in_head = True
            self._n_head_bytes = 0
            if self._quick is None:
                super().on_message_complete()
                return
            method, path, query = self._quick
            body = bytes(self._quick_body)
            stays = self.parser.should_keep_alive()
            head = self._head_before(body) if stays else b""
            answer = app.answer_now(method, path, query, self.headers, body, self.scheme or "http", head)
            if answer is None:
                self._go_slow()
                super().on_message_complete()
                return
            self._quick = None
            self._quick_body.clear()
            self._write(answer, not stays)

        def _head_before(self, body: bytes) -> bytes:
            """Return the bytes of the head when the chunk was that, and this body as it is, and nothing else."""
            chunk, n_body = self._chunk, b"%d" % len(body)
            head = chunk[: len(chunk) - len(body)]
            if len(head) > MAX_HEAD_BYTES or head.find(END) != len(head) - len(END):
                return b""
            announced = [value for name, value in self.headers if name in (b"content-length", b"transfer-encoding")]
            return head if announced == ([n_body] if body else []) else b""

        def _go_slow(self) -> None:
            """Hand the request on to ASGI after all."""
            body, self._quick_body, self._quick = self._quick_body, bytearray(), None
            self._begin_cycle()
            if body:
                super().on_body(bytes(body))

        def _write(self, answer: Answer, closes: bool) -> None:
            defaults = dates.of(self.server_state.default_headers)
            if answer.content_type is not None and not answer.more and not closes:
                start = _START.get((answer.status, answer.content_type)) or _start(answer.status, answer.content_type)
                body = answer.body
                self.transport.write(b"%b%d\r\n%b\r\n%b" % (start, len(body), defaults, body))
            else:
                pieces = [_STATUS[answer.status], defaults]
                for name, value in answer.headers:
                    if name == b"connection":
                        closes = True
                    else:
                        pieces += (name, b": ", value, b"\r\n")
                pieces += (b"connection: close\r\n\r\n" if closes else b"\r\n", answer.body)
                self.transport.write(b"".join(pieces))
            self.server_state.total_requests += 1
            if closes:
                self.transport.close()
                return
            self._idle_since = self.loop.time()
            if self._idle_timer is None:
                self._idle_timer = self.loop.call_later(limits.keep_alive_s, self._look_idle)

        def _look_idle(self) -> None:
            """Close the connection when nothing has come for long."""
            self._idle_timer = None
            if self.transport.is_closing() or self.timeout_keep_alive_task is not None:
                return
            left = self._idle_since + limits.keep_alive_s - self.loop.time()
            busy = self._held or self._quick is not None or not (self.cycle is None or self.cycle.response_complete)
            if busy or left > 0:
                self._idle_timer = self.loop.call_later(max(left, 1.0), self._look_idle)
            else:
                self.transport.close()

    return Protocol
