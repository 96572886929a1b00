"""A server as a process: what it is started with, how it ends, and what is left when it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest
from served import ROOT, Served, read_answer

import kektordb
from kektordb.commands import serve as command
from kektordb.errors import ConfigError

pytest.importorskip("uvicorn", reason="the extra `server` is not installed")
pytest.importorskip("httptools", reason="the extra `server` is not installed")

from kektordb.server.serving import Settings, parse_address, serve

ACTIONS = "/vector/actions"


def settings(*arguments: str, **environment: str) -> Settings:
    parser = ArgumentParser()
    command.add(parser.add_subparsers())
    return command.settings_of(parser.parse_args(["serve", *arguments]), environment)


def test_the_defaults_are_those_of_the_original_on_this_machine_alone() -> None:
    found = settings()
    assert (found.address, found.directory, tuple(found.save)) == ("127.0.0.1:9091", "kektordb-data", ("60 1000",))
    assert (found.token, found.aof_rewrite_percentage, found.sync) == (None, 100, "everysec")


def test_flags_come_before_the_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    (tmp_path / "reader").write_text("reader")
    environment = {"KEKTOR_PORT": "7000", "KEKTOR_DATA_DIR": "there", "KEKTOR_TOKEN": "from-environment"}

    found = settings(**environment)
    assert (found.address, found.directory, found.token) == ("127.0.0.1:7000", "there", "from-environment")
    assert settings(KEKTOR_PORT=":7001").address == "127.0.0.1:7001"

    flags = ["--http-addr", ":8000", "--data-dir", "here", "--auth-token-file", str(tmp_path / "token")]
    flags += ["--read-only-token-file", str(tmp_path / "reader"), "--save", "1 2", "--save", "3 4", "--sync", "always"]
    found = settings(*flags, **environment)
    assert (found.address, found.directory, found.token, found.read_only_token) == (
        ":8000",
        "here",
        "from-file",
        "reader",
    )
    assert (list(found.save), found.sync) == (["1 2", "3 4"], "always")
    assert settings("--auth-token", "seen", **environment).token == "seen"


@pytest.mark.parametrize("token", ["", " \n", "a b", "ä", "a\nb"])
def test_a_token_that_no_header_can_bear_is_refused(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token, encoding="utf-8")
    with pytest.raises(ConfigError):
        settings("--auth-token-file", str(tmp_path / "token"))


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    with pytest.raises(ConfigError, match="everybody could write"):
        settings("--read-only-token-file", str(tmp_path / "token"))
    with pytest.raises(ConfigError, match="token file"):
        settings("--auth-token-file", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="expected --follow"):
        settings("--follow-token-file", str(tmp_path / "token"))
    with pytest.raises(ConfigError, match="expected --follow"):
        settings("--follow", "leader:9091")
    found = settings("--follow", "http://leader:9091", "--follow-token-file", str(tmp_path / "token"))
    assert (found.follow, found.follow_token, found.token) == ("http://leader:9091", "x", None)
    assert settings("--vectorizers-config", "x.yaml").vectorizers == "x.yaml"


def test_addresses() -> None:
    assert parse_address(":9091") == ("", 9091)
    assert parse_address("[::1]:80") == ("::1", 80)
    assert parse_address("localhost:0") == ("localhost", 0)
    for bad in ("", "9091", "localhost", "localhost:", "localhost:x", "localhost:70000", "::1:80", "a:-1"):
        with pytest.raises(ConfigError):
            parse_address(bad)


@pytest.mark.parametrize("address", [":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0", "127.evil.example:0"])
def test_others_are_let_in_with_a_token_alone(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="expected a token"):
        serve(Settings(address=address, directory=str(tmp_path / "db")))
    assert not (tmp_path / "db").exists()


# --------------------------------------------------------------------------------------------------- processes


def start(directory: Path, *flags: str, **environment: str) -> Served:
    command = ["-m", "kektordb", "serve", "--http-addr", "127.0.0.1:0", "--data-dir", str(directory), *flags]
    return Served(command, {**os.environ, **environment})


def test_sigterm_ends_it_in_order(tmp_path: Path) -> None:
    served = start(tmp_path / "db", "--log-json", KEKTOR_TOKEN="secret")
    token = b"authorization: Bearer secret\r\n"
    assert served.call("GET", "/kv/a")[0] == 401
    assert served.call("POST", "/kv/a", {"value": "x"}, token)[0] == 200
    idle = served.connect()

    assert served.end() == 0

    idle.close()
    lines = [json.loads(line) for line in "".join(served.log).splitlines()]
    assert [line["message"].partition(" http")[0] for line in lines] == ["listening on", "the database is closed"]
    assert "secret" not in "".join(served.log)
    with kektordb.open(tmp_path / "db") as database:
        assert database.kv["a"] == b"x"


def test_a_request_under_way_is_finished_at_sigterm(tmp_path: Path) -> None:
    served = start(tmp_path / "db", "--profiling")
    with served.connect() as connection:
        connection.sendall(b"GET /debug/profile?seconds=1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        while served.call("GET", "/system/stats")[1].find(b'"n_waiting":2') < 0:
            pass
        served.process.send_signal(signal.SIGTERM)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
    assert served.end() == 0


def test_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    served = start(tmp_path / "db")
    served.call("POST", f"{ACTIONS}/create", {"index_name": "a"})
    acknowledged: list[str] = []

    def write(name: str) -> None:
        for i in range(10_000):
            body = {"index_name": "a", "id": f"{name}{i}", "vector": [i, 1]}
            try:
                if served.call("POST", f"{ACTIONS}/add", body)[0] != 200:
                    return
            except (OSError, ValueError):
                return
            acknowledged.append(f"{name}{i}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "xy"]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 100:
        threads[0].join(0.01)
    assert served.end(kill=True) == -signal.SIGKILL
    for thread in threads:
        thread.join()

    with kektordb.open(tmp_path / "db") as database:
        assert set(acknowledged) <= set(database["a"])


def test_what_keeps_it_from_starting_is_said(tmp_path: Path) -> None:
    served = start(tmp_path / "db")

    def failing(*flags: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "kektordb", "serve", *flags], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 3
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "cannot listen on" in failing("--http-addr", f"127.0.0.1:{served.port}", "--data-dir", str(tmp_path / "new"))
    assert str(served.process.pid) in failing("--http-addr", "127.0.0.1:0", "--data-dir", str(tmp_path / "db"))
    assert "expected a token" in failing("--http-addr", ":0", "--data-dir", str(tmp_path / "new"))
    (tmp_path / "token").write_text("x")
    token = str(tmp_path / "token")
    for flags in [
        ("--auth-token-file", token, "--read-only-token-file", token),
        ("--allowed-host", "db.example:9091"),
        ("--allowed-host", "http://db.example"),
        ("--allowed-host", ""),
        ("--allowed-origin", "db.example"),
        ("--allowed-origin", "https://db.example/"),
        ("--allowed-origin", "*"),
    ]:
        expected = "expected another token" if token in flags else f"got {flags[-1]!r}"
        assert expected in failing("--http-addr", "127.0.0.1:0", "--data-dir", str(tmp_path / "new"), *flags)
    assert not (tmp_path / "new").exists()
    assert served.end() == 0


def test_without_the_packages_of_the_server_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kektordb.cli import main

    monkeypatch.setitem(sys.modules, "kektordb.server.serving", None)
    assert main(["serve"]) == 3
    assert "pip install 'kektordb[server]'" in capsys.readouterr().err


def test_eight_clients_at_once(tmp_path: Path) -> None:
    """Add, batch, search, delete, save, compress: each client for some rounds; nothing fails, nothing is lost."""
    served = start(tmp_path / "db")
    served.call("POST", f"{ACTIONS}/create", {"index_name": "a", "metric": "cosine"})
    failures: list[Any] = []
    kept: set[str] = set()

    def client(number: int) -> None:
        def ask(action: str, status: int = 200, **body: Any) -> None:
            answer = served.call("POST", action, {"index_name": "a", **body})
            if answer[0] != status:
                failures.append((action, *answer))

        for i in range(12):
            one, many = f"{number}-{i}", [f"{number}-{i}-{j}" for j in range(20)]
            ask(f"{ACTIONS}/add", id=one, vector=[number + 1, i, 1, 2])
            ask(
                f"{ACTIONS}/add-batch",
                vectors=[{"id": id, "vector": [i + 1, number, 3, j]} for j, id in enumerate(many)],
            )
            ask(f"{ACTIONS}/search", k=5, query_vector=[1, i, number, 1])
            ask(f"{ACTIONS}/delete_vector", id=many[0])
            kept.update([one, *many[1:]])
            if i == number:
                ask("/system/save")
            if number == 0 and i in (4, 8):
                ask(f"{ACTIONS}/compress", 202, precision="int8" if i == 4 else "float32")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert served.end() == 0
    with kektordb.open(tmp_path / "db") as database:
        assert set(database["a"]) == kept
