"""Every kernel of every set that this CPU runs, called directly, against NumPy.

The table of C functions lies in a capsule; ctypes opens it, in the order of ``Kernels`` in _distance.pxd.
"""

from __future__ import annotations

import ctypes
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kektordb import _distance

LEVELS = [level for level in ("v2", "v3", "v4") if level <= _distance.isa]
DIMS = [*range(1, 131), 255, 256, 257, 784, 1000, 4096]
LINE = 64

Keys = npt.NDArray[np.uint32]

POINTER, SIZE, FLOAT = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_float
MANY = ctypes.CFUNCTYPE(None, POINTER, POINTER, POINTER, SIZE, SIZE, POINTER)


class Table(ctypes.Structure):
    """``Kernels`` of _distance.pxd."""

    _fields_ = [
        *(
            (name, MANY)
            for name in ("f32_l2", "f32_ip", "f16_l2", "f16_ip", "u8_l2", "u8_ip", "u8f_l2", "u8f_ip", "u8s_ip")
        ),
        ("encode", ctypes.CFUNCTYPE(FLOAT, POINTER, SIZE, FLOAT, FLOAT, POINTER)),
        ("widen", ctypes.CFUNCTYPE(None, POINTER, SIZE, POINTER)),
    ]


@pytest.fixture(params=LEVELS)
def kernels(request: pytest.FixtureRequest) -> Table:
    capsule = import_module(f"kektordb._kern_{request.param}").table()
    open_capsule = ctypes.pythonapi.PyCapsule_GetPointer
    open_capsule.restype, open_capsule.argtypes = POINTER, [ctypes.py_object, ctypes.c_char_p]
    return Table.from_address(open_capsule(capsule, b"kektordb.kernels"))


def padded(values: npt.ArrayLike, dtype: Any) -> npt.NDArray[Any]:
    """Copy rows as they are stored: each in whole cache lines, aligned, with zeros at the end."""
    array = np.asarray(values, dtype)
    width = -(-array.shape[-1] * array.itemsize // LINE) * LINE // array.itemsize
    room = np.zeros(array[..., 0].size * width * array.itemsize + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    rows = room[start : room.size - LINE + start].view(dtype).reshape(*array.shape[:-1], width)
    rows[..., : array.shape[-1]] = array
    return rows


def keys_of(kernel: Any, query: npt.NDArray[Any], rows: npt.NDArray[Any], ids: npt.ArrayLike | None = None) -> Keys:
    """Call a kernel on padded rows; nothing is written beyond the last key."""
    slots = np.arange(len(rows), dtype=np.uint32) if ids is None else np.asarray(ids, np.uint32)
    keys = np.full(len(slots) + 8, 0xDEADBEEF, np.uint32)
    kernel(query.ctypes.data, rows.ctypes.data, slots.ctypes.data, len(slots), rows.shape[1], keys.ctypes.data)
    assert (keys[len(slots) :] == 0xDEADBEEF).all()
    return keys[: len(slots)]


def values_of(keys: Keys) -> npt.NDArray[np.float32]:
    """Undo the order-preserving image of a float."""
    bits = np.where(keys & 0x80000000, keys ^ np.uint32(0x80000000), ~keys)
    return bits.astype(np.uint32).view(np.float32)


# -------------------------------------------------------------------------------------------------- float32, float16


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_distances_of_floats_equal_numpy_in_every_dimension(kernels: Table, dtype: Any) -> None:
    name = "f32" if dtype is np.float32 else "f16"
    rng = np.random.default_rng(1)
    for dim in DIMS:
        rows = padded(rng.normal(size=(9, dim)), dtype)
        # A row of halves is padded to more components than one of floats.
        query = padded(np.pad(rng.normal(size=dim), (0, rows.shape[1] - dim)), np.float32)
        x, q = rows.astype(np.float64), query.astype(np.float64)

        squares = values_of(keys_of(getattr(kernels, f"{name}_l2"), query, rows))
        products = values_of(keys_of(getattr(kernels, f"{name}_ip"), query, rows))

        np.testing.assert_allclose(squares, ((x - q) ** 2).sum(axis=1), rtol=1e-5, err_msg=str(dim))
        assert (np.abs(products + x @ q) <= 1e-6 * (np.abs(x) @ np.abs(q))).all(), dim


@pytest.mark.parametrize("name", ["f32_l2", "f32_ip", "f16_l2", "f16_ip", "u8_l2", "u8_ip"])
@pytest.mark.parametrize("dim", [5, 100, 300])
def test_any_number_of_rows_in_any_order_has_the_keys_of_one_at_a_time(kernels: Table, name: str, dim: int) -> None:
    kernel, rng = getattr(kernels, name), np.random.default_rng(dim)
    if name.startswith("u8"):
        rows = padded(rng.integers(256, size=(300, dim)), np.uint8)
        query = padded(rng.integers(256, size=dim), np.uint8)
    else:
        rows = padded(rng.integers(-9, 9, size=(300, dim)), np.float32 if name.startswith("f32") else np.float16)
        query = padded(rng.integers(-9, 9, size=rows.shape[1]), np.float32)
    alone = np.concatenate([keys_of(kernel, query, rows, [i]) for i in range(300)])

    for n in [*range(10), 31, 32, 33, 63, 64, 65, 255, 256, 257]:
        ids = rng.integers(300, size=n)
        assert keys_of(kernel, query, rows, ids).tolist() == alone[ids].tolist()


@pytest.mark.parametrize("name", ["f32_l2", "f32_ip"])
def test_keys_of_floats_have_the_order_of_the_distances(kernels: Table, name: str) -> None:
    values = [0.0, -0.0, 1e-38, -1e-38, 1e-45, -1e-45, 1e-19, -1e-19, 1.0, -1.0, 3e18, -3e18]
    rows, query = padded(np.array(values)[:, None], np.float32), padded([1.0], np.float32)
    x = rows[:, :1].astype(np.float64)[:, 0]
    true = ((x - 1) ** 2 if name == "f32_l2" else -x).astype(np.float32)

    keys = keys_of(getattr(kernels, name), query, rows)

    assert values_of(keys).tolist() == true.tolist()
    assert [(a < b) for a in keys for b in keys] == [(a < b) for a in true for b in true]
    assert [(a == b) for a in keys for b in keys] == [(a == b) for a in true for b in true]


def test_every_finite_half_becomes_its_float(kernels: Table) -> None:
    halves = np.arange(65536, dtype=np.uint16)
    halves = halves[np.isfinite(halves.view(np.float16))]
    floats = np.empty(len(halves), np.float32)

    kernels.widen(halves.ctypes.data, len(halves), floats.ctypes.data)

    assert floats.view(np.uint32).tolist() == halves.view(np.float16).astype(np.float32).view(np.uint32).tolist()


@pytest.mark.parametrize("name", ["f16_l2", "f16_ip"])
def test_the_smallest_and_largest_halves_count(kernels: Table, name: str) -> None:
    values = np.array([6e-8, -6e-8, 6.1e-5, 65504, -65504, 0, 1])
    rows, query = padded(values[:, None], np.float16), padded([2.0] + [0.0] * 31, np.float32)
    x = values.astype(np.float16).astype(np.float64)

    found = values_of(keys_of(getattr(kernels, name), query, rows))

    np.testing.assert_allclose(found, (x - 2) ** 2 if name == "f16_l2" else -2 * x, rtol=1e-6)


# -------------------------------------------------------------------------------------------------------------- codes


def test_distances_of_codes_are_exact_in_every_dimension(kernels: Table) -> None:
    rng = np.random.default_rng(2)
    for dim in [*DIMS, 65_536]:
        rows, query = padded(rng.integers(256, size=(9, dim)), np.uint8), padded(rng.integers(256, size=dim), np.uint8)
        x, q = rows.astype(np.int64), query.astype(np.int64)

        assert keys_of(kernels.u8_l2, query, rows).tolist() == ((x - q) ** 2).sum(axis=1).tolist(), dim
        assert keys_of(kernels.u8_ip, query, rows).tolist() == (2**31 - (x - 128) @ (q - 128)).tolist(), dim


@pytest.mark.parametrize("dim", [1, 64, 4096, 65_536])
@pytest.mark.parametrize("corner", [0, 127, 128, 255])
def test_the_largest_distances_of_codes_do_not_overflow(kernels: Table, dim: int, corner: int) -> None:
    rows, query = padded([[0] * dim, [255] * dim], np.uint8), padded([corner] * dim, np.uint8)

    assert keys_of(kernels.u8_l2, query, rows).tolist() == [dim * corner**2, dim * (255 - corner) ** 2]
    meant, padding = corner - 128, -dim % LINE
    expected = [2**31 - dim * meant * end - padding * 128**2 for end in (-128, 127)]
    assert keys_of(kernels.u8_ip, query, rows).tolist() == expected


def encoded(kernels: Table, row: npt.NDArray[np.float32], low: float, per_unit: float) -> tuple[Any, float]:
    codes = np.full(len(row) + 8, 77, np.uint8)
    error = kernels.encode(row.ctypes.data, len(row), low, per_unit, codes.ctypes.data)
    assert (codes[len(row) :] == 77).all()
    return codes[: len(row)], error


def test_codes_are_rounded_and_clipped_and_their_error_is_known(kernels: Table) -> None:
    rng = np.random.default_rng(3)
    low, per_unit = np.float32(-3.3), np.float32(255 / 6.6)
    for dim in DIMS:
        row = rng.normal(scale=2, size=dim).astype(np.float32)
        x = (row.astype(np.float64) - low) * per_unit

        codes, error = encoded(kernels, row, low, per_unit)

        # Exact ties may go either way.
        assert (np.abs(codes - np.clip(x, 0, 255)) <= 0.5 + 1e-4).all(), dim
        assert error == pytest.approx(((x - codes) ** 2).sum(), rel=1e-4, abs=1e-3), dim


def test_whole_units_are_encoded_without_error(kernels: Table) -> None:
    row = np.arange(256, dtype=np.float32) * np.float32(0.25) - 7

    codes, error = encoded(kernels, row, -7, 4)

    assert codes.tolist() == list(range(256))
    assert error == 0


@pytest.mark.parametrize("value", [1e3, 1e10, 8e18, 1e30, 3e38])
def test_what_lies_far_outside_is_clipped_at_either_end(kernels: Table, value: float) -> None:
    row = np.array([value, -value, 0, value], np.float32)

    codes, error = encoded(kernels, row, -1, 127.5)

    assert codes.tolist() == [255, 0, 128, 255]
    assert error > 1e9


@pytest.mark.parametrize("offset", range(0, 16, 4))
def test_rows_at_any_address_are_encoded(kernels: Table, offset: int) -> None:
    room = np.random.default_rng(1).normal(size=120).astype(np.float32)
    shifted = room.view(np.uint8)[offset : offset + 400].view(np.float32)

    codes, _ = encoded(kernels, shifted, -4, 31)

    assert codes.tolist() == encoded(kernels, shifted.copy(), -4, 31)[0].tolist()


# ------------------------------------------------------------------------------------------ what codes stand for


class Tail(ctypes.Structure):
    """``QueryTail`` of _distance.pxd."""

    _fields_ = [("scale", FLOAT), ("origin", ctypes.c_uint32), ("factors", POINTER)]


def with_tail(query: npt.NDArray[Any], scale: float, origin: int, factors: npt.NDArray[np.float32]) -> Any:
    """Copy a padded query to where a tail fits behind it."""
    room = np.zeros(query.nbytes + 2 * LINE, np.uint8)
    start = -room.ctypes.data % LINE
    room[start : start + query.nbytes] = query.view(np.uint8)
    tail = Tail.from_address(room.ctypes.data + start + query.nbytes)
    tail.scale, tail.origin, tail.factors = scale, origin, factors.ctypes.data
    return room[start:]


def test_distances_to_what_codes_stand_for_equal_numpy_in_every_dimension(kernels: Table) -> None:
    rng = np.random.default_rng(4)
    factors = rng.uniform(0.5, 2, size=9).astype(np.float32)
    factors[3] = 0
    for dim in DIMS:
        codes = rng.integers(256, size=(9, dim))
        rows = padded(codes, np.uint8)
        query = padded(np.pad(rng.normal(size=dim), (0, rows.shape[1] - dim)), np.float32)
        asked, q = with_tail(query, 0.03, 0, factors), query[:dim].astype(np.float64)

        squares = values_of(keys_of(kernels.u8f_l2, asked, rows))
        products = values_of(keys_of(kernels.u8f_ip, asked, rows))

        np.testing.assert_allclose(
            squares, ((q - np.float64(np.float32(0.03)) * codes) ** 2).sum(axis=1), rtol=1e-5, err_msg=str(dim)
        )
        sizes = factors * (np.abs(codes - 128.0) @ np.abs(q))
        assert (np.abs(products + factors * ((codes - 128.0) @ q)) <= 1e-6 * sizes).all(), dim


def test_keys_of_codes_with_factors_are_exact_products_in_every_dimension(kernels: Table) -> None:
    rng = np.random.default_rng(5)
    factors = (2.0 ** rng.integers(-3, 3, size=9)).astype(np.float32)
    factors[3] = 0
    for dim in [*DIMS, 65_536]:
        rows = padded(rng.integers(256, size=(9, dim)), np.uint8)
        rows[:, dim:] = 128
        query = padded(rng.integers(256, size=dim), np.uint8)
        query[dim:] = 128
        totals = (rows.astype(np.int64) - 128) @ (query.astype(np.int64) - 128)

        keys = keys_of(kernels.u8s_ip, with_tail(query, 0.5, 2**31, factors), rows)

        wanted = 2**31 - np.trunc(0.5 * factors * totals.astype(np.float32)).astype(np.int64)
        assert keys.tolist() == wanted.tolist(), dim


def test_keys_beyond_either_end_are_those_of_the_ends(kernels: Table) -> None:
    rows, query = padded([[255] * 64, [1] * 64], np.uint8), padded([255] * 64, np.uint8)
    factors = np.ones(2, np.float32)

    keys = keys_of(kernels.u8s_ip, with_tail(query, 1e4, 2**31, factors), rows)

    assert keys.tolist() == [128, 2**32 - 128]


@pytest.mark.parametrize("name", ["u8f_l2", "u8f_ip", "u8s_ip"])
def test_any_number_of_rows_of_codes_has_the_keys_of_one_at_a_time(kernels: Table, name: str) -> None:
    kernel, rng = getattr(kernels, name), np.random.default_rng(6)
    rows = padded(rng.integers(256, size=(300, 100)), np.uint8)
    query = rng.integers(256, size=128)
    factors = rng.uniform(size=300).astype(np.float32)
    asked = with_tail(padded(query, np.uint8 if name == "u8s_ip" else np.float32), 0.5, 2**31, factors)
    alone = np.concatenate([keys_of(kernel, asked, rows, [i]) for i in range(300)])

    for n in [*range(10), 31, 33, 64, 257]:
        ids = rng.integers(300, size=n)
        found = keys_of(kernel, asked, rows, ids)
        if name == "u8s_ip":
            assert found.tolist() == alone[ids].tolist()
        else:
            np.testing.assert_allclose(values_of(found), values_of(alone[ids]), rtol=1e-5, atol=1e-3)
