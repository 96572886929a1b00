"""How does a directory become a state in memory? The snapshot is loaded, then the log is replayed."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec

from kektordb.errors import ConfigError, ReadOnlyDatabase
from kektordb.operations import decoded
from kektordb.state import State
from kektordb.storage import Backend, Store
from kektordb.storage.codec import FILE_HEADER_BYTES

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
    follows : bool
        It follows another database, or will.
    """

    path: str
    sync: str
    read_only: bool
    recover: str | None
    n_threads: int
    backend: Backend | None
    follows: bool = False

    def load(self) -> Loaded:
        """Open the files and read them. On an error nothing stays open.

        Raises DatabaseLocked, ReadOnlyDatabase, ConfigError, CorruptLog, CorruptSnapshot, StorageError.
        """
        state = State(self.n_threads)
        store = Store.open(
            self.path, sync=self.sync, read_only=self.read_only, recover=self.recover, backend=self.backend
        )
        try:
            self._check(store)
            if store.snapshot is not None:
                state.load(store.snapshot.meta, store.snapshot)
            start = time.perf_counter()
            state.replay(decoded(store.replay()))
            return Loaded(store, state, time.perf_counter() - start)
        except BaseException:
            store.close()
            raise

    def _check(self, store: Store) -> None:
        if self.read_only:
            return
        is_follower = store.lineage.is_follower
        if is_follower and not self.follows:
            raise ReadOnlyDatabase(
                f"the database {self.path!r} follows another one: open it with follow= or read_only=True, or end that "
                "with kektordb.replication.promote"
            )
        if self.follows and not is_follower and (store.generation > 1 or store.log_bytes > FILE_HEADER_BYTES):
            raise ConfigError(
                f"expected a new directory, or one that follows already, got {self.path!r}, a database in its own right"
            )
