"""Draw the curves of the last `search`: queries per second over recall, one picture per data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.options import Options

__all__ = ["run"]

COLOURS = {"kektordb": "#c2410c", "hnswlib": "#475569"}
MARKERS = {"kektordb": "o", "hnswlib": "s"}


def run(_options: Options) -> None:
    """Write ``results/<data set>.svg`` for each data set in ``results/search.json``."""
    try:
        import matplotlib
    except ImportError:
        print("no matplotlib here: pip install -e '.[bench]'")
        return
    matplotlib.use("svg")
    # Text stays text, and the same figures make the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kektordb", "font.family": "sans-serif"})
    kept = report.read("search")
    if kept is None:
        print("nothing to draw yet: run the part `search` first")
        return
    for name, result in kept["results"].items():
        print(f"written: {draw(name, result, kept['machine'])}")


def draw(name: str, result: dict[str, Any], machine: dict[str, Any]) -> Path:
    """Draw one data set."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for system, curve in result["curves"].items():
        axes.plot(
            curve["recall"],
            curve["qps"],
            marker=MARKERS[system],
            markersize=4,
            color=COLOURS[system],
            label=f"{system} {machine['packages'].get(system) or ''}",
        )
    axes.set_yscale("log")
    axes.set_xlabel("recall@10")
    axes.set_ylabel("queries per second, one thread")
    axes.set_title(
        f"{name}  ({result['rows']:,} x {result['dim']}, M {result['m']}, ef_construction {result['ef_construction']})",
        fontsize=10,
    )
    axes.grid(True, which="both", color="#e5e7eb", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left")
    path = report.RESULTS / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
