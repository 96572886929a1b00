"""Metadata is checked at the door, comes back exactly, and is kept compactly."""

from __future__ import annotations

import enum
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sections import Sections

from kektordb._metadata import MetadataStore, decode_metadata, encode_many, encode_metadata, encoded_size
from kektordb.errors import CorruptSnapshot, MetadataError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5)
)
OBJECTS = st.dictionaries(st.text(max_size=20), VALUES, max_size=8)


def same(a: object, b: object) -> bool:
    """Tell whether two values are equal with their types, signs of zero and order of keys."""
    return repr(a) == repr(b)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@given(OBJECTS)
@settings(max_examples=150, deadline=None)
def test_every_json_object_comes_back_exactly(obj: dict[str, Any]) -> None:
    assert same(decode_metadata(encode_metadata(obj)), obj)


def test_limits_of_numbers_and_zero_signs_come_back() -> None:
    obj = {"i": [2**64 - 1, -(2**63), 0, 2**53 + 1], "f": [0.0, -0.0, 1.0, 5e-324, 1.7976931348623157e308], "b": [True]}

    assert same(decode_metadata(encode_metadata(obj)), obj)


def test_tuples_and_subclasses_are_stored_as_their_base() -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    class Size(enum.IntEnum):
        BIG = 3

    obj = {"t": (1, (2,)), "f": np.float64(0.5), "s": Colour.RED, "i": Size.BIG, Colour.RED: 1}

    assert same(decode_metadata(encode_metadata(obj)), {"t": [1, [2]], "f": 0.5, "s": "red", "i": 3, "red": 1})


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        ({"price": {"eur": float("nan")}}, ["'price.eur'", "finite", "nan"]),
        ({"price": {"eur": float("-inf")}}, ["'price.eur'", "-inf"]),
        ({"a": [1, {"b": 2**64}]}, ["'a[1].b'", "2^64", "18446744073709551616"]),
        ({"a": -(2**63) - 1}, ["'a'", "-9223372036854775809"]),
        ({"a": 1 << 100_000}, ["'a'", "bits"]),
        ({"a": b"x"}, ["'a'", "bytes b'x'"]),
        ({"a": {1, 2}}, ["'a'", "set"]),
        ({"a": np.int64(3)}, ["'a'", "got numpy.int64"]),
        ({"a": np.bool_(True)}, ["'a'", "expected null, bool", "got numpy.bool"]),
        ({"a": np.zeros(2)}, ["'a'", "ndarray"]),
        ({"a": object}, ["'a'", "type"]),
        ({1: 2}, ["object", "keys", "int 1"]),
        ({"a": {None: 2}}, ["'a'", "keys", "NoneType"]),
        ({"a": "\ud800"}, ["'a'", "surrogates"]),
        ({"a\ud800": 1}, ["surrogates"]),
        ({"a": {"\udfff": 1}}, ["surrogates"]),
        ([], ["dict", "list"]),
        (None, ["NoneType"]),
        ("{}", ["str"]),
    ],
)
def test_anything_else_is_refused_with_its_path(obj: object, words: list[str]) -> None:
    with pytest.raises(MetadataError) as error:
        encode_metadata(obj)

    for word in words:
        assert word in str(error.value)


def test_depth_is_limited_to_32_levels() -> None:
    assert same(decode_metadata(encode_metadata(nested(32))), nested(32))

    with pytest.raises(MetadataError, match="32 levels"):
        encode_metadata(nested(33))
    deep: list[Any] = []
    for _ in range(30):
        deep = [deep]
    encode_metadata({"a": deep})
    with pytest.raises(MetadataError, match="32 levels"):
        encode_metadata({"a": [deep]})


def test_object_that_contains_itself_is_refused() -> None:
    obj: dict[str, Any] = {}
    obj["self"] = [obj]

    with pytest.raises(MetadataError, match="32 levels"):
        encode_metadata(obj)


def test_size_is_limited_before_it_is_spent() -> None:
    bomb: list[Any] = ["x"]
    for _ in range(30):
        bomb = [bomb, bomb, bomb, bomb]

    encode_metadata({"a": "x" * (2**24 - 10)})
    for obj in [{"a": "x" * 2**24}, {"a": "é" * (2**23)}, {"a": bomb}]:
        with pytest.raises(MetadataError, match="16777216 bytes"):
            encode_metadata(obj)


@pytest.mark.parametrize("data", [b"", b"\x90", b"\x81\x01\x02", b"\x81", b"\x81\xa1\xff\x01", b"\x80\x80"])
def test_bytes_that_are_no_object_are_refused(data: bytes) -> None:
    with pytest.raises(MetadataError):
        decode_metadata(data)


@given(st.lists(st.tuples(st.integers(0, 9), OBJECTS), max_size=12))
@settings(max_examples=40, deadline=None)
def test_store_equals_a_dict(changes: list[tuple[int, dict[str, Any]]]) -> None:
    store, model = MetadataStore(), dict[int, dict[str, Any]]()

    for slot, obj in changes:
        store.reserve(slot + 1, len(encode_metadata(obj)))
        store.put(slot, obj)
        model[slot] = obj
    loaded = MetadataStore()
    loaded.load(Sections(store.freeze()), 10)

    for slot in range(12):
        assert same(store.get(slot), model.get(slot, {}))
        assert same(loaded.get(slot), model.get(slot, {}))


@given(st.lists(st.lists(OBJECTS | st.none() | st.sampled_from([{"a": 1, "b": "é"}, {"b": 1, "a": []}]), max_size=6)))
@settings(max_examples=60, deadline=None)
def test_many_rows_at_once_are_those_one_by_one(batches: list[list[dict[str, Any] | None]]) -> None:
    many, single, slot = MetadataStore(), MetadataStore(), 0

    for batch in batches:
        encoded = encode_many(batch, [""] * len(batch))
        assert encoded == [b"" if obj is None else encode_metadata(obj) for obj in batch]
        assert encoded_size(encoded) == (sum(map(len, encoded)), sum(obj is not None for obj in batch))
        many.put_many(slot, encoded)
        for obj in batch:
            if obj:
                single.put(slot, obj)
            slot += 1

    found, wanted = Sections(many.freeze()).data, Sections(single.freeze()).data
    assert found == wanted
    for number, obj in enumerate(obj for batch in batches for obj in batch):
        assert same(many.get(number), obj or {})


@pytest.mark.parametrize("n_keys", [1, 15, 16, 17, 63, 64, 65])
def test_rows_of_any_width_are_copied_right(n_keys: int) -> None:
    objects = [{f"k{i}" * (i % 40 + 1): [i, turn, "é"] for i in range(n_keys)} for turn in range(200)]
    store = MetadataStore()

    store.put_many(0, [encode_metadata(obj) for obj in objects])

    assert [store.get(slot) for slot in range(200)] == objects
    loaded = MetadataStore()
    loaded.load(Sections(store.freeze()), 200)
    loaded.put_many(0, [encode_metadata(obj) for obj in reversed(objects)])
    assert [loaded.get(slot) for slot in range(200)] == objects[::-1]


def test_rows_of_many_shapes_are_copied_right() -> None:
    objects = [{f"k{i % 700}": i, "x": "y"} for i in range(3000)]
    store = MetadataStore()

    for start in range(0, 3000, 500):
        store.put_many(start, [encode_metadata(obj) for obj in objects[start : start + 500]])

    assert [store.get(slot) for slot in range(3000)] == objects


@pytest.mark.parametrize(
    ("encoded", "obj"),
    [
        (b"\x81\xa1a\xca\x3f\x80\x00\x00", {"a": 1.0}),  # a float of 32 bits
        (b"\x82\xa1a\x01\xa1a\x02", {"a": 2}),  # a key twice
        (b"\xde\x00\x01\xd9\x01a\xcc\x05", {"a": 5}),  # longer than it must be
        (b"\xdf\x00\x00\x00\x01\xa1a\xdd\x00\x00\x00\x01\xd3\xff\xff\xff\xff\xff\xff\xff\xff", {"a": [-1]}),
        (b"\x80", {}),
    ],
)
def test_what_others_encode_is_understood(encoded: bytes, obj: dict[str, Any]) -> None:
    store = MetadataStore()

    store.put_many(3, [b"", encoded, encoded, encode_metadata(obj), b""])

    assert [store.get(slot) for slot in range(3, 8)] == [{}, obj, obj, obj, {}]


@pytest.mark.parametrize(
    "data", [b"\x90", b"\x81\x01\x02", b"\x81", b"\x81\xa1\xff\x01", b"\x80\x80", b"\x81\xa1a\xc1"]
)
def test_many_rows_of_which_one_is_no_object_are_refused(data: bytes) -> None:
    store = MetadataStore()

    with pytest.raises(MetadataError):
        store.put_many(0, [encode_metadata({"a": 1}), data])


@given(st.binary(max_size=12) | st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=400, deadline=None)
def test_text_that_is_not_utf8_is_refused(data: bytes) -> None:
    store = MetadataStore()
    store.put_many(0, [encode_metadata({"k": ""})])  # so that its form is known
    encoded = b"\x81\xa1k\xd9" + bytes([len(data)]) + data
    try:
        text = data.decode()
    except UnicodeDecodeError:
        with pytest.raises(MetadataError):
            store.put_many(1, [encoded])
    else:
        store.put_many(1, [encoded])
        assert store.get(1) == {"k": text}


def test_the_first_item_whose_metadata_does_not_fit_is_named() -> None:
    with pytest.raises(MetadataError, match=r"metadata of id 'b': metadata 'x': .*set"):
        encode_many([{"x": 1}, {"x": set()}, 5], ["a", "b", "c"])


def test_room_for_rows_is_enough_for_them() -> None:
    encoded = [encode_metadata({f"key{i % 3}": "v" * (i % 200)}) for i in range(500)]
    store = MetadataStore()
    store.put_many(0, encoded[:3])
    n_bytes, n_rows = encoded_size(encoded)
    assert not store.has_room(500, n_bytes, n_rows)

    store.reserve(500, n_bytes, n_rows)
    size = store.memory_bytes()

    assert store.has_room(500, n_bytes, n_rows)
    store.put_many(0, encoded)
    assert store.memory_bytes() == size


def test_raw_row_is_decoded_after_its_slot_changed() -> None:
    store = MetadataStore()
    store.put(0, {"a": 1})
    store.put(1, {"b": [1.5]})
    taken = [store.raw(slot) for slot in (1, 0, 7)]

    store.put(0, {"c": 3})
    store.drop(1)

    assert [store.decode(raw) for raw in taken] == [{"b": [1.5]}, {"a": 1}, {}]
    assert store.decode(store.raw(0)) == {"c": 3}
    assert store.get(1) == {}


def test_empty_metadata_takes_no_bytes() -> None:
    store = MetadataStore()
    store.reserve(1000, 0, 0)
    before = store.memory_bytes()

    for slot in range(1000):
        store.put(slot, {})

    assert store.memory_bytes() == before
    assert store.raw(3) == b""


def test_rows_with_many_keys_and_rows_beyond_the_last_shape_keep_their_keys() -> None:
    store = MetadataStore()
    wide = {f"key{i}": i for i in range(65)}
    store.put(0, wide)
    long = {"k" * 10_000: 1}
    store.put(1, long)

    for slot in range(2, 60_102):
        store.put(slot, {f"k{slot}": slot})
    loaded = MetadataStore()
    loaded.load(Sections(store.freeze()), 60_102)

    for each in (store, loaded):
        assert same(each.get(0), wide)
        assert same(each.get(1), long)
        assert [each.get(slot) for slot in (2, 300, 60_101)] == [{f"k{s}": s} for s in (2, 300, 60_101)]
    assert len(store.raw(60_101)) > len(store.raw(60_001)) - 2 + len("k60101")


def test_frozen_view_shows_the_moment_of_the_freeze() -> None:
    store = MetadataStore()
    for slot in range(5000):
        store.put(slot, {"text": "x" * 300, "slot": slot})
    sections = store.freeze()

    for slot in range(4500):
        store.drop(slot)
    store.put(4999, {"new": True})
    assert store.compact_if_wasteful()
    loaded = MetadataStore()
    loaded.load(Sections(sections), 5000)

    assert [loaded.get(slot)["slot"] for slot in range(5000)] == list(range(5000))
    assert store.get(4999) == {"new": True}
    assert store.get(4998)["slot"] == 4998


def test_reserving_gives_the_memory_of_replaced_rows_back() -> None:
    store = MetadataStore()
    obj = {"text": "x" * 1000}

    for turn in range(20_000):
        store.reserve(10, 1100)
        store.put(turn % 10, obj)

    assert store.memory_bytes() < 4 << 20


@pytest.mark.parametrize(
    "shapes",
    [b"\x90", b"\xff", b"\x91\x90", b"\x91\x92\xa1a\xa1a", b"\x91\x91\xa1\xff", msgspec.msgpack.encode([["a", "b"]])],
)
def test_shapes_that_do_not_fit_are_refused(shapes: bytes) -> None:
    store, target = MetadataStore(), MetadataStore()
    store.put(0, {"a": 1})
    target.put(0, {"mine": 1})
    sections = Sections(store.freeze())
    sections.data["metadata/shapes"] = shapes

    with pytest.raises(CorruptSnapshot):
        target.load(sections, 1)

    assert target.get(0) == {"mine": 1}


def test_damaged_rows_are_refused_or_decode() -> None:
    rng = random.Random(1)
    store = MetadataStore()
    for slot in range(20):
        store.put(slot, {"a": [slot, 2.5, None, "é", "plain"], "b": {"c": -slot, "d": 2**63}, "e": "x" * 40})
    store.put(20, {f"key{i}": i * 1000 for i in range(70)})
    clean = Sections(store.freeze()).data
    n_refused = 0

    for _ in range(3000):
        sections = Sections([])
        data = bytearray(clean["metadata/arena"])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        sections.data = clean | {"metadata/arena": bytes(data)}
        loaded = MetadataStore()
        try:
            loaded.load(sections, 21)
        except CorruptSnapshot:
            n_refused += 1
            continue
        for slot in range(21):
            encode_metadata(loaded.get(slot))

    assert n_refused > 500


def test_a_row_of_three_fields_takes_few_bytes() -> None:
    store = MetadataStore()

    for slot in range(100_000):
        store.put(slot, {"name": "red shoe", "price": 40, "category": "shoes"})

    assert store.memory_bytes() / 100_000 < 30
