"""The kernels compiled for the baseline (x86-64-v2, or the machine's own baseline elsewhere)."""

def table() -> object:
    """Return the addresses of these kernels as a capsule for ``_distance``."""
