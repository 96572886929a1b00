import numpy as np
import numpy.typing as npt

from kektordb._hnsw import Graph

__pyx_capi__: dict[str, object]

_Floats = npt.NDArray[np.float32]

def bounds(
    graph: Graph, query: _Floats, slots: npt.NDArray[np.uint32]
) -> tuple[_Floats, _Floats] | tuple[None, None]: ...
