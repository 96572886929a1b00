"""A server in this process, on a free port."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

import kektordb

pytest.importorskip("uvicorn", reason="the server needs kektordb[server]")

import uvicorn

from kektordb.server import Options, create_app
from kektordb.server.serving import config_for


@contextlib.contextmanager
def live(database: kektordb.Database, options: Options | None = None) -> Iterator[str]:
    """Serve a database in a thread; give its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = uvicorn.Server(config_for(create_app(database, options)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        # It listens already: what comes before the loop runs waits in the socket.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
