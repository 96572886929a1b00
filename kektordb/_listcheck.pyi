"""Can lists that were read from a file be used without leaving any array, and do they count rightly?"""

__pyx_capi__: dict[str, object]
