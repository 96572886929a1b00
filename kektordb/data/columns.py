"""What do the columns of an Arrow table hold? Ids, vectors, metadata; vectors are not copied where that can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from kektordb.data.doors import arrow
from kektordb.data.parts import Part, id_of, plain
from kektordb.errors import ConfigError, IdError, MetadataError, VectorError

__all__ = ["Columns", "choose", "dim_of", "part_of", "vectors_of"]

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class Columns(NamedTuple):
    """Which columns hold what.

    Attributes
    ----------
    id, vector : str
    metadata : str or None
        A column of objects: JSON text, structs or maps.
    keys : tuple of str
        Columns that are one key of the metadata each.
    """

    id: str
    vector: str
    metadata: str | None
    keys: tuple[str, ...]


def choose(
    names: Sequence[str],
    id: str = "id",
    vector: str = "vector",
    metadata: str | None = "metadata",
    columns: Sequence[str] | None = None,
) -> Columns:
    """Choose among the columns of a table; `columns` are those that become keys, all others by default.

    Raises ConfigError when one is not there, or there twice.
    """
    if isinstance(columns, str):
        raise ConfigError(f"expected columns to be a sequence of names, got {columns!r:.80}")
    own = metadata if metadata in names else None
    keys = [name for name in names if name not in (id, vector, own)] if columns is None else list(columns)
    for name in (id, vector, *keys):
        if not isinstance(name, str) or list(names).count(name) != 1:
            raise ConfigError(f"expected one column {name!r:.80}, got {', '.join(map(str, names)):.200}")
    if len({id, vector, *keys}) != len(keys) + 2:
        raise ConfigError(f"expected different columns as id, vector and metadata, got {(id, vector, *keys)!r:.200}")
    return Columns(id, vector, own, tuple(keys))


def part_of(batch: Any, columns: Columns, first: int = 0) -> Part:
    """Return the items of a record batch.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
    columns : Columns
    first : int
        The number of its first row, for messages.

    Returns
    -------
    Part
        Vectors are a view of the batch when they are lists of numbers of one length.

    Raises
    ------
    IdError, VectorError, MetadataError
    """
    ids = _ids_of(batch.column(columns.id), first)
    vectors = vectors_of(batch.column(columns.vector), ids)
    return Part(ids, vectors, _metadata_of(batch, columns, ids))


def _stored(column: Any) -> Any:
    """Return what an extension type, such as a tensor or JSON, is made of; a dictionary becomes its values."""
    pa = arrow()
    while isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if not pa.types.is_dictionary(column.type):
        return column
    values = column.dictionary
    if _texts(values):
        # Views of strings, which polars gives, cannot be decoded as they are.
        values = values.cast(pa.large_string())
    return pa.DictionaryArray.from_arrays(column.indices, values).dictionary_decode()


def _texts(column: Any) -> bool:
    types = arrow().types
    kind = column.type
    views = hasattr(types, "is_string_view") and types.is_string_view(kind)
    return bool(types.is_string(kind) or types.is_large_string(kind) or views)


def _ids_of(column: Any, first: int) -> list[str]:
    column = _stored(column)
    if column.null_count:
        at = int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False)))
        raise IdError(f"row {first + at}: expected an id, got null")
    try:
        if _texts(column):
            found: list[str] = column.to_numpy(zero_copy_only=False).tolist()
            return found
        return [id_of(value, f"row {first + i}") for i, value in enumerate(column.to_pylist())]
    except UnicodeDecodeError:
        raise IdError(f"rows {first} and following: expected ids in UTF-8") from None


def dim_of(kind: Any) -> int:
    """Return the length of lists of this type, 0 if it does not say."""
    pa = arrow()
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else 0


def vectors_of(column: Any, ids: Sequence[str]) -> npt.NDArray[Any]:
    """Return a column of lists of numbers as (n, dim), without a copy. Raises VectorError, which names the id."""
    column, types = _stored(column), arrow().types
    kind = column.type
    is_fixed = types.is_fixed_size_list(kind)
    if not is_fixed and not types.is_list(kind) and not types.is_large_list(kind):
        raise VectorError(f"expected a column of vectors with lists of numbers, got {kind}")
    if not types.is_floating(kind.value_type) and not types.is_integer(kind.value_type):
        raise VectorError(f"expected a column of vectors with lists of numbers, got lists of {kind.value_type}")
    if column.null_count:
        at = int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False)))
        raise VectorError(f"vector of id {ids[at]!r}: expected numbers, got null")
    dim = int(kind.list_size) if is_fixed else _common_length(column, ids)
    values = column.flatten()
    if values.null_count:
        at = int(np.argmin(values.is_valid().to_numpy(zero_copy_only=False)))
        raise VectorError(f"vector of id {ids[at // dim]!r}: expected numbers, got null")
    rows: npt.NDArray[Any] = values.to_numpy(zero_copy_only=True).reshape(len(ids), dim)
    return rows


def _common_length(column: Any, ids: Sequence[str]) -> int:
    lengths = np.diff(column.offsets.to_numpy(zero_copy_only=True))
    odd = np.flatnonzero(lengths != lengths[0])
    if len(odd):
        raise VectorError(f"vector of id {ids[int(odd[0])]!r}: expected {lengths[0]} dimensions, got {lengths[odd[0]]}")
    return int(lengths[0])


def _metadata_of(batch: Any, columns: Columns, ids: Sequence[str]) -> list[dict[str, Any] | None]:
    """Return an object for each row: that of the column of objects, and the keys on top. A null is no key."""
    found: list[dict[str, Any] | None]
    if columns.metadata is None:
        if not columns.keys:
            return [None] * len(ids)
        found = [None] * len(ids)
    else:
        found = _objects_of(batch.column(columns.metadata), ids)
    values = [_values_of(batch.column(name), name) for name in columns.keys]
    if not values:
        return found
    rows = zip(found, zip(*values, strict=True), strict=True)
    return [{**(own or {}), **_present(columns.keys, row)} or None for own, row in rows]


def _present(keys: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    return {key: value for key, value in zip(keys, row, strict=True) if value is not None}


def _objects_of(column: Any, ids: Sequence[str]) -> list[dict[str, Any] | None]:
    column = _stored(column)
    if not _texts(column):
        found = _values_of(column, "metadata")
        for id, one in zip(ids, found, strict=True):
            if one is not None and not isinstance(one, dict):
                raise MetadataError(f"metadata of id {id!r}: expected JSON, a struct or a map, got {one!r:.80}")
        return found
    decoded: list[dict[str, Any] | None] = []
    for id, text in zip(ids, column.to_pylist(), strict=True):
        try:
            decoded.append(_decode_object(text) or None if text else None)
        except msgspec.DecodeError as error:
            raise MetadataError(f"metadata of id {id!r}: expected a JSON object: {error}") from None
    return decoded


def _values_of(column: Any, name: str) -> list[Any]:
    """Return Python values; whole columns of numbers and texts at once."""
    pa = arrow()
    column = _stored(column)
    types, kind = pa.types, column.type
    try:
        if types.is_timestamp(kind) and kind.unit == "ns":
            column = column.cast(pa.timestamp("us", kind.tz))
        if types.is_nested(kind):
            return [plain(value) for value in column.to_pylist(maps_as_pydicts="strict")]
        if types.is_temporal(kind):
            return [plain(value) for value in column.to_pylist()]
        is_simple = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or _texts(column)
        if is_simple and not column.null_count:
            found: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
            return found
        return list(column.to_pylist())
    except (ValueError, KeyError, ImportError, NotImplementedError) as error:
        raise MetadataError(f"column {name!r:.80}: {error}") from None
