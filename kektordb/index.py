"""How is one index changed? The verbs that write items; each checks its input and hands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from kektordb._metadata import decode_metadata, encode_many, encode_metadata
from kektordb._vectors import Vectors
from kektordb.care import IndexCare
from kektordb.collection import Collection
from kektordb.data.verbs import Tabular
from kektordb.errors import ConfigError, ItemExists, ItemNotFound, MetadataError, VectorError
from kektordb.operations import DeleteItems, Group, Operation, PutItems, PutMetadata
from kektordb.precision import conversion_before
from kektordb.progress import Progress, check_progress, show
from kektordb.query import Filter
from kektordb.validation import (
    as_row,
    as_rows,
    check_id,
    check_ids,
    check_params,
    check_threads,
)

if TYPE_CHECKING:
    from kektordb.commit import Pending

__all__ = ["Index", "prepare"]

Metadata = Mapping[str, Any]


class Index(IndexCare, Tabular):
    """A handle to one index of a database; `Database.create_index` and ``db["name"]`` make it.

    It holds the database and the name, never the memory: after the index is dropped every call raises IndexNotFound,
    and when an index of that name is made anew, it is a handle to that one.
    All calls may be made from any number of threads.
    """

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
        began = perf_counter_ns()
        precision = collection.precision
        prepared = prepare(collection, ids, rows, precision)
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
            # The index may have been compressed since.
            as_now = prepared if collection.precision == precision else prepare(collection, ids, rows)
            put = PutItems(number, ids, as_now, blobs, replace)
            # Before other items of the same sync it would be applied too late.
            before = None if pending.has_items else conversion_before(collection, number, as_now)
            return put if before is None else Group((before, put))

        if progress is False:
            self._database._commit(build, n_threads)
        else:
            with show(progress, len(ids), "adding", "items") as step:
                self._database._commit(build, n_threads, step)
        collection.tally.adds.note(perf_counter_ns() - began)

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
                found = collection.matching_ids(filter, check_params(params))
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
        id = check_id(id)
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


def prepare(
    collection: Collection, ids: list[str], rows: npt.NDArray[np.float32], precision: str | None = None
) -> npt.NDArray[np.float32]:
    """Return rows as they are logged: normalised for cosine, rounded for halves. Raises VectorError."""
    halves = (precision or collection.precision) == "float16"
    vectors = Vectors(rows.shape[1], collection.config.metric, "float16" if halves else "float32")
    prepared, bad = vectors.prepare_rows(rows)
    if bad >= 0:
        raise VectorError(collection.refused(f"vector of id {ids[bad]!r}"))
    return prepared


def _encode(metadata: object, id: str) -> bytes:
    try:
        return encode_metadata(metadata)
    except MetadataError as error:
        raise MetadataError(f"metadata of id {id!r}: {error}") from None
