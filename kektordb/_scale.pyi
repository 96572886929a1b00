from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

TRAIN_FROM: int

@disjoint_base
class Scale:
    low: float
    unit: float
    n_trained: int
    trained_error: float
    metric: str
    dim: int
    is_final: bool
    n: int
    n_zero: int
    def __new__(
        cls,
        metric: str,
        dim: int,
        low: float,
        unit: float,
        n_trained: int,
        trained_error: float,
        is_final: bool = False,
    ) -> Scale: ...
    @staticmethod
    def train(
        metric: str,
        sample: npt.NDArray[np.float32],
        n_rows: int,
        is_final: bool = False,
        before: Scale | None = None,
    ) -> Scale: ...
    def drifted(self, rows: npt.NDArray[np.float32] | None = None) -> bool: ...
    def meta(self) -> dict[str, Any]: ...
    def sums(self) -> dict[str, Any]: ...
    def learn(self, sums: dict[str, Any]) -> None: ...

def mean_error_of(sample: npt.NDArray[np.float32], low: float, unit: float) -> float: ...
