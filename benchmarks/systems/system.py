"""What must a system do to be measured beside the others?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from benchmarks.truth import Floats

__all__ = ["BUILD_THREADS", "EF_CONSTRUCTION", "M", "Range", "Rows", "Search", "Setting", "System"]

# Every system gets these, under whatever name it has for them.
M = 16
EF_CONSTRUCTION = 200
BUILD_THREADS = 2

Search = Callable[[npt.NDArray[np.float32]], Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is added: vectors with their ids and metadata; row i of the whole has the id ``str(i)``."""

    first: int
    vectors: Floats
    metadata: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def numbers(self) -> range:
        """The rows' numbers, which are their ids."""
        return range(self.first, self.first + len(self))

    @property
    def ids(self) -> list[str]:
        """The ids as strings."""
        return list(map(str, self.numbers))

    def parts(self, size: int) -> Iterator[Rows]:
        """Yield the same rows in parts."""
        for start in range(0, len(self), size):
            stop = start + size
            yield Rows(self.first + start, self.vectors[start:stop], self.metadata[start:stop])


@dataclass(frozen=True, slots=True)
class Setting:
    """What an empty system is made for.

    Attributes
    ----------
    metric : str
        ``euclidean`` or ``cosine``; vectors of the latter have unit length.
    n : int
        Rows that will come, for systems that must know.
    folder : Path
        An empty folder of its own.
    fields : dict
        The type of each metadata field: int, str or bool.
    """

    metric: str
    dim: int
    n: int
    folder: Path
    fields: dict[str, type]


@dataclass(frozen=True, slots=True)
class Range:
    """A filter: rows whose integer `field` is in [`low`, `high`); an end that is None is open."""

    field: str
    low: int | None
    high: int | None
    mask: npt.NDArray[np.bool_]

    def text(self) -> str:
        """Return the filter as most query languages write it."""
        ends = ((">=", self.low), ("<", self.high))
        return " and ".join(f"{self.field} {sign} {limit}" for sign, limit in ends if limit is not None)


class System(ABC):
    """A system that was made for a `Setting`, empty.

    It builds with BUILD_THREADS and searches with one thread, or its `note` says why not.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    note: ClassVar[str] = ""
    # An exact search has no ef: one point is its whole curve.
    is_exact: ClassVar[bool] = False
    has_filter: ClassVar[bool] = False
    # Does it search many vectors in one call, on a chosen number of threads?
    has_batch: ClassVar[bool] = False
    # May one thread add while another searches?
    has_mixed: ClassVar[bool] = False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    def add(self, rows: Rows) -> None:
        """Add rows."""

    def add_one(self, rows: Rows) -> None:
        """Add a single row, in the way that the system has for it."""
        self.add(rows)

    def finish(self) -> None:  # noqa: B027 - most systems have nothing to do
        """Make what was added as fast to search as it gets."""

    @abstractmethod
    def searcher(self, ef: int, k: int = 10) -> Search:
        """Return a function from a vector, (dim,), to whatever the system returns; good until the next `searcher`."""

    def filtered_searcher(self, ef: int, condition: Range, k: int = 10) -> Search:
        """The same among the rows that match; with `has_filter` only."""
        raise NotImplementedError

    def batch_searcher(self, ef: int, n_threads: int, k: int = 10) -> Callable[[Floats], Any]:
        """Return a function that searches all rows of (n, dim); with `has_batch` only."""
        raise NotImplementedError

    @abstractmethod
    def rows(self, answer: Any) -> list[int]:
        """Return the rows in an answer, best first."""

    @abstractmethod
    def close(self) -> None:
        """Write everything into the folder and let go of it."""

    @abstractmethod
    def open(self) -> None:
        """Open what `close` wrote."""
