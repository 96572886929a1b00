"""Seeded fuzzing: a body runs with one random generator after the other, and is watched for crashes, hangs and memory.

A run is told again from its number: ``KEKTORDB_FUZZ_SEED`` and the number are in every failure, and while a campaign
runs the number is in ``build/fuzz-NAME.run``, for failures that take the process with them.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from campaign import BUILD, Campaign
from xxhash import xxh3_64_intdigest

__all__ = ["Body", "Chance", "broken", "fuzz", "mangled"]

T = TypeVar("T")
MAX_S = 1.0
LONG_S = 0.05
# What was freed stays for a while under `make debug`.
MAX_BYTES = (512 if "KEKTORDB_SANITIZE" in os.environ else 64) << 20
COLLECT = 64
NUMBERS = [0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
NUMBERS += [2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


class Chance(random.Random):
    """A `random.Random` that chooses in a third of the time: numbers up to 2**53, not perfectly even."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return int(self.random() * start) if stop is None else start + int(self.random() * (stop - start))

    def randint(self, a: int, b: int) -> int:
        return a + int(self.random() * (b - a + 1))

    def choice(self, seq: Sequence[T]) -> T:  # type: ignore[override]
        return seq[int(self.random() * len(seq))]


Body = Callable[[Chance], int]


def fuzz(campaign: Campaign, name: str, body: Body, n_short: int) -> None:
    """Run `body` for as long as a campaign says, or `n_short` times; it returns the bytes of its input.

    Garbage is collected often: what one run takes is measured, not what many leave behind. ``KEKTORDB_FUZZ_RUNS``
    chooses a number of runs instead of seconds, ``KEKTORDB_FUZZ_FIRST`` the number of the first one.
    """
    deadline = campaign.deadline()
    wanted = int(os.environ.get("KEKTORDB_FUZZ_RUNS", 0)) or (n_short if deadline is None else 0)
    first = int(os.environ.get("KEKTORDB_FUZZ_FIRST", 0))
    seed = os.environ.get("KEKTORDB_FUZZ_SEED", "0" if deadline is None else str(int(time.time())))
    BUILD.mkdir(exist_ok=True)
    where = os.devnull if deadline is None else BUILD / f"fuzz-{name}.run"
    current = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    rng, start = Chance(), xxh3_64_intdigest(f"{name} {seed}".encode())
    slowest, largest, n, memory, began = 0.0, 0, 0, _peak_bytes(), time.process_time()
    gc.collect()
    gc.freeze()  # what all the modules hold is not looked through again and again
    try:
        while n < wanted if wanted else time.monotonic() < (deadline or 0):
            number = first + n
            if deadline is not None:
                os.pwrite(current, b"seed %s, run %d\n" % (seed.encode(), number), 0)
            rng.seed(start + number)
            at = time.perf_counter()
            try:
                largest = max(largest, body(rng))
                seconds = time.perf_counter() - at
                if seconds > LONG_S:
                    # Again, in CPU seconds: a machine that is busy with other things is no hang.
                    at = time.process_time()
                    rng.seed(start + number)
                    body(rng)
                    seconds = min(seconds, time.process_time() - at)
                    assert seconds < MAX_S, f"it took {seconds:.1f} s"
                slowest = max(slowest, seconds)
            except BaseException as error:
                error.add_note(f"KEKTORDB_FUZZ_SEED={seed} KEKTORDB_FUZZ_FIRST={number} KEKTORDB_FUZZ_RUNS=1")
                raise
            n += 1
            if n % COLLECT == 0:
                gc.collect()
    finally:
        gc.unfreeze()
        os.close(current)
    grown = _peak_bytes() - memory
    campaign.note(
        "fuzz",
        name,
        runs=n,
        per_cpu_s=round(n / (time.process_time() - began)),
        slowest_ms=round(1000 * slowest, 1),
        largest_input=largest,
        memory_grew_mb=round(grown / 1e6, 1),
        seed=seed,
    )
    assert n > 0
    assert grown < 4 * largest + MAX_BYTES, f"memory grew by {grown:,} bytes"


def mangled(rng: Chance, data: bytes, most: int = 3) -> bytes:
    """Return `data` with one to `most` changes: bytes, numbers, pieces that go, come or come twice."""
    found = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(found) + 1)
        what = rng.randrange(8)
        if what == 0:
            del found[at : at + rng.choice([1, 2, 4, 8, 1 << 20])]
        elif what == 1:
            found[at:at] = rng.randbytes(rng.choice([1, 2, 4, 8]))
        elif what == 2:
            length = rng.choice([4, 8, 64])
            found[at:at] = found[max(0, at - length) : at]
        elif what == 3 and found:
            found[at % len(found)] ^= 1 << rng.randrange(8)
        elif what == 4 and found:
            found[at % len(found)] = rng.choice([0, 1, 0x7F, 0x80, 0xC1, 0xFF, rng.randrange(256)])
        else:
            size = rng.choice([1, 2, 4, 8])
            at -= at % size
            if at + size <= len(found):
                value = rng.choice(NUMBERS) + (rng.randint(-3, 3) if rng.random() < 0.3 else 0)
                found[at : at + size] = (value % (1 << 8 * size)).to_bytes(
                    size, rng.choice(["little", "little", "big"])
                )
    return bytes(found)


def broken(rng: Chance, value: Any) -> Any:
    """Return a tree of lists, dicts and scalars with something in it changed."""
    if isinstance(value, list | tuple) and value and rng.random() < 0.9:
        items = list(value)
        at = rng.randrange(len(items))
        what = rng.random()
        if what < 0.1:
            del items[at]
        elif what < 0.2:
            items.insert(at, rng.choice(items))
        elif what < 0.25:
            items[at] = rng.choice(items)
        else:
            items[at] = broken(rng, items[at])
        return items
    if isinstance(value, dict) and value and rng.random() < 0.9:
        items_ = dict(value)
        key = rng.choice(list(items_))
        if rng.random() < 0.1:
            del items_[key]
        elif rng.random() < 0.05:
            items_["other"] = items_.pop(key)
        else:
            items_[key] = broken(rng, items_[key])
        return items_
    if isinstance(value, bytes) and rng.random() < 0.8:
        return mangled(rng, value)
    if type(value) is int and rng.random() < 0.7:
        return rng.choice([value + 1, value - 1, -value, value * 2, *NUMBERS[:-4], 2**63 - 1])
    if isinstance(value, str) and rng.random() < 0.5:
        return rng.choice(["", value + "x", value[:-1], "\0", "é" * 600, value * 2])
    return rng.choice([None, True, False, 0, 1, -1, 1.5, float("nan"), float("inf"), "", "x", b"", b"\x80", [], {}])


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
