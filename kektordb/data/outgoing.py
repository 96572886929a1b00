"""How do the items of an index come out as a table? In batches of columns: Arrow, pandas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb.data.doors import arrow, pandas
from kektordb.data.parts import rows_at_once
from kektordb.errors import ConfigError

if TYPE_CHECKING:
    from kektordb.operations import IndexConfig
    from kektordb.query import Filter
    from kektordb.results import Item

__all__ = ["Exported", "Gives", "Rows", "arrow_batch", "arrow_reader", "arrow_schema", "data_frame", "rows_of"]

# Keys that cannot be columns of their own.
TAKEN = ("id", "vector", "metadata")


class Gives(Protocol):
    """What items are taken from."""

    @property
    def dim(self) -> int | None:
        """Components of a vector."""
        ...

    def ids(self, filter: Filter | None = None, params: Mapping[str, Any] | None = None) -> list[str]:
        """Return the ids of all items, or of those that match."""
        ...

    def get_many(self, ids: Sequence[str]) -> list[Item | None]:
        """Return the items of these ids."""
        ...


class Exported(Gives, Protocol):
    """What is written to files."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> IndexConfig: ...


class Rows(NamedTuple):
    """Some items.

    Attributes
    ----------
    ids : list of str
    vectors : float32 (n, dim)
    metadata : list of dict
    """

    ids: list[str]
    vectors: npt.NDArray[np.float32]
    metadata: list[dict[str, Any]]


def rows_of(index: Gives, ids: Sequence[str], size: int | None = None) -> Iterator[Rows]:
    """Give items in parts; one that was deleted meanwhile is left out."""
    size = size or rows_at_once(index.dim or 0)
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        items = [item for item in index.get_many(some) if item is not None]
        if items:
            vectors = np.array([item.vector for item in items], np.float32)
            yield Rows([item.id for item in items], vectors, [item.metadata for item in items])


# --------------------------------------------------------------------------------------------------------------- Arrow


def arrow_reader(index: Gives, ids: list[str], columns: Sequence[str], batch_size: int | None) -> Any:
    """Return a pyarrow.RecordBatchReader of these items. Raises ConfigError.

    Columns are ``id``, ``vector`` (lists of fixed size, float32), the `columns`, and ``metadata``, the rest as JSON.
    """
    pa = arrow()
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise ConfigError(f"expected columns to be a sequence of names, got {columns!r:.80}")
    names = list(dict.fromkeys(columns))
    if set(names) & set(TAKEN):
        raise ConfigError(f"expected columns other than {', '.join(TAKEN)}, got {names!r:.200}")
    kinds = _kinds_of(index, ids, names) if names else {}
    schema = arrow_schema(index.dim, kinds)
    batches = (arrow_batch(rows, schema) for rows in rows_of(index, ids, batch_size))
    return pa.RecordBatchReader.from_batches(schema, batches)


def arrow_schema(dim: int | None, kinds: Mapping[str, Any] | None = None) -> Any:
    """Return the schema of items; `kinds` are the types of keys that are columns of their own."""
    pa = arrow()
    vector = pa.list_(pa.float32(), dim) if dim else pa.list_(pa.float32())
    return pa.schema([("id", pa.string()), ("vector", vector), *(kinds or {}).items(), ("metadata", pa.string())])


def arrow_batch(rows: Rows, schema: Any) -> Any:
    """Return items as a pyarrow.RecordBatch; vectors are not copied."""
    pa = arrow()
    own = set(schema.names) - set(TAKEN)
    flat = pa.array(rows.vectors.reshape(-1))
    columns = {
        "id": pa.array(rows.ids, pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(flat, rows.vectors.shape[1]),
        "metadata": pa.array([_json(of, own) for of in rows.metadata], pa.string()),
    }
    for name in own:
        columns[name] = pa.array([of.get(name) for of in rows.metadata], schema.field(name).type)
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _json(metadata: dict[str, Any], without: Set[str]) -> str:
    rest = {key: value for key, value in metadata.items() if key not in without} if without else metadata
    return msgspec.json.encode(rest).decode()


def _kinds_of(index: Gives, ids: list[str], names: list[str]) -> dict[str, Any]:
    """Find the types of metadata: a look at all of it, since a stream says them first."""
    pa = arrow()
    kinds = {name: pa.null() for name in names}
    for rows in rows_of(index, ids):
        for name in names:
            values = [of.get(name) for of in rows.metadata]
            try:
                kinds[name] = _common(kinds[name], pa.array(values).type)
            except (pa.ArrowException, ValueError, OverflowError) as error:
                raise ConfigError(f"expected values of one type in column {name!r:.80}: {error}") from None
    return kinds


def _common(one: Any, other: Any) -> Any:
    pa = arrow()
    schemas = [pa.schema([("value", kind)]) for kind in (one, other)]
    return pa.unify_schemas(schemas, promote_options="permissive").field("value").type


# -------------------------------------------------------------------------------------------------------------- pandas


def data_frame(index: Gives, ids: list[str]) -> Any:
    """Return a pandas.DataFrame of these items: ``id``, ``vector`` and a column for each key of the metadata.

    Keys that cannot be columns (``id``, ``vector``, ``metadata``) stay in a column ``metadata`` of dicts.
    """
    pd = pandas()
    found: list[str] = []
    vectors: list[npt.NDArray[np.float32]] = []
    metadata: list[dict[str, Any]] = []
    for rows in rows_of(index, ids):
        found += rows.ids
        vectors += list(rows.vectors)
        metadata += rows.metadata
    names = dict.fromkeys(key for of in metadata for key in of)
    columns = {"id": pd.Series(found, dtype="str"), "vector": pd.Series(vectors, dtype="object")}
    for name in names:
        if name not in TAKEN:
            columns[name] = _series(pd, [of.get(name) for of in metadata])
    if not names.keys().isdisjoint(TAKEN):
        rest = [{key: value for key, value in of.items() if key in TAKEN} or None for of in metadata]
        columns["metadata"] = pd.Series(rest, dtype="object")
    return pd.DataFrame(columns)


def _series(pd: Any, values: list[Any]) -> Any:
    """Return values as a column that changes none: whole numbers beside gaps would become others."""
    kinds = {type(value) for value in values}
    kind = kinds.pop() if len(kinds) == 1 else object
    if kinds == {float, type(None)}:
        kind = float
    if kind is int and not all(-(2**63) <= value < 2**63 for value in values):
        kind = object
    dtypes = {bool: "bool", int: "int64", float: "float64", str: "str"}
    return pd.Series(values, dtype=dtypes.get(kind, "object"))
