"""KektorDB in one sitting: search Python's own documentation, change it, close it, open it again, and kill it.

    python examples/quickstart.py                  # in a temporary directory
    python examples/quickstart.py --path ./data    # keeps the database there
    python examples/quickstart.py --limit 600      # fewer texts

The texts are the docstrings of the standard library. TF-IDF and a truncated SVD turn each, with its name, into 128
numbers; whatever makes your vectors, the calls to kektordb stay the same. The texts themselves are searched by their
words, and by words and vectors together.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from stdlib_docs import Entry, collect

import kektordb

DIMENSIONS = 128
QUERIES = ("compress a file", "parse command line arguments", "wait until a thread terminates")
FILTERED = (
    ("read a file into memory", "kind = 'function' AND length < 400", None),
    ("read a file into memory", "module IN ('os', 'shutil', 'pathlib') AND NOT name LIKE 'write%'", None),
    (
        "open a network connection",
        "kind = $kind AND length BETWEEN $low AND $high",
        {"kind": "class", "low": 50, "high": 800},
    ),
)
KILLED_AFTER = 300


class Embedder:
    """Turns texts into vectors; fitted to the texts that are indexed, so that queries land among them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.words = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2)
        self.reduction = TruncatedSVD(DIMENSIONS, random_state=0)
        self.reduction.fit(self.words.fit_transform(texts))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return one row per text, (n, 128) float32."""
        return self.reduction.transform(self.words.transform(texts)).astype(np.float32)


def main() -> None:
    arguments = parse_arguments()
    if arguments.writer:
        write_until_killed(arguments.writer)
        return
    with contextlib.ExitStack() as stack:
        path = arguments.path or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kektordb-")), "data")
        entries, embed = read_and_embed(arguments.limit)
        with kektordb.open(path) as db:
            build(db, entries, embed)
            search(db, embed)
            search_by_words(db, embed)
            search_filtered(db, embed)
            change(db, embed)
        reopen(path, embed)
        survive_a_kill(path)
        if arguments.path:
            print(f"\nThe database stays in {path}.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A tour of KektorDB on Python's own documentation.")
    parser.add_argument("--path", type=Path, help="keep the database in this new directory")
    parser.add_argument("--limit", type=int, help="index only so many texts")
    parser.add_argument("--writer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.path and arguments.path.exists() and any(arguments.path.iterdir()):
        parser.error(f"{arguments.path} is not empty")
    return arguments


def read_and_embed(limit: int | None) -> tuple[list[Entry], Embedder]:
    heading("Texts and vectors")
    with timed("read the docstrings of the standard library"):
        entries = collect(limit)
    with timed(f"fit TF-IDF and SVD, {DIMENSIONS} dimensions"):
        embed = Embedder([entry.words for entry in entries])
    kinds = [entry.kind for entry in entries]
    print(f"  {len(entries):,} texts: " + ", ".join(f"{kinds.count(kind):,} {kind}" for kind in sorted(set(kinds))))
    return entries, embed


def build(db: kektordb.Database, entries: list[Entry], embed: Embedder) -> None:
    """Put all texts into a new index, in one call."""
    heading("Index")
    docs = db.create_index(
        "docs",
        metric="cosine",
        text_language="english",
        text_fields=["title", "text"],  # the other strings are for filters
        field_weights={"title": 2.0},
    )
    ids = [entry.id for entry in entries]
    metadata = [
        {
            "module": entry.module,
            "kind": entry.kind,
            "name": entry.name,
            "length": len(entry.text),
            "title": entry.title,
            "text": entry.text,
        }
        for entry in entries
    ]
    vectors = embed([entry.words for entry in entries])
    with timed(f"add_batch, {len(ids):,} items"):
        docs.add_batch(ids, vectors, metadata)
    with timed("what else is worth keeping goes into db.kv, here as one batch"), db.batch():
        db.kv["about"] = f"docstrings of Python {sys.version.split()[0]}"
        for entry in entries:
            db.kv[f"summary/{entry.id}"] = entry.summary
    print(f"  len(docs) = {len(docs):,}   len(db.kv) = {len(db.kv):,}")


def search(db: kektordb.Database, embed: Embedder) -> None:
    """Ask in words; the same embedder makes the vector."""
    heading("Search")
    docs = db["docs"]
    for question in QUERIES:
        vector = embed([question])[0]
        with timed(f"“{question}”"):
            hits = docs.search(vector, k=5)
        show(db, hits)


def search_by_words(db: kektordb.Database, embed: Embedder) -> None:
    """Words find what is written, vectors what is meant; together they find more than either."""
    heading("Words, and words and vectors")
    docs = db["docs"]
    question = QUERIES[-1]
    vector = embed([question])[0]
    with timed(f"“{question}”, by words"):
        hits = docs.search(text=question, k=3)
    show(db, hits)
    with timed("by words and vector"):
        hits = docs.search(vector, k=3, text=question, snippet=True, explain=True)
    show(db, hits)
    best = hits[0]
    print(f"    {best.id}: {' '.join(best.snippet.split())}")
    print("    " + str(best.explanation).replace("\n", "\n    "))
    with timed("where the words “all threads” must stand one after the other"):
        hits = docs.search(vector, k=3, filter="""CONTAINS(text, '"all threads"')""")
    show(db, hits)


def search_filtered(db: kektordb.Database, embed: Embedder) -> None:
    """The same with conditions on the metadata: a filter always returns min(k, matches) hits."""
    heading("Search with filters")
    docs = db["docs"]
    for question, condition, params in FILTERED:
        vector = embed([question])[0]
        matches = docs.count(filter=condition, params=params)
        with timed(f"“{question}” among {matches:,} of {len(docs):,}"):
            hits = docs.search(vector, k=5, filter=condition, params=params)
        print(f"    where {condition}" + (f"   {params}" if params else ""))
        show(db, hits)


def change(db: kektordb.Database, embed: Embedder) -> None:
    """Update, replace and delete: each call is in the log before it returns, and visible at once."""
    heading("Change")
    docs = db["docs"]
    question = embed(["compress a file"])[0]
    first, second, *_ = docs.search(question, k=5).ids
    docs.update_metadata(first, {"favourite": True})
    print(f"  update_metadata  {first} is a favourite: {docs[first].metadata['favourite']}")

    docs.upsert("my.note", question, {"module": "my", "kind": "note", "name": "note", "length": 15})
    print(f"  upsert           my.note is now the nearest: {docs.search(question, k=1).ids}")

    docs.delete(second)
    print(f"  delete           {second} in docs: {second in docs}")

    condition = "kind = 'module' AND module LIKE 'encodings.%'"
    before = len(docs)
    docs.delete(filter=condition)
    print(f"  delete(filter)   {before - len(docs):,} items where {condition}")
    print(f"  len(docs) = {len(docs):,}")


def reopen(path: Path, embed: Embedder) -> None:
    """Opening loads the last snapshot, and replays what the log holds beyond it."""
    heading("Close, open, search again")
    with timed("open"):
        db = kektordb.open(path)
    print(f"  {db.recovery_report.records_replayed} records of the log were replayed")
    with timed("save: a snapshot takes the place of the log"):
        db.save()
    db.close()
    with timed("open, now from the snapshot alone"):
        db = kektordb.open(path)
    with db:
        print(f"  {db.kv.get_str('about')}: {len(db['docs']):,} items")
        show(db, db["docs"].search(embed(["compress a file"])[0], k=3, filter="favourite = true OR kind = 'note'"))


def survive_a_kill(path: Path) -> None:
    """Kill a process in the middle of its writes, and look for every write it said was done."""
    heading("kill -9")
    command = [sys.executable, __file__, "--writer", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(KILLED_AFTER)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.read().split()  # what it still said before it died
    print(f"  the writer, process {writer.pid}, was killed after it had acknowledged {len(acknowledged):,} items")

    with timed("open: recovery needs no call of its own"):
        db = kektordb.open(path)
    with db:
        written = db["written"]
        missing = [
            id for id in acknowledged if id not in written or not np.array_equal(written[id].vector, vector_of(id))
        ]
        print(
            f"  {len(acknowledged) - len(missing):,} of {len(acknowledged):,} acknowledged items are there, unchanged"
        )
        if missing or not acknowledged:
            sys.exit(f"LOST: {missing[:10]}")


def write_until_killed(path: Path) -> None:
    """The child process: says an id only after `add` has returned, that is, when the item is on the disk."""
    with kektordb.open(path, sync="always") as db:
        written = db.create_index("written", metric="euclidean")
        number = 0
        while True:
            id = f"item-{number}"
            written.add(id, vector_of(id), {"number": number})
            os.write(1, f"{id}\n".encode())
            number += 1


def vector_of(id: str) -> np.ndarray:
    """Return the vector that belongs to an id of the writer, so that the parent knows what to expect."""
    return np.random.default_rng(list(id.encode())).random(DIMENSIONS, dtype=np.float32)


def show(db: kektordb.Database, hits: kektordb.Results) -> None:
    """Print hits as a table; the summaries come from the key-value store."""
    for hit in hits:
        summary = db.kv.get_str(f"summary/{hit.id}", "")
        print(f"    {hit.score:.3f}  {hit.metadata['kind']:<8}  {hit.id:<46.46}  {summary:.50}")
    print()


def heading(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"\n{bold}{text}{plain}\n{'─' * len(text)}")


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print what was done and how long it took."""
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    duration = f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.2f} ms"
    print(f"  {what:<72}{duration:>12}", flush=True)


if __name__ == "__main__":
    main()
