"""How are vectors stored? Rows by slot, zero-padded to whole cache lines, normalised for cosine."""

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from kektordb.types import Section, SectionReader

METRICS: tuple[str, ...]
PRECISIONS: tuple[str, ...]
MAX_DIM: int

@disjoint_base
class Vectors:
    """Rows of one index."""

    metric: str
    precision: str
    dim: int
    stride: int
    item_bytes: int
    def __new__(cls, dim: int, metric: str, precision: str = "float32") -> Vectors: ...
    def prepare_rows(self, source: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], int]: ...
    def put(self, first: int, source: npt.NDArray[np.float32]) -> None: ...
    def distances(
        self, query: npt.NDArray[np.float32], slots: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.float32] | None: ...
    def get(self, slots: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]: ...
    def read(self, start: int, stop: int) -> bytes: ...
    def freeze(self, n: int) -> list[Section]: ...
    def load(self, reader: SectionReader, n: int) -> None: ...
    def memory_bytes(self, n: int) -> int: ...
