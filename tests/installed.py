"""Is a wheel what users need? Installed in a fresh environment: what comes with it, does it run, are programs typed?

    python tests/installed.py WHEEL DIRECTORY

makes an environment in DIRECTORY. mypy runs in the environment of this script. ``make wheel`` calls it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import venv
from pathlib import Path

CORE = {"numpy", "lark", "pystemmer", "blosc2", "msgspec", "xxhash"}
# How much longer than numpy the engine may take to be loaded.
MORE_S = 0.1

# What the installed packages take without extras, from kektordb on.
CLOSURE = """
import json
from importlib.metadata import distributions, requires
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name as name
there = {name(one.metadata["Name"]) for one in distributions()}
def needs(package, extra):
    for need in map(Requirement, requires(package) or []):
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            yield from ((name(need.name), extra) for extra in ("", *need.extras))
found, waiting = set(), [("kektordb", "")]
while waiting:
    one = waiting.pop()
    if one not in found:
        found.add(one)
        waiting += needs(*one)
direct = {package for package, _ in needs("kektordb", "")}
print(json.dumps({"there": sorted(there), "found": sorted({one for one, _ in found}), "direct": sorted(direct)}))
"""
PROGRAM = """
import sys
import kektordb
with kektordb.open(sys.argv[1]) as db:
    index = db.create_index("a", text_language="english")
    metadata = [{"n": i, "text": "foxes"} for i in range(300)]
    index.add_batch([str(i) for i in range(300)], [[i, 1.0] for i in range(300)], metadata)
    assert index.search([1.0, 1.0], k=2, filter="n < 5 AND CONTAINS(text, 'fox')").ids
    db.kv["k"] = "v"
    db.save()
with kektordb.open(sys.argv[1]) as db:
    assert (len(db["a"]), db.kv["k"]) == (300, b"v")
for heavy in ("pyarrow", "pandas", "mcp", "uvicorn", "tqdm"):
    try:
        __import__(heavy)
    except ImportError:
        continue
    raise SystemExit(f"{heavy} came with the core")
with kektordb.open(":memory:") as db:
    try:
        db.create_index("a", dim=2).to_arrow()
    except kektordb.ConfigError as error:
        assert "kektordb[arrow]" in str(error), error
from importlib.metadata import entry_points
assert "pytest_kektordb" in [one.value for one in entry_points(group="pytest11")]
"""
TYPED = """
import numpy as np
import kektordb
import kektordb.aio
from kektordb import F, Hit, Index


def nearest(index: Index, query: list[float]) -> list[str]:
    hits = index.search(query, k=3, filter=F("price") < 50)
    best: Hit = hits[0]
    distance: float | None = best.distance
    print(distance, index.stats()["n_items"])
    return hits.ids


async def main() -> list[str]:
    async with kektordb.aio.open("data", sync="always") as db:
        index = await db.create_index("a", metric="dot")
        await index.add_batch(["x"], np.zeros((1, 3)), [{"price": 3}], progress=lambda done, total: None)
        hits = await index.search([1.0, 2.0, 3.0], k=1)
        return hits.ids


with kektordb.open(":memory:") as db:
    nearest(db.create_index("a"), [1.0])
    value: bytes = db.kv["k"]
with kektordb.connect("http://localhost:9091") as remote:
    remote["a"].upsert("x", [1.0])
"""
WRONG = {
    "kektordb.open(5)": "arg-type",
    "kektordb.open('a', synk='always')": "call-arg",
    "kektordb.open('a').create_index('b').search([1.0])[0].nothing": "attr-defined",
    "x: int = kektordb.open('a')['b'].search([1.0])[0].id": "assignment",
    "kektordb.aio.open('a', sync=1)": "arg-type",
}


def main(wheel: str, directory: str) -> None:
    """Make the environment and look at it."""
    venv.EnvBuilder(clear=True, with_pip=True).create(directory)
    python = str(Path(directory, "bin", "python"))
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel)
    run(python, "-m", "pip", "check", "--disable-pip-version-check")
    packages(python)
    work = Path(directory, "work")
    work.mkdir()
    run(python, "-c", PROGRAM, str(work / "db"), cwd=work)
    assert "kektordb" in run(str(Path(directory, "bin", "kektordb")), "--version")
    print("installed: it runs without extras")
    imports(python, work)
    types(python, work)


def packages(python: str) -> None:
    found = json.loads(run(python, "-c", CLOSURE))
    assert set(found["direct"]) == CORE, found["direct"]
    more = set(found["there"]) - set(found["found"]) - {"pip", "setuptools", "wheel"}
    assert not more, more
    print("installed:", ", ".join(found["found"]))


def imports(python: str, work: Path) -> None:
    """Compare the CPU time of processes, the best of several: others may use the machine."""
    numpy = seconds(python, "import numpy", work)
    ours = seconds(python, "import kektordb; kektordb.open", work)
    print(f"installed: to load numpy takes {numpy:.3f} s, kektordb {ours:.3f} s")
    assert ours <= numpy + MORE_S


def seconds(python: str, code: str, work: Path) -> float:
    taken = []
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(python, "-c", code, cwd=work)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


def types(python: str, work: Path) -> None:
    (work / "typed.py").write_text(TYPED, encoding="utf-8")
    lines = ["import kektordb", "import kektordb.aio", *WRONG]
    (work / "wrong.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--show-error-codes")
    run(*mypy, "typed.py", cwd=work)
    said = run(*mypy, "wrong.py", cwd=work, status=1)
    for number, (line, code) in enumerate(WRONG.items(), 3):
        assert re.search(rf"wrong\.py:{number}: error: .*\[{code}\]", said), f"mypy finds nothing in {line}:\n{said}"
    print("installed: py.typed is seen, and mypy checks programs that use it")


def run(*command: str, cwd: Path | None = None, status: int = 0) -> str:
    # Nothing of this checkout may be found by chance.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    if done.returncode != status:
        raise SystemExit(f"{command[:4]}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), str(Path(sys.argv[2]).resolve()))
