"""What is some of the items that come in, and how many are taken at once?"""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kektordb.errors import IdError, VectorError

__all__ = ["Part", "id_of", "matrix", "plain", "rows_at_once"]

# What a part is at most: one that is read and one that is stored are in memory at a time. Larger ones are not faster
# (benchmarks/arrow.py).
MAX_ROWS = 8192
MAX_BYTES = 32 << 20


class Part(NamedTuple):
    """Some items.

    Attributes
    ----------
    ids : list of str
    vectors : (n, dim)
        Of any type of number.
    metadata : list of dict or None
    """

    ids: list[str]
    vectors: npt.NDArray[Any]
    metadata: list[dict[str, Any] | None]


def rows_at_once(dim: int) -> int:
    """Return how many items of `dim` components are taken at once."""
    return max(1, min(MAX_ROWS, MAX_BYTES // (4 * max(dim, 1))))


def id_of(value: object, where: str) -> str:
    """Return an id that came as a string or an integer. Raises IdError, which says where."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise IdError(f"{where}: expected an id that is a string or an integer, got {value!r:.80}")
    return str(value)


def plain(value: Any) -> Any:
    """Return a value of a table as metadata has it: no null in structs, arrays as lists, times as ISO 8601."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value


def matrix(vectors: list[Any], ids: list[str], where: str) -> npt.NDArray[np.float32]:
    """Return vectors that came one by one as (n, dim). Raises VectorError, which says where."""
    try:
        return np.array(vectors, np.float32)
    except (ValueError, TypeError):
        for id, vector in zip(ids, vectors, strict=True):
            if not isinstance(vector, list | np.ndarray | tuple):
                raise VectorError(
                    f"{where}: expected the vector of id {id!r} as a list of numbers, got {vector!r:.80}"
                ) from None
        sizes = {np.size(vector) for vector in vectors}
        what = "no lists of numbers" if len(sizes) == 1 else f"of different lengths ({sorted(sizes)})"
        raise VectorError(f"{where}: the vectors of ids {ids[0]!r} to {ids[-1]!r} are {what}") from None
