"""Where are the definitions in source code?

Lines are looked at, not grammars: a class in a string is taken for one. What comes of a mistake is a cut or a name that
could be better. The end of a definition is not looked for; what follows a function outside of it still bears its name.
"""

from __future__ import annotations

import re
from itertools import islice

from kektordb.documents.cutting import LINE, NEWLINE, WORD, Kind, after, at_offsets
from kektordb.documents.document import MAX_HEADINGS, MAX_TITLE, Document, Heading

__all__ = ["code_kinds", "declared_encoding", "parse_code"]

# Groups are not repeated possessively: Python 3.11.2 does not go back to where a last try began that fails.
DEFINITION = re.compile(
    r"^(?P<indent>[ \t]*+)"
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|unsafe|extern|override|virtual"
    r"|inline|open|data|sealed|partial|declare|cdef|cpdef|const|case|pub(?:\([a-z ]{1,20}\))?)[ \t]++)*"
    r"(?:def|class|function\*?|fn|func|interface|struct|enum|trait|impl(?:<[^>\n]{0,99}>)?|module|namespace|record"
    r"|object|protocol|extension|sub|defmodule|defp|macro_rules!|message|service|union"
    r"|create[ \t]++(?:or[ \t]++replace[ \t]++)?(?:table|view|function|procedure|index|trigger))[ \t]++"
    r"(?:\([^)\n]{0,99}\)[ \t]*)?"  # the receiver of a method in Go
    r"(?P<name>[^\s(){};=<>:,\"'`]{1,100})[^\r\n]*",
    re.MULTILINE | re.IGNORECASE,
)
# In C a definition has no word of its own: a line at the margin, with brackets, that ends as no statement does.
C_FUNCTION = re.compile(
    r"^(?P<indent>)[A-Za-z_][\w \t*&:<>,]{0,99}?(?P<name>[\w:~]{1,99})[ \t]{0,9}\([^;{}\r\n]{0,300}\{?[ \t]{0,9}$",
    re.MULTILINE,
)
# In Cython the type of what comes back stands between.
CYTHON_FUNCTION = re.compile(
    r"^(?P<indent>[ \t]*+)cp?def[ \t]++[^\r\n(=#\"']{0,99}?(?P<name>\w{1,99})\([^\r\n]*", re.MULTILINE
)
WITHOUT_A_WORD = {"c": C_FUNCTION, "cpp": C_FUNCTION, "objectivec": C_FUNCTION, "python": CYTHON_FUNCTION}
# What stands above a definition and belongs to it.
ATTACHED = ("@", "#", "//", "/*", "*", "--", "%", ";")
MAX_ATTACHED = 2_000
DECLARED = re.compile(rb"^(?:[^\n]{0,200}\n)?[ \t\f]{0,99}#[^\n]{0,99}?coding[:=][ \t]{0,9}([-\w.]{1,40})")
INDENT_OF_TAB = 4


def declared_encoding(data: bytes) -> str | None:
    """Return the encoding that one of the first two lines declares, as Python and editors have it."""
    found = DECLARED.match(data[:600])
    return found[1].decode("ascii", "replace") if found else None


def parse_code(text: str, language: str | None = None, encoding: str | None = None) -> Document:
    """Return a document whose headings are the definitions, below those that they are indented under."""
    matches = list(islice(DEFINITION.finditer(text), MAX_HEADINGS))
    if language in WITHOUT_A_WORD:
        matches += islice(WITHOUT_A_WORD[language].finditer(text), MAX_HEADINGS)
        matches.sort(key=lambda match: match.start())
    headings: list[Heading] = []
    for match in matches:
        behind = headings[-1].end if headings else 0
        if match.start() < behind:  # found in two ways
            continue
        level = len(match["indent"].expandtabs(INDENT_OF_TAB))
        start = _with_attached(text, match.start(), behind)
        headings.append(Heading(start, match.end(), level, match["name"][:MAX_TITLE]))
    return Document(text=text, kind="code", headings=tuple(headings), language=language, encoding=encoding)


def code_kinds(document: Document) -> tuple[Kind, ...]:
    """Return where source code is cut: before what stands at the margin, before definitions, at empty lines."""
    definitions = at_offsets([heading.start for heading in document.headings])
    return (
        Kind(MARGIN, 0.5),
        Kind(definitions, 0.5),
        Kind(MARGIN, 0.25),
        Kind(EMPTY_LINE, 0.5),
        Kind(LINE, 0.5),
        Kind(WORD, 0.5),
    )


def _with_attached(text: str, start: int, least: int) -> int:
    """Return where the decorators and comments right above a line begin, behind `least`."""
    least = max(least, start - MAX_ATTACHED)
    for line in reversed(text[least:start].splitlines(keepends=True)):
        # The first of the lines is the rest of one.
        if not line.strip().startswith(ATTACHED) or start - len(line) <= least:
            break
        start -= len(line)
    return start


EMPTY_LINE = after(rf"{NEWLINE}(?:[ \t]*+{NEWLINE})+")
# A closing bracket or word goes with what it closes.
MARGIN = after(rf"{NEWLINE}(?:[ \t]*+{NEWLINE})+(?=[^\s)\]}}])(?!end\b|else\b|elif\b|except\b|finally\b|catch\b)")
