"""Which files make up a database, and how a new set of them takes the place of the old one, whole or not at all.

The manifest names the set. It is published in four steps: write ``tmp-MANIFEST``, sync it, rename it, sync the
directory. What the manifest does not name is no part of the database.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator

from ..errors import CorruptSnapshot, StorageError, StorageFailed
from .backend import NO_ROOM, Backend, File, Lock, Mode, storage_error, write_all
from .codec import (
    FILE_HEADER_BYTES,
    MAX_MANIFEST_BYTES,
    FileHeader,
    LogName,
    Manifest,
    decode_manifest,
    encode_log_header,
    encode_manifest,
)

__all__ = ["NUMBERED", "Directory", "log_name", "naming_errors", "snapshot_name", "torn_name"]

LOCK = "LOCK"
MANIFEST = "MANIFEST"
TEMPORARY = "tmp-"
# The whole content of a manifest while a restore, repair or load fills the directory.
UNFINISHED = b"unfinished: a restore, repair or load is filling this directory, or was cut short and can be run again\n"
NUMBERED = re.compile(r"(snapshot|log)-(\d{6,18})\.(kdb|aof)")
# Names that file systems and desktops leave in a directory that is empty for its owner.
_HARMLESS = ("lost+found", "desktop.ini")


def log_name(number: int) -> str:
    """Return the name of a log."""
    return f"log-{number:06d}.aof"


def torn_name(number: int, n: int = 1) -> str:
    """Return the name under which the n-th end of a log is kept that was cut off."""
    return f"log-{number:06d}.torn" if n == 1 else f"log-{number:06d}-{n}.torn"


def snapshot_name(number: int) -> str:
    """Return the name of a snapshot."""
    return f"snapshot-{number:06d}.kdb"


@contextlib.contextmanager
def naming_errors(doing: str) -> Iterator[None]:
    """Turn an `OSError` of the backend into a StorageError or StorageFull that says what failed."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(error, doing) from error


class Directory:
    """The directory of a database and the manifest that is valid in it.

    Attributes
    ----------
    manifest : Manifest
        As last published. Replaced by `publish` only.
    """

    manifest: Manifest

    def __init__(self, path: str, backend: Backend, read_only: bool) -> None:
        self.path = path
        self.backend = backend
        self.read_only = read_only
        self._lock: Lock | None = None
        self._publishing = threading.Lock()

    def open(self) -> None:
        """Lock the directory, create it when missing, read the manifest, and remove what is unfinished.

        Raises DatabaseLocked, StorageError, CorruptSnapshot.
        """
        if self.read_only:
            self.require_manifest()
            self.manifest = self._read_manifest()
            return
        with naming_errors(f"cannot open {self.path}"):
            self._make()
            self._require_directory()
            if not self.backend.exists(self.join(MANIFEST)):
                self._require_unused()
            self._lock = self.backend.lock(self.join(LOCK))
            try:
                if not self.backend.exists(self.join(MANIFEST)):
                    self._create()
                self.manifest = self._read_manifest()
                self.remove_unnamed(temporary=True)
            except BaseException:
                self.unlock()
                raise

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the lock of a directory, created when missing, in which there is no database yet, nor anything else.

        What an earlier attempt that was cut short left in it goes. Raises DatabaseLocked, StorageError, OSError.
        """
        self.require_empty()
        self._make()
        self._lock = self.backend.lock(self.join(LOCK))
        try:
            self.require_empty()  # again: now nobody else makes one
            for name in self.backend.listdir(self.path):
                if name.startswith(TEMPORARY) or NUMBERED.fullmatch(name):
                    self.backend.unlink(self.join(name))
            yield
        finally:
            self.unlock()

    def publish_unfinished(self) -> None:
        """Publish a manifest with which nothing opens. Raises StorageError, OSError."""
        temporary = TEMPORARY + MANIFEST
        self._write_temporary(temporary, UNFINISHED)
        self.backend.replace(self.join(temporary), self.join(MANIFEST))
        self.backend.sync_dir(self.path)

    def discard_manifest(self) -> None:
        """Remove the manifest of a database that was not finished."""
        self.discard(TEMPORARY + MANIFEST)
        self.discard(MANIFEST)

    def require_manifest(self) -> None:
        """Raise CorruptSnapshot when only the manifest is missing, StorageError when there is no database."""
        with naming_errors(f"cannot read {self.path}"):
            self._require_directory()
            if not self.backend.exists(self.join(MANIFEST)):
                self._require_unused()
                raise StorageError(f"{self.path}: there is no database")

    def unlock(self) -> None:
        """Release the lock; a second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def require_held(self) -> None:
        """Raise StorageFailed when another directory is where the locked one was: its files are not ours to replace."""
        if self._lock is not None and not self._lock.holds():
            raise StorageFailed(f"{self.path} was moved, removed or replaced while it was open")

    def join(self, name: str) -> str:
        """Return the path of a file in the directory."""
        return os.path.join(self.path, name)

    def is_ours(self, path: str) -> bool:
        """Tell whether a path lies in the directory and has a name that we give to files."""
        folder, name = os.path.split(path)
        is_name = name in (MANIFEST, LOCK) or name.startswith(TEMPORARY) or NUMBERED.fullmatch(name) is not None
        return is_name and os.path.realpath(folder) == os.path.realpath(self.path)

    def open_file(self, name: str, mode: Mode) -> File:
        """Open a file of the directory; "create" removes a left-over of the same name. Raises OSError."""
        path = self.join(name)
        if mode == "create" and self.backend.exists(path):
            self.backend.unlink(path)
        return self.backend.open(path, mode)

    def create_log(self, number: int, previous_bytes: int, seq: int) -> File:
        """Create an empty log and make it durable, its name included.

        Raises OSError; then it is not there. StorageFailed, see `require_held`.
        """
        self.require_held()
        name = log_name(number)
        header = encode_log_header(FileHeader(self.manifest.uuid, number, previous_bytes, seq))
        file = self.open_file(name, "create")
        try:
            write_all(file, header)
            file.sync()
            self.backend.sync_dir(self.path)
        except OSError:
            file.close()
            self.discard(name)
            raise
        return file

    def publish(self, manifest: Manifest) -> None:
        """Put a new manifest in the place of the old one.

        Raises
        ------
        StorageFull, StorageError
            The old manifest is in force.
        StorageFailed
            It is not known which of the two is in force after a crash; nothing may be removed or written any more.
            Or see `require_held`.
        """
        temporary = TEMPORARY + MANIFEST
        with self._publishing:
            self.require_held()
            with naming_errors(f"cannot write {self.join(MANIFEST)}"):
                self._write_temporary(temporary, encode_manifest(manifest))
            try:
                self.backend.replace(self.join(temporary), self.join(MANIFEST))
            except OSError as error:
                self.discard(temporary)
                if error.errno in NO_ROOM or isinstance(error, PermissionError):  # Windows: somebody has it open
                    raise storage_error(error, f"cannot write {self.join(MANIFEST)}") from error
                raise StorageFailed(f"renaming {self.join(temporary)} failed ({error})") from error
            try:
                self.backend.sync_dir(self.path)
            except OSError as error:
                raise StorageFailed(f"{self.join(MANIFEST)} could not be made durable ({error})") from error
            self.manifest = manifest

    def remove_unnamed(self, *, temporary: bool = False) -> None:
        """Remove snapshots and logs that the manifest does not name. One that will not go stays."""
        manifest = self.manifest
        named = {MANIFEST, LOCK}
        named.update(snapshot_name(file.number) for file in manifest.files)
        named.update(log_name(log.number) for log in manifest.logs)
        with contextlib.suppress(OSError):
            for name in self.backend.listdir(self.path):
                ours = NUMBERED.fullmatch(name) or (temporary and name.startswith(TEMPORARY))
                if ours and name not in named:
                    self.discard(name)

    def discard(self, name: str) -> None:
        """Remove a file that nobody needs; failing to is no error, it will be tried again at the next open."""
        with contextlib.suppress(OSError):
            self.backend.unlink(self.join(name))

    def _make(self) -> None:
        if not self.backend.exists(self.path):
            with contextlib.suppress(FileExistsError):  # somebody else was faster: who locks it first has it
                self.backend.mkdir(self.path)
            self.backend.sync_dir(os.path.dirname(os.path.abspath(self.path)))

    def _write_temporary(self, name: str, data: bytes) -> None:
        try:
            file = self.open_file(name, "create")
            try:
                write_all(file, data)
                file.sync()
            finally:
                file.close()
        except OSError:
            self.discard(name)
            raise

    def _read_manifest(self) -> Manifest:
        path = self.join(MANIFEST)
        with naming_errors(f"cannot read {path}"):
            file = self.backend.open(path, "read")
            try:
                data = file.pread(min(file.size(), MAX_MANIFEST_BYTES), 0)
            finally:
                file.close()
        if data == UNFINISHED:
            raise StorageError(f"{self.path} is {data.decode().strip()}")
        return decode_manifest(data, path)

    def require_empty(self) -> None:
        """Refuse a directory that holds anything but what an attempt to fill it left behind. Raises StorageError."""
        if not self.backend.exists(self.path):
            return
        if not self.backend.is_dir(self.path):
            raise StorageError(f"{self.path} is a file, expected a new or empty directory")
        names = self.backend.listdir(self.path)
        is_unfinished = MANIFEST in names and self._is_unfinished()
        for name in sorted(names):
            ours = name.startswith(TEMPORARY) or name == MANIFEST or NUMBERED.fullmatch(name) is not None
            if name not in (LOCK, TEMPORARY + MANIFEST, *_HARMLESS) and not (is_unfinished and ours):
                raise StorageError(f"{self.path} is not empty, it holds {name!r}; expected a new or empty directory")

    def _is_unfinished(self) -> bool:
        file = self.backend.open(self.join(MANIFEST), "read")
        try:
            return file.pread(len(UNFINISHED) + 1, 0) == UNFINISHED
        finally:
            file.close()

    def _require_directory(self) -> None:
        if not self.backend.exists(self.path):
            raise StorageError(f"{self.path}: there is no database")
        if not self.backend.is_dir(self.path):
            raise StorageError(
                f"{self.path} is a file, not a database directory; a backup is opened with read_only=True"
            )

    def _require_unused(self) -> None:
        """Refuse a directory without a manifest, unless it is empty or a first open was cut short in it."""
        try:
            self._refuse_used()
        except (CorruptSnapshot, StorageError):
            if not self.backend.exists(self.join(MANIFEST)):
                raise  # else somebody has just made a database of it

    def _refuse_used(self) -> None:
        first = log_name(1)
        for name in sorted(self.backend.listdir(self.path)):
            if name in (LOCK, first, *_HARMLESS) or name.startswith((".", TEMPORARY)):
                continue
            if NUMBERED.fullmatch(name):
                raise CorruptSnapshot(
                    "the manifest is missing, but other files of a database are there", self.join(MANIFEST)
                )
            raise StorageError(f"{self.path} is no database directory: it holds {name!r}")
        if self.backend.exists(self.join(first)):
            file = self.backend.open(self.join(first), "read")
            n_bytes = file.size()
            file.close()
            if n_bytes > FILE_HEADER_BYTES:
                raise CorruptSnapshot("the manifest is missing, but a log is there", self.join(MANIFEST))

    def _create(self) -> None:
        self.manifest = Manifest(os.urandom(16), 1, 0, 0, (), (LogName(1, 0),))
        self.create_log(1, 0, 0).close()
        self.publish(self.manifest)
