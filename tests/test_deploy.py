"""Is what is given for deploying sound? Files that are named exist, commands parse, the hardening is there."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from argparse import Namespace
from pathlib import Path

import pytest
from live import live

import kektordb
from kektordb import cli
from kektordb.commands.serve import settings_of
from kektordb.server import Options

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
UNITS = sorted(DEPLOY.glob("*.service"))


def parsed(words: list[str]) -> Namespace:
    """Return what the command line makes of the words after ``kektordb``; wrong ones are SystemExit."""
    return cli._parser().parse_args(words)


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of the Dockerfile by stage."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#")))
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


# -------------------------------------------------------------------------------------------------------------- docker


def test_the_image_is_made_of_files_that_are_there() -> None:
    copied = [rest.split()[:-1] for name, rest in stages()[0] if name == "COPY"]
    names = [name.removeprefix("./") for one in copied for name in one]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {project["readme"], "LICENSE", "kektordb", "setup.py", "pyproject.toml"} <= set(names)
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    assert let_in == set(names)
    assert all((ROOT / name).exists() for name in names)
    assert all(one in names or one.startswith("kektordb/") for one in project["license-files"])


def test_nothing_needed_by_the_image_is_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    ignored = [line for line in lines if line and line[0] not in "#!*"]
    kinds = ("py", "pyx", "pxd", "pxi", "pyi", "lark")
    needed = [path.relative_to(ROOT).as_posix() for kind in kinds for path in (ROOT / "kektordb").rglob(f"*.{kind}")]
    assert ignored
    for pattern in ignored:
        assert not fnmatch.filter(needed, pattern.replace("/**/", "/*"))


def test_the_image_runs_without_a_compiler_as_nobody_special() -> None:
    build, final = stages()
    assert all(re.fullmatch(r"python:\d\.\d+-slim-\w+( AS build)?", stage[0][1]) for stage in (build, final))
    assert [rest for name, rest in final if name == "USER"] == ["kektordb"]
    order = [name for name, _ in final]
    assert order.index("USER") > order.index("RUN")
    assert "VOLUME" in order
    assert order.index("USER") < order.index("ENTRYPOINT")
    text = str(final)
    assert "gcc" not in text
    assert "curl" not in DOCKERFILE
    for name, rest in build + final:
        if name == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest
            assert rest.count("apt-get update && ") == 1
            assert "rm -rf /var/lib/apt/lists/*" in rest
        if name == "RUN" and "pip install" in rest:
            assert "--no-cache-dir" in rest


def test_the_image_serves() -> None:
    final = dict(stages()[-1])
    variables = dict(part.split("=", 1) for part in shlex.split(final["ENV"]))
    assert json.loads(final["ENTRYPOINT"]) == ["kektordb"]
    settings = settings_of(parsed(json.loads(final["CMD"])), variables | {"KEKTOR_TOKEN": "secret"})
    assert settings.address.endswith(f":{final['EXPOSE']}")
    assert (settings.directory, settings.token) == (final["VOLUME"], "secret")


def test_the_health_check_finds_out(tmp_path: Path) -> None:
    command = json.loads(dict(stages()[-1])["HEALTHCHECK"].partition("CMD ")[2])
    assert command[0] == "python"
    with kektordb.open(tmp_path / "db") as database, live(database, Options(token="secret")) as url:
        code = command[-1].replace("http://127.0.0.1:9091", url)
        assert code != command[-1]
        assert subprocess.run([sys.executable, *command[1:-1], code], check=False, timeout=30).returncode == 0
    done = subprocess.run([sys.executable, *command[1:-1], code], check=False, timeout=30, stderr=subprocess.DEVNULL)
    assert done.returncode != 0


def test_the_compose_file_says_what_the_command_line_takes() -> None:
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    services = found["services"]
    assert (DEPLOY / services["kektordb"]["build"] / "Dockerfile").exists()
    for service in services.values():
        parsed(service["command"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in found["volumes"]
    server = parsed(services["kektordb"]["command"])
    assert Path(server.auth_token_file).name in found["secrets"]
    assert services["kektordb"]["secrets"] == list(found["secrets"])
    assert services["kektordb"]["ports"] == ["127.0.0.1:9091:9091"]


# ------------------------------------------------------------------------------------------------------------- systemd


def commands_of(unit: Path) -> list[list[str]]:
    """Return the words after ``kektordb`` of the commands that a unit runs, specifiers replaced."""
    found = []
    for line in re.findall(r"^ExecStart=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE):
        words = shlex.split(line.replace("%S", "/var/lib").replace("%d", "/run/credentials").replace("%%", "%"))
        if words[:2] == ["/bin/sh", "-c"]:
            words = shlex.split(words[2].removeprefix("exec ").replace("$$(date +%A)", "Monday"))
        assert words[0] == "/opt/kektordb/bin/kektordb"
        found.append(words[1:])
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_run_commands_that_are_there(unit: Path) -> None:
    assert commands_of(unit)
    for words in commands_of(unit):
        parsed(words)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_can_do_little(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    for line in (
        *("DynamicUser=yes", "ProtectSystem=strict", "ProtectHome=yes", "NoNewPrivileges=yes", "PrivateTmp=yes"),
        *("CapabilityBoundingSet=", "MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service"),
        *("RestrictNamespaces=yes", "StateDirectoryMode=0700", "UMask=0077", "User=kektordb"),
    ):
        assert re.search(rf"^{re.escape(line)}$", text, re.MULTILINE), line


def test_the_server_may_take_its_time_to_end() -> None:
    from kektordb.server.serving import SHUTDOWN_S

    text = (DEPLOY / "kektordb.service").read_text(encoding="utf-8")
    minutes = re.search(r"^TimeoutStopSec=(\d+)min$", text, re.MULTILINE)
    assert minutes is not None
    assert int(minutes[1]) * 60 >= 4 * SHUTDOWN_S
    assert "KillMode=mixed" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    copies = []
    for unit in (*UNITS, *DEPLOY.glob("*.timer")):
        text = unit.read_text(encoding="utf-8").replace("/opt/kektordb/bin/kektordb", "/bin/true")
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, copies)], capture_output=True, text=True, check=False, timeout=60
    )
    assert "kektordb" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------------------ the page


def test_commands_of_the_page_are_there() -> None:
    blocks = re.findall(r"^```(?:sh|ini|cron)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    text = re.sub(r"\$\([^)]*\)", "today", "\n".join(blocks).replace("\\\n", " "))
    names = "|".join(
        re.findall(r"^## kektordb (\w+)", (ROOT / "docs/cli.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    found = re.findall(rf"(?:^|[ =/])kektordb ((?:{names}) [^&\n]*)", text, re.MULTILINE)
    assert len(found) >= 9
    for one in found:
        parsed(shlex.split(one))


def test_files_of_the_page_are_there() -> None:
    named = set(re.findall(r"deploy/[\w.-]+", PAGE)) - {"deploy/token"}
    assert {name.removeprefix("deploy/") for name in named} == {path.name for path in DEPLOY.iterdir()} - {"token"}
    for target in re.findall(r"\]\(([^)#:]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
