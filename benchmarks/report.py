"""How is a result shown, and how is it kept?

A result file says what would be needed to doubt it: the machine, the versions, the commit, the command and the date.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "cell", "machine", "read", "table", "write"]

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("kektordb", "numpy", "blosc2", "lark", "msgspec", "xxhash", "PyStemmer", "Cython")
PEERS = (
    "hnswlib",
    "faiss-cpu",
    "usearch",
    "chromadb",
    "qdrant-edge-py",
    "lancedb",
    "sqlite-vec",
    "zvec",
    "bm25s",
    "numba",
    "tantivy",
)
# The CPU flags that decide about kernels.
FLAGS = (
    "sse4_2",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "asimd",
)


def table(title: str, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table: numbers to the right, words to the left."""
    rows = [list(row) for row in rows]
    texts = [[cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    right = [any(isinstance(row[place], int | float) for row in rows) for place in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        padded = zip(cells, widths, right, strict=True)
        return "  " + "  ".join(text.rjust(width) if number else text.ljust(width) for text, width, number in padded)

    print(f"\n{title}\n{line(headers)}\n{line(['─' * width for width in widths])}")
    print("\n".join(line(cells).rstrip() for cells in texts), flush=True)


def cell(value: Any) -> str:
    """Format a value of a table: three or four figures are enough."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"


def write(name: str, results: dict[str, Any], module: str = "benchmarks.run") -> Path:
    """Write ``results/<name>.json`` and return its path; `module` is what was run."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "-m", module, *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "results": results,
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read(name: str) -> dict[str, Any] | None:
    """Read what `write` wrote; None when there is nothing."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def machine() -> dict[str, Any]:
    """Describe the machine, its load and the versions in use."""
    model, flags = processor()
    try:
        import kektordb

        build: Any = kektordb.build_info()
    except (ImportError, AttributeError):
        build = None
    return {
        "cpu": model,
        "cpu_flags": flags,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES + PEERS},
        "kektordb_build": json.loads(json.dumps(build, default=str)),
    }


def processor() -> tuple[str, list[str]]:
    """Return the processor's name and those of its flags that matter."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor(), []
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    present = set((named.get("flags") or named.get("Features") or "").split())
    return named.get("model name", platform.machine()), [flag for flag in FLAGS if flag in present]


def version(package: str) -> str | None:
    """Return the version of an installed package, None when it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of this checkout, with a "+" when files differ from it."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # Results are written while benchmarks run; they are no change to what is measured.
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "..", ":!results")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
