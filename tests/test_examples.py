"""Do the examples run, and do they show what they promise?"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
# A build in place is found without being installed.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "HAYSTACK_TELEMETRY_ENABLED": "False"}
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name not in {"quickstart.py", "stdlib_docs.py"})


def run(script: str, *arguments: str) -> str:
    """Run an example in a fresh process with warnings as errors; return what it printed."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart_goes_through_every_chapter_and_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the quick start makes its vectors with scikit-learn")

    output = run("quickstart.py", "--limit", "600", "--path", str(tmp_path / "data"))

    assert "\033" not in output, "colour codes without a terminal"
    assert re.search(r"^  600 texts: ", output, re.MULTILINE)
    for chapter in (
        "Search",
        "Words, and words and vectors",
        "Search with filters",
        "Change",
        "Close, open, search again",
        "kill -9",
    ):
        assert f"\n{chapter}\n" in output
    there, acknowledged = re.search(r"([\d,]+) of ([\d,]+) acknowledged items are there", output).groups()
    assert there == acknowledged
    assert int(there.replace(",", "")) >= 300
    assert (tmp_path / "data").is_dir(), "--path keeps the database"


def test_the_standard_library_documents_more_than_5000_names() -> None:
    code = f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); import stdlib_docs; print(len(stdlib_docs.collect()))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert int(done.stdout) > 5000


@pytest.mark.parametrize("script", SCRIPTS)
def test_example_runs(script: str) -> None:
    needs = re.search(r"Needs: (.*)", (EXAMPLES / script).read_text(encoding="utf-8"))
    for package in needs[1].split(", ") if needs else ():
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    assert run(script).strip()
