import numpy as np
import numpy.typing as npt

_Slots = npt.NDArray[np.uint32]
_Floats = npt.NDArray[np.float32]

def merge(
    near: _Slots, distances: _Floats, best: _Slots, scores: _Floats
) -> tuple[_Slots, _Floats, _Floats, _Slots, _Slots]: ...
