"""A program whose children write for ever and say what was acknowledged, to be killed by a test; and what they write.

The program itself opens nothing: it imports once, and then forks a child for each line that it reads.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import kektordb
from kektordb.cli import main as run_command
from kektordb.safety.dumping import dump
from kektordb.safety.undumping import load
from kektordb.tasks import Control
from kektordb.upkeep.compress import compress
from kektordb.upkeep.vacuum import vacuum

N_IMPORTED = 100


def vec(n: int, dim: int = 4) -> npt.NDArray[np.float32]:
    """Return the n-th vector."""
    return np.random.default_rng(n).standard_normal(dim).astype(np.float32)


def _single(db: kektordb.Database, n: int) -> None:
    db["a"].add(f"s{n}", vec(n), {"n": n})


def _many(db: kektordb.Database, n: int) -> None:
    vectors = np.random.default_rng(n).standard_normal((N_IMPORTED, 4)).astype(np.float32)
    db["a"].add_batch([f"m{n}-{j}" for j in range(N_IMPORTED)], vectors, [{"m": n}] * N_IMPORTED)


def _import(db: kektordb.Database, n: int) -> None:
    """``kektordb import``, which opens and closes the directory; a model without one takes the items as they are."""
    if db.path is None:
        _many(db, n)
        return
    folder = Path(f"{db.path}.items")
    folder.mkdir(exist_ok=True)
    vectors = np.random.default_rng(n).standard_normal((N_IMPORTED, 4)).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    (folder / "ids.txt").write_text("".join(f"m{n}-{j}\n" for j in range(N_IMPORTED)))
    (folder / "metadata.jsonl").write_text(f'{{"m": {n}}}\n' * N_IMPORTED)
    db.close()
    files = [str(folder / name) for name in ("vectors.npy", "ids.txt", "metadata.jsonl")]
    with contextlib.redirect_stdout(io.StringIO()):
        status = run_command(["import", str(db.path), "a", files[0], "--ids", files[1], "--metadata", files[2]])
    assert status == 0


def _group(db: kektordb.Database, n: int) -> None:
    with db.batch():
        db["a"].add(f"g{n}", vec(n))
        db.kv["last"] = str(n).encode()
        db["a"].update_metadata(f"s{n - 6}", {"g": n})


def _backup(db: kektordb.Database, n: int) -> None:
    db.backup(f"{db.path}.backup")


def _dump(db: kektordb.Database, n: int) -> None:
    dump(db, f"{db.path}.dump{n}")


def _load(db: kektordb.Database, n: int) -> None:
    source = f"{db.path}.dump{n - 1}"
    if not os.path.exists(source):  # the first step of a life
        dump(db, source)
    load(source, f"{db.path}.loaded{n}")


def _close(db: kektordb.Database, n: int) -> None:
    db.close()


Action = Callable[[kektordb.Database, int], Any]

# Done in turn; each can be told from its number. What a name begins with is what the rounds of the campaign count.
ACTIONS: list[tuple[str, Action]] = [
    ("add", _single),
    ("add", _single),
    ("batch", lambda db, n: db["a"].add_batch([f"b{n}-{j}" for j in range(3)], [vec(n + j) for j in range(3)])),
    ("delete", lambda db, n: db["a"].delete(f"s{n - 2}")),
    ("upsert", lambda db, n: db["a"].upsert(f"s{n - 3}", vec(n), {"n": n})),
    ("save", lambda db, n: db.save()),
    ("key", lambda db, n: db.kv.__setitem__(f"k{n}", str(n).encode())),
    ("group", _group),
    ("import", _import),
    ("compress", lambda db, n: compress(db, "a", ("int8", "float16", "float32")[n // len(ACTIONS) % 3], Control())),
    ("rewrite", lambda db, n: db.rewrite_aof()),
    ("delete by filter", lambda db, n: db["a"].delete(filter=f"m = {n - 3}")),
    ("backup", _backup),
    ("vacuum", lambda db, n: vacuum(db, "a", Control())),
    ("dump", _dump),
    ("load", _load),
    ("large batch", _many),
    ("close", _close),
]
# Those that leave the contents as they are: a model need not do them.
SILENT = {"save", "rewrite", "backup", "vacuum", "dump", "load", "close"}


def name_of(n: int) -> str:
    """Return what the n-th step does."""
    return ACTIONS[n % len(ACTIONS)][0]


def step(db: kektordb.Database, n: int) -> None:
    """Do the n-th thing of a life that can be told from its number."""
    ACTIONS[n % len(ACTIONS)][1](db, n)


def prepare(db: kektordb.Database) -> None:
    """Make the index, once."""
    if "a" not in db:
        db.create_index("a", metric="euclidean", m=4, ef_construction=20)


def child(path: str, sync: str, start: int) -> None:
    """Write for ever, and say the number of each step that was acknowledged."""
    os.write(1, b"opening\n")
    db = kektordb.open(path, sync=sync, autosave="", n_threads=1)
    prepare(db)
    os.write(1, b"ready\n")
    for n in range(start, 1_000_000):
        step(db, n)
        os.write(1, b"%d\n" % n)
        if db.closed:
            db = kektordb.open(path, sync=sync, autosave="", n_threads=1)


def main() -> None:
    """Fork a writer for each line; say its process, and when it is dead."""
    import blosc2  # noqa: F401  (once, and not at the first save of each child)

    for line in sys.stdin:
        path, sync, start = json.loads(line)
        process = os.fork()
        if not process:
            try:
                child(path, sync, start)
            finally:
                os._exit(1)
        os.write(1, b"process %d\n" % process)
        os.waitpid(process, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main()
