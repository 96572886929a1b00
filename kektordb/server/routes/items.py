"""How do items come in, go, and come back over HTTP?"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from kektordb import errors
from kektordb.index import Index
from kektordb.results import Item
from kektordb.server import structs
from kektordb.server.calls import Call, Reply, Route
from kektordb.server.errors import HttpError
from kektordb.server.options import Limits
from kektordb.server.replies import Added, Exported, Place, Removed, Status, TaskInfo, VectorData
from kektordb.server.structs import AddBatch, AddItem, DeleteItems, GetItems, IndexName, UpdateMetadata
from kektordb.validation import check_name

__all__ = ["ROUTES", "as_matrix", "check_ef", "check_finite", "check_keys", "data_of"]

DEFAULT_PAGE = 1000
MAX_EF = 65_536


def add(call: Call) -> Status:
    """Add an item, or with `replace` take the place of the one with its id."""
    body: AddItem = call.body
    vector = body.vector
    if not body.index_name or not body.id or vector is None or not len(vector):
        raise HttpError(400, "missing fields: index_name, id, or vector", "ConfigError")
    try:
        index = call.service.database.index(body.index_name)
    except errors.IndexNotFound:
        raise HttpError(404, "index not found", "IndexNotFound") from None
    _check_dim(index, len(vector), call.service.limits)
    check_keys([body.metadata], call.service.limits)
    if body.replace:
        index.upsert(body.id, vector, body.metadata)
        return Status()
    try:
        index.add(body.id, vector, body.metadata)
    except errors.ItemExists:
        raise HttpError(409, f"ID '{body.id}' already exists", "ItemExists") from None
    return Status()


def add_batch(call: Call) -> Added:
    """Add many items, all or none."""
    return Added(_put_all(call, call.service.index(call.body.index_name)))


def import_items(call: Call) -> Reply:
    """Add many items, all or none; they are durable when the answer comes."""
    body: AddBatch = call.body
    if not body.index_name or not (body.vectors or body.ids):
        raise HttpError(400, "Missing index_name or vectors", "ConfigError")
    check_name(body.index_name)
    jobs = call.service.jobs
    try:
        n = _put_all(call, call.service.index(body.index_name))
        call.service.database.sync()
    except HttpError as error:
        if error.status != 404:
            raise
        return Reply(202, jobs.failed(error))
    return Reply(202, jobs.imported(n))


def commit_import(call: Call) -> Status:
    """Make everything durable that was imported."""
    call.service.database.sync()
    return Status(message="Import committed")


def _put_all(call: Call, index: Index) -> int:
    body: AddBatch = call.body
    ids, vectors, metadata = _columns(body, call.service.limits)
    if not ids:
        return 0
    _check_dim(index, vectors.shape[1], call.service.limits)
    if metadata is not None:
        check_keys(metadata, call.service.limits)
    put = index.upsert_batch if body.replace else index.add_batch
    put(ids, vectors, metadata)
    return len(ids)


def _columns(body: AddBatch, limits: Limits) -> tuple[list[str], Any, list[Any] | None]:
    """Return ids, vectors (n, dim) and metadata of either form."""
    if body.vectors is None:
        if body.ids is None or body.matrix is None:
            raise HttpError(400, "expected vectors, or ids and matrix", "ConfigError")
        _check_batch(len(body.ids), limits)
        return body.ids, as_matrix(body.matrix, len(body.ids)), body.metadata
    items = body.vectors
    _check_batch(len(items), limits)
    for item in items:
        if not item.id or item.vector is None or not len(item.vector):
            raise HttpError(400, "missing fields: id or vector", "ConfigError")
    sizes = {len(item.vector) for item in items if item.vector is not None}
    if len(sizes) > 1:
        low, high = min(sizes), max(sizes)
        raise HttpError(400, f"vector dimension mismatch: expected {low}, got {high}", "VectorError")
    vectors: list[Any] = [item.vector for item in items]
    return [item.id for item in items], np.array(vectors, np.float32), [item.metadata for item in items]


def as_matrix(flat: Any, n: int) -> Any:
    """Return rows that stand one after the other as an array (n, dim)."""
    if n == 0 and not len(flat):
        return np.empty((0, 1), np.float32)
    if n == 0 or not len(flat) or len(flat) % n:
        raise HttpError(400, f"expected a matrix of {n} rows, got {len(flat)} numbers", "VectorError")
    return flat.reshape(n, -1)


def check_ef(ef: int | None) -> int | None:
    """Return how wide to search; None, or 0, for the default."""
    if ef is None or ef == 0:
        return None
    if not 0 < ef <= MAX_EF:
        raise HttpError(400, f"expected ef_search from 0 to {MAX_EF}, got {ef}", "ConfigError")
    return ef


def check_finite(values: Any) -> None:
    """Refuse NaN and Inf where no index will."""
    if values is not None and not np.isfinite(values).all():
        raise HttpError(400, "expected finite numbers, got NaN or Inf", "VectorError")


def _check_batch(n: int, limits: Limits) -> None:
    if n > limits.max_batch:
        raise HttpError(400, f"expected at most {limits.max_batch} items, got {n}", "ConfigError")


def _check_dim(index: Index, dim: int, limits: Limits) -> None:
    if dim > limits.max_dim:
        raise HttpError(400, f"expected at most {limits.max_dim} dimensions, got {dim}", "VectorError")
    if index.dim is not None and dim != index.dim:
        raise HttpError(400, f"vector dimension mismatch: expected {index.dim}, got {dim}", "VectorError")


def check_keys(metadata: list[dict[str, Any] | None], limits: Limits) -> None:
    """Refuse metadata of too many keys: each becomes a column of the index."""
    for of_item in metadata:
        if of_item and _n_keys(of_item, limits.max_depth) > limits.max_keys:
            raise HttpError(400, f"expected metadata of at most {limits.max_keys} keys", "MetadataError")


def _n_keys(value: Any, depth: int) -> int:
    if depth == 0:
        raise HttpError(400, "expected metadata that is nested less deep", "MetadataError")
    if isinstance(value, dict):
        n = len(value)
        for inner in value.values():
            if isinstance(inner, dict | list):
                n += _n_keys(inner, depth - 1)
        return n
    return sum(_n_keys(inner, depth - 1) for inner in value if isinstance(inner, dict | list))


def delete(call: Call) -> Status | Removed:
    """Delete an item, if it is there; or several, all of which are there; or all that match a filter."""
    body: DeleteItems = call.body
    index = call.service.index(body.index_name)
    if body.ids is not None:
        _check_batch(len(body.ids), call.service.limits)
        return Removed(index.delete(body.ids))
    if body.filter:
        return Removed(index.delete(filter=body.filter, params=body.params))
    if not body.id:
        raise HttpError(400, "missing fields: index_name or id", "ConfigError")
    with contextlib.suppress(errors.ItemNotFound):
        index.delete(body.id)
    return Status()


def update_metadata(call: Call) -> Status:
    """Change the metadata of an item; its vector stays."""
    body: UpdateMetadata = call.body
    index = call.service.index(body.index_name)
    if not body.id or body.metadata is None:
        raise HttpError(400, "missing fields: index_name, id, or metadata", "ConfigError")
    check_keys([body.metadata], call.service.limits)
    index.update_metadata(body.id, body.metadata, replace=bool(body.replace))
    return Status()


def data_of(item: Item) -> VectorData:
    """Return an item as it is answered."""
    return VectorData(item.id, item.vector, item.metadata)


def get(call: Call) -> VectorData:
    """Return an item."""
    name, id = call.args
    item = call.service.index(name).get(id)
    if item is None:
        raise HttpError(404, f"vector with ID '{id}' not found in index '{name}'", "ItemNotFound")
    return data_of(item)


def get_many(call: Call) -> list[VectorData]:
    """Return items in the order of their ids; unknown ids are left out."""
    body: GetItems = call.body
    index = call.service.index(body.index_name)
    ids = body.ids or []
    _check_batch(len(ids), call.service.limits)
    return [data_of(item) for item in index.get_many(ids) if item is not None]


def export(call: Call) -> Exported:
    """Return ids and metadata of `limit` items from the `offset` on, in the order in which they came in."""
    index = call.service.index(call.args[0])
    limit = call.query_int("limit", DEFAULT_PAGE, 1, call.service.limits.max_batch)
    offset = call.query_int("offset", 0, 0, 2**31 - 1)
    ids = index.ids()
    page = ids[offset : offset + limit]
    data = [Place(item.id, item.metadata) for item in index.get_many(page) if item is not None]
    return Exported(data, offset + len(page) < len(ids), offset + len(page), len(ids))


ROUTES = (
    Route("POST", "/vector/actions/add", add, takes=AddItem, gives=Status, writes=True, aliases=["/vector/add"]),
    Route("POST", "/vector/actions/add-batch", add_batch, takes=AddBatch, gives=Added, writes=True),
    Route(
        "POST", "/vector/actions/import", import_items, takes=structs.Import, gives=TaskInfo, status=202, writes=True
    ),
    Route("POST", "/vector/actions/import/commit", commit_import, takes=IndexName, gives=Status, writes=True),
    Route(
        "POST",
        "/vector/actions/delete_vector",
        delete,
        takes=DeleteItems,
        gives=Status,
        writes=True,
        aliases=["/vector/delete"],
    ),
    Route("POST", "/vector/actions/update-metadata", update_metadata, takes=UpdateMetadata, gives=Status, writes=True),
    Route("POST", "/vector/actions/get-vectors", get_many, takes=GetItems, gives=list[VectorData], threaded=True),
    Route("GET", "/vector/indexes/{name}/vectors/{id}", get, gives=VectorData),
    Route("GET", "/vector/indexes/{name}/export", export, gives=Exported, threaded=True),
)
