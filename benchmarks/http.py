"""What does a search cost over HTTP? Latency above the embedded search; requests a second of 16 connections.

    python -m benchmarks.http --rows 200000 --directory DIR   (the second time it measures what the first one built)
    python -m benchmarks.http --import --rows 100000          (an import by the client, against the embedded batch add)

The server is a process of its own, on one core where the system lets it be pinned. The load comes from a program in C
(load.c), compiled at the start, with requests made before: once on another core, and once on the server's own, where
both share it. Where two "cores" are threads of one, the other core slows the server down, and the second figure is the
better one. Beside it, in the same run, two servers that do nothing (hello.py). On a machine that does other work as
well, the time of the processor that the server takes for a request says more than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import kektordb
from benchmarks import report

DIM = 100
EF = 64
K = 10
N_QUERIES = 2000


def build(directory: Path, n: int) -> np.ndarray:
    """Make the database unless it is there; return queries."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((200, DIM)).astype(np.float32)
    rows = centres[rng.integers(0, 200, n)] + rng.standard_normal((n, DIM)).astype(np.float32)
    if not directory.exists():
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


class Load:
    """The program that sends requests."""

    def __init__(self, directory: Path) -> None:
        self._program = directory / "load"
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            sys.exit("benchmarks.http: a C compiler is needed for load.c")
        source = Path(__file__).with_name("load.c")
        subprocess.run([compiler, "-O2", "-o", str(self._program), str(source)], check=True)

    def __call__(self, port: int, requests: list[bytes], n_connections: int, seconds: float) -> dict[str, float]:
        """Send requests one after the other on each connection; return rates, and latencies in microseconds."""
        content = b"".join(struct.pack("<I", len(request)) + request for request in requests)
        command = [str(self._program), str(port), str(n_connections), str(seconds)]
        done = subprocess.run(command, input=content, stdout=subprocess.PIPE, check=True)
        n, elapsed, n_bad, p50, p99, p999 = map(float, done.stdout.split())
        assert not n_bad, "not all answers had status 200"
        return {"requests_per_s": n / elapsed, "p50_us": p50, "p99_us": p99, "p999_us": p999, "n": n}


def processor_s(pid: int) -> float:
    """Return the time that a process has used, to the nanosecond where Linux counts it so; 0 elsewhere."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9
    except OSError:
        return 0.0


def embedded(directory: Path, queries: np.ndarray) -> dict[str, float]:
    """Return the latency of a search in this process, and the processor it takes."""
    times = []
    with kektordb.open(directory, read_only=True) as database:
        index = database["bench"]
        for _ in range(2):
            times.clear()
            used_s = time.thread_time()
            for query in queries:
                start = time.perf_counter()
                index.search(query, K, EF, include=()).ids  # noqa: B018
                times.append(time.perf_counter() - start)
            used_s = time.thread_time() - used_s
    found = np.array(times) * 1e6
    p50, p99 = (float(np.percentile(found, share)) for share in (50, 99))
    return {"p50_us": p50, "p99_us": p99, "processor_us": used_s / len(queries) * 1e6}


def start(directory: Path) -> tuple[subprocess.Popen[str], int]:
    """Return a server process and its port."""
    address = ["--http-addr", "127.0.0.1:0", "--data-dir", str(directory)]
    server = subprocess.Popen([sys.executable, "-m", "kektordb", "serve", *address], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    return server, int(re.search(r":(\d+)\s*$", server.stderr.readline())[1])  # type: ignore[index]


def start_hello(kind: str) -> tuple[subprocess.Popen[str], int]:
    """Return a process that does nothing but answer, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.hello", kind, str(port)], text=True)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server, port
        except ConnectionRefusedError:
            time.sleep(0.05)


@contextmanager
def running(name: str, directory: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Give a server, and end it."""
    server, port = start(directory) if name == "kektordb" else start_hello(name.removeprefix("hello, "))
    try:
        yield server, port
    finally:
        server.terminate()
        server.wait()


def pin(pid: int, core: int | None) -> None:
    """Keep a process on a core, if there are several."""
    if core is not None:
        for task in Path(f"/proc/{pid}/task").iterdir() if pid else [Path("0")]:
            os.sched_setaffinity(int(task.name), {core})


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


def measure(load: Load, server: int, port: int, requests: list[bytes], n: int, seconds: float) -> dict[str, float]:
    """Return what the load says, and the processor that the server takes for a request."""
    load(port, requests, n, min(1.0, seconds))
    used_s = processor_s(server)
    found = load(port, requests, n, seconds)
    found["processor_us"] = (processor_s(server) - used_s) / found.pop("n") * 1e6
    return found


def run(directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure; print lines and return all."""
    queries = build(directory / "db", arguments.rows)
    load = Load(directory)
    cores: list[int | None] = [*sorted(os.sched_getaffinity(0))] if hasattr(os, "sched_getaffinity") else []
    first, second = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    pin(0, first)
    results: dict[str, Any] = {"rows": arguments.rows, "dim": DIM, "k": K, "ef_search": EF}
    results["connections"] = arguments.connections
    results["embedded"] = inside = embedded(directory / "db", queries)
    print(f"{arguments.rows:,} x {DIM}, k {K}, ef {EF}; embedded p50 {inside['p50_us']:.0f} us")
    lines = []
    for name in ("hello, asgi", "hello, protocol", "kektordb"):
        with running(name, directory / "db") as (server, port):
            pin(server.pid, first)
            for kind in ("json", "base64", "msgpack") if name == "kektordb" else ("json",):
                requests = requests_of(queries, kind)
                for where, core in (("the same core", first), ("another core", second)):
                    pin(0, core)
                    for n in (1, arguments.connections):
                        found = measure(load, server.pid, port, requests, n, arguments.seconds)
                        results.setdefault(name, {}).setdefault(kind, {}).setdefault(where, {})[str(n)] = found
                        lines.append((name, kind, where, n, *found.values()))
    report.table(
        "the load comes from",
        ["server", "body", "load on", "connections", "requests/s", "p50 us", "p99 us", "p99.9 us", "processor us"],
        lines,
    )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--directory", type=Path, help="keeps the database for the next time")
    parser.add_argument("--import", action="store_true", dest="imports")
    arguments = parser.parse_args()
    if arguments.imports:
        import_all(arguments.rows)
        return
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) if arguments.directory is None else arguments.directory
        directory.mkdir(exist_ok=True)
        report.write("http", run(directory, arguments), "benchmarks.http")


if __name__ == "__main__":
    main()
