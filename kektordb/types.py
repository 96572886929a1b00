"""Plain data that crosses the borders between modules; no behaviour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

__all__ = ["Section", "SectionReader"]


class Section(msgspec.Struct, frozen=True):
    """One named run of bytes of a frozen view of the state, on its way into a snapshot.

    Attributes
    ----------
    name : str
        Unique within its owner; lower case, digits, ``_``, ``.`` and ``/``.
    item_bytes : int
        Size of one element, for the shuffle filter of the codec.
    n_bytes : int
        Size of the whole section.
    read : callable or None
        ``read(start, stop)`` returns the bytes in that range as they were when the view was frozen. It is called once
        per block, in ascending order, from the thread that saves. None: the section is as it is in the snapshot before,
        whole.
    """

    name: str
    item_bytes: int
    n_bytes: int
    read: Callable[[int, int], bytes | bytearray | memoryview] | None


class SectionReader(Protocol):
    """The sections of a snapshot, as the state sees them when it is loaded."""

    def size(self, name: str) -> int:
        """Return the size of a section in bytes; 0 when there is none of this name."""
        ...

    def read(self, name: str) -> bytearray:
        """Return a whole section; empty when there is none of this name. Raises CorruptSnapshot."""
        ...

    def read_into(self, name: str, target: memoryview) -> None:
        """Fill `target`, writable bytes of exactly the section's size. Raises CorruptSnapshot."""
        ...
