"""How is an index searched over HTTP, and which searches are short enough to run without a thread?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from kektordb.index import Index
from kektordb.query import compile_filter
from kektordb.results import Results
from kektordb.server.calls import Call, Route
from kektordb.server.encodings import exact_floats
from kektordb.server.errors import HttpError
from kektordb.server.options import Limits
from kektordb.server.replies import Counted, GraphNode, Hits, Ids, Plan, Scored
from kektordb.server.routes.items import as_matrix, check_ef, check_finite, data_of
from kektordb.server.structs import Count, Explain, Search, SearchBatch
from kektordb.validation import check_fusion, check_include, check_recall

__all__ = ["ROUTES", "node_of"]

DEFAULT_K = 10
DEFAULT_EF = 100
# What one candidate of a search costs: the way to it, and its comparisons by component. benchmarks/http.py --inline.
CANDIDATE_US = 0.5
COMPONENT_US = 0.003
# What a filter costs by row, and words.
FILTER_ROW_US = 0.01
TEXT_ROW_US = 0.05


def takes_long(call: Call) -> bool:
    """Tell whether a search should run in a thread: estimated, from the sizes alone."""
    body: Search = call.body
    if body.hydrate or body.include_relations or body.recall is not None:
        return True
    index = call.index(body.index_name)
    candidates = max(body.k or DEFAULT_K, body.ef_search or DEFAULT_EF)
    cost_us = candidates * (CANDIDATE_US + COMPONENT_US * (index.dim or 0))
    if body.filter:
        cost_us += FILTER_ROW_US * len(index)
    if body.query_text or (body.filter and index.config.text_language):
        cost_us += TEXT_ROW_US * len(index)
    return cost_us > call.service.limits.inline_us


def search(call: Call) -> Ids | Relating:
    """Return the ids of the nearest items, the best first; whole items when they are asked for."""
    body: Search = call.body
    index = call.index(body.index_name)
    k = _check_k(body.k, call.service.limits)
    if body.graph_filter:
        raise HttpError(501, "graph_filter is not served here")
    if k == 0:
        _check_rest(body)
        return Ids([])
    if not (body.include_relations or body.hydrate):
        found = _find(index, body, k, ())
        return Ids(found if isinstance(found, list) else found.ids)
    return _relate(call, index, _find(index, body, k, ("metadata", "vector")))


def search_with_scores(call: Call) -> Hits:
    """Return ids with scores; with ``include`` also distances and what it names: ``metadata``, ``vector``."""
    body: Search = call.body
    index = call.index(body.index_name)
    k = _check_k(body.k, call.service.limits)
    include = tuple(body.include or ())
    if k == 0:
        _check_rest(body)
        return Hits([])
    found = _find(index, body, k, include)
    if isinstance(found, list):
        items = [item for item in index.get_many(found) if item is not None]
        return Hits(
            [
                Scored(
                    item.id,
                    1.0,
                    metadata=item.metadata if "metadata" in include else UNSET,
                    vector=item.vector if "vector" in include else UNSET,
                )
                for item in items
            ]
        )
    return Hits(_scored(found, None if body.include is None else frozenset(include), bool(body.snippet)))


def search_batch(call: Call) -> list[Hits]:
    """Return the hits of many queries."""
    body: SearchBatch = call.body
    limits = call.service.limits
    index = call.service.index(body.index_name)
    k = _check_k(body.k, limits)
    if not 0 <= body.n <= limits.max_batch or body.matrix is None:
        raise HttpError(400, f"expected n from 0 to {limits.max_batch}, and a matrix", "ConfigError")
    include, ef = tuple(body.include or ()), check_ef(body.ef_search)
    check_include(include)
    if body.recall is not None:
        check_recall(body.recall, ef)
    queries = as_matrix(body.matrix, body.n)
    if k == 0 or body.n == 0:
        check_finite(queries)
        return [Hits([]) for _ in range(body.n)]
    if body.n * k > limits.max_batch * DEFAULT_K:
        raise HttpError(400, f"expected at most {limits.max_batch * DEFAULT_K} results in all", "ConfigError")
    results = index.search_batch(queries, k, ef, body.filter or None, body.params, include, recall=body.recall)
    shown = None if body.include is None else frozenset(include)
    return [Hits(_scored(found, shown, False)) for found in results]


def count(call: Call) -> Counted:
    """Count the items that match a filter."""
    body: Count = call.body
    return Counted(call.service.index(body.index_name).count(body.filter or None, body.params))


def list_ids(call: Call) -> Ids:
    """List the ids of the items that match a filter, in the order in which they came in."""
    body: Count = call.body
    return Ids(call.service.index(body.index_name).ids(body.filter or None, body.params))


def explain(call: Call) -> Plan:
    """Say how a filter runs."""
    body: Explain = call.body
    if not body.filter:
        raise HttpError(400, "expected a filter", "ConfigError")
    return Plan(str(call.service.index(body.index_name).explain(body.filter, body.params)))


def _check_k(k: int | None, limits: Limits) -> int:
    if k is None:
        return DEFAULT_K
    if not 0 <= k <= limits.max_k:
        raise HttpError(400, f"expected k from 0 to {limits.max_k}, got {k}", "ConfigError")
    return k


def _check_rest(body: Search) -> None:
    """Check what a search for nothing does not come to."""
    check_ef(body.ef_search)
    if body.recall is not None:
        check_recall(body.recall, body.ef_search or None)
    check_include(body.include or ())
    check_finite(body.query_vector)
    if body.alpha is not None or body.fusion:
        check_fusion(0.5 if body.alpha is None else body.alpha, body.fusion or "minmax")


def _find(index: Index, body: Search, k: int, include: Sequence[str]) -> Results | list[str]:
    """Return results; mere ids when a filter alone decides."""
    ef, recall = check_ef(body.ef_search), body.recall
    alpha, fusion = 0.5 if body.alpha is None else body.alpha, body.fusion or "minmax"
    if body.alpha is not None or body.fusion:
        check_fusion(alpha, fusion)
    vector, text, filter = body.query_vector, body.query_text, body.filter or None
    if vector is not None and not len(vector):
        vector = None
    if not body.as_given:
        # Zeros are no direction: clients of the original send them for "no vector", and "" for no text.
        text = text or None
        if vector is not None and vector[0] == 0 and not vector.any():
            vector = None
    if vector is not None and text is None and not (body.snippet or body.explain):
        return index.search(vector, k, ef, filter, body.params, include, alpha=alpha, fusion=fusion, recall=recall)
    if vector is None and text is None:
        if filter is None:
            raise HttpError(400, "expected a query_vector, a query_text, or a filter", "VectorError")
        if not compile_filter(filter).ranks:
            return index.ids(filter, body.params)[:k]
    return index.search(
        vector,
        k,
        ef,
        filter,
        body.params,
        include,
        text=text,
        alpha=alpha,
        fusion=fusion,
        snippet=bool(body.snippet),
        explain=bool(body.explain),
        recall=recall,
    )


def _scored(found: Results, include: frozenset[str] | None, with_snippet: bool) -> list[Scored]:
    """Return hits; without `include` with ids and scores alone."""
    scores = exact_floats(found.scores)
    if include is None:
        return [Scored(id, score) for id, score in zip(found.ids, scores, strict=True)]
    distances = [None if math.isnan(distance) else distance for distance in exact_floats(found.distances)]
    hits = []
    for hit, score, distance in zip(found, scores, distances, strict=True):
        one = Scored(hit.id, score, distance)
        if "metadata" in include:
            one.metadata = hit.metadata or {}
        if "vector" in include and hit.vector is not None:
            one.vector = np.asarray(hit.vector)
        if hit.text_score is not None:
            one.text_score = float(hit.text_score)
        if with_snippet:
            one.snippet = hit.snippet
        if hit.explanation is not None:
            one.explanation = hit.explanation
        hits.append(one)
    return hits


# ----------------------------------------------------------------------------------------- items with what they link to


class Related(msgspec.Struct):
    """A hit as all versions of the original's client read it."""

    id: str
    score: float
    node: GraphNode
    relations: dict[str, list[str]] | msgspec.UnsetType = UNSET
    hydrated_relations: dict[str, list[Any]] | msgspec.UnsetType = UNSET


class Relating(msgspec.Struct):
    """Hits with items."""

    results: list[Related]


def node_of(index: Index, id: str) -> GraphNode:
    """Return a node; it need not be an item."""
    item = index.get(id)
    return GraphNode(id) if item is None else GraphNode(id, item.vector, item.metadata)


def _relate(call: Call, index: Index, found: Results | list[str]) -> Relating:
    body: Search = call.body
    wanted, edges = body.include_relations or [], call.service.edges
    if isinstance(found, list):
        scored = [(id, 1.0) for id in found]
    else:
        scored = list(zip(found.ids, exact_floats(found.scores), strict=True))
    related = []
    for id, score in scored:
        node = node_of(index, id)
        hit = Related(id, score, node)
        if wanted:
            outgoing = edges.outgoing(body.index_name, id)
            hit.relations = {relation: outgoing[relation] for relation in wanted if relation in outgoing}
            node.connections = {
                relation: [node_of(index, target) for target in targets] for relation, targets in hit.relations.items()
            }
            if body.hydrate_relations:
                hit.hydrated_relations = {
                    relation: [data_of(item) for item in index.get_many(targets) if item is not None]
                    for relation, targets in hit.relations.items()
                }
        related.append(hit)
    return Relating(related)


ROUTES = (
    Route(
        "POST",
        "/vector/actions/search",
        search,
        takes=Search,
        gives=(Ids, Relating),
        threaded=takes_long,
        aliases=["/vector/search"],
    ),
    Route(
        "POST", "/vector/actions/search-with-scores", search_with_scores, takes=Search, gives=Hits, threaded=takes_long
    ),
    Route("POST", "/vector/actions/search-batch", search_batch, takes=SearchBatch, gives=list[Hits], threaded=True),
    Route("POST", "/vector/actions/count", count, takes=Count, gives=Counted, threaded=True),
    Route("POST", "/vector/actions/list-ids", list_ids, takes=Count, gives=Ids, threaded=True),
    Route("POST", "/vector/actions/explain", explain, takes=Explain, gives=Plan, threaded=True),
)
