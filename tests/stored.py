"""What do tests do to the files of a store? Write a backup, read every byte, be killed while they are written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kektordb.errors import CorruptData
from kektordb.storage import SaveReport, Store, write_archive
from kektordb.storage.opening import backup_file, snapshot_files
from kektordb.storage.snapshot import verify_file
from kektordb.storage.snapshot_writer import Progress
from kektordb.types import Section

ROOT = Path(__file__).resolve().parents[1]
KILLED = """
import os, sys, kektordb
from kektordb.storage import snapshot_writer
snapshot_writer.BLOCK_BYTES = 64
write, n = snapshot_writer._Writer.add, int(sys.argv[1])
def add(*arguments):
    global n
    n -= 1
    if n < 0:
        os.kill(os.getpid(), 9)
    write(*arguments)
snapshot_writer._Writer.add = add
"""


def write_backup(
    store: Store,
    target: str | os.PathLike[str],
    meta: bytes,
    sections: Sequence[Section],
    progress: Progress | None = None,
) -> SaveReport:
    """Write a backup of given sections, beside a store."""
    path = os.path.abspath(os.fsdecode(target))
    header = store.backup_header(path, store.last_seq)
    return write_archive(path, header, meta, sections, progress, store.backend).report(0.0)


def verified(store: Store) -> list[CorruptData | None]:
    """Read every byte of the snapshot files, or of a backup; return what is wrong with each."""
    if (directory := store._directory) is None:
        files, numbers, uuid = backup_file(store.path, store.backend), [0], None
    else:
        manifest = directory.manifest
        files, numbers, uuid = snapshot_files(directory), [file.number for file in manifest.files], manifest.uuid
    found: list[CorruptData | None] = []
    try:
        for number in numbers:
            try:
                verify_file(files, number, uuid)
                found.append(None)
            except CorruptData as error:
                found.append(error)
    finally:
        files.close()
    return found


def killed_while_writing(call: str, n_blocks: int) -> subprocess.CompletedProcess[bytes]:
    """Call a function of kektordb in a process that dies by SIGKILL after so many blocks of a snapshot."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"{KILLED}kektordb.{call}", str(n_blocks)]
    return subprocess.run(command, env=environment, check=False, capture_output=True)
