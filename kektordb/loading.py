"""How does a directory become a state in memory? The snapshot is loaded, then the log is replayed."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec

from kektordb.operations import decode
from kektordb.state import State
from kektordb.storage import Backend, Store

__all__ = ["Loaded", "Opening"]


class Loaded(NamedTuple):
    """A store, the state that its files hold, and the seconds that the replay of its log took."""

    store: Store
    state: State
    replay_s: float


class Opening(msgspec.Struct, frozen=True):
    """How a directory was opened, so that it can be opened in this way again.

    Attributes
    ----------
    path, sync, read_only, recover, backend
        See `Database.open`.
    n_threads : int
        Of the state.
    """

    path: str
    sync: str
    read_only: bool
    recover: str | None
    n_threads: int
    backend: Backend | None

    def load(self) -> Loaded:
        """Open the files and read them. On an error nothing stays open.

        Raises DatabaseLocked, CorruptLog, CorruptSnapshot, StorageError.
        """
        state = State(self.n_threads)
        store = Store.open(
            self.path, sync=self.sync, read_only=self.read_only, recover=self.recover, backend=self.backend
        )
        try:
            if store.snapshot is not None:
                state.load(store.snapshot.meta, store.snapshot)
            start = time.perf_counter()
            state.replay(decode(record.type, record.payload) for record in store.replay())
            return Loaded(store, state, time.perf_counter() - start)
        except BaseException:
            store.close()
            raise
