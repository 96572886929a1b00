from typing import Final

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

__pyx_capi__: dict[str, object]
METHODS: Final[tuple[str, ...]]
RRF_K: Final[int]

def parts(method: int, nearness: _Floats, text: _Floats, spare: _Floats) -> None: ...
