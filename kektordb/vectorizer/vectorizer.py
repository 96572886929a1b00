"""What keeps an index in step with a source? A vectorizer: passes one at a time, their failures, their state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from kektordb.database import Database
from kektordb.documents import Chunking, split
from kektordb.errors import ConfigError, DatabaseClosed, IndexExists, IndexNotFound
from kektordb.index import Index
from kektordb.vectorizer.describing import Description, check_template
from kektordb.vectorizer.failures import PASS, Failures
from kektordb.vectorizer.ledger import Head, Ledger, check_vectorizer_name
from kektordb.vectorizer.planning import Planner
from kektordb.vectorizer.sources import Source
from kektordb.vectorizer.syncing import Counts, Stopped, Sync

if TYPE_CHECKING:
    from kektordb.embed import Embedder
    from kektordb.vectorizer.running import Runner

__all__ = ["FailedDocument", "Status", "Vectorizer"]

# Of an index that is made: as the original makes it. Of its texts only those that readers look for.
INDEX_CONFIG = {"metric": "cosine", "text_language": "english"}
TEXT_FIELDS = ("content_chunk", "heading", "title")
# Changes of how chunks are made out of the same texts.
VERSION = 1
MAX_SHOWN_FAILURES = 100


class FailedDocument(msgspec.Struct, frozen=True):
    """A document that is not in the index as it is now."""

    document: str
    error: str
    n_attempts: int
    retry_in_s: float


class Status(msgspec.Struct, frozen=True):
    """How a vectorizer is.

    Attributes
    ----------
    name, index, embedder : str
    state : str
        ``idle``, ``synchronizing``, or ``stopped``.
    last_run : str
        When the last pass ended, RFC 3339; ``0001-01-01T00:00:00Z`` before.
    is_in_step : bool
        The last pass left nothing to do.
    counts : Counts
        Of the pass that runs, or of the last one.
    error : str or None
        Why no pass comes to its end: the embedder is down, the folder is not there, the disk is full.
    retry_in_s : float or None
        When what failed is tried again.
    n_failed : int
    failed : list of FailedDocument
        The first hundred by name.
    """

    name: str
    index: str
    embedder: str
    state: str
    last_run: str
    is_in_step: bool
    counts: Counts
    error: str | None
    retry_in_s: float | None
    n_failed: int
    failed: list[FailedDocument]


class Vectorizer:
    """Keeps an index in step with a source. Made by `Database.vectorize`, or from a configuration.

    All calls may be made from any number of threads.

    Parameters
    ----------
    database : Database
    name : str
        Under which its state is kept; each has its own.
    index : str
        The name of the index, which is made when it is not there.
    source : Source
    embedder : Embedder
    chunking : Chunking or callable
    metadata_template : dict
        See `Description`.
    index_config : dict
        For `Database.create_index`.
    clock : callable
        Seconds.

    Raises
    ------
    ConfigError
    """

    def __init__(
        self,
        database: Database,
        name: str,
        index: str,
        source: Source,
        embedder: Embedder,
        *,
        chunking: Chunking | Callable[[str], list[str]] | None = None,
        metadata_template: Mapping[str, Any] | None = None,
        index_config: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = check_vectorizer_name(name)
        self.index_name = index
        self._database = database
        self._source = source
        self._embedder = embedder
        self._chunking = Chunking() if chunking is None else chunking
        self._template = check_template({} if metadata_template is None else metadata_template)
        self._index_config = dict(INDEX_CONFIG if index_config is None else {**INDEX_CONFIG, **index_config})
        self._clock = clock
        self._failures = Failures(clock)
        self._ledger = Ledger(database, name)
        self._lock = threading.Lock()  # over a pass
        self._counts = Counts()
        self._state = "idle"
        self._last_run = "0001-01-01T00:00:00Z"
        self._is_in_step = False
        self._stop = threading.Event()
        self._ended = threading.Condition()
        self._n_begun = self._n_ended = 0
        # Set by whoever runs it in the background.
        self.runner: Runner | None = None
        self.leave: Callable[[], None] = lambda: None

    # --------------------------------------------------------------------------------------------------------- a pass

    def sync(self, report: Callable[[Counts], None] = lambda _: None) -> Counts:
        """Do one pass, and return what it did. Another thread's pass is waited for.

        What fails is tried again by a later one, when its time has come.

        Parameters
        ----------
        report : callable
            Called with the counts after each step, from this thread.

        Raises
        ------
        DocumentError
            The source is not there; nothing has changed.
        ConfigError
            The index was filled by another embedder, or the iterable cannot be read again.
        DatabaseClosed
            It was stopped meanwhile, or the database is closed.
        KektorError
            The database takes no writes.
        """
        self._database._refuse_inside_write()
        with self._lock:
            return self._pass(report)

    def _pass(self, report: Callable[[Counts], None]) -> Counts:
        self._state = "synchronizing"
        self._n_begun += 1
        try:
            self._check()
            index = self._begun()
            sync = self._made(index, report)
            self._counts = sync.counts
            counts = sync.run()
            self._failures.forget(PASS)
            self._is_in_step = counts.n_failed == 0 and counts.n_waiting == 0
        except Stopped:
            self._is_in_step = False
            raise DatabaseClosed(f"the vectorizer {self.name!r} was stopped, or its database is being closed") from None
        except Exception as error:
            self._is_in_step = False
            self._failures.note(PASS, error)
            raise
        finally:
            self._state = "stopped" if self._stop.is_set() else "idle"
            self._last_run = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            with self._ended:
                self._n_ended = self._n_begun
                self._ended.notify_all()
        return self._counts

    def _begun(self) -> Index:
        """Return the index, and note what it is filled with. Raises ConfigError when that was something else."""
        database = self._database
        if self.index_name not in database:
            self._create()
        index = database.index(self.index_name)
        number = database._live().numbers.get(self.index_name)
        if number is None:
            raise IndexNotFound(f"the index {self.index_name!r} was dropped")
        head = Head(self.index_name, number, self._embedder.name)
        before = self._ledger.head()
        if before is not None and before.index != head.index:
            raise ConfigError(
                f"the vectorizer {self.name!r} fills the index {before.index!r}, expected {head.index!r}: "
                "give it another name"
            )
        if before is not None and before.embedder != head.embedder and before.number == number:
            raise ConfigError(
                f"the index {self.index_name!r} holds vectors of {before.embedder!r}, expected {head.embedder!r}: "
                "fill another index, or drop this one"
            )
        # Also refused: an index that others fill with texts by another embedder.
        index.attach_embedder(self._embedder)
        if before != head:
            self._ledger.put_head(head)
        return index

    def _create(self) -> None:
        config = dict(self._index_config)
        if config.get("text_language"):
            config.setdefault("text_fields", TEXT_FIELDS)
        try:
            self._database.create_index(self.index_name, embedder=self._embedder, **config)
        except IndexExists:
            pass  # another thread was faster
        except TypeError as error:
            raise ConfigError(f"an option of the index is not known: {error}") from None

    def _made(self, index: Index, report: Callable[[Counts], None]) -> Sync:
        names = {"vectorizer": self.name, "index": self.index_name}
        describe = Description(self._template, names)
        chunking = self._chunking

        def cut(document: Any) -> Any:
            return split(document, chunking)

        planner = Planner(index, self._ledger, self.name, self._setup(), cut, describe)
        return Sync(
            self._database, index, self._ledger, planner, self._source, self._embedder, self._failures,
            self._check, report,
        )  # fmt: skip

    def _setup(self) -> str:
        """Return a hash of what the items depend on beside their documents.

        The number of the index is in it: in one that was made anew, or copied, every document is looked at again.
        """
        chunking = self._chunking
        if isinstance(chunking, Chunking):
            cut: object = msgspec.structs.astuple(chunking)
        else:
            cut = f"{getattr(chunking, '__module__', '')}.{getattr(chunking, '__qualname__', type(chunking).__name__)}"
        number = self._database._live().numbers.get(self.index_name)
        of = (VERSION, cut, sorted(self._template.items()), number)
        return xxhash.xxh3_64_hexdigest(msgspec.json.encode(of))

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    # ------------------------------------------------------------------------------------------------ in the background

    def trigger(self) -> None:
        """Ask for a pass at once, also of what failed. Raises ConfigError when it does not run in the background."""
        if self.runner is None:
            raise ConfigError(f"expected a vectorizer at work in the background, got {self!r}; use sync()")
        self.runner.trigger()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a pass that begins after this call has left nothing to do; return whether that came in time.

        Raises what `trigger` does.
        """
        self._database._refuse_inside_write()
        end = None if timeout is None else time.monotonic() + timeout
        with self._ended:
            n = self._n_begun
        self.trigger()
        with self._ended:
            while not (self._n_ended > n and self._is_in_step) and not self._stop.is_set():
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._ended.wait(left)
            return self._is_in_step

    def stop(self, timeout: float | None = None) -> None:
        """End, after the step under way: what is stored is whole, and the next vectorizer of this name goes on.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the step, which may be an answer of the embedder.
        """
        self.halt()
        runner, self.runner = self.runner, None
        if runner is not None:
            runner.stop(timeout)
            self._state = "stopped"
            self.leave()

    def halt(self) -> None:
        """Let no further step begin."""
        self._stop.set()
        with self._ended:
            self._ended.notify_all()

    def hurry(self) -> None:
        """Let the next pass try what failed, without waiting for its time."""
        self._failures.hurry()

    # ---------------------------------------------------------------------------------------------------- its state

    def status(self) -> Status:
        """Return how it is."""
        now, failures = self._clock(), self._failures
        documents = failures.documents()
        failed = [
            FailedDocument(key, failure.error, failure.n_attempts, max(0.0, failure.retry_at - now))
            for key, failure in documents[:MAX_SHOWN_FAILURES]
        ]
        whole, next_at = failures.whole(), failures.next_at()
        return Status(
            name=self.name,
            index=self.index_name,
            embedder=self._embedder.name,
            state=self._state,
            last_run=self._last_run,
            is_in_step=self._is_in_step,
            counts=msgspec.structs.replace(self._counts),
            error=None if whole is None else whole.error,
            retry_in_s=None if next_at is None else max(0.0, next_at - now),
            n_failed=len(documents),
            failed=failed,
        )

    def __repr__(self) -> str:
        return f"<Vectorizer {self.name!r} of the index {self.index_name!r}>"
