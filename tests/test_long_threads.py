"""Four writers and four readers for as long as a campaign says: what was acknowledged is found at once, and stays."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from campaign import Campaign
from test_threads import run

import kektordb

DIM = 16
MAX_ITEMS = 4_000


def row(i: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(i).standard_normal(DIM).astype(np.float32)


@pytest.mark.crash
@pytest.mark.parametrize("sync", ["always", "everysec"])
def test_four_writers_and_four_readers_see_what_was_acknowledged(tmp_path: Path, sync: str, campaign: Campaign) -> None:
    seconds = campaign.count("SECONDS", 1, 60)
    with kektordb.open(tmp_path / "db", sync=sync, autosave="5 100") as db:
        items = db.create_index("items", metric="euclidean", ef_construction=64)
        there: list[int] = []
        n_written, n_read = [0] * 4, [0] * 4
        end = time.monotonic() + seconds

        def write(thread: int) -> None:
            rng, n, own = random.Random(thread), 0, []
            while time.monotonic() < end or n < 20:
                i = 4 * n + thread
                n += 1
                vector = row(i)
                items.add(f"i{i}", vector, {"n": i, "thread": thread})
                n_written[thread] += 1
                assert items.search(vector, k=1, ef_search=200)[0].id == f"i{i}"
                own.append(i)
                if n % 3 == 0:  # these are left alone, for the readers
                    there.append(own.pop())
                elif n % 7 == 0 or len(own) > MAX_ITEMS // 8:
                    gone = own.pop(rng.randrange(len(own)))
                    items.delete(f"i{gone}")
                    assert f"i{gone}" not in items
                elif n % 11 == 0:
                    again = rng.choice(own)
                    items.upsert(f"i{again}", row(again), {"n": again, "thread": thread, "again": True})
                if len(there) > MAX_ITEMS and thread == 0:
                    with db.batch():
                        for gone in there[:100]:
                            items.delete(f"i{gone}")
                    del there[:100]

        def read(thread: int) -> None:
            rng = random.Random(10 + thread)
            while time.monotonic() < end or n_read[thread] < 20:
                if len(there) < 4:
                    continue
                i = there[rng.randrange(len(there) // 2, len(there))]
                hits = items.search(row(i), k=5, ef_search=200)
                assert hits[0].id == f"i{i}"
                assert hits[0].distance == 0.0
                assert len(set(hits.ids)) == len(hits)
                filtered = items.search(row(i), k=3, filter=f"thread = {i % 4}", ef_search=200)
                assert filtered[0].id == f"i{i}"
                n_read[thread] += 1

        run(
            *(lambda t=t: write(t) for t in range(4)),  # type: ignore[misc]
            *(lambda t=t: read(t) for t in range(4)),  # type: ignore[misc]
            seconds=seconds + 120,
        )
        ids = items.ids()
    with kektordb.open(tmp_path / "db", autosave="") as db:
        assert sorted(db["items"].ids()) == sorted(ids)
        assert all(f"i{i}" in db["items"] for i in there)
        assert db.check(deep=True).ok
    campaign.note(
        "4 writers + 4 readers", sync, seconds=seconds, writes=sum(n_written), searches=sum(n_written) + 2 * sum(n_read)
    )
