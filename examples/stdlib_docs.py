"""What is there to read on every machine? The docstrings of the standard library that runs this very program.

Python sources are parsed and not imported, so nothing runs and the result is the same each time. Modules written in C
have no source to parse: they are imported, which is harmless, and asked for their docstrings.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

__all__ = ["Entry", "collect"]

# Programs, tests and jokes; nothing that one would look up.
SKIPPED = frozenset({"antigravity", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "this", "turtledemo"})
# The C half of `os` goes under the name that everybody imports.
SHOWN_AS = {"posix": "os", "nt": "os"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented name, such as ``shutil.copyfile``; `kind` is module, class, function or method."""

    id: str
    module: str
    kind: str
    text: str

    @property
    def name(self) -> str:
        """The last part of the id."""
        return self.id.rpartition(".")[2]

    @property
    def title(self) -> str:
        """The parts of the id, taken apart at dots, underscores and capitals."""
        return " ".join(re.findall("[A-Z]?[a-z0-9]+", self.id))

    @property
    def words(self) -> str:
        """The title and the text."""
        return f"{self.title} {self.text}"

    @property
    def summary(self) -> str:
        """The first line of the text that is no signature (those stand above the texts of functions written in C)."""
        lines = [line.strip() for line in self.text.strip().splitlines() if line.strip()]
        return next((line for line in lines if not line.startswith(f"{self.name}(")), lines[0])


def collect(limit: int | None = None) -> list[Entry]:
    """Return every public, documented name of the standard library, each id once, by module in alphabetical order.

    With `limit`, an even sample of that many.
    """
    entries: dict[str, Entry] = {}
    for module in sorted(sys.stdlib_module_names):
        if is_public(module):
            for entry in (*from_sources(module), *from_compiled(module)):
                entries.setdefault(entry.id, entry)
    found = list(entries.values())
    if limit is None or limit >= len(found):
        return found
    return [found[position * len(found) // limit] for position in range(limit)]


def is_public(dotted: str) -> bool:
    """Tell whether no part of a dotted name is private or skipped."""
    return not any(part.startswith("_") or part in SKIPPED for part in dotted.split("."))


def from_sources(module: str) -> Iterator[Entry]:
    """Yield what the Python files of a module or package document; nothing when there are none."""
    root = Path(sysconfig.get_path("stdlib"))
    single = root / f"{module}.py"
    for file in [single] if single.is_file() else sorted((root / module).rglob("*.py")):
        dotted = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if is_public(dotted):
            with warnings.catch_warnings(action="ignore"):  # old files hold escapes that Python now frowns on
                tree = ast.parse(file.read_bytes())
            yield from from_syntax(tree, dotted, dotted, "module")


def from_syntax(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str, module: str, kind: str
) -> Iterator[Entry]:
    """Yield the docstring of a node and, unless that is a function, those of the public names inside it."""
    text = ast.get_docstring(node)
    if text:
        yield Entry(name, module, kind, text)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if isinstance(child, ast.ClassDef) and is_public(child.name):
            yield from from_syntax(child, f"{name}.{child.name}", module, "class")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(child.name):
            inner = "function" if kind == "module" else "method"
            yield from from_syntax(child, f"{name}.{child.name}", module, inner)


def from_compiled(module: str) -> Iterator[Entry]:
    """Yield what a module written in C documents; nothing for other modules and for those of other systems."""
    spec = importlib.util.find_spec(module)
    origin = (spec.origin if spec else None) or ""
    if origin != "built-in" and not origin.endswith(tuple(EXTENSION_SUFFIXES)):
        return
    with warnings.catch_warnings(action="ignore"):  # some are deprecated, and say so
        loaded = importlib.import_module(module)
    shown = SHOWN_AS.get(module, module)
    yield from from_objects(loaded, shown, shown)


def from_objects(owner: ModuleType | type, name: str, module: str) -> Iterator[Entry]:
    """Yield the docstring of a module or class and those of the public classes and functions in it."""
    if text := inspect.cleandoc(owner.__doc__ or ""):
        yield Entry(name, module, "class" if isinstance(owner, type) else "module", text)
    for key, value in vars(owner).items():
        if not is_public(key):
            continue
        if isinstance(value, type):
            if isinstance(owner, ModuleType):
                yield from from_objects(value, f"{name}.{key}", module)
        elif inspect.isroutine(value) and (text := inspect.cleandoc(value.__doc__ or "")):
            yield Entry(f"{name}.{key}", module, "method" if isinstance(owner, type) else "function", text)
