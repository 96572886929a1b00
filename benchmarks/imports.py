"""How long does `import kektordb` take beyond `import numpy`, and what does it load?"""

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
TIMED = "import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
LOADED = "import sys, kektordb; print(*(name for name in {names!r} if name in sys.modules))"


def run(_options: Options) -> dict[str, Any]:
    """Time both imports in turn, each in a fresh process; fail when something heavy is loaded."""
    loaded = fresh(LOADED.format(names=FORBIDDEN)).split()
    assert not loaded, f"import kektordb loads {', '.join(loaded)}"
    modules = ("numpy", "kektordb")
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(RUNS):
        for module in modules:
            seconds[module].append(float(fresh(TIMED.format(module=module))))
    medians = {module: median(values) for module, values in seconds.items()}
    results = {**medians, "difference": medians["kektordb"] - medians["numpy"]}
    table(f"seconds to import, medians of {RUNS}", ["", "seconds"], results.items())
    return results


def fresh(code: str) -> str:
    """Run code in a fresh process and return what it printed."""
    return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
