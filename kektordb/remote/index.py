"""How is an index on a server searched and changed? The verbs of `Index`; each checks its input and asks the server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb._metadata import encode_many
from kektordb.data.verbs import Tabular
from kektordb.embedding import IndexOfTexts
from kektordb.errors import ConfigError, IdError, ItemNotFound, MetadataError, VectorError
from kektordb.markup import Stats, index_html
from kektordb.operations import IndexConfig
from kektordb.progress import Progress, check_progress
from kektordb.query import Filter, compile_filter
from kektordb.remote.batches import put_all
from kektordb.remote.results import RemoteResults, item_of
from kektordb.remote.tasks import RemoteTask
from kektordb.remote.transport import Transport, path_of
from kektordb.results import Item
from kektordb.settings import check_settings
from kektordb.upkeep.quality import RecallCheck
from kektordb.validation import (
    as_query,
    as_row,
    as_rows,
    check_ef_construction,
    check_fusion,
    check_id,
    check_ids,
    check_include,
    check_params,
    check_positive,
    check_precision,
    check_recall,
    check_sample,
    check_text,
)

if TYPE_CHECKING:
    from kektordb.embed import Embedder
    from kektordb.remote.database import RemoteDatabase

__all__ = ["RemoteIndex"]

ACTIONS = "/vector/actions/"
IDS_AT_ONCE = 10_000
# To compare a sample with every item of a large index.
RECALL_S = 300.0

Metadata = Mapping[str, Any]


class RemoteIndex(IndexOfTexts, Tabular):
    """A handle to one index of a server, as `Index` is to one of an embedded database.

    Its verbs take, give and raise what those of `Index` do; here is what is different. All calls may be made from any
    number of threads.
    """

    def __init__(self, database: RemoteDatabase, transport: Transport, name: str) -> None:
        self._database = database
        self._transport = transport
        self._name = name

    @property
    def name(self) -> str:
        """The name of the index."""
        return self._name

    @property
    def database(self) -> RemoteDatabase:
        """The database it belongs to."""
        return self._database

    @property
    def config(self) -> IndexConfig:
        """What the index was created with."""
        return self._described()[0]

    @property
    def dim(self) -> int | None:
        """Components of a vector; None until the first vector decides."""
        return self.stats()["dim"] or None

    # ------------------------------------------------------------------------------------------------------ writing

    def add(self, id: str, vector: npt.ArrayLike, metadata: Metadata | None = None) -> None:
        """Add an item; see `Index.add`."""
        self._put_one(id, vector, metadata, replace=False)

    def upsert(self, id: str, vector: npt.ArrayLike, metadata: Metadata | None = None) -> None:
        """Add an item, or replace the one of this id; see `Index.upsert`."""
        self._put_one(id, vector, metadata, replace=True)

    def _put_one(self, id: str, vector: npt.ArrayLike, metadata: Metadata | None, replace: bool) -> None:
        body: dict[str, Any] = {"id": check_id(id), "vector": as_row(vector, 0), "replace": replace}
        if metadata is not None:
            body["metadata"] = _encoded(metadata, id)
        self._post("add", body, repeatable=replace)

    def add_batch(
        self,
        ids: Sequence[str],
        vectors: npt.ArrayLike,
        metadata: Sequence[Metadata | None] | None = None,
        *,
        progress: Progress = False,
    ) -> None:
        """Add many items; see `Index.add_batch`.

        They go in requests of at most 20,000 items and about 16 MiB. All of one request are stored or none; when a
        later one fails, a note of the error says how many items came in before.
        """
        self._put_many(ids, vectors, metadata, progress, replace=False)

    def upsert_batch(
        self,
        ids: Sequence[str],
        vectors: npt.ArrayLike,
        metadata: Sequence[Metadata | None] | None = None,
        *,
        progress: Progress = False,
    ) -> None:
        """Add or replace many items; see `add_batch`."""
        self._put_many(ids, vectors, metadata, progress, replace=True)

    def _put_many(
        self,
        ids: Sequence[str],
        vectors: npt.ArrayLike,
        metadata: Sequence[Metadata | None] | None,
        progress: Progress,
        replace: bool,
    ) -> None:
        checked = check_ids(ids)
        rows = as_rows(vectors, len(checked), 0)
        check_progress(progress)
        if metadata is None:
            blobs = [b""] * len(checked)
        elif isinstance(metadata, str | bytes | Mapping) or not isinstance(metadata, Sequence | np.ndarray):
            raise MetadataError(f"expected a sequence of metadata, one for each id, got {type(metadata).__name__}")
        elif len(metadata) != len(checked):
            raise MetadataError(f"expected {len(checked)} metadata, one for each id, got {len(metadata)}")
        else:
            blobs = encode_many(metadata, checked)
        put_all(self._transport, self._name, checked, rows, blobs, replace, progress)

    def delete(
        self,
        ids: str | Sequence[str] | None = None,
        *,
        filter: Filter | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> int:
        """Delete items by id, or all that match a filter, and count them; see `Index.delete`."""
        if (ids is None) == (filter is None):
            raise ConfigError("expected either ids or a filter to delete by")
        body = _matching(filter, params)
        if ids is not None:
            body = {"ids": [check_id(ids)] if isinstance(ids, str) else check_ids(ids)}
        return int(self._post("delete_vector", body)["deleted"])

    def update_metadata(self, id: str, metadata: Metadata, *, replace: bool = False) -> None:
        """Change the metadata of an item; its vector stays. See `Index.update_metadata`."""
        body = {"id": check_id(id), "metadata": _encoded(metadata, id), "replace": replace}
        self._post("update-metadata", body, repeatable=True)

    # ------------------------------------------------------------------------------------------------------- reading

    def search(
        self,
        vector: npt.ArrayLike | None = None,
        k: int = 10,
        ef_search: int | None = None,
        filter: Filter | None = None,
        params: Mapping[str, Any] | None = None,
        include: Sequence[str] = ("metadata",),
        *,
        text: str | None = None,
        query_text: str | None = None,
        alpha: float = 0.5,
        fusion: str = "minmax",
        snippet: bool = False,
        explain: bool = False,
        recall: float | None = None,
    ) -> RemoteResults:
        """Find the nearest items, those that words fit best, or the best by both; see `Index.search`."""
        if query_text is not None:
            vector, text = self._question(query_text, vector, text)
        alpha, fusion = check_fusion(alpha, fusion)
        body: dict[str, Any] = self._asked(k, ef_search, filter, params, include, recall)
        body |= {"alpha": alpha, "fusion": fusion, "snippet": bool(snippet), "explain": bool(explain), "as_given": True}
        if text is not None:
            body["query_text"] = check_text(text)
        if vector is None:
            if text is None and (filter is None or not compile_filter(filter).ranks):
                raise VectorError("expected a vector, a text, or both, got neither")
        else:
            body["query_vector"] = as_query(vector, 0)
        return RemoteResults(self._post("search-with-scores", body, repeatable=True)["results"])

    def search_batch(
        self,
        vectors: npt.ArrayLike,
        k: int = 10,
        ef_search: int | None = None,
        filter: Filter | None = None,
        params: Mapping[str, Any] | None = None,
        include: Sequence[str] = ("metadata",),
        *,
        recall: float | None = None,
    ) -> list[RemoteResults]:
        """Find the nearest items of many queries at once; see `Index.search_batch`."""
        queries = as_rows(vectors, None, 0)
        if not len(queries):
            return []
        body = self._asked(k, ef_search, filter, params, include, recall) | {"n": len(queries), "matrix": queries}
        return [RemoteResults(found["results"]) for found in self._post("search-batch", body, repeatable=True)]

    def _asked(
        self, k: int, ef_search: int | None, filter: Any, params: Any, include: Sequence[str], recall: float | None
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"k": check_positive(k, "k"), "include": sorted(check_include(include))}
        if recall is not None:
            body["recall"] = check_recall(recall, ef_search)
        if ef_search is not None:
            body["ef_search"] = check_positive(ef_search, "ef_search")
        if filter is not None:
            body |= {"filter": _text(filter), "params": _plain(params)}
        return body

    def get(self, id: str) -> Item | None:
        """Return an item, or None when there is none of this id."""
        return self.get_many([id])[0]

    def get_many(self, ids: Sequence[str]) -> list[Item | None]:
        """Return the items of these ids in their order; None for each that is not there."""
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise IdError(f"expected a sequence of ids, got {type(ids).__name__} {ids!r:.80}")
        wanted = [check_id(id) for id in ids]
        found: dict[str, Item] = {}
        for start in range(0, len(wanted), IDS_AT_ONCE):
            part = self._post("get-vectors", {"ids": wanted[start : start + IDS_AT_ONCE]}, repeatable=True)
            found |= {item["id"]: item_of(item) for item in part}
        return [found.get(id) for id in wanted]

    def __getitem__(self, id: str) -> Item:
        item = self.get(id)
        if item is None:
            raise ItemNotFound(f"no item {id!r} in index {self._name!r}")
        return item

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self.get(id) is not None

    def __len__(self) -> int:
        return self.count()

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids())

    def ids(self, filter: Filter | None = None, params: Mapping[str, Any] | None = None) -> list[str]:
        """Return the ids of all items, or of those that match, in the order in which they came in."""
        return list(self._post("list-ids", _matching(filter, params), repeatable=True)["results"])

    def count(self, filter: Filter | None = None, params: Mapping[str, Any] | None = None) -> int:
        """Count all items, or those that match."""
        return int(self._post("count", _matching(filter, params), repeatable=True)["count"])

    def explain(self, filter: Filter, params: Mapping[str, Any] | None = None) -> str:
        """Return the plan of a filter as a text; see `Index.explain`."""
        return str(self._post("explain", _matching(filter, params), repeatable=True)["plan"])

    def fields(self) -> list[str]:
        """Return the names of the fields that are in the metadata of items; see `Index.fields`."""
        return list(self._transport.get(path_of("/vector/indexes", self._name) + "/fields")["fields"])

    def stats(self, *, graph: bool = False) -> dict[str, Any]:
        """Return items, tombstones, configuration, and bytes in memory by part; see `Index.stats`."""
        path = path_of("/vector/indexes", self._name) + "/stats"
        return Stats(self._transport.get(path + "?graph=true" if graph else path))

    def check_recall(
        self,
        n: int = 200,
        k: int = 10,
        ef_search: int | None = None,
        *,
        recall: float | None = None,
        seed: int = 0,
        queries: npt.ArrayLike | None = None,
    ) -> RecallCheck:
        """Estimate which share of the nearest items a search finds; see `Index.check_recall`.

        At most 10,000 queries.
        """
        n, seed = check_sample(n, seed)
        body = {"n": n, "seed": seed, **self._asked(k, ef_search, None, None, (), recall), **_outside(queries)}
        path = path_of("/vector/indexes", self._name) + "/recall"
        found = self._transport.post(path, body, repeatable=True, timeout=RECALL_S)
        return msgspec.convert(found, RecallCheck)

    # -------------------------------------------------------------------------------------------------------- texts

    def _described(self) -> tuple[IndexConfig, int | None]:
        stats = self.stats()
        known = {key: value for key, value in stats.items() if key in IndexConfig.__struct_fields__}
        known["maintenance"] = check_settings(known.get("maintenance", {}))
        return msgspec.convert(known, IndexConfig), stats["dim"] or None

    def _attached(self) -> Embedder | None:
        return self._database._embedders.get(self._name)

    def _attach(self, embedder: Embedder, rename: bool) -> None:
        # The server looks at the name again: another client may have been faster.
        path = path_of("/vector/indexes", self._name) + "/config"
        body = {"embedder": embedder.name, "rename_embedder": rename}
        if self.config.embedder != embedder.name:
            self._transport.post(path, body, repeatable=True)
        self._database._embedders[self._name] = embedder

    # ---------------------------------------------------------------------------------------------------------- care

    @property
    def maintenance(self) -> dict[str, Any]:
        """When it is vacuumed and refined by itself; see `configure`."""
        return dict(self._transport.get(path_of("/vector/indexes", self._name) + "/config"))

    def configure(self, maintenance: Mapping[str, Any] | None = None, /, **settings: Any) -> None:
        """Change when the index is vacuumed and refined by itself; see `Index.configure`."""
        given = {**({} if maintenance is None else maintenance), **settings}
        checked = check_settings(given)
        path = path_of("/vector/indexes", self._name) + "/config"
        self._transport.post(path, checked, repeatable=True)

    def vacuum(self) -> RemoteTask:
        """Free what deleted items left behind; see `Index.vacuum`."""
        return self._maintain("vacuum")

    def refine(self, ef_construction: int | None = None) -> RemoteTask:
        """Choose the links of all items anew, once; see `Index.refine`."""
        if ef_construction is None:
            return self._maintain("refine")
        return self._maintain("refine", ef_construction=check_ef_construction(ef_construction))

    def calibrate(self, queries: npt.ArrayLike | None = None) -> RemoteTask:
        """Measure how wide searches must be for a recall; see `Index.calibrate`. At most 10,000 queries."""
        return self._maintain("calibrate", **_outside(queries))

    def _maintain(self, kind: str, **more: Any) -> RemoteTask:
        path = path_of("/vector/indexes", self._name) + "/maintenance"
        return RemoteTask(self._transport, kind, self._transport.post(path, {"type": kind, **more}))

    def compress(self, precision: str) -> RemoteTask:
        """Store the vectors in another precision; see `Index.compress`. The present one lets the task fail."""
        body = {"precision": check_precision(precision, "")}
        return RemoteTask(self._transport, "compress", self._post("compress", body))

    def _post(self, action: str, body: dict[str, Any], repeatable: bool = False) -> Any:
        return self._transport.post(ACTIONS + action, {"index_name": self._name, **body}, repeatable=repeatable)

    def __repr__(self) -> str:
        return f"<RemoteIndex {self._name!r} of {self._database!r}>"

    def _repr_html_(self) -> str:
        return index_html(repr(self), self.stats)


def _matching(filter: Filter | None, params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if filter is None else {"filter": _text(filter), "params": _plain(params)}


def _text(filter: Filter) -> str:
    """Return a filter as the server takes it. An empty one would mean none there: it is refused as it is elsewhere."""
    if isinstance(filter, str):
        if not filter.strip():
            compile_filter(filter)
        return filter
    from kektordb.query.wording import text_of

    return text_of(filter)


def _plain(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return parameters without the types of NumPy."""
    checked = check_params(params)
    if checked is None:
        return None
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in checked.items()}


def _outside(queries: npt.ArrayLike | None) -> dict[str, Any]:
    """Return queries as they are sent; nothing for none."""
    if queries is None:
        return {}
    rows = as_rows(queries, None, 0)
    if not np.isfinite(rows).all():
        raise VectorError("expected finite numbers in queries, got NaN or Inf")
    return {"n_queries": len(rows), "matrix": rows}


def _encoded(metadata: Metadata, id: str) -> msgspec.Raw:
    return msgspec.Raw(encode_many([metadata], [id])[0] or b"\x80")
