"""How do large arrays grow without being copied?"""

from typing_extensions import disjoint_base

__pyx_capi__: dict[str, object]

def grant(n: int) -> int: ...

@disjoint_base
class Region:
    """Zero-filled bytes that grow; the owner of one large array."""

    @property
    def size(self) -> int: ...
