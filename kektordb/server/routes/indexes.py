"""How are indexes made, looked at, changed and dropped over HTTP?"""

from __future__ import annotations

import logging
from typing import Any

from kektordb import errors
from kektordb.index import Index
from kektordb.server.calls import Call, Reply, Route
from kektordb.server.errors import HttpError
from kektordb.server.options import Limits
from kektordb.server.replies import Fields, IndexInfo, Status, TaskInfo
from kektordb.server.routes.items import as_matrix, check_ef, check_finite
from kektordb.server.structs import CheckRecall, Compress, CreateIndex, StartMaintenance
from kektordb.settings import MaintenanceConfig
from kektordb.text import languages
from kektordb.upkeep.quality import RecallCheck
from kektordb.validation import check_ef_construction, check_embedder_name

__all__ = ["ROUTES"]

_log = logging.getLogger("kektordb.server")

# The words of `create_index` that are handed on as they come.
OPTIONS = ("dim", "seed", "traversal", "text_fields", "stop_words", "k1", "b", "field_weights")


def _info(index: Index) -> IndexInfo:
    config = index.config
    return IndexInfo(
        index.name, config.metric, config.precision, config.m, config.ef_construction, len(index), config.text_language
    )


def list_indexes(call: Call) -> list[IndexInfo]:
    """List all indexes by name."""
    found = []
    for name in call.service.database:
        try:
            found.append(_info(call.service.database.index(name)))
        except errors.IndexNotFound:
            continue  # dropped just now
    return found


def get_index(call: Call) -> IndexInfo:
    """Return one index."""
    return _info(call.service.index(call.args[0]))


def create_index(call: Call) -> Status:
    """Create an index; the metric is euclidean unless another one is named."""
    body: CreateIndex = call.body
    if not body.index_name:
        raise HttpError(400, "index_name required", "ConfigError")
    options: dict[str, Any] = {name: getattr(body, name) for name in OPTIONS if getattr(body, name) is not None}
    if body.dim is not None and body.dim > call.service.limits.max_dim:
        raise HttpError(400, f"expected dim to be at most {call.service.limits.max_dim}", "ConfigError")
    language = body.text_language or ""
    if language and language not in languages():
        _log.warning("an index was created with an unknown text_language: its texts are not searched")
        language = ""
    embedder = "" if body.embedder is None else body.embedder
    if embedder:
        check_embedder_name(embedder)
    try:
        index = call.service.database.create_index(
            body.index_name,
            metric=body.metric or "euclidean",
            precision=body.precision or "float32",
            m=body.m if body.m is not None and body.m > 0 else 16,
            ef_construction=body.ef_construction
            if body.ef_construction is not None and body.ef_construction > 0
            else 200,
            text_language=language,
            maintenance=None if body.maintenance is None else _settings(body.maintenance),
            **options,
        )
    except errors.IndexExists:
        raise HttpError(409, f"index '{body.index_name}' already exists", "IndexExists") from None
    if embedder:
        index._name_embedder(embedder)
    return Status(message="Index created")


def drop_index(call: Call) -> Reply:
    """Drop an index with its items and links."""
    name = call.args[0]
    call.service.index(name)
    call.service.database.drop_index(name)
    return Reply(204)


def configure(call: Call) -> Status:
    """Change when an index is vacuumed and refined by itself, or name its embedder; what is not named stays."""
    index = call.service.index(call.args[0])
    settings, embedder = _settings(call.body), call.body.get("embedder")
    if embedder is not None:
        # A name and no more: the server makes no embedder of what a client sends.
        index._name_embedder(check_embedder_name(embedder), call.body.get("rename_embedder") is True)
    index.configure(settings)
    return Status(message="Configuration updated")


def get_config(call: Call) -> dict[str, Any]:
    """Return when an index is vacuumed and refined by itself."""
    return call.service.index(call.args[0]).maintenance


def get_stats(call: Call) -> dict[str, Any]:
    """Return counts, options and memory of an index; with ``graph=true`` also what its graph looks like."""
    graph = call.query("graph", "false")
    if graph not in ("true", "false"):
        raise HttpError(400, "expected graph to be true or false", "ConfigError")
    return call.service.index(call.args[0]).stats(graph=graph == "true")


def get_fields(call: Call) -> Fields:
    """Return the names of the fields that are in the metadata of items."""
    return Fields(call.service.index(call.args[0]).fields())


def maintain(call: Call) -> Reply:
    """Vacuum, refine or calibrate an index."""
    body: StartMaintenance = call.body
    if body.type not in ("vacuum", "refine", "calibrate"):
        raise HttpError(400, "invalid maintenance type", "ConfigError")
    queries = _queries(body, call.service.limits)
    ef = None if body.ef_construction is None else check_ef_construction(body.ef_construction)
    index = call.service.index(call.args[0])
    if body.type == "vacuum":
        task = index.vacuum()
    elif body.type == "refine":
        task = index.refine(ef)
    else:
        task = index.calibrate(queries)
    return Reply(202, call.service.jobs.follow(task))


def check_recall(call: Call) -> RecallCheck:
    """Estimate which share of the nearest items a search finds."""
    body: CheckRecall = call.body
    index, limits = call.service.index(call.args[0]), call.service.limits
    sample, k = 200 if body.n is None else body.n, 10 if body.k is None else body.k
    if not 1 <= sample <= limits.max_k or not 1 <= k <= limits.max_k:
        raise HttpError(400, f"expected n and k from 1 to {limits.max_k}", "ConfigError")
    return index.check_recall(
        sample, k, check_ef(body.ef_search), recall=body.recall, seed=body.seed or 0, queries=_queries(body, limits)
    )


def _queries(body: StartMaintenance | CheckRecall, limits: Limits) -> Any:
    if not 0 <= body.n_queries <= limits.max_k or (body.matrix is not None and body.n_queries == 0):
        raise HttpError(400, f"expected n_queries from 1 to {limits.max_k} beside a matrix", "ConfigError")
    if body.matrix is None:
        return None
    check_finite(body.matrix)
    return as_matrix(body.matrix, body.n_queries)


def compress(call: Call) -> Reply:
    """Bring the vectors of an index to another precision; what is wrong with it shows in the task."""
    jobs, body = call.service.jobs, call.body
    try:
        task = call.service.index(body.index_name).compress(body.precision)
    except errors.ConfigError as error:
        return Reply(202, jobs.failed(error))
    return Reply(202, jobs.follow(task))


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of settings; clients of later versions send more."""
    return {
        key: value for key, value in given.items() if key in MaintenanceConfig.__struct_fields__ and value is not None
    }


_CREATED: dict[str, Any] = {"takes": CreateIndex, "gives": Status, "writes": True}

ROUTES = (
    Route("GET", "/vector/indexes", list_indexes, gives=list[IndexInfo]),
    Route("POST", "/vector/indexes", create_index, **_CREATED),
    Route("POST", "/vector/actions/create", create_index, **_CREATED, aliases=["/vector/create"]),
    Route(
        "POST",
        "/vector/actions/compress",
        compress,
        takes=Compress,
        gives=TaskInfo,
        status=202,
        writes=True,
        aliases=["/vector/compress"],
    ),
    Route("POST", "/vector/indexes/{name}/config", configure, takes=dict[str, Any], gives=Status, writes=True),
    Route("GET", "/vector/indexes/{name}/config", get_config, gives=dict[str, Any]),
    Route("GET", "/vector/indexes/{name}/stats", get_stats, gives=dict[str, Any], threaded=True),
    Route("GET", "/vector/indexes/{name}/fields", get_fields, gives=Fields),
    Route(
        "POST",
        "/vector/indexes/{name}/maintenance",
        maintain,
        takes=StartMaintenance,
        gives=TaskInfo,
        status=202,
        writes=True,
    ),
    Route("POST", "/vector/indexes/{name}/recall", check_recall, takes=CheckRecall, gives=RecallCheck, threaded=True),
    Route("GET", "/vector/indexes/{name}", get_index, gives=IndexInfo),
    Route("DELETE", "/vector/indexes/{name}", drop_index, status=204, writes=True),
)
