"""What can happen to a database? Every change is one of these operations, and the log is a row of them.

Each operation has a type number and a payload, which are part of the file format (docs/format.md).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb.errors import CorruptLog

__all__ = [
    "CreateIndex",
    "DeleteItems",
    "DeleteKey",
    "DropIndex",
    "Group",
    "IndexConfig",
    "Operation",
    "PutItems",
    "PutKey",
    "PutMetadata",
    "decode",
    "encode",
]

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """What an index was created with.

    Attributes
    ----------
    metric : str
        ``cosine``, ``euclidean`` or ``dot``.
    dim : int
        Components of a vector; 0 when it was left to the first vector, and stays so.
    m, ef_construction : int
        Links of a row above level 0 of the graph (twice as many on it), and candidates while a row is inserted.
    seed : int
        Of the graph's levels.
    """

    metric: str = "cosine"
    dim: int = 0
    m: int = 16
    ef_construction: int = 200
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the options by name, as they are stored."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> IndexConfig:
        """Make a configuration of stored options; what an older version did not know keeps its default."""
        return cls(**{name: options[name] for name in cls.__slots__ if name in options})


@dataclass(frozen=True, slots=True)
class CreateIndex:
    """A new index; `number` is never used again, whatever its name."""

    number: int
    name: str
    config: IndexConfig


@dataclass(frozen=True, slots=True)
class DropIndex:
    """An index goes, with all that is in it."""

    number: int


@dataclass(frozen=True, slots=True, eq=False)
class PutItems:
    """Items come into an index.

    Attributes
    ----------
    number : int
        Of the index.
    ids : sequence of str
    vectors : float32 (n, dim)
        As they are stored: normalised for cosine.
    metadata : sequence of bytes
        One msgpack map an item; empty for none.
    replace : bool
        An item of the same id is replaced; otherwise there is none.
    """

    number: int
    ids: Sequence[str]
    vectors: npt.NDArray[np.float32]
    metadata: Sequence[bytes]
    replace: bool = False


@dataclass(frozen=True, slots=True)
class DeleteItems:
    """Items leave an index."""

    number: int
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class PutMetadata:
    """The metadata of an item becomes `metadata`, a msgpack map."""

    number: int
    id: str
    metadata: bytes


@dataclass(frozen=True, slots=True)
class PutKey:
    """A key of the key-value store gets a value."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """A key of the key-value store goes."""

    key: str


@dataclass(frozen=True, slots=True)
class Group:
    """Operations that happen all or not at all."""

    operations: Sequence[Operation] = field(default_factory=tuple)


Operation = CreateIndex | DropIndex | PutItems | DeleteItems | PutMetadata | PutKey | DeleteKey | Group

_CREATE_INDEX, _DROP_INDEX, _PUT_ITEMS, _DELETE_ITEMS, _PUT_METADATA, _PUT_KEY, _DELETE_KEY, _GROUP = range(1, 9)

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_LENGTH = struct.Struct("<I")


def encode(operation: Operation) -> tuple[int, list[Buffer]]:
    """Return the type number of an operation and its payload, as parts to be written one after the other."""
    match operation:
        case PutItems():
            n, dim = operation.vectors.shape
            head = _pack((operation.number, n, dim, operation.replace, operation.ids, operation.metadata))
            # The rows begin at a multiple of 4, so that they can be used where they lie.
            rows = np.ascontiguousarray(operation.vectors, dtype="<f4")
            return _PUT_ITEMS, [_LENGTH.pack(len(head)) + head + bytes(-len(head) % 4), rows.data.cast("B")]
        case DeleteItems():
            return _DELETE_ITEMS, [_pack((operation.number, operation.ids))]
        case PutMetadata():
            return _PUT_METADATA, [_pack((operation.number, operation.id, operation.metadata))]
        case PutKey():
            return _PUT_KEY, [_pack((operation.key, operation.value))]
        case DeleteKey():
            return _DELETE_KEY, [_pack(operation.key)]
        case CreateIndex():
            return _CREATE_INDEX, [_pack((operation.number, operation.name, operation.config.to_dict()))]
        case DropIndex():
            return _DROP_INDEX, [_pack(operation.number)]
        case Group():
            members = [encode(member) for member in operation.operations]
            return _GROUP, [_pack([(kind, b"".join(parts)) for kind, parts in members])]


def decode(kind: int, payload: Buffer) -> Operation:
    """Return the operation of a log record; the inverse of `encode`.

    The vectors of a `PutItems` are a view of `payload`. Raises CorruptLog when the payload is not of its type: its
    check was right, so that a newer or broken writer made it.
    """
    try:
        return _decode(kind, payload)
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, struct.error) as error:
        raise CorruptLog(f"an operation of type {kind} cannot be read: {error}") from error


def _decode(kind: int, payload: Buffer) -> Operation:
    if kind == _PUT_ITEMS:
        (length,) = _LENGTH.unpack_from(payload)
        head = memoryview(payload)[_LENGTH.size : _LENGTH.size + length]
        number, n, dim, replace, ids, metadata = _unpack(head)
        vectors = np.frombuffer(payload, dtype="<f4", offset=_LENGTH.size + length + -length % 4)
        if len(ids) != n or len(metadata) != n:
            raise ValueError(f"expected {n} ids and metadata, got {len(ids)} and {len(metadata)}")
        return PutItems(number, ids, vectors.reshape(n, dim), metadata, replace)
    values = _unpack(payload)
    if kind == _DELETE_ITEMS:
        return DeleteItems(*values)
    if kind == _PUT_METADATA:
        return PutMetadata(*values)
    if kind == _PUT_KEY:
        return PutKey(*values)
    if kind == _DELETE_KEY:
        return DeleteKey(values)
    if kind == _CREATE_INDEX:
        number, name, options = values
        return CreateIndex(number, name, IndexConfig.from_dict(options))
    if kind == _DROP_INDEX:
        return DropIndex(values)
    if kind == _GROUP:
        return Group(tuple(_decode(member, body) for member, body in values))
    raise ValueError("a type that this version does not know")
