"""What of the logs is history: where it ends, whether the end is a torn tail or damage, and how writing goes on.

1. The logs that the manifest names are read in order, each up to the first byte that is no next record.
2. A log that another one follows was synced before that one began: anything but its full length is damage. So is a
   shorter or different log than the note of the last clean close says.
3. Behind the bad place of the last log, a valid header that calls the bad record durable proves damage.
4. Otherwise the tail was never durable. It is set aside in ``log-N.torn``, cut off, and the log goes on.
5. Damage is an error and changes nothing, unless the caller asked for the prefix: the good records of that log are then
   copied into a new one, which takes the place of the damaged log and all later ones in one publication.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import msgspec

from ..errors import CorruptLog, StorageError
from .backend import File, write_all
from .codec import FILE_HEADER_BYTES, LogName, decode_log_header
from .directory import TEMPORARY, Directory, log_name, naming_errors, torn_name
from .log import Log, LogReader, Onward, Record, look_onward

__all__ = ["RecoveryReport", "Replay"]

COPY_BYTES = 4 << 20
MAX_TORN = 9  # ends of one log that are kept; one more takes the place of the last
MISSING = "the manifest names this log, but it is missing"
_logger = logging.getLogger("kektordb")


class RecoveryReport(msgspec.Struct, frozen=True):
    """What an open found in the logs.

    Attributes
    ----------
    records_replayed : int
        Records read back.
    torn_bytes : int
        Bytes behind the last whole record that were never durable, or that were given up with ``recover="prefix"``.
    torn_path : str or None
        Where they were set aside.
    lost_records : int
        Readable records behind the end of the prefix.
    first_lost_seq : int or None
        The sequence number at which the prefix ended; None when nothing was cut off.
    damage : str or None
        What was wrong when ``recover="prefix"`` went on in spite of it.
    """

    records_replayed: int = 0
    torn_bytes: int = 0
    torn_path: str | None = None
    lost_records: int = 0
    first_lost_seq: int | None = None
    damage: str | None = None


class Replay:
    """Reads the logs of a directory once, and leaves the last one ready for appending.

    Attributes
    ----------
    log : Log or None
        To go on with, once `records` is exhausted; None when reading only.
    report : RecoveryReport
        What was found; complete once `records` is exhausted or has raised.
    last_seq : int
        The last sequence number read.
    last : LogReader or None
        When reading only, where the last log was read to; its file stays open.
    sizes : dict
        Size of each log, by number.
    """

    def __init__(self, directory: Directory, recover: bool) -> None:
        self.log: Log | None = None
        self.last: LogReader | None = None
        self.report = RecoveryReport()
        self._directory = directory
        self._recover = recover
        self._names = directory.manifest.logs
        self._files: list[File | None] = [self._open(name) for name in self._names]
        for name, file in zip(self._names, self._files, strict=True):
            if file is None and directory.read_only and not recover:
                self.close()  # at once: the writer may have published a set without it
                raise CorruptLog(
                    "the manifest names this log, but it is missing", directory.join(log_name(name.number))
                )
        self.last_seq = self._names[0].seq
        self.sizes = {
            name.number: file.size() for name, file in zip(self._names, self._files, strict=True) if file is not None
        }

    def records(self) -> Iterator[Record]:
        """Yield all records after the snapshot. Raises CorruptLog, StorageError, StorageFull."""
        with naming_errors(f"cannot read the log in {self._directory.path}"):
            previous_end = None
            for i, name in enumerate(self._names):
                damage = self._header_damage(i, previous_end)
                if damage is None or self._recover:
                    reader = self._reader(i)
                    if reader is not None:
                        yield from self._counted(reader)
                        damage = damage or self._damage(i, reader)
                        previous_end = reader.good_end
                if damage is not None:
                    self._go_on_behind_damage(i, damage)
                    break
                if i + 1 == len(self._names):
                    assert reader is not None
                    self._settle(name, reader)
        self.close()

    def inspect(self) -> Iterator[tuple[LogName, LogReader | None, int, CorruptLog | None]]:
        """Walk every log, whatever is wrong with it; yield its name, reader, number of records and damage.

        Nothing is changed; `close` is all that may follow. Raises StorageError.
        """
        with naming_errors(f"cannot read the log in {self._directory.path}"):
            previous_end = None
            for i, name in enumerate(self._names):
                damage, reader, n = self._header_damage(i, previous_end), self._reader(i), 0
                if reader is not None:
                    n = sum(1 for _ in reader.records())
                    damage = damage or self._damage(i, reader)
                previous_end = None if reader is None else reader.size
                yield name, reader, n, damage

    def close(self) -> None:
        """Close the files that are only read."""
        for file in self._files:
            in_use = self.log or self.last
            if file is not None and (in_use is None or file is not in_use.file):
                file.close()
        self._files = [None] * len(self._files)

    def _open(self, name: LogName) -> File | None:
        last = name is self._names[-1]
        try:
            return self._directory.open_file(
                log_name(name.number), "append" if last and not self._directory.read_only else "read"
            )
        except FileNotFoundError:
            return None

    def _reader(self, i: int) -> LogReader | None:
        file, name, manifest = self._files[i], self._names[i], self._directory.manifest
        if file is None:
            return None
        note = manifest.close if manifest.close is not None and manifest.close.log == name.number else None
        return LogReader(file, manifest.uuid, name.number, name.seq, note, name.digest)

    def _counted(self, reader: LogReader) -> Iterator[Record]:
        n = self.report.records_replayed
        try:
            for record in reader.records():
                n += 1
                self.last_seq = record.seq
                yield record
        finally:
            self.report = msgspec.structs.replace(self.report, records_replayed=n)

    def _header_damage(self, i: int, previous_end: int | None) -> CorruptLog | None:
        file, name = self._files[i], self._names[i]
        path = self._directory.join(log_name(name.number))
        if file is None:
            return CorruptLog(MISSING, path)
        try:
            header = decode_log_header(file.pread(FILE_HEADER_BYTES, 0), path)
        except CorruptLog as error:
            return error
        if (header.uuid, header.number, header.seq) != (self._directory.manifest.uuid, name.number, name.seq):
            return CorruptLog("the log belongs to another database or generation", path)
        if previous_end is not None and header.previous_bytes != previous_end:
            return CorruptLog(f"the log before it should have {header.previous_bytes} bytes, not {previous_end}", path)
        return None

    def _damage(self, i: int, reader: LogReader) -> CorruptLog | None:
        """Tell damage from a torn tail, and note in the report what lies behind."""
        file = self._files[i]
        assert file is not None
        at_end = reader.stop_end == reader.size
        behind = Onward(0, 0) if at_end else look_onward(reader, file)
        if reader.good_end == reader.size and reader.note_holds and self._is_complete(i, reader):
            return None
        lost = msgspec.structs.replace(self.report, lost_records=behind.n_records, first_lost_seq=reader.good_seq + 1)
        self.report = msgspec.structs.replace(lost, torn_bytes=reader.size - reader.good_end)
        if reader.note_holds and self._is_complete(i, reader) and behind.durable <= reader.stop_seq:
            return None
        return CorruptLog(
            f"record {reader.stop_seq + 1} is missing or damaged although it was made durable; "
            f"{behind.n_records} readable records lie behind it",
            self._directory.join(log_name(self._names[i].number)),
            reader.stop_end,
        )

    def _is_complete(self, i: int, reader: LogReader) -> bool:
        if i + 1 == len(self._names):
            return True
        return reader.good_end == reader.size and reader.good_seq == self._names[i + 1].seq

    def _settle(self, name: LogName, reader: LogReader) -> None:
        """Cut off the tail of the last log and go on behind its last whole record."""
        file, directory, torn = self._files[-1], self._directory, reader.size - reader.good_end
        assert file is not None
        path = directory.join(log_name(name.number))
        if torn:
            if not directory.read_only:
                self._set_aside(name, file, reader.good_end)
                file.truncate(reader.good_end)
                self.sizes[name.number] = reader.good_end
            _logger.warning("%s: %d bytes behind its last whole record were not durable", path, torn)
        if directory.read_only:
            self.last = reader
            return
        if torn or reader.good_seq > name.seq:
            file.sync()  # what was read back must not vanish later
        uuid = directory.manifest.uuid
        self.log = Log(file, path, name.number, uuid, reader.good_end, reader.good_seq, reader.chain, reader.digest)

    def _set_aside(self, name: LogName, file: File, start: int) -> bool:
        """Keep what will go for a human eye; going on without it is better than not opening on a full disk."""
        directory, temporary = self._directory, TEMPORARY + torn_name(name.number)
        try:
            kept, last = self._names_aside(name.number)
            if last and self._holds(last, file, start):
                kept = last  # an open was cut short when it had kept it
            else:
                self._copy(file, start, temporary)
                directory.backend.replace(directory.join(temporary), directory.join(kept))
            directory.backend.sync_dir(directory.path)
        except OSError as error:
            directory.discard(temporary)
            _logger.warning("the end of %s could not be kept (%s)", directory.join(log_name(name.number)), error)
            return False
        first = self.report.torn_path or directory.join(kept)
        self.report = msgspec.structs.replace(self.report, torn_path=first)
        return True

    def _names_aside(self, number: int) -> tuple[str, str]:
        """Return the name for what is kept of a log next, and that of what was kept last, empty for nothing."""
        name = last = ""
        for n in range(1, MAX_TORN + 1):
            name = torn_name(number, n)
            if not self._directory.backend.exists(self._directory.join(name)):
                break
            last = name
        return name, last

    def _holds(self, kept: str, file: File, start: int) -> bool:
        other = self._directory.open_file(kept, "read")
        try:
            if other.size() != file.size() - start:
                return False
            places = range(0, other.size(), COPY_BYTES)
            return all(other.pread(COPY_BYTES, at) == file.pread(COPY_BYTES, start + at) for at in places)
        finally:
            other.close()

    def _copy(self, file: File, start: int, target: str) -> None:
        copy = self._directory.open_file(target, "create")
        try:
            while data := file.pread(COPY_BYTES, start):
                write_all(copy, data)
                start += len(data)
            copy.sync()
        finally:
            copy.close()

    def _go_on_behind_damage(self, i: int, damage: CorruptLog) -> None:
        self.report = msgspec.structs.replace(self.report, damage=str(damage))
        if self.report.first_lost_seq is None:
            self.report = msgspec.structs.replace(self.report, first_lost_seq=self.last_seq + 1)
        if not self._recover:
            self.close()
            raise damage
        _logger.warning("%s; going on with the records before it", damage)
        if self._directory.read_only:
            return
        directory, manifest, name = self._directory, self._directory.manifest, self._names[i]
        number = manifest.generation + 1
        file = directory.create_log(number, FILE_HEADER_BYTES if i == 0 else self._end_before(i), name.seq)
        path = directory.join(log_name(number))
        log = Log(file, path, number, manifest.uuid, FILE_HEADER_BYTES, name.seq, 0, name.digest)
        reader = self._reader(i)
        for record in reader.records() if reader is not None else ():
            log.append(record.type, (record.payload,))
        log.sync()
        # Before the publication: the next open removes what is not named.
        kept = {
            old.number
            for old, bad in zip(self._names[i:], self._files[i:], strict=True)
            if bad is not None and self._set_aside(old, bad, 0)
        }
        logs = (*self._names[:i], LogName(number, name.seq, name.digest))
        directory.publish(msgspec.structs.replace(manifest, generation=number, logs=logs, close=None))
        self.close()  # what is open cannot be renamed on Windows
        self._retire(i, kept)
        self.log = log
        self.sizes = {old.number: self.sizes[old.number] for old in self._names[:i]}

    def _end_before(self, i: int) -> int:
        file = self._files[i - 1]
        if file is None:
            raise StorageError("the log before a damaged one is missing")
        return file.size()

    def _retire(self, i: int, kept: set[int]) -> None:
        directory = self._directory
        for name in self._names[i:]:
            source = directory.join(log_name(name.number))
            with contextlib.suppress(OSError):
                if name.number in kept:
                    directory.backend.unlink(source)
                    continue
                target = directory.join(self._names_aside(name.number)[0])
                directory.backend.replace(source, target)
                self.report = msgspec.structs.replace(self.report, torn_path=self.report.torn_path or target)
