"""Run benchmarks: python benchmarks/run.py [part ...] [--dataset NAME] [--quick] [--passes N]

Each part prints tables and writes benchmarks/results/<part>.json; `plot` draws the curves of the last `search`.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import report
from options import Options

PARTS = ("search", "filters", "writes", "memory", "threads", "imports", "plot")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure kektordb, side by side with hnswlib where that compares.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--dataset", action="append", default=[], help="such as sift-128-euclidean; may be repeated")
    parser.add_argument("--passes", type=int, default=5, help="repetitions of each timed loop (default: 5)")
    parser.add_argument("--quick", action="store_true", help="small inputs: to see that it runs, not how fast it is")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    options = Options(datasets=arguments.dataset, quick=arguments.quick, passes=arguments.passes)
    for part in arguments.parts or PARTS:
        print(f"\n=== {part}", flush=True)
        results = importlib.import_module(part).run(options)
        # Pictures are no figures, and figures of a quick run are none to keep.
        if results and not options.quick:
            print(f"\nwritten: {report.write(part, results)}")


if __name__ == "__main__":
    sys.exit(main())
