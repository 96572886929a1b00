"""How is a system filled with a data set, and how long does that take?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.datasets import Dataset
from benchmarks.measure import Stopwatch, stopwatch
from benchmarks.systems import OURS, available
from benchmarks.systems.system import Rows, Setting, System
from benchmarks.truth import Floats

__all__ = ["FIELDS", "fields_of", "fill", "fill_all", "rows_of"]

FIELDS: dict[str, type] = {"price": int, "category": str, "stock": bool}


def fields_of(row: int) -> dict[str, Any]:
    """Return three fields of metadata, as a shop would have them."""
    return {"price": row % 1000, "category": f"category-{row % 20}", "stock": row % 3 > 0}


def rows_of(vectors: Floats, first: int = 0) -> Rows:
    """Return rows with the three fields."""
    return Rows(first, vectors, [fields_of(row) for row in range(first, first + len(vectors))])


def fill(
    kind: type[System], metric: str, rows: Rows, fields: dict[str, type], folder: Path
) -> tuple[System, Stopwatch]:
    """Make a system in a new folder below `folder` and add all rows at once; return it and the time it took.

    That time ends when the system is as fast to search as it gets, for databases: when they had everything.
    """
    own = folder / kind.name
    own.mkdir()
    system = kind(Setting(metric, rows.vectors.shape[1], len(rows), own, fields))
    with stopwatch() as watch:
        system.add(rows)
        system.finish()
    return system, watch


def fill_all(
    names: Iterable[str], dataset: Dataset, rows: Rows, fields: dict[str, type], folder: Path
) -> tuple[dict[str, System], dict[str, Stopwatch]]:
    """Fill each system that is here; one of the others that fails is left out, with a line that says why."""
    systems: dict[str, System] = {}
    watches: dict[str, Stopwatch] = {}
    for kind in available(names):
        try:
            system, watch = fill(kind, dataset.metric, rows, fields, folder)
            system.rows(system.searcher(10)(dataset.test[0]))
        except Exception as error:  # another project's failure must not end the run
            if kind.name in OURS:
                raise
            print(f"left out: {kind.name} ({type(error).__name__}: {error})", flush=True)
            continue
        systems[kind.name], watches[kind.name] = system, watch
        print(f"filled: {kind.name}, {watch.wall:.2f} s", flush=True)
    return systems, watches
