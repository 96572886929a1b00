"""Which distance kernels does this CPU run? Chosen once, at import."""

isa: str
compiler: str
