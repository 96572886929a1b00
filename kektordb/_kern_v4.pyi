"""The kernels compiled for x86-64-v4 (AVX-512)."""

def table() -> object:
    """Return the addresses of these kernels as a capsule for ``_distance``."""
