"""The command line: what it answers to people, programs and shells; every command and option is documented."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_backup import filled
from test_crash import contents
from writer import vec

import kektordb
from kektordb import cli

ROOT = Path(kektordb.__file__).parent.parent
PAGE = ROOT / "docs" / "cli.md"


@pytest.fixture(name="database")
def _database(tmp_path: Path) -> Path:
    filled(tmp_path / "db").close()
    return tmp_path / "db"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> str:
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == status
    return capsys.readouterr().out


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> Any:
    return json.loads(run(capsys, *arguments, "--json", status=status))


def test_backup_and_restore(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "59 items, 1 keys" in run(capsys, "backup", database, tmp_path / "x.kdb")
    data = answer(capsys, "backup", database, tmp_path / "x.kdb")
    assert data["n_bytes"] == (tmp_path / "x.kdb").stat().st_size
    assert (data["n_indexes"], data["n_items"], data["n_keys"]) == (3, 59, 1)
    run(capsys, "restore", tmp_path / "x.kdb", tmp_path / "new")
    with kektordb.open(database) as db, kektordb.open(tmp_path / "new") as new:
        assert contents(db) == contents(new)
    error = answer(capsys, "restore", tmp_path / "x.kdb", tmp_path / "new", status=3)["error"]
    assert error["type"] == "StorageError"
    assert "not empty" in error["message"]


def test_backup_beside_a_writer(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with kektordb.open(database) as db:
        run(capsys, "backup", database, tmp_path / "x.kdb")
        assert answer(capsys, "check", database)["verdict"] == "sound"
        with kektordb.open(tmp_path / "x.kdb", read_only=True) as copy:
            assert contents(db) == contents(copy)


def test_check_says_by_its_status_what_it_found(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "check", database).rstrip().endswith(": sound")
    assert "ångström" in run(capsys, "check", database, "--deep")
    log = next(database.glob("log-*"))
    data = log.read_bytes()
    log.write_bytes(data + b"torn")
    assert "torn tail" in run(capsys, "check", database, status=1)
    log.write_bytes(data[:-1])
    found = answer(capsys, "check", database, "--deep", status=2)
    assert found["verdict"] == "damaged"
    assert found["faults"]
    assert f"{log.name} at byte" in run(capsys, "check", database, status=2)
    assert run(capsys, "check", tmp_path / "none", status=3) == ""


def test_repair_says_what_is_lost(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "3 indexes, 59 items, 1 key" in run(capsys, "repair", database, "--out", tmp_path / "new")
    assert "not empty" in answer(capsys, "repair", database, "--out", tmp_path / "new", status=3)["error"]["message"]
    log = next(database.glob("log-*"))
    data = bytearray(log.read_bytes())
    data[-20] ^= 1
    log.write_bytes(data)
    found = answer(capsys, "repair", database, "--out", tmp_path / "newer", status=2)
    assert [lost["what"] for lost in found["lost"]] == ["records"]
    assert "lost:\n  an unknown number of records: " in run(
        capsys, "repair", database, "--out", tmp_path / "newest", status=2
    )


def test_dump_and_load(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "3 indexes, 59 items, 1 key" in run(capsys, "dump", database, tmp_path / "out")
    assert answer(capsys, "load", tmp_path / "out", tmp_path / "new")["n_items"] == 59
    with kektordb.open(database) as db, kektordb.open(tmp_path / "new") as new:
        assert db["a"].ids() == new["a"].ids()
        assert dict(db.kv) == dict(new.kv)
    assert answer(capsys, "dump", database, tmp_path / "out", status=3)["error"]["type"] == "StorageError"


def test_info(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with kektordb.open(database) as db:
        db["a"].add("x", vec(5))
        text = run(capsys, "info", database)
        db.backup(tmp_path / "x.kdb")
    assert re.search(r"^a +40 +1 +4 +euclidean +float32 +english", text, re.MULTILINE)
    assert "3 indexes, 1 key\n" in text
    assert answer(capsys, "info", database)["indexes"]["a"]["n_items"] == 40
    assert answer(capsys, "info", tmp_path / "x.kdb")["kind"] == "backup"
    run(capsys, "info", tmp_path / "none", status=3)


def test_wrong_usage_has_a_status_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [],
        ["fly"],
        ["check"],
        ["check", "a", "--dee"],
        ["info", "a", "b"],
        ["check", "a", "--format=x"],
    ):
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        assert left.value.code == 64
        assert "usage: kektordb" in capsys.readouterr().err


def start(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "kektordb", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_it_runs_as_a_program(database: Path) -> None:
    done = start("--version")
    assert done.stdout.strip() == f"kektordb {kektordb.__version__}"
    done = start("info", database)
    assert done.returncode == 0
    assert done.stderr == "", "no progress where there is no terminal"
    done = start("info", database / "none")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("kektordb: ")


def test_help_loads_nothing_that_it_does_not_need() -> None:
    code = """
import sys, contextlib, io
from kektordb import cli
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    cli.main(["--help"])
print(" ".join(sys.modules))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    heavy = {"numpy", "msgspec", "blosc2", "lark", "Stemmer", "asyncio", "tqdm", "multiprocessing", "http", "pyarrow"}
    heavy |= {f"kektordb.{name}" for name in ("database", "safety", "upkeep", "replicas", "server", "storage")}
    assert set(done.stdout.split()) & heavy == set()


def test_a_reader_that_leaves_is_no_error(database: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "kektordb", "check", str(database), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("output", ["stdout", "stderr"])
def test_an_answer_that_cannot_be_written_is_a_failure(database: Path, options: list[str], output: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    path = database if output == "stdout" else database / "none"
    command = [sys.executable, "-m", "kektordb", "info", str(path), *options]
    with open("/dev/full", "wb") as full:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, output: full}
        done = subprocess.run(command, check=False, env=environment, **pipes)
    assert done.returncode == 3
    if output == "stdout":
        assert done.stderr.startswith(b"kektordb: ")
        assert b"No space left" in done.stderr
        assert done.stderr.count(b"\n") == 1


def test_ctrl_c_while_modules_are_loaded_is_not_lost(database: Path) -> None:
    # What Cython has modules do at their import swallows what is raised in it, such as the interrupt.
    code = """
import abc, signal, sys
from kektordb import cli
register, n = abc.ABCMeta.register, 0
def interrupted(cls, other):
    global n
    if other.__name__ == "array" and other.__module__ != "array" and not n:
        n = 1
        signal.raise_signal(signal.SIGINT)
    return register(cls, other)
abc.ABCMeta.register = interrupted
status = cli.main(sys.argv[1:])
print(n)
sys.exit(status)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, "info", str(database)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "1\n", "kektordb: interrupted\n")


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    (subparsers,) = [a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction)]
    yield from subparsers.choices.items()


@pytest.mark.parametrize(("name", "parser"), list(commands()), ids=[name for name, _ in commands()])
def test_every_command_and_option_is_documented(name: str, parser: argparse.ArgumentParser) -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition(f"\n## kektordb {name}")[2].partition("\n## ")[0]
    assert section, f"docs/cli.md has no chapter on {name}"
    common = page.partition("\n## ")[0]
    for action in parser._actions:
        for option in action.option_strings or [str(action.metavar)]:
            assert option in section or option in common, f"{name} {option}"
        assert action.help


def test_the_page_documents_no_command_that_is_not_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^## kektordb (\w+)", page, re.MULTILINE) == [name for name, _ in commands()]
