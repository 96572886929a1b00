"""Followers over HTTP: whatever the line does, whoever leads, a follower is a prefix of its leader and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from served import Caller, Served, read_answer
from states import contents

import kektordb
from kektordb.database import Database
from kektordb.errors import (
    ConfigError,
    HistoryDiverged,
    ReadOnlyDatabase,
    ReplicationError,
    SnapshotNeeded,
    StorageError,
)
from kektordb.replication import HttpSource, Position
from kektordb.server import Limits, Options, create_app
from kektordb.storage.shipping import Chunk, Handover, decode_message

pytest.importorskip("uvicorn", reason="the extra `server` is not installed")
pytest.importorskip("httptools", reason="the extra `server` is not installed")

import uvicorn

from kektordb.server.serving import Settings, config_for, serve

TOKEN = "whole-token"
START = ":0:0000000000000000"


def opened(path: Path, **options: Any) -> Database:
    return kektordb.open(path, autosave="", n_threads=1, sync="no", **options)


def filled(path: Path, **options: Any) -> Database:
    db = opened(path, **options)
    index = db.create_index("a", dim=4, text_language="english")
    vectors = [[n, 1, 0, 1] for n in range(200)]
    index.add_batch([f"i{n}" for n in range(200)], vectors, [{"n": n, "t": f"hello {n}"} for n in range(200)])
    db.kv["n"] = b"0"
    return db


def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in another thread."""
    for _ in range(30_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it does not happen")


def write(db: Database, n: int) -> None:
    for i in range(n):
        db["a"].add(f"w{len(db['a'])}", [i, 2, 3, 4], {"i": i})
        db.kv["n"] = b"%d" % i


class Server:
    """An application that is served from a thread."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.app = create_app(database, Options(**{"token": TOKEN, **options}))
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(config_for(self.app))
        self._sources: list[HttpSource] = []
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def source(self, token: str | None = TOKEN, **options: Any) -> HttpSource:
        self._sources.append(HttpSource(self.url, token, **options))
        return self._sources[-1]

    def end(self) -> None:
        for source in self._sources:
            source.close()
        self.app.release()
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Database]:
    with filled(tmp_path / "leader") as db:
        yield db


@pytest.fixture
def server(leader: Database) -> Iterator[Server]:
    server = Server(leader)
    yield server
    server.end()


def following(path: Path, source: HttpSource) -> Database:
    return opened(path, follow=source, follow_interval=0)


class Line:
    """Carries bytes between a follower and a server, and breaks after so many that came back."""

    def __init__(self, port: int) -> None:
        self.n_left: int | None = None
        self.n_bytes = 0
        self.port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.port))
                except OSError:
                    near.close()
                    continue
                threading.Thread(target=self._carry_both, args=(near, far), daemon=True).start()

    def _carry_both(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._carry, args=(far, near, True), daemon=True)
        back.start()
        self._carry(near, far, False)
        back.join()
        # Not before: what is closed under a thread that reads it may have become another file.
        near.close()
        far.close()

    def _carry(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counts:
                    if self.n_left is not None:
                        data, self.n_left = data[: self.n_left], max(0, self.n_left - len(data))
                    self.n_bytes += len(data)
                target.sendall(data)
                if counts and self.n_left == 0:
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


# -------------------------------------------------------------------------------------------------- as it should be


def test_a_follower_by_address_has_what_its_leader_has(tmp_path: Path, leader: Database, server: Server) -> None:
    options = {"follow": server.url, "follow_token": TOKEN, "follow_interval": 0}
    with opened(tmp_path / "copy", **options) as copy:
        assert contents(copy) == contents(leader)
        write(leader, 10)
        assert copy.refresh() > 0
        assert contents(copy) == contents(leader)
        with pytest.raises(ReadOnlyDatabase):
            copy.kv["x"] = b"y"
    write(leader, 10)
    with opened(tmp_path / "copy", **options) as copy:
        copy.refresh()
        assert contents(copy) == contents(leader)


def test_it_sees_what_is_new_by_itself(tmp_path: Path, leader: Database, server: Server) -> None:
    with opened(tmp_path / "copy", follow=server.source(), follow_interval=0.001) as copy:
        leader.kv["n"] = b"new"
        until(lambda: copy.kv["n"] == b"new")
        assert copy.stats()["following"]["error"] is None


def test_a_snapshot_is_taken_when_the_records_are_gone(tmp_path: Path, leader: Database, server: Server) -> None:
    for _ in range(3):
        leader.save()
        write(leader, 3)
    with pytest.raises(SnapshotNeeded):
        server.source().read(START, 1 << 20, 0.0)
    with following(tmp_path / "copy", server.source()) as copy:
        assert contents(copy) == contents(leader)
        for _ in range(3):
            write(leader, 3)
            leader.save()
        copy.refresh()
        assert contents(copy) == contents(leader)
    assert kektordb.check(tmp_path / "copy", deep=True).verdict == "sound"


def test_promoted_over_http_it_takes_writes_and_its_leader_refuses_it(
    tmp_path: Path, leader: Database, server: Server
) -> None:
    with following(tmp_path / "copy", server.source()) as copy:
        call = Caller(create_app(copy))
        answer = call("POST", "/kv/x", {"value": "y"})
        assert (answer.status, answer.json["error"]) == (
            403,
            "this server follows another one: write to that, or promote this",
        )
        assert call.ok("POST", "/system/promote") == {"status": "OK", "message": "Promoted"}
        assert call("POST", "/system/promote").status == 409
        call.ok("POST", "/kv/x", {"value": "y"})
        position = str(Position(copy._store.lineage.history, copy._store.place.seq, copy._store.place.digest))  # type: ignore[union-attr]
        with pytest.raises(HistoryDiverged):
            server.source().read(position, 1, 0.0)
        call.close()


def test_a_follower_shows_links_and_how_it_fares(tmp_path: Path, leader: Database, server: Server) -> None:
    lead, link = Caller(create_app(leader)), "/graph/actions/link"
    ends = {"index_name": "a", "source_id": "i1", "relation_type": "next"}
    lead.ok("POST", link, {**ends, "target_id": "i2"})
    with following(tmp_path / "copy", server.source()) as copy:
        call = Caller(create_app(copy, Options(read_only_token="r", token="w")), token="r")
        assert call.ok("POST", "/graph/actions/get-links", ends)["targets"] == ["i2"]
        lead.ok("POST", link, {**ends, "target_id": "i3"})
        lead.ok("POST", "/graph/actions/unlink", {**ends, "target_id": "i2"})
        copy.refresh()
        assert call.ok("POST", "/graph/actions/get-links", ends)["targets"] == ["i3"]

        found = call.ok("GET", "/system/stats")["database"]["following"]
        assert (found["behind_bytes"], found["error"]) == (0, None)
        assert found["level_before_s"] >= 0
        text = call("GET", "/metrics").body.decode()
        assert "kektordb_following_behind_bytes 0\n" in text
        assert "kektordb_following_failed 0\n" in text
        assert re.search(r"^kektordb_following_level_before_seconds [0-9.e-]+$", text, re.MULTILINE)

        copy.promote()
        writer = Caller(call.app, token="w")
        writer.ok("POST", link, {**ends, "target_id": "i4"})
        assert writer.ok("POST", "/graph/actions/get-links", ends)["targets"] == ["i3", "i4"]
        assert "kektordb_following" not in call("GET", "/metrics").body.decode()
        writer.close()
        call.close()
    lead.close()


# ------------------------------------------------------------------------------------------------ what the routes do


def test_statuses_and_the_position_of_a_snapshot(leader: Database) -> None:
    call = Caller(create_app(leader))
    assert call("GET", "/replicate/snapshot").status == 404
    for bad in ("", "?position=x", f"?position={START}&wait=x", f"?position={START}&wait=-1"):
        assert call("GET", f"/replicate{bad}").status == 400
    for size in ("0", "4194305", "x"):
        assert call("GET", f"/replicate?position={START}&max_bytes={size}").status == 400
    answer = call("GET", f"/replicate?position={START}")
    assert (answer.status, answer.headers[b"content-type"]) == (200, b"application/octet-stream")
    assert decode_message(answer.body, Chunk).seq == leader.stats()["last_seq"]
    for _ in range(3):
        leader.save()
        write(leader, 1)
    answer = call("GET", f"/replicate?position={START}")
    assert (answer.status, answer.json) == (410, {"error": "these records are in no log any more: take the snapshot"})
    answer = call("GET", f"/replicate?position={'ab' * 16}:1:0000000000000000")
    assert (answer.status, answer.json) == (409, {"error": "this database never was at that position"})

    answer = call("GET", "/replicate/snapshot")
    position = answer.headers[b"kektordb-position"].decode()
    assert call("GET", f"/replicate?position={position}").status == 200
    handover = decode_message(answer.body[4 : 4 + int.from_bytes(answer.body[:4], "little")], Handover)
    assert Position.parse(position) == Position(handover.history, handover.seq, handover.digest)
    assert call("HEAD", "/replicate/snapshot").headers == answer.headers
    call.close()


def test_what_has_no_files_cannot_be_followed() -> None:
    with kektordb.open(":memory:") as database:
        call = Caller(create_app(database))
        for path in (f"/replicate?position={START}", "/replicate/snapshot"):
            assert call("GET", path).status == 404
        call.close()


def test_the_whole_token_is_asked_for(tmp_path: Path, leader: Database) -> None:
    server = Server(leader, read_only_token="some")
    for token in (None, "wrong", "some"):
        source = server.source(token)
        with pytest.raises(ReplicationError, match="token"):
            source.read(START, 1, 0.0)
        with pytest.raises(ReplicationError, match="token"):
            source.snapshot(lambda _: None)
        with pytest.raises(ReplicationError, match="token"):
            opened(tmp_path / "copy", follow=server.url, follow_token=token)
    assert not (tmp_path / "copy").exists(), "nothing is made for a leader that cannot be asked"
    server.end()


def position_of(db: Database) -> str:
    store = db._store
    assert store is not None
    return str(Position(store.lineage.history, store.place.seq, store.place.digest))


def test_a_long_poll_ends_with_the_first_record(leader: Database, server: Server) -> None:
    position, got = position_of(leader), []
    asking = threading.Thread(target=lambda: got.append(server.source().read(position, 1 << 20, 30.0)))
    asking.start()
    until(lambda: len(server.app._held) == 1)
    assert not got
    leader.kv["n"] = b"new"
    asking.join(20)
    assert [record.seq for record in decode_message(got[0], Chunk).records] == [leader.stats()["last_seq"]]
    assert len(server.app._held) == 0


def test_a_long_poll_is_bounded_and_let_go_when_the_server_ends_or_the_follower_goes(leader: Database) -> None:
    position = position_of(leader)
    server = Server(leader, limits=Limits(max_wait_s=0.05, max_held=1))
    assert decode_message(server.source().read(position, 1, 25.0), Chunk).records == []
    server.end()

    server = Server(leader, limits=Limits(max_wait_s=1000.0, max_held=1))
    request = (
        f"GET /replicate?position={position}&wait=900 HTTP/1.1\r\nhost: localhost\r\nauthorization: {TOKEN}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 10) as first:
        first.sendall(request.encode())
        until(lambda: len(server.app._held) == 1)
        assert decode_message(server.source().read(position, 1, 900.0), Chunk).records == []  # at once: one is held
    until(lambda: len(server.app._held) == 0)  # the first has left
    with socket.create_connection(("127.0.0.1", server.port), 10) as second:
        second.sendall(request.encode())
        until(lambda: len(server.app._held) == 1)
        server.end()
        assert read_answer(second).startswith(b"HTTP/1.1 200")


class Counted:
    """A source that tells of each question, and how long it may be held."""

    def __init__(self, source: HttpSource) -> None:
        self.source = source
        self.wait_s = source.wait_s
        self.waits: list[float] = []

    def read(self, position: str, max_bytes: int, timeout: float) -> bytes:
        self.waits.append(timeout)
        return self.source.read(position, max_bytes, timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)


def test_a_follower_that_has_all_there_is_asks_once_and_is_held(
    tmp_path: Path, leader: Database, server: Server
) -> None:
    source = Counted(server.source(wait_s=600.0))
    with opened(tmp_path / "copy", follow=source, follow_interval=0.001) as copy:
        until(lambda: len(server.app._held) == 1)
        n_asked = len(source.waits)
        assert source.waits[-1] == 600.0
        for n in range(20):
            leader.kv["n"] = b"%d" % n
            until(lambda n=n: copy.kv["n"] == b"%d" % n)  # type: ignore[misc]
        until(lambda: len(server.app._held) == 1)
        # One question for each record that it was told of, and the one that is held; never one in between.
        assert len(source.waits) - n_asked <= 21
        assert set(source.waits[n_asked:]) == {600.0}
        # Who asks in another thread need not wait for the one that is held.
        assert copy.refresh() == 0
        assert source.waits[-1] == 0.0
        leader.kv["n"] = b"by refresh"
        copy.refresh()
        assert copy.kv["n"] == b"by refresh"
    until(lambda: len(server.app._held) == 0)
    assert copy.closed


def test_a_held_follower_is_told_of_a_promotion_and_of_the_end(
    tmp_path: Path, leader: Database, server: Server
) -> None:
    with opened(tmp_path / "middle", follow=server.source(), follow_interval=0.001) as middle:
        second = Server(middle)
        with opened(tmp_path / "copy", follow=second.source(wait_s=600.0), follow_interval=0.001) as copy:
            until(lambda: len(second.app._held) == 1)
            leader.kv["n"] = b"through both"
            until(lambda: copy.kv["n"] == b"through both")
            middle.promote()
            middle.kv["n"] = b"own way"
            until(lambda: copy.kv["n"] == b"own way")
            until(lambda: len(second.app._held) == 1)
            second.end()
            until(lambda: copy.stats()["following"]["error"] is not None)


def test_a_source_that_does_not_wait_is_not_asked_without_end(tmp_path: Path, leader: Database) -> None:
    """A server of an older version, or something on the way, answers at once with nothing."""
    asked: list[float] = []

    class Hasty:
        wait_s = 10.0

        def __init__(self) -> None:
            self.feed = kektordb.replication.Feed(leader.path)

        def read(self, position: str, max_bytes: int, timeout: float) -> bytes:
            asked.append(timeout)
            return self.feed.read(position, max_bytes, 0.0)

        def snapshot(self, write: Callable[[bytes], object]) -> None:
            self.feed.snapshot(write)

    with opened(tmp_path / "copy", follow=Hasty(), follow_interval=3600.0):
        until(lambda: asked.count(10.0) == 1)
        for _ in range(100):
            threading.Event().wait(0.001)
        assert asked.count(10.0) == 1


# -------------------------------------------------------------------------------------------------------- bad lines


def test_a_line_that_breaks_costs_another_try(tmp_path: Path, leader: Database, server: Server) -> None:
    """Break off in records and in a snapshot, at places all over; then it goes on where it was."""
    line = Line(server.port)
    source = HttpSource(line.url, TOKEN)
    with following(tmp_path / "copy", source) as copy:
        for gone in (False, True):
            states = [contents(copy)]
            write(leader, 5)
            for _ in range(3 if gone else 0):
                leader.save()
                write(leader, 1)
            states.append(contents(leader))
            total = n_broken = 0
            for n_left in (0, 1, 15, 100, 150, 200, 260, 300, 400, 700, 1500, 4000, 9000, 1 << 30):
                source.close()
                line.n_left, line.n_bytes = n_left, 0
                try:
                    copy.refresh()
                except StorageError:
                    n_broken += 1
                    assert contents(copy) == states[0]
                total = max(total, line.n_bytes)
            assert n_broken > 5
            assert total > (3000 if gone else 300)
            assert contents(copy) == states[1]
    assert kektordb.check(tmp_path / "copy", deep=True).verdict == "sound"
    line.close()


def test_a_server_that_comes_back_elsewhere_in_time_is_followed_on(tmp_path: Path, leader: Database) -> None:
    first = Server(leader)
    line = Line(first.port)
    with following(tmp_path / "copy", HttpSource(line.url, TOKEN)) as copy:
        first.end()
        with pytest.raises(StorageError):
            copy.refresh()
        assert copy.stats()["following"]["error"]
        call = Caller(create_app(copy))
        assert call.ok("GET", "/system/stats")["database"]["following"]["error"] == "StorageError"
        assert "kektordb_following_failed 1\n" in call("GET", "/metrics").body.decode()
        call.close()
        write(leader, 3)
        second = Server(leader)
        line.port = second.port
        copy.refresh()
        assert contents(copy) == contents(leader)
        second.end()
    line.close()


def test_a_snapshot_goes_no_faster_than_it_is_taken(leader: Database) -> None:
    """Until the first piece is taken no second one is made; who takes none is given up, and who leaves is noticed."""
    leader.save()
    n_pieces = 0

    async def scenario(ending: str) -> None:
        nonlocal n_pieces
        app = create_app(leader, Options(limits=Limits(stall_s=0.1 if ending == "stall" else 30.0)))
        assert app.service.feed is not None
        real, n_pieces = app.service.feed.snapshot, 0
        done, left, reached = asyncio.Event(), asyncio.Event(), asyncio.Event()

        def snapshot(write: Callable[[bytes], object]) -> None:
            def counted(data: bytes) -> None:
                nonlocal n_pieces
                n_pieces += 1
                write(data)

            real(counted)

        app.service.feed.snapshot = snapshot  # type: ignore[method-assign]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and not done.is_set():
                reached.set()
                await done.wait()

        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": "/replicate/snapshot",
            "root_path": "",
        }
        scope |= {"query_string": b"", "headers": [(b"host", b"localhost")]}
        asking = asyncio.ensure_future(app(scope, receive, send))
        await reached.wait()
        assert n_pieces == 1
        if ending == "taken":
            done.set()
        elif ending == "left":
            left.set()
            await asyncio.wait((asyncio.ensure_future(left.wait()),))
            done.set()
        await asking
        whole = sent[-1] == {"type": "http.response.body", "body": b""}
        assert whole == (ending == "taken")
        assert (n_pieces > 2) == (ending == "taken")
        done.set()
        await asyncio.to_thread(app.close)

    for ending in ("taken", "left", "stall"):
        asyncio.run(scenario(ending))


def test_who_takes_nothing_is_cut_off(leader: Database) -> None:
    leader.save()
    server = Server(leader, limits=Limits(stall_s=0.2, max_snapshots=1))
    app: Any = server.app
    real, n_blocks = app.service.feed.snapshot, 0

    def great(write: Callable[[bytes], object]) -> None:
        nonlocal n_blocks
        real(write)
        for _ in range(100):
            write(bytes(1 << 20))
            n_blocks += 1

    app.service.feed.snapshot = great
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        head = f"GET /replicate/snapshot HTTP/1.1\r\nhost: localhost\r\nauthorization: {TOKEN}\r\n\r\n"
        connection.sendall(head.encode())
        until(lambda: app._streams._n == 1)
        until(lambda: app._streams._n == 0)
        until(lambda: not server._server.server_state.connections)  # though what was sent was never taken
        n_bytes = 0
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(1 << 20):
                n_bytes += len(data)
    assert n_blocks < 50
    assert n_bytes < 50 << 20
    n_blocks = 0
    server.source().snapshot(lambda _: None)
    assert n_blocks == 100
    server.end()


def test_more_snapshots_than_may_be_are_refused(leader: Database) -> None:
    leader.save()
    server = Server(leader, limits=Limits(max_snapshots=1))
    inside, may_end = threading.Event(), threading.Event()

    def write(_: bytes) -> None:
        inside.set()
        may_end.wait(30)

    app: Any = server.app
    real = app.service.feed.snapshot

    def held(write: Callable[[bytes], object]) -> None:
        inside.set()
        may_end.wait(30)
        real(write)

    app.service.feed.snapshot = held
    pieces: list[bytes] = []
    first = threading.Thread(target=lambda: server.source().snapshot(pieces.append))
    first.start()
    assert inside.wait(30)
    with pytest.raises(StorageError, match="503"):
        server.source().snapshot(write)
    may_end.set()
    first.join(30)
    assert len(b"".join(pieces)) > 1000
    server.end()


# ------------------------------------------------------------------------------------------------------ bad leaders


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serve whoever comes with bytes that are no server's."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(65_536)
                    answer(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(30)
    listener.close()


def endless(start: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)

    return answer


def failure(status: int, type: str) -> bytes:
    body = msgspec.msgpack.encode({"error": "x" * 10_000, "type": type})
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
PIECE = b"10000\r\n" + b"x" * 65_536 + b"\r\n"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (CHUNKED, PIECE),
        (OK + b"\r\n", b"x" * 65_536),
        (OK + b"content-length: 99999999999999\r\n\r\n", b"x" * 65_536),
        (OK, b"a: b\r\n" * 1000),
        (OK + b"a: ", b"x" * 65_536),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"", b"x" * 65_536),
        (CHUNKED, b"1" * 65_536),
        (CHUNKED + b"0\r\n", b"a: b\r\n" * 1000),
        (b"HTTP/1.1 500 X\r\ncontent-length: 99999999999999\r\n\r\n", b"x" * 65_536),
    ],
)
def test_an_answer_without_end_is_bounded(start: bytes, piece: bytes) -> None:
    with answering(endless(start, piece)) as url:
        source = HttpSource(url, max_bytes=1 << 20, max_snapshot_bytes=1 << 20)
        with pytest.raises(StorageError):
            source.read(START, 1, 0.0)
        got: list[bytes] = []
        with pytest.raises(StorageError):
            source.snapshot(got.append)
        assert sum(map(len, got)) <= 1 << 20
        source.close()


@pytest.mark.parametrize("start", [b"", OK, OK + b"content-length: 100\r\n\r\nabc", CHUNKED + b"3\r\nabc\r\n"])
def test_an_answer_that_does_not_come_is_given_up(start: bytes) -> None:
    over = threading.Event()

    def silent(connection: socket.socket) -> None:
        connection.sendall(start)
        over.wait(30)

    with answering(silent) as url:
        source = HttpSource(url, timeout_s=0.05)
        with pytest.raises(StorageError):
            source.read(START, 1, 0.0)
        source.close()
        over.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0" * 100,
        OK + b"content-length: 3\r\n\r\nabc",
        OK + b"content-length: -3\r\n\r\nabc",
        OK + b"content-length: 100\r\n\r\nabc",
        CHUNKED + b"zz\r\nabc\r\n",
        CHUNKED + b"-5\r\nabc\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 410 Gone\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 409 Conflict\r\ncontent-length: 3\r\n\r\n\x93\x93\x93",
        failure(409, "SnapshotNeeded"),
        failure(200, "SnapshotNeeded"),
        failure(500, "HistoryDiverged"),
    ],
)
def test_nonsense_is_an_error_and_changes_nothing(
    tmp_path: Path, leader: Database, server: Server, answer: bytes
) -> None:
    with following(tmp_path / "copy", server.source()) as copy:
        before = contents(copy)
    with (
        answering(lambda connection: connection.sendall(answer)) as url,
        opened(tmp_path / "copy", follow=url, follow_interval=0) as copy,
    ):
        with pytest.raises(StorageError) as caught:
            copy.refresh()
        assert len(str(caught.value)) < 600
        assert contents(copy) == before


def test_a_call_under_way_ends_when_the_follower_is_closed(tmp_path: Path, leader: Database, server: Server) -> None:
    following(tmp_path / "copy", server.source()).close()
    asked, over = threading.Event(), threading.Event()

    def silent(_: socket.socket) -> None:
        asked.set()
        over.wait(60)

    with answering(silent) as url:
        copy = opened(tmp_path / "copy", follow=HttpSource(url, timeout_s=600), follow_interval=0.001)
        assert asked.wait(30)
        closing = threading.Thread(target=copy.close)
        closing.start()
        closing.join(30)
        assert not closing.is_alive()
        over.set()


@pytest.mark.parametrize(
    "url",
    ["http://", "http://a:b@c", "http://c:x", "http://c:99999", "http://c/?a=b", "http://c#d", "http://c d", "ftp://c"],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError):
        HttpSource(url)


def test_a_token_without_an_address_and_one_that_no_header_bears(tmp_path: Path, leader: Database) -> None:
    with pytest.raises(ConfigError, match="follow_token"):
        opened(tmp_path / "copy", follow=leader.path, follow_token="x")
    with pytest.raises(ConfigError, match="printable"):
        HttpSource("http://a", "a\r\nb: c")


# -------------------------------------------------------------------------------------------------------- processes


def started(directory: Path, *flags: str) -> Served:
    command = ["-m", "kektordb", "serve", "--http-addr", "127.0.0.1:0", "--data-dir", str(directory), *flags]
    return Served(command, {**os.environ, "KEKTOR_TOKEN": TOKEN})


def test_a_server_follows_a_server_that_is_killed_and_takes_over(tmp_path: Path) -> None:
    filled(tmp_path / "leader").close()
    (tmp_path / "token").write_text(TOKEN)
    bearer = f"authorization: Bearer {TOKEN}\r\n".encode()
    leader = started(tmp_path / "leader")
    flags = ("--follow", f"http://127.0.0.1:{leader.port}", "--follow-token-file", str(tmp_path / "token"))
    follower = started(tmp_path / "copy", *flags)
    assert leader.call("POST", "/kv/n", {"value": "last"}, bearer)[0] == 200
    while b'"value":"last"' not in follower.call("GET", "/kv/n", None, bearer)[1]:
        pass
    status, body = follower.call("POST", "/kv/n", {"value": "mine"}, bearer)
    assert (status, b"follows another one" in body) == (403, True)

    follower.end(kill=True)
    leader.end(kill=True)
    follower = started(tmp_path / "copy", *flags)  # without its leader: it serves what it has
    assert b'"value":"last"' in follower.call("GET", "/kv/n", None, bearer)[1]
    assert follower.call("POST", "/system/promote", None, bearer)[0] == 200
    assert follower.call("POST", "/kv/n", {"value": "mine"}, bearer)[0] == 200
    assert follower.end() == 0
    assert TOKEN not in "".join(follower.log)
    with opened(tmp_path / "copy") as copy:
        assert copy.kv["n"] == b"mine"
        assert len(copy["a"]) == 200


def test_a_new_follower_of_nobody_is_not_begun(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = Settings(address="127.0.0.1:0", directory=str(tmp_path / "copy"), follow=f"http://127.0.0.1:{port}")
    with pytest.raises(StorageError, match="does not answer"):
        serve(settings)
    assert not (tmp_path / "copy").exists()
