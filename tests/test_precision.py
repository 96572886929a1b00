"""Precisions: what comes back, what is found, and that a change of precision loses nothing but what it rounds off."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from exact import clusters, distances, recall

import kektordb
from kektordb import Database, Index, _distance
from kektordb.errors import ConfigError, TaskFailed, VectorError
from kektordb.tasks import Cancelled, Control
from kektordb.upkeep.compress import compress
from kektordb.upkeep.copying import Pace

Floats = npt.NDArray[np.float32]

METRICS = ["cosine", "euclidean", "dot"]
PRECISIONS = ["float32", "float16", "int8"]
LEVELS = [level for level in ("v2", "v3", "v4") if level <= _distance.isa]
# Half a code, of rows between -4 and 4 or so.
ROUNDING = {"float32": 0.0, "float16": 2e-3, "int8": 2e-2}


def open_(path: Path | str) -> Database:
    return kektordb.open(path, autosave="", aof_rewrite_percentage=0, n_threads=1)


def filled(db: Database, metric: str, precision: str, rows: Floats, name: str = "x", **options: Any) -> Index:
    index = db.create_index(name, metric=metric, precision=precision, m=8, ef_construction=60, **options)
    index.add_batch([f"i{n}" for n in range(len(rows))], rows, [{"n": n} for n in range(len(rows))])
    return index


def vectors(index: Index) -> Floats:
    """The rows as they come back, in the order of their ids."""
    return np.array([item.vector for item in index.get_many(index.ids()) if item is not None])


def stored(index: Index) -> str:
    return str(index.stats()["stored_precision"])


def turn(db: Database, precision: str, name: str = "x", control: Control | None = None) -> dict[str, Any]:
    return compress(db, name, precision, control or Control())


class Meddling(Control):
    """A control in whose slices something else happens."""

    def __init__(self, *calls: Callable[[], Any]) -> None:
        super().__init__()
        self.calls = list(calls)

    def check(self) -> None:
        super().check()
        if self.calls:
            self.calls.pop(0)()


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    def slices(self: Pace, total: int) -> Iterator[tuple[int, int]]:
        yield from ((start, min(start + 100, total)) for start in range(0, total, 100))

    monkeypatch.setattr(Pace, "slices", slices)


# ------------------------------------------------------------------------------------------------------------- truth


@pytest.mark.parametrize("traversal", ["codes", "float32"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_what_is_found_are_the_nearest_of_the_rows_that_come_back(metric: str, precision: str, traversal: str) -> None:
    rows, queries = clusters(3000, 40, 3), clusters(25, 40, 4)
    with open_(":memory:") as db:
        index = filled(db, metric, precision, rows, traversal=traversal)
        index.delete([f"i{n}" for n in range(0, 3000, 7)])
        ids = index.ids()
        back = vectors(index)
        recalls = []
        for q in queries:
            true = distances(metric, back, q)
            place = {id: n for n, id in enumerate(ids)}
            for ef, filter in [(10, None), (300, None), (10, "n < 1200"), (300, "n < 1200")]:
                found = index.search(q, k=10, ef_search=ef, filter=filter)
                slots = [place[id] for id in found.ids]
                # Halves of a row of unit length do not quite have it.
                atol = 3e-4 if (metric, precision) == ("cosine", "float16") else 3e-6
                np.testing.assert_allclose(found.distances, true[slots], rtol=1e-5, atol=atol)
                assert (np.diff(found.distances) >= 0).all()
                if ef == 300:
                    allowed = [n for n, id in enumerate(ids) if filter is None or int(id[1:]) < 1200]
                    wanted = sorted(allowed, key=lambda n: true[n])[:10]
                    recalls.append(recall([place[id] for id in found.ids], wanted))
        assert stored(index) == precision
        assert np.mean(recalls) >= 0.97


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("metric", METRICS)
def test_rows_come_back_rounded_and_no_worse(metric: str, precision: str) -> None:
    rows = clusters(1500, 40, 3)
    exact = rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows
    with open_(":memory:") as db:
        back = vectors(filled(db, metric, precision, rows))

    # What a range of all rows leaves out at its ends may be clipped by more.
    assert np.quantile(np.abs(back - exact), 0.999) <= ROUNDING[precision]
    if metric == "cosine":
        np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6 if precision == "int8" else 1e-3)


@pytest.mark.parametrize("level", LEVELS)
def test_every_kernel_set_finds_the_nearest_of_bytes(level: str) -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import test_precision as t\n"
        "from kektordb import build_info\n"
        f"assert build_info()['isa'] == {level!r}\n"
        "for metric in t.METRICS:\n"
        "    t.test_what_is_found_are_the_nearest_of_the_rows_that_come_back(metric, 'int8', 'codes')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "KEKTORDB_ISA": level})


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-15, 1e-3, 1e6, 1e15])
def test_the_scale_of_the_data_does_not_matter_to_bytes(metric: str, scale: float) -> None:
    rows, queries = clusters(1500, 30, 3) * np.float32(scale), clusters(10, 30, 4) * np.float32(scale)
    with open_(":memory:") as db:
        index = filled(db, metric, "int8", rows)
        back = vectors(index)
        for q in queries:
            true = distances(metric, back, q)
            found = [int(id[1:]) for id in index.search(q, k=10, ef_search=200).ids]
            assert recall(found, np.argsort(true)[:10].tolist()) >= 0.8


@pytest.mark.parametrize("precision", PRECISIONS)
def test_zero_rows_stay_zero_and_are_at_distance_one_for_cosine(precision: str) -> None:
    rows = clusters(1200, 20, 3)
    rows[[3, 700]] = 0
    with open_(":memory:") as db:
        index = filled(db, "cosine", precision, rows)
        assert (index["i3"].vector == 0).all()
        near = index.search(rows[5], k=1200, ef_search=1200)
        assert [hit.distance for hit in near if hit.id in ("i3", "i700")] == [1.0, 1.0]
        assert [hit.distance for hit in index.search(np.zeros(20), k=5)] == [1.0] * 5


def test_a_long_row_makes_no_other_row_coarse_for_products() -> None:
    rows = clusters(1500, 20, 3)
    rows[7] *= 1000
    with open_(":memory:") as db:
        back = vectors(filled(db, "dot", "int8", rows))

    np.testing.assert_allclose(back[7], rows[7], atol=20)
    np.testing.assert_allclose(np.delete(back, 7, 0), np.delete(rows, 7, 0), atol=0.02)


def test_rows_that_codes_cannot_tell_apart_are_found_all_the_same() -> None:
    rows = np.repeat(clusters(30, 24, 3), 50, axis=0)
    for metric in METRICS:
        with open_(":memory:") as db:
            index = filled(db, metric, "int8", rows)
            for n in range(0, 1500, 50):
                found = index.search(rows[n], k=10, ef_search=50).distances
                assert found == pytest.approx([distances(metric, vectors(index), rows[n]).min()] * 10, abs=1e-5)


# ----------------------------------------------------------------------------------------------------- choosing a scale


@pytest.mark.parametrize("metric", METRICS)
def test_int8_needs_no_training_to_be_used(metric: str) -> None:
    """The original refuses every item before it is trained, or trains itself on the very first one."""
    rows = clusters(1100, 20, 3)
    with open_(":memory:") as db:
        index = db.create_index("x", metric=metric, precision="int8")
        index.add("first", rows[0] * 1e-3)
        assert index.search(rows[0], k=1).ids == ["first"]
        index.add_batch([f"i{n}" for n in range(998)], rows[:998])
        assert stored(index) == ("float32" if metric == "euclidean" else "int8")
        index.add("last", rows[999])
        assert stored(index) == "int8"
        assert index.stats()["precision"] == "int8"
        back = vectors(index)
        assert index.search(rows[7], k=1).distances[0] == pytest.approx(
            distances(metric, back, rows[7]).min(), abs=1e-5
        )
        assert index.search(rows[0], k=1).ids != ["first"] or metric == "cosine"


def test_single_rows_then_a_parallel_batch() -> None:
    """The original fixes its scale by the first item, and the batch that follows is clipped to it."""
    rows = clusters(3000, 20, 3)
    with kektordb.open(":memory:", n_threads=2) as db:
        index = db.create_index("x", metric="euclidean", precision="int8")
        for n in range(20):
            index.add(f"i{n}", rows[n] * 1e-2)
        index.add_batch([f"i{n}" for n in range(20, 3000)], rows[20:])
        # Of all components 0.01 % at either end are left out of the range.
        assert (np.abs(vectors(index)[20:] - rows[20:]) > 0.05).sum() <= 20
        assert all(index.search(rows[n], k=1).ids == [f"i{n}"] for n in range(20, 3000, 100))


@pytest.mark.parametrize("step", [1, 20, 400])
def test_the_scale_follows_rows_that_grow(tmp_path: Path, step: int) -> None:
    rows = clusters(1800, 20, 3)
    rows[1000:] *= 20
    with open_(tmp_path / "db") as db:
        index = db.create_index("x", metric="euclidean", precision="int8")
        index.add_batch([f"i{n}" for n in range(1000)], rows[:1000])
        for n in range(1000, 1800, step):
            index.add_batch([f"i{m}" for m in range(n, n + step)], rows[n : n + step])
        back = vectors(index)
        errors = np.abs(back - rows).max(axis=1)
        # Of rows that come one by one some are clipped before that is seen; of a batch, the ends of the range.
        assert (errors > 1).sum() <= (8 if step == 400 else 120)
        assert (errors[-200:] > 1).sum() <= 12
    with open_(tmp_path / "db") as db:
        assert vectors(db["x"]).tobytes() == back.tobytes()


def test_a_batch_of_writes_may_choose_the_scale(tmp_path: Path) -> None:
    rows = clusters(2500, 20, 3)
    with open_(tmp_path / "db") as db:
        index = db.create_index("x", metric="euclidean", precision="int8")
        with db.batch():
            index.add_batch([f"i{n}" for n in range(1200)], rows[:1200])
            index.add("more", rows[1300])
        assert stored(index) == "int8"
        back = vectors(index)
    with open_(tmp_path / "db") as db:
        assert vectors(db["x"]).tobytes() == back.tobytes()


# ---------------------------------------------------------------------------------------------------- files and replay


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_log_and_snapshot_bring_every_bit_back(tmp_path: Path, metric: str, precision: str) -> None:
    rows = clusters(1600, 24, 3)

    def answers(index: Index) -> list[Any]:
        return [vectors(index).tobytes(), [index.search(q, k=5, ef_search=1600).distances.tolist() for q in rows[:20]]]

    with open_(tmp_path / "db") as db:
        index = filled(db, metric, precision, rows[:700])
        index.add_batch([f"j{n}" for n in range(700)], rows[700:1400] * 3)
        index.upsert("i5", rows[1500])
        index.delete("i6")
        before = answers(index)
    for _ in range(2):
        with open_(tmp_path / "db") as db:
            assert answers(db["x"]) == before
            db.save()
    with open_(tmp_path / "db") as db:
        assert stored(db["x"]) == precision
        db["x"].add_batch([f"k{n}" for n in range(200)], rows[1400:])
        after = answers(db["x"])
    with open_(tmp_path / "db") as db:
        assert answers(db["x"]) == after


@pytest.mark.parametrize("rewrite", [False, True])
@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("metric", METRICS)
def test_compress_and_restart(tmp_path: Path, metric: str, precision: str, rewrite: bool) -> None:
    """In the original an index is float32 again after that, or empty when its log was rewritten, or lacks an item."""
    rows = clusters(1500, 24, 3)
    with open_(tmp_path / "db") as db:
        index = filled(db, metric, "float32", rows, text_language="english")
        index.update_metadata("i3", {"title": "A steamboat on the river"})
        result = index.compress(precision).wait(30)
        assert result["n_rows"] == 1500
        assert result["bytes_after"] < 0.7 * result["bytes_before"]
        assert index.stats()["memory_bytes"]["vectors"] == result["bytes_after"]
        back = vectors(index)
        found = [index.search(q, k=10, ef_search=500).ids for q in rows[:30]]
        if rewrite:
            db.rewrite_aof()
    with open_(tmp_path / "db") as db:
        index = db["x"]
        assert (index.config.precision, stored(index)) == (precision, precision)
        assert vectors(index).tobytes() == back.tobytes()
        assert [index.search(q, k=10, ef_search=500).ids for q in rows[:30]] == found
        assert index["i3"].metadata == {"n": 3, "title": "A steamboat on the river"}
        assert index.search(text="steamboats", k=5).ids == ["i3"]
        index.add("later", rows[0] * 10)
        if metric != "euclidean":
            assert "later" in index.search(rows[0], k=2, ef_search=100).ids


@pytest.mark.parametrize("metric", METRICS)
def test_any_precision_becomes_any_other(metric: str) -> None:
    rows = clusters(1300, 40, 3)
    with open_(":memory:") as db:
        index = filled(db, metric, "float32", rows)
        exact = vectors(index)
        for precision in ("int8", "float16", "float32", "float16", "int8", "float32"):
            before = [index.search(q, k=10, ef_search=200).ids for q in rows[:20]]
            turn(db, precision)
            assert stored(index) == index.config.precision == precision
            after = [index.search(q, k=10, ef_search=200).ids for q in rows[:20]]
            shared = [len(set(b) & set(a)) / 10 for b, a in zip(before, after, strict=True)]
            assert np.mean(shared) > 0.9
        # Rounded twice, and clipped where a range leaves out its ends.
        assert np.quantile(np.abs(vectors(index) - exact), 0.999) < 0.05


@pytest.mark.parametrize("dim", [6, 17, 40])
@pytest.mark.parametrize("metric", METRICS)
def test_what_searches_of_one_precision_left_behind_does_not_disturb_those_of_another(metric: str, dim: int) -> None:
    rows = clusters(1300, dim, 3)
    with open_(":memory:") as db:
        index = db.create_index("x", metric=metric, precision="int8", m=8, ef_construction=60, text_language="simple")
        index.add_batch([f"i{n}" for n in range(1300)], rows, [{"word": f"w{n % 7}"} for n in range(1300)])
        for precision in ("float16", "int8", "float32", "int8", "float16", "float32"):
            index.add("one more", rows[0])
            index.search(rows[0], text="w1")
            index.delete("one more")
            turn(db, precision)
            ids, present = index.ids(), vectors(index)
            for query in rows[:200:20] + 0.1:
                truth = distances(metric, present, query)
                for hit in [*index.search(query), *index.search(query, text="w1", alpha=0.7)]:
                    assert hit.distance == pytest.approx(truth[ids.index(hit.id)], rel=1e-3, abs=1e-3)


def test_an_empty_index_is_compressed_for_what_comes(tmp_path: Path) -> None:
    with open_(tmp_path / "db") as db:
        for name, dim in (("open", None), ("fixed", 20)):
            index = db.create_index(name, metric="euclidean", dim=dim)
            assert index.compress("int8").wait(30)["n_rows"] == 0
            assert (index.config.precision, stored(index)) == ("int8", "float32")
    with open_(tmp_path / "db") as db:
        for name in db:
            db[name].add_batch([f"i{n}" for n in range(1000)], clusters(1000, 20, 3))
            assert stored(db[name]) == "int8"


def test_a_small_index_is_trained_by_compress(tmp_path: Path) -> None:
    rows = clusters(50, 20, 3)
    with open_(tmp_path / "db") as db:
        index = filled(db, "euclidean", "int8", rows)
        assert stored(index) == "float32"
        index.compress("int8").wait(30)
        assert stored(index) == "int8"
        np.testing.assert_allclose(vectors(index), rows, atol=0.03)
        index.add_batch([f"j{n}" for n in range(50)], rows * 100)
        np.testing.assert_allclose(vectors(index)[50:], rows * 100, atol=3)
        with pytest.raises(ConfigError, match="another precision"):
            index.compress("int8")


def test_what_cannot_be_meant_is_refused_at_once() -> None:
    with open_(":memory:") as db:
        index = filled(db, "cosine", "float32", clusters(20, 8, 3))
        for precision in ("float32", "int4", "", None, 8):
            with pytest.raises(ConfigError):
                index.compress(precision)  # type: ignore[arg-type]
        assert not db.tasks


# -------------------------------------------------------------------------------------------- what happens meanwhile


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("metric", METRICS)
def test_writes_and_searches_meanwhile_are_not_lost(
    tmp_path: Path, metric: str, precision: str, small_slices: None
) -> None:
    rows = clusters(1500, 20, 3)
    with open_(tmp_path / "db") as db:
        index = filled(db, metric, "float32", rows[:1200])

        def write() -> None:
            index.add_batch([f"new{n}" for n in range(200)], rows[1200:1400])
            index.upsert("i1", rows[1450], {"n": -1})
            index.delete("i2")
            index.update_metadata("i3", {"m": 3})
            assert "i1" in index.search(rows[1450], k=10, ef_search=200).ids or metric == "dot"
            assert stored(index) == "float32"

        turn(db, precision, control=Meddling(lambda: None, write))
        assert len(index) == 1399
        assert "i2" not in index
        assert index["i3"].metadata == {"n": 3, "m": 3}
        assert index["i1"].metadata == {"n": -1}
        for n in range(200):
            assert f"new{n}" in index.search(rows[1200 + n], k=5, ef_search=100).ids or metric == "dot"
        assert set(index.search(rows[1200], k=1399, ef_search=1399).ids) == set(index.ids())
        back = vectors(index)
    with open_(tmp_path / "db") as db:
        assert vectors(db["x"]).tobytes() == back.tobytes()


def test_a_scale_chosen_meanwhile_begins_the_work_anew(small_slices: None) -> None:
    rows = clusters(2000, 20, 3)
    with open_(":memory:") as db:
        index = filled(db, "euclidean", "int8", rows[:900])
        turn(db, "float16", control=Meddling(lambda: index.add_batch([f"j{n}" for n in range(1100)], rows[900:])))

        assert stored(index) == "float16"
        assert len(index) == 2000
        assert np.quantile(np.abs(vectors(index) - rows), 0.999) < 0.05


def test_rows_that_were_checked_before_and_stored_afterwards_are_rounded(tmp_path: Path) -> None:
    """The precision changes between the check of a batch and its turn to be written."""

    class Late(Sequence[Any]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, n: Any) -> dict[str, Any]:
            if n >= 3:
                raise IndexError
            if index.config.precision == "float32":
                turn(db, "float16")
            return {}

    rows = np.float32(1) / np.arange(3, 15, dtype=np.float32).reshape(3, 4)
    with open_(tmp_path / "db") as db:
        index = filled(db, "euclidean", "float32", clusters(20, 4, 3))
        index.add_batch(["a", "b", "c"], rows, Late())
        assert np.array([index[id].vector for id in "abc"]).tolist() == rows.astype(np.float16).tolist()
        turn(db, "float32")
        with pytest.raises(VectorError, match="'f'"):
            index.add_batch(["d", "f", "e"], rows * np.array([[1], [1e6], [1]], np.float32), Late())
        assert "d" not in index
        back = vectors(index)
    with open_(tmp_path / "db") as db:
        assert vectors(db["x"]).tobytes() == back.tobytes()


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_save_that_is_under_way_keeps_its_view(tmp_path: Path, metric: str, precision: str) -> None:
    rows = clusters(1300, 20, 3)
    path = tmp_path / "db"
    with open_(path) as db:
        index = filled(db, metric, "float32", rows[:1200])
        before = vectors(index)
        todo = [lambda: turn(db, precision), lambda: index.add("late", rows[1250])]
        db.save(progress=lambda *_: todo.pop(0)() if todo else None)  # type: ignore[func-returns-value]
        assert not todo
        after = vectors(index)
        (snapshot,) = path.glob("snapshot-*")
        with kektordb.open(snapshot, read_only=True) as saved:
            assert vectors(saved["x"]).tobytes() == before.tobytes()
    for _ in range(2):
        with open_(path) as db:
            assert stored(db["x"]) == precision
            assert vectors(db["x"]).tobytes() == after.tobytes()
            db.save()


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_cancelled_compress_changes_nothing(tmp_path: Path, precision: str, small_slices: None) -> None:
    rows = clusters(1200, 20, 3)
    control = Meddling()
    control.calls = [lambda: None, control.cancel]
    with open_(tmp_path / "db") as db:
        index = filled(db, "euclidean", "float32", rows)
        log_bytes = db.stats()["log_bytes"]
        with pytest.raises(Cancelled):
            turn(db, precision, control=control)
        assert 0 < control.progress < 1
        assert (index.config.precision, stored(index)) == ("float32", "float32")
        assert vectors(index).tobytes() == rows.tobytes()
        assert db.stats()["log_bytes"] == log_bytes


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_numbers_that_no_half_can_hold_stop_a_compress(metric: str, when: str, small_slices: None) -> None:
    rows = clusters(1200, 20, 3)
    with open_(":memory:") as db:
        index = filled(db, metric, "float32", rows)
        large = np.full(20, 65_520, np.float32)

        if when == "before":
            index.add("large", large)
            with pytest.raises(TaskFailed, match="float16 holds numbers up to 65,504"):
                index.compress("float16").wait(30)
        else:
            with pytest.raises(VectorError, match="float16 holds numbers up to 65,504"):
                turn(db, "float16", control=Meddling(lambda: index.add("large", large)))
        assert stored(index) == index.config.precision == "float32"
        assert index["large"].vector.tolist() == large.tolist()
        index.add("after", rows[0])
        index.delete("large")
        with pytest.raises(VectorError, match="'huge'"):
            filled(db, metric, "float16", rows, "halves").add("huge", large)


@pytest.mark.parametrize("metric", METRICS)
def test_searches_and_writes_in_other_threads_while_the_precision_changes(metric: str) -> None:
    rows = clusters(1500, 40, 3)
    failures: list[BaseException] = []
    stop = threading.Event()

    def work(body: Callable[[int], None]) -> None:
        n = 0
        try:
            while not stop.is_set():
                body(n)
                n += 1
        except BaseException as error:
            failures.append(error)

    with open_(":memory:") as db:
        index = filled(db, metric, "float32", rows)

        def search(n: int) -> None:
            hits = index.search(rows[n % 1500], k=10, ef_search=100)
            assert len(hits) == 10
            assert np.isfinite(hits.distances).all()
            assert metric == "dot" or hits.distances[0] < (0.01 if metric == "cosine" else 2)

        def write(n: int) -> None:
            index.upsert(f"w{n % 50}", rows[n % 1500])
            if n % 10 == 9:
                index.delete(f"w{n % 50}")

        threads = [threading.Thread(target=work, args=(body,)) for body in (search, search, write)]
        for thread in threads:
            thread.start()
        for precision in ("int8", "float32", "float16", "int8", "float16", "float32") * 3:
            turn(db, precision)
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures
        assert len(set(index.ids())) == len(index)
        assert set(index.search(rows[0], k=len(index), ef_search=2000).ids) == set(index.ids())


def test_an_index_that_is_dropped_meanwhile_is_not_found(small_slices: None) -> None:
    with open_(":memory:") as db:
        index = filled(db, "cosine", "float32", clusters(500, 20, 3))
        with pytest.raises(kektordb.IndexNotFound):
            turn(db, "int8", control=Meddling(lambda: db.drop_index("x")))
        assert "x" not in db
        assert index.name == "x"
