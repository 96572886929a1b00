"""How do words, alone or together with a vector, rank the items of a collection? And why so?

A search by both takes candidates from each side, has the other side score those that only one of them found, so that
every candidate has both, and makes one score of the two (`fusion`).
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb._bitmap import Bitmap
from kektordb._candidates import Hits, by_both, by_vector, by_words
from kektordb._fusion import METHODS
from kektordb.errors import ConfigError, VectorError
from kektordb.query import Plan
from kektordb.results import Hit, HitExplanation, Ranked, TermScore
from kektordb.text.fields import TextFields, TextQuery
from kektordb.text.snippet import snippet

if TYPE_CHECKING:
    from kektordb.collection import Collection

__all__ = ["Request", "rank"]


class Request(msgspec.Struct, frozen=True):
    """What a search asks for; checked.

    Attributes
    ----------
    vector : float32 (dim,) or None
    text : str or None
        Words to look for in all fields. Those of ``CONTAINS`` in the filter come on top.
    k, ef : int
    plan : Plan or None
        Of the filter.
    params : dict or None
    wanted : set of str
        ``metadata``, ``vector``.
    alpha : float
        Weight of the vector, 0 to 1.
    fusion : str
        A name of `fusion.METHODS`.
    snippet, explain : bool
        What a hit shall have beside.
    """

    vector: npt.NDArray[np.float32] | None
    text: str | None
    k: int
    ef: int
    plan: Plan | None
    params: dict[str, Any] | None
    wanted: Set[str]
    alpha: float
    fusion: str
    snippet: bool
    explain: bool


def rank(collection: Collection, request: Request) -> Ranked:
    """Search by text, by vector and text, or by a vector with reasons.

    Parameters
    ----------
    collection : Collection
    request : Request

    Raises
    ------
    VectorError, FilterError
    ConfigError
        There is a text, and the collection has no analyzer.
    """
    texts = collection.texts
    if texts is None and (request.text is not None or request.snippet):
        raise ConfigError(
            'expected an index that analyses texts, got one without: create it with text_language="english", or '
            '"simple" for no language'
        )
    with collection.lock.read:
        # A vacuum may have put others in their places since.
        texts, metadata = collection.texts, collection.metadata
        if collection.graph is None:
            return collection.gather(Ranked, None, request.wanted)
        allowed, n_allowed = collection.allowed(request.plan, request.params)
        # A filter with CONTAINS has failed by now where there are no texts.
        query = None if texts is None else _words(texts, request)
        way = _way(request, query)
        hits = _search(collection, query, request, way, allowed, n_allowed)
        results = collection.gather(Ranked, hits, request.wanted)
        if not (request.explain or request.snippet):
            return results
        slots = [hits.slot(i) for i in range(len(hits))]
        terms = [[] if texts is None else _terms(texts, query or [], slot) for slot in slots]
        raw = [metadata.raw(slot) for slot in slots] if request.snippet else []
    if request.explain:
        results._explanations = [_explain(hit, hits, i, request, way, terms[i]) for i, hit in enumerate(results)]
    if request.snippet and texts is not None:
        texts_of = [texts.texts_of(metadata.decode(one)) for one in raw]
        results._snippets = [_snippet(texts, *pair) for pair in zip(texts_of, terms, strict=True)]
    return results


def _words(texts: TextFields, request: Request) -> TextQuery | None:
    """Return what to ask the texts for: the words of the request, and those of its filter; None for no words at all."""
    query = None if request.text is None else texts.query(request.text)
    if request.plan is not None and request.plan.ranks:
        query = list(query or [])
        for field, words in request.plan.ranking_words(request.params):
            query += texts.query(words, field)
    return query


def _search(
    collection: Collection,
    query: TextQuery | None,
    request: Request,
    way: str,
    allowed: Bitmap | None,
    n_allowed: int,
) -> Hits:
    """Let the sides that count find what they find; the read lock is held, as in all that follows."""
    graph, texts, vector, k = collection.graph, collection.texts, request.vector, request.k
    assert graph is not None
    if vector is not None and len(vector) != collection.dim:
        # Again, under the lock: the first item may have come in since the call began.
        raise VectorError(f"expected {collection.dim} dimensions, got {len(vector)}")
    if way == "text":
        assert texts is not None
        assert query is not None
        if vector is not None and not np.isfinite(vector).all():  # though it has no say
            raise VectorError(collection.refused("the query"))
        return by_words(texts.index, query, k, allowed, n_allowed)
    assert vector is not None
    if way == "vector":
        hits = by_vector(graph, vector, k, request.ef, allowed, n_allowed)
    else:
        assert texts is not None
        assert query is not None
        method = METHODS.index(way)
        hits = by_both(graph, vector, texts.index, query, k, request.ef, allowed, n_allowed, method, request.alpha)
    if hits is None:
        raise VectorError(collection.refused("the query"))
    return hits


def _way(request: Request, query: TextQuery | None) -> str:
    """Return ``vector`` or ``text`` when only one side counts, else how the two become one."""
    if query is None:
        return "vector"
    if request.vector is None:
        return "text"
    if request.fusion != "legacy" and request.alpha in (0, 1):
        return "vector" if request.alpha else "text"
    return request.fusion


# --------------------------------------------------------------------------------------------------------- explaining


def _terms(texts: TextFields, query: TextQuery, slot: int) -> list[TermScore]:
    """Return what the words of a query give one item, the best first."""
    found = [
        TermScore(
            texts.names[part["field"]],
            texts.term(part["term"]),
            part["weight"],
            part["tf"],
            part["df"],
            part["n_docs"],
            part["idf"],
            part["length"],
            part["average_length"],
            part["score"],
        )
        for part in texts.index.explain(query, slot)
        if part["tf"]
    ]
    return sorted(found, key=lambda term: -term.score)


def _explain(hit: Hit, hits: Hits, i: int, request: Request, way: str, terms: list[TermScore]) -> HitExplanation:
    vector_part, text_part = hits.parts(i)
    return HitExplanation(
        hit.score,
        way,
        {"vector": 1.0, "text": 0.0}.get(way, request.alpha),
        hit.distance,
        hit.text_score,
        vector_part,
        text_part,
        hits.n_candidates,
        () if hit.text_score is None else tuple(terms),
    )


def _snippet(texts: TextFields, fields: dict[str, str], terms: list[TermScore]) -> str | None:
    """Return the best passage of the field that scores best; the beginning of the longest text where none does."""
    by_field: dict[str, dict[str, float]] = {}
    for term in terms:
        by_field.setdefault(term.field, {})[term.term] = term.idf
    scores = {field: sum(term.score for term in terms if term.field == field) for field in by_field if field in fields}
    if scores:
        best = max(scores, key=lambda field: scores[field])
    elif fields:
        best = max(fields, key=lambda field: len(fields[field]))
    else:
        return None
    return snippet(fields[best], by_field.get(best, {}), texts.analyzer)
