"""What is a database? Indexes and keys behind one handle: opened, written in one order, saved, closed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kektordb.collection import Step
from kektordb.commit import Build, Commits, Exclusive, Pending
from kektordb.embedding import check_dim
from kektordb.errors import ConfigError, DatabaseClosed, ForkedHandle, IndexExists, KektorError, ReadOnlyDatabase
from kektordb.feeding import DatabaseFeeding
from kektordb.index import Index
from kektordb.interrupts import Uninterrupted
from kektordb.keeping import DatabaseCare
from kektordb.kv import KeyValue, KeyValueView, PendingPairs
from kektordb.lifetime import OfOneProcess, open_databases
from kektordb.loading import Opening
from kektordb.markup import indexes_html
from kektordb.metrics import Measured
from kektordb.operations import CreateIndex, DeleteKey, DropIndex, Operation, PutKey
from kektordb.reading import n_cores
from kektordb.replicas.following import Source
from kektordb.replicas.leaders import follower_of
from kektordb.replicas.refreshing import Refreshable, Refreshing
from kektordb.settings import check_settings
from kektordb.state import State
from kektordb.storage import Backend, RecoveryReport, Store
from kektordb.tasks import Tasks
from kektordb.upkeep.maintenance import Maintenance, Upkeep
from kektordb.upkeep.policies import SavePolicies, leaves_work, parse_policies
from kektordb.validation import check_name, check_path, check_threads, index_config, with_texts

if TYPE_CHECKING:
    from kektordb.embed import Embedder
    from kektordb.embed.choosing import Given

__all__ = ["Database", "open"]

SYNC_POLICIES = ("always", "everysec", "no")


class Database(DatabaseCare, DatabaseFeeding, Refreshable, Measured, OfOneProcess):
    """An embedded database: named indexes and a key-value store, durable in one directory.

    Made by `open`. All calls may be made from any number of threads; writes happen one after the other. It is a context
    manager that closes it. A process that forks keeps it, the child's calls raise ForkedHandle.
    """

    def __init__(
        self,
        path: str,
        store: Store | None,
        state: State,
        read_only: bool,
        share_syncs: bool,
        saving: SavePolicies | None,
    ) -> None:
        self._path = path
        self._store = store
        self._state = state
        self._read_only = read_only
        self._commits = Commits(state, store, share_syncs)
        self._save_lock = Exclusive("expected this call outside of the progress function of a save")
        self._gone: KektorError | None = None
        # By number, not by name: an index that is made anew under a name is another one.
        self._embedders: dict[int, Embedder] = {}
        self._upkeep = Upkeep(self, saving)
        open_databases.add(self)
        if saving is not None:
            self._upkeep.start_if_possible()

    # ------------------------------------------------------------------------------------------------------- opening

    @staticmethod
    def open(
        path: str | os.PathLike[str],
        *,
        sync: str = "everysec",
        read_only: bool = False,
        follow: str | os.PathLike[str] | Source | None = None,
        follow_interval: float = 0.1,
        follow_token: str | None = None,
        recover: str | None = None,
        autosave: str | Sequence[str] = "60 1000",
        aof_rewrite_percentage: int = 100,
        n_threads: int | None = None,
        backend: Backend | None = None,
    ) -> Database:
        """Open a database; a directory that does not exist becomes a new one.

        Parameters
        ----------
        path : str or path
            A directory, or ``":memory:"`` for a database without files. With `read_only` also a single file that
            holds a whole snapshot.
        sync : str
            When a write is made durable against loss of power (a write survives the end of the process in any case):
            ``"always"`` before the call returns, ``"everysec"`` within a second or two, ``"no"`` at close, save and
            `Database.sync`.
        read_only : bool
            Look at what is there now, without a lock and without changing a file; writes raise ReadOnlyDatabase. What a
            writer does afterwards is seen after `refresh`.
        follow : str, path or Source, optional
            Another database, which this one follows (see docs/replication.md): its directory, or the address of its
            server. It has all that is there, a moment later, in its own directory. Reads are served, writes raise
            ReadOnlyDatabase, until `promote`.
        follow_interval : float
            Seconds between two looks at it; 0 to look only when `refresh` is called.
        follow_token : str, optional
            What the server of the leader asks for.
        recover : str, optional
            ``"prefix"`` accepts the loss of what follows a damaged record of the log. Without it damage is CorruptLog.
        autosave : str or sequence of str
            ``"60 1000"``: a snapshot is written in the background when 60 seconds have passed and 1,000 changes were
            made since the last one. Several pairs may be given; ``""`` is for none.
        aof_rewrite_percentage : int
            A snapshot is also written when the log is larger than 64 MiB and than this percentage of the snapshot, or
            would take more than 5 seconds to replay; 0 for never.
        n_threads : int, optional
            Threads that build graphs; all cores by default.
        backend : Backend, optional
            What all files go through; tests inject faults with it.

        Raises
        ------
        DatabaseLocked
            Another process, named in the message, or this one has it open for writing.
        ReadOnlyDatabase
            It follows another database, and neither `follow` nor `read_only` was given.
        CorruptLog, CorruptSnapshot, StorageError, ReplicationError, ConfigError
        """
        path = check_path(path)
        if sync not in SYNC_POLICIES:
            raise ConfigError(f"expected sync to be one of {', '.join(SYNC_POLICIES)}, got {sync!r:.80}")
        if recover not in (None, "prefix"):
            raise ConfigError(f"expected recover to be None or 'prefix', got {recover!r:.80}")
        n_threads = n_cores() if n_threads is None else check_threads(n_threads)
        policies = parse_policies(autosave, aof_rewrite_percentage)
        if path == ":memory:" and follow is None:
            return Database(":memory:", None, State(n_threads), read_only, False, None)
        following = None if follow is None else follower_of(follow, follow_interval, path, read_only, follow_token)
        opening = Opening(os.path.abspath(path), sync, read_only, recover, n_threads, backend, following is not None)
        database = None
        try:
            with Uninterrupted(in_slices=True):
                store, state, replay_s = opening.load()
                refused = read_only or following is not None
                database = Database(path, store, state, refused, sync == "always", None if read_only else policies)
                database._refreshing = Refreshing(opening) if read_only else None
                if following is not None:
                    following.begin(database)
                # What was replayed would be replayed again: it counts for the next save.
                commits = database._commits
                commits.n_changes, commits.apply_s = store.recovery_report.records_replayed, replay_s
                return database
        except BaseException:
            if database is not None:
                database.close()
            raise

    def close(self) -> None:
        """Make everything durable and let go of the files; calls after this raise DatabaseClosed. May be called twice.

        It saves when what came after the last save would take more than a second to replay at the next open, unless
        `aof_rewrite_percentage` is 0.

        Raises StorageFailed when the last sync fails; the database is closed all the same.
        """
        if isinstance(self._gone, ForkedHandle):
            return
        self._refuse_inside_write()
        with Uninterrupted(in_slices=True):
            try:
                if self._gone is None:
                    if (following := self._following) is not None:
                        following.stop()
                    self._stop_feeding()
                    self._upkeep.close()
            finally:
                with Uninterrupted():
                    self._let_go()

    def _let_go(self) -> None:
        with self._save_lock.alone, self._commits.lock.alone:
            if self._gone is not None:
                return
            self._gone = DatabaseClosed(f"the database {self._path!r} was closed")
            # The memory is free now, whoever still has a handle.
            self._state = State(1)
            self._commits.exchange(self._state, self._store)
            if self._store is not None:
                self._store.close()

    def __enter__(self) -> Database:
        self._live()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _live(self) -> State:
        state = self._state  # before the look: close() puts an empty one in its place
        if self._gone is not None:
            raise self._gone
        return state

    def _writable(self) -> State:
        state = self._live()
        if self._read_only:
            why = "was opened with read_only=True" if self._following is None else "follows another one"
            raise ReadOnlyDatabase(f"the database {self._path!r} {why}")
        return state

    def _refuse_inside_write(self) -> None:
        """Raise when the calling thread holds a lock, so that to wait for another thread may be for ever."""
        if isinstance(self._gone, ForkedHandle):
            raise self._gone
        self._save_lock.refuse_holder()
        self._commits.lock.refuse_holder()

    def _commit(self, build: Build, n_threads: int | None = None, step: Step | None = None) -> Operation | None:
        def checked(pending: Pending) -> Operation | None:
            # Again under the commit lock: close() may have been faster.
            if self._gone is not None:
                raise self._gone
            return build(pending)

        self._writable()
        operation = self._commits.commit(checked, n_threads, step)
        if not self._upkeep.started and leaves_work(operation):
            self._upkeep.start_if_possible()
        return operation

    # ------------------------------------------------------------------------------------------------------- indexes

    def create_index(
        self,
        name: str,
        *,
        metric: str = "cosine",
        dim: int | None = None,
        m: int = 16,
        ef_construction: int = 200,
        seed: int = 0,
        precision: str = "float32",
        traversal: str = "codes",
        text_language: str = "",
        text_fields: Sequence[str] | None = None,
        stop_words: Sequence[str] | None = None,
        k1: float = 1.2,
        b: float = 0.75,
        field_weights: Mapping[str, float] | None = None,
        maintenance: Mapping[str, Any] | None = None,
        embedder: Given | None = None,
    ) -> Index:
        """Make an index.

        Parameters
        ----------
        name : str
            1 to 255 bytes in UTF-8.
        metric : str
            ``cosine`` (distance ``1 - cos``; vectors are stored normalised), ``euclidean`` (squared Euclidean
            distance) or ``dot`` (negated inner product).
        dim : int, optional
            Components of a vector; the first vector decides when it is left out.
        m : int
            Links of a row on the upper levels of the graph, half as many as on the lowest; 2 to 512.
        ef_construction : int
            Candidates kept while a row is inserted: more make a better graph, slower.
        seed : int
            Of the graph's levels.
        precision : str
            In which vectors are stored and compared: ``float32``, ``float16``, which takes half the memory, or
            ``int8``, which takes a quarter (see docs/precision.md). `Index.compress` changes it later.
        traversal : str
            ``codes``: the graph is built and walked on 8-bit codes of the vectors, and the best of what was found is
            compared in the stored precision. ``float32``: the vectors themselves, without codes; slower.
        text_language : str
            Of texts in the metadata, which `Index.search` finds by their words then: ``english``, any other language
            of Snowball, or ``simple``, which does not stem. Empty for none.
        text_fields : sequence of str, optional
            Fields that hold the texts, nested ones by dotted names; all strings by default (see docs/text.md).
        stop_words : sequence of str, optional
            Instead of the language's own.
        k1, b : float
            Of BM25: how soon more of the same word counts no more, and how much long texts are marked down (0 to 1).
        field_weights : dict, optional
            Factors of the scores of fields; 1 for those not named.
        maintenance : dict, optional
            When it is vacuumed and refined by itself; see `Index.configure`.
        embedder : Embedder, callable or str, optional
            What makes vectors of texts; see `Index.attach_embedder`. Its dimension is that of the index, if it says.

        Raises
        ------
        IndexExists, ConfigError, StorageError
        """
        name = check_name(name)
        made = None
        if embedder is not None:
            from kektordb.embed import as_embedder

            made = as_embedder(embedder)
            check_dim(name, dim, made)
            dim = made.dim if dim is None else dim
        config = index_config(metric, dim, m, ef_construction, seed, precision, traversal)
        config = with_texts(config, text_language, text_fields, stop_words, k1, b, field_weights)
        if maintenance is not None:
            config = config.configured(check_settings(maintenance))
        if made is not None:
            config = msgspec.structs.replace(config, embedder=made.name)

        def build(pending: Pending) -> Operation:
            pending.settle()
            if name in pending.state.numbers:
                raise IndexExists(f"expected a new name, got {name!r}, which is an index already")
            return CreateIndex(pending.state.next_number, name, config)

        self._commit(build)
        index = Index(self, name)
        if made is not None:
            index.attach_embedder(made)
        return index

    def drop_index(self, name: str) -> None:
        """Remove an index with all its items. Raises IndexNotFound."""

        def build(pending: Pending) -> Operation:
            pending.settle()
            pending.state.collection(name)
            return DropIndex(pending.state.numbers[name])

        self._commit(build)

    def index(self, name: str) -> Index:
        """Return a handle to an index. Raises IndexNotFound."""
        self._live().collection(name)
        return Index(self, name)

    def __getitem__(self, name: str) -> Index:
        return self.index(name)

    def __contains__(self, name: object) -> bool:
        numbers = self._live().numbers
        return isinstance(name, str) and name in numbers

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the indexes, sorted."""
        return iter(sorted(self._live().numbers))

    def __len__(self) -> int:
        return len(self._live().numbers)

    # ---------------------------------------------------------------------------------------------------------- keys

    @property
    def kv(self) -> KeyValueView:
        """The key-value store: a mutable mapping of str to bytes, as durable as the rest."""
        return KeyValueView(self)

    def _kv(self) -> KeyValue | PendingPairs:
        self._live()
        return self._commits.kv()

    def _kv_commit(self, key: str, value: bytes | None) -> None:
        self._commit(lambda _: DeleteKey(key) if value is None else PutKey(key, value))

    # ----------------------------------------------------------------------------------------------------- durability

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Make the writes of a ``with`` block one: all or none happen, when the block ends.

        An error in the block forgets them all. Reads of indexes in the block see them as they were before; those of
        `kv` see what the block has written. Other writers wait; indexes cannot be created or dropped in it. All or none
        holds for errors and crashes: readers in other threads may see a part while it is applied.
        """
        self._writable()
        with self._commits.batch():
            yield
            self._live()  # not in a child that was forked in the block: its parent writes

    def sync(self) -> None:
        """Make everything written so far durable, whatever the policy. Raises StorageFailed."""
        self._live()
        with Uninterrupted(), self._commits.lock.alone:
            self._live()
            if self._store is not None and not self._store.read_only:
                self._store.sync_now()

    def _save_stats(self) -> tuple[int, int, int, float]:
        """Return changes, bytes of log and snapshot, and seconds of applying since the last save."""
        store = self._store
        assert store is not None
        return self._commits.n_changes, store.log_bytes, store.snapshot_bytes, self._commits.apply_s

    # --------------------------------------------------------------------------------------------- in the background

    @property
    def tasks(self) -> Tasks:
        """The tasks in the background: all that have not ended, and the last 256."""
        self._live()
        return self._upkeep.tasks

    @property
    def maintenance(self) -> Maintenance:
        """What the database does by itself, and how it is paused."""
        self._live()
        return Maintenance(self._upkeep)

    # --------------------------------------------------------------------------------------------------- looking at it

    @property
    def path(self) -> Path | None:
        """The directory, or file; None for a database in memory."""
        return None if self._store is None else Path(self._path)

    @property
    def read_only(self) -> bool:
        """Whether writes are refused: it was opened with ``read_only=True``, or follows another database."""
        return self._read_only

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._gone is not None

    @property
    def recovery_report(self) -> RecoveryReport | None:
        """What was read, and what was torn, when it was opened; None for a database in memory."""
        return None if self._store is None else self._store.recovery_report

    def __repr__(self) -> str:
        closed = " closed" if self.closed else ""
        return f"<kektordb.Database {self._path!r}{closed}>"

    def _repr_html_(self) -> str:
        return indexes_html(repr(self), self.stats)


open = Database.open
