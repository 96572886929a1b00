"""What does a hybrid search cost beside the vector search and the text search that it is made of?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import kektordb
from benchmarks import synthetic
from benchmarks.corpus import documents, queries
from benchmarks.measure import interleave, median
from benchmarks.options import Options
from benchmarks.report import table
from benchmarks.systems.system import BUILD_THREADS, EF_CONSTRUCTION, M
from benchmarks.text_systems import FIELD, LANGUAGE
from kektordb.fusion import METHODS
from kektordb.text import Analyzer

__all__ = ["run"]

N_ROWS = 100_000
N_TEXTS = 42_000
DIM = 384
N_QUERIES = 200
K = 10
# Half of the rows pass.
FILTER = "half = true"


def run(options: Options) -> dict[str, Any]:
    """Measure one index whose rows have a vector and a text; texts come again when there are fewer than rows."""
    n, n_queries = options.size(N_ROWS), options.size(N_QUERIES)
    texts = documents(options.size(N_TEXTS))
    asked = queries(texts, n_queries, Analyzer(LANGUAGE).stop_words)
    rows, points = synthetic.make(n, n_queries, DIM, "cosine")
    index = kektordb.open(":memory:").create_index(
        "hybrid", dim=DIM, m=M, ef_construction=EF_CONSTRUCTION, text_language=LANGUAGE
    )
    start = time.perf_counter()
    metadata = [{FIELD: texts[i % len(texts)], "half": i % 2 == 0} for i in range(n)]
    index.add_batch(list(map(str, range(n))), rows, metadata, n_threads=BUILD_THREADS)
    seconds = time.perf_counter() - start
    pairs = list(zip(np.ascontiguousarray(points), asked, strict=False))
    loops = {name: loop_over(search, pairs) for name, search in searches(index).items()}
    for loop in loops.values():
        loop()
    watches = interleave(loops, options.passes)
    found = {name: median([watch.all_cpu for watch in watches[name]]) / len(pairs) * 1e6 for name in loops}
    wall = {name: median([watch.wall for watch in watches[name]]) / len(pairs) * 1e6 for name in loops}
    lines = []
    for name in loops:
        parts = [f"{side}, filter" if name.endswith("filter") else side for side in ("vector", "text")]
        ratio = found[name] / sum(found[part] for part in parts) if name.startswith("hybrid") else None
        lines.append({"search": name, "µs": wall[name], "µs (CPU)": found[name], "by the sum of both (CPU)": ratio})
    title = f"hybrid search over {n:,} x {DIM}, k = {K}, built in {seconds:.0f} s"
    table(title, list(lines[0]), [list(line.values()) for line in lines])
    return {"rows": n, "dim": DIM, "build_seconds": seconds, "lines": lines}


def searches(index: kektordb.Index) -> dict[str, Callable[[Any, str], Any]]:
    """Return the ways to search; those with a filter let through half of the rows."""
    search = index.search
    ways: dict[str, Callable[[Any, str], Any]] = {
        "vector": lambda vector, text: search(vector, K),
        "text": lambda vector, text: search(text=text, k=K),
        "vector, filter": lambda vector, text: search(vector, K, filter=FILTER),
        "text, filter": lambda vector, text: search(text=text, k=K, filter=FILTER),
        "hybrid, filter": lambda vector, text: search(vector, K, text=text, filter=FILTER),
    }
    for fusion in METHODS:
        ways[f"hybrid, {fusion}"] = lambda vector, text, fusion=fusion: search(vector, K, text=text, fusion=fusion)
    return ways


def loop_over(search: Callable[[Any, str], Any], pairs: list[tuple[Any, str]]) -> Callable[[], None]:
    """Return one call that asks all queries."""

    def loop() -> None:
        for vector, text in pairs:
            search(vector, text)

    return loop
