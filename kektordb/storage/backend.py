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
from collections.abc import Sequence
from typing import Literal, Protocol

from ..errors import DatabaseLocked, StorageError, StorageFull

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Backend", "Buffer", "File", "Lock", "Mode", "OsBackend", "storage_error", "write_all"]

Buffer = bytes | bytearray | memoryview
Mode = Literal["read", "append", "create"]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


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


class OsBackend:
    """The files of this machine."""

    def open(self, path: str, mode: Mode) -> File:
        return _OsFile(path, mode)

    def replace(self, source: str, target: str) -> None:
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def sync_dir(self, path: str) -> None:
        if sys.platform == "win32":  # has no handle on a directory that could be synced; NTFS journals names
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def mkdir(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def is_dir(self, path: str) -> bool:
        return os.path.isdir(path)

    def lock(self, path: str) -> Lock:
        return _OsLock(path)


_seeking = threading.Lock()  # where there is no pread, the place and the read belong together


class _OsFile:
    def __init__(self, path: str, mode: Mode) -> None:
        flags = os.O_RDONLY if mode == "read" else os.O_RDWR | os.O_APPEND
        if mode == "create":
            flags |= os.O_CREAT | os.O_EXCL
        flags |= getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(path, flags, 0o600)

    def pread(self, n: int, offset: int) -> bytes:
        if sys.platform == "win32":
            with _seeking:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                return os.read(self._descriptor, n)
        return os.pread(self._descriptor, n, offset)

    def pread_into(self, target: memoryview, offset: int) -> int:
        if sys.platform == "win32":
            got = self.pread(len(target), offset)
            target[: len(got)] = got
            return len(got)
        done = 0
        while done < len(target):
            n = os.preadv(self._descriptor, [target[done:]], offset + done)
            if n == 0:
                break
            done += n
        return done

    def writev(self, parts: Sequence[Buffer]) -> int:
        if sys.platform == "win32":
            return os.write(self._descriptor, b"".join(parts))
        return os.writev(self._descriptor, parts)

    def sync(self) -> None:
        if sys.platform == "darwin":
            fcntl.fcntl(self._descriptor, fcntl.F_FULLFSYNC)  # fsync leaves the data in the drive's cache there
        elif sys.platform == "win32":
            os.fsync(self._descriptor)
        else:
            os.fdatasync(self._descriptor)  # the size goes with it; only times are left out

    def truncate(self, size: int) -> None:
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
    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take()
        except (BlockingIOError, PermissionError):
            holder = os.read(self._descriptor, 200).decode("utf-8", "replace").strip() or "an unknown process"
            self.release()
            raise DatabaseLocked(f"{os.path.dirname(path)} is open for writing in {holder}") from None
        except BaseException:
            self.release()
            raise
        _held.add(self)
        note = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
        with contextlib.suppress(OSError):  # the note only serves the error message; a full disk must not matter
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, note.encode())

    def _take(self) -> None:
        if sys.platform == "win32":
            os.lseek(self._descriptor, 1 << 30, os.SEEK_SET)  # far behind the note, which stays readable
            msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.release()


_held: weakref.WeakSet[_OsLock] = weakref.WeakSet()


def _release_in_child() -> None:
    # The lock belongs to the open file, which a forked child shares: it would outlive the parent.
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
