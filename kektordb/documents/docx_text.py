"""What is the text of a DOCX file, with its headings?"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from kektordb.documents.document import MAX_TITLE, Document, Heading
from kektordb.errors import DocumentError

__all__ = ["parse_docx"]

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
SHOWN = {WORD + "tab": "\t", WORD + "br": "\n", WORD + "cr": "\n", WORD + "noBreakHyphen": "-"}
HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)
MAX_ENTRIES = 10_000
# XML grows to about twenty times its size when it is parsed.
XML_SHARE = 4


def parse_docx(data: bytes, limit_bytes: int) -> Document:
    """Return the text of a DOCX file: paragraphs, and the rows of tables with bars between their cells.

    Headers, footers, comments and deleted text are left out.

    Raises
    ------
    DocumentError
        It is no DOCX, unpacks to too much, or python-docx is not installed.
    """
    try:
        import docx
    except ImportError:
        raise DocumentError("DOCX needs python-docx: pip install kektordb[documents]") from None
    try:
        _check_sizes(data, limit_bytes)
        return _read(docx.Document(io.BytesIO(data)))
    except (DocumentError, MemoryError):
        raise
    except Exception as error:  # on broken files python-docx raises whatever its reading runs into
        raise DocumentError(f"it cannot be read as DOCX: {type(error).__name__}: {error!s:.200}") from error


def _check_sizes(data: bytes, limit_bytes: int) -> None:
    """Refuse what unpacks to too much. What the directory says is what zipfile reads at most, be it true or not."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise DocumentError(f"it has {len(entries):,} parts, more than {MAX_ENTRIES:,}")
    total = sum(entry.file_size for entry in entries)
    xml = sum(entry.file_size for entry in entries if entry.filename.lower().endswith((".xml", ".rels")))
    if total > limit_bytes or xml > limit_bytes // XML_SHARE:
        raise DocumentError(f"it unpacks to {total:,} bytes, {xml:,} of them XML, more than {limit_bytes:,}")


def _read(file: Any) -> Document:
    styles = {style.style_id: style.name or "" for style in file.styles}
    parts: list[str] = []
    headings: list[Heading] = []
    title = None
    at = 0
    for text, style in _blocks(file.element.body):
        name = styles.get(style, "")
        level = HEADING.fullmatch(name)
        shown = " ".join(text.split())[:MAX_TITLE]
        if level:
            headings.append(Heading(at, at + len(text), int(level[1]), shown))
        elif name == "Title" and title is None:
            title = shown
        parts.append(text)
        at += len(text) + 2
    title = title or next((one.title for one in headings if one.level == 1), None)
    return Document(text="\n\n".join(parts), kind="docx", title=title, headings=tuple(headings))


def _blocks(body: Any) -> Iterator[tuple[str, str]]:
    """Give the text and style of each paragraph and table that has one."""
    waiting = list(body)[::-1]
    while waiting:
        element = waiting.pop()
        if element.tag == WORD + "p":
            style = element.find(f"{WORD}pPr/{WORD}pStyle")
            block = _text(element), "" if style is None else style.get(WORD + "val", "")
        elif element.tag == WORD + "tbl":
            block = _table(element), ""
        else:
            # Content controls and the like have paragraphs inside.
            waiting += [child for child in list(element)[::-1] if isinstance(child.tag, str)]
            continue
        if block[0].strip():
            yield block[0].strip(), block[1]


def _table(table: Any) -> str:
    rows = []
    for row in table.iter(WORD + "tr"):
        cells = (" ".join(_text(cell).split()) for cell in row.iterchildren(WORD + "tc"))
        rows.append(" | ".join(cells))
    return "\n".join(rows)


def _text(element: Any) -> str:
    """Return the text in an element; what is there for old programs would be there twice."""
    parts: list[str] = []
    waiting = [element]
    while waiting:
        one = waiting.pop()
        if one.tag == WORD + "t":
            parts.append(one.text or "")
        elif one.tag in SHOWN:
            parts.append(SHOWN[one.tag])
        elif one.tag != FALLBACK:
            if one.tag == WORD + "p" and parts:
                parts.append("\n")
            waiting += [child for child in list(one)[::-1] if isinstance(child.tag, str)]
    return "".join(parts)
