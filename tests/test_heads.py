"""Heads of requests that came before are not parsed again, and mean the same; bodies that do not come are given up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, read_answer

from kektordb.server.calls import Call
from kektordb.server.heads import MAX_HEADS, Heads, Known

SERVER = """
import sys
from kektordb.server import protocol
from kektordb.server.serving import Limits, Settings, serve
serve(Settings(address="127.0.0.1:0", directory=sys.argv[1], token="secret", read_only_token="reader",
               limits=Limits(header_s=0.5, body_s=0.5)))
"""
SEARCH = "/vector/actions/search"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(["-c", SERVER, str(tmp_path_factory.mktemp("heads") / "db")])
    add = "/vector/actions/add"
    served.call("POST", "/vector/actions/create", {"index_name": "a"}, TOKEN)
    served.call("POST", add, {"index_name": "a", "id": "x", "vector": [1, 2]}, TOKEN)
    served.call("POST", add, {"index_name": "a", "id": "y", "vector": [5, 5]}, TOKEN)
    yield served
    assert served.end() == 0
    assert "Traceback" not in "".join(served.log)


TOKEN = b"authorization: Bearer secret\r\n"


def request(k: int = 1, *headers: bytes, token: bytes = TOKEN, at: int = 1) -> bytes:
    body = json.dumps({"index_name": "a", "k": k, "query_vector": [at, 2]}).encode()
    lines = [f"POST {SEARCH} HTTP/1.1".encode(), b"host: localhost", *headers, b"content-length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n" + token + b"\r\n" + body


def body_of(answer: bytes) -> object:
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
    return json.loads(answer.partition(b"\r\n\r\n")[2])["results"]


def test_requests_with_known_heads_are_answered_by_their_bodies(served: Served) -> None:
    with served.connect() as connection:
        for at, found in ((1, "x"), (1, "x"), (5, "y"), (9, "y"), (1, "x")):
            connection.sendall(request(at=at))
            assert body_of(read_answer(connection)) == [found]
        first, second = request(), request(at=5)
        # The same head, and a body of the same size that is no JSON, or leads to another status.
        connection.sendall(first[:-1] + b"]")
        assert read_answer(connection).startswith(b"HTTP/1.1 400 ")
        connection.sendall(first.replace(b'"a"', b'"b"'))
        assert read_answer(connection).startswith(b"HTTP/1.1 404 ")
        connection.sendall(second)
        assert body_of(read_answer(connection)) == ["y"]


@pytest.mark.parametrize("cut", [3, 40, 130, -20, -1])
def test_a_known_head_and_its_body_may_come_in_pieces(served: Served, cut: int) -> None:
    with served.connect() as connection:
        connection.sendall(request())
        read_answer(connection)
        whole = request(at=5)
        for begin, end in ((0, cut), (cut, len(whole))):
            connection.sendall(whole[begin:end])
            time.sleep(0.02)  # so that they come one by one
        assert body_of(read_answer(connection)) == ["y"]


def test_byte_by_byte(served: Served) -> None:
    with served.connect() as connection:
        for _ in range(2):
            connection.sendall(request())
            read_answer(connection)
        for byte in request(at=5):
            connection.sendall(bytes([byte]))
        assert body_of(read_answer(connection)) == ["y"]


def test_several_at_once_are_answered_in_order(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(request())
        read_answer(connection)
        get = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
        end = request(1, b"connection: close", at=5)
        connection.sendall(request() + request(at=5) + get + request() + end)
        data = b""
        while part := connection.recv(65_536):
            data += part
    answers = [answer.partition(b"\r\n\r\n")[2] for answer in data.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert [answer.decode().strip() for answer in answers] == [
        '{"results":["x"]}',
        '{"results":["y"]}',
        '{"status":"ok"}',
        '{"results":["x"]}',
        '{"results":["y"]}',
    ]


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (TOKEN, b"200"),
        (b"", b"401"),
        (b"authorization: Bearer wrong!\r\n", b"401"),
        (b"authorization: Bearer reader\r\n", b"200"),
        (TOKEN + b"origin: http://evil.example\r\n", b"403"),
    ],
)
def test_a_known_head_lets_nobody_else_in(served: Served, token: bytes, status: bytes) -> None:
    for _ in range(3):
        with served.connect() as connection:
            connection.sendall(request())
            assert body_of(read_answer(connection)) == ["x"]
            connection.sendall(request(token=token))
            assert read_answer(connection)[9:12] == status
    assert served.raw(request().replace(b"host: localhost", b"host: evil.info"))[9:12] == b"421"


def test_chunks_and_expectations_are_never_taken_for_a_known_head(served: Served) -> None:
    body = json.dumps({"index_name": "a", "k": 1, "query_vector": [5, 2]}).encode()
    head = f"POST {SEARCH} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n".encode() + TOKEN + b"\r\n"
    with served.connect() as connection:
        for _ in range(3):
            connection.sendall(head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
            assert body_of(read_answer(connection)) == ["y"]
        for _ in range(2):
            connection.sendall(request(1, b"expect: 100-continue"))
            answer = read_answer(connection)
            assert answer.startswith((b"HTTP/1.1 100", b"HTTP/1.1 200"))
            if answer.startswith(b"HTTP/1.1 100") and b"200 OK" not in answer:
                read_answer(connection)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_body_that_does_not_come_is_given_up(served: Served, is_known: bool) -> None:
    with served.connect() as connection:
        for _ in range(2 if is_known else 0):
            connection.sendall(request(7))
            read_answer(connection)
        marked = request(7) if is_known else request(7, b"x-never: seen")
        connection.sendall(marked[:-1])
        began = time.monotonic()
        assert read_answer(connection).startswith(b"HTTP/1.1 408 ")
        assert connection.recv(1000) == b""
        assert 0.3 < time.monotonic() - began < 8


def test_heads_are_few_and_keep_no_bodies(tmp_path: Path) -> None:
    call = Call(None, None, (), b"")  # type: ignore[arg-type]
    heads = Heads()
    known = Known(call, "POST", 3)
    call.body = object()
    assert known.call().body is None
    for i in range(3 * MAX_HEADS):
        heads.keep(b"%d\r\n\r\n" % i, known)
        assert len(heads) <= MAX_HEADS
    assert heads.find(b"%d\r\n\r\nabc" % (3 * MAX_HEADS - 1)) == (known, len(str(3 * MAX_HEADS - 1)) + 4)
    assert heads.find(b"5\r\n\r\nabc")[0] is None
    assert heads.find(b"abc")[0] is None
    assert heads.find(b"")[0] is None
