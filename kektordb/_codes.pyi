"""How does one byte stand for a component? Codes of the rows, on a scale that follows the data."""

from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from kektordb._vectors import Vectors

TRAIN_FROM: int

@disjoint_base
class Codes:
    """Codes of the first rows of `vectors`."""

    low: float
    unit: float
    n_trained: int
    trained_error: float
    stride: int
    def __new__(cls, vectors: Vectors, low: float, unit: float, n_trained: int, trained_error: float) -> Codes: ...
    @staticmethod
    def train(vectors: Vectors, n: int, rows: npt.NDArray[np.float32] | None = None) -> Codes: ...
    def append(self, n: int) -> None: ...
    def drifted(self) -> bool: ...
    def meta(self) -> dict[str, Any]: ...
    def get(self, slot: int) -> npt.NDArray[np.uint8]: ...
