"""What is one index in memory? Its rows, graph, ids, metadata and columns, by slot; pure memory, no files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kektordb._bitmap import Bitmap
from kektordb._columns import Columns
from kektordb._hnsw import Graph
from kektordb._metadata import MetadataStore, decode_metadata
from kektordb._rwlock import RWLock
from kektordb._search import Searchable
from kektordb._strings import StringMap
from kektordb._vectors import MAX_HALF, Vectors
from kektordb.operations import Convert, DeleteItems, IndexConfig, Operation, PutItems, PutMetadata
from kektordb.precision import Conversion, first_precision
from kektordb.query import Explanation, Filter, Plan, compile_filter
from kektordb.query.cache import MatchCache, Matches
from kektordb.reserving import SLICE, Reservations, changed_parts
from kektordb.results import Item
from kektordb.tally import Tally
from kektordb.text.fields import Counted, TextFields, turns

__all__ = ["Collection"]

Params = dict[str, Any] | None
Step = Callable[[int], None]


class Collection(Searchable):
    """The state of one index.

    A search holds the read lock from the filter to the ids. A write puts rows in place under the write lock, links
    them under the read lock (searches run meanwhile and may pass over them), and makes them visible under the write
    lock. Writers never meet: the database's commit lock is around every call that changes anything.

    Parameters
    ----------
    config : IndexConfig

    Attributes
    ----------
    texts : TextFields or None
        None without a text language.
    tally : Tally
    """

    def __init__(self, config: IndexConfig) -> None:
        self.config = config
        self.is_product = config.metric == "dot"
        self.lock = RWLock()
        self.dim = config.dim
        self.ids = StringMap()
        self.metadata = MetadataStore()
        self.columns = Columns()
        self.texts = TextFields(config, self.metadata) if config.text_language else None
        self.alive = Bitmap(0)
        self.n_alive = 0
        # While a vacuum copies what there is, what comes in meanwhile is noted for it.
        self.journal: deque[Operation] | None = None
        self.refined_to = 0  # the slot with which the next refinement begins
        self.tally = Tally()
        self._filtered = MatchCache()
        self.graph = None
        # Has the memory for the first rows of an index without dimension; a write that is refused decides none.
        self._reserved: Graph | None = None
        self._reservations = Reservations(self)
        self._is_untidy = False
        # The next conversion and its rows, if they were made already.
        self.conversion: tuple[Convert, Conversion | None] | None = None
        if config.dim:
            self._decide(config.dim)

    def graph_for(self, dim: int) -> Graph:
        """Return the graph, or the one that there will be when the first rows have `dim` dimensions."""
        if self.graph is not None:
            return self.graph
        if self._reserved is None or self._reserved.vectors.dim != dim:
            config = self.config
            vectors = Vectors(dim, config.metric, first_precision(config))
            coded = config.traversal == "codes"
            self._reserved = Graph(vectors, config.m, config.ef_construction, config.seed, coded)
            self._reservations.n_rows = 0
        return self._reserved

    def _decide(self, dim: int) -> Graph:
        """Return the graph; the first rows decide the dimension of an index without one."""
        graph = self.graph_for(dim)
        self.graph, self.dim, self._reserved = graph, dim, None
        return graph

    def __len__(self) -> int:
        return self.n_alive

    @property
    def precision(self) -> str:
        """In which vectors are stored now: ``int8`` may have to wait for rows to choose a scale by."""
        return first_precision(self.config) if self.graph is None else self.graph.vectors.precision

    @property
    def n_slots(self) -> int:
        """Slots in use, those of deleted items included."""
        return 0 if self.graph is None else len(self.graph)

    def has(self, id: str) -> bool:
        """Tell whether an item of this id exists."""
        with self.lock.read:
            return self.ids.find_str(id) >= 0

    # ------------------------------------------------------------------------------------------------------ writing

    def reserve(self, operations: Sequence[PutItems | PutMetadata]) -> None:
        """Get the memory that applying `operations` in this order takes; MemoryError changes nothing that can be seen.

        It is theirs until `tidy`. Deleting takes none.
        """
        self._reservations.make(operations)

    def tidy(self) -> None:
        """Give back what was reserved and not taken, and what is wasted by now; all that was reserved is applied.

        Without memory it stays as it is, which only costs memory and time.
        """
        if not self._is_untidy and not self.columns.is_roomy():
            self._reservations.forget()
            return
        self._is_untidy = False
        more = True
        while more:
            with self.lock.write:
                more = self._tidy_some()

    def _tidy_some(self) -> bool:
        try:
            self._reservations.give_back()
            self.ids.compact_if_wasteful()
            self.metadata.compact_if_wasteful()
            return self.texts is not None and self.texts.tidy(SLICE)
        except MemoryError:
            return False

    def put(self, operation: PutItems, n_threads: int, step: Step | None = None) -> None:
        """Apply a `PutItems` whose memory was reserved. `step` is told how many rows are done."""
        self.note(operation)
        vectors, ids, metadata, replace = operation.vectors, operation.ids, operation.metadata, operation.replace
        total = len(ids)
        self.tally.n_changed += total
        words = None if self.texts is None else self._reservations.words(operation)
        self._is_untidy |= replace
        self._train(vectors)
        if total <= SLICE:
            self._put_slice(vectors, ids, metadata, words, replace, n_threads)
            if step is not None:
                step(total)
            return
        for start in range(0, total, SLICE):
            part = slice(start, start + SLICE)
            self.columns.merge_beside()
            of_part = None if words is None else words[part]
            self._put_slice(vectors[part], ids[part], metadata[part], of_part, replace, n_threads)
            if step is not None:
                step(min(start + SLICE, total))

    def converted(self) -> tuple[Graph | None, int]:
        """Return the graph, or the one that there will be, and the slots that its vectors have memory for."""
        return self._reserved if self.graph is None else self.graph, self._reservations.n_rows

    def _train(self, rows: npt.NDArray[np.float32] | None = None) -> None:
        """Let the codes follow the data. Searches run meanwhile, but for the moment in which new codes take over."""
        graph = self.graph if rows is None else self.graph_for(rows.shape[1])
        if graph is None:
            return
        try:
            codes = graph.train(rows)
            if codes is not None:
                with self.lock.write:
                    graph.adopt(codes)
        except MemoryError:
            pass  # Nothing changed, and the graph is walked as before: slower, never wrong.

    def _put_slice(
        self,
        vectors: npt.NDArray[np.float32],
        ids: list[str],
        metadata: list[bytes],
        counted: list[list[Counted]] | None,
        replace: bool,
        n_threads: int,
    ) -> None:
        n, lock = len(ids), self.lock
        self.graph_for(vectors.shape[1]).touch(n)
        with lock.write:
            graph = self._decide(vectors.shape[1])
            first = graph.append(vectors)
            self.alive.resize(first + n)
            self.metadata.put_many(first, metadata)
            self.columns.add_many(first, metadata)
        with lock.read:
            graph.link(first, n, n_threads if n > 1 else 1)
        if counted is None or n == 1:
            with lock.write:
                self._publish(first, ids, replace, counted)
        else:
            for part in turns(counted):
                with lock.write:
                    self._publish(first + part.start, ids[part], replace, counted[part])
        self._train()

    def _publish(self, first: int, ids: list[str], replace: bool, counted: list[list[Counted]] | None) -> None:
        texts = self.texts
        if replace:
            for slot in self.ids.remove_many(ids):
                self.alive.clear(slot)
                self.n_alive -= 1
                if texts is not None:
                    texts.remove(slot)
        if texts is not None and counted is not None:
            for slot, text in enumerate(counted, first):
                texts.add(slot, text)
        self.ids.add_many(first, ids)
        self.alive.set_range(first, first + len(ids))
        self.n_alive += len(ids)

    def _bury(self, id: str) -> None:
        """Turn an item into a tombstone; its slot, row and links stay until they are vacuumed."""
        slot = self.ids.find_str(id)
        if slot >= 0:
            self.ids.remove_number(slot)
            self.alive.clear(slot)
            self.n_alive -= 1
            if self.texts is not None:
                self.texts.remove(slot)

    def delete(self, operation: DeleteItems) -> None:
        """Apply a `DeleteItems`; an id that is not there is passed over."""
        self.note(operation)
        self._is_untidy = True
        self.tally.n_changed += len(operation.ids)
        with self.lock.write:
            for id in operation.ids:
                self._bury(id)

    def put_metadata(self, operation: PutMetadata) -> None:
        """Apply a `PutMetadata`."""
        self.note(operation)
        metadata = decode_metadata(operation.metadata)
        # Only writers change what is read here, and there is one at a time.
        slot = self.ids.find_str(operation.id)
        if slot < 0:
            return
        old = self.metadata.get(slot)
        changes = None if self.texts is None else self._reservations.changes(operation, old, metadata)
        going, coming = changed_parts(operation, old)
        self._is_untidy = True
        with self.lock.write:
            self.columns.remove(slot, going)
            self.metadata.put(slot, metadata)
            self.columns.add(slot, metadata if coming is None else coming)
            if self.texts is not None and changes is not None:
                self.texts.replace(slot, changes)

    def note(self, operation: Operation) -> None:
        """Note an operation that is applied, for a vacuum that is under way."""
        if self.journal is not None:
            self.journal.append(operation)

    def succeed(self, old: Collection) -> None:
        """Go on with what was counted of the same index in a state that this one takes the place of."""
        self.searches, self.n_batch_queries = old.searches, old.n_batch_queries
        self.tally.succeed(old.tally, abs(self.n_alive - old.n_alive))

    # ------------------------------------------------------------------------------------------------------ reading

    def _matches(self, plan: Plan, params: Params) -> Matches:
        """Return the living slots that match, and how many: shared, never to be changed; the read lock is held."""
        # Whatever a filter sees changes under the write lock, and so does the number of writes.
        return self._filtered.find(plan, params, self.lock.n_writes, self._run)

    def _run(self, plan: Plan, params: Params) -> Bitmap:
        rows = plan.run(self.columns, self.n_slots, params, self.texts)
        rows.iand(self.alive)
        return rows

    def refused(self, what: str) -> str:
        """Say what is wrong with a vector that `Vectors.prepare` refused."""
        limit = "" if self.config.metric == "cosine" else ", with a squared norm below 8e37"
        if self.precision == "float16" and limit:
            limit = f", up to {MAX_HALF:,}"
        return f"{what}: expected finite numbers{limit}, got NaN, Inf or too large ones"

    def item(self, id: str) -> Item | None:
        """Return an item, or None."""
        return self.items([id])[0]

    def items(self, ids: Sequence[str]) -> list[Item | None]:
        """Return the items of these ids, in their order; None for each that is not there."""
        with self.lock.read:
            slots = [self.ids.find_str(id) for id in ids]
            found = np.array([slot for slot in slots if slot >= 0], dtype=np.uint32)
            if self.graph is None or not len(found):
                return [None] * len(ids)
            rows = iter(self.graph.vectors.get(found))
            return [
                Item(id, next(rows).copy(), self.metadata.get(slot)) if slot >= 0 else None
                for id, slot in zip(ids, slots, strict=True)
            ]

    def raw_metadata(self, id: str) -> dict[str, Any] | None:
        """Return the metadata of an item, or None when there is no such item."""
        with self.lock.read:
            slot = self.ids.find_str(id)
            return None if slot < 0 else self.metadata.get(slot)

    def matching_ids(self, filter: Filter | None, params: Params) -> list[str]:
        """Return the ids of the items that match, in the order in which they came in."""
        plan = None if filter is None else compile_filter(filter)
        with self.lock.read:
            rows = self.alive if plan is None else self._matches(plan, params)[0]
            return cast("list[str]", self.ids.get_many(np.frombuffer(rows.slots(), dtype=np.uint32)))

    def count(self, filter: Filter | None, params: Params) -> int:
        """Count the items that match."""
        plan = None if filter is None else compile_filter(filter)
        with self.lock.read:
            return self.n_alive if plan is None else self._matches(plan, params)[1]

    def explain(self, filter: Filter, params: Params) -> Explanation:
        """Return the plan of a filter with estimated and true numbers of rows."""
        plan = compile_filter(filter)
        with self.lock.read:
            return plan.explain(self.columns, self.n_slots, params, self.alive, self.texts)

    def fields(self) -> list[str]:
        """Return the names of the fields that items have, sorted."""
        with self.lock.read:
            return self.columns.fields()

    def stats(self) -> dict[str, Any]:
        """Return counts and bytes by part."""
        with self.lock.read:
            graph = self.graph
            vectors = 0 if graph is None else graph.vectors.memory_bytes(len(graph))
            parts = {
                "vectors": vectors,
                "graph": 0 if graph is None else graph.memory_bytes(),
                "ids": self.ids.memory_bytes(),
                "metadata": self.metadata.memory_bytes(),
                "columns": self.columns.memory_bytes(),
                "filters": self._filtered.memory_bytes(),
            }
            texts = {}
            if self.texts is not None:
                parts["text"] = self.texts.memory_bytes()
                texts["texts"] = self.texts.stats()
            return {
                "n_items": self.n_alive,
                "n_tombstones": self.n_slots - self.n_alive,
                **self.config.to_dict(),
                "maintenance": self.config.maintenance.to_json(),
                "stored_precision": self.precision,
                "dim": self.dim,
                **texts,
                "calibration": self.tally.stats(self.precision),
                "memory_bytes": {**parts, "total": sum(parts.values())},
            }
