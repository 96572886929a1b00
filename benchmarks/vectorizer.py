"""What does a vectorizer take beyond its embedder? First pass, nothing changed, one file in 100 changed, all moved.

    python -m benchmarks.vectorizer                      (10,000 files of 5 kB, an embedder of 1 ms a chunk)
    python -m benchmarks.vectorizer --files 1000 --chunk-ms 0

The embedder sleeps; its answers are made beforehand, so that what it says it takes is what it takes. "Embedder" is the
time within it; the rest of a pass is time in which it had nothing to do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import kektordb
from kektordb.documents import Chunking
from kektordb.vectorizer import FolderSource, Vectorizer

DIM = 384
SHARE = 100


class Stub:
    """An embedder that takes a fixed time for each text."""

    name = "stub"
    dim: int | None = DIM

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._rows = np.random.default_rng(3).standard_normal((50_000, DIM)).astype(np.float32)
        self.n_texts = 0
        self.took_s = 0.0

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Return rows made before, when their time has come."""
        began = time.perf_counter()
        ends = began + self._seconds * len(texts)
        at = np.arange(self.n_texts, self.n_texts + len(texts)) % len(self._rows)
        rows = self._rows[at]
        self.n_texts += len(texts)
        time.sleep(max(0.0, ends - time.perf_counter()))
        self.took_s += time.perf_counter() - began
        return rows

    def embed_query(self, text: str) -> np.ndarray:
        """Return a row."""
        return self._rows[len(text)]


def write(folder: Path, n_files: int, n_bytes: int) -> None:
    """Write files of prose-like text."""
    rng = np.random.default_rng(5)
    words = ["".join(rng.choice(list("abcdefghijklmnoprstuvw"), rng.integers(2, 10))) for _ in range(5000)]
    for n in range(n_files):
        path = folder / f"{n // 200:03d}" / f"{n:05d}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text_of(rng, words, n_bytes))


def text_of(rng: np.random.Generator, words: list[str], n_bytes: int) -> str:
    """Return paragraphs of sentences, about so many bytes."""
    parts: list[str] = []
    length = 0
    while length < n_bytes:
        sentences = []
        for _ in range(rng.integers(2, 6)):
            sentence = " ".join(words[i] for i in rng.integers(0, len(words), rng.integers(6, 18)))
            sentences.append(sentence.capitalize() + ".")
        parts.append(" ".join(sentences))
        length += len(parts[-1]) + 2
    return "\n\n".join(parts)[:n_bytes]


def change(folder: Path) -> int:
    """Change a word in the middle of one file in a hundred; return how many."""
    paths = sorted(folder.rglob("*.md"))[::SHARE]
    for path in paths:
        text = path.read_text()
        middle = text.index(" ", len(text) // 2)
        path.write_text(text[:middle] + " changed" + text[middle:])
    return len(paths)


def move(folder: Path) -> None:
    """Move all files into other folders."""
    for path in list(folder.iterdir()):
        path.rename(path.with_name(f"moved {path.name}"))


def one_pass(vectorizer: Vectorizer, stub: Stub) -> dict[str, Any]:
    """Do a pass; return what it took."""
    stub.took_s, before = 0.0, stub.n_texts
    began, cpu = time.perf_counter(), time.process_time()
    counts = vectorizer.sync()
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "embedder_share": stub.took_s / seconds,
        "embedded": stub.n_texts - before,
        "changed": counts.n_changed,
        "kept": counts.n_kept,
        "deleted": counts.n_deleted,
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=5_000)
    parser.add_argument("--chunk-ms", type=float, default=1.0)
    parser.add_argument("--chunk-size", type=int, default=1000)
    parser.add_argument("--language", default="english", help="of the texts; empty: they are not indexed")
    parser.add_argument("--folder", type=Path, help="of the files, which are written when it is empty")
    parser.add_argument("--only-write", action="store_true", help="write the files, and no more")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "folder"
        folder.mkdir(exist_ok=True)
        if not any(folder.iterdir()):
            write(folder, options.files, options.bytes)
        if options.only_write:
            return
        stub = Stub(options.chunk_ms / 1000)
        with kektordb.open(Path(scratch) / "db") as database:
            vectorizer = Vectorizer(
                database,
                "docs",
                "docs",
                FolderSource(folder),
                stub,
                chunking=Chunking(size=options.chunk_size, overlap=options.chunk_size // 10),
                index_config={"text_language": options.language},
            )
            results: dict[str, Any] = {"files": options.files, "chunk_ms": options.chunk_ms}
            results["first"] = one_pass(vectorizer, stub)
            results["unchanged"] = one_pass(vectorizer, stub)
            results["files_changed"] = change(folder)
            results["one_percent"] = one_pass(vectorizer, stub)
            move(folder)
            results["moved"] = one_pass(vectorizer, stub)
            results["chunks"] = len(database["docs"])
    text = json.dumps(results, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
