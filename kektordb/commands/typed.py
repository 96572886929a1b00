"""What stands in a line that somebody typed? Words, options, numbers, and a rest that is a filter."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from kektordb.errors import ConfigError, pointed

__all__ = ["Line", "LineError"]

_QUOTES = "'\""
_ESCAPED = re.compile(r"\\([\\'\"])")
_BLANKS = re.compile(r"\s*")
_WORD = re.compile(r"\S+")


class LineError(ConfigError):
    """A line cannot be understood; the message shows where.

    Parameters
    ----------
    message : str
    text : str
        The whole line.
    position : int
        Offset of what is wrong.
    """

    def __init__(self, message: str, text: str, position: int) -> None:
        super().__init__(pointed(message, text, position))


class Line:
    """A line, read from left to right.

    A word ends at a blank, or is a string in single or double quotes, in which a backslash takes away the meaning of a
    quote or a backslash.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self._skip()

    def _skip(self) -> None:
        found = _BLANKS.match(self.text, self.position)
        assert found is not None
        self.position = found.end()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.position >= len(self.text)

    def fail(self, message: str, position: int | None = None) -> NoReturn:
        """Raise LineError about a place, the present one by default."""
        raise LineError(message, self.text, self.position if position is None else position)

    def end(self) -> None:
        """Raise LineError when something is left."""
        if not self.is_over:
            self.fail("expected the end of the line")

    def rest(self) -> str:
        """Take all that is left, without the blanks at its end."""
        found, self.position = self.text[self.position :].rstrip(), len(self.text)
        return found

    def word(self, what: str) -> str:
        """Take a word; `what` is said when there is none."""
        if self.is_over:
            self.fail(f"expected {what}, got the end of the line")
        begin, quote = self.position, self.text[self.position]
        if quote not in _QUOTES:
            found = _WORD.match(self.text, begin)
            assert found is not None
            self.position = found.end()
            self._skip()
            return found[0]
        closed = re.compile(rf"(?:[^\\{quote}]|\\.)*{quote}", re.DOTALL).match(self.text, begin + 1)
        if closed is None:
            self.fail(f"this {quote} is never closed")
        self.position = closed.end()
        if not self.is_over and not self.text[self.position].isspace():
            self.fail("expected a blank after the string")
        self._skip()
        return _ESCAPED.sub(r"\1", closed[0][:-1])

    def keyword(self, *names: str) -> str | None:
        """Take a bare word if it is one of these, in whatever case; return it in lower case."""
        found = _WORD.match(self.text, self.position)
        if found is None or found[0].lower() not in names:
            return None
        self.position = found.end()
        self._skip()
        return found[0].lower()

    def option(self, *names: str) -> tuple[str, str, int] | None:
        """Take ``name=value`` if the name is one of these; return both, and where the value begins."""
        found = re.compile(rf"({'|'.join(map(re.escape, names))})=(\S*)").match(self.text, self.position)
        if found is None:
            return None
        self.position = found.end()
        self._skip()
        return found[1], found[2], found.start(2)

    def parameter(self) -> str | None:
        """Take ``$name=``; return the name."""
        found = re.compile(r"\$([^\W\d]\w*)=").match(self.text, self.position)
        if found is None:
            return None
        self.position = found.end()
        return found[1]

    def value(self) -> Any:
        """Take what JSON says, or a word, which is a string."""
        try:
            found, end = json.JSONDecoder().raw_decode(self.text, self.position)
        except (ValueError, RecursionError):
            return self.word("a value")
        if not self.text[end : end + 1].strip():
            self.position = end
            self._skip()
            return found
        return self.word("a value")

    def numbers(self) -> list[float]:
        """Take a JSON list of numbers."""
        begin = self.position
        try:
            found, end = json.JSONDecoder().raw_decode(self.text, begin)
        except json.JSONDecodeError as error:
            self.fail(f"expected a list of numbers such as [0.1, 0.2]: {error.msg}", error.pos)
        except (ValueError, RecursionError):
            self.fail("expected a list of numbers such as [0.1, 0.2]")
        if not isinstance(found, list) or not found or not all(type(one) in (int, float) for one in found):
            self.fail("expected a list of numbers such as [0.1, 0.2]", begin)
        self.position = end
        self._skip()
        return found
