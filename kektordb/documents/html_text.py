"""What does a page of HTML say, without its markup?

We look for tags ourselves. The parser of the standard library takes quadratic time on some broken pages (a megabyte of
``<!`` or ``</`` in Python before 3.11.14 and 3.13.6), which is a hang where files come from strangers. Here each
character is looked at once; what never ends (a comment, a tag, a script) hides the rest, as browsers do.
"""

from __future__ import annotations

import re
from html import unescape

from kektordb.documents.document import MAX_HEADINGS, MAX_TITLE, Document, Heading

__all__ = ["declared_encoding", "parse_html"]

NAME = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]*)")
TAG_END = re.compile(r"(?:[^>=]++|=\s*+\"[^\"]*+\"|=\s*+'[^']*+'|=)*+>")
DECLARED = re.compile(rb"<meta[^>]{0,300}?charset\s{0,9}=\s{0,9}[\"']?([\w-]{1,40})", re.IGNORECASE)
XML_DECLARED = re.compile(rb"\s{0,99}<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([\w-]{1,40})")
# int() refuses thousands of digits; no character has so many.
LONG_NUMBER = re.compile(r"&#(?:\d{8,}|[xX][0-9a-fA-F]{8,});?")

# What is in them is no text, whatever it looks like. Those that need not be closed hide nothing when they are not.
RAW = {"script", "style"}
HIDDEN = {"noscript", "template", "svg", "math", "iframe", "object", "select"}
BLANK_LINE = {
    *("p", "blockquote", "pre", "table", "ul", "ol", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "section"),
    *("article", "figure", "header", "footer", "main", "nav", "aside", "fieldset"),
}
NEW_LINE = {
    "br",
    "div",
    "li",
    "tr",
    "dt",
    "dd",
    "form",
    "option",
    "figcaption",
    "caption",
    "address",
    "details",
    "summary",
}
CELLS = {"td", "th"}
HEADINGS = {f"h{level}": level for level in range(1, 7)}
BREAKS = ("", " ", "\n", "\n\n")


def declared_encoding(data: bytes) -> str | None:
    """Return the encoding that a page says it has."""
    head = data[:4_096]
    found = XML_DECLARED.match(head) or DECLARED.search(head)
    return found[1].decode("ascii", "replace") if found else None


def parse_html(html: str, encoding: str | None = None) -> Document:
    """Return the text of a page: paragraphs apart by an empty line, cells by bars, with its title and headings."""
    page = _Page()
    at = 0
    unclosed: set[str] = set()
    while True:
        tag = html.find("<", at)
        page.write(html[at : tag if tag >= 0 else len(html)])
        if tag < 0:
            break
        at = _markup(html, tag, page, unclosed)
    page.end_heading()
    title = page.title or next((heading.title for heading in page.headings if heading.level == 1), None)
    return Document(
        text="".join(page.parts), kind="html", title=title, headings=tuple(page.headings), encoding=encoding
    )


def _markup(html: str, at: int, page: _Page, unclosed: set[str]) -> int:
    """Take what begins with a "<", and return where it ends."""
    name = NAME.match(html, at)
    if name is None:
        if html.startswith("<!--", at):
            return _behind(html, "-->", at + 2)
        if html.startswith(("<!", "<?", "</"), at):
            return _behind(html, ">", at)
        page.write("<")
        return at + 1
    end = TAG_END.match(html, name.end())
    if end is None:
        return len(html)
    tag, is_end = name[2].lower(), bool(name[1])
    if not is_end and (tag in RAW or tag in HIDDEN or tag == "title"):
        return _hidden(html, tag, end.end(), page, unclosed)
    page.tag(tag, is_end)
    return end.end()


def _hidden(html: str, tag: str, at: int, page: _Page, unclosed: set[str]) -> int:
    """Pass over an element whose content is not shown, and return where it ends."""
    close = None if tag in unclosed else re.compile(rf"</{tag}(?=[\s/>])", re.IGNORECASE).search(html, at)
    if close is None:
        unclosed.add(tag)
        return len(html) if tag in RAW else at
    if tag == "title" and page.title is None:
        page.title = " ".join(_unescaped(html[at : close.start()][: 10 * MAX_TITLE]).split())[:MAX_TITLE] or None
    return _behind(html, ">", close.start())


def _behind(html: str, mark: str, at: int) -> int:
    found = html.find(mark, at)
    return found + len(mark) if found >= 0 else len(html)


def _unescaped(text: str) -> str:
    return unescape(LONG_NUMBER.sub("\ufffd", text)) if "&" in text else text


class _Page:
    """Text as it comes out: white space is held back until something follows it."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.headings: list[Heading] = []
        self.title: str | None = None
        self._length = 0
        self._break = 0
        self._bullet = ""
        self._held: list[str] = []
        self._pre = 0
        self._level = 0
        self._heading_part = -1
        self._heading_start = 0

    def write(self, markup: str) -> None:
        if not markup:
            return
        text = _unescaped(markup)
        if self._pre:
            kept = text.rstrip()
            self._put(kept.lstrip("\r\n") if self._break >= 2 else kept)
            self._held.append(text[len(kept) :])
            return
        words = text.split()
        if not words or text[0].isspace():
            self._gap(1)
        if words:
            self._put(" ".join(words))
            self._gap(int(text[-1].isspace()))

    def tag(self, tag: str, is_end: bool) -> None:
        if tag in HEADINGS:
            self.end_heading()
            self._level, self._heading_part = (0, -1) if is_end else (HEADINGS[tag], -1)
        if tag == "pre":
            self._pre = max(0, self._pre + (-1 if is_end else 1))
        if tag in CELLS:
            self._bullet = "" if is_end or not self._length or self._break >= 2 else "| "
            self._gap(1)
        elif tag in BLANK_LINE:
            self._gap(3)
        elif tag in NEW_LINE:
            self._gap(2)
        if tag == "li":
            self._bullet = "" if is_end else "- "
        elif tag == "tr":
            self._bullet = ""

    def end_heading(self) -> None:
        if self._level and self._heading_part >= 0 and len(self.headings) < MAX_HEADINGS:
            title = " ".join("".join(self.parts[self._heading_part :]).split())[:MAX_TITLE]
            self.headings.append(Heading(self._heading_start, self._length, self._level, title))
        self._level, self._heading_part = 0, -1

    def _gap(self, least: int) -> None:
        self._break = max(self._break, least)
        if least >= 2:
            self._held = []

    def _put(self, text: str) -> None:
        if not text:
            return
        held = "".join(self._held)
        gap = BREAKS[self._break]
        between = gap + held.lstrip("\r\n") if self._break >= 2 or not held else held
        before = (between if self._length else "") + self._bullet
        self._break, self._bullet, self._held = 0, "", []
        self._length += len(before)
        if self._level and self._heading_part < 0:
            self._heading_part, self._heading_start = len(self.parts) + 1, self._length
        self.parts += (before, text)
        self._length += len(text)
