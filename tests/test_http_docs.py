"""Does docs/http-api.md say what the server answers? Each curl command is run, and each route has one."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import ROOT, Served

from kektordb.server.routes import ROUTES

PAGE = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)\n# (.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)


def address(command: str) -> tuple[str, str]:
    """Return method and path of a command."""
    words = shlex.split(command.rpartition("| ")[2])
    target = next(word for word in words if word.startswith("$KEKTORDB"))
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    return method, target.removeprefix("$KEKTORDB").partition("?")[0]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("docs") / "db"
    served = Served(["-m", "kektordb", "serve", "--http-addr", "127.0.0.1:0", "--data-dir", str(directory)])
    yield served
    assert served.end() == 0


def expected(text: str) -> tuple[int, re.Pattern[str]]:
    """Return the status and a pattern of the body; … stands for anything."""
    found = re.match(r"status (\d+)(?: |$)", text)
    status = int(found[1]) if found else 200
    body = text[found.end() :] if found else text
    if body.startswith("unless"):
        body = "…"
    return status, re.compile(".*".join(re.escape(without_blanks(piece)) for piece in body.split("…")), re.DOTALL)


def without_blanks(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_each_command_answers_what_is_written_below_it(served: Served) -> None:
    for command, text in BLOCKS:
        done = subprocess.run(
            ["bash", "-c", re.sub(r"\bcurl\b", r"curl -s -w '\\n%{http_code}'", command, count=1)],
            env={"KEKTORDB": f"http://127.0.0.1:{served.port}", "PATH": "/usr/bin:/bin:/usr/local/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        body, _, status = done.stdout.rpartition("\n")
        wanted, pattern = expected(text)
        assert int(status) == wanted, (command, done.stdout)
        assert pattern.fullmatch(without_blanks(body)), (command, text, body)


def test_each_route_has_a_command() -> None:
    assert len(BLOCKS) > 50
    shown = [address(command) for command, _ in BLOCKS]
    for route in ROUTES:
        pattern = re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(route.path)))
        assert any(method == route.method and pattern.fullmatch(path) for method, path in shown), route.path


def test_the_limits_are_the_true_ones() -> None:
    from kektordb.server import Limits

    limits = Limits()
    table = PAGE.partition("## Limits")[2].partition("## In")[0]
    for number in (limits.max_k, limits.max_batch, limits.max_dim, limits.max_keys, limits.max_connections):
        assert f"{number:,}" in table
    assert f"{limits.max_body_bytes >> 20} MB" in table
    assert f"{limits.max_head_bytes >> 10} kB" in table
    assert f"{limits.max_held}, more are answered at once; {limits.max_snapshots}," in table
    assert f"to be taken {limits.write_s:.0f} s" in table
    assert f"{limits.max_wait_s:.0f} s; {limits.stall_s:.0f} s" in table
    assert Path(ROOT / "docs" / "http-api.md").is_file()
