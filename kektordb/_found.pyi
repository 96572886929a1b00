from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from kektordb._metadata import MetadataStore

__pyx_capi__: dict[str, object]

@disjoint_base
class Found:
    @property
    def ids(self) -> list[str]: ...
    @property
    def distances(self) -> npt.NDArray[np.float32]: ...
    @property
    def _is_product(self) -> bool: ...
    @property
    def _vectors(self) -> npt.NDArray[np.float32] | None: ...
    @property
    def _store(self) -> MetadataStore | None: ...
    def __len__(self) -> int: ...
    def _metadata(self, i: int) -> dict[str, Any] | None: ...
