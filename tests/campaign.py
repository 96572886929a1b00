"""How much of a campaign is run, and the table of what it came to.

A test with a long form asks `Campaign.count` how often, and notes its figures. With ``-m crash`` or ``-m fuzz`` the
counts are the long ones, the table is printed at the end and written to ``build/``; any count can be set by a variable
``KEKTORDB_CRASH_…``.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

__all__ = ["Campaign"]

BUILD = Path(__file__).parent.parent / "build"


class Campaign:
    """The figures of one run of pytest.

    Attributes
    ----------
    mark : str
        ``crash``, ``fuzz``, or empty for the short forms.
    """

    def __init__(self, markexpr: str) -> None:
        self.mark = markexpr if markexpr in ("crash", "fuzz") else ""
        self._rows: list[tuple[str, str, dict[str, Any]]] = []

    def count(self, name: str, short: int, full: int) -> int:
        """Return how often: the variable ``KEKTORDB_CRASH_name``, or `full` in a campaign and `short` otherwise."""
        chosen = os.environ.get(f"KEKTORDB_CRASH_{name}")
        return int(chosen) if chosen else full if self.mark == "crash" else short

    def deadline(self) -> float | None:
        """Return when a fuzzer shall end, by `time.monotonic`; None for its short form."""
        if self.mark != "fuzz":
            return None
        return time.monotonic() + float(os.environ.get("KEKTORDB_FUZZ_SECONDS", "60"))

    def note(self, what: str, which: str, **figures: Any) -> None:
        """Put a row into the table."""
        self._rows.append((what, which, figures))

    def report(self) -> list[str]:
        """Return the table as lines, and write it to ``build/``, when this was a campaign."""
        if not self.mark or not self._rows:
            return []
        BUILD.mkdir(exist_ok=True)
        rows = [{"what": what, "which": which, **figures} for what, which, figures in self._rows]
        (BUILD / f"{self.mark}.json").write_text(json.dumps(rows, indent=1) + "\n")
        widths = [max(len(row[i]) for row in self._rows) for i in (0, 1)]
        return [
            f"{what:{widths[0]}}  {which:{widths[1]}}  "
            + ", ".join(f"{name} {_shown(x)}" for name, x in figures.items())
            for what, which, figures in self._rows
        ]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
