"""How does a row get its links?"""

__pyx_capi__: dict[str, object]
