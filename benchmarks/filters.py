"""What does a filter cost, and what does it find? Against the exact answer among the rows that match.

Four shares of matching rows, and three relations between filter and query: the filter is random; it keeps what lies on
the query's side of a random direction ("near"); it keeps what lies on the other side ("far"), where a graph walk that
starts near the query finds nothing at first.

Each system is timed at the smallest ef with which it finds enough.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import datasets
from benchmarks.datasets import Dataset
from benchmarks.filling import fill_all
from benchmarks.measure import Asked, ask, interleave, recall
from benchmarks.options import USUAL_DIM, Options
from benchmarks.report import table
from benchmarks.systems.system import Range, Rows, Search, System
from benchmarks.truth import nearest

__all__ = ["run"]

SYSTEMS = (
    "kektordb",
    "kektordb-float32",
    "hnswlib",
    "faiss",
    "chromadb",
    "qdrant-edge",
    "lancedb",
    "sqlite-vec",
    "zvec",
)
SHARES = (0.5, 0.1, 0.01, 0.001)
RELATIONS = ("random", "near", "far")
N_QUERIES = 200
K = 10
EF = (20, 40, 60, 100, 200, 400)
ENOUGH = 0.95
FIELDS: dict[str, type] = {"shuffled": int, "ranked": int}


@dataclass(frozen=True, slots=True)
class Case:
    """One share and relation, with each query's filter; no filters: the same queries without."""

    share: float
    relation: str
    filters: list[Range]
    truth: npt.NDArray[np.int32]

    def searches(self, system: System, ef: int, n: int) -> Sequence[Search]:
        """Return the search of each of `n` queries; those with one and the same filter share it."""
        if not self.filters:
            return [system.searcher(ef, K)] * n
        made = {id(one): system.filtered_searcher(ef, one, K) for one in self.filters}
        return [made[id(one)] for one in self.filters]


def run(options: Options) -> dict[str, Any]:
    """Measure each data set; by default the one with the middle dimension."""
    return {one.name: measure_dataset(one, options) for one in options.load_all(datasets.names(USUAL_DIM))}


def measure_dataset(dataset: Dataset, options: Options) -> dict[str, Any]:
    """Fill all systems, with two ranks as metadata, and go through the cases."""
    dataset = dataset.head(len(dataset.train), N_QUERIES)
    rng = np.random.default_rng(7)
    shuffled = rng.permutation(len(dataset.train))
    along = dataset.train @ rng.standard_normal(dataset.dim).astype(np.float32)
    ranked = np.argsort(np.argsort(along, kind="stable"), kind="stable")
    cases = make_cases(dataset, shuffled, ranked)
    metadata = [{"shuffled": int(a), "ranked": int(b)} for a, b in zip(shuffled, ranked, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        rows = Rows(0, dataset.train, metadata)
        systems, _ = fill_all(options.choose(SYSTEMS), dataset, rows, FIELDS, Path(folder))
        lines = [line for case in cases for line in measure_case(dataset, case, systems, options.passes)]
        for system in systems.values():
            system.close()
    title = f"{dataset.name}: filtered search, k = {K}, {len(dataset.test)} queries, at the smallest ef with {ENOUGH}"
    table(title, [header.replace("_", " ") for header in lines[0]], [list(line.values()) for line in lines])
    return {"rows": len(dataset.train), "k": K, "enough": ENOUGH, "cases": lines}


def make_cases(dataset: Dataset, shuffled: npt.NDArray[Any], ranked: npt.NDArray[Any]) -> list[Case]:
    """Make the filters of every case and find the exact answers."""
    # A query's own place along the direction is that of its nearest row.
    n = len(dataset.train)
    is_above = ranked[dataset.neighbors[:, 0]] >= n // 2
    cases = [Case(1.0, "none", [], dataset.neighbors)]
    for relation in RELATIONS:
        for share in SHARES:
            limit = max(1, round(n * share))
            low = Range("shuffled", None, limit, shuffled < limit)
            bottom = Range("ranked", None, limit, ranked < limit)
            top = Range("ranked", n - limit, None, ranked >= n - limit)
            if relation == "random":
                filters = [low] * len(is_above)
            else:
                filters = [top if above == (relation == "near") else bottom for above in is_above]
            cases.append(Case(share, relation, filters, filtered_truth(dataset, filters)))
    return cases


def filtered_truth(dataset: Dataset, filters: list[Range]) -> npt.NDArray[np.int32]:
    """Return each query's nearest rows among those that match, (q, K), filled up with -1."""
    truth = np.full((len(filters), K), -1, dtype=np.int32)
    for one in {id(one): one for one in filters}.values():
        rows = np.flatnonzero(one.mask)
        asked = np.array([position for position, other in enumerate(filters) if other is one])
        found = nearest(dataset.train[rows], dataset.test[asked], dataset.metric, min(K, len(rows)))
        truth[asked, : found.shape[1]] = rows[found]
    return truth


def measure_case(dataset: Dataset, case: Case, systems: dict[str, System], passes: int) -> list[dict[str, Any]]:
    """Return one line for each system: ef, recall, the fewest rows that a query returned, queries per second."""
    lines: dict[str, dict[str, Any]] = {}
    asked: dict[str, Asked] = {}
    for name, system in systems.items():
        line, asked[name] = enough(dataset, case, system)
        lines[name] = {"filter": case.relation, "share": case.share, "system": name, **line}
    watches = interleave({name: one.loop for name, one in asked.items()}, passes)
    rates = {name: one.rates(watches[name]) for name, one in asked.items()}
    for name, line in lines.items():
        line["qps"], line["qps_cpu"] = rates[name]
        for place, header in enumerate(("x_hnswlib", "x_hnswlib_cpu")):
            line[header] = rates[name][place] / rates["hnswlib"][place] if "hnswlib" in rates else None
    return list(lines.values())


def enough(dataset: Dataset, case: Case, system: System) -> tuple[dict[str, Any], Asked]:
    """Find the smallest ef with which the system finds enough; the last one where none does."""
    for ef in EF:
        asked = ask(case.searches(system, ef, len(dataset.test)), list(dataset.test))
        found = [system.rows(answer) for answer in asked.answers]
        share = recall(dataset, found, case.truth, K)
        if share >= ENOUGH or system.is_exact:
            break
    return {
        "ef": None if system.is_exact else ef,
        "recall": share,
        "fewest_rows": min(map(len, found)),
        "queries": len(found),
    }, asked
