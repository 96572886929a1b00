"""Where do optional packages for tables come in? Here, when they are needed."""

from __future__ import annotations

from typing import Any

from kektordb.errors import ConfigError

__all__ = ["arrow", "pandas", "parquet"]


def arrow() -> Any:
    """Return pyarrow. Raises ConfigError when it is not there."""
    try:
        import pyarrow
    except ImportError:
        raise ConfigError("Arrow tables need pyarrow: pip install kektordb[arrow]") from None
    return pyarrow


def parquet() -> Any:
    """Return pyarrow, with its module for Parquet. Raises ConfigError when it is not there."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError("the format parquet needs pyarrow: pip install kektordb[parquet]") from None
    return pyarrow


def pandas() -> Any:
    """Return pandas. Raises ConfigError when it is not there."""
    try:
        import pandas
    except ImportError:
        raise ConfigError("data frames need pandas: pip install kektordb[pandas]") from None
    return pandas
