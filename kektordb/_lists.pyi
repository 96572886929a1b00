"""How are the slots and counts of one term kept in few bytes? Inverted lists of sealed blocks and a tail."""

__pyx_capi__: dict[str, object]
