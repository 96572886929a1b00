"""Run benchmarks: python -m benchmarks.run [part ...] [--datasets NAME ...] [--systems NAME ...] [--quick] [--passes N]
[--label NAME]

Each part prints tables and writes benchmarks/results/<part>.json, or <part>-<label>.json; `plot` draws what the last
runs without a label wrote.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks import report
from benchmarks.options import Options
from benchmarks.systems import NAMES
from benchmarks.text_systems import TEXT_NAMES

PARTS = (
    "search",
    "build",
    "filters",
    "writes",
    "mixed",
    "threads",
    "thin",
    "memory",
    "text",
    "hybrid",
    "calibration",
    "upkeep",
    "waits",
    "imports",
    "plot",
)

SYSTEMS = tuple(dict.fromkeys(NAMES + TEXT_NAMES))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description="Measure kektordb, side by side with others where that compares."
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--datasets", nargs="+", default=[], metavar="NAME", help="such as sift-128-euclidean")
    parser.add_argument("--systems", nargs="+", default=[], metavar="NAME", help=f"only these of {', '.join(SYSTEMS)}")
    parser.add_argument("--passes", type=int, default=5, help="repetitions of each timed loop (default: 5)")
    parser.add_argument("--quick", action="store_true", help="small inputs: to see that it runs, not how fast it is")
    parser.add_argument("--label", default="", help="keeps the results apart, as <part>-<label>.json")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if unknown := set(arguments.systems) - set(SYSTEMS):
        parser.error(f"no such system: {', '.join(sorted(unknown))}")
    options = Options(arguments.datasets, arguments.systems, arguments.quick, arguments.passes)
    for part in arguments.parts or PARTS:
        print(f"\n=== {part}", flush=True)
        results = importlib.import_module(f"benchmarks.{part}").run(options)
        # Pictures are no figures, and figures of a quick run are none to keep.
        if results and not options.quick:
            print(f"\nwritten: {report.write('-'.join(filter(None, (part, arguments.label))), results)}")


if __name__ == "__main__":
    sys.exit(main())
