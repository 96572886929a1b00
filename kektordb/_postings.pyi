from typing_extensions import disjoint_base

from kektordb.types import Section, SectionReader

__pyx_capi__: dict[str, object]

@disjoint_base
class Block:
    @property
    def size(self) -> int: ...
    def read(self, start: int, stop: int) -> bytes: ...

class Unprepared(Exception):
    """Something must be made before entries can be counted."""

@disjoint_base
class Coming:
    """What is known about entries to come."""

    def __new__(cls) -> Coming: ...

@disjoint_base
class Postings:
    def __new__(cls, merge_at: int) -> Postings: ...
    def memory_bytes(self) -> int: ...
    def freeze(self, prefix: str) -> list[Section]: ...
    def load(self, prefix: str, reader: SectionReader, n_slots: int, n_terms: int, n_live: int) -> None: ...

class Pairs(Postings): ...
class Terms(Postings): ...
