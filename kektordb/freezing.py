"""How does an index get into a snapshot, and back? As named sections, frozen while searches and writes go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kektordb._bitmap import Bitmap
from kektordb._vectors import MAX_DIM
from kektordb.collection import Collection
from kektordb.errors import CorruptSnapshot
from kektordb.operations import IndexConfig
from kektordb.types import Section, SectionReader

__all__ = ["freeze", "load", "thaw"]


def freeze(collection: Collection, whole: bool) -> tuple[dict[str, Any], list[Section]]:
    """Freeze a view: what is not in sections, and the sections. They stay as they are now until `thaw`.

    Unless it must be `whole`, it may name sections of the newest snapshot instead of reading them again.
    """
    with collection.lock.write:
        graph, alive = collection.graph, collection.alive.to_bytes()
        meta: dict[str, Any] = {"dim": collection.dim, "n_alive": collection.n_alive, "graph": None}
        meta["calibration"] = collection.tally.to_meta()
        sections = [Section("alive", 8, len(alive), lambda start, stop: alive[start:stop])]
        if graph is not None:
            sections += graph.freeze(whole)
            meta["graph"] = graph.meta()
        sections += [*collection.ids.freeze("ids"), *collection.metadata.freeze(), *collection.columns.freeze()]
        if collection.texts is not None:
            sections += collection.texts.freeze()
    return meta, [Section(s.name, s.item_bytes, s.n_bytes, _guard(collection, s.read)) for s in sections]


def _guard(collection: Collection, read: Callable[[int, int], Any] | None) -> Callable[[int, int], Any] | None:
    """Read a section under the read lock: no array moves or changes meanwhile."""
    if read is None:
        return None

    def guarded(start: int, stop: int) -> Any:
        with collection.lock.read:
            return read(start, stop)

    return guarded


def thaw(collection: Collection, saved: bool) -> None:
    """Give up the frozen view; `saved`: it is in the newest snapshot."""
    if collection.graph is not None:
        with collection.lock.write:
            if saved:
                collection.graph.saved()
            collection.graph.thaw()


def load(config: IndexConfig, meta: dict[str, Any], reader: SectionReader) -> Collection:
    """Make a collection of a snapshot. Raises CorruptSnapshot, and what msgspec raises for a damaged catalogue."""
    collection = Collection(config)
    collection.tally.load(meta.get("calibration"))
    n = 0
    if meta["graph"] is not None:
        n, dim = meta["graph"]["n"], meta["dim"]
        if not 1 <= dim <= MAX_DIM or config.dim not in (0, dim):
            raise CorruptSnapshot(f"expected vectors of {config.dim or 'some'} dimensions, got {dim}")
        collection._decide(dim).load(meta["graph"], reader)
    collection.alive = Bitmap.from_bytes(reader.read("alive"), n)
    collection.n_alive = collection.alive.count()
    collection.ids.load("ids", reader, n)
    collection.metadata.load(reader, n)
    collection.columns.load(reader, n)
    if collection.texts is not None:
        collection.texts.load(reader, n)
    if collection.n_alive != meta["n_alive"] or collection.ids.size != meta["n_alive"]:
        raise CorruptSnapshot(
            f"expected {meta['n_alive']} items, got {collection.n_alive} living slots and {collection.ids.size} ids"
        )
    return collection
