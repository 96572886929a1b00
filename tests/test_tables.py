"""Arrow tables and data frames, in and out: of an embedded database and of one on a server."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live import live

import kektordb
from kektordb.data import parts
from kektordb.data.incoming import arrow_source

pa = pytest.importorskip("pyarrow", reason="the extra arrow")
pd = pytest.importorskip("pandas", reason="the extra pandas")

N, DIM = 40, 6
ROWS = np.random.default_rng(9).standard_normal((N, DIM)).astype(np.float32)
IDS = [f"id, {i} ü" for i in range(N)]
METADATA: list[dict[str, Any]] = [
    {"n": i, "text": f"word{i % 5} ünd", "deep": {"a": [1, None, {"b": 2.5}]}, "whole": 2**63 + i} for i in range(N)
]
WHOLE = [(id, row.tolist(), of) for id, row, of in zip(IDS, ROWS, METADATA, strict=True)]


@pytest.fixture(params=["embedded", "remote"])
def database(request: pytest.FixtureRequest) -> Iterator[Any]:
    with kektordb.open(":memory:") as embedded:
        if request.param == "embedded":
            yield embedded
            return
        with live(embedded) as url, kektordb.connect(url) as remote:
            yield remote


@pytest.fixture
def index() -> Iterator[kektordb.Index]:
    with kektordb.open(":memory:") as embedded:
        yield embedded.create_index("a", metric="euclidean")


def filled(database: Any) -> Any:
    found = database.create_index("filled", metric="euclidean")
    found.add_batch(IDS, ROWS, METADATA)
    return found


def items_of(index: Any) -> list[tuple[str, list[float], dict[str, Any]]]:
    return [(item.id, item.vector.tolist(), item.metadata) for item in index.get_many(index.ids()) if item]


def fixed(rows: Any, kind: Any = None) -> Any:
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1), kind)
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def table(**columns: Any) -> Any:
    return pa.table({"id": IDS, "vector": fixed(ROWS), **columns})


# ------------------------------------------------------------------------------------------------------- there and back


def test_what_goes_out_as_arrow_comes_back(database: Any) -> None:
    found = filled(database).to_arrow()
    assert found.schema.field("vector").type == pa.list_(pa.float32(), DIM)
    assert [json.loads(text) for text in found["metadata"].to_pylist()] == METADATA
    back = database.create_index("back", metric="euclidean")
    assert back.add_arrow(found) == N
    assert items_of(back) == WHOLE


def test_columns_have_types_of_their_own_and_come_back(database: Any) -> None:
    index = filled(database)
    index.upsert("none", ROWS[0])
    index.upsert("half", ROWS[0], {"n": 0.5})
    found = index.to_arrow(columns=["text", "n", "gone"])
    assert [field.name for field in found.schema] == ["id", "vector", "text", "n", "gone", "metadata"]
    assert found.schema.field("n").type == pa.float64()
    assert found["n"].to_pylist()[-3:] == [N - 1, None, 0.5]
    assert json.loads(found["metadata"][0].as_py()) == {key: METADATA[0][key] for key in ("deep", "whole")}
    back = database.create_index("back", metric="euclidean")
    back.add_arrow(found)
    assert items_of(back) == items_of(index)


def test_a_filter_chooses_what_goes_out(database: Any) -> None:
    index = filled(database)
    assert index.to_arrow("n < $most", {"most": 3})["id"].to_pylist() == IDS[:3]
    assert index.to_pandas("n < 3")["id"].tolist() == IDS[:3]
    assert index.to_arrow_reader("n < 3", batch_size=2).read_all().num_rows == 3


def test_anything_that_reads_arrow_reads_an_index(database: Any) -> None:
    found = pa.table(filled(database))
    assert found["id"].to_pylist() == IDS
    assert np.array_equal(np.stack(found["vector"].to_numpy()), ROWS)
    wider = pa.schema([("id", pa.large_string()), ("vector", pa.list_(pa.float32(), DIM)), ("metadata", pa.string())])
    assert pa.RecordBatchReader.from_stream(database["filled"], wider).schema == wider


def test_an_index_goes_into_another(database: Any) -> None:
    other = database.create_index("other", metric="euclidean")
    assert other.add_arrow(filled(database)) == N
    assert items_of(other) == WHOLE


def test_nothing_comes_of_an_empty_index(database: Any) -> None:
    empty = database.create_index("empty")
    assert empty.to_arrow().num_rows == 0
    assert list(empty.to_pandas().columns) == ["id", "vector"]
    assert empty.add_arrow(empty.to_arrow()) == 0
    assert empty.from_pandas(empty.to_pandas()) == 0
    assert empty.dim is None


def test_items_that_are_deleted_while_a_stream_is_read_are_left_out(index: kektordb.Index) -> None:
    index.add_batch(IDS, ROWS)
    reader = index.to_arrow_reader(batch_size=10)
    first = reader.read_next_batch()["id"].to_pylist()
    index.delete(IDS[5:25])
    assert first + reader.read_all()["id"].to_pylist() == IDS[:10] + IDS[25:]


@pytest.mark.parametrize("columns", ["n", ["id"], ["metadata"], [1], ["mixed"]])
def test_columns_that_cannot_be(index: kektordb.Index, columns: Any) -> None:
    index.add_batch(["a", "b"], ROWS[:2], [{"mixed": 1}, {"mixed": "one"}])
    with pytest.raises(kektordb.ConfigError, match="column"):
        index.to_arrow(columns=columns)


# ---------------------------------------------------------------------------------------------------------- vectors in


def lists(kind: Any) -> Any:
    return pa.array([row.tolist() for row in ROWS], kind)


VECTORS = {
    "float32": fixed(ROWS),
    "float64": fixed(ROWS.astype(np.float64)),
    "list": lists(pa.list_(pa.float32())),
    "large list": lists(pa.large_list(pa.float64())),
    "slice of a list": pa.concat_arrays([lists(pa.list_(pa.float32()))] * 2).slice(N, N),
    "slice": pa.concat_arrays([fixed(ROWS + 1), fixed(ROWS), fixed(ROWS + 2)]).slice(N, N),
    "tensors": pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [DIM]), fixed(ROWS)),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_come_in_bit_by_bit(index: kektordb.Index, name: str) -> None:
    index.add_arrow(pa.table({"id": IDS, "vector": VECTORS[name]}))
    assert [item[1] for item in items_of(index)] == ROWS.tolist()


def test_halves_and_whole_numbers_come_in(index: kektordb.Index) -> None:
    halves, bytes_ = ROWS.astype(np.float16), (ROWS * 10).astype(np.int8)
    index.add_arrow(pa.table({"id": IDS, "vector": fixed(halves)}))
    index.add_arrow(pa.table({"id": IDS, "vector": fixed(bytes_)}), replace=True)
    assert [item[1] for item in items_of(index)] == bytes_.tolist()
    index.add_arrow(pa.table({"id": IDS, "vector": fixed(halves)}), replace=True)
    assert [item[1] for item in items_of(index)] == halves.astype(np.float32).tolist()


@pytest.mark.parametrize("kind", ["float32", "float64", "list"])
def test_vectors_are_not_copied(kind: str) -> None:
    source = pa.table({"id": IDS, "vector": VECTORS[kind]})
    (part,) = arrow_source(source, "id", "vector", None, None).parts
    values = source["vector"].chunk(0).flatten().to_numpy()
    assert np.shares_memory(part.vectors, values)


@pytest.mark.parametrize("size", [1, 7, N, 1000])
@pytest.mark.parametrize("batch", [1, 3, 11, N])
def test_batches_of_any_size_become_parts_of_one(
    index: kektordb.Index, batch: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", size)
    data = table(n=range(N))
    lengths = [
        len(part.ids) for part in arrow_source(data.to_reader(max_chunksize=batch), "id", "vector", None, None).parts
    ]
    assert lengths == [size] * (N // size) + [N % size] * (N % size > 0)
    index.add_arrow(data.to_reader(max_chunksize=batch))
    assert items_of(index) == [(id, row.tolist(), {"n": i}) for i, (id, row) in enumerate(zip(IDS, ROWS, strict=True))]


def test_a_stream_is_read_as_it_is_stored(index: kektordb.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than two batches are ahead of the index at any time: memory is bounded by that."""
    monkeypatch.setattr(parts, "MAX_ROWS", 5)
    ahead = []

    def batches() -> Iterator[Any]:
        for n_read, batch in enumerate(table().to_batches(max_chunksize=5), 1):
            ahead.append(5 * n_read - len(index))
            yield batch

    index.add_arrow(pa.RecordBatchReader.from_batches(table().schema, batches()))
    assert len(index) == N
    assert max(ahead) <= 10


def test_large_vectors_come_in_smaller_parts() -> None:
    assert parts.rows_at_once(128) == parts.MAX_ROWS
    assert parts.rows_at_once(65_536) * 65_536 * 4 <= parts.MAX_BYTES


def test_progress_and_totals(index: kektordb.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", 15)
    told: list[tuple[int, int]] = []
    index.add_arrow(table(), progress=lambda *done: told.append(done))
    assert told == [(15, N), (30, N), (N, N)]
    told.clear()
    index.add_arrow(table().to_reader(), progress=lambda *done: told.append(done), replace=True)
    assert told == [(15, 0), (30, 0), (N, 0)]
    with pytest.raises(kektordb.ConfigError, match="progress"):
        index.add_arrow(table(), progress=3)


def test_sources_of_all_kinds(index: kektordb.Index, tmp_path: Any) -> None:
    from pyarrow import dataset, parquet

    parquet.write_table(table(), tmp_path / "a.parquet")
    of_parquet = parquet.ParquetFile(tmp_path / "a.parquet")
    batches = pa.RecordBatchReader.from_batches(of_parquet.schema_arrow, of_parquet.iter_batches(7))
    for source in (
        table(),
        table().to_batches()[0],
        batches,
        dataset.dataset(tmp_path / "a.parquet"),
        dataset.dataset(tmp_path / "a.parquet").scanner(),
        index,
    ):
        assert index.add_arrow(source, replace=True) == N
    of_parquet.close()
    assert [item[:2] for item in items_of(index)] == [item[:2] for item in WHOLE]


# -------------------------------------------------------------------------------------------------- ids and metadata in


def test_ids_of_all_kinds(index: kektordb.Index) -> None:
    for ids in (
        pa.array(range(N), pa.int64()),
        pa.array(map(str, range(N)), pa.large_string()),
        pa.array(map(str, range(N)), pa.string_view()),
        pa.array(map(str, range(N))).dictionary_encode(),
        pa.array(range(N), pa.uint8()),
    ):
        index.add_arrow(pa.table({"key": ids, "v": fixed(ROWS)}), id="key", vector="v", replace=True)
    assert index.ids() == list(map(str, range(N)))


def test_metadata_of_all_kinds(index: kektordb.Index) -> None:
    when = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)
    struct = pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.int64()), ("d", pa.list_(pa.int64()))]))])
    data = pa.table(
        {
            "id": ["x", "y"],
            "vector": fixed(ROWS[:2]),
            "metadata": pa.array([{"a": 1, "b": {"c": None, "d": [1, None]}}, None], struct),
            "when": pa.array([when, None]),
            "day": pa.array([when.date(), None]),
            "nanos": pa.array([when, None], pa.timestamp("ns", "UTC")),
            "text": pa.array(["t", None]).dictionary_encode(),
            "view": pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), pa.array(["v"], pa.string_view())),
            "flag": [True, None],
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "no": [None, None],
            "single": pa.array([0.5, 1.5], pa.float32()),
        }
    )
    assert index.add_arrow(data) == 2
    assert index["x"].metadata == {
        "a": 1,
        "b": {"d": [1, None]},
        "when": when.isoformat(),
        "day": "2024-02-29",
        "nanos": when.isoformat(),
        "text": "t",
        "view": "v",
        "flag": True,
        "map": {"k": 1},
        "single": 0.5,
    }
    assert index["y"].metadata == {"single": 1.5}
    index.add_arrow(data, replace=True, metadata=None, columns=["flag"])
    assert index["x"].metadata == {"flag": True}


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"id": pa.array([*IDS[:-1], None])}, kektordb.IdError, "row 39: expected an id, got null"),
        ({"id": pa.array([True] * N)}, kektordb.IdError, "row 0: .*True"),
        ({"id": pa.array([""] * N)}, kektordb.IdError, "1 to 1024"),
        ({"id": pa.array(IDS).cast(pa.binary())}, kektordb.IdError, "row 0"),
        ({"id": pa.array(["same"] * N)}, kektordb.IdError, "twice"),
        ({"vector": pa.array(range(N))}, kektordb.VectorError, "lists of numbers, got int64"),
        ({"vector": pa.array([["a"]] * N)}, kektordb.VectorError, "lists of string"),
        ({"vector": pa.array([[1.0], None] * (N // 2))}, kektordb.VectorError, r"id, 1 ü.*got null"),
        ({"vector": pa.array([[1.0], [None]] * (N // 2))}, kektordb.VectorError, r"id, 1 ü.*got null"),
        ({"vector": pa.array([[1.0], [1.0, 2.0]] * (N // 2))}, kektordb.VectorError, r"id, 1 ü.*1 dimensions, got 2"),
        ({"vector": pa.array([[]] * N, pa.list_(pa.float32()))}, kektordb.VectorError, "1 to"),
        ({"vector": fixed(np.full((N, DIM), np.nan))}, kektordb.VectorError, "NaN"),
        ({"metadata": pa.array(["{"] * N)}, kektordb.MetadataError, r"id, 0 ü.*JSON object"),
        ({"metadata": pa.array(["[1]"] * N)}, kektordb.MetadataError, r"id, 0 ü.*JSON object"),
        ({"metadata": pa.array(range(N))}, kektordb.MetadataError, r"id, 0 ü.*a struct"),
        ({"n": pa.array([np.nan] * N)}, kektordb.MetadataError, r"id, 0 ü.*n"),
        ({"n": pa.array([b"x"] * N)}, kektordb.MetadataError, r"id, 0 ü.*n"),
        ({"n": pa.array([Decimal("1.5")] * N)}, kektordb.MetadataError, r"id, 0 ü.*n"),
        ({"n": pa.array([1], pa.timestamp("ns")).take(pa.array([0] * N))}, kektordb.MetadataError, "column 'n'"),
        ({"n": pa.array([datetime.timedelta(1)] * N)}, kektordb.MetadataError, r"id, 0 ü.*n"),
    ],
)
def test_tables_that_are_wrong_store_nothing(
    index: kektordb.Index, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    columns = {"id": pa.array(IDS), "vector": fixed(ROWS), **changes}
    with pytest.raises(error, match=said):
        index.add_arrow(pa.table(columns))
    assert len(index) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "no"}, "one column 'no', got id, vector"),
        ({"vector": "no"}, "one column 'no'"),
        ({"columns": ["no"]}, "one column 'no'"),
        ({"columns": "n"}, "sequence of names"),
        ({"columns": ["id"]}, "different columns"),
        ({"id": "vector"}, "different columns"),
    ],
)
def test_columns_that_are_not_there(index: kektordb.Index, options: dict[str, Any], said: str) -> None:
    with pytest.raises(kektordb.ConfigError, match=said):
        index.add_arrow(table(), **options)


@pytest.mark.parametrize("data", [None, 3, "path", [1], {"id": []}, object()])
def test_things_that_are_no_table(index: kektordb.Index, data: Any) -> None:
    with pytest.raises(kektordb.ConfigError, match="__arrow_c_stream__"):
        index.add_arrow(data)
    with pytest.raises(kektordb.ConfigError, match="DataFrame"):
        index.from_pandas(data)


def test_an_error_says_how_many_came_in_before(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", 10)
    index = database.create_index("a")
    index.add(IDS[25], ROWS[25])
    with pytest.raises(kektordb.ItemExists) as caught:
        index.add_arrow(table())
    assert caught.value.__notes__ == ["the first 20 items were stored before"]
    assert set(index.ids()) == {*IDS[:20], IDS[25]}
    assert index.add_arrow(table(), replace=True) == N


def test_a_source_that_fails_leaves_what_came_in(index: kektordb.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", 10)

    def batches() -> Iterator[Any]:
        yield from table().to_batches(max_chunksize=10)[:2]
        raise OSError("the network is gone")

    with pytest.raises(OSError, match="the network is gone"):
        index.add_arrow(pa.RecordBatchReader.from_batches(table().schema, batches()))
    assert index.ids() == IDS[:20]


# -------------------------------------------------------------------------------------------------------------- pandas


def test_what_goes_out_as_a_frame_comes_back(database: Any) -> None:
    index = filled(database)
    odd: list[dict[str, Any]] = [
        {"id": "other", "vector": [1], "metadata": 5, "n": 1},
        {"metadata": {"n": 1}, "n": "text"},
        {"n": 2**64 - 1, "flag": True},
        {},
    ]
    index.add_batch([f"odd{i}" for i in range(4)], ROWS[:4], odd)
    frame = index.to_pandas()
    assert frame["whole"].tolist()[:N] == [of["whole"] for of in METADATA]
    back = database.create_index("back", metric="euclidean")
    assert back.from_pandas(frame) == N + 4
    assert items_of(back) == items_of(index)


def test_columns_of_a_frame_have_the_types_of_their_values(index: kektordb.Index) -> None:
    index.add_batch(["a", "b"], ROWS[:2], [{"n": 1, "x": 0.5, "s": "t", "f": True, "gap": 1, "half": 1.5}, {}])
    index.update_metadata("b", {"n": 2, "x": 1.5, "s": "u", "f": False})
    frame = index.to_pandas()
    assert [str(frame[name].dtype) for name in ("n", "x", "f", "gap", "half")] == [
        *("int64", "float64", "bool", "object", "float64")
    ]
    assert frame["gap"].tolist() == [1, None]
    assert frame["vector"][0].dtype == np.float32


def test_frames_of_users(index: kektordb.Index) -> None:
    frame = pd.DataFrame(
        {
            "x": ROWS[:3, 0],
            "y": ROWS[:3, 1],
            "when": [pd.Timestamp("2024-02-29 12:00"), pd.NaT, pd.Timestamp("2024-03-01")],
            "price": [1.5, np.nan, 3.0],
            "count": pd.array([1, None, 3], dtype="Int64"),
            "tags": [["a", "b"], None, np.array(["c"])],
            "kind": pd.Categorical(["p", "q", "p"]),
        },
        index=pd.Index([7, 8, 9], name="id"),
    )
    assert index.from_pandas(frame, vector=["x", "y"]) == 3
    assert index["7"].metadata == {
        "when": "2024-02-29T12:00:00",
        "price": 1.5,
        "count": 1,
        "tags": ["a", "b"],
        "kind": "p",
    }
    assert index["8"].metadata == {"kind": "q"}
    assert index["9"].vector.tolist() == ROWS[2, :2].tolist()
    index.from_pandas(frame.reset_index(drop=True), id=None, vector=["x", "y"], columns=["kind"])
    assert index["0"].metadata == {"kind": "p"}
    index.add_arrow(pd.DataFrame({"id": ["arrow"], "vector": [[1.0, 2.0]], "n": [3]}))
    assert index["arrow"].metadata == {"n": 3}


@pytest.mark.parametrize(
    ("frame", "options", "said"),
    [
        ({"id": ["a", None], "vector": [[1.0], [2.0]]}, {}, "row 1: expected an id"),
        ({"id": ["a", 1.5], "vector": [[1.0], [2.0]]}, {}, "row 1: expected an id"),
        ({"id": ["a", "b"], "vector": [[1.0], [2.0, 3.0]]}, {}, "different lengths"),
        ({"id": ["a", "b"], "vector": [[1.0], None]}, {}, "vector of id 'b' as a list of numbers, got (None|nan)"),
        ({"id": ["a", "b"], "vector": ["x", "y"]}, {}, "vector of id 'a' as a list of numbers, got 'x'"),
        ({"id": ["a"], "vector": [[1.0]], 2024: [7]}, {}, "strings as names of columns, got 2024"),
        ({"id": ["a", "b"], "vector": [1.0, 2.0]}, {}, "two axes"),
        ({"id": ["a", "b"]}, {}, "one column 'vector'"),
        ({"vector": [[1.0]]}, {}, "one column 'id'"),
        ({"id": ["a"], "vector": [[1.0]]}, {"vector": []}, "got none"),
        ({"id": ["a"], "vector": [[1.0]], "metadata": ["x"]}, {}, "expected a dict"),
        ({"id": ["a"], "vector": [[1.0]], "n": [object()]}, {}, "id 'a'.*n"),
        ({"id": ["a"], "vector": [[1.0]], "n": [b"x"]}, {}, "id 'a'.*n"),
    ],
)
def test_frames_that_are_wrong_store_nothing(
    index: kektordb.Index, frame: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(kektordb.KektorError, match=said):
        index.from_pandas(pd.DataFrame(frame), **options)
    assert len(index) == 0


def test_frames_come_in_in_parts(index: kektordb.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", 7)
    told: list[tuple[int, int]] = []
    frame = pd.DataFrame({"id": IDS, "vector": list(ROWS), "n": range(N)})
    index.from_pandas(frame, progress=lambda *done: told.append(done))
    assert told[0] == (7, N)
    assert told[-1] == (N, N)
    assert items_of(index) == [(id, row.tolist(), {"n": i}) for i, (id, row) in enumerate(zip(IDS, ROWS, strict=True))]


KILLED = """
import sys
import numpy as np
import pyarrow as pa
import kektordb
from kektordb.data import parts
parts.MAX_ROWS = 100
flat = pa.array(np.random.default_rng(1).standard_normal(4 * 20_000).astype(np.float32))
table = pa.table({"id": map(str, range(20_000)), "vector": pa.FixedSizeListArray.from_arrays(flat, 4)})
with kektordb.open(sys.argv[1]) as database:
    database.create_index("a").add_arrow(table, progress=lambda done, total: print(done, flush=True))
"""


def test_of_what_a_killed_process_added_each_part_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "db")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(7)]
        process.kill()
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    with kektordb.open(tmp_path / "db") as database:
        found = database["a"].ids()
        assert len(found) in (told[-1], told[-1] + 100)
        assert found == [str(i) for i in range(len(found))]
        assert database.check(deep=True).verdict in ("sound", "torn tail")


def test_threads_may_add_at_the_same_time(index: kektordb.Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", 7)
    sources = [table().set_column(0, "id", pa.array([f"{n} {id}" for id in IDS])) for n in range(6)]
    threads = [threading.Thread(target=index.add_arrow, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = index.to_arrow()
        assert found.num_rows == len(set(found["id"].to_pylist()))
    for thread in threads:
        thread.join()
    assert sorted(index.ids()) == sorted(f"{n} {id}" for id in IDS for n in range(6))
    assert np.array_equal(index[f"3 {IDS[5]}"].vector, ROWS[5])
