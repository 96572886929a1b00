"""What does a filter cost, and what does it find? Against the exact answer among the rows that match.

Four shares of matching rows, and three relations between filter and query: the filter is random; it keeps what lies on
the query's side of a random direction ("near"); it keeps what lies on the other side ("far"), where a graph walk that
starts near the query finds nothing at first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
from datasets import Dataset
from measure import interleave, median, recall
from options import NO_AUTOSAVE, Options
from report import table
from rival import AVAILABLE, Rival

import kektordb

__all__ = ["run"]

SHARES = (0.5, 0.1, 0.01, 0.001)
RELATIONS = ("random", "near", "far")
N_QUERIES = 200
K = 10
EF = 100
BUILD_THREADS = 2

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Case:
    """One share and relation: each query's filter as text and as a mask over the rows."""

    share: float
    relation: str
    filters: list[str]
    masks: list[Mask]
    truth: npt.NDArray[np.int32]


def run(options: Options) -> dict[str, Any]:
    """Measure each data set; by default the one with the middle dimension."""
    chosen = options.datasets or [name for name in datasets.names() if "128" in name]
    return {name: measure_dataset(options.load(name), options) for name in chosen}


def measure_dataset(dataset: Dataset, options: Options) -> dict[str, Any]:
    """Build on both sides, with two ranks as metadata, and go through the cases."""
    dataset = dataset.head(len(dataset.train), N_QUERIES)
    rng = np.random.default_rng(7)
    shuffled = rng.permutation(len(dataset.train))
    direction = rng.standard_normal(dataset.dim).astype(np.float32)
    along = dataset.train @ direction
    ranked = np.argsort(np.argsort(along, kind="stable"), kind="stable")
    metadata = [{"shuffled": int(a), "ranked": int(b)} for a, b in zip(shuffled, ranked, strict=True)]
    rival = Rival(dataset, BUILD_THREADS) if AVAILABLE else None
    with tempfile.TemporaryDirectory() as folder, kektordb.open(folder, **NO_AUTOSAVE) as db:
        index = db.create_index("filtered", metric=dataset.metric, seed=100)
        index.add_batch(dataset.ids, dataset.train, metadata, n_threads=BUILD_THREADS)
        baseline = measure_unfiltered(dataset, index, rival, options.passes)
        rows = [baseline]
        for relation in RELATIONS:
            above = dataset.test @ direction > np.median(along)
            for share in SHARES:
                case = make_case(dataset, share, relation, shuffled, ranked, above)
                rows.append(measure_case(dataset, case, index, rival, options.passes))
    headers = list(rows[0])
    title = f"{dataset.name}: filtered search, k = {K}, ef = {EF}, {len(dataset.test)} queries"
    table(title, [header.replace("_", " ") for header in headers], [list(row.values()) for row in rows])
    return {"rows": len(dataset.train), "k": K, "ef": EF, "cases": rows}


def make_case(
    dataset: Dataset, share: float, relation: str, shuffled: npt.NDArray[Any], ranked: npt.NDArray[Any], above: Mask
) -> Case:
    """Write the filters of a case and find the exact answers."""
    n = len(dataset.train)
    limit = max(1, round(n * share))
    low = ("shuffled < $limit", shuffled < limit)
    bottom = (f"ranked < {limit}", ranked < limit)
    top = (f"ranked >= {n - limit}", ranked >= n - limit)
    chosen = []
    for query_is_above in above:
        if relation == "random":
            chosen.append((low[0].replace("$limit", str(limit)), low[1]))
        else:
            chosen.append(top if query_is_above == (relation == "near") else bottom)
    masks = [mask for _, mask in chosen]
    return Case(share, relation, [text for text, _ in chosen], masks, filtered_truth(dataset, masks))


def filtered_truth(dataset: Dataset, masks: list[Mask]) -> npt.NDArray[np.int32]:
    """Return each query's nearest rows among those of its mask, (q, K), filled up with -1."""
    truth = np.full((len(masks), K), -1, dtype=np.int32)
    for position, mask in enumerate(masks):
        rows = np.flatnonzero(mask)
        distances = datasets.distances_to_rows(
            dataset.train[rows], dataset.test[position : position + 1], dataset.metric
        )
        best = rows[np.argsort(distances[0], kind="stable")[:K]]
        truth[position, : len(best)] = best
    return truth


def measure_unfiltered(dataset: Dataset, index: kektordb.Index, rival: Rival | None, passes: int) -> dict[str, Any]:
    """Measure the same queries without a filter, to compare with."""
    searchers: dict[str, list[Callable[[Any], Any]]] = {
        "kektordb": [lambda vector: index.search(vector, K, EF)] * len(dataset.test)
    }
    if rival:
        searchers["hnswlib"] = [rival.searcher(EF, K)] * len(dataset.test)
    return measure_searchers(dataset, "none", 1.0, dataset.neighbors, K, searchers, passes)


def measure_case(
    dataset: Dataset, case: Case, index: kektordb.Index, rival: Rival | None, passes: int
) -> dict[str, Any]:
    """Measure one case on both sides; hnswlib calls back into Python for every row it looks at."""
    searchers: dict[str, list[Callable[[Any], Any]]] = {
        "kektordb": [lambda vector, text=text: index.search(vector, K, EF, text) for text in case.filters]
    }
    if rival:
        # A list answers a callback faster than an array; masks are shared between queries, and so are the lists.
        allowed = {id(mask): mask.tolist().__getitem__ for mask in case.masks}
        searchers["hnswlib"] = [rival.filtered_searcher(EF, allowed[id(mask)], K) for mask in case.masks]
    matches = min(int(mask.sum()) for mask in case.masks)
    return measure_searchers(dataset, case.relation, case.share, case.truth, min(K, matches), searchers, passes)


def measure_searchers(
    dataset: Dataset,
    relation: str,
    share: float,
    truth: npt.NDArray[np.int32],
    expected_rows: int,
    searchers: dict[str, list[Callable[[Any], Any]]],
    passes: int,
) -> dict[str, Any]:
    """Return one line of the table: recall, the fewest rows that a query returned, and queries per second."""
    queries = list(dataset.test)
    line: dict[str, Any] = {"filter": relation, "share": share, "rows_wanted": expected_rows}

    def loop(functions: list[Callable[[Any], Any]]) -> Callable[[], None]:
        def all_queries() -> None:
            for search, query in zip(functions, queries, strict=True):
                search(query)

        return all_queries

    for name, functions in searchers.items():
        answers = [search(query) for search, query in zip(functions, queries, strict=True)]
        found = [Rival.rows(answer) if name == "hnswlib" else list(map(int, answer.ids)) for answer in answers]
        line |= {f"{name}_recall": recall(dataset, found, truth, K), f"{name}_fewest_rows": min(map(len, found))}
    watches = interleave({name: loop(functions) for name, functions in searchers.items()}, passes)
    for name, measured in watches.items():
        line[f"{name}_qps"] = len(queries) / median([watch.wall for watch in measured])
        line[f"{name}_qps_cpu"] = len(queries) / median([watch.cpu for watch in measured])
    return line
