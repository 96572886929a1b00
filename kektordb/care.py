"""How is one index looked after? Its settings for maintenance, and the verbs that begin work in the background."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from kektordb.collection import Collection
from kektordb.errors import ConfigError, IndexNotFound
from kektordb.operations import Configure, IndexConfig, Operation
from kektordb.reading import IndexReader
from kektordb.settings import check_settings
from kektordb.tasks import Body, Control, Task
from kektordb.upkeep.quality import calibrate, finite_rows
from kektordb.validation import check_ef_construction, check_precision

if TYPE_CHECKING:
    from kektordb.commit import Pending
    from kektordb.embed import Embedder

__all__ = ["IndexCare"]


class IndexCare(IndexReader):
    """The half of `Index` that keeps it small and good, beside the one that changes nothing."""

    @property
    def maintenance(self) -> dict[str, Any]:
        """When it is vacuumed and refined by itself, as a dict of the keys of `configure`; durations as text."""
        return self._collection().config.maintenance.to_json()

    def configure(self, maintenance: Mapping[str, Any] | None = None, /, **settings: Any) -> None:
        """Change when the index is vacuumed and refined by itself. What is not named stays; durable like every write.

        Parameters
        ----------
        maintenance : dict, optional
            Settings by name, as JSON has them; those given by keyword come on top.
        vacuum_interval : str, int or timedelta
            A vacuum begins when this has passed since the last one: ``"5m"`` (the default), ``"1h30m"``, ``"30s"``, or
            nanoseconds. 0 for never.
        delete_threshold : float
            ... and when this share of the slots in use are those of deleted items; 0 to 1, by default 0.1.
        refine_enabled : bool
            Whether items are refined by itself; False by default.
        refine_interval : str, int or timedelta
            How often; ``"30m"`` by default, 0 for never.
        refine_batch_size : int
            How many items each time; 500 by default.
        refine_ef_construction : int
            Candidates from which links are chosen; 0, the default, for the index's `ef_construction`.

        Raises
        ------
        ConfigError, IndexNotFound, ReadOnlyDatabase, StorageError
        """
        checked = check_settings({} if maintenance is None else maintenance) | check_settings(settings)
        collection = self._collection()

        def build(pending: Pending) -> Operation | None:
            number = self._number(pending, collection)
            return Configure(number, checked) if checked else None

        self._database._commit(build)

    def _described(self) -> tuple[IndexConfig, int | None]:
        collection = self._collection()
        return collection.config, collection.dim or None

    def _attached(self) -> Embedder | None:
        self._collection()
        return self._database._embedders.get(self._database._live().numbers.get(self._name, 0))

    def _attach(self, embedder: Embedder, rename: bool) -> None:
        stored = self._collection().config.embedder
        # What is read-only can still be searched by text.
        if stored != embedder.name and not (self._database.read_only and not stored):
            self._name_embedder(embedder.name, rename)
        self._collection()
        self._database._embedders[self._database._live().numbers[self._name]] = embedder

    def _name_embedder(self, name: str, rename: bool = False) -> None:
        """Store the name of what makes the vectors of this index. Raises ConfigError when it has another one."""
        collection = self._collection()

        def build(pending: Pending) -> Operation | None:
            pending.settle()
            number = self._number(pending, collection)
            stored = collection.config.embedder
            if stored and stored != name and not rename:
                raise ConfigError(f"index {self._name!r} has vectors of the embedder {stored!r}, got {name!r}")
            return None if stored == name else Configure(number, {}, name)

        self._database._commit(build)

    def vacuum(self) -> Task:
        """Free what deleted items left behind: slots, rows, links, metadata, postings. Searches and writes go on.

        Returns
        -------
        Task
            Its result has ``n_removed`` and ``reclaimed_bytes``.

        Raises
        ------
        IndexNotFound, ReadOnlyDatabase
        """

        def body(control: Control) -> dict[str, Any]:
            from kektordb.upkeep.vacuum import vacuum

            return vacuum(self._database, self._name, control)

        return self._submit("vacuum", body)

    def refine(self, ef_construction: int | None = None) -> Task:
        """Choose the links of all items anew, once: a graph built in haste becomes one built with care.

        Parameters
        ----------
        ef_construction : int, optional
            Candidates from which links are chosen; that of ``maintenance``, or of the index, by default.

        Returns
        -------
        Task

        Raises
        ------
        ConfigError, IndexNotFound, ReadOnlyDatabase
        """
        if ef_construction is None:
            ef = self._collection().config.maintenance.refine_ef_construction or None
        else:
            ef = check_ef_construction(ef_construction)

        def body(control: Control) -> dict[str, Any]:
            from kektordb.upkeep.refine import refine

            return refine(self._database, self._name, control, None, ef)

        return self._submit("refine", body)

    def calibrate(self, queries: npt.ArrayLike | None = None) -> Task:
        """Measure how wide searches must be to find what ``search(recall=...)`` asks for, see docs/recall.md.

        It happens by itself when that is first asked for, and again when the index has changed by a fifth.

        Parameters
        ----------
        queries : array_like (n, dim), optional
            Queries like those that will be asked, some hundreds or more. By default rows of the index stand for them.

        Returns
        -------
        Task
            Its result has ``curves``: the recall by `ef_search`, for 1, 10 and 100 results. Empty for an index of no
            more than 2,000 items, which are all compared.

        Raises
        ------
        VectorError, IndexNotFound
        """
        collection = self._collection()
        outside = None if queries is None else finite_rows(queries, collection)
        return self._submit("calibrate", lambda control: calibrate(collection, control, queries=outside), False)

    def compress(self, precision: str) -> Task:
        """Store the vectors in another precision; the graph, ids, metadata and texts stay as they are.

        Parameters
        ----------
        precision : str
            ``float32``, ``float16`` or ``int8``; not the present one. What a smaller precision rounded off
            does not come back with a larger one.

        Returns
        -------
        Task
            Its result has ``n_rows``, ``bytes_before`` and ``bytes_after``. It fails, and changes nothing, when a
            vector holds a number that is too large for ``float16``.

        Raises
        ------
        ConfigError, IndexNotFound, ReadOnlyDatabase
        """
        collection = self._collection()
        # One that still waits for rows to choose a scale by may be told not to.
        waits = collection.precision != collection.config.precision
        precision = check_precision(precision, "" if waits else collection.config.precision)

        def body(control: Control) -> dict[str, Any]:
            from kektordb.upkeep.compress import compress

            return compress(self._database, self._name, precision, control)

        self._database._writable()
        return self._submit("compress", body)

    def _submit(self, kind: str, body: Body, changes: bool = True) -> Task:
        if changes:
            self._database._tended()
        collection = self._collection()

        def of_this_index(control: Control) -> dict[str, Any] | None:
            if self._collection() is not collection:
                raise IndexNotFound(f"the index {self._name!r} was dropped")
            return body(control)

        return self._database._upkeep.submit(kind, self._name, of_this_index)

    def _number(self, pending: Pending, collection: Collection) -> int:
        """Return the number of this index; it may have been dropped, or made anew, since the call began."""
        number = pending.state.numbers.get(self._name)
        if number is None or pending.state.collections[number] is not collection:
            raise IndexNotFound(f"the index {self._name!r} was dropped")
        return number
