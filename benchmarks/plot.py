"""Draw what the last `search` and `build` measured: queries per second over recall, and the time to build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.options import Options

__all__ = ["run"]

# Ours in one warm colour, dark and light; the others apart from it and from each other, with a marker each.
LOOKS = {
    "kektordb": ("#c2410c", "o"),
    "kektordb-float32": ("#fb923c", "o"),
    "kektordb-memory": ("#ea7a35", "o"),
    "kektordb-graph": ("#fdba74", "o"),
    "hnswlib": ("#334155", "s"),
    "faiss": ("#2563eb", "^"),
    "faiss-sq8": ("#93c5fd", "^"),
    "usearch": ("#7c3aed", "D"),
    "chromadb": ("#65a30d", "v"),
    "qdrant-edge": ("#be185d", "P"),
    "lancedb": ("#0d9488", "X"),
    "sqlite-vec": ("#a16207", "*"),
    "zvec": ("#0891b2", "p"),
}
OTHER = ("#9ca3af", ".")
LEAST_RECALL = 0.8
# Where the axis of recall would be infinite.
RIGHT_END = 1.003
TICKS = (0.8, 0.9, 0.95, 0.98, 0.99, 1.0)


def run(_options: Options) -> None:
    """Write ``results/<data set>.svg`` and ``results/<data set>-build.svg`` for what there are results of."""
    try:
        import matplotlib
    except ImportError:
        print("no matplotlib here: pip install matplotlib")
        return
    matplotlib.use("svg")
    # Text stays text, and the same figures make the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kektordb", "font.family": "sans-serif"})
    drawings: dict[str, tuple[str, Callable[[Any, dict[str, Any]], None]]] = {
        "search": ("", draw_curves),
        "build": ("-build", draw_builds),
    }
    for part, (suffix, draw) in drawings.items():
        kept = report.read(part)
        if kept is None:
            print(f"nothing to draw yet of the part `{part}`")
            continue
        for name, result in kept["results"].items():
            print(f"written: {picture(name, suffix, result, draw)}")


def picture(name: str, suffix: str, result: dict[str, Any], draw: Callable[[Any, dict[str, Any]], None]) -> Path:
    """Draw one result into a file."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.6, 4.4), layout="constrained")
    axes.set_title(f"{name}, {result['rows']:,} x {result['dim']}", fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, result)
    path = report.RESULTS / f"{name}{suffix}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def draw_curves(axes: Any, result: dict[str, Any]) -> None:
    """Draw queries per second over recall, one line for each system, the legend in the order of the lines."""
    curves = sorted(result["curves"].items(), key=lambda item: -max(item[1]["qps"]))
    for system, curve in curves:
        colour, marker = LOOKS.get(system, OTHER)
        points = [(x, y) for x, y in zip(curve["recall"], curve["qps"], strict=True) if x >= LEAST_RECALL]
        width = 2.2 if system == "kektordb" else 1.3
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            marker=marker,
            markersize=5,
            linewidth=width,
            color=colour,
            label=system,
            zorder=3 if system.startswith("kektordb") else 2,
        )
    axes.set_yscale("log")
    # Equal steps halve what is missing to 1; the curves would all run together at the right end otherwise.
    axes.set_xscale("function", functions=(lambda x: -np.log(RIGHT_END - x), lambda y: RIGHT_END - np.exp(-y)))
    axes.set_xlim(LEAST_RECALL - 0.01, 1.0005)
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("recall@10")
    axes.set_ylabel("queries per second, one thread")
    axes.grid(True, which="major", color="#e5e7eb", linewidth=0.8)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)


def draw_builds(axes: Any, result: dict[str, Any]) -> None:
    """Draw the time to build as bars, the shortest on top."""
    systems = sorted(result["systems"].items(), key=lambda item: -item[1]["seconds"])
    names = [system for system, _ in systems]
    seconds = [line["seconds"] for _, line in systems]
    bars = axes.barh(names, seconds, color=[LOOKS.get(system, OTHER)[0] for system in names], height=0.65)
    axes.bar_label(bars, labels=[f"{value:,.1f}" for value in seconds], padding=4, fontsize=9)
    axes.margins(x=0.08)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"seconds to build, {result['build_threads']} threads (sqlite-vec builds no index)")
