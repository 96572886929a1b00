"""How does a database fare that is written for half an hour, saved each minute and killed each two minutes?

``python tests/soak.py [minutes]``: prints a line a life and ends with status 1 when something was lost, when memory
drifted by more than 2 % after the first lives, or when the directory held more than three times the live data. With
KEKTORDB_SOAK_LIFE_SECONDS=1800 one process lives all the time, and memory is compared within its life.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import kektordb

DIM = 64
N_LIVE = 30_000
SAVE_S = float(os.environ.get("KEKTORDB_SOAK_SAVE_SECONDS", "60"))
LIFE_S = float(os.environ.get("KEKTORDB_SOAK_LIFE_SECONDS", "120"))
WARM_UP = 2  # lives
VACUUM_BATCHES = 50  # not by time: memory shall depend on what is written, not on how busy the machine is
PERIOD_BATCHES = 1_000  # the most memory of so many is one point of a life's drift
PACE_S = 0.05  # a batch each: a machine that is busy with other things writes as much
MAX_DRIFT = 0.02
MAX_DISK = 3.0


def vectors(n: int) -> np.ndarray:
    """Return the vectors of the n-th batch."""
    return np.random.default_rng(n).standard_normal((20, DIM)).astype(np.float32)


def write(path: str, n: int) -> None:
    """Write batches from number `n` on, in place of the oldest ones, and say which were acknowledged."""
    db = kektordb.open(path, autosave="", aof_rewrite_percentage=0)
    items = db["items"] if "items" in db else filled(db)
    saved_at = time.monotonic()
    while True:
        with db.batch():
            for j, vector in enumerate(vectors(n)):
                items.upsert(f"i{(20 * n + j) % N_LIVE}", vector, {"batch": n, "text": f"number {n}"})
            db.kv["batch"] = str(n).encode()
        os.write(1, b"%d\n" % n)
        n += 1
        if n % VACUUM_BATCHES == 0:
            items.vacuum().wait(600)
        if time.monotonic() - saved_at > SAVE_S:
            db.rewrite_aof()
            saved_at = time.monotonic()
        time.sleep(PACE_S)


def filled(db: kektordb.Database) -> kektordb.Index:
    """Make the index, with all ids that batches will replace one after the other."""
    rows = np.random.default_rng(2**40).standard_normal((N_LIVE, DIM)).astype(np.float32)
    items = db.create_index("items", metric="euclidean", precision="float32")
    items.add_batch([f"i{i}" for i in range(N_LIVE)], rows, [{"batch": -1, "text": "first"}] * N_LIVE)
    return items


def resident_bytes(process: int) -> int:
    """Return the resident memory of a process."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return 1024 * int(line.split()[1])
    return 0


def disk_bytes(path: Path) -> int:
    """Return the bytes of all files of a database; some may vanish meanwhile."""
    total = 0
    for name in os.listdir(path) if path.exists() else []:
        try:
            total += (path / name).stat().st_size
        except FileNotFoundError:
            continue
    return total


def live(path: Path, n: int) -> dict[str, float]:
    """Let a writer live once from batch `n` on; return what was measured until it was killed.

    Memory is the most in the second half of a life: between two saves it goes up and down by a third.
    """
    command = [sys.executable, __file__, "--write", str(path), str(n)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        first, end, memory, most_disk = n, time.monotonic() + LIFE_S, [], 0
        while time.monotonic() < end:
            n = int(writer.stdout.readline()) + 1
            if n % 25 == 0:
                most_disk = max(most_disk, disk_bytes(path))
                memory.append(resident_bytes(writer.pid))
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
    n = int(rest[-1]) + 1 if rest else n
    points = PERIOD_BATCHES // 25
    periods = [max(memory[at : at + points]) for at in range(0, len(memory) - points + 1, points)]
    return {
        "n": n,
        "batches": n - first,
        "rss": float(max(memory[len(memory) // 2 :])),
        "drift": drift(periods[WARM_UP:]),
        "disk": most_disk,
    }


def drift(memory: list[float]) -> float:
    """Return by which share memory grew, by a straight line through it; 0 for too few points."""
    if len(memory) < 3:
        return 0.0
    slope = np.polyfit(np.arange(len(memory)), memory, 1)[0]
    return float(slope * (len(memory) - 1) / memory[0])


def check(path: Path, n: int) -> tuple[int, float]:
    """Open after a kill; return the batches there are, and the bytes of live data."""
    with kektordb.open(path, autosave="") as db:
        items = db["items"]
        last = int(db.kv.get_str("batch"))
        assert last >= n - 1, f"batch {n - 1} was acknowledged, {last} is the last"
        assert len(items) == N_LIVE
        for batch in random.Random(n).sample(range(max(0, last - N_LIVE // 20 + 1), last + 1), 10):
            for j, vector in enumerate(vectors(batch)):
                item = items[f"i{(20 * batch + j) % N_LIVE}"]
                assert item.metadata["batch"] == batch
                assert np.array_equal(item.vector, vector)
        assert db.check(deep=True).ok
        # What was replaced since the last snapshot is there again as tombstones: no live data.
        items.vacuum().wait(600)
        backup = path.parent / "backup.kdb"
        db.backup(backup)
        return last + 1, backup.stat().st_size


def main(minutes: float) -> int:
    """Run, and return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "db"
        end, n, lives = time.monotonic() + 60 * minutes, 0, []
        while time.monotonic() < end:
            measured = live(path, n)
            n, live_bytes = check(path, int(measured["n"]))
            lives.append({**measured, "live": live_bytes, "disk_share": measured["disk"] / live_bytes})
            print(json.dumps(lives[-1]), flush=True)
    # Memory depends on what was written: lives in which the machine stood still are not compared.
    usual = 0.8 * np.median([one["batches"] for one in lives])
    warm = [one for one in lives[WARM_UP:] if one["batches"] >= usual]
    drifts = [drift([one["rss"] for one in warm]), *(one["drift"] for one in lives)]
    most_drift = max(drifts, key=abs)
    disk = max(one["disk_share"] for one in lives[WARM_UP:] or lives)
    print(f"{len(lives)} lives, {20 * n:,} items written, none lost")
    print(f"RSS drift {most_drift:+.2%}, disk {disk:.2f} x live data")
    return int(abs(most_drift) > MAX_DRIFT or disk > MAX_DISK)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0))
