"""What is in a YAML file, and on which line? Plain data, bounded, with the environment put in.

PyYAML makes nodes of the text, with its safe loader; what is made of the nodes is made here, so that every value has a
line, no key comes twice, and neither aliases nor nesting can make much of little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kektordb.errors import ConfigError

if TYPE_CHECKING:
    from yaml import MappingNode, Node, ScalarNode

__all__ = ["YamlFile", "read_yaml"]

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 20
INSTALL = "expected a package that reads YAML: pip install 'kektordb[vectorizer]'"

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(f"{_TAG}{kind}" for kind in ("int", "float", "bool", "timestamp"))
_BOOLEANS = {"true": True, "false": False}

Place = tuple[str | int, ...]


class YamlFile:
    """The content of a file.

    Attributes
    ----------
    data : Any
        Dicts, lists, texts, numbers, booleans, None.
    """

    def __init__(self, path: str, environment: Mapping[str, str], texts: frozenset[str]) -> None:
        self.data: Any = None
        self._path = path
        self._environment = environment
        self._texts = texts
        self._lines: dict[Place, int] = {}
        self._from_environment: set[Place] = set()
        self._n_nodes = 0

    def line(self, path: Place) -> int:
        """Return the line on which a value stands, or the nearest one around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def is_from_environment(self, path: Place) -> bool:
        """Tell whether all of a value came from the environment."""
        return path in self._from_environment

    def refuse(self, path: Place, message: str) -> NoReturn:
        """Raise ConfigError with file and line."""
        raise ConfigError(f"{self._path}, line {self.line(path)}: {message}") from None

    # ------------------------------------------------------------------------------------------------- nodes to values

    def take(self, node: Node | None) -> None:
        """Take what the root node says."""
        self.data = None if node is None else self._value(node, ())

    def _value(self, node: Node, path: Place) -> Any:
        from yaml import MappingNode, ScalarNode, SequenceNode

        self._lines[path] = node.start_mark.line + 1
        self._n_nodes += 1
        if self._n_nodes > MAX_NODES or len(path) > MAX_DEPTH:
            self.refuse(path, "expected less: too many values, too deep, or aliases that make too many of few")
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
            return [self._value(one, (*path, i)) for i, one in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        return self.refuse(path, f"expected plain data, got the tag {node.tag!r:.80}")

    def _mapping(self, node: MappingNode, path: Place) -> dict[str, Any]:
        if node.tag != f"{_TAG}map":
            self.refuse(path, f"expected plain data, got the tag {node.tag!r:.80}")
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = key.value
            self._lines[path] = key.start_mark.line + 1
            if not isinstance(name, str) or key.tag not in (f"{_TAG}str", f"{_TAG}int", f"{_TAG}bool", f"{_TAG}float"):
                self.refuse(path, f"expected a name as a key, got {name!r:.80}")
            if name in found:
                self.refuse(path, f"{name!r:.80} stands here a second time")
            found[name] = self._value(value, (*path, name))
            self._lines[*path, name] = key.start_mark.line + 1
        self._lines[path] = node.start_mark.line + 1
        return found

    def _scalar(self, node: ScalarNode, path: Place) -> Any:
        text, tag = str(node.value), node.tag
        filled = _VARIABLE.sub(lambda found: self._variable(found, path), text)
        if filled != text or _VARIABLE.search(text):
            if _VARIABLE.sub("", text) == "" and ":-" not in text:
                self._from_environment.add(path)
            if node.style is None:
                tag = _resolved(filled)
        if path and path[-1] in self._texts and tag in _SCALARS and filled:
            tag = f"{_TAG}str"
        return self._plain(filled, tag, path)

    def _variable(self, found: re.Match[str], path: Place) -> str:
        value = self._environment.get(found[1])
        if value is None or (value == "" and found[2] is not None):
            value = found[2]
        if value is None:
            self.refuse(path, f"expected the environment variable {found[1]!r:.80}, which is not set")
        return value

    def _plain(self, text: str, tag: str, path: Place) -> Any:
        kind = tag.removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        # 010 is eight in YAML 1.1 and ten in 1.2, and 1:30 is ninety: nobody means either. They stay texts.
        if kind == "int" and re.fullmatch(r"[-+]?(0|[1-9][0-9]{0,17})", text):
            return int(text)
        if kind == "float" and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+", text):
            return float(text)
        if kind in ("str", "bool", "int", "float", "timestamp", "value", "merge"):
            return text
        return self.refuse(path, f"expected plain data, got the tag {tag!r:.80}")


def _resolved(text: str) -> str:
    from yaml import SafeLoader, ScalarNode

    return str(SafeLoader("").resolve(ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]


def read_yaml(path: Path, environment: Mapping[str, str], texts: frozenset[str] = frozenset()) -> YamlFile:
    """Read a file; values under the keys `texts` are texts. Raises ConfigError, with the line where there is one."""
    try:
        import yaml
    except ImportError:
        raise ConfigError(INSTALL) from None
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} has more than {MAX_BYTES:,} bytes")
    found = YamlFile(str(path), environment, texts)
    try:
        found.take(yaml.compose(text, Loader=yaml.SafeLoader))
    except RecursionError:
        raise ConfigError(f"{path}: expected less nesting") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{where}: {getattr(error, 'problem', None) or 'this is no YAML'}") from None
    return found
