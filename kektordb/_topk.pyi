"""Which texts score highest? MaxScore in windows of slots, with the bounds of blocks."""

__pyx_capi__: dict[str, object]
