from collections.abc import Set
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from kektordb._bitmap import Bitmap
from kektordb._candidates import Hits
from kektordb._hnsw import Graph
from kektordb._metadata import MetadataStore
from kektordb._metrics import Latencies
from kektordb._rwlock import RWLock
from kektordb._strings import StringMap
from kektordb.query import Plan
from kektordb.results import Results

_R = TypeVar("_R", bound=Results)

def is_query(vector: object, dim: int) -> bool: ...

@disjoint_base
class Searchable:
    lock: RWLock
    graph: Graph | None
    dim: int
    ids: StringMap
    metadata: MetadataStore
    alive: Bitmap
    n_alive: int
    is_product: bool
    searches: Latencies
    n_batch_queries: int
    def __new__(cls, *args: object, **options: object) -> Searchable: ...
    def search(
        self,
        query: npt.NDArray[np.float32],
        k: int,
        ef: int,
        plan: Plan | None,
        params: dict[str, Any] | None,
        wanted: Set[str],
    ) -> Results: ...
    def gather(self, kind: type[_R], hits: Hits | None, wanted: Set[str]) -> _R: ...
    def allowed(self, plan: Plan | None, params: dict[str, Any] | None) -> tuple[Bitmap | None, int]: ...
    def search_batch(
        self,
        queries: npt.NDArray[np.float32],
        k: int,
        ef: int,
        plan: Plan | None,
        params: dict[str, Any] | None,
        wanted: Set[str],
        n_threads: int,
    ) -> list[Results]: ...
