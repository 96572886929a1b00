"""The kernels compiled for the baseline (x86-64-v2, or the machine's own baseline elsewhere)."""

include "_kernels.pxi"
