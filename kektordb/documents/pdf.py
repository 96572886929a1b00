"""What is the text of a PDF, page by page?"""

from __future__ import annotations

import io
from typing import Any

from kektordb.documents.document import MAX_TITLE, Document
from kektordb.errors import DocumentError

__all__ = ["parse_pdf"]

MAX_PAGES = 50_000


def parse_pdf(data: bytes, limit_bytes: int) -> Document:
    """Return the text of a PDF, with where its pages begin. A page that is a picture has none.

    Raises
    ------
    DocumentError
        It is no PDF, is encrypted, has too many pages or too much text, or pypdf is not installed.
    """
    try:
        import pypdf
    except ImportError:
        raise DocumentError("PDF needs pypdf: pip install kektordb[documents]") from None
    try:
        return _read(pypdf.PdfReader(io.BytesIO(data), strict=False), limit_bytes)
    except (DocumentError, MemoryError):
        raise
    except Exception as error:  # on broken files pypdf raises whatever its reading runs into
        raise DocumentError(f"it cannot be read as PDF: {type(error).__name__}: {error!s:.200}") from error


def _read(reader: Any, limit_bytes: int) -> Document:
    if reader.is_encrypted and not reader.decrypt(""):
        raise DocumentError("it is encrypted")
    n_pages = len(reader.pages)
    if n_pages > MAX_PAGES:
        raise DocumentError(f"it has {n_pages:,} pages, more than {MAX_PAGES:,}")
    parts: list[str] = []
    pages: list[int] = []
    at = 0
    for page in reader.pages:
        text = _clean(page.extract_text()).strip()
        pages.append(at)
        parts.append(text)
        at += len(text) + 2
        if at > limit_bytes + 2 * len(parts):
            raise DocumentError(f"it has more than {limit_bytes:,} characters")
    metadata: dict[str, Any] = {"n_pages": n_pages}
    said = {name: _said(reader, "/" + name.title()) for name in ("author", "subject", "keywords")}
    metadata |= {name: value for name, value in said.items() if value}
    return Document(
        text="\n\n".join(parts), kind="pdf", title=_said(reader, "/Title"), metadata=metadata, pages=tuple(pages)
    )


def _said(reader: Any, name: str) -> str | None:
    value = (reader.metadata or {}).get(name)
    return _clean(value).strip()[:MAX_TITLE] or None if isinstance(value, str) else None


def _clean(text: str) -> str:
    """Replace halves of characters, which broken fonts come to, and zeros."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
