"""What are the headings of a Markdown text, its fenced code, and its front matter?"""

from __future__ import annotations

import re
import tomllib
from typing import Any, NamedTuple

from kektordb.documents.document import MAX_HEADINGS, MAX_TITLE, Document, Heading

__all__ = ["parse_markdown", "structure"]

LINE = re.compile(r"([^\r\n]*)(?>\r\n?|\n|\Z)")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^\r\n]*)")
ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)")
UNDERLINE = re.compile(r" {0,3}(?:(=+)|-+)[ \t]*$")
# What may not be the text above an underline: lists, quotes, tables, indented code, other lines.
NO_PARAGRAPH = re.compile(r"(?: {4}|\t)| {0,3}(?:[-+*>|<]|\d{1,9}[.)][ \t]|[*_=-]+[ \t]*$)")
LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
ATTRIBUTES = re.compile(r"\s*\{[^{}]*\}$")
MAX_FRONT_MATTER = 65_536
NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(\.\d{1,15})?")


class Structure(NamedTuple):
    """The headings of a text, and where code is fenced in."""

    headings: tuple[Heading, ...]
    fences: list[tuple[int, int]]


def parse_markdown(text: str, encoding: str | None = None) -> Document:
    """Return a document with its headings; the front matter is its metadata, and no part of its body."""
    body, metadata = _front_matter(text)
    headings = structure(text, body).headings
    named = metadata.get("title")
    title = named if isinstance(named, str) else next((one.title for one in headings if one.level == 1), None)
    return Document(
        text=text, kind="markdown", title=title, metadata=metadata, body=body, headings=headings, encoding=encoding
    )


def structure(text: str, start: int = 0) -> Structure:
    """Find headings and fenced code from an offset on (CommonMark 0.31, 4.2, 4.3, 4.5)."""
    headings: list[Heading] = []
    fences: list[tuple[int, int]] = []
    fence, fence_start, is_comment = "", 0, False
    paragraph: tuple[int, str] | None = None
    for match in LINE.finditer(text, start):
        line, at, end = match[1], match.start(), match.end()
        if len(headings) + len(fences) == MAX_HEADINGS:
            break
        if fence:
            if _closes(line, fence):
                fences.append((fence_start, end))
                fence = ""
        elif is_comment or line.lstrip().startswith("<!--"):
            is_comment = "-->" not in line
            paragraph = None
        elif (found := FENCE.match(line)) and not (found[1][0] == "`" and "`" in found[2]):
            fence, fence_start, paragraph = found[1], at, None
        elif found := ATX.match(line):
            headings.append(Heading(at, at + len(line), len(found[1]), _title(line[found.end(1) :])))
            paragraph = None
        elif paragraph and (found := UNDERLINE.match(line)):
            headings.append(Heading(paragraph[0], at + len(line), 1 if found[1] else 2, _title(paragraph[1])))
            paragraph = None
        elif not line.strip() or NO_PARAGRAPH.match(line):
            paragraph = None
        else:
            # Only the last line of a paragraph is taken for a heading.
            paragraph = at, line
    if fence:
        fences.append((fence_start, len(text)))
    return Structure(tuple(headings), fences)


def _closes(line: str, fence: str) -> bool:
    marks = line.strip()
    return len(marks) >= len(fence) and not marks.strip(fence[0]) and not line.startswith(("    ", "\t"))


def _title(line: str) -> str:
    title = line[:1_000].strip()
    without = title.rstrip("#")
    if not without or without[-1] in " \t":
        title = without.rstrip()
    title = LINK.sub(r"\1", ATTRIBUTES.sub("", title))
    return title.replace("`", "").replace("**", "").strip()[:MAX_TITLE]


def _front_matter(text: str) -> tuple[int, dict[str, Any]]:
    """Return where the body begins and what is said before it."""
    mark = text[:3]
    if mark not in ("---", "+++"):
        return 0, {}
    ends = re.compile(r"^(?:---|\.\.\.)[ \t]*$" if mark == "---" else r"^\+\+\+[ \t]*$", re.MULTILINE)
    first = LINE.match(text)
    if first is None or first[1].rstrip() != mark:
        return 0, {}
    head = text[:MAX_FRONT_MATTER].replace("\r", "\n")  # of the same length, and "$" knows it
    end = ends.search(head, first.end())
    if end is None:
        return 0, {}
    inside = head[first.end() : end.start()]
    found = _toml(inside) if mark == "+++" else _yaml(inside)
    after = LINE.match(text, end.start())
    return (after.end() if after else end.end()), found


def _toml(text: str) -> dict[str, Any]:
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {key: value for key, value in found.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    return isinstance(value, (str, int, float)) and abs(value if not isinstance(value, str) else 0) < 1 << 53


def _yaml(text: str) -> dict[str, Any]:
    """Read the YAML that front matter is made of: a line for each key, lists of words; the rest is passed over."""
    found: dict[str, Any] = {}
    key = ""
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped.startswith("- ") and isinstance(found.get(key), list):
            found[key].append(str(_scalar(stripped[2:])))
        elif line[:1] not in ("", " ", "\t", "#", "-") and ":" in line:
            key, _, value = line.partition(":")
            key, value = key.strip().strip("\"'")[:MAX_TITLE], value.strip()
            if value[:1] == "[" and value[-1:] == "]":
                found[key] = [str(_scalar(one)) for one in value[1:-1].split(",") if one.strip()]
            elif value[:1] not in ("|", ">", "{", "&", "*", "!"):
                found[key] = _scalar(value) if value else []
    return {key: value for key, value in found.items() if value not in ([], "", None) and key}


def _scalar(value: str) -> str | int | float | bool:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    value = value.partition(" #")[0].rstrip()
    if value in ("true", "false"):
        return value == "true"
    number = NUMBER.fullmatch(value)
    if number:
        return float(value) if number[1] else int(value)
    return value
