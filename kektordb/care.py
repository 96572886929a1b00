"""How is one index looked after? Its settings for maintenance, and the verbs that begin work in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kektordb.collection import Collection
from kektordb.errors import IndexNotFound
from kektordb.reading import IndexReader
from kektordb.tasks import Body, Control, Task
from kektordb.validation import check_ef_construction, check_precision

if TYPE_CHECKING:
    from kektordb.commit import Pending

__all__ = ["IndexCare"]


class IndexCare(IndexReader):
    """The half of `Index` that keeps it small and good, beside the one that changes nothing."""

    def vacuum(self) -> Task:
        """Free what deleted items left behind: slots, rows, links, metadata, postings. Searches and writes go on.

        Returns
        -------
        Task
            Its result has ``n_removed`` and ``reclaimed_bytes``.

        Raises
        ------
        IndexNotFound, ReadOnlyDatabase
        """

        def body(control: Control) -> dict[str, Any]:
            from kektordb.vacuum import vacuum

            return vacuum(self._database, self._name, control)

        return self._submit("vacuum", body)

    def refine(self, ef_construction: int | None = None) -> Task:
        """Choose the links of all items anew, once: a graph built in haste becomes one built with care.

        Parameters
        ----------
        ef_construction : int, optional
            Candidates from which links are chosen; that of ``maintenance``, or of the index, by default.

        Returns
        -------
        Task

        Raises
        ------
        ConfigError, IndexNotFound, ReadOnlyDatabase
        """
        ef = None if ef_construction is None else check_ef_construction(ef_construction)

        def body(control: Control) -> dict[str, Any]:
            from kektordb.refine import refine

            return refine(self._database, self._name, control, None, ef)

        return self._submit("refine", body)

    def compress(self, precision: str) -> Task:
        """Store the vectors in another precision; the graph, ids, metadata and texts stay as they are.

        Parameters
        ----------
        precision : str
            ``float32``, ``float16`` or ``int8``; not the present one. What a smaller precision rounded off
            does not come back with a larger one.

        Returns
        -------
        Task

        Raises
        ------
        ConfigError, IndexNotFound, ReadOnlyDatabase
        """
        check_precision(precision, self._collection().config.precision)

        def body(control: Control) -> dict[str, Any]:
            from kektordb.compress import compress

            return compress(self._database, self._name, precision, control)

        return self._submit("compress", body)

    def _submit(self, kind: str, body: Body) -> Task:
        self._database._writable()
        collection = self._collection()

        def of_this_index(control: Control) -> dict[str, Any] | None:
            if self._collection() is not collection:
                raise IndexNotFound(f"the index {self._name!r} was dropped")
            return body(control)

        return self._database._upkeep.submit(kind, self._name, of_this_index)

    def _number(self, pending: Pending, collection: Collection) -> int:
        """Return the number of this index; it may have been dropped, or made anew, since the call began."""
        number = pending.state.numbers.get(self._name)
        if number is None or pending.state.collections[number] is not collection:
            raise IndexNotFound(f"the index {self._name!r} was dropped")
        return number
