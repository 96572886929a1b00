"""What can be asked of one index? Everything that changes nothing; each call checks its input and hands on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from kektordb.collection import Collection
from kektordb.embedding import IndexOfTexts
from kektordb.errors import IdError, ItemNotFound, VectorError
from kektordb.markup import Stats, index_html
from kektordb.operations import IndexConfig
from kektordb.query import Explanation, Filter, compile_filter
from kektordb.ranking import Request, rank
from kektordb.results import Item, Results
from kektordb.upkeep.quality import RecallCheck, estimate, finite_rows, survey, width
from kektordb.validation import (
    as_query,
    as_rows,
    check_fusion,
    check_id,
    check_include,
    check_params,
    check_positive,
    check_recall,
    check_sample,
    check_text,
    check_threads,
)

if TYPE_CHECKING:
    from kektordb.database import Database

__all__ = ["IndexReader", "n_cores"]

DEFAULT_EF_SEARCH = 100
_METADATA_ONLY = frozenset({"metadata"})


class IndexReader(IndexOfTexts):
    """The half of `Index` that changes nothing."""

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
            state = database._state  # once: a refresh may put another one in its place
            found = state.collections.get(state.numbers.get(self._name, 0))
        return database._live().collection(self._name) if found is None else found

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
    ) -> Results:
        """Find the nearest items, those that words fit best, or the best by both.

        Parameters
        ----------
        vector : array_like (dim,), optional
            Without it the search is by text alone.
        k : int
            Results wanted; fewer come back only when fewer items exist or match.
        ef_search : int, optional
            Candidates kept while the graph is walked: more find more and take longer. ``max(100, k)`` by default.
        filter : str or expression of `F`, optional
            Only items that match, see docs/filters.md. Few matches are compared one by one, which is exact. The words
            of a ``CONTAINS`` that all hits fulfil also rank them, like those of `text`.
        params : dict, optional
            Values for ``$name`` in the filter. They are never part of its text.
        include : sequence of str
            What a hit holds besides id, score and distance: ``"metadata"``, ``"vector"``.
        text : str, optional
            Words to look for in the texts of all fields, in an index with a `text_language`; see docs/text.md.
        query_text : str, optional
            Instead of both: embedded by the embedder that is attached, and looked for as `text`, too, in an index with
            a `text_language`.
        alpha : float
            Weight of the vector beside words: 1.0 is a search by the vector alone, 0.0 one by the words alone.
        fusion : str
            How two scores become one: ``minmax``, ``rrf``, ``dbsf``, or ``legacy``.
        snippet : bool
            Give each hit the best passage of its texts.
        explain : bool
            Give each hit the reasons for its score.
        recall : float, optional
            The share of the `k` nearest items to find, in the mean over many searches, instead of `ef_search`: how wide
            a search must be for it is measured on the index itself, see docs/recall.md. 1.0 compares every item.

        Returns
        -------
        Results
            The best first; equal ones in the order in which the items came in. Cosines are compared before ``1 -
            cosine`` is rounded, which may make two distances equal that are not. Empty for an empty index. By text
            alone only items in which a word occurs, so that there may be less than `k`.

        Raises
        ------
        VectorError, FilterError, ConfigError, EmbedderError
        """
        collection = self._collection()
        if query_text is not None:
            vector, text = self._question(query_text, vector, text)
        query = None if vector is None else as_query(vector, collection.dim)
        k = check_positive(k, "k")
        if recall is not None:
            ef = width(self._database, self._name, collection, check_recall(recall, ef_search), k)
        else:
            ef = DEFAULT_EF_SEARCH if ef_search is None else check_positive(ef_search, "ef_search")
            ef = ef if ef > k else k
        wanted = _METADATA_ONLY if include == ("metadata",) else check_include(include)
        bound = None if params is None else check_params(params)
        plan = None if filter is None else compile_filter(filter)
        ranks = plan is not None and plan.ranks
        if query is not None and text is None and not (ranks or snippet or explain):
            return collection.search(query, k, ef, plan, bound, wanted)
        if text is not None:
            text = check_text(text)
        elif query is None and not ranks:
            raise VectorError("expected a vector, a text, or both, got neither")
        alpha, fusion = check_fusion(alpha, fusion)
        began = perf_counter_ns()
        ranked = rank(
            collection, Request(query, text, k, ef, plan, bound, wanted, alpha, fusion, bool(snippet), bool(explain))
        )
        collection.searches.note(perf_counter_ns() - began)
        return ranked

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
        recall: float | None = None,
    ) -> list[Results]:
        """Find the nearest items of many queries at once, on several threads; see `search`. By vectors alone.

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
        if recall is not None:
            ef = width(self._database, self._name, collection, check_recall(recall, ef_search), k)
        else:
            ef = max(k, DEFAULT_EF_SEARCH if ef_search is None else check_positive(ef_search, "ef_search"))
        threads = n_cores() if n_threads is None else check_threads(n_threads)
        wanted = check_include(include)
        plan = None if filter is None else compile_filter(filter)
        return collection.search_batch(queries, k, ef, plan, check_params(params), wanted, threads)

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
        return isinstance(id, str) and self._collection().has(str.__str__(id))

    def __len__(self) -> int:
        return len(self._collection())

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids())

    def ids(self, filter: Filter | None = None, params: Mapping[str, Any] | None = None) -> list[str]:
        """Return the ids of all items, or of those that match, in the order in which they came in."""
        return self._collection().matching_ids(filter, check_params(params))

    def count(self, filter: Filter | None = None, params: Mapping[str, Any] | None = None) -> int:
        """Count all items, or those that match."""
        return self._collection().count(filter, check_params(params))

    def explain(self, filter: Filter, params: Mapping[str, Any] | None = None) -> Explanation:
        """Return the plan of a filter, in the order in which it runs, with estimated and true numbers of rows."""
        return self._collection().explain(filter, check_params(params))

    def fields(self) -> list[str]:
        """Return the names of the fields that are in the metadata of items, nested ones by dotted names, sorted.

        Those of deleted items stay until a vacuum.
        """
        return self._collection().fields()

    def stats(self, *, graph: bool = False) -> dict[str, Any]:
        """Return items, tombstones, configuration, and bytes in memory by part.

        With `graph` also what the graph looks like: ``levels`` (rows by their highest one), ``degrees`` (rows by links
        on the lowest level, with ``min``, ``mean`` and ``max``) and ``n_unreachable``, living rows to which no links
        lead from the entry point. That reads all links, which takes about 0.2 s for a million rows; searches go on.
        """
        collection = self._collection()
        return Stats(collection.stats() | ({"graph": survey(collection)} if graph else {}))

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
        """Estimate which share of the nearest items a search finds, by comparing some with every item.

        Parameters
        ----------
        n : int
            Rows of the index to take as queries. Each is searched for as if it were not in the index.
        k, ef_search, recall
            As in `search`.
        seed : int
            By which the rows are chosen.
        queries : array_like (n, dim), optional
            Queries from outside, which are better than rows, if they are those that will be asked.

        Returns
        -------
        RecallCheck
            ``recall`` and ``margin``, how far that may be from the truth, and ``ef_search``, 0 for "every item".

        Raises
        ------
        VectorError, ConfigError
        """
        collection = self._collection()
        k = check_positive(k, "k")
        n, seed = check_sample(n, seed)
        if recall is not None:
            ef = width(self._database, self._name, collection, check_recall(recall, ef_search), k)
        else:
            ef = max(k, DEFAULT_EF_SEARCH if ef_search is None else check_positive(ef_search, "ef_search"))
        outside = None if queries is None else finite_rows(queries, collection)
        return estimate(collection, n, k, ef, seed, outside)

    def __repr__(self) -> str:
        return f"<Index {self._name!r} of {self._database!r}>"

    def _repr_html_(self) -> str:
        return index_html(repr(self), self.stats)


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
