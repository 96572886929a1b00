"""What all tests share: hypothesis draws the same examples each time, unless ``-m fuzz`` looks for new ones."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest
from campaign import Campaign
from hypothesis import settings

import kektordb
from kektordb.remote import RemoteDatabase

settings.register_profile("same", derandomize=True, deadline=None, database=None)

_campaign = Campaign("")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the profile before the test modules are imported."""
    global _campaign
    _campaign = Campaign(config.option.markexpr)
    if "fuzz" not in config.option.markexpr:
        settings.load_profile("same")


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c() -> Iterator[None]:
    """Shells start what runs in the background deaf to Ctrl-C; tests press it."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what a campaign came to."""
    for line in _campaign.report():
        terminalreporter.write_line(line)


@pytest.fixture
def campaign() -> Iterator[Campaign]:
    """How often, and where the figures go; warnings of thousands of torn logs are not kept."""
    logger = logging.getLogger("kektordb")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield _campaign
    logger.setLevel(level)


@pytest.fixture
def small_and_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks in little data, no sync by the clock, and none of the thousand threads that would save."""
    monkeypatch.setattr("kektordb.upkeep.maintenance.Upkeep.start", lambda *_: None)
    monkeypatch.setattr("kektordb.storage.snapshot_writer.BLOCK_BYTES", 512)
    monkeypatch.setattr("kektordb.storage.log.MAX_PART_BYTES", 400)
    monkeypatch.setattr("kektordb.storage.log.JOIN_BYTES", 200)
    monkeypatch.setattr("kektordb.storage.sync.INTERVAL_S", 3600.0)


@pytest.fixture(scope="session")
def served_memory() -> Iterator[tuple[kektordb.Database, str]]:
    """A database in memory and the address of its server."""
    from live import live

    with kektordb.open(":memory:") as database, live(database) as url:
        yield database, url


@pytest.fixture(params=["embedded", "remote"])
def either_database(request: pytest.FixtureRequest) -> Iterator[kektordb.Database | RemoteDatabase]:
    """An empty database in this process, and one on a server: what uses both runs twice."""
    if request.param == "embedded":
        with kektordb.open(":memory:") as database:
            yield database
        return
    served, url = request.getfixturevalue("served_memory")
    with kektordb.connect(url) as remote:
        yield remote
    for name in list(served):
        served.drop_index(name)
