"""How do bodies become structs, and answers bytes? JSON and msgpack; vectors as numbers, base64 or raw float32."""

from __future__ import annotations

import binascii
import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb.server.errors import HttpError

__all__ = ["JSON", "MSGPACK", "Matrix", "Vector", "check_depth", "decode_hook", "encode", "exact_floats"]

JSON = b"application/json"
MSGPACK = b"application/msgpack"

# In a struct: decoded by `decode_hook` from a list of numbers, base64, or bytes.
if TYPE_CHECKING:
    Vector = npt.NDArray[np.float32]
    Matrix = npt.NDArray[np.float32]
else:
    Vector = np.ndarray
    Matrix = np.ndarray

_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_ALIKE = bytes.maketrans(b"{}", b"[]")
_STRING = re.compile(rb'"[^"]*"')
_FLOAT32 = np.dtype("<f4")
# Powers of ten up to here are exact as float64.
MAX_EXACT_POWER = 22


@lru_cache(64)
def _packer(n: int) -> struct.Struct:
    # Takes half the time of `array`, a third of that of NumPy.
    return struct.Struct(f"<{n}f")


def decode_hook(_: object, value: object) -> npt.NDArray[np.float32]:
    """Return the vector that a list of numbers, a base64 string, or bytes stand for: little-endian float32."""
    if isinstance(value, list):
        try:
            row = np.frombuffer(_packer(len(value)).pack(*value), _FLOAT32)
            # True is packed as 1. To look at the types of all would take longer than all the rest.
            if ((row == 0) | (row == 1)).any() and bool in map(type, value):
                raise TypeError
            return row
        except (TypeError, struct.error, OverflowError):
            raise ValueError("Expected numbers in a vector, which float32 can hold") from None
    if isinstance(value, str):
        try:
            value = binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
        except (ValueError, UnicodeEncodeError):
            raise ValueError("Expected a vector as numbers or base64") from None
    if not isinstance(value, bytes | bytearray | memoryview) or len(value) % 4:
        raise ValueError("Expected a vector as numbers, or as whole float32")
    return np.frombuffer(value, _FLOAT32).astype(np.float32, copy=False)


def check_depth(body: bytes | bytearray, limit: int) -> None:
    """Refuse JSON that nests deeper than `limit`; what is no JSON may pass.

    Most bodies have fewer brackets than that. For others all but the brackets goes, and then the innermost pairs, level
    by level: some passes over bytes, none over objects.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return
    rest = bytes(body)
    if b"\\" in rest:
        rest = rest.replace(b"\\\\", b"").replace(b'\\"', b"")
    rest = _STRING.sub(b"", rest.translate(_ALIKE, _NO_BRACKETS))
    for _ in range(limit):
        n = len(rest)
        rest = rest.replace(b"[]", b"")
        if len(rest) == n:
            break
    if rest:
        raise HttpError(400, f"invalid JSON: nested deeper than {limit} levels, or brackets without their pair")


def exact_floats(values: npt.NDArray[np.floating]) -> list[Any]:
    """Return floats whose shortest decimals are those of `values` as float32.

    A float64 made of a float32 has some 17 digits, 0.10000000149011612 for 0.1. Six digits, or seven, eight or nine,
    are enough to tell a float32 from its neighbours; the float64 nearest to that decimal prints as it.
    """
    if values.dtype != np.float32:
        return list(values.tolist())
    flat = values.ravel()
    exact = flat.astype(np.float64)
    size = np.abs(exact)
    # Powers of two have a nearer neighbour below than above, and very small or large numbers powers that are not exact.
    mantissas = flat.view(np.uint32) & np.uint32(0x7FFFFF)
    odd = np.flatnonzero(((mantissas == 0) & (size > 0)) | ((size > 0) & ((size < 1e-12) | (size >= 1e15))))
    open_ = np.flatnonzero(size > 0)
    digits = np.zeros(len(flat), np.int64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        digits[open_] = np.floor(np.log10(size[open_])).astype(np.int64)
        for wanted in (6, 7, 8, 9):
            power = np.clip(wanted - 1 - digits[open_], -MAX_EXACT_POWER, MAX_EXACT_POWER)
            scale = np.power(10.0, np.abs(power))
            here = exact[open_]
            tried = np.where(power >= 0, np.rint(here * scale) / scale, np.rint(here / scale) * scale)
            fits = tried.astype(np.float32) == flat[open_]
            exact[open_[fits]] = tried[fits]
            open_ = open_[~fits]
            if not len(open_):
                break
    for i in (*odd.tolist(), *open_.tolist()):
        exact[i] = float(str(flat[i]))
    numbers: list[Any] = exact.reshape(values.shape).tolist()  # type: ignore[assignment]
    return numbers


def _numbers(value: object) -> object:
    if isinstance(value, np.ndarray):
        return exact_floats(value)
    raise NotImplementedError(f"no JSON form of {type(value).__name__}")


def _base64(value: object) -> object:
    if isinstance(value, np.ndarray):
        return binascii.b2a_base64(value.astype(_FLOAT32, copy=False).tobytes(), newline=False).decode()
    raise NotImplementedError(f"no JSON form of {type(value).__name__}")


def _bytes(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.astype(_FLOAT32, copy=False).tobytes()
    raise NotImplementedError(f"no msgpack form of {type(value).__name__}")


# "deterministic": keys of metadata come out sorted, those of structs as they are declared.
_WITH_NUMBERS = msgspec.json.Encoder(enc_hook=_numbers, order="deterministic")
_WITH_BASE64 = msgspec.json.Encoder(enc_hook=_base64, order="deterministic")
_AS_MSGPACK = msgspec.msgpack.Encoder(enc_hook=_bytes)


def encode(value: object, as_msgpack: bool, as_base64: bool = False) -> bytes:
    """Return an answer as bytes: msgpack with vectors as float32, or a line of JSON."""
    if as_msgpack:
        return _AS_MSGPACK.encode(value)
    line = (_WITH_BASE64 if as_base64 else _WITH_NUMBERS).encode_lines((value,))
    # What would end a script element, if the answer stood in one. They occur in strings alone.
    for character, escaped in ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026")):
        if character in line:
            line = line.replace(character, escaped)
    return line
