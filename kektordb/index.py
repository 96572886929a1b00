"""What can be done with one index? The public verbs; each checks its input and hands on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from kektordb._metadata import decode_metadata, encode_many, encode_metadata
from kektordb._vectors import Vectors
from kektordb.collection import Collection
from kektordb.errors import ConfigError, IdError, IndexNotFound, ItemExists, ItemNotFound, MetadataError, VectorError
from kektordb.operations import DeleteItems, IndexConfig, Operation, PutItems, PutMetadata
from kektordb.progress import Progress, check_progress, show
from kektordb.query import Explanation, Filter
from kektordb.results import Item, Results
from kektordb.validation import (
    as_query,
    as_row,
    as_rows,
    check_id,
    check_ids,
    check_include,
    check_positive,
    check_threads,
)

if TYPE_CHECKING:
    from kektordb.commit import Pending
    from kektordb.database import Database

__all__ = ["Index"]

Metadata = Mapping[str, Any]

DEFAULT_EF_SEARCH = 100
_METADATA_ONLY = frozenset({"metadata"})


class Index:
    """A handle to one index of a database; `Database.create_index` and ``db["name"]`` make it.

    It holds the database and the name, never the memory: after the index is dropped every call raises IndexNotFound,
    and when an index of that name is made anew, it is a handle to that one.
    All calls may be made from any number of threads.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    @property
    def name(self) -> str:
        """The name of the index."""
        return self._name

    @property
    def database(self) -> Database:
        """The database it belongs to."""
        return self._database

    @property
    def config(self) -> IndexConfig:
        """What the index was created with."""
        return self._collection().config

    @property
    def dim(self) -> int | None:
        """Components of a vector; None until the first vector decides."""
        return self._collection().dim or None

    def _collection(self) -> Collection:
        database, found = self._database, None
        if database._gone is None:  # the short way, which every search takes; the long one says what is wrong
            found = database._state.collections.get(database._state.numbers.get(self._name, 0))
        return database._live().collection(self._name) if found is None else found

    # ------------------------------------------------------------------------------------------------------ writing

    def add(self, id: str, vector: npt.ArrayLike, metadata: Metadata | None = None) -> None:
        """Add an item.

        Parameters
        ----------
        id : str
            1 to 1,024 bytes in UTF-8.
        vector : array_like (dim,)
            Finite numbers, converted to float32. A zero vector is allowed; with the metric ``cosine`` its distance to
            everything is 1.0. The first vector of an index without `dim` decides the dimension.
        metadata : dict, optional
            Any JSON object. It comes back as it is: nested values, ints up to 64 bits, floats.

        Raises
        ------
        ItemExists
            Use `upsert` to replace an item.
        IdError, VectorError, MetadataError, StorageError
            Nothing was stored.
        """
        self._put_one(id, vector, metadata, replace=False)

    def upsert(self, id: str, vector: npt.ArrayLike, metadata: Metadata | None = None) -> None:
        """Add an item, or replace the one of this id; see `add`. Readers see the old one or the new one."""
        self._put_one(id, vector, metadata, replace=True)

    def _put_one(self, id: str, vector: npt.ArrayLike, metadata: Metadata | None, replace: bool) -> None:
        collection = self._collection()
        row = as_row(vector, collection.dim)
        self._put(collection, [check_id(id)], row[None, :], [metadata], replace)

    def add_batch(
        self,
        ids: Sequence[str],
        vectors: npt.ArrayLike,
        metadata: Sequence[Metadata | None] | None = None,
        *,
        n_threads: int | None = None,
        progress: Progress = False,
    ) -> None:
        """Add many items: all of them, or none after an error or a crash.

        They become visible in slices while the call runs. Ctrl-C takes effect when all are in.

        Parameters
        ----------
        ids : sequence of str
            Each once.
        vectors : array_like (n, dim)
        metadata : sequence of dict or None, optional
            One for each id.
        n_threads : int, optional
            Threads that build the graph; as many as the database was opened with (all cores) by default. One thread
            makes the same graph each time.
        progress : bool or callable
            True shows a bar; a function is called with (done, total) items. It must not write to the database.

        Raises
        ------
        ItemExists, IdError, VectorError, MetadataError, StorageError
            Nothing was stored.
        """
        self._put_many(ids, vectors, metadata, n_threads, progress, replace=False)

    def upsert_batch(
        self,
        ids: Sequence[str],
        vectors: npt.ArrayLike,
        metadata: Sequence[Metadata | None] | None = None,
        *,
        n_threads: int | None = None,
        progress: Progress = False,
    ) -> None:
        """Add or replace many items: all of them, or none; see `add_batch`."""
        self._put_many(ids, vectors, metadata, n_threads, progress, replace=True)

    def _put_many(
        self,
        ids: Sequence[str],
        vectors: npt.ArrayLike,
        metadata: Sequence[Metadata | None] | None,
        n_threads: int | None,
        progress: Progress,
        replace: bool,
    ) -> None:
        collection = self._collection()
        checked = check_ids(ids)
        rows = as_rows(vectors, len(checked), collection.dim)
        check_progress(progress)
        if n_threads is not None:
            n_threads = check_threads(n_threads)
        if metadata is None:
            metadata = [None] * len(checked)
        elif isinstance(metadata, str | bytes | Mapping) or not isinstance(metadata, Sequence | np.ndarray):
            raise MetadataError(f"expected a sequence of metadata, one for each id, got {type(metadata).__name__}")
        elif len(metadata) != len(checked):
            raise MetadataError(f"expected {len(checked)} metadata, one for each id, got {len(metadata)}")
        if checked:
            self._put(collection, checked, rows, metadata, replace, n_threads, progress)

    def _put(
        self,
        collection: Collection,
        ids: list[str],
        rows: npt.NDArray[np.float32],
        metadata: Sequence[Metadata | None],
        replace: bool,
        n_threads: int | None = None,
        progress: Progress = False,
    ) -> None:
        graph = collection.graph
        # The first item, with another dimension, may come in meanwhile: that is for `build` to see.
        if graph is not None and graph.vectors.dim == rows.shape[1]:
            vectors = graph.vectors
        else:
            vectors = Vectors(rows.shape[1], collection.config.metric, collection.config.precision)
        prepared, bad = vectors.prepare_rows(rows)
        if bad >= 0:
            raise VectorError(collection.refused(f"vector of id {ids[bad]!r}"))
        blobs = encode_many(metadata, ids)

        def build(pending: Pending) -> Operation:
            number = self._number(pending, collection)
            dim = pending.dim(number, collection)
            if dim and dim != prepared.shape[1]:
                raise VectorError(f"expected {dim} dimensions, got {prepared.shape[1]} (id {ids[0]!r})")
            if not replace:
                known = pending.first_known(number, collection, ids)
                if known is not None:
                    raise ItemExists(f"expected a new id, got {known!r}, which exists; upsert() replaces")
            return PutItems(number, ids, prepared, blobs, replace)

        if progress is False:
            self._database._commit(build, n_threads)
            return
        with show(progress, len(ids), "adding", "items") as step:
            self._database._commit(build, n_threads, step)

    def _number(self, pending: Pending, collection: Collection) -> int:
        """Return the number of this index; it may have been dropped, or made anew, since the call began."""
        number = pending.state.numbers.get(self._name)
        if number is None or pending.state.collections[number] is not collection:
            raise IndexNotFound(f"the index {self._name!r} was dropped")
        return number

    def delete(
        self,
        ids: str | Sequence[str] | None = None,
        *,
        filter: Filter | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> int:
        """Delete items by id, or all that match a filter; all or none. They are gone from every search at once.

        Parameters
        ----------
        ids : str or sequence of str
        filter, params
            As in `search`, instead of `ids`. It sees what is committed, and so cannot be used inside ``db.batch()``.

        Returns
        -------
        int
            How many items were deleted.

        Raises
        ------
        ItemNotFound
            One of the ids is not there; none was deleted.
        """
        if (ids is None) == (filter is None):
            raise ConfigError("expected either ids or a filter to delete by")
        collection = self._collection()
        wanted = [] if ids is None else [check_id(ids)] if isinstance(ids, str) else check_ids(ids)

        def build(pending: Pending) -> Operation | None:
            number = self._number(pending, collection)
            if filter is not None:
                pending.settle()
                found = collection.matching_ids(filter, _params(params))
            else:
                found = wanted
                for id in found:
                    if not pending.has(number, collection, id):
                        raise ItemNotFound(f"no item {id!r} in index {self._name!r}")
            return DeleteItems(number, found) if found else None

        operation = self._database._commit(build)
        return 0 if operation is None else len(cast(DeleteItems, operation).ids)

    def update_metadata(self, id: str, metadata: Metadata, *, replace: bool = False) -> None:
        """Change the metadata of an item; its vector stays.

        Parameters
        ----------
        id : str
        metadata : dict
            Its keys are set, the other keys of the item stay. A nested object is replaced as a whole.
        replace : bool
            The whole metadata becomes `metadata` instead.

        Raises
        ------
        ItemNotFound, MetadataError
        """
        check_id(id)
        change = decode_metadata(_encode(metadata, id))
        collection = self._collection()

        def build(pending: Pending) -> Operation:
            number = self._number(pending, collection)
            if not pending.has(number, collection, id):
                raise ItemNotFound(f"no item {id!r} in index {self._name!r}")
            if replace:
                return PutMetadata(number, id, _encode(change, id))
            waiting = pending.metadata(number, id)
            old = (collection.raw_metadata(id) or {}) if waiting is None else decode_metadata(waiting or b"\x80")
            return PutMetadata(number, id, _encode({**old, **change}, id))

        self._database._commit(build)

    # ------------------------------------------------------------------------------------------------------ reading

    def search(
        self,
        vector: npt.ArrayLike,
        k: int = 10,
        ef_search: int | None = None,
        filter: Filter | None = None,
        params: Mapping[str, Any] | None = None,
        include: Sequence[str] = ("metadata",),
    ) -> Results:
        """Find the nearest items.

        Parameters
        ----------
        vector : array_like (dim,)
        k : int
            Results wanted; fewer come back only when fewer items exist or match.
        ef_search : int, optional
            Candidates kept while the graph is walked: more find more and take longer. ``max(100, k)`` by default.
        filter : str or expression of `F`, optional
            Only items that match, see docs/filters.md. Few matches are compared one by one, which is exact.
        params : dict, optional
            Values for ``$name`` in the filter. They are never part of its text.
        include : sequence of str
            What a hit holds besides id, score and distance: ``"metadata"``, ``"vector"``.

        Returns
        -------
        Results
            Sorted by distance; equal distances in the order in which the items came in. Empty for an empty index.

        Raises
        ------
        VectorError, FilterError, ConfigError
        """
        collection = self._collection()
        query = as_query(vector, collection.dim)
        k = check_positive(k, "k")
        ef = DEFAULT_EF_SEARCH if ef_search is None else check_positive(ef_search, "ef_search")
        wanted = _METADATA_ONLY if include == ("metadata",) else check_include(include)
        bound = None if params is None else _params(params)
        return collection.search(query, k, ef if ef > k else k, filter, bound, wanted)

    def search_batch(
        self,
        vectors: npt.ArrayLike,
        k: int = 10,
        ef_search: int | None = None,
        filter: Filter | None = None,
        params: Mapping[str, Any] | None = None,
        include: Sequence[str] = ("metadata",),
        *,
        n_threads: int | None = None,
    ) -> list[Results]:
        """Find the nearest items of many queries at once, on several threads; see `search`.

        Parameters
        ----------
        vectors : array_like (n, dim)
        n_threads : int, optional
            All cores by default.

        Returns
        -------
        list of Results
            One for each query.

        Raises
        ------
        VectorError, FilterError, ConfigError
            Also when one query alone holds NaN or Inf.
        """
        collection = self._collection()
        queries = as_rows(vectors, None, collection.dim)
        k = check_positive(k, "k")
        ef = DEFAULT_EF_SEARCH if ef_search is None else check_positive(ef_search, "ef_search")
        threads = n_cores() if n_threads is None else check_threads(n_threads)
        wanted = check_include(include)
        return collection.search_batch(queries, k, max(ef, k), filter, _params(params), wanted, threads)

    def get(self, id: str) -> Item | None:
        """Return an item, or None when there is none of this id."""
        return self._collection().item(check_id(id))

    def get_many(self, ids: Sequence[str]) -> list[Item | None]:
        """Return the items of these ids in their order; None for each that is not there."""
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise IdError(f"expected a sequence of ids, got {type(ids).__name__} {ids!r:.80}")
        return self._collection().items([check_id(id) for id in ids])

    def __getitem__(self, id: str) -> Item:
        item = self.get(id)
        if item is None:
            raise ItemNotFound(f"no item {id!r} in index {self._name!r}")
        return item

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self._collection().has(id)

    def __len__(self) -> int:
        return len(self._collection())

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids())

    def ids(self, filter: Filter | None = None, params: Mapping[str, Any] | None = None) -> list[str]:
        """Return the ids of all items, or of those that match, in the order in which they came in."""
        return self._collection().matching_ids(filter, _params(params))

    def count(self, filter: Filter | None = None, params: Mapping[str, Any] | None = None) -> int:
        """Count all items, or those that match."""
        return self._collection().count(filter, _params(params))

    def explain(self, filter: Filter, params: Mapping[str, Any] | None = None) -> Explanation:
        """Return the plan of a filter, in the order in which it runs, with estimated and true numbers of rows."""
        return self._collection().explain(filter, _params(params))

    def stats(self) -> dict[str, Any]:
        """Return items, tombstones, configuration, and bytes in memory by part."""
        return self._collection().stats()

    def __repr__(self) -> str:
        return f"<Index {self._name!r} of {self._database!r}>"


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _params(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if params is None or type(params) is dict:
        return params
    if not isinstance(params, Mapping):
        raise ConfigError(f"expected params to be a dict, got {type(params).__name__}")
    return dict(params)


def _encode(metadata: object, id: str) -> bytes:
    try:
        return encode_metadata(metadata)
    except MetadataError as error:
        raise MetadataError(f"metadata of id {id!r}: {error}") from None
