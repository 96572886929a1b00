"""What all tests share: hypothesis draws the same examples each time, unless ``-m fuzz`` looks for new ones."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None, database=None)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the profile before the test modules are imported."""
    if "fuzz" not in config.option.markexpr:
        settings.load_profile("same")
