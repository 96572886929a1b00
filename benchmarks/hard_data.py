"""How much recall do 8-bit codes cost where they cannot tell rows apart? A table of the sets of tests/adversarial.py.

Usage: python benchmarks/hard_data.py [ROWS] [PART OF A NAME ...]

Columns: recall@10 (ties count) at ef 32 and 100, seconds to build, and thousand queries per second, of hnswlib, of a
float32 traversal and of one on codes; m 16, ef_construction 200, one thread. Last: by how much codes find less.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import adversarial

try:
    import hnswlib
except ImportError:
    hnswlib = None

SPACES = {"euclidean": "l2", "cosine": "cosine", "dot": "ip"}
EFS = (32, 100)


def rival(data: adversarial.HardSet) -> Callable[[Any, int], Any]:
    """Build an hnswlib index; returns a function from query and ef to rows."""
    index = hnswlib.Index(space=SPACES[data.metric], dim=data.rows.shape[1])
    index.init_index(len(data.rows), ef_construction=200, M=16, random_seed=100)
    index.add_items(data.rows, num_threads=1)
    index.set_num_threads(1)

    def find(query: Any, ef: int) -> Any:
        index.set_ef(ef)
        return index.knn_query(query, 10)[0][0]

    return find


def ours(data: adversarial.HardSet, traversal: str) -> Callable[[Any, int], Any]:
    """Build a graph; returns a function from query and ef to rows."""
    graph = adversarial.build(data, traversal)
    return lambda query, ef: graph.search(query, 10, ef)[0]


def measure(find: Callable[[Any, int], Any], data: adversarial.HardSet, truth: Any, ef: int) -> tuple[float, float]:
    """Return recall and queries per second, the best of three passes."""
    seconds = []
    for _ in range(3):
        begin = perf_counter()
        found = [find(query, ef) for query in data.queries]
        seconds.append(perf_counter() - begin)
    return float(adversarial.hits(truth, found, 10).mean()), len(data.queries) / min(seconds)


def main() -> None:
    """Print a row per set, and the means."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    names = [name for name in adversarial.SETS if not sys.argv[2:] or any(part in name for part in sys.argv[2:])]
    kinds = [*(["hnswlib"] if hnswlib else []), "float32", "codes"]
    print(f"{n} rows; " + ", ".join(f"{kind} at ef {EFS}: recall, s to build, thousand QPS" for kind in kinds))
    table = []
    for name in names:
        data = adversarial.make(name, n)
        truth, line, recalls = data.distances(), f"{name:30s}", []
        for kind in kinds:
            begin = perf_counter()
            find = rival(data) if kind == "hnswlib" else ours(data, kind)
            built = perf_counter() - begin
            figures = [measure(find, data, truth, ef) for ef in EFS]
            recalls += [recall for recall, _ in figures]
            line += " | {:.3f} {:.3f} {:4.1f}s {:4.0f} {:4.0f}".format(
                *(f[0] for f in figures), built, *(f[1] / 1000 for f in figures)
            )
        table.append(recalls)
        short = min(recalls[-2] - recalls[-4], recalls[-1] - recalls[-3])
        print(line, f"| {short:+.3f}" + (" !" if short < -0.015 else ""), flush=True)
    print("mean", np.round(np.mean(table, axis=0), 4).tolist())


if __name__ == "__main__":
    main()
