"""A server in this process, on a free port."""

from __future__ import annotations

import pytest

pytest.importorskip("uvicorn", reason="the server needs kektordb[server]")

from kektordb.server.background import serving as live

__all__ = ["live"]
