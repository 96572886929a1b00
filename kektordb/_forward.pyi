"""Which terms does the text of a slot have? Forward lists, in pieces that are compacted one at a time."""

from typing import final

from kektordb.types import Section, SectionReader

__pyx_capi__: dict[str, object]

@final
class Forward:
    @property
    def wasted_bytes(self) -> int: ...
    def memory_bytes(self) -> int: ...
    def freeze(self, prefix: str) -> list[Section]: ...
    def load(self, prefix: str, reader: SectionReader, n_slots: int) -> None: ...
