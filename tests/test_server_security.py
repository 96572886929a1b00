"""Who may call the server, how much, and what attacks come to: tokens, names, limits, raw sockets."""

from __future__ import annotations

import gzip
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from served import Caller, Served, read_answer

import kektordb
from kektordb.server import Limits, Options, create_app
from kektordb.server.encodings import check_depth
from kektordb.server.errors import HttpError

ACTIONS = "/vector/actions"


@pytest.fixture
def database() -> Iterator[kektordb.Database]:
    with kektordb.open(":memory:") as database:
        yield database


# ------------------------------------------------------------------------------------------------------- token


def test_without_the_token_nothing_is_answered_but_health(database: kektordb.Database) -> None:
    nobody = Caller(create_app(database, Options(token="secret")))
    for path in ("/kv/a", "/nothing", "/metrics", "/openapi.json", "/system/stats"):
        answer = nobody("GET", path)
        assert (answer.status, answer.headers[b"content-type"]) == (401, b"text/plain; charset=utf-8")
        assert answer.body == b"Unauthorized: missing Authorization header\n"
    assert nobody("GET", "/healthz").body == b'{"status":"ok"}\n'
    assert nobody("GET", "/docs").status == 200
    assert nobody("POST", "/healthz").status == 405
    for given in (b"Bearer wrong", b"secre", b"secret\xe4", b"", b"Bearer ", b"Basic secret"):
        answer = nobody("GET", "/kv/a", headers=[(b"authorization", given)])
        assert (answer.status, answer.body) == (401, b"Unauthorized: invalid token\n")
    for given in (b"Bearer secret", b"bearer secret", b"secret"):
        assert nobody("GET", "/kv/a", headers=[(b"authorization", given)]).status == 404
    nobody.close()


def test_a_token_for_reading_reads(database: kektordb.Database) -> None:
    app = create_app(database, Options(token="all", read_only_token="some"))
    reader, writer = Caller(app, token="some"), Caller(app, token="all")
    writer.ok("POST", f"{ACTIONS}/create", {"index_name": "a"})
    writer.ok("POST", "/kv/k", {"value": "v"})

    assert reader.ok("GET", "/kv/k")["value"] == "v"
    assert reader.ok("POST", f"{ACTIONS}/search", {"index_name": "a", "query_vector": [1]}) == {"results": []}
    for method, path in [
        ("POST", "/kv/k"),
        ("DELETE", "/kv/k"),
        ("DELETE", "/vector/indexes/a"),
        ("POST", "/system/save"),
    ]:
        assert reader(method, path, {}).status == 403
    for route in app.table.routes:
        if route.method in ("PUT", "DELETE"):
            assert route.writes
    reader.close()
    writer.close()


# ------------------------------------------------------------------------------------------- names of the server


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 404),
        (b"LOCALHOST:9091", 404),
        (b"127.0.0.1:80", 404),
        (b"[::1]:9091", 404),
        (b"evil.example", 421),
        (b"localhost.evil.example", 421),
        (b"evil.example:9091", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"", 421),
        (b"localhost:9091:1", 421),
    ],
)
def test_only_names_of_this_machine_are_answered(database: kektordb.Database, host: bytes, status: int) -> None:
    call = Caller(create_app(database), host=host)
    for _ in range(2):  # the second one is remembered
        assert call("GET", "/kv/a").status == status
    call.close()


def test_two_hosts_or_none_are_refused(database: kektordb.Database) -> None:
    call = Caller(create_app(database))
    assert call("GET", "/kv/a", headers=[(b"host", b"localhost")]).status == 400
    call._headers = []
    assert call("GET", "/kv/a").status == 400
    call.close()


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"http://localhost:9091", 404),
        (b"http://app.example", 404),
        (b"http://localhost:3000", 403),
        (b"https://localhost:9091", 403),
        (b"null", 403),
        (b"http://evil.example", 403),
        (b"", 403),
    ],
)
def test_pages_of_other_origins_may_not_call(database: kektordb.Database, origin: bytes, status: int) -> None:
    call = Caller(create_app(database, Options(allowed_origins=("http://app.example",))))
    answer = call("GET", "/kv/a", headers=[(b"origin", origin)])
    assert answer.status == status
    assert not any(name.startswith(b"access-control") for name in answer.headers)
    call.close()


# ------------------------------------------------------------------------------------------------------ limits


def test_a_body_is_counted_while_it_is_read(database: kektordb.Database) -> None:
    call = Caller(create_app(database, Options(limits=Limits(max_body_bytes=1000))))
    full = json.dumps({"value": "x" * 980}).encode().ljust(1000)
    assert call("POST", "/kv/a", parts=[full[:500], full[500:]]).status == 200
    assert call("POST", "/kv/a", full + b" ").status == 413
    parts = [b" " * 600] * 1000
    answer = call("POST", "/kv/a", parts=parts)
    assert (answer.status, answer.headers[b"connection"]) == (413, b"close")
    for announced in (b"1001", b"99999999999999999999999", b"-1", b"1e9"):
        assert call("POST", "/kv/a", b"{}", headers=[(b"content-length", announced)]).status == 413
    call.close()


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (b"[" * 5 + b"]" * 5, False),
        (b"[" * 4 + b"]" * 4, True),
        (b'{"a":[{"b":[1]}]}', True),
        (b'{"a":[{"b":[{}]}]}', False),
        (b'["[[[[[[[[", "{{{{{{"]', True),
        (b'["\\"[[[[[[[", "\\\\", [[["x]]]]]]"]]]]', True),
        (b'["\\\\", [[[["]]]]]"]]]]]', False),
        (b"[" * 100_000, False),
        (b"[]" * 10_000, True),
        (b"[" + b",".join([b"[1]"] * 1000) + b"]", True),
    ],
)
def test_the_depth_of_json_is_bounded(body: bytes, fits: bool) -> None:
    if fits:
        check_depth(body, 4)
        return
    with pytest.raises(HttpError, match="nested"):
        check_depth(body, 4)


def test_what_may_be_asked_at_once_is_bounded(database: kektordb.Database) -> None:
    limits = Limits(max_batch=3, max_dim=4, max_keys=5, max_k=7, max_depth=8)
    call = Caller(create_app(database, Options(limits=limits)))
    call.ok("POST", f"{ACTIONS}/create", {"index_name": "a"})

    def add(**item: Any) -> int:
        return call("POST", f"{ACTIONS}/add", {"index_name": "a", "id": "x", "vector": [1], **item}).status

    items = [{"id": str(i), "vector": [1]} for i in range(4)]
    assert call("POST", f"{ACTIONS}/add-batch", {"index_name": "a", "vectors": items}).status == 400
    assert (
        call("POST", f"{ACTIONS}/add-batch", {"index_name": "a", "ids": list("abcd"), "matrix": [1] * 4}).status == 400
    )
    assert call("POST", f"{ACTIONS}/get-vectors", {"index_name": "a", "ids": list("abcd")}).status == 400
    assert call("POST", f"{ACTIONS}/create", {"index_name": "b", "dim": 5}).status == 400
    assert call("POST", f"{ACTIONS}/search", {"index_name": "a", "k": 8, "query_vector": [1]}).status == 400
    assert add(vector=[1] * 5) == 400
    assert add(metadata={str(i): 1 for i in range(6)}) == 400
    assert add(metadata={"a": {"b": 1, "c": [{"d": 1}, {"e": 1, "f": 2}]}}) == 400
    assert add(metadata={"a": [[[[[[[[1]]]]]]]]}) == 400
    assert call.ok("GET", "/vector/indexes/a")["vector_count"] == 0
    assert add(metadata={str(i): 1 for i in range(5)}) == 200
    call.close()


def test_too_many_that_wait_are_sent_away(database: kektordb.Database) -> None:
    call = Caller(create_app(database, Options(limits=Limits(max_waiting=0))))
    answer = call("POST", "/kv/a", {"value": "x"})
    assert (answer.status, answer.headers[b"retry-after"]) == (503, b"1")
    assert call("GET", "/kv/a").status == 404
    call.close()


def test_an_answer_that_takes_too_long_is_given_up(database: kektordb.Database) -> None:
    call = Caller(create_app(database, Options(limits=Limits(request_s=0.0), profiling=True)))
    assert call("GET", "/debug/profile?seconds=1").status == 503
    call.close()


def test_a_profile_shows_where_threads_are(database: kektordb.Database) -> None:
    call = Caller(create_app(database, Options(profiling=True)))
    lines = call("GET", "/debug/profile?seconds=1").body.decode().splitlines()
    assert any("run_forever" in line for line in lines)
    assert all(line.rsplit(" ", 1)[1].isdigit() for line in lines)
    call.close()


# ------------------------------------------------------------------------------------------------------- errors


def test_a_fault_of_ours_tells_nothing(
    database: kektordb.Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "secret words", "/secret/path")

    call = Caller(create_app(database, Options(token="secret-token")), token="secret-token")
    monkeypatch.setattr(kektordb.Database, "save", fail)
    with caplog.at_level(logging.DEBUG, "kektordb.server"):
        answer = call("POST", "/system/save", {"secret": "body"})

    assert (answer.status, answer.body) == (500, b'{"error":"Internal Server Error"}\n')
    assert "OSError" in caplog.text
    assert "/system/save" in caplog.text
    assert "secret" not in caplog.text
    call.close()


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (kektordb.StorageFull("no room at /secret"), 507, "no room is left for writes"),
        (kektordb.StorageFailed("sync of /secret failed"), 500, "Internal Server Error"),
        (kektordb.CorruptLog("bad", "/secret", 3), 500, "Internal Server Error"),
        (kektordb.ReadOnlyDatabase("the database '/secret' was opened"), 403, "the database is read-only"),
        (MemoryError("x"), 503, "the server is not able to answer now"),
    ],
)
def test_errors_of_the_machine_name_no_path(
    database: kektordb.Database, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, text: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    call = Caller(create_app(database))
    monkeypatch.setattr(kektordb.Database, "save", fail)
    answer = call("POST", "/system/save")
    assert (answer.status, answer.json) == (status, {"error": text})
    call.close()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"nul", b"\xff\xfe", b'{"index_name": "\\ud800"}', b"NaN", b'{"k": NaN}']
)
def test_what_is_no_json_is_refused(database: kektordb.Database, body: bytes) -> None:
    call = Caller(create_app(database))
    for path in (f"{ACTIONS}/search", f"{ACTIONS}/add", f"{ACTIONS}/create", "/kv/a"):
        answer = call("POST", path, body)
        assert answer.status == 400
        assert answer.json["error"].startswith("invalid")
    call.close()


def test_what_is_no_msgpack_is_refused(database: kektordb.Database) -> None:
    call = Caller(create_app(database))
    call.ok("POST", f"{ACTIONS}/create", {"index_name": "a"})
    kind = [(b"content-type", b"application/msgpack")]
    deep = msgspec.msgpack.encode({"index_name": "a", "id": "x", "vector": [1.0], "metadata": {"a": 1}})
    for body in (b"", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x91" * 100_000, deep[:-1] + b"\x91" * 500 + b"\xc0"):
        assert call("POST", f"{ACTIONS}/add", body, headers=kind).status == 400
    for value in ({"a": msgspec.msgpack.Ext(1, b"")}, {"a": {1: 2}}, {"a": b"bytes"}):
        body = msgspec.msgpack.encode({"index_name": "a", "id": "x", "vector": [1.0], "metadata": value})
        assert call("POST", f"{ACTIONS}/add", body, headers=kind).status == 400
    assert call.ok("GET", "/vector/indexes/a")["vector_count"] == 0
    call.close()


def test_a_compressed_body_is_told_so(database: kektordb.Database) -> None:
    call = Caller(create_app(database))
    call.ok("POST", f"{ACTIONS}/create", {"index_name": "a"})
    question = b'{"index_name":"a","query_vector":[1]}'
    for path in ("/kv/a", f"{ACTIONS}/search"):
        answer = call("POST", path, gzip.compress(question), headers=[(b"content-encoding", b"gzip")])
        assert answer.status == 415
        assert "Content-Encoding" in answer.json["error"]
    assert call("POST", f"{ACTIONS}/search", question, headers=[(b"content-encoding", b"identity")]).status == 200
    call.close()


# ------------------------------------------------------------------------------------------- a process and sockets


SERVER = """
import sys
from kektordb.server.serving import Limits, Settings, serve
serve(Settings(address="127.0.0.1:0", directory=sys.argv[1],
               limits=Limits(header_s=0.3, body_s=0.3, max_body_bytes=1 << 20, max_connections=50)))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(["-c", SERVER, str(tmp_path_factory.mktemp("served") / "db")])
    served.call("POST", f"{ACTIONS}/create", {"index_name": "a"})
    yield served
    assert served.end() == 0
    assert "Traceback" not in "".join(served.log)


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    head = [f"POST {path} HTTP/1.1".encode(), b"host: localhost", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def get(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", *(headers or (b"host: localhost",))]) + b"\r\n\r\n"


def of_item(rest: bytes) -> bytes:
    return post(f"{ACTIONS}/add", b'{"index_name":"a","id":"x",' + rest + b"}")


SEARCH = f"{ACTIONS}/search"
CHUNKED = b"POST /kv/a HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
ATTACKS = {
    "wrong host": get(b"/kv/a", b"host: evil.example"),
    "no host": get(b"/kv/a", b"accept: */*"),
    "two hosts": get(b"/kv/a", b"host: localhost", b"host: evil.example"),
    "absolute address": get(b"http://evil.example/kv/a", b"host: evil.example"),
    "wrong origin": get(b"/kv/a", b"host: localhost", b"origin: http://evil.example"),
    "null origin": post("/kv/a", b'{"value":"x"}', b"origin: null", b"content-type: text/plain"),
    "chunks over the limit": CHUNKED + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 20,
    "a chunk of a great size": CHUNKED + b"FFFFFFFFFFFFFFFFF\r\nx\r\n",
    "a chunk without a size": CHUNKED + b"zz\r\nx\r\n",
    "an announced size over the limit": b"POST /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1048577\r\n\r\n",
    "a size that is no number": b"POST /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: abc\r\n\r\n{}",
    "a negative size": b"POST /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n{}",
    "two sizes": b"POST /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
    "a size beside chunks": b"POST /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "slow headers": b"GET /kv/a HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\n",
    "no request": b"",
    "a slow body": b"POST /kv/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
    "a header of a great size": get(b"/kv/a", b"host: localhost", b"x: " + b"y" * 200_000),
    "many headers": get(b"/kv/a", b"host: localhost", *[b"x%d: y" % i for i in range(20_000)]),
    "a long path": get(b"/kv/" + b"a" * 200_000),
    "traversal": get(b"/kv/..%2f..%2f..%2fetc%2fpasswd"),
    "traversal without escapes": get(b"/../../etc/passwd"),
    "NUL in the path": get(b"/kv/%00"),
    "NUL in a header": b"GET /kv/a HTTP/1.1\r\nhost: local\x00host\r\n\r\n",
    "bad escapes": get(b"/vector/indexes/%ff%fe"),
    "brackets without end": post(SEARCH, b"[" * 1_000_000),
    "brackets in a field": post(SEARCH, b'{"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}"),
    "mixed brackets": post(SEARCH, b'{"a":[' * 150_000),
    "100,000 keys": of_item(
        b'"vector":[1],"metadata":' + json.dumps({str(i): 1 for i in range(100_000)}, separators=(",", ":")).encode()
    ),
    "NaN": of_item(b'"vector":[NaN]'),
    "infinity": of_item(b'"vector":[1e999]'),
    "a huge integer": post(SEARCH, b'{"index_name":"a","k":' + b"9" * 100_000 + b"}"),
    "a huge number in a vector": of_item(b'"vector":[' + b"9" * 100_000 + b"]"),
    "bad UTF-8": post("/kv/a", b'{"value":"\xff\xfe"}'),
    "half a surrogate": post("/kv/a", b'{"value":"\\ud800"}'),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    "an unknown version": b"GET /kv/a HTTP/9.9\r\nhost: localhost\r\n\r\n",
    "an unknown method": b"HACK /kv/a HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a line break in a header": b"GET /kv/a HTTP/1.1\r\nhost: localhost\r\nx: a\rb\r\n\r\n",
}


# What was freed stays for a while under `make debug`, so that it is seen when it is used.
LIMIT_BYTES = (512 if "KEKTORDB_SANITIZE" in os.environ else 64) << 20


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_the_server_lives_on(served: Served, name: str) -> None:
    before = served.memory_bytes()
    answer = served.raw(ATTACKS[name])
    assert not answer or answer.startswith(b"HTTP/1.1 4")
    for word in (b"Traceback", b'File "', os.fsencode(Path(kektordb.__file__).parent)):
        assert word not in answer
    assert served.call("GET", "/vector/indexes/a") == (
        200,
        b'{"name":"a","metric":"euclidean","precision":"float32","m":16,"ef_construction":200,"vector_count":0,'
        b'"text_language":""}\n',
    )
    assert served.memory_bytes() - before < LIMIT_BYTES


def test_a_slow_body_is_told_so(served: Served) -> None:
    body = b'{"index_name":"a","query_vector":[1]}'
    for path in ("/kv/a", SEARCH):
        assert served.raw(post(path, body)[:-1]).startswith(b"HTTP/1.1 408 ")
    with served.connect() as connection:  # a head that came before
        for _ in range(2):
            connection.sendall(post(SEARCH, body))
            assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(post(SEARCH, body)[:-1])
        answer = read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer
        assert connection.recv(1) == b""


def test_connections_over_the_limit_are_sent_away(served: Served) -> None:
    waiting = [served.connect() for _ in range(60)]
    try:
        assert served.raw(get(b"/healthz")).startswith(b"HTTP/1.1 503")
    finally:
        for connection in waiting:
            connection.close()
    with served.connect() as connection:
        while True:  # until the server has seen that they went
            connection.sendall(get(b"/healthz"))
            answer = read_answer(connection)
            if answer.startswith(b"HTTP/1.1 200"):
                break
            assert answer.startswith(b"HTTP/1.1 503")
            connection.close()
            connection = socket.create_connection(("127.0.0.1", served.port), 10)


def test_requests_on_one_connection_are_answered_in_order(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(
            post("/kv/p", b'{"value":"1"}') + get(b"/kv/p") + get(b"/nothing", b"host: localhost", b"connection: close")
        )
        data = b""
        while part := connection.recv(65_536):
            data += part
    assert [int(answer[:3]) for answer in data.split(b"HTTP/1.1 ")[1:]] == [200, 200, 404]
