"""Many threads on one index: nothing missing, nothing wrong, nothing seen by halves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import kektordb

JOIN_S = 60.0
DIM = 12


def rows(n: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def run(*bodies: Callable[[], None], seconds: float = JOIN_S) -> None:
    """Run each body in a thread, all begun together; fail when one raised or did not end."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(bodies))

    def guarded(body: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            try:
                start.wait(JOIN_S)
                body()
            except BaseException as error:
                errors.append(error)

        return call

    threads = [threading.Thread(target=guarded(body), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "deadlock"


class Rounds:
    """Lets readers go on for as long as writers write, and at least a few times."""

    def __init__(self, n_writers: int) -> None:
        self._left = n_writers
        self._lock = threading.Lock()

    def writer_is_done(self) -> None:
        with self._lock:
            self._left -= 1

    def __iter__(self):  # type: ignore[no-untyped-def]
        n = 0
        while self._left > 0 or n < 3:
            yield n
            n += 1


@pytest.mark.parametrize("sync", ["always", "everysec", "memory"])
def test_four_writers_and_four_readers_lose_nothing(tmp_path: Path, sync: str) -> None:
    n_each = 120
    path = ":memory:" if sync == "memory" else str(tmp_path / "db")
    options = {} if sync == "memory" else {"sync": sync}
    vectors = rows(4 * n_each)
    with kektordb.open(path, **options) as db:  # type: ignore[arg-type]
        items = db.create_index("items", metric="euclidean", ef_construction=100)
        acknowledged: list[int] = []
        rounds = Rounds(4)

        def write(thread: int) -> None:
            try:
                for i in range(thread, 4 * n_each, 4):
                    items.add(f"i{i}", vectors[i], {"n": i, "thread": thread})
                    acknowledged.append(i)
                    # What was acknowledged is found at once, by its own vector.
                    hit = items.search(vectors[i], k=1)[0]
                    assert (hit.id, hit.distance, hit.metadata) == (f"i{i}", 0.0, {"n": i, "thread": thread})
            finally:
                rounds.writer_is_done()

        def read(thread: int) -> None:
            rng = np.random.default_rng(thread)
            for _ in rounds:
                n_before = len(acknowledged)
                if not n_before:
                    continue
                i = acknowledged[int(rng.integers(n_before))]
                item = items[f"i{i}"]
                assert np.array_equal(item.vector, vectors[i])
                assert item.metadata == {"n": i, "thread": i % 4}
                hits = items.search(vectors[i], k=5, filter=f"thread = {i % 4}")
                assert hits[0].id == f"i{i}"
                assert all(hit.metadata is not None and hit.metadata["thread"] == i % 4 for hit in hits)
                assert len(set(hits.ids)) == len(hits)
                assert items.count() >= n_before
                assert items.search_batch(vectors[[i, i]], k=1, n_threads=2)[1].ids == [f"i{i}"]

        run(*(lambda t=t: write(t) for t in range(4)), *(lambda t=t: read(t) for t in range(4)))  # type: ignore[misc]

        check_all(items, vectors)
    if sync != "memory":
        with kektordb.open(path) as db:
            check_all(db["items"], vectors)


def check_all(items: kektordb.Index, vectors: npt.NDArray[np.float32]) -> None:
    assert sorted(items.ids(), key=lambda id: int(id[1:])) == [f"i{i}" for i in range(len(vectors))]
    for i, hits in enumerate(items.search_batch(vectors, k=1, ef_search=len(vectors))):
        assert (hits[0].id, hits[0].distance) == (f"i{i}", 0.0)
    assert items.count("n >= 0") == len(vectors)


def test_searches_during_a_batch_see_whole_items_and_all_older_ones() -> None:
    old, new = rows(300, seed=2), rows(4000, seed=3)
    with kektordb.open(":memory:", n_threads=2) as db:
        items = db.create_index("items", metric="euclidean", ef_construction=60)
        items.add_batch([f"old{i}" for i in range(300)], old, [{"age": "old"}] * 300)
        rounds, sizes = Rounds(1), []

        def write() -> None:
            try:
                items.add_batch([f"new{i}" for i in range(4000)], new, [{"age": "new"}] * 4000, n_threads=1)
            finally:
                rounds.writer_is_done()

        def read(thread: int) -> None:
            for n in rounds:
                i = (n * 7 + thread) % 300
                assert items.search(old[i], k=1, ef_search=400).ids == [f"old{i}"]
                assert len(items.search(old[i], k=300, filter="age = old", include=())) == 300
                sizes.append(len(items))
                assert len(items.ids()) >= sizes[-1]
                for hit in items.search(new[n % 4000], k=3, include=("vector", "metadata")):
                    assert hit.metadata == {"age": hit.id[:3]}
                    assert hit.vector is not None
                    source = old if hit.id.startswith("old") else new
                    assert np.array_equal(hit.vector, source[int(hit.id[3:])])

        run(write, lambda: read(0), lambda: read(1))

        assert set(sizes) <= set(range(300, 4301))
        assert len(items) == 4300
        for i in range(0, 4000, 80):
            assert items.search(new[i], k=1, ef_search=400).ids == [f"new{i}"]


def test_an_upserted_id_is_never_missing_and_never_there_twice() -> None:
    """Each id has the vectors of its own corner only, so that a reader knows where to look for it."""
    n_ids, n_upserts = 20, 60
    corners = np.eye(n_ids, dtype=np.float32) * 100
    with kektordb.open(":memory:") as db:
        items = db.create_index("items", metric="euclidean", m=6, ef_construction=40)
        for i in range(n_ids):
            items.add(f"i{i}", corners[i], {"version": 0})
        rounds = Rounds(2)

        def write(thread: int) -> None:
            try:
                for version in range(1, n_upserts):
                    for i in range(thread, n_ids, 2):
                        vector = corners[i].copy()
                        vector[i] += version / n_upserts
                        items.upsert(f"i{i}", vector, {"version": version})
            finally:
                rounds.writer_is_done()

        def read(thread: int) -> None:
            last = [0] * n_ids
            for n in rounds:
                i = (n * 3 + thread) % n_ids
                hits = items.search(corners[i], k=n_ids)
                assert sorted(hits.ids, key=lambda id: int(id[1:])) == [f"i{j}" for j in range(n_ids)]
                assert hits[0].id == f"i{i}"
                assert len(items) == len(items.ids()) == n_ids
                item = items.get(f"i{i}")
                assert item is not None
                version = item.metadata["version"]
                assert item.vector[i] == np.float32(100) + np.float32(version / n_upserts)
                assert version >= last[i], "an older version came back"
                last[i] = version
                assert items.ids(f"version = {n_upserts}") == []

        run(lambda: write(0), lambda: write(1), lambda: read(0), lambda: read(1))

        assert {items[id].metadata["version"] for id in items} == {n_upserts - 1}


def test_saves_beside_writers_and_readers_lose_nothing(tmp_path: Path) -> None:
    vectors = rows(400, seed=4)
    with kektordb.open(tmp_path / "db", sync="no") as db:
        items = db.create_index("items", metric="euclidean", m=6, ef_construction=40)
        rounds = Rounds(2)

        def write(thread: int) -> None:
            try:
                for i in range(thread, 400, 2):
                    items.add(f"i{i}", vectors[i], {"n": i})
                    if i % 5 == 0:
                        items.update_metadata(f"i{i}", {"five": True})
                    if i % 20 == thread:
                        db.kv[f"k{i}"] = str(i).encode()
            finally:
                rounds.writer_is_done()

        def save() -> None:
            for n in rounds:
                db.save()
                if n > 15:
                    break

        def read() -> None:
            for n in rounds:
                found = items.search(vectors[n % 400], k=3)
                assert all(hit.metadata is not None and hit.metadata["n"] == int(hit.id[1:]) for hit in found)

        run(lambda: write(0), lambda: write(1), save, read)
        check_all(items, vectors)
        keys = dict(db.kv)

    with kektordb.open(tmp_path / "db") as db:
        check_all(db["items"], vectors)
        assert db["items"].count("five = true") == 80
        assert dict(db.kv) == keys
        assert len(keys) == 40


def test_deletes_and_adds_of_the_same_ids_keep_their_order() -> None:
    with kektordb.open(":memory:") as db:
        items = db.create_index("items", metric="euclidean")
        wins = [0] * 4

        def write(thread: int) -> None:
            while wins[thread] < 15:
                try:
                    items.add("contested", [float(thread), float(wins[thread])], {"by": thread})
                except kektordb.ItemExists:
                    continue
                wins[thread] += 1
                item = items["contested"]
                assert (item.metadata["by"], item.vector[0]) == (thread, thread), "who added it owns it until it goes"
                items.delete("contested")

        run(*(lambda t=t: write(t) for t in range(4)))  # type: ignore[misc]

        assert len(items) == 0
        assert items.stats()["n_tombstones"] == sum(wins) == 60


def test_an_index_dropped_under_its_readers_is_gone_or_whole() -> None:
    with kektordb.open(":memory:") as db:
        vectors = rows(50)
        rounds = Rounds(1)

        def write() -> None:
            try:
                for _ in range(100):
                    db.create_index("items").add_batch([f"i{i}" for i in range(50)], vectors, n_threads=1)
                    db.drop_index("items")
            finally:
                rounds.writer_is_done()

        def read() -> None:
            for n in rounds:
                assert set(db.stats()["indexes"]) <= {"items"}
                try:
                    hits = db["items"].search(vectors[n % 50], k=50)
                except kektordb.IndexNotFound:
                    continue
                assert len(hits) in (0, 50)

        run(write, read, read)
        assert list(db) == []


@pytest.mark.parametrize("attempt", range(10))
def test_a_first_vector_in_a_race_decides_for_all(attempt: int) -> None:
    with kektordb.open(":memory:") as db:
        items = db.create_index("items")
        refused: list[str] = []

        def write(dim: int) -> None:
            try:
                items.add(f"d{dim}", [1.0] * dim)
            except kektordb.VectorError as error:
                refused.append(str(error))

        def read(dim: int) -> None:
            try:
                found = items.search([1.0] * dim)
            except kektordb.VectorError as error:
                refused.append(f"search: {error}")
                return
            assert found.ids in ([], [f"d{dim}"])

        dims = (2, 300, 4000)
        run(*(lambda d=d: write(d) for d in dims), *(lambda d=d: read(d) for d in dims))  # type: ignore[misc]

        assert sum(not text.startswith("search") for text in refused) == 2
        assert all("dimensions" in text for text in refused)
        assert items.ids() == [f"d{items.dim}"]
