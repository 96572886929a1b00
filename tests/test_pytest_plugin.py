"""The fixtures that users' tests get, in runs of pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> object:
    """Run tests in a process of its own, with the plugin and no others, as if it were installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return lambda *more: pytester.runpytest_subprocess("-W", "error", "-p", "pytest_kektordb", *more)


def test_each_test_has_databases_of_its_own(pytester: pytest.Pytester, run) -> None:
    pytest.importorskip("uvicorn", reason="the server needs kektordb[server]")
    pytester.makepyfile(
        """
        import kektordb
        import pytest

        left = []

        @pytest.mark.parametrize("again", [1, 2])
        def test_memory(kektordb_memory, again):
            assert list(kektordb_memory) == []
            kektordb_memory.create_index("a").add("x", [1.0, 2.0])
            left.append(kektordb_memory)

        @pytest.mark.parametrize("again", [1, 2])
        def test_path(kektordb_path, again):
            assert not kektordb_path.exists()
            with kektordb.open(kektordb_path) as database:
                database.create_index("a").add("x", [1.0, 2.0])
            database = kektordb.open(kektordb_path)  # and not closed
            assert database["a"].ids() == ["x"]
            left.append(database)
            left.append(kektordb.open(kektordb_path / "follower", follow=kektordb_path))

        @pytest.mark.parametrize("again", [1, 2])
        def test_server(kektordb_server, kektordb_memory, again):
            assert kektordb_server.database is kektordb_memory
            client = kektordb_server.connect()
            assert list(client) == []
            client.create_index("a").add("x", [1.0, 2.0])
            assert kektordb_memory["a"].ids() == ["x"]
            assert kektordb_server.url.startswith("http://127.0.0.1:")
            left.extend([client, kektordb_server.database])

        def test_all_were_closed():
            assert len(left) == 10
            assert all(one.closed for one in left)
        """
    )
    run().assert_outcomes(passed=7)


def test_fixtures_are_listed_with_what_they_are(pytester: pytest.Pytester, run) -> None:
    output = run("--fixtures").stdout.str()
    for name in ("kektordb_memory", "kektordb_path", "kektordb_server"):
        assert name in output


def test_without_the_packages_of_the_server_it_says_what_is_missing(pytester: pytest.Pytester, run) -> None:
    pytester.makeconftest("import sys\nsys.modules['uvicorn'] = None")
    pytester.makepyfile("def test_server(kektordb_server): pass")
    result = run()
    result.assert_outcomes(errors=1)
    assert "pip install 'kektordb[server]'" in result.stdout.str()


def test_a_run_that_needs_no_database_imports_none() -> None:
    code = "import sys, pytest; before = set(sys.modules); import pytest_kektordb; print(set(sys.modules) - before)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "{'pytest_kektordb'}"
