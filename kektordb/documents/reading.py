"""How does a file become a document?"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from kektordb.documents import code, html_text
from kektordb.documents.document import Document
from kektordb.documents.docx_text import parse_docx
from kektordb.documents.encodings import decode
from kektordb.documents.kinds import kind_of, language_of
from kektordb.documents.markdown import parse_markdown
from kektordb.documents.pdf import parse_pdf
from kektordb.documents.rows import parse_csv, parse_jsonl
from kektordb.errors import DocumentError

__all__ = ["LIMIT_BYTES", "load", "parse"]

TEXTUAL: dict[str, Callable[[str, str | None], Document]] = {
    "csv": parse_csv,
    "html": html_text.parse_html,
    "jsonl": parse_jsonl,
    "markdown": parse_markdown,
}
# A book is 1 MB of text, and 50 MB as a PDF with pictures.
LIMIT_BYTES = 64 << 20


def load(path: str | os.PathLike[str], *, limit_bytes: int = LIMIT_BYTES) -> Document:
    """Read a file as what its suffix says.

    Parameters
    ----------
    path : str or path
    limit_bytes : int
        The most that the file may have, and the most that comes out of it when it is a compressed one.

    Raises
    ------
    OSError
        The file cannot be read: it is not there, or may not be read.
    DocumentError
        What is in it is not what the suffix says, or too much, or a package that reads it is not installed.
    """
    path = os.fspath(path)
    data = _content(path, limit_bytes)
    try:
        return parse(data, path, limit_bytes=limit_bytes)
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from error.__cause__


def parse(data: bytes, name: str, *, limit_bytes: int = LIMIT_BYTES) -> Document:
    """Return the document that the content of a file is; see `load`. Only the suffix of `name` matters."""
    if len(data) > limit_bytes:
        raise DocumentError(f"it has more than {limit_bytes:,} bytes")
    kind = kind_of(name)
    if kind == "pdf":
        return parse_pdf(data, limit_bytes)
    if kind == "docx":
        return parse_docx(data, limit_bytes)
    declared = {"html": html_text.declared_encoding, "code": code.declared_encoding}.get(kind)
    text, encoding = decode(data, declared(data) if declared else None)
    if kind == "code":
        return code.parse_code(text, language_of(name), encoding)
    if kind in TEXTUAL:
        return TEXTUAL[kind](text, encoding)
    return Document(text=text, kind=kind, encoding=encoding)


def _content(path: str, limit_bytes: int) -> bytes:
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DocumentError(f"{path}: it is no file")
        if status.st_size > limit_bytes:
            raise DocumentError(f"{path}: it has {status.st_size:,} bytes, more than {limit_bytes:,}")
        # The file may grow meanwhile.
        return file.read(limit_bytes + 1)
