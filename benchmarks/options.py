"""What did the caller ask of the benchmarks?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import datasets
from benchmarks.datasets import Dataset

__all__ = ["NO_AUTOSAVE", "USUAL_DIM", "Options"]

# Arguments of kektordb.open for measurements into which a save in the background, or one at close, must not fall.
NO_AUTOSAVE: dict[str, Any] = {"autosave": "", "aof_rewrite_percentage": 0}
USUAL_DIM = 128
QUICK_ROWS = 10_000
QUICK_QUERIES = 100


@dataclass(frozen=True, slots=True)
class Options:
    """Settings that all parts share.

    Attributes
    ----------
    datasets : list of str
        Names for `datasets.load`; empty for the part's own choice.
    systems : list of str
        Names of systems; empty for the part's own choice.
    quick : bool
        A small part of everything: shows that the benchmarks run, not how fast anything is.
    passes : int
        How often each timed loop runs; medians are reported.
    """

    datasets: list[str]
    systems: list[str]
    quick: bool
    passes: int

    def load_all(self, default: Sequence[str]) -> Iterator[Dataset]:
        """Load the data sets that the caller named, or else the part's own choice; cut down when `quick`."""
        for name in self.datasets or default:
            dataset = datasets.load(name)
            yield dataset.head(QUICK_ROWS, QUICK_QUERIES) if self.quick else dataset

    def load_one(self) -> Dataset:
        """Load the first data set that the caller named, or else the usual one for parts that need only one."""
        return next(self.load_all(datasets.names(USUAL_DIM)))

    def choose(self, systems: Sequence[str]) -> list[str]:
        """Return those of a part's systems that the caller wants; all of them when none were named."""
        return [name for name in systems if not self.systems or name in self.systems]

    def size(self, n: int) -> int:
        """Return `n`, or a twentieth of it when `quick`."""
        return max(1, n // 20) if self.quick else n
