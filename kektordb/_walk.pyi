"""How does one search run?"""

__pyx_capi__: dict[str, object]
