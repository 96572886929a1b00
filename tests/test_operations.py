"""An operation survives the way through its payload, and a payload that is none is CorruptLog, whatever is in it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kektordb._metadata import encode_metadata
from kektordb.errors import CorruptLog
from kektordb.operations import (
    Configure,
    Convert,
    CreateIndex,
    DeleteItems,
    DeleteKey,
    DropIndex,
    Group,
    IndexConfig,
    Operation,
    PutItems,
    PutKey,
    PutMetadata,
    decode,
    encode,
)
from kektordb.settings import MaintenanceConfig


def put(n: int = 3, dim: int = 5, replace: bool = False) -> PutItems:
    vectors = np.random.default_rng(n).standard_normal((n, dim)).astype(np.float32)
    metadata = [b"" if i % 2 else encode_metadata({"n": i}) for i in range(n)]
    return PutItems(7, [f"é{i}" for i in range(n)], vectors, metadata, replace)


SINGLES: list[Operation] = [
    CreateIndex(1, "name", IndexConfig("dot", 3, 8, 50, 2**64 - 1)),
    CreateIndex(2**31, "日本", IndexConfig()),
    DropIndex(5),
    put(),
    put(1, 1, replace=True),
    put(300, 2),
    DeleteItems(3, ["a", "b"]),
    DeleteItems(3, []),
    PutMetadata(4, "id", encode_metadata({"a": [1, {"b": None}]})),
    PutMetadata(4, "id", b""),
    PutKey("key", b"\x00\xff"),
    PutKey("é", b""),
    DeleteKey("key"),
    CreateIndex(2, "kept", IndexConfig(maintenance=MaintenanceConfig(5, 0.5, True, 6, 7, 8))),
    Configure(3, {"vacuum_interval": 2**62, "delete_threshold": 0.25, "refine_enabled": True}),
    Configure(3, {}),
    Configure(3, {}, "ollama:nomic-embed-text"),
    Configure(3, {"delete_threshold": 0.5}, ""),
]
# Indexes come and go by themselves, and a conversion comes before what else happens to its index.
MEMBERS = [Convert(7, "int8"), *(one for one in SINGLES if not isinstance(one, CreateIndex | DropIndex))]
OPERATIONS: list[Operation] = [*SINGLES, Group(tuple(MEMBERS)), Group(())]


def payload_of(operation: Operation) -> tuple[int, bytes]:
    kind, parts = encode(operation)
    return kind, b"".join(parts)


def plain(operation: Operation) -> Any:
    """What can be compared."""
    if isinstance(operation, Group):
        return [plain(member) for member in operation.operations]
    if isinstance(operation, PutItems):
        o = operation
        return o.number, list(o.ids), o.vectors.shape, o.vectors.tobytes(), list(map(bytes, o.metadata)), o.replace
    return operation


def is_typed(operation: Operation) -> bool:
    """Tell whether every field is what `apply` takes it for."""
    match operation:
        case CreateIndex(number, name, config):
            good = [type(number) is int, type(name) is str, type(config.metric) is str]
            return all([*good, *(type(x) is int for x in (config.dim, config.m, config.ef_construction, config.seed))])
        case DropIndex(number):
            return type(number) is int
        case PutItems(number, ids, vectors, metadata, replace):
            n, dim = vectors.shape
            strings = all(type(id) is str for id in ids) and all(type(blob) is bytes for blob in metadata)
            same = len(ids) == len(metadata) == n >= 1 and dim >= 1 and vectors.dtype == np.float32
            return type(number) is int and type(replace) is bool and strings and same
        case DeleteItems(number, ids):
            return type(number) is int and all(type(id) is str for id in ids)
        case PutMetadata(number, id, metadata):
            return type(number) is int and type(id) is str and type(metadata) is bytes
        case Configure(number, settings, embedder):
            kinds = {"delete_threshold": float, "refine_enabled": bool}
            return (
                type(number) is int
                and (embedder is None or type(embedder) is str)
                and all(
                    type(value) is kinds.get(key, int) and key in MaintenanceConfig.__struct_fields__
                    for key, value in settings.items()
                )
            )
        case Convert(number, precision, low, unit, n_trained, trained_error):
            floats = all(type(x) is float for x in (low, unit, trained_error))
            return type(number) is int and type(precision) is str and type(n_trained) is int and floats
        case PutKey(key, value):
            return type(key) is str and type(value) is bytes
        case DeleteKey(key):
            return type(key) is str
        case Group(members):
            return all(is_typed(member) and not isinstance(member, Group) for member in members)


def check_damaged(kind: int, payload: bytes) -> None:
    try:
        operation = decode(kind, payload)
    except CorruptLog:
        return
    assert is_typed(operation), operation


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: type(operation).__name__)
@pytest.mark.parametrize("as_view", [False, True])
def test_an_operation_comes_back_as_it_was(operation: Operation, as_view: bool) -> None:
    kind, payload = payload_of(operation)

    again = decode(kind, memoryview(payload) if as_view else payload)

    assert type(again) is type(operation)
    assert plain(again) == plain(operation)
    assert is_typed(again)


def test_types_have_the_numbers_of_the_format() -> None:
    """They are in files: a change here is a new format version."""
    expected = [CreateIndex, DropIndex, PutItems, DeleteItems, PutMetadata, PutKey, DeleteKey, Group]
    found = {encode(operation)[0]: type(operation) for operation in OPERATIONS}

    assert found == {**dict(enumerate(expected, 1)), 10: Configure}


def test_rows_of_any_layout_are_written_alike() -> None:
    operation = put(4, 6)
    turned = PutItems(7, operation.ids, np.asfortranarray(operation.vectors), operation.metadata)
    swapped = PutItems(7, operation.ids, operation.vectors.astype(">f4"), operation.metadata)

    assert payload_of(turned) == payload_of(swapped) == payload_of(operation)


def test_settings_of_a_newer_version_are_passed_over() -> None:
    payload = msgspec.msgpack.encode((3, {"vacuum_interval": 5, "not yet invented": [1]}))
    assert decode(10, payload) == Configure(3, {"vacuum_interval": 5})
    for bad in ({"vacuum_interval": "5m"}, {"refine_enabled": 1}, {"delete_threshold": None}, {1: 2}, []):
        with pytest.raises(CorruptLog):
            decode(10, msgspec.msgpack.encode((3, bad)))


def test_vectors_are_a_view_of_the_payload() -> None:
    kind, payload = payload_of(put())
    buffer = bytearray(payload)
    found = decode(kind, buffer)
    assert isinstance(found, PutItems)
    assert not found.vectors.flags.owndata


def test_an_older_configuration_takes_defaults_and_a_newer_one_is_read() -> None:
    assert IndexConfig.from_dict({"metric": "dot"}) == IndexConfig("dot")
    assert IndexConfig.from_dict({"m": 4, "not yet invented": [1]}) == IndexConfig(m=4)
    assert IndexConfig.from_dict(IndexConfig("dot", 1, 2, 3, 4).to_dict()) == IndexConfig("dot", 1, 2, 3, 4)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: type(operation).__name__)
def test_a_payload_cut_anywhere_is_corrupt(operation: Operation) -> None:
    kind, payload = payload_of(operation)
    for n in range(0, len(payload), max(1, len(payload) // 200)):
        with pytest.raises(CorruptLog, match=f"type {kind}"):
            decode(kind, payload[:n])
    with pytest.raises(CorruptLog):
        decode(kind, payload + b"\x00")


@pytest.mark.parametrize("kind", [-1, 0, 11, 65_535])
def test_an_unknown_type_is_corrupt(kind: int) -> None:
    with pytest.raises(CorruptLog, match="does not know"):
        decode(kind, b"\x90")


def test_a_group_in_a_group_is_corrupt() -> None:
    kind, payload = payload_of(Group((Group((DeleteKey("a"),)),)))
    with pytest.raises(CorruptLog):
        decode(kind, payload)


@pytest.mark.parametrize(
    "members",
    [
        (CreateIndex(1, "name", IndexConfig()),),
        (put(), DropIndex(7), PutKey("key", b"value")),
        (put(), Convert(7, "int8")),
        (Convert(7, "int8"), Convert(7, "float32")),
        (DeleteItems(7, ["a"]), Convert(7, "int8")),
    ],
)
def test_a_group_whose_memory_cannot_be_reserved_at_once_is_corrupt(members: tuple[Operation, ...]) -> None:
    """Memory is reserved for a whole group, before its first member is applied: rows would be put where there is none.

    Nobody writes such groups; fuzzing came upon an assertion about two conversions.
    """
    kind, payload = payload_of(Group(members))
    with pytest.raises(CorruptLog):
        decode(kind, payload)


@pytest.mark.parametrize(
    "head",
    [
        (1, 2, 3, False, ["a"], [b""]),
        (1, 1, 3, False, ["a"], []),
        (1, 1, -1, False, ["a"], [b""]),
        (1, 1, 0, False, ["a"], [b""]),
        (1, 1, 4, False, ["a"], [b""]),
        (1, -1, 3, False, ["a"], [b""]),
        (1, 0, 3, False, [], []),
        (1, 1, 3, 1, ["a"], [b""]),
        (1, 1, 3, False, [b"a"], [b""]),
        (1, 1, 3, False, ["a"], ["b"]),
        (1.5, 1, 3, False, ["a"], [b""]),
        ("1", 1, 3, False, ["a"], [b""]),
        (1, 1, 3, False, "a", [b""]),
        (1, 1, 3, False, ["a"]),
        {"number": 1},
    ],
)
def test_items_that_do_not_fit_together_are_corrupt(head: Any) -> None:
    data = msgspec.msgpack.encode(head)
    payload = len(data).to_bytes(4, "little") + data + bytes(-len(data) % 4) + np.ones(3, "<f4").tobytes()
    with pytest.raises(CorruptLog):
        decode(3, payload)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, len(OPERATIONS) - 1), st.data())
def test_damaged_payloads_are_corrupt_or_harmless(number: int, data: st.DataObject) -> None:
    kind, payload = payload_of(OPERATIONS[number])
    damaged = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        what = data.draw(st.sampled_from(["set", "cut", "insert", "repeat"]))
        at = data.draw(st.integers(0, max(0, min(len(damaged), 200) - 1)))
        if what == "set" and damaged:
            damaged[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del damaged[at : at + data.draw(st.integers(1, 8))]
        elif what == "insert":
            damaged[at:at] = data.draw(st.binary(max_size=6))
        else:
            damaged += damaged[at:]
    check_damaged(kind, bytes(damaged))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 11), st.binary(max_size=60))
def test_arbitrary_bytes_are_corrupt_or_harmless(kind: int, payload: bytes) -> None:
    check_damaged(kind, payload)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 11), JSON)
def test_well_formed_payloads_of_other_things_are_corrupt_or_harmless(kind: int, value: Any) -> None:
    check_damaged(kind, msgspec.msgpack.encode(value))
    check_damaged(8, msgspec.msgpack.encode([(kind, msgspec.msgpack.encode(value))]))
