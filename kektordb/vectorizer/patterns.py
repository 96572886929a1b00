"""Which paths do patterns such as ``*.md`` or ``drafts/**/old_*`` mean?"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import translate
from re import Pattern, compile

from kektordb.errors import ConfigError

__all__ = ["Patterns"]

MAX_PATTERNS = 1000
MAX_LENGTH = 1000


class Patterns:
    """Patterns for paths with ``/``.

    A pattern without a slash means a name, in any folder: of a file or of a folder with all that is in it. One with a
    slash means a path from the top; ``**`` stands for any number of folders. ``*``, ``?`` and ``[...]`` are as in a
    shell and never mean a slash. Upper and lower case differ.

    Parameters
    ----------
    patterns : sequence of str

    Raises
    ------
    ConfigError
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str) or len(patterns) > MAX_PATTERNS:
            raise ConfigError(f"expected at most {MAX_PATTERNS} patterns, got {patterns!r:.80}")
        self._names: list[Pattern[str]] = []
        self._paths: list[tuple[Pattern[str] | None, ...]] = []
        for pattern in patterns:
            if not isinstance(pattern, str) or not pattern.strip("/") or len(pattern) > MAX_LENGTH:
                raise ConfigError(f"expected a pattern such as '*.md', got {pattern!r:.80}")
            parts = [part for part in pattern.split("/") if part and part != "."]
            if ".." in parts:
                raise ConfigError(f"expected a pattern that stays in the folder, got {pattern!r:.80}")
            if "/" not in pattern.rstrip("/"):
                self._names.append(compile(translate(parts[0])))
            else:
                self._paths.append(tuple(None if part == "**" else compile(translate(part)) for part in parts))

    def __len__(self) -> int:
        return len(self._names) + len(self._paths)

    def match(self, path: str) -> bool:
        """Tell whether a path itself is meant."""
        name = path.rpartition("/")[2]
        if any(pattern.match(name) for pattern in self._names):
            return True
        return bool(self._paths) and any(_fits(pattern, path.split("/")) for pattern in self._paths)


def _fits(pattern: tuple[Pattern[str] | None, ...], parts: list[str]) -> bool:
    # Which beginnings of the path does each beginning of the pattern fit? So that two ** take no exponential time.
    fits = {0}
    for part in pattern:
        if part is None:
            fits = set(range(min(fits), len(parts) + 1)) if fits else fits
        else:
            fits = {i + 1 for i in fits if i < len(parts) and part.match(parts[i])}
    return len(parts) in fits
