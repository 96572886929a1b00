"""How does a state become one file that stands alone, or a new directory: whole, or not at all?

A directory is founded in these steps, so that a crash leaves nothing that opens half:

1. Lock it. Refuse it unless it is empty, or an earlier founding was cut short in it.
2. Publish a manifest that says only that the database is unfinished: it does not open.
3. Write the snapshot and an empty log; make both durable.
4. Publish the manifest that names them. From here on it is a database.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence

from ..errors import StorageError, StorageFailed
from ..interrupts import between
from ..types import Section
from .backend import Backend, File, OsBackend, write_all
from .codec import (
    FILE_HEADER_BYTES,
    FOOTER_BYTES,
    FileHeader,
    FileName,
    Footer,
    LogName,
    Manifest,
    encode_footer,
    encode_snapshot_header,
)
from .directory import TEMPORARY, Directory, log_name, naming_errors, snapshot_name
from .opening import backup_file
from .snapshot import open_alone, verify_file
from .snapshot_writer import Progress, Written, write_file

__all__ = ["restore_archive", "write_archive", "write_directory"]

COPY_BYTES = 4 << 20
# Writes a snapshot: of (temporary path, path, header).
Fill = Callable[[str, str, FileHeader], Written]


def write_archive(
    target: str,
    header: FileHeader,
    meta: bytes,
    sections: Sequence[Section],
    progress: Progress | None,
    backend: Backend | None = None,
) -> Written:
    """Write one self-contained file, over an existing one; it appears only when complete.

    Raises StorageFull, StorageError; then the target is as it was.
    """
    backend = backend or OsBackend()
    folder, name = os.path.split(target)
    _remove_abandoned(backend, folder, name)
    # Nobody else writes under this name: what is renamed at the end is what was written here.
    temporary = os.path.join(folder, f"{TEMPORARY}{os.getpid()}-{name}")
    return write_file(backend, temporary, target, header, meta, sections, None, progress)


def _remove_abandoned(backend: Backend, folder: str, name: str) -> None:
    """Remove what processes that are gone left of their attempts at the same file."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        for found in backend.listdir(folder):
            number, _, rest = found.removeprefix(TEMPORARY).partition("-")
            is_attempt = found.startswith(TEMPORARY) and rest == name and number.isdecimal() and number.isascii()
            if is_attempt and not _is_alive(int(number)):
                backend.unlink(os.path.join(folder, found))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def write_directory(
    path: str,
    seq: int,
    meta: bytes,
    sections: Sequence[Section],
    progress: Progress | None,
    backend: Backend | None = None,
) -> Written:
    """Make a new database directory of a state whose last record is `seq`.

    Raises StorageFull, StorageError, DatabaseLocked; then there is no database there.
    """
    files = backend or OsBackend()

    def fill(temporary: str, target: str, header: FileHeader) -> Written:
        return write_file(files, temporary, target, header, meta, sections, None, progress)

    return _found(path, 1, seq, fill, files)


def restore_archive(source: str, path: str, progress: Progress | None, backend: Backend | None = None) -> Written:
    """Make a new database directory of a backup file. It is a database of its own, with a uuid of its own.

    Raises CorruptSnapshot when a byte of the file is damaged, StorageFull, StorageError, DatabaseLocked; then there is
    no database there.
    """
    files = backend or OsBackend()
    with naming_errors(f"cannot read {source}"):
        if files.is_dir(source):
            raise StorageError(f"{source} is a directory, expected a backup file")
        opened = backup_file(source, files)
        try:
            snapshot, footer = open_alone(opened, 0, None)
            if snapshot.n_files > 1:
                raise StorageError(f"{source} refers to other files: it is part of a database, not a backup")
            verify_file(opened, 0, None)

            def fill(temporary: str, target: str, header: FileHeader) -> Written:
                return _copy(opened.get(0), footer, temporary, target, header, progress, files)

            return _found(path, footer.number, snapshot.seq, fill, files)
        finally:
            opened.close()


def _copy(
    source: File,
    footer: Footer,
    temporary: str,
    target: str,
    header: FileHeader,
    progress: Progress | None,
    backend: Backend,
) -> Written:
    """Copy a verified backup: all but its two ends, which say whose it is."""
    end = source.size() - FOOTER_BYTES
    copy = backend.open(temporary, "create")
    try:
        write_all(copy, encode_snapshot_header(header))
        for at in range(FILE_HEADER_BYTES, end, COPY_BYTES):
            between()
            data = source.pread(min(COPY_BYTES, end - at), at)
            write_all(copy, data)
            if progress is not None:
                progress(at + len(data), end)
        last = Footer(footer.table_offset, footer.table_bytes, footer.table_check, header.uuid, header.number)
        write_all(copy, encode_footer(last))
        copy.sync()
    finally:
        copy.close()
    backend.replace(temporary, target)
    backend.sync_dir(os.path.dirname(target))
    n_bytes = end + FOOTER_BYTES
    return Written(footer.table_check, (FileName(header.number, n_bytes),), n_bytes, n_bytes, 0, 0)


def _found(path: str, number: int, seq: int, fill: Fill, backend: Backend) -> Written:
    """Found a directory; the steps are those above."""
    directory = Directory(os.path.abspath(path), backend, read_only=False)
    # 1.
    with naming_errors(f"cannot make a database in {directory.path}"), directory.claim():
        uuid = os.urandom(16)
        directory.manifest = Manifest(uuid, number + 1, number, 0, (), (LogName(number + 1, seq),))
        try:
            # 2.
            directory.publish_unfinished()
            # 3.
            name = snapshot_name(number)
            temporary = directory.join(TEMPORARY + name)
            written = fill(temporary, directory.join(name), FileHeader(uuid, number, 0, seq))
            directory.create_log(number + 1, 0, seq).close()
            # 4.
            logs = (LogName(number + 1, seq),)
            directory.publish(Manifest(uuid, number + 1, number, written.check, written.files, logs))
        except StorageFailed:
            raise  # it is not known which manifest is in force
        except BaseException:
            for left in (TEMPORARY + snapshot_name(number), snapshot_name(number), log_name(number + 1)):
                directory.discard(left)
            directory.discard_manifest()
            raise
    return written
