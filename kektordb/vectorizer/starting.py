"""How does what a user asks for become a vectorizer at work?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kektordb.documents import as_chunking
from kektordb.embed import as_embedder
from kektordb.errors import ConfigError, EmbedderError
from kektordb.progress import Progress, flow
from kektordb.settings import parse_duration
from kektordb.vectorizer.folder import FolderSource
from kektordb.vectorizer.running import Runner, Watcher
from kektordb.vectorizer.sources import IterableSource, Source
from kektordb.vectorizer.syncing import Counts
from kektordb.vectorizer.vectorizer import Vectorizer
from kektordb.vectorizer.watching import FolderWatcher, can_watch

if TYPE_CHECKING:
    from kektordb.database import Database
    from kektordb.embed import Embedder

__all__ = ["as_source", "schedule_of", "sync_once", "vectorize", "watcher_of"]


def vectorize(
    database: Database,
    source: Any,
    index: str,
    embedder: Any,
    name: str | None,
    *,
    watch: bool | str,
    schedule: str | float | None,
    progress: Progress,
    chunking: Any,
    metadata_template: Mapping[str, Any] | None,
    index_config: Mapping[str, Any] | None,
    patterns: Mapping[str, Any],
    on_pass: Callable[[Counts], None] = lambda _: None,
) -> Vectorizer:
    """See `Database.vectorize`, and `Runner` for `on_pass`."""
    if watch not in (True, False, "poll"):
        raise ConfigError(f"expected watch to be True, False or 'poll', got {watch!r:.80}")
    if not watch and schedule is not None:
        raise ConfigError("expected watch=True beside a schedule")
    made = as_source(source, patterns)
    vectorizer = Vectorizer(
        database,
        index if name is None else name,
        index,
        made,
        _embedder_of(database, index, embedder),
        chunking=chunking if callable(chunking) else as_chunking(chunking),
        metadata_template=metadata_template,
        index_config=index_config,
    )
    if watch:
        schedule_s = None if schedule is None else schedule_of(schedule)
        database.vectorizers.run(Runner(vectorizer, schedule_s, watcher_of(made, watch is True), on_pass=on_pass))
    else:
        with database.vectorizers.busy(vectorizer):
            sync_once(vectorizer, progress)
    return vectorizer


def sync_once(vectorizer: Vectorizer, progress: Progress = False) -> Counts:
    """Do a pass, and show how far it is. Raises EmbedderError when the embedder failed; see `Vectorizer.sync`."""
    with flow(progress, vectorizer.name, "documents") as step:

        def report(counts: Counts) -> None:
            if step is not None:
                step(counts.n_seen + counts.n_failed + counts.n_waiting, counts.n_documents, counts.n_embedded)

        counts = vectorizer.sync(report)
    error = vectorizer.status().error
    if error is not None:
        raise EmbedderError(error)
    return counts


def as_source(
    given: str | os.PathLike[str] | Source | Iterable[Any] | Callable[[], Iterable[Any]], patterns: Mapping[str, Any]
) -> Source:
    """Return a source of what a user gave. Raises ConfigError."""
    if isinstance(given, str | os.PathLike):
        return FolderSource(given, **patterns)
    if any(patterns.values()):
        raise ConfigError("expected patterns for a folder alone")
    if callable(getattr(given, "scan", None)) and callable(getattr(given, "read", None)):
        return given  # type: ignore[return-value]
    return IterableSource(given)  # type: ignore[arg-type]


def watcher_of(source: Source, by_events: bool) -> Watcher | None:
    """Return what tells of changes of a source; None when nobody does."""
    if by_events and isinstance(source, FolderSource) and can_watch():
        return FolderWatcher(source.path)
    return None


def schedule_of(given: str | float) -> float:
    """Return seconds of ``"30s"``, or of seconds. Raises ConfigError."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ConfigError(f"expected a schedule such as '30s', got {given!r:.80}")
    seconds = parse_duration(given, "schedule") / 1e9 if isinstance(given, str) else float(given)
    if not 0.01 <= seconds <= 1e9:
        raise ConfigError(f"expected a schedule of at least 10ms, got {given!r:.80}")
    return seconds


def _embedder_of(database: Database, index: str, given: Any) -> Embedder:
    if given is None:
        attached = database[index].embedder if index in database else None
        if attached is None:
            raise ConfigError(f"expected an embedder: none is attached to an index {index!r:.80}")
        return attached
    return as_embedder(given)
