"""What can happen to a database? Every change is one of these operations, and the log is a row of them.

Each operation has a type number and a payload, which are part of the file format (docs/format.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb.errors import CorruptLog
from kektordb.settings import MaintenanceConfig, Setting

__all__ = [
    "Configure",
    "Convert",
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
    "decoded",
    "encode",
]

Buffer = bytes | bytearray | memoryview


class IndexConfig(msgspec.Struct, frozen=True):
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
    precision : str
        In which vectors are stored: ``float32``, ``float16`` or ``int8``.
    traversal : str
        What the graph is walked on: ``codes`` of 8 bits, made from the vectors, or the vectors themselves: ``float32``.
    text_language : str
        Of the texts in the metadata; empty: they are not searched.
    text_fields : tuple of str or None
        The fields that hold texts; None: all that hold strings.
    stop_words : tuple of str or None
        Instead of the language's own.
    k1, b : float
        Of BM25.
    field_weights : dict of str to float or None
        Of the fields' scores, 1 where none is given.
    maintenance : MaintenanceConfig
        As it is now: one of two things here that may change.
    embedder : str
        The name of what made its vectors of texts; empty while none is known. It may change, too.
    """

    metric: str = "cosine"
    dim: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 0
    m: Annotated[int, msgspec.Meta(ge=2, le=512)] = 16
    ef_construction: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 200
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    precision: str = "float32"
    traversal: str = "codes"
    text_language: str = ""
    text_fields: tuple[str, ...] | None = None
    stop_words: tuple[str, ...] | None = None
    k1: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.2
    b: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.75
    field_weights: dict[str, float] | None = None
    maintenance: MaintenanceConfig = MaintenanceConfig()
    embedder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the options by name, as they are stored.

        Without a language nothing is said of texts, nor of a maintenance that is the default, nor of no embedder.
        """
        options = msgspec.structs.asdict(self)
        if not self.embedder:
            del options["embedder"]
        if self.maintenance == MaintenanceConfig():
            del options["maintenance"]
        else:
            options["maintenance"] = msgspec.structs.asdict(self.maintenance)
        return options if self.text_language else {name: options[name] for name in options if name not in _OF_TEXTS}

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> IndexConfig:
        """Make a configuration of stored options; what an older version did not know keeps its default.

        Raises msgspec.ValidationError when one is of another type.
        """
        return msgspec.convert(options, cls)

    def configured(self, settings: dict[str, Setting], embedder: str | None = None) -> IndexConfig:
        """Return it with some settings of the maintenance changed, and the name of the embedder unless it is None."""
        name = self.embedder if embedder is None else embedder
        return msgspec.structs.replace(self, maintenance=self.maintenance.merged(settings), embedder=name)


_OF_TEXTS = frozenset({"text_language", "text_fields", "stop_words", "k1", "b", "field_weights"})


class CreateIndex(msgspec.Struct, frozen=True):
    """A new index; `number` is never used again, whatever its name."""

    number: int
    name: str
    config: IndexConfig


class DropIndex(msgspec.Struct, frozen=True):
    """An index goes, with all that is in it."""

    number: int


class PutItems(msgspec.Struct, frozen=True, eq=False):
    """Items come into an index.

    Attributes
    ----------
    number : int
        Of the index.
    ids : list of str
    vectors : float32 (n, dim)
        As they are stored: normalised for cosine.
    metadata : list of bytes
        One msgpack map an item; empty for none.
    replace : bool
        An item of the same id is replaced; otherwise there is none.
    """

    number: int
    ids: list[str]
    vectors: npt.NDArray[np.float32]
    metadata: list[bytes]
    replace: bool = False


class DeleteItems(msgspec.Struct, frozen=True):
    """Items leave an index."""

    number: int
    ids: Sequence[str]


class PutMetadata(msgspec.Struct, frozen=True):
    """The metadata of an item becomes `metadata`, a msgpack map."""

    number: int
    id: str
    metadata: bytes


class Convert(msgspec.Struct, frozen=True):
    """The vectors of an index are stored in another precision, or on another scale, from now on.

    Attributes
    ----------
    low, unit : float
        Where rows share a scale: what code 0 stands for, and by how much the codes after it are more. `unit` is 0 where
        none was chosen.
    n_trained : int
    trained_error : float
        Rows that it was chosen for, and their mean squared error in units of a code.
    """

    number: int
    precision: str
    low: float = 0.0
    unit: float = 0.0
    n_trained: int = 0
    trained_error: float = 0.0

    def of_index(self, number: int) -> Convert:
        """Return the same for another index."""
        return msgspec.structs.replace(self, number=number)


class Configure(msgspec.Struct, frozen=True):
    """Some settings of an index's maintenance change, or the name of its embedder; the others stay."""

    number: int
    settings: dict[str, Setting]
    embedder: str | None = None


class PutKey(msgspec.Struct, frozen=True):
    """A key of the key-value store gets a value."""

    key: str
    value: bytes


class DeleteKey(msgspec.Struct, frozen=True):
    """A key of the key-value store goes."""

    key: str


class Group(msgspec.Struct, frozen=True):
    """Operations that happen all or not at all."""

    operations: Sequence[Operation] = ()

    def members(self) -> Iterator[Operation]:
        """Iterate over the operations, and over those of groups among them."""
        for operation in self.operations:
            if isinstance(operation, Group):
                yield from operation.members()
            else:
                yield operation


Operation = (
    CreateIndex | DropIndex | PutItems | DeleteItems | PutMetadata | PutKey | DeleteKey | Group | Convert | Configure
)

_CREATE_INDEX, _DROP_INDEX, _PUT_ITEMS, _DELETE_ITEMS, _PUT_METADATA, _PUT_KEY, _DELETE_KEY, _GROUP = range(1, 9)
_CONVERT, _CONFIGURE = 9, 10

_pack = msgspec.msgpack.Encoder().encode
# What each payload must be: a field of another type is an error when it is read, not half-way through applying it.
_unpack_head = msgspec.msgpack.Decoder(tuple[int, int, int, bool, list[str], list[bytes]]).decode
_unpack_ids = msgspec.msgpack.Decoder(tuple[int, list[str]]).decode
_unpack_metadata = msgspec.msgpack.Decoder(tuple[int, str, bytes]).decode
_unpack_pair = msgspec.msgpack.Decoder(tuple[str, bytes]).decode
_unpack_key = msgspec.msgpack.Decoder(str).decode
_unpack_index = msgspec.msgpack.Decoder(tuple[int, str, dict[str, Any]]).decode
_unpack_conversion = msgspec.msgpack.Decoder(tuple[int, str, float, float, int, float]).decode
_unpack_settings = msgspec.msgpack.Decoder(tuple[int, dict[str, Any]]).decode
_unpack_number = msgspec.msgpack.Decoder(int).decode
_unpack_members = msgspec.msgpack.Decoder(list[tuple[int, bytes]]).decode
_LENGTH = struct.Struct("<I")
_PADDING = (b"", b"\0", b"\0\0", b"\0\0\0")
_FLOATS = np.dtype("<f4")
_SMALL_BYTES = 8192


def encode(operation: Operation) -> tuple[int, list[Buffer]]:
    """Return the type number of an operation and its payload, as parts to be written one after the other."""
    match operation:
        case PutItems():
            n, dim = operation.vectors.shape
            head = _pack((operation.number, n, dim, operation.replace, operation.ids, operation.metadata))
            # The rows begin at a multiple of 4, so that they can be used where they lie.
            return _PUT_ITEMS, [_LENGTH.pack(len(head)), head, _PADDING[-len(head) % 4], _bytes_of(operation.vectors)]
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
        case Convert():
            return _CONVERT, [_pack(msgspec.structs.astuple(operation))]
        case Configure():
            named = {} if operation.embedder is None else {"embedder": operation.embedder}
            return _CONFIGURE, [_pack((operation.number, operation.settings | named))]
        case Group():
            members = [encode(member) for member in operation.operations]
            return _GROUP, [_pack([(kind, b"".join(parts)) for kind, parts in members])]


def _bytes_of(vectors: npt.NDArray[np.float32]) -> Buffer:
    if vectors.dtype != _FLOATS or not vectors.flags.c_contiguous:
        vectors = np.ascontiguousarray(vectors, dtype=_FLOATS)
    # A copy of one row costs less than a view that is read once.
    return vectors.tobytes() if vectors.nbytes < _SMALL_BYTES else vectors.data.cast("B")


def decode(kind: int, payload: Buffer) -> Operation:
    """Return the operation of a log record; the inverse of `encode`.

    The vectors of a `PutItems` are a view of `payload`. Raises CorruptLog when the payload is not of its type: its
    check was right, so that a newer or broken writer made it.
    """
    try:
        if kind == _GROUP:
            return _decode_group(payload)
        return _decode(kind, payload)
    except (msgspec.DecodeError, ValueError, struct.error) as error:
        raise CorruptLog(f"an operation of type {kind} cannot be read: {error}") from error


class _Record(Protocol):
    @property
    def type(self) -> int: ...
    @property
    def payload(self) -> Buffer: ...


def decoded(records: Iterable[_Record]) -> Iterator[Operation]:
    """Yield what the records of a log mean; see `decode`."""
    for record in records:
        yield decode(record.type, record.payload)


def _decode_group(payload: Buffer) -> Group:
    """Return a group whose memory can be reserved before its first member is applied, as it is for all of them."""
    members: list[Operation] = []
    changed: set[int] = set()
    for kind, body in _unpack_members(payload):
        if kind in (_CREATE_INDEX, _DROP_INDEX):
            raise ValueError("an index that comes or goes in a group")
        member = _decode(kind, body)
        if isinstance(member, Convert) and member.number in changed:
            raise ValueError("a conversion behind other changes of its index")
        if isinstance(member, Convert | PutItems | DeleteItems | PutMetadata):
            changed.add(member.number)
        members.append(member)
    return Group(tuple(members))


def _decode(kind: int, payload: Buffer) -> Operation:
    if kind == _PUT_ITEMS:
        return _decode_items(payload)
    if kind == _DELETE_ITEMS:
        return DeleteItems(*_unpack_ids(payload))
    if kind == _PUT_METADATA:
        return PutMetadata(*_unpack_metadata(payload))
    if kind == _PUT_KEY:
        return PutKey(*_unpack_pair(payload))
    if kind == _DELETE_KEY:
        return DeleteKey(_unpack_key(payload))
    if kind == _CREATE_INDEX:
        number, name, options = _unpack_index(payload)
        return CreateIndex(number, name, IndexConfig.from_dict(options))
    if kind == _DROP_INDEX:
        return DropIndex(_unpack_number(payload))
    if kind == _CONVERT:
        return Convert(*_unpack_conversion(payload))
    if kind == _CONFIGURE:
        number, settings = _unpack_settings(payload)
        embedder = settings.get("embedder")
        if not isinstance(embedder, str | None):
            raise ValueError("the name of an embedder that is none")
        return Configure(number, MaintenanceConfig.known(settings), embedder)
    raise ValueError("a type that this version does not know")


def _decode_items(payload: Buffer) -> PutItems:
    (length,) = _LENGTH.unpack_from(payload)
    head = memoryview(payload)[_LENGTH.size : _LENGTH.size + length]
    number, n, dim, replace, ids, metadata = _unpack_head(head)
    if len(ids) != n or len(metadata) != n or n < 1 or dim < 1:
        raise ValueError(f"expected {n} ids and metadata, got {len(ids)} and {len(metadata)}, of {dim} dimensions")
    vectors = np.frombuffer(payload, dtype="<f4", offset=_LENGTH.size + length + -length % 4)
    return PutItems(number, ids, vectors.reshape(n, dim), metadata, replace)
