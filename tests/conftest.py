"""What all tests share: hypothesis draws the same examples each time, unless ``-m fuzz`` looks for new ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from campaign import Campaign
from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None, database=None)

_campaign = Campaign("")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the profile before the test modules are imported."""
    global _campaign
    _campaign = Campaign(config.option.markexpr)
    if "fuzz" not in config.option.markexpr:
        settings.load_profile("same")


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
