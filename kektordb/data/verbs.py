"""With which verbs do tables and files go in and out of an index? Those of an embedded one and of one on a server."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kektordb.progress import Progress

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from kektordb.data.incoming import Takes
    from kektordb.data.outgoing import Exported
    from kektordb.query import Filter

    class Both(Takes, Exported, Protocol):
        """An index, as the verbs of tables see it."""


__all__ = ["Tabular"]


class Tabular:
    """Tables and files, in and out. Memory is bounded but for whole tables; see docs/data.md."""

    # ----------------------------------------------------------------------------------------------------------- in

    def add_arrow(
        self: Both,
        data: Any,
        *,
        id: str = "id",
        vector: str = "vector",
        metadata: str | None = "metadata",
        columns: Sequence[str] | None = None,
        replace: bool = False,
        progress: Progress = False,
    ) -> int:
        """Add the items of an Arrow table, batch by batch; needs ``kektordb[arrow]``.

        They are added in parts of up to 8,192 items; a part and what is made of it are in memory at a time, whatever
        the size of the batches is.

        Parameters
        ----------
        data : object
            A pyarrow Table, RecordBatch, RecordBatchReader or Dataset, a polars or pandas data frame, a relation of
            DuckDB: anything with ``__arrow_c_stream__`` or ``__arrow_c_array__``.
        id : str
            The column of ids: strings, or integers, which become strings.
        vector : str
            The column of vectors: lists of one length, of any type of number. Lists of float32 are not copied.
        metadata : str, optional
            A column of objects: JSON text, structs or maps. It need not be there.
        columns : sequence of str, optional
            Columns that become a key of the metadata each; all others by default. A null is no key; dates and times
            become text as ISO 8601 has it.
        replace : bool
            Items take the place of those of the same id, as with `upsert_batch`.
        progress : bool or callable
            True shows a bar; a function is called with (done, total) items, total 0 when it is not known.

        Returns
        -------
        int
            How many items came in.

        Raises
        ------
        ItemExists, IdError, VectorError, MetadataError, ConfigError, StorageError
            Each part is stored whole or not at all; a note says how many items came in before.
        """
        from kektordb.data.incoming import arrow_source, put_parts

        return put_parts(self, arrow_source(data, id, vector, metadata, columns), replace, progress)

    def from_pandas(
        self: Both,
        frame: pandas.DataFrame,
        *,
        id: str | None = "id",
        vector: str | Sequence[str] = "vector",
        metadata: str | None = "metadata",
        columns: Sequence[str] | None = None,
        replace: bool = False,
        progress: Progress = False,
    ) -> int:
        """Add the items of a data frame, and count them; see `add_arrow`.

        Parameters
        ----------
        frame : pandas.DataFrame
        id : str, optional
            A column, or the name of the frame's index; None for the index.
        vector : str or sequence of str
            A column of arrays or lists; or several columns, one for each component.
        metadata : str, optional
            A column of dicts. It need not be there.
        columns : sequence of str, optional
            Columns that become a key of the metadata each; all others by default. What is missing (None, NaN, NaT) is
            no key.
        """
        from kektordb.data.incoming import frame_source, put_parts

        return put_parts(self, frame_source(frame, id, vector, metadata, columns), replace, progress)

    def add_file(
        self: Both,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        ids: str | os.PathLike[str] | None = None,
        metadata: str | os.PathLike[str] | None = None,
        replace: bool = False,
        progress: Progress = False,
    ) -> int:
        """Add the items of a file, part by part, and count them; see `add_arrow`.

        Parameters
        ----------
        path : str or path
        format : str, optional
            ``jsonl``, ``csv``, ``parquet``, ``npy``, ``fvecs`` or ``ivecs``; by its ending otherwise. docs/data.md has
            what is in them.
        ids, metadata : str or path, optional
            Files with an id, with a JSON object, in each line, for those that hold vectors alone (npy, fvecs, ivecs).
            Ids count from 0 otherwise.
        """
        from kektordb.data.incoming import put_parts
        from kektordb.data.readers import file_source

        return put_parts(self, file_source(path, format, ids, metadata, bool(progress)), replace, progress, "importing")

    # ---------------------------------------------------------------------------------------------------------- out

    def to_arrow(
        self: Both,
        filter: Filter | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        columns: Sequence[str] = (),
    ) -> pyarrow.Table:
        """Return the items, or those that match, as an Arrow table, in the order in which they came in.

        Parameters
        ----------
        filter, params
            As in `search`.
        columns : sequence of str
            Keys of the metadata that become columns of their own, of a type that fits all values; a gap is null.

        Returns
        -------
        pyarrow.Table
            ``id``, ``vector`` (lists of fixed size, float32, as they are stored), the `columns`, and ``metadata``: the
            rest as JSON. `add_arrow` takes it back.

        Raises
        ------
        ConfigError
            Also when no type fits all values of a column.
        """
        from kektordb.data.outgoing import arrow_reader

        return arrow_reader(self, self.ids(filter, params), columns, None).read_all()

    def to_arrow_reader(
        self: Both,
        filter: Filter | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        columns: Sequence[str] = (),
        batch_size: int | None = None,
    ) -> pyarrow.RecordBatchReader:
        """Return what `to_arrow` does as a stream: one batch and the ids are in memory at a time.

        Items that are deleted while it is read are left out, those that come meanwhile are not in it.
        """
        from kektordb.data.outgoing import arrow_reader
        from kektordb.validation import check_positive

        size = None if batch_size is None else check_positive(batch_size, "batch_size")
        return arrow_reader(self, self.ids(filter, params), columns, size)

    def __arrow_c_stream__(self: Both, requested_schema: object | None = None) -> object:
        """Let anything that reads Arrow take the items, as `to_arrow_reader` gives them: ``pl.from_arrow(index)``."""
        from kektordb.data.outgoing import arrow_reader

        return arrow_reader(self, self.ids(), (), None).__arrow_c_stream__(requested_schema)

    def to_pandas(
        self: Both, filter: Filter | None = None, params: Mapping[str, Any] | None = None
    ) -> pandas.DataFrame:
        """Return the items, or those that match, as a data frame, in the order in which they came in.

        Returns
        -------
        pandas.DataFrame
            ``id``, ``vector`` (arrays of float32) and a column for each key of the metadata. Keys of these names, and
            ``metadata``, stay in a column ``metadata`` of dicts, which is there only then. `from_pandas` takes it back.
        """
        from kektordb.data.outgoing import data_frame

        return data_frame(self, self.ids(filter, params))

    def export(
        self: Both,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        filter: Filter | None = None,
        params: Mapping[str, Any] | None = None,
        progress: Progress = False,
    ) -> int:
        """Write the items, or those that match, to a new file, and count them.

        Parameters
        ----------
        path : str or path
            It must not be there.
        format : str, optional
            ``jsonl``, ``csv``, ``npy`` or ``parquet``, by its ending otherwise. ``qdrant`` or ``pgvector`` for files
            that these take, with how to make the collection or table beside.
        filter, params
            As in `search`.
        progress : bool or callable
            True shows a bar; a function is called with (done, total) items.

        Raises
        ------
        ConfigError, StorageError
            No file was made.
        """
        from kektordb.data.writers import export

        return export(self, path, format, filter, params, progress)
