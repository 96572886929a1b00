"""How do the vectors of an index come into another precision, while it is searched and written to?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kektordb._codes import sample_of
from kektordb._scale import Scale
from kektordb.collection import Collection
from kektordb.errors import IndexNotFound
from kektordb.operations import Convert, Operation
from kektordb.precision import Conversion, needs_scale, operation_of
from kektordb.upkeep.copying import SLICE_S, Pace

if TYPE_CHECKING:
    from kektordb.commit import Pending
    from kektordb.database import Database
    from kektordb.tasks import Control

__all__ = ["compress"]


def compress(database: Database, name: str, precision: str, control: Control) -> dict[str, Any]:
    """Store the vectors of an index in another precision.

    1. Choose a scale, where the precision needs one, and convert the rows that are there, in slices under the read
       lock.
    2. Under the commit lock: convert those that came in meanwhile, log the change with the scale, and exchange the
       vectors under the write lock, which is some pointers.
    3. If a put has changed the scale meanwhile, begin again.

    Parameters
    ----------
    database : Database
    name, precision : str
    control : Control
        Asked between slices whether to go on.

    Returns
    -------
    dict
        ``n_rows``, and ``bytes_before`` and ``bytes_after``: of the vectors.

    Raises
    ------
    IndexNotFound
    VectorError
        A number is too large for float16.
    """
    collection = database._live().collection(name)
    while True:
        control.message = f"storing vectors as {precision}"
        conversion, operation = _converted(collection, precision, control)
        before = _memory_bytes(collection)
        if _commit(database, name, collection, conversion, operation):
            return {
                "n_rows": collection.n_slots,
                "bytes_before": before,
                "bytes_after": _memory_bytes(collection),
            }


def _converted(collection: Collection, precision: str, control: Control) -> tuple[Conversion | None, Convert]:
    """Step 1. The number of the index is not known before step 2."""
    graph = collection.graph
    if graph is None:
        return None, Convert(0, precision)
    with collection.lock.read:
        n, vectors = len(graph), graph.vectors
        sample = sample_of(vectors, n) if n and needs_scale(vectors.metric, precision) else None
    scale = None if sample is None else Scale.train(vectors.metric, sample, n, True, vectors.scale)
    conversion = Conversion(graph, precision, scale)
    while conversion.done < len(graph) and not conversion.is_stale:
        first, n = conversion.done, len(graph)
        for _, stop in Pace(SLICE_S).slices(n - first):
            control.check()
            with collection.lock.read:
                if conversion.is_stale:
                    break
                conversion.advance(first + stop)
            control.report(first + stop, n)
    conversion.encode()
    return conversion, operation_of(0, precision, scale)


def _commit(
    database: Database, name: str, collection: Collection, conversion: Conversion | None, operation: Convert
) -> bool:
    """Step 2. Returns False when the rows are others by now."""

    def build(pending: Pending) -> Operation | None:
        pending.settle()
        number = pending.state.numbers.get(name)
        if number is None or pending.state.collections[number] is not collection:
            raise IndexNotFound(f"the index {name!r} was dropped")
        if collection.graph is not None and (conversion is None or conversion.is_stale):
            return None
        numbered = operation.of_index(number)
        collection.conversion = (numbered, conversion)
        return numbered

    try:
        return database._commit(build) is not None
    except BaseException:
        with database._commits.lock.alone:
            collection.conversion = None
        raise


def _memory_bytes(collection: Collection) -> int:
    graph = collection.graph
    return 0 if graph is None else graph.vectors.memory_bytes(len(graph))
