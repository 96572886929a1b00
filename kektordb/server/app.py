"""What happens with a request? The ASGI application: door, route, body, handler, answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec

from kektordb import errors
from kektordb.database import Database
from kektordb.server.calls import Call, Raw, Reply, Table
from kektordb.server.encodings import JSON, MSGPACK, check_depth, encode
from kektordb.server.errors import HttpError, body_is_late, explain
from kektordb.server.heads import Heads, Known
from kektordb.server.holding import Held
from kektordb.server.options import Options
from kektordb.server.replies import Failure
from kektordb.server.routes import ROUTES, is_absent
from kektordb.server.security import NOBODY, WRITER, Door
from kektordb.server.service import Service
from kektordb.server.streaming import Stream, Streams, gone

__all__ = ["ABORT", "Answer", "Application", "create_app"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

_log = logging.getLogger("kektordb.server")

TEXT = b"text/plain; charset=utf-8"
NO_CONTENT = 204
# An extension of the scope: what ends the connection at once.
ABORT = "kektordb.abort"


class Disconnected(Exception):
    """Nobody waits for the answer any more."""


class Answer:
    """Status, type and body of an answer, and what its head holds beside their type and length."""

    __slots__ = ("body", "content_type", "more", "status")

    def __init__(self, status: int, content_type: bytes | None, body: bytes, more: Headers = ()) -> None:
        self.status = status
        self.content_type = content_type
        self.body = body
        self.more = more

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All of the head."""
        if self.content_type is None:
            return [*self.more]
        length = b"%d" % len(self.body)
        return [(b"content-type", self.content_type), (b"content-length", length), *self.more]


def create_app(database: Database, options: Options | None = None) -> Application:
    """Return the ASGI application that serves a database. It does not close the database.

    Parameters
    ----------
    database : Database
    options : Options, optional
        Who may call, and how much; by default anybody on this machine.
    """
    return Application(database, Options() if options is None else options)


class Application:
    """An ASGI application; it may be mounted under a path of another one.

    Made by `create_app`. `close` waits for what runs in threads; a server that speaks the lifespan protocol calls it.
    """

    def __init__(self, database: Database, options: Options) -> None:
        routes = [route for route in ROUTES if options.profiling or route.path != "/debug/profile"]
        self.service = Service(database, options, routes)
        self.door = Door(options)
        self.table = Table(routes)
        self.heads = Heads()
        self._open = frozenset(route.path.encode() for route in routes if route.is_open)
        self._limits = options.limits
        self._threads = ThreadPoolExecutor(options.limits.n_threads, thread_name_prefix="kektordb-http")
        self._streams = Streams(options.limits)
        self._held = Held(database._store, options.limits.max_held)

    def release(self) -> None:
        """Answer those who wait for something new; the server is about to end."""
        self._held.release()

    def close(self) -> None:
        """Wait for what runs in threads."""
        self._held.close()
        self._threads.shutdown()
        self._streams.close()
        self.service.jobs.close()
        if self.service.feed is not None:
            self.service.feed.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        started = time.perf_counter()
        try:
            answer = await self._answer(scope, receive, send, started)
        except Disconnected:
            return
        if answer is None:
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self.release()
                await asyncio.to_thread(self.close)
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send, started: float) -> Answer | None:
        """Return the answer; None when it was sent already, as far as that went."""
        call = None
        try:
            headers = scope["headers"]
            call = self.open(scope["method"], _path(scope), scope["query_string"], headers, scope["scheme"])
            body: bytes | bytearray | None = None
            if call.route.takes is not None:
                body = await self._read(receive)
            if call.route.streams:
                await self._stream(call, scope, receive, send, started)
                return None
            if call.route.holds is not None:
                await self._hold(call, receive)
            if self.takes_long(call, body):
                done = await self._in_thread(call, body)
            else:
                done = self.perform(call)
        except Disconnected:
            raise
        except Exception as error:  # the outermost of this request
            return self.refuse(call, scope["method"], error, started)
        return self.finish(call, done, started)

    async def _read(self, receive: Receive) -> bytes | bytearray:
        limit, body = self._limits.max_body_bytes, bytearray()
        try:
            async with asyncio.timeout(self._limits.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Disconnected
                    part: bytes = message.get("body", b"")
                    if len(body) + len(part) > limit:
                        raise self.door.too_large()
                    if not message.get("more_body", False):
                        return body + part if body else part
                    body += part
        except TimeoutError:
            raise body_is_late() from None

    async def _in_thread(self, call: Call, body: bytes | bytearray | None) -> tuple[int, Any, bytes]:
        service = self.service
        if service.n_waiting >= self._limits.max_waiting:
            raise HttpError(503, "too many requests are waiting", headers=((b"retry-after", b"1"),))
        service.n_waiting += 1
        loop = asyncio.get_running_loop()

        def work() -> tuple[int, Any, bytes]:
            if call.body is None:
                self.decode(call, body)
            return self.perform(call)

        def leave(_: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # The loop has ended, and with it the count.
                loop.call_soon_threadsafe(self._left)

        future = self._threads.submit(work)
        future.add_done_callback(leave)
        wrapped = asyncio.wrap_future(future)
        ended, _ = await asyncio.wait((wrapped,), timeout=self._limits.request_s)
        if not ended:
            raise HttpError(
                503, "the request takes too long; a write may still be done", headers=((b"retry-after", b"1"),)
            )
        return wrapped.result()

    def _left(self) -> None:
        self.service.n_waiting -= 1

    async def _hold(self, call: Call, receive: Receive) -> None:
        """Hold a request back, without a thread, until there is something for it or its time is over."""
        holds = call.route.holds
        assert holds is not None
        if holds(call, 0.0) <= 0:
            return
        left = asyncio.ensure_future(gone(receive))
        try:
            await self._held.hold(partial(holds, call), left)
            if left.done():
                raise Disconnected
        finally:
            left.cancel()

    async def _stream(self, call: Call, scope: Scope, receive: Receive, send: Send, started: float) -> None:
        """Let a handler send its answer itself. Raises what keeps it from beginning."""
        is_head = scope["method"] == "HEAD"
        produce = call.route.handler(call)
        stream = Stream(receive, send, is_head, self._limits.stall_s)
        try:
            try:
                await self._streams.run(produce, stream)
            except Exception as error:
                if stream.is_gone:
                    raise Disconnected from None
                if not stream.begun:
                    raise
                if not is_head:
                    # Without an end: the connection closes, and the other side sees that something is missing.
                    _log.warning("%s was cut short: %s", call.route.path, type(error).__name__)
                    if (abort := (scope.get("extensions") or {}).get(ABORT)) is not None:
                        abort["call"]()
                    return
            await stream.end()
        finally:
            stream.close()
        self.service.metrics.observe(call.route.method, call.route.path, 200, time.perf_counter() - started)

    # --------------------------------------------------------------------------------- the steps, without waiting

    def is_quick(self, method: str, path: bytes) -> bool:
        """Tell whether a request may have its answer from `answer_now`."""
        return self.table.is_quick(method, path)

    def answer_now(
        self, method: str, path: bytes, query_string: bytes, headers: Headers, body: bytes, scheme: str, head: bytes
    ) -> Answer | None:
        """Return the answer to a whole request, or None when it takes a thread; nothing was done then.

        `head` is what was parsed, if nothing but the body came with it: it is remembered when it was let in.
        """
        started = time.perf_counter()
        try:
            call = self.open(method, path, query_string, headers, scheme)
        except Exception as error:  # the outermost of this request
            return self.refuse(None, method, error, started)
        if head:
            self.heads.keep(head, Known(call, method, len(body)))
        return self._answer_call(call, method, body, started)

    def answer_known(self, known: Known, body: bytes) -> Answer | None:
        """Return the answer to a request whose head came before; see `answer_now`."""
        return self._answer_call(known.call(), known.method, body, time.perf_counter())

    def _answer_call(self, call: Call, method: str, body: bytes, started: float) -> Answer | None:
        try:
            if self.takes_long(call, body):
                return None
            done = self.perform(call)
        except Exception as error:  # the outermost of this request
            return self.refuse(call, method, error, started)
        return self.finish(call, done, started)

    def open(self, method: str, path: bytes, query_string: bytes, headers: Headers, scheme: str = "http") -> Call:
        """Return the call that the head of a request begins. Raises HttpError."""
        visitor = self.door.admit(headers, scheme)
        if visitor.may == NOBODY and path not in self._open:
            raise self.door.refuse(tuple(headers))
        try:
            route, args = self.table.find(method, path)
        except HttpError as error:
            if error.status == 404 and is_absent(path):
                raise HttpError(501, "this part of the original is not served here") from None
            raise
        if route.writes and visitor.may != WRITER:
            raise HttpError(403, "this token may only read", "ReadOnlyDatabase")
        call = Call(self.service, route, args, query_string)
        call.sends_msgpack = visitor.sends_msgpack
        call.wants_msgpack = visitor.wants_msgpack
        return call

    def takes_long(self, call: Call, body: bytes | bytearray | None) -> bool:
        """Decode a small body, and tell whether the rest should run in a thread."""
        threaded = call.route.threaded
        if body is not None and call.route.takes is not None:
            if len(body) > self._limits.inline_body_bytes:
                return True
            self.decode(call, body)
        return threaded if isinstance(threaded, bool) else threaded(call)

    def decode(self, call: Call, body: bytes | bytearray | None) -> None:
        """Turn the body into its struct. Raises HttpError, or what `explain` knows."""
        route = call.route
        if route.takes is None or body is None:
            return
        if call.sends_msgpack:
            assert route.from_msgpack is not None
            try:
                call.body = route.from_msgpack(body)
            except msgspec.DecodeError as error:
                raise HttpError(400, f"invalid msgpack: {error}") from None
            return
        assert route.from_json is not None
        check_depth(body, self._limits.max_depth)
        call.body = route.from_json(body)

    def perform(self, call: Call) -> tuple[int, Any, bytes]:
        """Run the handler; return status, content type and body."""
        value = call.route.handler(call)
        status = 200
        if type(value) is Reply:
            status, value = value.status, value.value
            if status == NO_CONTENT:
                return status, None, b""
        if type(value) is Raw:
            return status, value.content_type, value.body
        if call.wants_msgpack:
            return status, MSGPACK, encode(value, True)
        as_base64 = bool(call.query_string) and call.query("vectors") == "base64"
        return status, JSON, encode(value, False, as_base64)

    def finish(self, call: Call, done: tuple[int, Any, bytes], started: float) -> Answer:
        """Return the answer that a handler led to, and count it."""
        status, content_type, body = done
        route = call.route
        self.service.metrics.observe(route.method, route.path, status, time.perf_counter() - started)
        return Answer(status, content_type, body)

    def refuse(self, call: Call | None, method: str, error: Exception, started: float) -> Answer:
        """Return the answer to an error, count it, and log what is nobody's fault but ours."""
        if isinstance(error, errors.ReadOnlyDatabase) and self.service.follows:
            error = HttpError(
                403, "this server follows another one: write to that, or promote this", "ReadOnlyDatabase"
            )
        known = explain(error)
        path = "other" if call is None else call.route.path
        if known.status == 500:
            _log.error("%s %s failed: %s at %s", method, path, type(error).__name__, _place(error))
        if known.plain:
            content_type, body = TEXT, f"{known.text}\n".encode()
        elif call is not None and call.wants_msgpack:
            failure = Failure(known.text)
            if known.kind:
                failure.type = known.kind
            if known.position is not None:
                failure.position = known.position
            content_type, body = MSGPACK, encode(failure, True)
        else:
            content_type, body = JSON, encode(Failure(known.text), False)
        if method not in METHODS:
            method = "other"
        self.service.metrics.observe(method, path, known.status, time.perf_counter() - started)
        return Answer(known.status, content_type, body, known.headers)


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


def _path(scope: Scope) -> bytes:
    """Return the path as it came, percent-encoded, below the place where the application is mounted."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]).encode() if raw is None else raw.partition(b"?")[0]
    root = scope.get("root_path", "")
    return path.removeprefix(quote(root).encode()) if root else path


def _place(error: BaseException) -> str:
    """Return where an error was raised, without the file's path and without values."""
    places, step = [], error.__traceback__
    while step is not None:
        frame = step.tb_frame
        places.append(f"{frame.f_globals.get('__name__', '?')}:{step.tb_lineno}")
        step = step.tb_next
    return " > ".join(places[-6:])
