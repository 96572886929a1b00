"""What does a graph look like? Levels, degrees, and rows that no search can reach."""

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from kektordb._bitmap import Bitmap
from kektordb._hnsw import Graph

@disjoint_base
class Census:
    """A count of the rows of a graph, in slices."""

    graph: Graph
    n: int
    n_reached: int
    @property
    def levels(self) -> npt.NDArray[np.int64]: ...
    @property
    def degrees(self) -> npt.NDArray[np.int64]: ...
    def __new__(cls, graph: Graph) -> Census: ...
    def count(self, start: int, stop: int) -> None: ...
    def reach(self, n_rows: int) -> bool: ...
    def n_unreachable(self, alive: Bitmap) -> int: ...
