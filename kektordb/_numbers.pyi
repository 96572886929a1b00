"""Where does a number stand among others?"""

__pyx_capi__: dict[str, object]
