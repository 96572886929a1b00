"""How does a database take in whole folders? `Database.vectorize`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from kektordb.progress import Progress, check_progress

if TYPE_CHECKING:
    from kektordb.database import Database
    from kektordb.documents import Chunking
    from kektordb.embed.choosing import Given
    from kektordb.vectorizer import Source, Vectorizer
    from kektordb.vectorizer.fleet import Fleet

__all__ = ["DatabaseFeeding"]

# How long closing waits for an embedder to answer; what it answers later is not stored.
CLOSE_S = 10.0


class DatabaseFeeding:
    """The half of `Database` that takes in documents."""

    _fleet: Fleet | None = None

    def vectorize(
        self,
        source: str | os.PathLike[str] | Source | Iterable[Any] | Callable[[], Iterable[Any]],
        *,
        index: str,
        embedder: Given | None = None,
        name: str | None = None,
        watch: bool | str = False,
        schedule: str | float | None = None,
        include_patterns: Sequence[str] = (),
        exclude_patterns: Sequence[str] = (),
        include_hidden: bool = False,
        chunking: Chunking | Mapping[str, Any] | Callable[[str], list[str]] | str | None = None,
        metadata_template: Mapping[str, Any] | None = None,
        index_config: Mapping[str, Any] | None = None,
        progress: Progress = False,
    ) -> Vectorizer:
        """Bring an index in step with a folder: what is new or changed is embedded, what has vanished goes.

        Each document is stored as a whole, so that a crash leaves it as it was or as it is; the next call goes on. Only
        chunks whose text is new are embedded. See docs/rag.md.

        Parameters
        ----------
        source : path, iterable, callable or Source
            A folder; or documents as ``(key, text)`` or ``(key, text, metadata)``, or a function that returns them.
        index : str
            Is made when it is not there: cosine, with English texts, and with `index_config`.
        embedder : Embedder, callable or str, optional
            As `kektordb.embed.as_embedder` takes it; by default the one that is attached to the index.
        name : str, optional
            Under which the state is kept; that of the index by default. Two sources of one index need two names.
        watch : bool or str
            Go on in the background until `Vectorizer.stop` or the database is closed: by events where `watchfiles` is
            installed, and by looking at the folder from time to time; ``"poll"`` for the latter alone. False: one pass,
            now.
        schedule : str or float, optional
            From the end of a look to the next, such as ``"30s"``, or seconds; by default 5 s, and a minute with events.
        include_patterns, exclude_patterns : sequence of str
            Files that are meant, such as ``["*.md", "notes/**"]``: all that text can be read from by default.
        include_hidden : bool
            Also files and folders whose names begin with a dot.
        chunking : Chunking, dict, str or callable, optional
            See `kektordb.documents.split`.
        metadata_template : dict, optional
            Metadata of each chunk beside its own: texts with ``{{file_path}}``, ``{{mod_time}}``, ``{{chunk_num}}`` ...
        index_config : dict, optional
            For `create_index`.
        progress : bool or callable
            Of the one pass: True shows a bar; a function is called with (done, total) documents.

        Returns
        -------
        Vectorizer
            Its `status` tells how it is.

        Raises
        ------
        EmbedderError
            Without `watch`: the embedder failed. What it had given before is stored.
        DocumentError, ConfigError, ReadOnlyDatabase, StorageError
        """
        from kektordb.vectorizer.starting import vectorize

        check_progress(progress)
        database = cast("Database", self)
        database._writable()
        database._refuse_inside_write()
        return vectorize(
            database, source, index, embedder, name, watch=watch, schedule=schedule, progress=progress,
            chunking=chunking, metadata_template=metadata_template, index_config=index_config,
            patterns={
                "include_patterns": include_patterns,
                "exclude_patterns": exclude_patterns,
                "include_hidden": include_hidden,
            },
        )  # fmt: skip

    @property
    def vectorizers(self) -> Fleet:
        """The vectorizers at work: those with `watch`, and those of a server."""
        if self._fleet is None:
            from kektordb.vectorizer.fleet import Fleet

            # Two threads may make one each; the dict keeps one of them.
            self.__dict__.setdefault("_fleet", Fleet())
        assert self._fleet is not None
        return self._fleet

    def _stop_feeding(self, timeout: float | None = None) -> None:
        if self._fleet is not None:
            self._fleet.close(CLOSE_S if timeout is None else timeout)
