"""How do words, alone or together with a vector, rank the items of a collection? And why so?

A search by both takes candidates from each side, has the other side score those that only one of them found, so that
every candidate has both, and makes one score of the two (`fusion`).
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb._bitmap import Bitmap
from kektordb._candidates import merge
from kektordb._fused import first, minmax
from kektordb.errors import ConfigError, VectorError
from kektordb.fusion import fuse, sides
from kektordb.query import Filter, compile_filter
from kektordb.results import Details, HitExplanation, Ranked, TermScore
from kektordb.text.fields import TextFields, TextQuery
from kektordb.text.snippet import snippet

if TYPE_CHECKING:
    from kektordb.collection import Collection

__all__ = ["Request", "rank"]

# Candidates of each side: so many, or so many for each result.
LEAST_CANDIDATES: Final = 100
CANDIDATES_PER_RESULT: Final = 4

Slots = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float32]


class Request(msgspec.Struct, frozen=True):
    """What a search asks for; checked.

    Attributes
    ----------
    vector : float32 (dim,) or None
    text : str or None
        Words to look for in all fields. Those of ``CONTAINS`` in the filter come on top.
    k, ef : int
    filter : str, Expression or None
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

    vector: Floats | None
    text: str | None
    k: int
    ef: int
    filter: Filter | None
    params: dict[str, Any] | None
    wanted: Set[str]
    alpha: float
    fusion: str
    snippet: bool
    explain: bool


class _Found(msgspec.Struct):
    """The slots of a search, best first, and what is known of each.

    Attributes
    ----------
    slots : uint32 (n,)
    distances : float32 (n,)
        NaN without a vector.
    scores : float (n,) or None
        None: those of the distances.
    text_scores : float32 (n,) or None
    fusion : str
        As `HitExplanation` has it.
    parts : two float (n,), or None
        Normalised sides.
    n_candidates : int
    """

    slots: Slots
    distances: Floats
    scores: npt.NDArray[np.floating] | None = None
    text_scores: Floats | None = None
    fusion: str = "vector"
    parts: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
    n_candidates: int = 0


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
    plan = None if request.filter is None else compile_filter(request.filter)
    texts = collection.texts
    if texts is None and (request.text is not None or request.snippet):
        raise ConfigError(
            'expected an index that analyses texts, got one without: create it with text_language="english", or '
            '"simple" for no language'
        )
    with collection.lock.read:
        if collection.graph is None:
            return _results(collection, _nothing(), request)
        allowed, n_allowed = collection.allowed(plan, request.params)
        # A filter with CONTAINS has failed by now where there are no texts.
        ranking = [] if plan is None or texts is None else plan.ranking_words(request.params)
        query = None
        if texts is not None and (request.text is not None or ranking):
            query = [] if request.text is None else texts.query(request.text)
            for field, words in ranking:
                query += texts.query(words, field)
        if texts is None or query is None:
            found = _nearest(collection, request, allowed, n_allowed, request.k, request.ef)
        else:
            found = _search(collection, texts, query, request, allowed, n_allowed)
        results = _results(collection, found, request)
        terms: list[list[TermScore]] = []
        if texts is not None and (request.explain or request.snippet):
            terms = [_terms(texts, query or [], slot) for slot in found.slots.tolist()]
        raw = [collection.metadata.raw(slot) for slot in found.slots.tolist()] if request.snippet else []
    if request.explain:
        results.details.explanations = [_explain(results, found, request, i, terms) for i in range(len(results))]
    if request.snippet and texts is not None:
        texts_of = [texts.texts_of(collection.metadata.decode(one)) for one in raw]
        results.details.snippets = [_snippet(texts, *pair) for pair in zip(texts_of, terms, strict=True)]
    return results


def _results(collection: Collection, found: _Found, request: Request) -> Ranked:
    results = collection.gather(Ranked, found.slots, found.distances, request.wanted)
    results.details = Details(found.scores, found.text_scores)
    return results


# ---------------------------------------------------------------------------------------------------------- searching


def _nothing() -> _Found:
    return _Found(np.empty(0, np.uint32), np.empty(0, np.float32))


def _search(
    collection: Collection,
    texts: TextFields,
    query: TextQuery,
    request: Request,
    allowed: Bitmap | None,
    n_allowed: int,
) -> _Found:
    """Let the sides that count find what they find; the read lock is held, as in all that follows."""
    is_legacy = request.fusion == "legacy"
    if request.vector is None or (request.alpha == 0 and not is_legacy):
        slots, scores = texts.index.search(query, request.k, allowed, n_allowed)
        nowhere = np.full(len(slots), np.nan, np.float32)
        return _Found(slots, nowhere, scores, scores, "text", None, len(slots))
    if request.alpha == 1 and not is_legacy:
        return _nearest(collection, request, allowed, n_allowed, request.k, request.ef)
    if is_legacy:
        # As the original: no more of the nearest than are wanted, and all that match the words.
        n_near, n_texts = request.k, n_allowed
    else:
        n_near = n_texts = max(LEAST_CANDIDATES, CANDIDATES_PER_RESULT * request.k)
    near = _nearest(collection, request, allowed, n_allowed, n_near, max(request.ef, n_near))
    best = texts.index.search(query, n_texts, allowed, n_allowed)
    return _fuse(collection, texts, query, request, near, best)


def _nearest(
    collection: Collection, request: Request, allowed: Bitmap | None, n_allowed: int, k: int, ef: int
) -> _Found:
    graph = collection.graph
    assert graph is not None
    assert request.vector is not None
    if len(request.vector) != collection.dim:
        # Again, under the lock: the first item may have come in since the call began.
        raise VectorError(f"expected {collection.dim} dimensions, got {len(request.vector)}")
    slots, distances = graph.search(request.vector, k, ef, allowed, n_allowed)
    if slots is None or distances is None:
        raise VectorError(collection.refused("the query"))
    return _Found(slots, distances, n_candidates=len(slots))


def _fuse(
    collection: Collection,
    texts: TextFields,
    query: TextQuery,
    request: Request,
    near: _Found,
    best: tuple[Slots, Floats],
) -> _Found:
    """Make one ranking of the candidates of both sides; ties by slot."""
    slots, distances, scores, no_distance, no_score = merge(near.slots, near.distances, *best)
    if request.fusion != "legacy":
        distances[no_distance] = _distances(collection, request, slots[no_distance])
        scores[no_score] = texts.index.scores(query, slots[no_score])
    if request.fusion == "minmax":
        fused = minmax(distances, scores, request.alpha)
    else:
        fused = fuse(request.fusion, distances, scores, request.alpha)
    order = first(fused, slots, request.k)
    found = _Found(slots[order], distances[order], fused[order], scores[order], request.fusion, None, len(slots))
    if request.explain:
        vector_part, text_part = sides(request.fusion, distances, scores)
        found.parts = vector_part[order], text_part[order]
    if request.fusion == "legacy":
        # What a side did not find counts nothing, but it can be said.
        found.distances = _distances(collection, request, found.slots)
        found.text_scores = texts.index.scores(query, found.slots)
    return found


def _distances(collection: Collection, request: Request, slots: Slots) -> Floats:
    assert collection.graph is not None
    assert request.vector is not None
    distances = collection.graph.vectors.distances(request.vector, slots)
    assert distances is not None  # a query with NaN was refused
    return distances


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


def _explain(results: Ranked, found: _Found, request: Request, i: int, terms: list[list[TermScore]]) -> HitExplanation:
    has_text = found.text_scores is not None
    has_vector = found.fusion != "text"
    return HitExplanation(
        results[i].score,
        found.fusion,
        {"vector": 1.0, "text": 0.0}.get(found.fusion, request.alpha),
        float(found.distances[i]) if has_vector else None,
        None if found.text_scores is None else float(found.text_scores[i]),
        None if found.parts is None else float(found.parts[0][i]),
        None if found.parts is None else float(found.parts[1][i]),
        found.n_candidates,
        tuple(terms[i]) if has_text else (),
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
