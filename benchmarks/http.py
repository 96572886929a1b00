"""What does a search cost over HTTP? Latency above the embedded search; requests a second of 16 connections.

    python -m benchmarks.http --rows 200000
    python -m benchmarks.http --import --rows 100000    (an import by the client, against the embedded batch add)

The server is a process of its own, on one core where the system lets it be pinned; so is the client, on another one:
raw sockets, requests made before, answers looked at for status and length. On a machine that does other work as well,
the time of the processor that the server takes for a request says more than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import kektordb

DIM = 100
EF = 64
K = 10
N_QUERIES = 2000


def build(directory: Path, n: int) -> np.ndarray:
    """Make the database; return queries."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((200, DIM)).astype(np.float32)
    rows = centres[rng.integers(0, 200, n)] + rng.standard_normal((n, DIM)).astype(np.float32)
    with kektordb.open(directory) as database:
        index = database.create_index("bench", metric="euclidean")
        for start in range(0, n, 20_000):
            part = rows[start : start + 20_000]
            index.add_batch([str(i) for i in range(start, start + len(part))], part)
        database.save()
    picked = rng.integers(0, n, N_QUERIES)
    return rows[picked] + 0.3 * rng.standard_normal((N_QUERIES, DIM)).astype(np.float32)


def requests_of(queries: np.ndarray, kind: str) -> list[bytes]:
    """Return requests as the original's client sends them, or with vectors as base64 or msgpack."""
    import base64

    import msgspec

    made = []
    for query in queries:
        body: dict[str, object] = {"index_name": "bench", "k": K, "ef_search": EF}
        head = "Content-Type: application/json\r\n"
        if kind == "json":
            body["query_vector"] = query.tolist()
            content = json.dumps(body).encode()
        elif kind == "base64":
            body["query_vector"] = base64.b64encode(query.tobytes()).decode()
            content = json.dumps(body).encode()
        else:
            body["query_vector"] = query.tobytes()
            content = msgspec.msgpack.encode(body)
            head = "Content-Type: application/msgpack\r\n"
        made.append(
            (
                "POST /vector/actions/search HTTP/1.1\r\nHost: localhost:9091\r\nUser-Agent: python-requests/2.32.3\r\n"
                "Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n"
                f"{head}Content-Length: {len(content)}\r\n\r\n"
            ).encode()
            + content
        )
    return made


def receive(connection: socket.socket) -> bytes:
    """Return one answer."""
    data = connection.recv(65_536)
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        if end and len(body) >= int(re.search(rb"content-length: (\d+)", head)[1]):  # type: ignore[index]
            assert data.startswith(b"HTTP/1.1 200"), data[:200]
            return data
        data += connection.recv(65_536)


def sequential(port: int, requests: list[bytes]) -> np.ndarray:
    """Return seconds of each request on one connection."""
    times = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            start = time.perf_counter()
            connection.sendall(request)
            receive(connection)
            times.append(time.perf_counter() - start)
    return np.array(times)


def concurrent(port: int, requests: list[bytes], n_connections: int, seconds: float) -> float:
    """Return requests a second; each connection sends the next one when it has its answer."""
    selector = selectors.EpollSelector()
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(n_connections)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
    n_sent = n_done = 0
    start = time.perf_counter()
    for connection in connections:
        connection.sendall(requests[n_sent % len(requests)])
        n_sent += 1
    while time.perf_counter() - start < seconds:
        for key, _ in selector.select():
            connection = key.fileobj  # type: ignore[assignment]
            receive(connection)
            n_done += 1
            connection.sendall(requests[n_sent % len(requests)])
            n_sent += 1
    elapsed = time.perf_counter() - start
    for connection in connections:
        connection.close()
    return n_done / elapsed


def processor_s(pid: int) -> float:
    """Return the time that a process has used, as Linux counts it; 0 elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def embedded(directory: Path, queries: np.ndarray) -> np.ndarray:
    """Return seconds of each search in this process."""
    times = []
    with kektordb.open(directory, read_only=True) as database:
        index = database["bench"]
        for query in queries:
            start = time.perf_counter()
            index.search(query, K, EF, include=()).ids  # noqa: B018
            times.append(time.perf_counter() - start)
        used_s = time.thread_time()
        for query in queries:
            index.search(query, K, EF, include=()).ids  # noqa: B018
        used_s = time.thread_time() - used_s
    print(f"embedded: {used_s / len(queries) * 1e6:.0f} us of processor each")
    return np.array(times)


def start(directory: Path) -> tuple[subprocess.Popen[str], int]:
    """Return a server process and its port."""
    address = ["--http-addr", "127.0.0.1:0", "--data-dir", str(directory)]
    server = subprocess.Popen([sys.executable, "-m", "kektordb", "serve", *address], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    return server, int(re.search(r":(\d+)\s*$", server.stderr.readline())[1])  # type: ignore[index]


def import_all(n: int, dim: int = 128) -> None:
    """Add rows to an embedded database, and over HTTP to one in a server process; print seconds, twice in turn."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    ids = [f"item {i}" for i in range(n)]
    metadata = [{"n": i, "kind": "abc"[i % 3]} for i in range(n)]
    for _ in range(2):
        with tempfile.TemporaryDirectory() as temporary:
            with kektordb.open(Path(temporary) / "a") as database:
                began = time.perf_counter()
                database.create_index("bench", metric="euclidean").add_batch(ids, rows, metadata)
                database.sync()
                embedded_s = time.perf_counter() - began
            server, port = start(Path(temporary) / "b")
            try:
                with kektordb.connect(f"http://127.0.0.1:{port}") as remote:
                    began = time.perf_counter()
                    remote.create_index("bench", metric="euclidean").add_batch(ids, rows, metadata)
                    remote.sync()
                    http_s = time.perf_counter() - began
            finally:
                server.terminate()
                server.wait()
        print(
            f"{n:,} x {dim}: embedded {embedded_s:.2f} s, over HTTP {http_s:.2f} s: x {http_s / embedded_s:.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--import", action="store_true", dest="imports")
    arguments = parser.parse_args()
    if arguments.imports:
        import_all(arguments.rows)
        return
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "db"
        queries = build(directory, arguments.rows)
        pins = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(pins) > 1:
            os.sched_setaffinity(0, {pins[1]})
        inside = embedded(directory, queries) * 1e6
        print(f"{arguments.rows:,} x {DIM}, k {K}, ef {EF}; embedded p50 {np.median(inside):.0f} us")
        server, port = start(directory)
        if len(pins) > 1:
            os.sched_setaffinity(server.pid, {pins[0]})
        try:
            for kind in ("json", "base64", "msgpack"):
                requests = requests_of(queries, kind)
                sequential(port, requests[:200])
                times = sequential(port, requests) * 1e6
                used_s = processor_s(server.pid)
                rate = concurrent(port, requests, arguments.connections, arguments.seconds)
                used_us = (processor_s(server.pid) - used_s) / (rate * arguments.seconds) * 1e6
                print(
                    f"{kind:8} sequential p50 {np.median(times):.0f} us (+{np.median(times) - np.median(inside):.0f}), "
                    f"p99 {np.percentile(times, 99):.0f} us; {arguments.connections} connections: "
                    f"{rate:,.0f} requests/s, {used_us:.0f} us of processor each"
                )
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
