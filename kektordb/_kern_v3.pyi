"""The kernels compiled for x86-64-v3 (AVX2, FMA)."""

def table() -> object:
    """Return the addresses of these kernels as a capsule for ``_distance``."""
