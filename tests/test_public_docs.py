"""Do the Python blocks of the README and of docs/ run as they stand?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A build in place is found without being installed.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.is_file()]
# A block under the comment <!-- not run --> is a fragment, or needs what a test has not, or another test runs it.
BLOCK = re.compile(
    r"(?P<skip><!-- not run(?:: [\w/.]+)? -->\s*)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
# A page under the comment <!-- needs: pyarrow pandas --> runs where these are installed.
NEEDS = re.compile(r"<!-- needs: (.*?) -->")


def python_blocks(page: str) -> list[str]:
    """Return the fenced Python blocks of a Markdown text that are meant to run."""
    return [match["code"] for match in BLOCK.finditer(page) if not match["skip"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    """The blocks of one page make one program: a later block may use the names of an earlier one."""
    blocks = python_blocks(page.read_text(encoding="utf-8"))
    if not blocks:
        pytest.skip(f"{page.name} has no Python block to run")
    for packages in NEEDS.findall(page.read_text(encoding="utf-8")):
        for package in packages.split():
            pytest.importorskip(package, reason=f"{page.name} needs {package}")

    command = [sys.executable, "-W", "error", "-c", "\n".join(blocks)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False, env=ENVIRONMENT
    )

    assert done.returncode == 0, done.stderr


def test_blocks_are_found_and_fragments_left_out() -> None:
    page = (
        "```python\na = 1\n```\ntext\n\n<!-- not run -->\n```python\nb = 2\n```\n"
        "\n```sh\nmake\n```\n\n```python\nc = 3\n```\n"
    )

    assert python_blocks(page) == ["a = 1\n", "c = 3\n"]
