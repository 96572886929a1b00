"""``kektordb vectorize``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any, NoReturn

from kektordb.commands.answer import DONE, FAILED, Answer, bar, count, new_command
from kektordb.errors import ConfigError

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands
    from kektordb.database import Database
    from kektordb.vectorizer import Counts, Status

__all__ = ["add"]

DEFAULT_DIRECTORY = "kektordb-data"  # as that of `kektordb serve`
MAX_SHOWN = 10


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = new_command(commands, "vectorize", _vectorize, "bring an index in step with a folder of documents")
    parser.add_argument("path", metavar="PATH", help="the folder")
    parser.add_argument("--data-dir", metavar="DIR", help="the database; KEKTOR_DATA_DIR, or kektordb-data")
    parser.add_argument("--index", metavar="INDEX", required=True, help="the index, which is made if it is not there")
    parser.add_argument(
        "--embedder", metavar="KIND:MODEL", required=True, help="such as ollama:nomic-embed-text; hashing to try"
    )
    parser.add_argument("--url", metavar="URL", help="of the embedder's service")
    parser.add_argument("--api-key-env", metavar="NAME", help="the environment variable that holds its key")
    parser.add_argument("--name", metavar="NAME", help="under which the state is kept; that of the index by default")
    _add_documents(parser)
    parser.add_argument("--watch", action="store_true", help="stay, and follow changes until Ctrl-C or SIGTERM")
    parser.add_argument("--poll", action="store_true", help="with --watch: no events, for network disks")
    parser.add_argument("--schedule", metavar="TIME", help="with --watch: from one look to the next, such as 30s")


def _add_documents(parser: ArgumentParser) -> None:
    again = "; may be given again"
    parser.add_argument("--include", metavar="PATTERN", action="append", default=[], help=f"files meant{again}")
    parser.add_argument("--exclude", metavar="PATTERN", action="append", default=[], help=f"those that are not{again}")
    parser.add_argument("--hidden", action="store_true", help="also names that begin with a dot")
    parser.add_argument("--strategy", metavar="NAME", help="recursive, markdown, code, lines or fixed_size")
    parser.add_argument("--chunk-size", metavar="N", type=int, help="characters of a chunk at most; 500 by default")
    parser.add_argument("--chunk-overlap", metavar="N", type=int, help="characters that chunks share at most; 50")
    parser.add_argument("--text-language", metavar="LANGUAGE", help="of a new index; english by default")


def _vectorize(arguments: Namespace) -> Answer:
    from kektordb.database import Database

    if not arguments.watch and (arguments.poll or arguments.schedule is not None):
        raise ConfigError("expected --watch beside --poll and --schedule")
    where = arguments.data_dir or os.environ.get("KEKTOR_DATA_DIR") or DEFAULT_DIRECTORY
    with Database.open(where) as database:
        status = _watch(database, arguments) if arguments.watch else _once(database, arguments)
    # Who watches was told to end: whatever failed on the way, that has been done.
    return _answer(status, DONE if arguments.watch or not status.n_failed else FAILED)


def _once(database: Database, arguments: Namespace) -> Status:
    from kektordb.vectorizer.starting import vectorize

    options = _options(arguments)
    return vectorize(database, arguments.path, progress=bar(arguments), watch=False, schedule=None, **options).status()


class News:
    """Tells which passes are worth a line: what fails again and again is tried again and again."""

    def __init__(self) -> None:
        self._n_missing = 0

    def are_in(self, counts: Counts) -> bool:
        """Tell whether a pass changed something, or how many documents are missing."""
        before, self._n_missing = self._n_missing, counts.n_failed + counts.n_waiting
        return bool(counts.n_changed or counts.n_vanished or self._n_missing != before)


def _watch(database: Database, arguments: Namespace) -> Status:
    from kektordb.vectorizer.starting import vectorize

    news = News()

    def show(counts: Counts) -> None:
        if news.are_in(counts) and not arguments.quiet:
            print(f"{arguments.index}: {_told(counts)}", file=sys.stderr, flush=True)

    def leave(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    vectorizer = vectorize(
        database,
        arguments.path,
        progress=False,
        watch="poll" if arguments.poll else True,
        schedule=arguments.schedule,
        on_pass=show,
        **_options(arguments),
    )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        vectorizer.stop()
    finally:
        signal.signal(signal.SIGTERM, before)
    return vectorizer.status()


def _options(arguments: Namespace) -> dict[str, Any]:
    from kektordb.embed import as_embedder

    chunking = {"strategy": arguments.strategy, "size": arguments.chunk_size, "overlap": arguments.chunk_overlap}
    given = {key: value for key, value in chunking.items() if value is not None}
    if "size" in given and "overlap" not in given:
        given["overlap"] = given["size"] // 10
    service = {"url": arguments.url, "api_key_env": arguments.api_key_env}
    embedder = as_embedder(arguments.embedder, **{key: value for key, value in service.items() if value is not None})
    language = arguments.text_language
    return {
        "index": arguments.index,
        "embedder": embedder,
        "name": arguments.name,
        "chunking": given,
        "metadata_template": None,
        "index_config": None if language is None else {"text_language": language},
        "patterns": {
            "include_patterns": arguments.include,
            "exclude_patterns": arguments.exclude,
            "include_hidden": arguments.hidden,
        },
    }


def _answer(status: Status, exit_status: int) -> Answer:
    import msgspec

    lines = [f"{status.index}: {_told(status.counts)}"]
    lines += [f"failed: {one.document}: {one.error}" for one in status.failed[:MAX_SHOWN]]
    if status.n_failed > MAX_SHOWN:
        lines.append(f"failed: {status.n_failed - MAX_SHOWN:,} more")
    return Answer(msgspec.to_builtins(status), "\n".join(lines), exit_status)


def _told(counts: Counts) -> str:
    parts = [
        *(count(counts.n_documents or 0, "document"), f"{counts.n_changed:,} changed"),
        *(f"{counts.n_vanished:,} vanished", f"{count(counts.n_embedded, 'chunk')} embedded"),
        *(f"{counts.n_kept:,} kept", f"{counts.n_deleted:,} deleted"),
    ]
    if counts.n_waiting:
        parts.append(f"{counts.n_waiting:,} waiting")
    return ", ".join(parts)
