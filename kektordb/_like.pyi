"""Does a text fit a LIKE pattern?"""

__pyx_capi__: dict[str, object]
