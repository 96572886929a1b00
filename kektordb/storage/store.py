"""The one door of the storage: a directory of records and named sections of bytes that survives what may happen.

It knows nothing of what the bytes mean. Appends come from one thread at a time (the database's commit lock); syncing in
the background and `write_snapshot` run beside them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import msgspec

from ..errors import (
    ConfigError,
    DatabaseClosed,
    ReadOnlyDatabase,
    StorageError,
    StorageFailed,
)
from ..types import Section
from .backend import Backend, Buffer, OsBackend
from .codec import FILE_HEADER_BYTES, FileHeader, Lineage, LogName, Manifest
from .directory import TEMPORARY, Directory, log_name, naming_errors, snapshot_name
from .log import Log, Record
from .opening import Opened, open_files, open_newest
from .recovery import RecoveryReport
from .snapshot_writer import Progress, SaveReport, Written, write_file
from .sync import Syncer
from .tail import Place, Tail

__all__ = ["RecoveryReport", "Save", "SaveReport", "Store"]

_logger = logging.getLogger("kektordb")


class Save(msgspec.Struct, frozen=True):
    """A place in history at which a snapshot is being made: it covers all records up to `seq`."""

    number: int
    seq: int


class Store:
    """An open database directory, or a backup file; made by `open`.

    Attributes
    ----------
    path : str
        Of the directory or file.
    read_only : bool
        Nothing on disk is changed, and no lock is held.
    snapshot : Snapshot or None
        The newest one: its `meta` and its sections.
    watchers : tuple of callables
        Called after each record that was appended, by the thread that did: they return at once, and raise nothing.
    """

    def __init__(self, path: str, opened: Opened, syncer: Syncer, backend: Backend, clock: Callable[[], float]) -> None:
        self.path = path
        self.read_only = opened.directory is None or opened.directory.read_only
        self.snapshot = opened.snapshot
        self._directory = opened.directory
        self._replay = opened.replay
        self._syncer = syncer
        self._backend = backend
        self._clock = clock
        self._log: Log | None = None
        self._tail: Tail | None = None
        self.watchers: tuple[Callable[[], None], ...] = ()
        self._is_replayed = False
        self._is_closed = False
        self._snapshot_bytes = 0 if self.snapshot is None else self.snapshot.stored_bytes
        self._old_logs: dict[int, int] = {}  # sizes by number
        self._saving = threading.Lock()
        # Guards read, change and publication of the manifest: a save begins, ends and closes from different threads.
        self._manifest_lock = threading.RLock()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        sync: str = "everysec",
        read_only: bool = False,
        recover: str | None = None,
        backend: Backend | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Open a directory, created when missing, or with `read_only` also a backup file.

        Parameters
        ----------
        sync : {"always", "everysec", "no"}
            When appended records become durable.
        recover : {"prefix"}, optional
            Go on with the records before a damaged one instead of raising CorruptLog.

        Raises
        ------
        DatabaseLocked
            It is open for writing, here or in another process.
        CorruptSnapshot, StorageError, ConfigError
            The files cannot be used; nothing was changed.
        """
        if recover not in (None, "prefix"):
            raise ConfigError(f'recover must be None or "prefix", not {recover!r}')
        absolute = os.path.abspath(os.fsdecode(path))  # the process may change its directory
        syncer, backend = Syncer(sync, clock), backend or OsBackend()
        opened = open_files(absolute, backend, read_only=read_only, recover=recover is not None)
        return cls(absolute, opened, syncer, backend, clock)

    @property
    def recovery_report(self) -> RecoveryReport:
        """What `replay` found; complete when it is exhausted or has raised."""
        return RecoveryReport() if self._replay is None else self._replay.report

    @property
    def last_seq(self) -> int:
        """Sequence number of the last record."""
        if self._log is not None:
            return self._log.seq
        if self._tail is not None:
            return self._tail.place.seq
        if self._replay is not None:
            return self._replay.last_seq
        return 0 if self.snapshot is None else self.snapshot.seq

    @property
    def place(self) -> Place:
        """The last record of a database that can be appended to, and the digest of all up to it."""
        log = self._require_writable()
        return Place(log.seq, log.digest)

    @property
    def lineage(self) -> Lineage:
        """Whose records these are."""
        return self._require_directory().manifest.whose()

    @property
    def log_bytes(self) -> int:
        """Size of all logs that a replay would read."""
        if self._log is not None:
            return self._log.end + sum(self._old_logs.values())
        return 0 if self._replay is None else sum(self._replay.sizes.values())

    @property
    def log_end(self) -> tuple[int, int] | None:
        """Number of the log that takes records, and where its last whole one ends; None when reading only."""
        log = self._log
        return None if log is None else (log.number, log.end)

    @property
    def backend(self) -> Backend:
        """What all files go through."""
        return self._backend

    @property
    def snapshot_bytes(self) -> int:
        """Stored bytes of the newest snapshot, wherever they lie; 0 when there is none."""
        return self._snapshot_bytes

    @property
    def is_file(self) -> bool:
        """Whether this is a backup file, which never changes."""
        return self._directory is None

    @property
    def generation(self) -> int:
        """Number of the newest log; grows by one with each save."""
        return 0 if self._directory is None else self._directory.manifest.generation

    @property
    def n_syncs(self) -> int:
        """Syncs of the log so far."""
        return self._syncer.n_syncs

    def replay(self) -> Iterator[Record]:
        """Yield all records after the snapshot, in order; may be called once.

        A payload is a view into a read buffer that lives as long as the view. When the iterator is exhausted, records
        can be appended.

        Raises
        ------
        CorruptLog
            A record that had been made durable is damaged or missing, and `recover` was not given.
        """
        self._require_open()
        if self._is_replayed:
            raise StorageError(f"{self.path}: the log was replayed already")
        self._is_replayed = True
        if self._replay is not None:
            yield from self._replay.records()
            log = self._replay.log
            if log is not None:
                self._old_logs = {n: size for n, size in self._replay.sizes.items() if n != log.number}
                self._syncer.follow(log)
                self._log = log
            if self._replay.last is not None and self._directory is not None:
                self._tail = Tail(self._directory, self._replay.last)

    def records_since(self) -> Iterator[Record] | None:
        """Yield what a writer appended behind the last record; None when reading on from there is impossible.

        Raises what `Tail.records` does.
        """
        self._require_open()
        return None if self._tail is None else self._tail.records()

    def append(self, type: int, parts: Sequence[Buffer]) -> int:
        """Write one record; return its sequence number. It survives the process, not yet the machine.

        Parameters
        ----------
        type : int
            0 to 65,535, for the reader.
        parts : sequence of bytes-like
            Joined they are the payload. Contiguous.

        Raises
        ------
        StorageFull
            Nothing was written; may be tried again.
        StorageFailed
            Nothing can be written any more until the database is opened anew.
        """
        log = self._log
        if log is None or self._syncer.failure is not None:
            self._require_writable()
            raise AssertionError("not reached")
        try:
            seq = log.append(type, parts)
        except StorageFailed as failure:
            self._syncer.fail(failure)
            self._syncer.take_back_refused()
            raise
        self._syncer.check()  # the log may have been cut back by a failed sync meanwhile
        for watcher in self.watchers:
            watcher()
        return seq

    def after_append(self) -> None:
        """Do what the sync policy promises before a write returns; needs no lock. Raises StorageFailed."""
        self._syncer.after_append()

    def sync_now(self) -> None:
        """Make all appended records durable; concurrent callers share one sync. Raises StorageFailed."""
        self._require_open()
        self._syncer.sync()

    def begin_save(self, lineage: Lineage | None = None) -> Save:
        """Start a new log, so that a snapshot of the state as it is now can replace all older ones.

        No record may be appended during the call. It syncs; `sync_now` beforehand makes that short. With `lineage` the
        records from the new log on are those of another history. Raises StorageFull or StorageError when nothing has
        changed, StorageFailed.
        """
        log = self._require_writable()
        self._syncer.sync()
        with self._manifest_lock:
            directory = self._require_directory()
            manifest, number = directory.manifest, directory.manifest.generation
            with self._syncer.failing(), naming_errors(f"cannot create {directory.join(log_name(number + 1))}"):
                file = directory.create_log(number + 1, log.end, log.seq)
            logs = (*manifest.logs, LogName(number + 1, log.seq, log.digest))
            lineage = manifest.lineage if lineage is None else lineage
            try:
                self._publish(
                    msgspec.structs.replace(manifest, generation=number + 1, logs=logs, close=None, lineage=lineage)
                )
            except StorageFailed:
                file.close()
                raise
            except BaseException:
                file.close()
                directory.discard(log_name(number + 1))
                raise
            path = directory.join(log_name(number + 1))
            self._old_logs = {**self._old_logs, log.number: log.end}
            self._log = Log(file, path, number + 1, manifest.uuid, FILE_HEADER_BYTES, log.seq, 0, log.digest)
            self._syncer.follow(self._log)
        return Save(number, log.seq)

    def write_snapshot(
        self, save: Save, meta: bytes, sections: Sequence[Section], progress: Progress | None = None
    ) -> SaveReport:
        """Write the state as it was at `begin_save`, and let it replace the older snapshot and logs. Needs no lock.

        1. Write ``tmp-snapshot-N``, sync it, rename it, sync the directory.
        2. Publish the manifest that names it and only the logs begun after it.
        3. Remove what is no longer named.

        Raises
        ------
        StorageFull, StorageError, CorruptSnapshot
            The old files are in force; a later save covers everything.
        """
        with self._saving:
            self._require_writable()
            started_at = self._clock()
            directory = self._require_directory()
            if save.number <= directory.manifest.snapshot:
                raise StorageError(f"snapshot {save.number} was written already, or is older than the newest one")
            name = snapshot_name(save.number)
            header = FileHeader(directory.manifest.uuid, save.number, 0, save.seq)
            path, temporary = directory.join(name), directory.join(TEMPORARY + name)
            try:
                written = write_file(self._backend, temporary, path, header, meta, sections, self.snapshot, progress)
                snapshot = open_newest(directory, save.number, written.check)
                try:
                    self._publish_snapshot(save, written)
                except BaseException:
                    snapshot.close()
                    raise
            except StorageFailed:
                raise  # the new manifest may be the one in force: its files must stay
            except BaseException:
                directory.discard(name)
                raise
            old, self.snapshot = self.snapshot, snapshot
            self._snapshot_bytes = written.bytes_total
            if old is not None:
                old.close()
            directory.remove_unnamed()
            seconds = self._clock() - started_at
            return written.report(seconds)

    def backup_header(self, target: str, seq: int) -> FileHeader:
        """Return how a backup begins whose sections hold all records up to `seq`.

        Raises StorageError when the target is a file of the database.
        """
        self._require_open()
        if self._directory is not None and self._directory.is_ours(target):
            raise StorageError(f"{target} is a file of the database itself")
        uuid = os.urandom(16) if self._directory is None else self._directory.manifest.uuid
        return FileHeader(uuid, max(1, self.generation), 0, seq)

    def close(self) -> None:
        """Make everything durable, note in the manifest that all is complete, release the lock; idempotent.

        Raises StorageFailed when the last records could not be made durable; it is closed all the same.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._log is not None and self._syncer.failure is None:
                self._syncer.sync()
                self._publish_close_note(self._log)
        finally:
            self._log = None
            self._release()

    def _publish_snapshot(self, save: Save, written: Written) -> None:
        with self._manifest_lock:
            manifest = self._require_directory().manifest
            logs = tuple(log for log in manifest.logs if log.number > save.number)
            self._publish(
                msgspec.structs.replace(
                    manifest,
                    snapshot=save.number,
                    snapshot_check=written.check,
                    files=written.files,
                    logs=logs,
                )
            )
            self._old_logs = {n: size for n, size in self._old_logs.items() if n > save.number}

    def _publish_close_note(self, log: Log) -> None:
        with self._manifest_lock:
            manifest = self._require_directory().manifest
            if manifest.close == log.note():
                return
            try:
                self._publish(msgspec.structs.replace(manifest, close=log.note()))
            except StorageError as error:  # everything is durable: only the next open will have less to compare with
                _logger.warning("%s: closed without a note (%s)", self.path, error)

    def _publish(self, manifest: Manifest) -> None:
        with self._syncer.failing():
            self._require_directory().publish(manifest)

    def _release(self) -> None:
        self._syncer.close()
        if self._replay is not None:
            self._replay.close()
        if self._tail is not None:
            self._tail.close()
        if self.snapshot is not None:
            self.snapshot.close()
        if self._directory is not None:
            self._directory.unlock()

    def _require_open(self) -> None:
        if self._is_closed:
            raise DatabaseClosed(f"{self.path} was closed")

    def _require_writable(self) -> Log:
        self._require_open()
        if self.read_only:
            raise ReadOnlyDatabase(f"{self.path} was opened read-only")
        self._syncer.check()
        if self._log is None:
            raise StorageError(f"{self.path}: the log must be replayed to its end before anything is appended")
        return self._log

    def _require_directory(self) -> Directory:
        if self._directory is None:
            raise ReadOnlyDatabase(f"{self.path} is a backup file")
        return self._directory
