"""What do tests do with the files of a store that a database does with more than a store? Backups, and reading all."""

from __future__ import annotations

import os
from collections.abc import Sequence

from kektordb.errors import CorruptData
from kektordb.storage import SaveReport, Store, write_archive
from kektordb.storage.opening import backup_file, snapshot_files
from kektordb.storage.snapshot import verify_file
from kektordb.storage.snapshot_writer import Progress
from kektordb.types import Section


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
