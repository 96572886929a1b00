"""How long does it take to import what opens a database beyond `import numpy`, and what does it load?"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from benchmarks.measure import median
from benchmarks.options import Options
from benchmarks.report import table

__all__ = ["run"]

RUNS = 15
FORBIDDEN = ("blosc2", "lark", "asyncio")
# What opens a database is loaded when it is asked for.
FULLY = {"numpy": "import numpy", "kektordb": "from kektordb import open"}
TIMED = "import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
LOADED = "import sys; from kektordb import open; print(*(name for name in {names!r} if name in sys.modules))"


def run(_options: Options) -> dict[str, Any]:
    """Time both imports in turn, each in a fresh process; fail when something heavy is loaded."""
    loaded = fresh(LOADED.format(names=FORBIDDEN)).split()
    assert not loaded, f"import kektordb loads {', '.join(loaded)}"
    seconds: dict[str, list[float]] = {module: [] for module in FULLY}
    for _ in range(RUNS):
        for module, statement in FULLY.items():
            seconds[module].append(float(fresh(TIMED.format(statement=statement))))
    medians = {module: median(values) for module, values in seconds.items()}
    results = {**medians, "difference": medians["kektordb"] - medians["numpy"]}
    table(f"seconds to import, medians of {RUNS}", ["", "seconds"], results.items())
    return results


def fresh(code: str) -> str:
    """Run code in a fresh process and return what it printed."""
    return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
