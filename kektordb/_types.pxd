"""Every C type that modules share, with its reason."""

from libc.stdint cimport uint32_t, uint64_t

# Dense internal number of an item. 32 bits: half the memory of every link and posting, and 4 billion items fit.
ctypedef uint32_t slot_t
# Order-preserving image of a float distance: keys compare as unsigned integers, so one search loop serves all metrics.
ctypedef uint32_t key_t
# Word of a bitmap over slots.
ctypedef uint64_t word_t

cdef enum:
    NO_SLOT = 0xFFFFFFFFu
