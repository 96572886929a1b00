"""How do threads that search go back to Python one after the other?"""

__pyx_capi__: dict[str, object]
