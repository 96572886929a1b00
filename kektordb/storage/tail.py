"""How are logs read on while somebody writes to them? Behind the last whole record, without a lock.

A pass over what is new:

1. Read the manifest. What it calls a log that another one follows is complete and durable.
2. See that the last record read is still where it was; else what was read is not what the writer went on from.
3. Read the open log to its last whole record. What is behind may be on its way, and is looked at again next time.
4. When the manifest names a log that begins where this one ended, go on with that. A log that was removed meanwhile is
   read to its end all the same: its file is open.

When no log goes on from where this one ended, the records between are in a snapshot only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Self

import msgspec

from ..errors import CorruptLog, HistoryDiverged, SnapshotNeeded, StorageError
from .backend import File
from .codec import FILE_HEADER_BYTES, LogName, decode_log_header
from .directory import Directory, log_name, naming_errors
from .log import LogReader, Record, look_onward

__all__ = ["Place", "Tail"]

# A writer may remove a log between our look at the manifest and at the file; this often in a row it is something else.
TRIES = 10


class Place(msgspec.Struct, frozen=True):
    """A place in a history: the last sequence number, and the digest of all records up to it."""

    seq: int
    digest: int


class Tail:
    """Reads the logs of a directory from one place on.

    Parameters
    ----------
    directory : Directory
        Opened read-only; its manifest is read anew by each pass, before the log that it names last.
    reader : LogReader
        Where the last log was read to. Its file is closed by `close`.
    """

    def __init__(self, directory: Directory, reader: LogReader) -> None:
        self.directory = directory
        self._uuid = directory.manifest.uuid
        self._reader = reader

    @classmethod
    def seek(cls, directory: Directory, place: Place) -> Self:
        """Return the tail behind a place in the history.

        Raises
        ------
        SnapshotNeeded
            The logs begin later.
        HistoryDiverged
            They end before it, or another record is there.
        CorruptLog, StorageError
        """
        for _ in range(TRIES):
            directory.open()
            logs = directory.manifest.logs
            name = next((name for name in reversed(logs) if name.seq <= place.seq), None)
            if name is None:
                raise _needed(directory, place.seq)
            reader = _open(directory, name)
            if reader is None:
                continue
            try:
                _skip(directory, reader, place)
            except BaseException:
                reader.file.close()
                raise
            return cls(directory, reader)
        raise StorageError(f"{directory.path}: logs vanish as soon as they are looked for")

    @property
    def place(self) -> Place:
        """Behind the last record that was yielded."""
        return Place(self._reader.good_seq, self._reader.digest)

    def records(self) -> Iterator[Record]:
        """Yield the whole records that have come since, in order; may be left at any of them.

        Raises
        ------
        SnapshotNeeded
            The next record is in no log any more.
        HistoryDiverged
            What was read is not what the writer went on from.
        CorruptLog
            A record that had been made durable is damaged.
        StorageError
        """
        failures = 0
        while failures < TRIES:
            self.directory.open()
            if self.directory.manifest.uuid != self._uuid:
                raise HistoryDiverged(f"{self.directory.path} holds another database by now")
            with naming_errors(f"cannot read the log in {self.directory.path}"):
                self._require_same()
                yield from self._read()
            name = self._next()
            if name is None:
                return
            failures += not self._move(name)
        raise StorageError(f"{self.directory.path}: logs vanish as soon as they are looked for")

    def behind_bytes(self) -> int:
        """Return how many bytes the logs hold behind the last record that was yielded, as far as is known."""
        n_bytes = self._reader.size - self._reader.good_end
        for name in self.directory.manifest.logs:
            if name.number > self._reader.number:
                with contextlib.suppress(OSError):
                    file = self.directory.open_file(log_name(name.number), "read")
                    n_bytes += max(0, file.size() - FILE_HEADER_BYTES)
                    file.close()
        return n_bytes

    def sync(self) -> None:
        """Make what was read durable where it lies. Raises StorageError."""
        with naming_errors(f"cannot sync {self.directory.path}"):
            self._reader.file.sync()

    def close(self) -> None:
        """Close the file."""
        self._reader.file.close()

    def _require_same(self) -> None:
        reader = self._reader
        reader.look_again()
        head = bytes(reader.last_head)
        if reader.size < reader.good_end or reader.file.pread(len(head), reader.last_at) != head:
            path = self.directory.join(log_name(reader.number))
            raise HistoryDiverged(f"{path}: record {reader.good_seq} was there and is not any more")
        reader.last_head = head  # a view would keep the whole window that it lies in

    def _read(self) -> Iterator[Record]:
        reader = self._reader
        for _ in range(2):
            yield from reader.records()
            if reader.stop_end == reader.size or look_onward(reader, reader.file).durable <= reader.stop_seq:
                return
            # It may have been overwritten between two of our looks: what is still wrong now stays wrong.
            reader.look_again()
        raise CorruptLog(
            f"record {reader.stop_seq + 1} is damaged although it was made durable",
            self.directory.join(log_name(reader.number)),
            reader.stop_end,
        )

    def _next(self) -> LogName | None:
        """Return the log that goes on from here, or None when this is the last one."""
        reader, logs = self._reader, self.directory.manifest.logs
        if reader.number == logs[-1].number:
            return None
        name = next((name for name in logs if name.number > reader.number and name.seq >= reader.good_seq), None)
        if name is not None and name.seq == reader.good_seq and name.digest == reader.digest:
            return name
        if any(name.number == reader.number for name in logs):
            raise CorruptLog(
                f"it ends with record {reader.good_seq}, but the next log does not begin there",
                self.directory.join(log_name(reader.number)),
                reader.good_end,
            )
        if logs[0].seq > reader.good_seq:
            raise _needed(self.directory, reader.good_seq)
        raise HistoryDiverged(f"{self.directory.path}: the writer went on from before record {reader.good_seq}")

    def _move(self, name: LogName) -> bool:
        """Go on with another log; return whether it was there."""
        reader = _open(self.directory, name)
        if reader is None:
            return False
        old, self._reader = self._reader, reader
        old.file.close()
        return True


def _open(directory: Directory, name: LogName) -> LogReader | None:
    """Return a reader for a log, or None when its file is gone. Raises CorruptLog, StorageError."""
    path, uuid = directory.join(log_name(name.number)), directory.manifest.uuid
    with naming_errors(f"cannot read {path}"):
        try:
            file: File = directory.open_file(log_name(name.number), "read")
        except FileNotFoundError:
            return None
        try:
            header = decode_log_header(file.pread(FILE_HEADER_BYTES, 0), path)
            if (header.uuid, header.number, header.seq) != (uuid, name.number, name.seq):
                raise CorruptLog("the log belongs to another database or generation", path)
            return LogReader(file, uuid, name.number, name.seq, None, name.digest)
        except BaseException:
            file.close()
            raise


def _skip(directory: Directory, reader: LogReader, place: Place) -> None:
    """Read a log up to a place, so that the reader goes on behind it."""
    if reader.good_seq < place.seq:
        with naming_errors(f"cannot read the log in {directory.path}"):
            for record in reader.records():
                if record.seq >= place.seq:
                    break
    if (reader.good_seq, reader.digest) != (place.seq, place.digest):
        is_short = reader.good_seq < place.seq
        why = f"it ends with record {reader.good_seq}" if is_short else "another record is there"
        raise HistoryDiverged(f"{directory.path} does not go on from record {place.seq}: {why}")


def _needed(directory: Directory, seq: int) -> SnapshotNeeded:
    first = directory.manifest.logs[0].seq + 1
    return SnapshotNeeded(f"{directory.path}: record {seq + 1} is not in the logs any more, which begin with {first}")
