"""No module imports upward, each heavy package has one door, and every number in a file says its byte order."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kektordb

PACKAGE = Path(kektordb.__file__).parent

# The rows of ARCHITECTURE.md from the ground up; a module belongs to the row of the longest name that it begins with.
ROWS = {
    "ground": ["errors", "types", "operations", "settings", "interrupts"],
    "state": [
        *(
            "state",
            "collection",
            "reserving",
            "precision",
            "kv",
            "links",
            "fusion",
            "ranking",
            "markup",
            "results",
            "query",
            "text",
        ),
        *("freezing", "calibration", "tally", "metadata", "_"),
        *("upkeep.copying", "safety.integrity", "safety.rebuilding"),
    ],
    "storage": ["storage"],
    "engine": [
        *("database", "index", "reading", "commit", "validation", "progress", "tasks", "metrics", "care", "keeping"),
        *("lifetime", "loading", "replication", "bounded", "idle", "addresses", "embedding", "feeding"),
        *("upkeep", "replicas", "safety", "data", "documents", "embed", "vectorizer"),
    ],
    "edges": [
        "__init__",
        "__main__",
        "cli",
        "commands",
        "server",
        "client",
        "remote",
        "integrations",
        "mcp",
        "awaiting",
        "aio",
        "cluster",
    ],
}
# What each row may import, beside itself. Storage and state are neighbours that do not know each other.
BELOW = {
    "ground": set(),
    "state": {"ground"},
    "storage": {"ground"},
    "engine": {"ground", "state", "storage"},
    "edges": {"ground", "state", "storage", "engine"},
}
# Where a package may be imported; `when` says whether at import of the module, or only when it is needed.
DOORS = {
    "lark": r"query/parser\.py",
    "Stemmer": r"text/analyzer\.py",
    "blosc2": r"storage/snapshot\w*\.py",
    "tqdm": r"progress\.py",
    "pyarrow": r"data/doors\.py|data/verbs\.py",
    "mcp": r"mcp/server\.py",
    "pandas": r"data/doors\.py|data/verbs\.py",
    "xxhash": r"(storage|embed|documents|vectorizer)/\w+\.py",
    "sqlite3": r"embed/file_cache\.py",
    "sentence_transformers": r"embed/local\.py",
    "fastembed": r"embed/local\.py",
    "model2vec": r"embed/local\.py",
    "yaml": r"vectorizer/\w+\.py",
    "watchfiles": r"vectorizer/watching\.py",
    "asyncio": r"(server|cluster|integrations)/.*\.py|awaiting\.py|aio\.py",
    "langchain_core": r"integrations/langchain\.py",
    "llama_index": r"integrations/llama_index\.py",
    "haystack": r"integrations/haystack/\w+\.py",
}
CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w.]+))", re.MULTILINE)


def sources(*suffixes: str) -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in suffixes)


def name_of(path: Path) -> str:
    """Return the dotted name of a module within the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def row_of(module: str) -> str:
    found = [(len(name), row) for row, members in ROWS.items() for name in members if begins(module, name)]
    assert found, f"{module} is in no row: architecture.md and this test must say where it belongs"
    return max(found)[1]


def begins(module: str, name: str) -> bool:
    if name == "_":
        return module.startswith("_") and module != "__init__"
    return module == name or module.startswith(name + ".")


def imported(path: Path) -> Iterator[str]:
    """Name everything that a file imports, with its full name."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        for first, second in CYTHON_IMPORT.findall(text):
            yield first or second
        return
    package = ["kektordb", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            # `from kektordb import x` may name a module as well as anything else.
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "kektordb" else [module]


def own(names: Iterator[str]) -> list[str]:
    """Name the modules of the package among imports, without the package's own name."""
    found = []
    for name in names:
        first, _, rest = name.partition(".")
        if first == "kektordb" and rest and not rest.startswith("__"):
            found.append(rest)
    return found


@pytest.mark.parametrize("path", sources(".py", ".pyx", ".pxd"), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_nothing_above_it(path: Path) -> None:
    row = row_of(name_of(path))
    for module in own(imported(path)):
        other = row_of(module)
        assert other == row or other in BELOW[row], f"{name_of(path)} ({row}) imports {module} ({other})"


def test_the_imports_are_seen_at_all() -> None:
    """Else the test above would pass on anything."""
    database = set(own(imported(PACKAGE / "database.py")))
    assert {"commit", "storage", "state", "errors", "index"} <= database
    assert "errors" in own(imported(PACKAGE / "storage" / "log.py"))
    assert "_bitmap" in own(imported(PACKAGE / "_hnsw.pyx"))
    assert row_of("_hnsw") == "state"
    assert row_of("storage.log") == "storage"
    assert row_of("__init__") == "edges"


@pytest.mark.parametrize("package", DOORS)
def test_a_package_comes_in_through_one_door(package: str) -> None:
    for path in sources(".py", ".pyx", ".pxd"):
        if package in {name.partition(".")[0] for name in imported(path)}:
            inside = path.relative_to(PACKAGE).as_posix()
            assert re.fullmatch(DOORS[package], inside), f"{inside} imports {package}"


def test_storage_knows_bytes_and_no_arrays() -> None:
    for path in (PACKAGE / "storage").glob("*.py"):
        assert "numpy" not in {name.partition(".")[0] for name in imported(path)}, path.name


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys; from kektordb import open; print(' '.join(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = set(done.stdout.split())

    assert "kektordb" in loaded
    assert "numpy" in loaded
    heavy = {"blosc2", "lark", "Stemmer", "asyncio", "email", "tqdm", "multiprocessing", "http", "sklearn"}
    heavy |= {"yaml", "watchfiles", "langchain_core", "llama_index", "haystack", "pydantic"}
    heavy |= {"pyarrow", "pandas", "mcp"}
    assert loaded & heavy == set()
    assert not any(name.startswith("kektordb.integrations") for name in loaded)


def test_importing_the_package_alone_loads_next_to_nothing() -> None:
    code = "import sys, kektordb; print(' '.join(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = set(done.stdout.split())

    assert {name for name in loaded if name.startswith("kektordb")} == {"kektordb", "kektordb.errors"}
    assert loaded & {"numpy", "msgspec"} == set()


# ---------------------------------------------------------------------------------------------------------- byte order


FILES = sorted([*(PACKAGE / "storage").glob("*.py"), PACKAGE / "operations.py", PACKAGE / "kv.py"])
STRUCT_CALLS = {"Struct", "pack", "unpack", "pack_into", "unpack_from", "iter_unpack", "calcsize"}


def formats(tree: ast.AST) -> Iterator[str]:
    """Name the formats that are given to the struct module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            if called in STRUCT_CALLS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_number_in_a_file_is_little_endian(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for text in formats(tree):
        assert text.startswith("<"), f"the struct format {text!r}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("to_bytes", "from_bytes"):
                given = [
                    arg.value
                    for arg in [*node.args, *(k.value for k in node.keywords)]
                    if isinstance(arg, ast.Constant)
                ]
                assert "little" in given, f"line {node.lineno}"
            for keyword in node.keywords:
                if keyword.arg == "dtype" and isinstance(keyword.value, ast.Constant):
                    assert str(keyword.value.value).startswith(("<", "|")), f"line {node.lineno}"


def test_the_formats_are_seen_at_all() -> None:
    assert len(list(formats(ast.parse((PACKAGE / "storage" / "codec.py").read_text(encoding="utf-8"))))) >= 5


# ---------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("path", sources(".py", ".pyx"), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_answers_one_question_in_few_lines(path: Path) -> None:
    """400 lines of Python, 800 of Cython, with some grace: what outgrows it has become two modules."""
    text = path.read_text(encoding="utf-8")
    limit = 450 if path.suffix == ".py" else 880
    assert text.count("\n") <= limit
    assert text.startswith('"""'), "the first line says what the module is for"
