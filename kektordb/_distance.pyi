"""Which distance kernels does this CPU run? Chosen once, at import."""

__pyx_capi__: dict[str, object]
isa: str
compiler: str
