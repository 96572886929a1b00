"""What does a leader give to those who follow it? The records behind a position, or its newest snapshot, as bytes.

A feed reads the files of a database beside the one that writes them, without a lock, in the same process or another.
What it gives was made durable before: a leader that loses power never knows less than its followers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Self

from ..errors import CorruptData, HistoryDiverged, SnapshotNeeded, StorageError
from .backend import Backend, Buffer, OfOneProcess, OsBackend
from .codec import FileHeader, Lineage, Manifest
from .directory import Directory
from .opening import open_newest
from .shipping import Chunk, Handover, Position, Shipped, encode_message
from .snapshot import Snapshot
from .snapshot_writer import write_sections
from .tail import TRIES, Place, Tail

__all__ = ["HANDOVER_LENGTH", "MAX_CHUNK_BYTES", "Feed", "require_within"]

MAX_CHUNK_BYTES = 4 << 20
# Followers that are served in turn without looking for their place in the log again.
MAX_TAILS = 16
# Between two looks at a log while a reader waits: a look at nothing new costs 0.03 ms of one core.
LOOK_S = 0.02
HANDOVER_LENGTH = Struct("<I")


class Feed(OfOneProcess):
    """The records of a database, for followers; usable from any number of threads of the process that made it.

    Parameters
    ----------
    path : str or path
        Of the database directory. It is opened with each call, and need not exist before.
    sync : bool
        Make records durable where they lie before they are given away. Without that a leader may lose, in a power cut,
        what a follower has: then the follower is refused (HistoryDiverged) and must be made anew.
    backend, clock, wait
        Files; seconds; how to wait for some seconds. Passed in by tests.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync: bool = True,
        backend: Backend | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__()
        self._path = os.path.abspath(os.fsdecode(path))
        self._sync = sync
        self._backend = backend or OsBackend()
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._tails: dict[Place, Tail] = {}

    def read(self, position: str, max_bytes: int = MAX_CHUNK_BYTES, timeout: float = 0.0) -> bytes:
        """Return the records behind a position, as a message for a follower.

        Parameters
        ----------
        position : str
            Of the follower: `str` of a `Position`.
        max_bytes : int
            About how many bytes of payloads; at least one record, if there is one.
        timeout : float
            Seconds to wait for the first record. The message holds none when none has come.

        Raises
        ------
        SnapshotNeeded
            The records are in no log any more: ask for `snapshot`.
        HistoryDiverged
            The position is not one that this database has gone through.
        ForkedHandle
            In a child of the process that made the feed.
        ConfigError, CorruptLog, StorageError
        """
        self._require_ours()
        wanted = Position.parse(position)
        give_up_at = self._clock() + timeout
        while True:
            chunk = self._collect(wanted, max_bytes)
            left_s = give_up_at - self._clock()
            if chunk.records or left_s <= 0:
                return encode_message(chunk)
            self._wait(min(LOOK_S, left_s))

    def snapshot(self, write: Callable[[bytes], object]) -> None:
        """Hand the newest snapshot over: a message that says what it is, then the bytes of a backup file.

        Parameters
        ----------
        write : callable
            Is given the bytes, piece by piece, perhaps from another thread. An OSError that it raises ends the call.

        Raises
        ------
        ForkedHandle
            In a child of the process that made the feed.
        CorruptSnapshot, StorageError
        """
        self._require_ours()
        snapshot, manifest = self._open_newest()
        try:
            lineage = manifest.whose()
            start = encode_message(Handover(lineage.history, lineage.branches, snapshot.seq, manifest.logs[0].digest))
            write(HANDOVER_LENGTH.pack(len(start)) + start)
            header = FileHeader(manifest.uuid, snapshot.number, 0, snapshot.seq)
            write_sections(_Stream(write), header, snapshot.meta, snapshot.copied(), None, None)
        finally:
            snapshot.close()

    def close(self) -> None:
        """Close the files; the feed can be used again after that. In a forked child it does nothing."""
        if not self._is_ours:
            return  # a thread of the parent may have held the lock
        with self._lock:
            tails, self._tails = self._tails, {}
        for tail in tails.values():
            tail.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _collect(self, wanted: Position, max_bytes: int) -> Chunk:
        with self._lock:
            tail = self._tails.pop(wanted.place, None)
        if tail is not None:
            try:
                return self._collect_from(tail, wanted, max_bytes)
            except (SnapshotNeeded, HistoryDiverged):
                pass  # The log may have been replaced by one that holds the same records: look for the place anew.
        directory = Directory(self._path, self._backend, read_only=True)
        # Before the place is looked for: a follower of another database shall not be told to take a snapshot of this.
        directory.open()
        require_within(directory.manifest.whose(), wanted, self._path)
        return self._collect_from(Tail.seek(directory, wanted.place), wanted, max_bytes)

    def _collect_from(self, tail: Tail, wanted: Position, max_bytes: int) -> Chunk:
        try:
            records, n_bytes = [], 0
            for record in tail.records():
                records.append(Shipped(record.seq, record.type, bytes(record.payload)))
                n_bytes += len(record.payload)
                if n_bytes >= max_bytes:
                    behind_bytes = tail.behind_bytes()
                    break
            else:
                behind_bytes = 0
            if records and self._sync:
                tail.sync()
            # Read by the last pass, and so not before the log that the last record lies in was named.
            lineage = tail.directory.manifest.whose()
            require_within(lineage, wanted, self._path)
            place = tail.place
            chunk = Chunk(lineage.history, lineage.branches, records, place.seq, place.digest, behind_bytes)
        except BaseException:
            tail.close()
            raise
        self._keep(tail)
        return chunk

    def _keep(self, tail: Tail) -> None:
        with self._lock:
            surplus = [self._tails.pop(tail.place, None)]
            if len(self._tails) >= MAX_TAILS:
                surplus.append(self._tails.pop(next(iter(self._tails))))
            self._tails[tail.place] = tail
        for old in surplus:
            if old is not None:
                old.close()

    def _open_newest(self) -> tuple[Snapshot, Manifest]:
        directory = Directory(self._path, self._backend, read_only=True)
        for _ in range(TRIES):
            directory.open()
            manifest = directory.manifest
            if not manifest.snapshot:
                raise StorageError(f"{self._path} has no snapshot: its records are in its logs")
            try:
                return open_newest(directory, manifest.snapshot, manifest.snapshot_check), manifest
            except CorruptData:
                # A writer may have published a newer one and removed this one.
                directory.open()
                if directory.manifest == manifest:
                    raise
        raise StorageError(f"{self._path}: snapshots vanish as soon as they are looked for")


def require_within(lineage: Lineage, wanted: Position, path: str) -> None:
    """Raise HistoryDiverged unless a position lies in this history or in what it goes on from."""
    if wanted.history == lineage.history or (not wanted.history and not wanted.seq):
        return
    branch = next((branch for branch in lineage.branches if branch.history == wanted.history), None)
    if branch is None:
        raise HistoryDiverged(f"{path} has the history {lineage.history.hex()}, which never was {wanted.history.hex()}")
    if wanted.seq > branch.seq:
        raise HistoryDiverged(
            f"{path} went its own way after record {branch.seq} of the history {wanted.history.hex()}, of which the "
            f"follower has records up to {wanted.seq}"
        )


class _Stream:
    """A file that is only written, and hands everything on."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._n_bytes = 0

    def writev(self, parts: Sequence[Buffer]) -> int:
        data = b"".join(parts)
        self._write(data)
        self._n_bytes += len(data)
        return len(data)

    def size(self) -> int:
        return self._n_bytes

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass

    def pread(self, n: int, offset: int) -> bytes:
        raise NotImplementedError

    def pread_into(self, target: memoryview, offset: int) -> int:
        raise NotImplementedError

    def truncate(self, size: int) -> None:
        raise NotImplementedError
