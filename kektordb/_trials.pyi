"""How well would rows of a graph be found if they had never come in? Trial searches that see it without them."""

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from kektordb._bitmap import Bitmap
from kektordb._hnsw import Graph

def links_to(graph: Graph, slots: npt.NDArray[np.uint32], start: int, stop: int) -> npt.NDArray[np.uint64]: ...

@disjoint_base
class Trials:
    """Trial searches for some rows of a graph."""

    graph: Graph
    n: int
    def __new__(cls, graph: Graph, slots: npt.NDArray[np.uint32], links: npt.NDArray[np.uint64]) -> Trials: ...
    def heal(self, start: int, stop: int) -> None: ...
    def lists_of(self, i: int) -> dict[int, list[int]]: ...
    def run(
        self,
        start: int,
        stop: int,
        k: int,
        ef: int,
        limits: npt.NDArray[np.float32],
        inside: bool,
        allowed: Bitmap | None,
        n_allowed: int,
    ) -> npt.NDArray[np.float64]: ...
