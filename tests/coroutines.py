"""Lets the coroutines of a public test suite run without a setting of pytest."""

from __future__ import annotations

import inspect

import pytest


def mark_coroutines(suite: type) -> None:
    """Mark them for pytest-asyncio, those of its bases included."""
    for owner in suite.__mro__:
        for name, value in vars(owner).items():
            function = value.__func__ if isinstance(value, staticmethod) else value
            if name.startswith("test_") and inspect.iscoroutinefunction(function):
                pytest.mark.asyncio(function)
