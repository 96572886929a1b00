"""Vectorizers of a server and of the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from served import ROOT, Caller, Served
from syncer import stub

import kektordb
from kektordb import cli
from kektordb.commands.vectorize import News
from kektordb.server.app import create_app
from kektordb.vectorizer import Counts

TIMEOUT_S = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    root.mkdir()
    (root / "shoes.md").write_text("# Shoes\n\nA red shoe stands in the hall.")
    (root / "hats.txt").write_text("A blue hat hangs on the wall.")
    return root


def configured(tmp_path: Path, folder: Path, **more: Any) -> Path:
    path = tmp_path / "vectorizers.yaml"
    one = {
        "name": "my docs",
        "kektor_index": "docs",
        "schedule": "1h",
        "source": {"type": "filesystem", "path": str(folder)},
        "embedder": {"type": "hashing", "model": "64"},
        **more,
    }
    path.write_text(json.dumps({"vectorizers": [one]}))  # JSON is YAML
    return path


# ---------------------------------------------------------------------------------------------------------- the server


def test_the_status_and_a_trigger_are_those_of_the_original(folder: Path) -> None:
    with kektordb.open(":memory:") as db:
        call = Caller(create_app(db))
        assert call.ok("GET", "/system/vectorizers") == []
        vectorizer = db.vectorize(folder, index="docs", embedder=stub(), name="my/docs", watch="poll", schedule="1h")
        assert vectorizer.wait(TIMEOUT_S)

        [status] = call.ok("GET", "/system/vectorizers")
        assert (status["name"], status["is_running"], status["current_state"]) == ("my/docs", True, "idle")
        assert status["last_run"].endswith("Z")
        assert (status["n_documents"], status["n_embedded"], status["is_in_step"]) == (2, 0, True)
        assert (status["error"], status["failed"], status["embedder"]) == (None, [], "stub")

        (folder / "new.txt").write_text("new")
        answer = call.ok("POST", "/system/vectorizers/my/docs/trigger")
        assert answer == {"status": "OK", "message": "Synchronization for vectorizer 'my/docs' triggered."}
        assert vectorizer.wait(TIMEOUT_S)
        assert len(db["docs"]) == 3
        assert call("POST", "/system/vectorizers/other/trigger").status == 404

        vectorizer.stop()
        assert call.ok("GET", "/system/vectorizers") == []
        call.close()


def test_what_failed_is_in_the_status_and_no_path_of_the_machine(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    with kektordb.open(":memory:") as db:
        call = Caller(create_app(db))
        vectorizer = db.vectorize(folder, index="docs", embedder=stub(), watch="poll", schedule="1h")
        vectorizer.wait(0.5)
        [status] = call.ok("GET", "/system/vectorizers")
        while status["n_failed"] == 0:
            [status] = call.ok("GET", "/system/vectorizers")
        assert [one["document"] for one in status["failed"]] == ["broken.pdf"]
        assert status["failed"][0]["retry_in_s"] >= 0
        assert str(tmp_path) not in json.dumps(status)
        call.close()


def test_a_token_for_reading_triggers_nothing(folder: Path) -> None:
    from kektordb.server.options import Options

    with kektordb.open(":memory:") as db:
        call = Caller(create_app(db, Options(token="w", read_only_token="r")), token="r")
        db.vectorize(folder, index="docs", embedder=stub(), watch="poll", schedule="1h")
        assert call("GET", "/system/vectorizers").status == 200
        assert call("POST", "/system/vectorizers/docs/trigger").status == 403
        call.close()


def test_keys_of_vectorizers_are_not_served(folder: Path) -> None:
    with kektordb.open(":memory:") as db:
        db.vectorize(folder, index="docs", embedder=stub())
        call = Caller(create_app(db))
        assert "vectorizer" not in json.dumps(call.ok("GET", "/kv"))
        call.close()


def test_a_server_keeps_a_folder_in_step(folder: Path, tmp_path: Path) -> None:
    flags = ["--data-dir", str(tmp_path / "db"), "--vectorizers-config", str(configured(tmp_path, folder))]
    served = Served(["-m", "kektordb", "serve", "--http-addr", "127.0.0.1:0", *flags])
    status: dict[str, Any] = {}
    while not status.get("is_in_step"):
        [status] = json.loads(served.call("GET", "/system/vectorizers")[1])
    assert status["n_documents"] == 2
    assert served.call("POST", "/system/vectorizers/my%20docs/trigger")[0] == 200
    assert served.end() == 0
    with kektordb.open(tmp_path / "db") as db:
        assert len(db["docs"]) == 2
        assert db["docs"].search(text="red shoe")[0].metadata["source_file"] == "shoes.md"


@pytest.mark.parametrize("more", [{"flavour": 1}, {"source": {"type": "filesystem", "path": "nowhere"}}])
def test_a_server_with_a_bad_configuration_does_not_begin(folder: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    flags = ["--data-dir", str(tmp_path / "db"), "--vectorizers-config", str(configured(tmp_path, folder, **more))]
    command = [sys.executable, "-m", "kektordb", "serve", "--http-addr", "127.0.0.1:0", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT_S)
    assert done.returncode == 3
    assert "flavour" in done.stderr or "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------------------------------------- the command line


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> str:
    capsys.readouterr()
    assert cli.main(["vectorize", *map(str, arguments)]) == status
    return capsys.readouterr().out


def test_a_folder_is_brought_in(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--index", "docs", "--embedder", "hashing:64", "--data-dir", tmp_path / "db")
    assert "2 documents, 2 changed" in run(capsys, folder, *flags)
    (folder / "hats.txt").unlink()
    data = json.loads(run(capsys, folder, *flags, "--json"))
    assert (data["counts"]["n_vanished"], data["counts"]["n_embedded"], data["is_in_step"]) == (1, 0, True)
    assert "0 changed" in run(capsys, folder, *flags, "--include", "*.md", "--exclude", "draft*")
    with kektordb.open(tmp_path / "db") as db:
        assert len(db["docs"]) == 1


def test_a_document_that_fails_is_a_failure(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    flags = ("--index", "docs", "--embedder", "hashing:64", "--data-dir", tmp_path / "db")
    assert "failed: broken.pdf" in run(capsys, folder, *flags, status=3)


@pytest.mark.parametrize(
    "flags",
    [
        ["--embedder", "flavour:x"],
        ["--embedder", "hashing:64", "--poll"],
        ["--embedder", "hashing:64", "--schedule", "5s"],
        ["--embedder", "hashing:64", "--chunk-size", "0"],
        ["--embedder", "hashing:64", "--strategy", "lucky"],
        ["--embedder", "hashing:64", "--url", "http://localhost:1"],
        ["--embedder", "openai:x", "--api-key-env", "SURELY_NOT_SET"],
    ],
)
def test_wrong_flags_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    run(capsys, folder, "--index", "docs", "--data-dir", tmp_path / "db", *flags, status=3)


def test_it_follows_changes_until_it_is_told_to_end(folder: Path, tmp_path: Path) -> None:
    flags = ["--index", "docs", "--embedder", "hashing:64", "--data-dir", str(tmp_path / "db"), "--watch"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kektordb", "vectorize", str(folder), *flags, "--schedule", "100ms"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ},
    )  # fmt: skip
    assert process.stderr is not None
    assert "2 changed" in process.stderr.readline()
    (folder / "new.txt").write_text("A green scarf.")
    assert "1 changed" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors
    assert "3 documents" in out
    with kektordb.open(tmp_path / "db") as db:
        assert len(db["docs"]) == 3


def test_a_document_that_fails_is_no_failure_of_a_watcher(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jsonl").write_text("{broken")
    flags = ["--index", "docs", "--embedder", "hashing:64", "--data-dir", str(tmp_path / "db"), "--watch"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kektordb", "vectorize", str(folder), *flags],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ},
    )  # fmt: skip
    assert process.stderr is not None
    assert any(line.startswith("docs: 3 documents, 2 changed") for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors
    assert "failed: broken.jsonl" in out


def test_what_fails_again_and_again_is_told_once() -> None:
    news = News()
    passes = [
        (Counts(n_changed=2), True),
        (Counts(), False),
        (Counts(n_failed=2), True),
        (Counts(n_failed=1, n_waiting=1), False),
        (Counts(n_waiting=2), False),
        (Counts(n_failed=1, n_waiting=2), True),
        (Counts(n_vanished=1, n_waiting=3), True),
        (Counts(n_waiting=2), True),
        (Counts(), True),
        (Counts(), False),
    ]
    assert [news.are_in(counts) for counts, _ in passes] == [is_told for _, is_told in passes]
