"""Bitmaps behave as Python sets of slots do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kektordb._bitmap import Bitmap

SIZES = st.sampled_from([0, 1, 63, 64, 65, 128, 200, 4097])


@st.composite
def sets(draw: st.DrawFn) -> tuple[set[int], int]:
    size = draw(SIZES)
    if size == 0:
        return set(), 0
    return draw(st.sets(st.integers(0, size - 1), max_size=40)), size


def test_set_clear_and_membership() -> None:
    bitmap = Bitmap(130)

    bitmap.set(0)
    bitmap.set(129)
    bitmap.set(64)
    bitmap.clear(64)

    assert 0 in bitmap
    assert 129 in bitmap
    assert 64 not in bitmap
    assert 130 not in bitmap
    assert -1 not in bitmap
    assert bitmap.count() == 2


@pytest.mark.parametrize("slot", [-1, 10, 64, 1 << 40])
def test_slots_beyond_the_end_are_refused(slot: int) -> None:
    bitmap = Bitmap(10)

    with pytest.raises(IndexError, match="10 bits"):
        bitmap.set(slot)
    with pytest.raises(IndexError, match="10 bits"):
        bitmap.clear(slot)
    with pytest.raises(IndexError):
        Bitmap.from_slots([slot], 10)


@given(sets(), st.integers(-1, 4100), st.integers(-1, 4100))
def test_a_range_is_set_whole_or_refused(given_set: tuple[set[int], int], start: int, stop: int) -> None:
    slots, n = given_set
    bitmap = Bitmap.from_slots(slots, n)

    if 0 <= start <= stop <= n:
        bitmap.set_range(start, stop)
        assert set(bitmap.slots()) == slots | set(range(start, stop))
    else:
        with pytest.raises(IndexError, match=f"{n} bits"):
            bitmap.set_range(start, stop)
        assert set(bitmap.slots()) == slots


@given(sets(), sets())
def test_operations_equal_those_of_sets(left: tuple[set[int], int], right: tuple[set[int], int]) -> None:
    (a, n), (b, m) = left, right
    other = Bitmap.from_slots(b, m)

    for name, wanted in [("iand", a & b), ("ior", {s for s in a | b if s < n}), ("iandnot", a - b)]:
        bitmap = Bitmap.from_slots(a, n)
        getattr(bitmap, name)(other)
        assert set(bitmap.slots()) == wanted
        assert bitmap.n_bits == n
    assert Bitmap.from_slots(a, n).count_and(other) == len(a & b)
    assert set(other.slots()) == b


@given(sets())
def test_invert_twice_is_nothing_and_once_the_complement(pair: tuple[set[int], int]) -> None:
    slots, n = pair
    bitmap = Bitmap.from_slots(slots, n)

    bitmap.invert()

    assert list(bitmap.slots()) == sorted(set(range(n)) - slots)
    assert bitmap.count() == n - len(slots)
    bitmap.invert()
    assert list(bitmap.slots()) == sorted(slots)


@given(sets(), st.integers(0, 5000))
def test_growing_adds_zero_bits_only(pair: tuple[set[int], int], more: int) -> None:
    slots, n = pair
    bitmap = Bitmap.from_slots(slots, n)
    bitmap.invert()
    wanted = set(bitmap.slots())

    bitmap.resize(n + more)

    assert set(bitmap.slots()) == wanted
    assert bitmap.n_bits == n + more


def test_growing_slot_by_slot_does_not_copy_each_time() -> None:
    bitmap = Bitmap(0)
    sizes = set()
    for n in range(1, 100_000, 64):
        bitmap.resize(n)
        sizes.add(bitmap.memory_bytes())

    assert len(sizes) < 30


def test_shrinking_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot shrink"):
        Bitmap(65).resize(64)


@given(sets())
def test_bytes_round_trip(pair: tuple[set[int], int]) -> None:
    slots, n = pair
    bitmap = Bitmap.from_slots(slots, n)

    data = bitmap.to_bytes()

    assert len(data) == (n + 63) // 64 * 8
    assert Bitmap.from_bytes(data, n) == bitmap
    assert int.from_bytes(data, "little") == sum(1 << s for s in slots)


def test_bytes_of_another_length_are_refused_and_excess_bits_dropped() -> None:
    with pytest.raises(ValueError, match="need 16 bytes, got 8"):
        Bitmap.from_bytes(bytes(8), 65)

    assert Bitmap.from_bytes(b"\xff" * 8, 3).count() == 3


def test_slots_reach_numpy_without_a_copy() -> None:
    bitmap = Bitmap(1000, fill=True)

    slots = np.asarray(bitmap.slots())

    assert slots.dtype == np.uint32
    assert np.array_equal(slots, np.arange(1000))


def test_a_copy_is_independent() -> None:
    bitmap = Bitmap.from_slots([3], 10)
    twin = bitmap.copy()

    twin.set(4)

    assert 4 not in bitmap
    assert bitmap != twin
    assert bitmap != "bitmap"
