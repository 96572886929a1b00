"""How much memory will the lists of a text index take when these texts are added? Found out before, and got before."""

from array import array
from typing import final

from kektordb._bm25 import TextIndex

_Counted = tuple[int, array[int], array[int], int]

@final
class FieldRoom: ...

@final
class TextRoom:
    """Room for texts that will be added to an index, before anything else happens to it."""

    def __new__(
        cls,
        index: TextIndex,
        first: int,
        texts: list[list[_Counted]],
        changed: list[tuple[int, list[_Counted]]],
    ) -> TextRoom: ...
    def make(self, n_lists: int) -> bool: ...
    def trim(self) -> None: ...
