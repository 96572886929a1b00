"""How are the nearest rows of one query found?"""

__pyx_capi__: dict[str, object]
