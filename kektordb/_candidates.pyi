from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from kektordb._bitmap import Bitmap
from kektordb._bm25 import TextIndex
from kektordb._hnsw import Graph

_Query = npt.NDArray[np.float32]
_Words = Iterable[tuple[int, int, float]]

@disjoint_base
class Hits:
    n_candidates: int
    def __len__(self) -> int: ...
    def slot(self, i: int) -> int: ...
    def parts(self, i: int) -> tuple[float, float] | tuple[None, None]: ...

@disjoint_base
class Candidates: ...

def by_vector(graph: Graph, query: _Query, k: int, ef: int, allowed: Bitmap | None, n_allowed: int) -> Hits | None: ...
def by_words(index: TextIndex, words: _Words, k: int, allowed: Bitmap | None, n_allowed: int) -> Hits: ...
def by_both(
    graph: Graph,
    query: _Query,
    index: TextIndex,
    words: _Words,
    k: int,
    ef: int,
    allowed: Bitmap | None,
    n_allowed: int,
    method: int,
    alpha: float,
) -> Hits | None: ...
