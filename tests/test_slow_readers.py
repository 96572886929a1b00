"""Clients that ask and then do not read: their connections end, their answers are given up, others notice nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from served import read_answer

import kektordb
from kektordb.server import Limits, Options, create_app

pytest.importorskip("uvicorn", reason="the extra `server` is not installed")
pytest.importorskip("httptools", reason="the extra `server` is not installed")

import uvicorn

from kektordb.server.serving import config_for

# More than the kernel takes for both sides of a connection.
N_BYTES = 24 << 20
LARGE = b"GET /kv/large HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Server:
    """A server in a thread, that holds one large value."""

    def __init__(self, database: kektordb.Database, write_s: float) -> None:
        database.kv["large"] = b"x" * N_BYTES
        database.kv["small"] = b"y"
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.server = uvicorn.Server(config_for(create_app(database, Options(limits=Limits(write_s=write_s)))))
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def connect(self) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", self.port))
        return connection

    @property
    def n_connections(self) -> int:
        return len(self.server.server_state.connections)

    def end(self) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    for _ in range(30_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it does not happen")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[kektordb.Database]:
    monkeypatch.setattr("kektordb.server.draining.MIN_BYTES_PER_S", 1 << 30)  # by default 24 MB may take half an hour
    with kektordb.open(":memory:") as database:
        yield database


@pytest.mark.parametrize("more", [b"", b"connection: close\r\n"], ids=["kept", "closing"])
def test_who_never_reads_is_cut_off(database: kektordb.Database, more: bytes) -> None:
    server = Server(database, write_s=0.05)
    with server.connect() as silent:
        silent.sendall(LARGE.replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n"))
        until(lambda: server.n_connections == 1)
        with server.connect() as other:
            other.sendall(LARGE.replace(b"large", b"small"))
            assert json.loads(read_answer(other).partition(b"\r\n\r\n")[2])["value"] == "y"
        until(lambda: server.n_connections == 0)
        assert len(read_answer(silent)) < N_BYTES
    server.end()


def test_who_asks_on_and_on_without_reading_is_cut_off(database: kektordb.Database) -> None:
    """Answers that are given at once, from the parser's callback, pile up as well."""
    server = Server(database, write_s=0.05)
    database.create_index("a", dim=512).add("p", [0.123456] * 512)
    body = json.dumps({"index_name": "a", "k": 1, "query_vector": [1] * 512, "include": ["vector"]}).encode()
    head = f"POST /vector/actions/search-with-scores HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    with server.connect() as silent:
        silent.settimeout(0.2)
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(20_000):
                silent.sendall(head.encode() + body)
        until(lambda: server.n_connections == 0)
    server.end()


def test_who_reads_slowly_but_surely_gets_all(database: kektordb.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer has the longer the larger it is."""
    monkeypatch.setattr("kektordb.server.draining.MIN_BYTES_PER_S", 1 << 19)
    server = Server(database, write_s=0.05)
    with server.connect() as slow:
        slow.sendall(LARGE)
        n_bytes = 0
        while n_bytes < N_BYTES:
            part = slow.recv(64 << 10)
            assert part
            n_bytes += len(part)
            if n_bytes % 7 == 0:
                threading.Event().wait(0.002)
    server.end()


def test_a_small_answer_that_nobody_takes_ends_with_its_connection(database: kektordb.Database) -> None:
    """Nothing waits on our side: the kernel has it; the connection ends like one that lies idle."""
    server = Server(database, write_s=0.05)
    with server.connect() as silent:
        silent.sendall(LARGE.replace(b"large", b"small"))
        until(lambda: server.server.server_state.total_requests == 1)
        assert server.n_connections == 1
    until(lambda: server.n_connections == 0)
    server.end()
