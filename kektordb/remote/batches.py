"""How do many items go to a server? By column, in requests of a size that a server takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb.errors import KektorError, VectorError
from kektordb.progress import Progress, show
from kektordb.remote.transport import Transport

__all__ = ["put_all"]

# The server takes 50,000 items and 32 MB at a time. Larger requests than these are not faster: benchmarks/http.py.
MAX_ITEMS = 20_000
MAX_BYTES = 16 << 20
# The graph of so many items may take long to build.
TIMEOUT_S = 300.0
PATH = "/vector/actions/add-batch"

Rows = npt.NDArray[np.float32]


def put_all(
    transport: Transport,
    name: str,
    ids: list[str],
    rows: Rows,
    blobs: list[bytes],
    replace: bool,
    progress: Progress = False,
) -> None:
    """Add or replace items that were checked, one request after the other.

    Parameters
    ----------
    transport : Transport
    name : str
        Of the index.
    ids : list of str
    rows : float32 (n, dim)
    blobs : list of bytes
        Metadata in msgpack, empty for none.
    replace : bool

    Raises
    ------
    KektorError
        Of all items of one request none was stored; a note says how many came in with those before it.
    """
    slices = list(_slices(ids, rows, blobs))
    if len(slices) > 1:
        _check_finite(ids, rows)
    with show(progress, len(ids), "adding", "items") as step:
        for start, stop in slices:
            body = _body(name, ids[start:stop], rows[start:stop], blobs[start:stop], replace)
            try:
                transport.post(PATH, body, repeatable=replace, timeout=TIMEOUT_S)
            except KektorError as error:
                if start:
                    error.add_note(f"the first {start} of {len(ids)} items were stored before")
                raise
            if step is not None:
                step(stop)


def _body(name: str, ids: list[str], rows: Rows, blobs: list[bytes], replace: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"index_name": name, "ids": ids, "matrix": rows}
    if any(blobs):
        body["metadata"] = [msgspec.Raw(blob) if blob else None for blob in blobs]
    if replace:
        body["replace"] = True
    return body


def _slices(ids: Sequence[str], rows: Rows, blobs: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Give start and stop of each request."""
    sizes = np.fromiter(map(len, blobs), np.int64, len(blobs)) + np.fromiter(map(len, ids), np.int64, len(ids))
    ends = np.cumsum(sizes + 4 * rows.shape[1])
    start = 0
    while start < len(ids):
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + MAX_BYTES, side="right"))
        stop = min(max(stop, start + 1), start + MAX_ITEMS, len(ids))
        yield start, stop
        start = stop


def _check_finite(ids: Sequence[str], rows: Rows) -> None:
    """Refuse what a later request would be refused for, when earlier ones would be in already."""
    for start in range(0, len(rows), MAX_ITEMS):
        fine = np.isfinite(rows[start : start + MAX_ITEMS]).all(axis=1)
        if not fine.all():
            id = ids[start + int(fine.argmin())]
            raise VectorError(f"vector of id {id!r}: expected finite numbers, got NaN or Inf")
