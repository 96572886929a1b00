"""What does a snapshot give back of a frozen state? Its sections, read in pieces as a save reads them."""

from __future__ import annotations

from collections.abc import Iterable

from kektordb.types import Section


class Sections:
    """A snapshot in memory; sections that are as in the snapshot before are left out.

    Parameters
    ----------
    sections : iterable of Section
        Their names differ.
    step : int
        Bytes that are read at once.
    prefix : str
        What all names must begin with.
    **changed : bytes
        Contents to have instead, by name.

    Attributes
    ----------
    data : dict
        Contents by name, which a test may change.
    """

    def __init__(self, sections: Iterable[Section] = (), step: int = 1000, prefix: str = "", **changed: bytes) -> None:
        self.data: dict[str, bytes | bytearray] = {}
        for section in sections:
            if section.read is None:
                continue
            assert section.name.startswith(prefix)
            assert section.name not in self.data
            content = bytearray()
            for start in range(0, section.n_bytes, step):
                content += section.read(start, min(start + step, section.n_bytes))
            assert len(content) == section.n_bytes
            self.data[section.name] = content
        self.data.update(changed)

    def size(self, name: str) -> int:
        return len(self.data.get(name, b""))

    def read(self, name: str) -> bytearray:
        return bytearray(self.data.get(name, b""))

    def read_into(self, name: str, target: memoryview) -> None:
        target[:] = self.data[name]
