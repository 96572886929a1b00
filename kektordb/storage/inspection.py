"""In which state is each file of a database? Every byte is read and nothing is changed, also beside a writer."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from ..errors import CorruptData, CorruptSnapshot, StorageError
from .backend import Backend, OsBackend
from .codec import FILE_HEADER_BYTES, FileName, decode_log_header
from .directory import LOCK, MANIFEST, NUMBERED, TEMPORARY, Directory, log_name, naming_errors, snapshot_name
from .log import LogReader
from .opening import backup_file, snapshot_files
from .recovery import Replay
from .snapshot import Snapshot, SnapshotFiles, open_alone, padded

__all__ = ["DAMAGED", "MISSING", "SOUND", "TORN", "UNUSED", "Damage", "FileReport", "inspect_files"]

SOUND, TORN, DAMAGED, MISSING, UNUSED = "sound", "torn tail", "damaged", "missing", "not used"
# A busy writer may publish a new set between two looks; this often in a row it is something else.
TRIES = 10
SUFFIX_TORN = ".torn"


class Damage(msgspec.Struct, frozen=True):
    """A place in a file that is not as it was written.

    Attributes
    ----------
    offset : int
        Where it starts.
    n_bytes : int
        How long it is; 0 when that cannot be said.
    what : str
        What is wrong, and of what.
    """

    offset: int
    n_bytes: int
    what: str


class FileReport(msgspec.Struct, frozen=True):
    """The state of one file.

    Attributes
    ----------
    name : str
        In the directory; of a backup, its own.
    kind : str
        ``manifest``, ``snapshot``, ``log``, ``backup``, ``lock``, ``torn tail``, ``left over``, ``other``.
    n_bytes : int
        Its size.
    n_parts : int
        Records of a log, blocks of a snapshot.
    verdict : str
        ``sound``; ``torn tail``: the last bytes of a log were never promised, the next writer cuts them off;
        ``damaged``; ``missing``; ``not used``: no part of the database.
    damage : tuple of Damage
        All places that were found; for a torn tail, the tail.
    """

    name: str
    kind: str
    n_bytes: int
    n_parts: int
    verdict: str
    damage: tuple[Damage, ...] = ()


def inspect_files(
    path: str, backend: Backend | None = None, reached: tuple[int, int] | None = None
) -> tuple[FileReport, ...]:
    """Read every byte of a database directory or backup file.

    Parameters
    ----------
    path : str
    backend : Backend, optional
    reached : (int, int), optional
        Number of a log, and how long it is known to be: to end before is damage, to end there is no torn tail.

    Raises
    ------
    StorageError
        There is no database, or reading fails.
    """
    absolute, files = os.path.abspath(path), backend or OsBackend()
    if files.exists(absolute) and not files.is_dir(absolute):
        with naming_errors(f"cannot read {absolute}"):
            return (_inspect_backup(absolute, files),)
    directory = Directory(absolute, files, read_only=True)
    before: tuple[FileReport, ...] = ()
    for _ in range(TRIES):
        with naming_errors(f"cannot read {absolute}"):
            try:
                directory.require_manifest()
                directory.open()
            except CorruptSnapshot as error:
                return _inspect_without_manifest(directory, error)
            reports = _inspect_named(directory, reached)
        # What is wrong may be a writer at work: then it looks different the next time, or the manifest has moved on.
        if all(report.verdict in (SOUND, UNUSED) for report in reports) or reports == before:
            return reports
        before = reports
    return before


def _inspect_backup(path: str, backend: Backend) -> FileReport:
    files = backup_file(path, backend)
    try:
        return _inspect_snapshot(files, 0, None, "backup", os.path.basename(path), None)
    finally:
        files.close()


def _inspect_named(directory: Directory, reached: tuple[int, int] | None) -> tuple[FileReport, ...]:
    """Look at what the manifest names, and list what it does not name."""
    manifest = directory.manifest
    reports = [FileReport(MANIFEST, "manifest", _size(directory, MANIFEST), 0, SOUND)]
    files = snapshot_files(directory)
    covered = 0
    try:
        for expected in sorted(manifest.files, key=lambda file: file.number):
            name = snapshot_name(expected.number)
            report = _inspect_snapshot(files, expected.number, manifest.uuid, "snapshot", name, expected)
            if expected.number == manifest.snapshot and report.verdict in (SOUND, DAMAGED):
                covered, wrong = _newest(files, expected.number, manifest.uuid, manifest.snapshot_check)
                report = _with(report, wrong)
            reports.append(report)
    finally:
        files.close()
    logs = list(_inspect_logs(directory, reached))
    if covered >= 0 and (not manifest.logs or manifest.logs[0].seq != covered):
        reports[0] = _with(reports[0], Damage(0, 0, "the snapshot and the logs do not meet"))
    return (*reports, *logs, *_others(directory, {report.name for report in (*reports, *logs)}))


def _newest(files: SnapshotFiles, number: int, uuid: bytes, check: int) -> tuple[int, Damage | None]:
    """Return what the newest snapshot covers (-1 when it cannot be said), and what is wrong with its table."""
    try:
        snapshot, footer = open_alone(files, number, uuid)
    except CorruptData:
        return -1, None  # is said already
    if footer.table_check != check:
        return -1, Damage(footer.table_offset, footer.table_bytes, "not the snapshot that the manifest names")
    return snapshot.seq, None


def _inspect_snapshot(
    files: SnapshotFiles, number: int, uuid: bytes | None, kind: str, name: str, expected: FileName | None
) -> FileReport:
    try:
        n_bytes = files.get(number).size()
    except CorruptSnapshot:
        return FileReport(name, kind, 0, 0, MISSING, (Damage(0, 0, "the manifest names it, but it is not there"),))
    damage: list[Damage] = []
    if expected is not None and expected.n_bytes != n_bytes:
        damage.append(Damage(n_bytes, 0, f"it should have {expected.n_bytes} bytes"))
    n_blocks = 0
    try:
        snapshot, footer = open_alone(files, number, uuid)
    except CorruptData as error:
        damage.append(Damage(error.offset, 0, _message(error)))
    else:
        if kind == "backup" and snapshot.n_files > 1:
            raise StorageError(f"{files.path_of(0)} refers to other files: check its directory instead")
        n_blocks = _inspect_blocks(snapshot, footer.number, footer.table_offset, damage)
    return FileReport(name, kind, n_bytes, n_blocks, DAMAGED if damage else SOUND, tuple(damage))


def _inspect_blocks(snapshot: Snapshot, number: int, table_offset: int, damage: list[Damage]) -> int:
    """Verify the blocks that lie in the snapshot's own file; return how many there are."""
    n, at, buffer = 0, FILE_HEADER_BYTES, bytearray()
    for name in snapshot.sections():
        try:
            blocks = snapshot.blocks(name)
        except CorruptSnapshot as error:
            damage.append(Damage(table_offset, 0, _message(error)))
            continue
        for i, block in enumerate(blocks):
            if block.file != number:
                continue
            n += 1
            at = max(at, block.offset + padded(block))
            if len(buffer) < padded(block):
                buffer = bytearray(padded(block))
            try:
                snapshot.stored(block, memoryview(buffer))
            except StorageError:  # damaged, or the medium does not give it back
                damage.append(Damage(block.offset, padded(block), f"block {i} of {len(blocks)} of section {name!r}"))
    if at != table_offset and not damage:
        damage.append(Damage(at, table_offset - at, "bytes that belong to no block"))
    return n


def _inspect_logs(directory: Directory, reached: tuple[int, int] | None) -> Iterator[FileReport]:
    replay = Replay(directory, recover=True)  # so that a log that is missing is told like the others
    try:
        for name, reader, n_records, error in replay.inspect():
            file_name = log_name(name.number)
            if reader is None or error is not None:
                verdict = MISSING if reader is None else DAMAGED
                offset = 0 if error is None else error.offset
                size = 0 if reader is None else reader.size
                wrong = Damage(offset, 0, "" if error is None else _message(error))
                yield FileReport(file_name, "log", size, n_records, verdict, (wrong,))
                continue
            yield _log_report(file_name, reader, n_records, reached if reached and reached[0] == name.number else None)
    finally:
        replay.close()


def _log_report(name: str, reader: LogReader, n_records: int, reached: tuple[int, int] | None) -> FileReport:
    end, size = reader.good_end, reader.size
    if reached is not None and end < reached[1]:
        wrong = Damage(end, reached[1] - end, "records that were written are missing or damaged")
        return FileReport(name, "log", size, n_records, DAMAGED, (wrong,))
    if end == size or reached is not None:
        return FileReport(name, "log", size, n_records, SOUND)
    tail = Damage(end, size - end, "bytes behind the last whole record; they were never made durable")
    return FileReport(name, "log", size, n_records, TORN, (tail,))


def _others(directory: Directory, known: set[str]) -> Iterator[FileReport]:
    """List files that are no part of the database."""
    for name in sorted(directory.backend.listdir(directory.path)):
        if name in known or directory.backend.is_dir(directory.join(name)):
            continue
        kind, verdict = "other", UNUSED
        if name == LOCK:
            kind, verdict = "lock", SOUND
        elif name.endswith(SUFFIX_TORN):
            kind = "torn tail"
        elif NUMBERED.fullmatch(name) or name.startswith(TEMPORARY):
            kind = "left over"
        try:
            size = _size(directory, name)
        except OSError:
            continue  # a writer has just removed it
        yield FileReport(name, kind, size, 0, verdict)


def _inspect_without_manifest(directory: Directory, error: CorruptSnapshot) -> tuple[FileReport, ...]:
    """Look at each file on its own; which of them make up the database cannot be said."""
    names = directory.backend.listdir(directory.path)
    size = _size(directory, MANIFEST) if MANIFEST in names else 0
    verdict = DAMAGED if MANIFEST in names else MISSING
    reports = [FileReport(MANIFEST, "manifest", size, 0, verdict, (Damage(error.offset, 0, _message(error)),))]
    files = snapshot_files(directory)
    try:
        for name in sorted(names):
            found = NUMBERED.fullmatch(name)
            if found is None:
                continue
            number = int(found[2])
            if found[1] == "snapshot":
                reports.append(_inspect_snapshot(files, number, None, "snapshot", name, None))
            else:
                reports.append(_inspect_lone_log(directory, name, number))
    finally:
        files.close()
    return (*reports, *_others(directory, {report.name for report in reports}))


def _inspect_lone_log(directory: Directory, name: str, number: int) -> FileReport:
    file = directory.open_file(name, "read")
    try:
        try:
            header = decode_log_header(file.pread(FILE_HEADER_BYTES, 0), directory.join(name))
        except CorruptData as error:
            return FileReport(name, "log", file.size(), 0, DAMAGED, (Damage(error.offset, 0, _message(error)),))
        reader = LogReader(file, header.uuid, number, header.seq, None)
        n_records = sum(1 for _ in reader.records())
        return _log_report(name, reader, n_records, None)
    finally:
        file.close()


def _with(report: FileReport, wrong: Damage | None) -> FileReport:
    if wrong is None:
        return report
    return msgspec.structs.replace(report, verdict=DAMAGED, damage=(*report.damage, wrong))


def _size(directory: Directory, name: str) -> int:
    file = directory.open_file(name, "read")
    try:
        return file.size()
    finally:
        file.close()


def _message(error: CorruptData) -> str:
    """Return what an error says, without the path and offset around it."""
    text = str(error)
    if error.path:
        text = text.removeprefix(f"{error.path}: ").removesuffix(f" (at byte {error.offset})")
    return text
