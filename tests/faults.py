"""A disk that remembers, fails and loses power: an in-memory backend for tests of everything that writes files.

`MemoryBackend` behaves like a file system whose content is lost in a crash unless it was synced, and whose names are
lost unless their directory was. It records each change in `history`; `crash_states` turns a history into the disks that
a power cut could have left. `Fault` makes the n-th call fail.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kektordb.errors import DatabaseLocked
from kektordb.storage import backend as storage_backend
from kektordb.storage.backend import Buffer, Mode

CHANGES = frozenset({"create", "writev", "sync", "truncate", "replace", "unlink", "sync_dir", "mkdir"})
STORAGE = str(Path(storage_backend.__file__).parent)

__all__ = ["Fault", "MemoryBackend", "Site", "crash_states"]


@dataclass(frozen=True)
class Site:
    """Where in the storage a sync was asked for.

    Attributes
    ----------
    line : str
        ``module.py:line`` of the call to the backend.
    callers : tuple of str
        Functions of the storage on the way there, the innermost first.
    """

    line: str
    callers: tuple[str, ...]


def _site() -> Site:
    frame = sys._getframe(2)
    line = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
    callers = []
    while frame is not None and frame.f_code.co_filename.startswith(STORAGE):
        callers.append(frame.f_code.co_qualname)
        frame = frame.f_back  # type: ignore[assignment]
    return Site(line, tuple(callers))


@dataclass
class Fault:
    """Which calls fail, and how.

    Attributes
    ----------
    at : int
        Number of the first call that fails, counting from 0 the calls in `calls`.
    code : int
        The errno; -1 is a write that stores only half of its bytes and says so.
    for_ever : bool
        All later calls fail as well.
    calls : set of str
        Which calls count.
    drop : bool
        A failed sync loses what it should have made durable, as Linux does.
    """

    at: int
    code: int
    for_ever: bool = False
    calls: frozenset[str] = frozenset(
        {"create", "writev", "sync", "truncate", "replace", "unlink", "sync_dir", "mkdir"}
    )
    drop: bool = False
    count: int = 0
    n_raised: int = 0

    def strikes(self, call: str) -> bool:
        """Count a call, and tell whether it fails."""
        if call not in self.calls:
            return False
        number, self.count = self.count, self.count + 1
        struck = number == self.at or (self.for_ever and number > self.at)
        self.n_raised += struck
        return struck


_serials = itertools.count(1)


@dataclass
class _Node:
    """A file's content; its serial number stays the same in a copy of the disk."""

    serial: int = field(default_factory=lambda: next(_serials))
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


class MemoryBackend:
    """Files in memory.

    Attributes
    ----------
    files : dict
        Path to file.
    directories : set
        Paths.
    history : list of tuples
        Each change; also what `mark` was given.
    fault : Fault or None
        Which calls fail.
    capacity : int or None
        Bytes that fit; a write beyond fails with ENOSPC after storing what fits.
    marks, story : tuple, str
        On a disk made by `crash_states`: the marks made before the crash, and what was lost.
    """

    def __init__(self) -> None:
        self.files: dict[str, _Node] = {}
        self.directories = {"/"}
        self.history: list[tuple[Any, ...]] = []
        self.fault: Fault | None = None
        self.capacity: int | None = None
        self.locked: set[str] = set()
        self.marks: tuple[Any, ...] = ()
        self.story = ""

    def mark(self, what: object) -> None:
        """Note in the history that something has been acknowledged to the user."""
        self.history.append(("mark", what))

    def copy(self) -> MemoryBackend:
        """Return the disk as another process would find it now: nothing lost, no locks, no history."""
        other = MemoryBackend()
        other.files = {
            path: _Node(node.serial, bytearray(node.data), bytes(node.data)) for path, node in self.files.items()
        }
        other.directories = set(self.directories)
        return other

    def put(self, path: str, data: bytes) -> None:
        """Let a file have this content, as if it always had; it need not be there before."""
        self.files[path] = _Node(data=bytearray(data), synced=data)

    def image(self) -> dict[str, bytes]:
        """Return the content of all files."""
        return {path: bytes(node.data) for path, node in self.files.items()}

    def open(self, path: str, mode: Mode) -> _MemoryFile:
        if mode == "create":
            self.strike("create", path)
            if path in self.files:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            node = self.files[path] = _Node()
            self.history.append(("create", path, node))
        elif path not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return _MemoryFile(self, path, self.files[path], mode)

    def replace(self, source: str, target: str) -> None:
        self.strike("replace", target)
        if source not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        self.files[target] = self.files.pop(source)
        self.history.append(("replace", source, target))

    def unlink(self, path: str) -> None:
        self.strike("unlink", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        del self.files[path]
        self.history.append(("unlink", path))

    def sync_dir(self, path: str) -> None:
        self.strike("sync_dir", path)
        self.history.append(("sync_dir", path, _site()))

    def listdir(self, path: str) -> list[str]:
        return [os.path.basename(name) for name in self.files if os.path.dirname(name) == path]

    def mkdir(self, path: str) -> None:
        self.strike("mkdir", path)
        self.directories.add(path)
        self.history.append(("mkdir", path))

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.directories

    def is_dir(self, path: str) -> bool:
        return path in self.directories

    def lock(self, path: str) -> _MemoryLock:
        if path in self.locked:
            raise DatabaseLocked(f"{os.path.dirname(path)} is open for writing in process {os.getpid()}")
        self.locked.add(path)
        if path not in self.files:
            self.files[path] = _Node()
        return _MemoryLock(self, path)

    def strike(self, call: str, path: str) -> None:
        """Raise what the fault says, if it is this call's turn."""
        if self.fault is not None and self.fault.strikes(call):
            code = self.fault.code if self.fault.code > 0 else errno.EIO
            raise OSError(code, os.strerror(code), path)


class _MemoryFile:
    def __init__(self, backend: MemoryBackend, path: str, node: _Node, mode: Mode) -> None:
        self._backend = backend
        self._path = path
        self._node = node
        self._mode = mode

    def pread(self, n: int, offset: int) -> bytes:
        return bytes(self._node.data[offset : offset + n])

    def pread_into(self, target: memoryview, offset: int) -> int:
        data = self._node.data[offset : offset + len(target)]
        target[: len(data)] = data
        return len(data)

    def writev(self, parts: Sequence[Buffer]) -> int:
        assert self._mode != "read"
        backend, data = self._backend, b"".join(parts)
        fault = backend.fault
        if fault is not None and fault.strikes("writev"):
            # Some of it may be stored although the call fails.
            self._store(data[: len(data) // 2])
            if fault.code > 0:
                raise OSError(fault.code, os.strerror(fault.code), self._path)
            return len(data) // 2
        if backend.capacity is not None:
            used = sum(len(node.data) for node in backend.files.values())
            room = max(0, backend.capacity - used)
            if room == 0 and data:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
            data = data[:room]
        self._store(data)
        return len(data)

    def sync(self) -> None:
        fault = self._backend.fault
        if fault is not None and fault.strikes("sync"):
            if fault.drop:
                del self._node.data[:]
                self._node.data += self._node.synced
                self._backend.history.append(("drop", self._node))
            raise OSError(fault.code if fault.code > 0 else errno.EIO, "sync failed", self._path)
        self._node.synced = bytes(self._node.data)
        self._backend.history.append(("sync", self._node, _site()))

    def truncate(self, size: int) -> None:
        assert self._mode != "read"
        self._backend.strike("truncate", self._path)
        del self._node.data[size:]
        self._backend.history.append(("truncate", self._node, size))

    def size(self) -> int:
        return len(self._node.data)

    def close(self) -> None:
        pass

    def _store(self, data: bytes) -> None:
        self._node.data += data
        self._backend.history.append(("write", self._node, data))


class _MemoryLock:
    def __init__(self, backend: MemoryBackend, path: str) -> None:
        self._backend = backend
        self._path = path

    def holds(self) -> bool:
        return self._path in self._backend.locked

    def release(self) -> None:
        self._backend.locked.discard(self._path)


DIRECTORY = -1  # among names: instead of a file's serial number


class _Disk:
    """A history played up to some point: what is durable, and what is under way."""

    def __init__(self, start: MemoryBackend | None) -> None:
        directories = {"/"} if start is None else start.directories
        self.names: dict[str, int] = dict.fromkeys(directories, DIRECTORY)
        self.content: dict[int, bytes] = {}
        self.pending_names: list[tuple[Any, ...]] = []
        self.pending_content: dict[int, list[tuple[Any, ...]]] = {}
        self.marks: list[Any] = []
        self.content[DIRECTORY] = b""
        for path, node in start.files.items() if start is not None else ():
            self.names[path] = node.serial
            self.content[node.serial] = bytes(node.data)

    def play(self, step: tuple[Any, ...]) -> None:
        what = step[0]
        if what == "mark":
            self.marks.append(step[1])
        elif what in ("mkdir", "create", "replace", "unlink"):
            self.pending_names.append((what, *(x.serial if isinstance(x, _Node) else x for x in step[1:])))
        elif what == "sync_dir":
            ours = [change for change in self.pending_names if os.path.dirname(change[1]) == step[1]]
            self.pending_names = [change for change in self.pending_names if change not in ours]
            for change in ours:
                _rename(self.names, change)
        elif what == "sync":
            self.content[step[1].serial] = self.full(step[1].serial)
            self.pending_content.pop(step[1].serial, None)
        elif what == "drop":
            self.pending_content.pop(step[1].serial, None)
        else:
            self.pending_content.setdefault(step[1].serial, []).append((what, *step[2:]))

    def full(self, node: int) -> bytes:
        """The content of a file when all that was written has arrived."""
        return _content(self.content.get(node, b""), self.pending_content.get(node, []))


def crash_states(
    history: Iterable[tuple[Any, ...]],
    *,
    start: MemoryBackend | None = None,
    seed: int = 0,
    per_step: int = 12,
) -> Iterator[MemoryBackend]:
    """Yield the disks that a crash could have left after each step of a history.

    After each step comes first the disk on which everything arrived (the process was killed, the machine lives), with
    the story "killed". Then come up to `per_step` disks after a power cut: of the names not yet synced some changes
    were done and some not; of the bytes not yet synced each file has lost all, a part behind some byte, has zeros in
    their place, or has late writes without early ones; or each file has something else of these.

    Parameters
    ----------
    start : MemoryBackend, optional
        The disk on which the history began.
    seed : int
        For the choice where there are more possibilities than `per_step`.
    """
    random_ = random.Random(seed)
    disk = _Disk(start)
    steps = list(history)
    for i in range(len(steps) + 1):
        if i:
            disk.play(steps[i - 1])
        names = dict(disk.names)
        for change in disk.pending_names:
            _rename(names, change)
        at = f"after step {i} ({steps[i - 1][0] if i else 'start'})"
        yield _made(disk, names, {node: disk.full(node) for node in names.values()}, f"killed {at}")
        if not disk.pending_names and not disk.pending_content:
            continue
        seen: set[tuple[tuple[str, bytes], ...]] = set()
        for story, names, content in _losses(disk, random_, per_step):
            image = tuple(sorted((path, content[node]) for path, node in names.items()))
            if image not in seen:
                seen.add(image)
                yield _made(disk, names, content, f"power cut {at}: {story}")


def _losses(
    disk: _Disk, random_: random.Random, per_step: int
) -> Iterator[tuple[str, dict[str, int], dict[int, bytes]]]:
    n = len(disk.pending_names)
    if n <= 6:
        subsets = list(itertools.product((False, True), repeat=n))
    else:
        subsets = [(False,) * n, (True,) * n]
        subsets += [tuple(random_.random() < 0.5 for _ in range(n)) for _ in range(62)]
    kinds = ["lost", "kept", "cut", "cut", "zeroed", "zeroed", "reordered", "mixed"]
    cases = list(itertools.product(subsets, kinds))
    random_.shuffle(cases)
    for done, kind in cases[:per_step]:
        names = dict(disk.names)
        for change, is_done in zip(disk.pending_names, done, strict=True):
            if is_done:
                _rename(names, change)
        content = {}
        for node in names.values():
            old, full = disk.content.get(node, b""), disk.full(node)
            each = random_.choice(kinds[:-1]) if kind == "mixed" else kind
            content[node] = _damaged(old, full, disk.pending_content.get(node, []), each, random_)
        yield f"names {[int(d) for d in done]}, bytes {kind}", names, content


def _damaged(old: bytes, full: bytes, pending: list[tuple[Any, ...]], kind: str, random_: random.Random) -> bytes:
    if not pending or kind == "kept":
        return full
    if kind == "lost":
        return old
    common = next((i for i, (a, b) in enumerate(zip(old, full, strict=False)) if a != b), min(len(old), len(full)))
    if kind == "cut":
        return full[: random_.randint(common, len(full))]
    if kind == "zeroed":
        cut = random_.randint(common, len(full))
        return full[:cut] + bytes(len(full) - cut)
    # An early write is missing, the later ones arrived.
    length = 0
    pieces = []
    for what, value in pending:
        if what == "write":
            pieces.append(value)
            length += len(value)
    if len(pieces) < 2 or len(pieces) != len(pending):
        return full[:common] + bytes(len(full) - common)
    missing = random_.randrange(len(pieces) - 1)
    return old + b"".join(bytes(len(piece)) if i == missing else piece for i, piece in enumerate(pieces))


def _content(data: bytes, pending: list[tuple[Any, ...]]) -> bytes:
    for what, value in pending:
        data = data + value if what == "write" else data[:value]
    return data


def _rename(names: dict[str, int], change: tuple[Any, ...]) -> None:
    what, path = change[0], change[1]
    if what == "mkdir":
        names[path] = DIRECTORY
    elif what == "create":
        names[path] = change[2]
    elif what == "unlink":
        names.pop(path, None)
    elif path in names:  # a rename whose source never reached the disk has nothing to move
        names[change[2]] = names.pop(path)


def _made(disk: _Disk, names: dict[str, int], content: dict[int, bytes], story: str) -> MemoryBackend:
    made = MemoryBackend()
    made.directories = {path for path, node in names.items() if node == DIRECTORY}
    for path, node in names.items():
        # A name of a directory that never reached the disk did not either.
        if node != DIRECTORY and os.path.dirname(path) in made.directories:
            made.files[path] = _Node(data=bytearray(content[node]), synced=content[node])
    made.marks = tuple(disk.marks)
    made.story = story
    return made
