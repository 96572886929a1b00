"""Files for other systems say what the index holds, as those systems read them."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kektordb
from kektordb import cli
from kektordb.data import elsewhere, parts
from kektordb.data.elsewhere import point_id

UUID = "0b1f2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
ITEMS: dict[str, tuple[list[float], dict[str, Any]]] = {
    "a": ([0.1, -2.5], {"text": "tab\there\nnew \\ line\r\\N \\t", "n": 2**63, "deep": {"ü": [1, None, True, "\x85"]}}),
    UUID: ([1e-40, 3e18], {}),
    "\t\n\\.": ([16777216, 0], {"x": 0.1, "zero": "\\u0000"}),
    "42": ([1.5, 1.25], {"id": "own"}),
}


@pytest.fixture(params=["cosine", "euclidean", "dot"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with kektordb.open(tmp_path / "db") as database:
        made = database.create_index('the "index"', metric=request.param)
        made.add_batch(list(ITEMS), [row for row, _ in ITEMS.values()], [of for _, of in ITEMS.values()])
        yield made


def copied(line: str) -> list[str]:
    """Read a line as COPY does: https://www.postgresql.org/docs/current/sql-copy.html, text format."""
    assert line != "\\."
    single = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
    fields = line.split("\t")
    assert "\\N" not in fields
    return [re.sub(r"\\(.)", lambda found: single.get(found[1], found[1]), field, flags=re.DOTALL) for field in fields]


def test_pgvector(index: kektordb.Index, tmp_path: Path) -> None:
    file = tmp_path / "it's.copy"
    assert index.export(file, format="pgvector") == len(ITEMS)
    lines = file.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    found = [copied(line) for line in lines]
    assert [id for id, _, _ in found] == list(ITEMS)
    for (id, vector, metadata), item in zip(found, index.get_many(list(ITEMS)), strict=True):
        assert item is not None
        assert np.array_equal(np.array(json.loads(vector), np.float32), item.vector)
        assert json.loads(metadata) == ITEMS[id][1]
    script = Path(f"{file}.sql").read_text(encoding="utf-8")
    operators = {"cosine": "vector_cosine_ops", "euclidean": "vector_l2_ops", "dot": "vector_ip_ops"}
    assert f"(vector {operators[index.config.metric]})" in script
    assert 'CREATE TABLE "the ""index""" (id text PRIMARY KEY, vector vector(2)' in script
    assert "it''s.copy'" in script


@pytest.mark.parametrize(("dim", "said"), [(2000, "vector_cosine_ops"), (2001, "halfvec_cosine_ops"), (4001, None)])
def test_pgvector_has_indexes_up_to_a_dimension(dim: int, said: str | None, tmp_path: Path) -> None:
    with kektordb.open(":memory:") as database:
        index = database.create_index("a", dim=dim)
        assert index.export(tmp_path / "a", format="pgvector") == 0
    script = (tmp_path / "a.sql").read_text()
    assert (said in script) if said else "CREATE INDEX" not in script


def test_qdrant(index: kektordb.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "MAX_POINTS", 3)
    assert index.export(tmp_path / "a", format="qdrant") == len(ITEMS)
    requests = [json.loads(line) for line in (tmp_path / "a").read_text(encoding="utf-8").splitlines()]
    assert [len(request["points"]) for request in requests] == [3, 1]
    points = [point for request in requests for point in request["points"]]
    for point, (id, (_, metadata)) in zip(points, ITEMS.items(), strict=True):
        assert str(uuid.UUID(point["id"])) == point["id"]
        assert point["payload"] == {"kektordb_id": id, **metadata}
        assert np.array_equal(np.array(point["vector"], np.float32), index[id].vector)
    distances = {"cosine": "Cosine", "euclidean": "Euclid", "dot": "Dot"}
    collection = json.loads((tmp_path / "a.collection.json").read_text())
    assert collection == {"vectors": {"size": 2, "distance": distances[index.config.metric]}}


def test_requests_for_qdrant_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "MAX_REQUEST", 1000)
    monkeypatch.setattr(parts, "MAX_ROWS", 30)
    with kektordb.open(":memory:") as database:
        index = database.create_index("a")
        rows = np.ones((50, 2))
        index.add_batch([str(i) for i in range(50)], rows, [{"text": "ü" * (900 if i == 3 else 20)} for i in range(50)])
        index.export(tmp_path / "a", format="qdrant")
    lines = (tmp_path / "a").read_text(encoding="utf-8").splitlines()
    numbers = [int(point["payload"]["kektordb_id"]) for line in lines for point in json.loads(line)["points"]]
    assert numbers == list(range(50))
    assert all(len(line.encode()) <= 1100 or len(json.loads(line)["points"]) == 1 for line in lines)
    assert len(lines) < 25


def test_ids_of_points_do_not_change_and_are_not_shared() -> None:
    assert point_id(UUID) == UUID
    others = [UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", "a", "", "42"]
    assert len({point_id(id) for id in others} | {UUID}) == len(others) + 1
    assert point_id("a") == "d720e32d-4765-5177-b65b-42dd7f6e6445"


@pytest.mark.parametrize(
    ("format", "id", "metadata"),
    [
        ("qdrant", "a", {"kektordb_id": 1}),
        ("pgvector", "a\0b", {}),
        ("pgvector", "a", {"text": "a\0b"}),
        ("pgvector", "a", {"a\0b": 1}),
    ],
)
def test_what_others_do_not_take_is_named_and_leaves_no_file(
    format: str, id: str, metadata: dict[str, Any], tmp_path: Path
) -> None:
    with kektordb.open(":memory:") as database:
        index = database.create_index("a")
        index.add(id, [1, 2], metadata)
        with pytest.raises(kektordb.ConfigError, match=re.escape(repr(id))):
            index.export(tmp_path / "a", format=format)
        with pytest.raises(kektordb.ConfigError, match="which is empty"):
            database.create_index("empty").export(tmp_path / "a", format=format)
        with pytest.raises(kektordb.ConfigError, match="expected format to be one of"):
            index.export(tmp_path / "a", format="no")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("beside", ["", ".collection.json"])
def test_no_file_is_written_over(beside: str, tmp_path: Path) -> None:
    (tmp_path / f"a{beside}").write_text("mine")
    with kektordb.open(":memory:") as database:
        index = database.create_index("a", dim=2)
        with pytest.raises(kektordb.StorageError, match="is there already"):
            index.export(tmp_path / "a", format="qdrant")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(f"a{beside}", "mine")]


def test_the_command_line_writes_them(
    index: kektordb.Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, path = index.name, str(index.database.path)
    index.database.close()
    for format in ("qdrant", "pgvector", "jsonl"):
        status = cli.main(["export", path, name, str(tmp_path / format), "--format", format, "--filter", "x > 0"])
        assert status == 0
        assert "1 item" in capsys.readouterr().out
    assert cli.main(["import", path, name, str(tmp_path / "qdrant")]) == 3
    assert "expected a format" in capsys.readouterr().err
