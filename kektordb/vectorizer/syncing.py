"""How does an index come to hold what a source holds? One pass, in three stages that work side by side.

1. A reader looks at each document that may have changed, cuts it, and says what must happen (`planning`).
2. The embedder is given the new texts of as many documents as make a good slice (`embedding`).
3. A writer stores documents, each whole (`storing`).

While the embedder has some documents, the next are being read and the last are being stored, so that a pass takes about
as long as its embedder. What has vanished is deleted in the end, and not before: a renamed file is a new document that
takes its vectors from one that has vanished (`taking`).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from kektordb.database import Database
from kektordb.errors import DocumentError, KektorError
from kektordb.index import Index
from kektordb.vectorizer.embedding import Outcome, embed
from kektordb.vectorizer.failures import EMBEDDER, Failures
from kektordb.vectorizer.ledger import Ledger
from kektordb.vectorizer.planning import Change, Planner
from kektordb.vectorizer.sources import Entry, Scan, Source
from kektordb.vectorizer.storing import forget, store

if TYPE_CHECKING:
    from kektordb.embed import Embedder

__all__ = ["Counts", "Stopped", "Sync"]

_log = logging.getLogger("kektordb")

# Texts that an embedder is given at a time, and those of a document that is larger in several parts. It makes its own
# batches and requests of them; more would only let a kill lose more work.
SLICE_TEXTS = 256
# Documents that are stored together.
MAX_DOCUMENTS = 256
# Groups that are read ahead, and that wait to be stored.
AHEAD = 2
# Documents of a pass that are named in the log when they fail; the status names more.
MAX_LOGGED = 20


class Stopped(Exception):
    """The pass shall end; what is stored is whole."""


class Counts(msgspec.Struct):
    """What a pass has done so far.

    Attributes
    ----------
    n_documents : int or None
        How many there are; None while that is not known.
    n_seen : int
        Documents that were looked at, or known to be unchanged.
    n_changed : int
        Documents that were stored.
    n_vanished : int
        Documents that went.
    n_embedded, n_kept, n_deleted : int
        Chunks: those given to the embedder, those of changed documents whose vectors were there already, those that
        went.
    n_failed : int
        Documents that could not be read or embedded.
    n_waiting : int
        Documents that were not tried: it is too early, or the embedder is down.
    """

    n_documents: int | None = None
    n_seen: int = 0
    n_changed: int = 0
    n_vanished: int = 0
    n_embedded: int = 0
    n_kept: int = 0
    n_deleted: int = 0
    n_failed: int = 0
    n_waiting: int = 0


class Sync:
    """One pass over a source.

    Parameters
    ----------
    database : Database
    index : Index
    ledger : Ledger
    planner : Planner
    source : Source
    embedder : Embedder
    failures : Failures
        What failed before; what fails is noted there.
    check : callable
        Called between steps; raises `Stopped` to end the pass.
    report : callable
        Called with the counts after each step.

    Attributes
    ----------
    counts : Counts
    """

    def __init__(
        self,
        database: Database,
        index: Index,
        ledger: Ledger,
        planner: Planner,
        source: Source,
        embedder: Embedder,
        failures: Failures,
        check: Callable[[], None] = lambda: None,
        report: Callable[[Counts], None] = lambda _: None,
    ) -> None:
        self.counts = Counts()
        self._database = database
        self._index = index
        self._ledger = ledger
        self._planner = planner
        self._source = source
        self._embedder = embedder
        self._failures = failures
        self._check = check
        self._report = report
        self._counting = threading.Lock()
        self._seen: set[str] = set()
        self._is_down = False
        self._dim = index.dim

    def run(self) -> Counts:
        """Do the pass.

        Raises
        ------
        Stopped
        DocumentError
            The source is not there.
        KektorError
            The database takes no writes. What was stored before is whole, and known.
        """
        scan = self._source.scan()
        self.counts.n_documents = scan.total
        reader = ThreadPoolExecutor(1, thread_name_prefix="kektordb-vectorizer-read")
        writer = ThreadPoolExecutor(1, thread_name_prefix="kektordb-vectorizer-write")
        try:
            self._flow(scan, reader, writer)
        finally:
            # What waits to be stored is stored; what was read ahead is not wanted any more.
            reader.shutdown(cancel_futures=True)
            writer.shutdown()
        self._forget_vanished(scan)
        self.counts.n_documents = len(self._seen)
        if not self._is_down and self.counts.n_waiting == 0:
            self._failures.forget(EMBEDDER)
        self._report(self.counts)
        return self.counts

    def _flow(self, scan: Scan, reader: ThreadPoolExecutor, writer: ThreadPoolExecutor) -> None:
        groups = self._groups(scan)
        reading = deque(reader.submit(next, groups, None) for _ in range(AHEAD))
        writing: deque[Future[None]] = deque()
        while (group := reading.popleft().result()) is not None:
            reading.append(reader.submit(next, groups, None))
            self._check()
            outcome = self._embed(group)
            writing.append(writer.submit(self._store, outcome))
            while len(writing) > AHEAD or (writing and writing[0].done()):
                writing.popleft().result()
            self._report(self.counts)
        while writing:
            writing.popleft().result()

    def _add(self, **more: int) -> None:
        # All three stages count.
        with self._counting:
            for name, n in more.items():
                setattr(self.counts, name, getattr(self.counts, name) + n)

    # ----------------------------------------------------------------------------------------------- stage 1: reading

    def _groups(self, scan: Scan) -> Iterator[list[Change]]:
        """Yield changes, as many as are embedded and stored together."""
        group: list[Change] = []
        n_texts = 0
        for change in self._changes(scan):
            group.append(change)
            n_texts += len(change.new) + len(change.taken)
            if n_texts >= SLICE_TEXTS or len(group) >= MAX_DOCUMENTS:
                yield group
                group, n_texts = [], 0
        if group:
            yield group

    def _changes(self, scan: Scan) -> Iterator[Change]:
        later = []
        for entry in scan.entries:
            self._check()
            self._seen.add(entry.key)
            if self._planner.is_unchanged(entry):
                self._add(n_seen=1)
                self._failures.forget(entry.key)
            elif self._is_down or self._failures.waits(EMBEDDER) or self._failures.waits(entry.key, entry.stamp):
                self._add(n_waiting=1)
            elif self._failures.get(entry.key) is not None:
                later.append(entry)  # Those that failed come last, so that they are in nobody's way.
            elif (change := self._plan(entry)) is not None:
                yield change
        for entry in later:
            self._check()
            if self._is_down:
                self._add(n_waiting=1)
            elif (change := self._plan(entry)) is not None:
                yield change

    def _plan(self, entry: Entry) -> Change | None:
        try:
            change = self._planner.plan(entry, self._source.read(entry))
        except FileNotFoundError:
            # It went since the scan, or is being replaced: the next pass knows.
            self._add(n_waiting=1)
            return None
        except (DocumentError, OSError) as error:
            if isinstance(error, KektorError) and not isinstance(error, DocumentError):
                raise
            self._fail(entry, error)
            return None
        if change is None:
            self._add(n_seen=1)
            self._failures.forget(entry.key)
        return change

    def _fail(self, entry: Entry, error: Exception, after_s: float = 0.0) -> None:
        failure = self._failures.note(entry.key, _message(error), entry.stamp, after_s)
        self._add(n_failed=1)
        is_shown = failure.n_attempts == 1 and self.counts.n_failed <= MAX_LOGGED
        level = logging.WARNING if is_shown else logging.DEBUG
        _log.log(level, "%r is not in the index %r: %s", entry.key, self._index.name, failure.error)

    # -------------------------------------------------------------------------------------- stages 2 and 3, and the end

    def _embed(self, group: list[Change]) -> Outcome:
        if self._is_down:
            outcome = Outcome()
            outcome.done = [change for change in group if not change.new]
        else:
            outcome = embed(self._embedder, group, self._dim, SLICE_TEXTS, self._check)
        if outcome.vectors:
            self._failures.forget(EMBEDDER)
            self._dim = len(next(iter(outcome.vectors.values())))
        for change, error in outcome.failed:
            self._fail(change.entry, error, error.retry_after_s)
        if outcome.is_down:
            self._is_down = True
            assert outcome.error is not None
            failure = self._failures.note(EMBEDDER, _message(outcome.error), after_s=outcome.error.retry_after_s)
            level = logging.WARNING if failure.n_attempts == 1 else logging.DEBUG
            _log.log(level, "the embedder of %r fails, it is asked again later: %s", self._index.name, failure.error)
        self._add(n_embedded=len(outcome.vectors))
        self._add(n_waiting=len(group) - len(outcome.done) - len(outcome.failed))
        return outcome

    def _store(self, outcome: Outcome) -> None:
        store(self._database, self._index, self._ledger, outcome.done, outcome.vectors)
        for change in outcome.done:
            self._failures.forget(change.entry.key)
            n_kept = len(change.kept) + len(change.renewed) + len(change.taken)
            self._add(n_kept=n_kept, n_deleted=len(change.stale))
        self._add(n_changed=len(outcome.done), n_seen=len(outcome.done))

    def _forget_vanished(self, scan: Scan) -> None:
        holes = tuple(prefix for prefix, _ in scan.holes)
        gone = [key for key in self._ledger.documents() if key not in self._seen and not key.startswith(holes)]
        for start in range(0, len(gone), MAX_DOCUMENTS):
            self._check()
            keys = gone[start : start + MAX_DOCUMENTS]
            self._add(n_deleted=forget(self._database, self._index, self._ledger, keys))
            self._add(n_vanished=len(keys))
            self._report(self.counts)
        for key, _ in self._failures.documents():
            if key not in self._seen and not key.startswith(holes):
                self._failures.forget(key)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, KektorError):
        return f"{type(error).__name__}: {error.strerror or 'it cannot be read'}"  # without the path, which is the key
    return str(error)
