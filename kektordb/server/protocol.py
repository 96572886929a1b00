"""How does a connection behave that sends its headers slowly, or too many of them? It is closed."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from kektordb.server.options import Limits

__all__ = ["protocol_for"]


def protocol_for(limits: Limits) -> type[HttpToolsProtocol]:
    """Return uvicorn's HTTP protocol with bounds on the time and size of the head of a request.

    uvicorn bounds neither: a client that sends a byte now and then, or headers without end, holds a connection or
    memory as long as it likes.
    """

    class BoundedProtocol(HttpToolsProtocol):
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
            self._head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._in_head:
                self._n_head_bytes += len(data)
            super().data_received(data)
            if self.transport.is_closing() or not self._in_head:
                self._stop_timer()
            elif self._n_head_bytes > limits.max_head_bytes:
                self.send_400_response("The headers are too large.")
            else:
                self._await_head()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_head = True
            self._n_head_bytes = 0

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

        def _count(self, n_bytes: int) -> None:
            """Count what the parser has taken apart; it turns the error into status 400."""
            self._n_head_bytes += n_bytes
            if self._n_head_bytes > 2 * limits.max_head_bytes:
                raise ValueError("the headers are too large")

        def _await_head(self) -> None:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(limits.header_s, self._give_up)

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _give_up(self) -> None:
            self._head_timer = None
            if not self.transport.is_closing():
                self.transport.close()

    return BoundedProtocol
