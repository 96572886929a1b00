"""How does a follower let a snapshot of its leader take the place of all it has? Whole or not at all.

1. Create the next log, which begins behind the last record that the snapshot covers, and make it durable.
2. Write the snapshot to a file of its own, make it durable.
3. Publish the manifest that names these two, and nothing else.
4. Remove what is no longer named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..errors import StorageFailed
from .codec import FILE_HEADER_BYTES, FileHeader, Lineage, LogName
from .directory import TEMPORARY, log_name, naming_errors, snapshot_name
from .log import Log
from .opening import open_newest
from .snapshot import Snapshot
from .snapshot_writer import write_file
from .tail import Place

if TYPE_CHECKING:
    from .store import Store

__all__ = ["adopt"]


def adopt(store: Store, received: Snapshot, place: Place, lineage: Lineage) -> None:
    """Let a store hold a snapshot and nothing else; the next record follows on `place`.

    Nothing is appended or saved meanwhile. Raises StorageFull, StorageError, CorruptSnapshot when nothing has changed;
    StorageFailed.
    """
    old_log = store._require_writable()
    with store._saving, store._manifest_lock:
        directory = store._require_directory()
        manifest, number = directory.manifest, directory.manifest.generation
        with store._syncer.failing(), naming_errors(f"cannot create {directory.join(log_name(number + 1))}"):
            file = directory.create_log(number + 1, old_log.end, place.seq)
        name = snapshot_name(number)
        try:
            written = write_file(
                store._backend,
                directory.join(TEMPORARY + name),
                directory.join(name),
                FileHeader(manifest.uuid, number, 0, place.seq),
                received.meta,
                received.copied(),
                None,
                None,
            )
            fresh = msgspec.structs.replace(
                manifest,
                generation=number + 1,
                snapshot=number,
                snapshot_check=written.check,
                files=written.files,
                logs=(LogName(number + 1, place.seq, place.digest),),
                close=None,
                lineage=lineage,
            )
            snapshot = open_newest(directory, number, written.check)
        except BaseException:
            file.close()
            directory.discard(log_name(number + 1))
            directory.discard(name)
            raise
        try:
            store._publish(fresh)
        except StorageFailed:
            file.close()
            snapshot.close()
            raise  # the new manifest may be the one in force: its files must stay
        except BaseException:
            file.close()
            snapshot.close()
            directory.discard(log_name(number + 1))
            directory.discard(name)
            raise
        path = directory.join(log_name(number + 1))
        store._old_logs = {}
        store._log = Log(file, path, number + 1, manifest.uuid, FILE_HEADER_BYTES, place.seq, 0, place.digest)
        store._syncer.follow(store._log)
        old, store.snapshot = store.snapshot, snapshot
        store._snapshot_bytes = written.bytes_total
        if old is not None:
            old.close()
        directory.remove_unnamed()
