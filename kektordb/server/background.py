"""How is an open database served beside other work? By a thread, until a block ends."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn

from kektordb.database import Database
from kektordb.server.app import create_app
from kektordb.server.options import Options
from kektordb.server.serving import config_for

__all__ = ["serving"]


@contextlib.contextmanager
def serving(database: Database, options: Options | None = None) -> Iterator[str]:
    """Serve a database on a free port of this machine while a block runs; give the address.

    Requests that are under way are answered when it ends. The database stays open.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = uvicorn.Server(config_for(create_app(database, options)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="kektordb-server", daemon=True)
    thread.start()
    try:
        # It listens already: what comes before the loop runs waits in the socket.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
