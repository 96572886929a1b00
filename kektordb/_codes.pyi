"""How does one byte stand for a component? Codes of the rows, on a scale that follows the data."""

from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from kektordb._scale import Scale
from kektordb._vectors import Vectors

TRAIN_FROM: int

def choose_scale(
    vectors: Vectors, n: int, rows: npt.NDArray[np.float32] | None = None, is_final: bool = False
) -> Scale: ...

@disjoint_base
class Codes:
    """Codes of the first rows of `vectors`."""

    scale: Scale
    stride: int
    @property
    def low(self) -> float: ...
    @property
    def unit(self) -> float: ...
    @property
    def n_trained(self) -> int: ...
    def __new__(cls, vectors: Vectors, low: float, unit: float, n_trained: int, trained_error: float) -> Codes: ...
    @staticmethod
    def train(vectors: Vectors, n: int, rows: npt.NDArray[np.float32] | None = None) -> Codes: ...
    def reserve_more(self, n: int) -> None: ...
    def append(self, n: int) -> None: ...
    def drifted(self) -> bool: ...
    def meta(self) -> dict[str, Any]: ...
    def get(self, slot: int) -> npt.NDArray[np.uint8]: ...
