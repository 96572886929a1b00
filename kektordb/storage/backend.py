"""What the storage asks of an operating system: a dozen calls on files, behind one small door.

All file access of the storage goes through a `Backend`, so that tests can record it, fail it and cut it short. Files
are append-only: nothing is ever overwritten in place. Calls raise plain `OSError`; the callers name the errors.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

from ..errors import DatabaseLocked, ForkedHandle, StorageError, StorageFull

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Backend", "Buffer", "File", "Lock", "Mode", "OfOneProcess", "OsBackend", "storage_error", "write_all"]

Buffer = bytes | bytearray | memoryview
Mode = Literal["read", "append", "create"]
_T = TypeVar("_T")

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
# What a file system answers that cannot flush the cache of its drive. Anything else is a failure to do so.
CANNOT_FLUSH = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY})
MAX_READ_BYTES = 1 << 30  # what one call may ask for on any system
# Windows refuses what it does to a file that somebody has open, be it a reader that looks at the manifest or a virus
# scanner: for a moment, as a rule. All tries together take a second.
WINDOWS_TRIES = 11
FIRST_PAUSE_S = 0.001
NOTE_END = 1 << 30  # where Windows locks a byte: far behind the note, which would not be readable else


class File(Protocol):
    """One open file."""

    def pread(self, n: int, offset: int) -> bytes:
        """Return up to `n` bytes from `offset`; fewer only at the end of the file."""
        ...

    def pread_into(self, target: memoryview, offset: int) -> int:
        """Fill `target` from `offset`; return the bytes read, fewer only at the end of the file."""
        ...

    def writev(self, parts: Sequence[Buffer]) -> int:
        """Append the parts in one call; return the bytes written, which may be fewer."""
        ...

    def sync(self) -> None:
        """Make the content and the size durable."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        ...

    def size(self) -> int:
        """Return the size in bytes."""
        ...

    def close(self) -> None:
        """Close; a second call does nothing."""
        ...


class Lock(Protocol):
    """A held lock."""

    def holds(self) -> bool:
        """Tell whether what is locked still has the name by which it was locked."""
        ...

    def release(self) -> None:
        """Let go; a second call does nothing."""
        ...


class Backend(Protocol):
    """The calls on names."""

    def open(self, path: str, mode: Mode) -> File:
        """Open a file to read, to read and append, or a new one (an existing one is an error)."""
        ...

    def replace(self, source: str, target: str) -> None:
        """Rename, over an existing target."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a file."""
        ...

    def sync_dir(self, path: str) -> None:
        """Make the names in a directory durable."""
        ...

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory."""
        ...

    def mkdir(self, path: str) -> None:
        """Create a directory that only its owner may enter."""
        ...

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or directory of this name."""
        ...

    def is_dir(self, path: str) -> bool:
        """Tell whether there is a directory of this name."""
        ...

    def lock(self, path: str) -> Lock:
        """Lock a file, created when missing, at once or not at all. Raises DatabaseLocked."""
        ...


def storage_error(error: OSError, doing: str) -> StorageError:
    """Return the named error for an `OSError`: StorageFull when there is no room, else StorageError."""
    kind = StorageFull if error.errno in NO_ROOM else StorageError
    named = kind(f"{doing}: {error.strerror or error}")
    named.errno = error.errno
    return named


def write_all(file: File, data: bytes | bytearray | memoryview) -> None:
    """Append all of `data`, in as many calls as it takes. Raises OSError."""
    view = memoryview(data)
    while len(view):
        n = file.writev((view,))
        if n == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[n:]


_n_forks = 0  # that led from the first process to this one


class OfOneProcess:
    """What works for the process that made it, and not for a child that is forked in the middle of it."""

    def __init__(self) -> None:
        self._n_forks = _n_forks

    @property
    def _is_ours(self) -> bool:
        """Whether this is the process that made it."""
        return self._n_forks == _n_forks

    def _require_ours(self) -> None:
        """Raise ForkedHandle in a child."""
        if not self._is_ours:
            raise ForkedHandle("this was begun before fork(); it belongs to the parent process, which goes on with it")


class OsBackend(OfOneProcess):
    """The files of this machine. What would change one raises ForkedHandle in a process that was forked later."""

    def open(self, path: str, mode: Mode) -> File:
        if mode != "read":
            self._require_ours()
        return _patiently(lambda: _OsFile(path, mode))

    def replace(self, source: str, target: str) -> None:
        self._require_ours()
        _patiently(lambda: os.replace(source, target))

    def unlink(self, path: str) -> None:
        self._require_ours()
        os.unlink(path)

    def sync_dir(self, path: str) -> None:
        if sys.platform == "win32":  # has no handle on a directory that could be synced; NTFS journals names
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _flush(descriptor)
        finally:
            os.close(descriptor)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def mkdir(self, path: str) -> None:
        self._require_ours()
        os.mkdir(path, 0o700)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)

    def lock(self, path: str) -> Lock:
        self._require_ours()
        return _OsLock(path)


def _patiently(call: Callable[[], _T]) -> _T:
    """Make a call, on Windows again and again for a second while it is refused."""
    if sys.platform == "win32":
        for n in range(WINDOWS_TRIES - 1):
            with contextlib.suppress(PermissionError):
                return call()
            time.sleep(FIRST_PAUSE_S * 2**n)
    return call()


def _flush(descriptor: int) -> None:
    """Make a file or directory durable, with the cache of the drive, in which macOS leaves what fsync writes."""
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in CANNOT_FLUSH:
                raise  # a second sync would "succeed", and the data be gone
        else:
            return
    os.fsync(descriptor)


class _OsFile(OfOneProcess):
    def __init__(self, path: str, mode: Mode) -> None:
        super().__init__()
        flags = os.O_RDONLY if mode == "read" else os.O_RDWR | os.O_APPEND
        if mode == "create":
            flags |= os.O_CREAT | os.O_EXCL
        flags |= getattr(os, "O_BINARY", 0)
        self._path = path
        self._mode = mode
        self._placing = threading.Lock()  # where there is no pread, the place and the read belong together
        self._descriptor = os.open(path, flags, 0o600)

    def pread(self, n: int, offset: int) -> bytes:
        if sys.platform == "win32":
            with self._placing:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                return os.read(self._descriptor, n)
        return os.pread(self._descriptor, n, offset)

    def pread_into(self, target: memoryview, offset: int) -> int:
        done = 0
        while done < len(target):
            part = target[done : done + MAX_READ_BYTES]
            if hasattr(os, "preadv"):
                n = os.preadv(self._descriptor, [part], offset + done)
            else:  # Windows, and macOS before 11
                data = self.pread(len(part), offset + done)
                n = len(data)
                part[:n] = data
            if n == 0:
                break
            done += n
        return done

    def writev(self, parts: Sequence[Buffer]) -> int:
        if self._n_forks != _n_forks:  # not by a call: each write of a record passes here
            self._require_ours()
        if sys.platform == "win32":
            with self._placing:  # a write moves the place, too
                return os.write(self._descriptor, b"".join(parts))
        return os.writev(self._descriptor, parts)

    def sync(self) -> None:
        if sys.platform == "win32":
            self._sync_on_windows()
        elif sys.platform == "darwin":
            _flush(self._descriptor)
        else:
            os.fdatasync(self._descriptor)  # the size goes with it; only times are left out

    def _sync_on_windows(self) -> None:
        if self._mode != "read":
            os.fsync(self._descriptor)
            return
        # A file is only synced by who may write to it; it cannot have been removed or renamed as long as it is open.
        descriptor = os.open(self._path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def truncate(self, size: int) -> None:
        self._require_ours()
        os.ftruncate(self._descriptor, size)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()


class _OsLock:
    """A lock on a file, and where that is possible on its directory, in case that somebody removes the file."""

    def __init__(self, path: str) -> None:
        self._process = os.getpid()
        self._folder = os.path.dirname(path)
        self._folder_descriptor = -1
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(path, flags, 0o600)
        _held.add(self)  # before it is taken: a child that is forked meanwhile must let go of it, too
        try:
            self._take()
        except (BlockingIOError, PermissionError):
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            holder = os.read(self._descriptor, 200).decode("utf-8", "replace").strip() or "an unknown process"
            self.release()
            own = "this process, " if holder.startswith(f"{_this_process()} ") else ""
            raise DatabaseLocked(f"{self._folder} is open for writing in {own}{holder}") from None
        except BaseException:
            self.release()
            raise
        note = f"{_this_process()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
        with contextlib.suppress(OSError):  # the note only serves the error message; a full disk must not matter
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, note.encode())

    def _take(self) -> None:
        if sys.platform == "win32":
            os.lseek(self._descriptor, NOTE_END, os.SEEK_SET)
            msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._folder_descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                fcntl.flock(self._folder_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:
                pass  # some file systems lock only files

    def holds(self) -> bool:
        if sys.platform == "win32":  # does not move or remove a directory in which a file is open
            return True
        try:
            return os.path.samestat(os.stat(self._folder), os.fstat(self._folder_descriptor))
        except OSError:
            return False

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        folder, self._folder_descriptor = self._folder_descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                self._unlock(descriptor, folder)
            os.close(descriptor)
        if folder >= 0:
            os.close(folder)

    def _unlock(self, descriptor: int, folder: int) -> None:
        """Unlock at once: Windows does it some time after a close, and a child may have the file open."""
        if sys.platform == "win32":
            os.lseek(descriptor, NOTE_END, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        elif os.getpid() == self._process:  # the lock belongs to the open file: a child would unlock that of its parent
            if folder >= 0:
                fcntl.flock(folder, fcntl.LOCK_UN)
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.release()


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


_held: weakref.WeakSet[_OsLock] = weakref.WeakSet()


def _release_in_child() -> None:
    global _n_forks
    _n_forks += 1
    # The lock belongs to the open file, which a forked child shares: it would outlive the parent.
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
