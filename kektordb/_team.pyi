"""How many threads can a loop run on? So many as there can be now, and at least the one that asks."""

__pyx_capi__: dict[str, object]

openmp: bool

def end_waiting_threads() -> None: ...
