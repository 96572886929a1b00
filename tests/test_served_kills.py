"""Eight clients write and read while their server is ended and killed, again and again: what was acknowledged is there.

In the short form it lives twice; `make crash` goes on for 60 s with each policy.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign import Campaign
from served import Served

import kektordb
from kektordb.errors import KektorError, ServerError, ServerUnreachable
from kektordb.remote import RemoteDatabase, connect

N_CLIENTS, DIM, N_IN_BATCH = 8, 4, 12
DEADLINE_S = 120.0

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system kills otherwise")

# What one client has: the number in the metadata of its items, and its keys, by name.
Model = dict[str, int]
Change = Callable[[Model], None]


class Client:
    """Does one thing after the other with names of its own, and knows what was acknowledged.

    Attributes
    ----------
    model : dict
        As the last acknowledged write left it.
    open_change : callable or None
        What the write did that nobody answered: it happened whole, or not at all.
    """

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self.model: Model = {}
        self.open_change: Change | None = None
        self.n_acknowledged = self.n_reads = self._n = 0
        self.failures: list[str] = []
        self._rng = random.Random(seed)

    def live(self, url: str, ending: threading.Event) -> None:
        """Go on until the server is gone."""
        with connect(url, retries=0, timeout=DEADLINE_S) as db:
            while not self.failures:
                try:
                    self._act(db)
                except ServerUnreachable:
                    if not ending.is_set():
                        self.failures.append("the server was gone before its time")
                    return
                except KektorError as error:
                    is_end = isinstance(error, ServerError) and error.status == 503 and ending.is_set()
                    if not is_end:
                        self.failures.append(f"{type(error).__name__}: {error}")
                    return

    def _act(self, db: RemoteDatabase) -> None:
        index, kind = db._handle("a"), self._rng.randrange(20)
        self._n += 1
        n, items = self._n, [name for name in self.model if "/k" not in name]
        if kind < 5 or not items:
            name = f"c{self.number}-{n}"
            self._write(lambda model: model.update({name: n}), lambda: index.add(name, self._vector(), {"n": n}))
        elif kind < 8:
            names = [f"c{self.number}-{n}-{i}" for i in range(N_IN_BATCH)] + [self._rng.choice(items)]
            vectors = [self._vector() for _ in names]
            self._write(
                lambda model: model.update(dict.fromkeys(names, n)),
                lambda: index.upsert_batch(names, vectors, [{"n": n}] * len(names)),
            )
        elif kind < 10:
            name = self._rng.choice(items)
            self._write(lambda model: model.update({name: n}), lambda: index.update_metadata(name, {"n": n}))
        elif kind < 13:
            gone = self._rng.sample(items, min(len(items), 3))
            self._write(lambda model: [model.pop(name) for name in gone], lambda: index.delete(gone))  # type: ignore[arg-type, return-value]
        elif kind < 15:
            key = f"c{self.number}/k{self._rng.randrange(9)}"
            self._write(lambda model: model.update({key: n}), lambda: db.kv.__setitem__(key, str(n)))
        elif kind == 15 and self.number == 0:
            self._write(lambda model: None, db.save)
        elif kind == 15 and self.number == 1:
            self._write(lambda model: None, index.vacuum)
        else:
            self._read(index, items)

    def _write(self, change: Change, write: Callable[[], Any]) -> None:
        self.open_change = change
        write()
        change(self.model)
        self.open_change = None
        self.n_acknowledged += 1

    def _read(self, index: Any, items: list[str]) -> None:
        names = self._rng.sample(items, min(len(items), 5))
        found = [None if item is None else item.metadata["n"] for item in index.get_many(names)]
        if found != [self.model[name] for name in names]:
            self.failures.append(f"read {found} of {names}")
        index.search(self._vector(), k=5, filter="n >= 0" if self._rng.random() < 0.5 else None)
        self.n_reads += 1

    def _vector(self) -> list[float]:
        return [self._rng.uniform(0.1, 1.0) for _ in range(DIM)]

    def settle(self, found: Model) -> None:
        """Compare with what is there after the end, and go on from it."""
        if found != self.model and self.open_change is not None:
            self.open_change(self.model)
        lost = {name: n for name, n in self.model.items() if found.get(name) != n}
        extra = {name: n for name, n in found.items() if name not in self.model}
        assert not lost, f"client {self.number} lost {lost}, found {extra}"
        assert not extra, f"client {self.number} found {extra}, which it had deleted or never written"
        self.open_change = None


def contents(path: Path) -> list[Model]:
    """Return what each client has, as it lies in the files."""
    found: list[Model] = [{} for _ in range(N_CLIENTS)]
    with kektordb.open(path, read_only=True) as db:
        index = db["a"]
        for item in index.get_many(index.ids()):
            assert item is not None
            assert np.isfinite(item.vector).all()
            found[int(item.id[1])][item.id] = item.metadata["n"]
        for key, value in db.kv.items():
            found[int(key[1])][key] = int(value)
    return found


def start(path: Path, sync: str) -> Served:
    command = ["-m", "kektordb", "serve", "--http-addr", "127.0.0.1:0", "--data-dir", str(path)]
    return Served([*command, "--sync", sync, "--save", "1 50"])


def lived(served: Served, clients: list[Client], n_wanted: int, kill: bool) -> None:
    """Let the clients go on until they have done so much; then end the server in the middle of it."""
    ending, url = threading.Event(), f"http://127.0.0.1:{served.port}"
    began_with, began_at = sum(client.n_acknowledged for client in clients), time.monotonic()
    threads = [threading.Thread(target=client.live, args=(url, ending)) for client in clients]
    for thread in threads:
        thread.start()
    while sum(client.n_acknowledged for client in clients) - began_with < n_wanted:
        assert not [client.failures for client in clients if client.failures]
        assert time.monotonic() - began_at < DEADLINE_S, "the clients wait for something"
        threads[0].join(0.002)
    ending.set()
    assert served.end(kill) == (-signal.SIGKILL if kill else 0), served.log
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


@pytest.mark.crash
@pytest.mark.parametrize("sync", ["always", "everysec"])
def test_eight_clients_lose_nothing_that_was_acknowledged(tmp_path: Path, sync: str, campaign: Campaign) -> None:
    rng, path = random.Random(f"served {sync}"), tmp_path / "db"
    clients = [Client(number, rng.randrange(2**32)) for number in range(N_CLIENTS)]
    with kektordb.open(path) as db:
        db.create_index("a", dim=DIM)
    seconds, n_lives, ended_at = campaign.count("SERVED_SECONDS", 0, 60), 0, time.monotonic()
    is_over = False
    while not is_over:
        kill = n_lives % 2 == 0
        lived(start(path, sync), clients, rng.randrange(20, 400 if seconds else 120), kill)
        n_lives += 1
        for client, found in zip(clients, contents(path), strict=True):
            assert client.failures == []
            client.settle(found)
        is_over = n_lives >= 2 and time.monotonic() - ended_at >= seconds

    assert kektordb.check(path, deep=True).verdict in ("sound", "torn tail")
    n_acknowledged = sum(client.n_acknowledged for client in clients)
    n_reads = sum(client.n_reads for client in clients)
    campaign.note("served", sync, lives=n_lives, acknowledged=n_acknowledged, reads=n_reads, lost=0, errors=0)
    assert n_acknowledged > 40
