import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]

def minmax(distances: _Floats, scores: _Floats, alpha: float) -> npt.NDArray[np.float64]: ...
def first(fused: npt.NDArray[np.float64], slots: npt.NDArray[np.uint32], k: int) -> npt.NDArray[np.intp]: ...
