"""How do records travel from one database to another? As checked messages of bytes that say where they belong."""

from __future__ import annotations

from struct import Struct
from typing import Self, TypeVar

import msgspec
from xxhash import xxh3_64_intdigest

from ..errors import ConfigError, CorruptData
from .codec import Branch, Lineage
from .tail import Place

__all__ = ["Chunk", "Handover", "Position", "Shipped", "decode_message", "encode_message"]

_CHECK = Struct("<Q")
_M = TypeVar("_M", bound=msgspec.Struct)


class Position(msgspec.Struct, frozen=True):
    """How far a database has come: what a follower asks with for more.

    Attributes
    ----------
    history : bytes
        Whose records it has; empty when it has none.
    seq, digest : int
        The last one, and the digest of all up to it.
    """

    history: bytes
    seq: int
    digest: int

    @property
    def place(self) -> Place:
        """The position within the history."""
        return Place(self.seq, self.digest)

    def __str__(self) -> str:
        return f"{self.history.hex()}:{self.seq}:{self.digest:016x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the position whose `str` is `text`. Raises ConfigError."""
        try:
            history, seq, digest = text.split(":")
            found = cls(bytes.fromhex(history), int(seq), int(digest, 16))
        except (ValueError, AttributeError):
            found = None
        if found is None or str(found) != text or found.seq < 0 or len(found.history) not in (0, 16):
            raise ConfigError(f"expected a position in a history as 'history:seq:digest', got {text!r:.80}")
        return found


class Shipped(msgspec.Struct, frozen=True, array_like=True):
    """One record: the sequence number of its last part, its type and its payload."""

    seq: int
    type: int
    payload: bytes


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Records that follow each other.

    Attributes
    ----------
    history, branches
        Whose they are; see `Lineage`.
    records : list of Shipped
    seq, digest : int
        Behind the last of them.
    behind_bytes : int
        What the logs of the leader hold behind them, about.
    """

    history: bytes
    branches: tuple[Branch, ...]
    records: list[Shipped]
    seq: int
    digest: int
    behind_bytes: int

    @property
    def lineage(self) -> Lineage:
        """As it is noted by a follower."""
        return Lineage(self.history, True, self.branches)


class Handover(msgspec.Struct, frozen=True, array_like=True):
    """What stands before the bytes of a snapshot: whose it is, and the last record that it covers."""

    history: bytes
    branches: tuple[Branch, ...]
    seq: int
    digest: int

    @property
    def lineage(self) -> Lineage:
        """As it is noted by a follower."""
        return Lineage(self.history, True, self.branches)


def encode_message(message: msgspec.Struct) -> bytes:
    """Return a message as bytes that check themselves."""
    body = msgspec.msgpack.encode(message)
    return _CHECK.pack(xxh3_64_intdigest(body)) + body


def decode_message(data: bytes | memoryview, kind: type[_M]) -> _M:
    """Return the message of some bytes. Raises CorruptData when they are not as they were sent."""
    view = memoryview(data)
    if len(view) < _CHECK.size or _CHECK.unpack_from(view)[0] != xxh3_64_intdigest(view[_CHECK.size :]):
        raise CorruptData("what was received from the leader is damaged or cut short")
    try:
        return msgspec.msgpack.decode(view[_CHECK.size :], type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"what was received from the leader is not understood ({error})") from error
