"""Does the server do what its description at /openapi.json says? schemathesis makes requests of it, right and wrong.

It is in the extra `schema`, and the short form runs when it is installed. `make schema` runs the long one: all phases,
some 10,000 requests. What schemathesis has to be told is in the folder beside.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served

import kektordb

TOLD = Path(__file__).parent / "schema"
# Requests for each operation; the long form is for `make schema`.
N_EXAMPLES = int(os.environ.get("KEKTORDB_SCHEMA_EXAMPLES", "4"))
SHORT = N_EXAMPLES < 50
SEED = os.environ.get("KEKTORDB_SCHEMA_SEED", "20")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(["-m", "kektordb", "serve", "--http-addr", "127.0.0.1:0", "--data-dir", str(tmp_path / "db")])
    with kektordb.connect(f"http://127.0.0.1:{served.port}") as database:
        index = database.create_index("shoes", text_language="english", dim=2)
        for i, id in enumerate(("p", "q", "x/y")):
            index.add(id, [1, i], {"price": i, "text": "red shoe"})
    yield served
    assert served.end() == 0


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="the extra `schema` is not installed")
def test_the_server_does_what_its_description_says(served: Served, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(TOLD / "schemathesis.toml"), "run"]
    command += [f"http://127.0.0.1:{served.port}/openapi.json", "--checks", "all", "--mode", "all", "--seed", SEED]
    command += ["--max-examples", str(N_EXAMPLES), "--generation-database", "none", "--warnings", "off", "--no-color"]
    command += ["--no-shrink", "--request-timeout", "60"]
    if SHORT:
        command += ["--phases", "fuzzing"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(TOLD)}

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    told = re.sub(r"(.)\1{60,}", r"\1…", done.stdout)
    print("\n".join(line[:1000] for line in told.splitlines()))
    assert done.returncode == 0, f"schemathesis has found something, see above; {done.stderr}"
    found = re.search(r"(\d+) generated, (\d+) passed", told)
    assert found is not None
    assert int(found[1]) >= (50 if SHORT else 10_000)
    # A few at the end: it is alive, and a kill in the middle of this would have been seen as a failure.
    assert served.call("GET", "/healthz")[0] == 200
    print(f"{found[1]} requests, nothing found")
