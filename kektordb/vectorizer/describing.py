"""What does an item of a chunk say of itself? Its metadata: where it comes from, its text, and the template's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kektordb.documents import Chunk, Document
from kektordb.errors import ConfigError
from kektordb.vectorizer.ledger import chunk_hash
from kektordb.vectorizer.sources import Entry

__all__ = ["NAMES", "Description", "check_template"]

# What a template may ask for.
NAMES = (
    *("file_path", "file_name", "folder", "mod_time", "file_size", "title"),
    *("chunk_num", "chunk_count", "start", "end", "page", "heading", "content_hash", "vectorizer", "index"),
)
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Description:
    """Makes the metadata of chunks.

    Every chunk has ``source_file``, ``chunk_number``, ``content_chunk`` (its text), ``chunk_start`` and ``chunk_end``
    (in code points of the document), ``content_hash``; where they are known ``page``, ``heading``, ``title``, ``row``;
    and what the document says of itself, such as front matter, and the fields of the row.

    Parameters
    ----------
    template : dict
        More metadata: texts with ``{{names}}`` in them, other values as they are.
    fixed : dict
        The names that are the same for all documents.
    """

    def __init__(self, template: Mapping[str, Any], fixed: Mapping[str, str]) -> None:
        self._template = dict(template)
        self._fixed = dict(fixed)

    def __call__(self, entry: Entry, document: Document, chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
        """Return the metadata of each chunk."""
        title = document.title
        given = entry.fields.get("metadata") or {}
        path = str(entry.fields.get("file_path", entry.key))
        folder, _, file_name = path.rpartition("/")
        of_file = {"file_path": path, "file_name": file_name, "folder": folder, "title": title or ""}
        names = {**self._fixed, **of_file, **{key: entry.fields[key] for key in entry.fields if key != "metadata"}}
        described = []
        for number, chunk in enumerate(chunks):
            digest = chunk_hash(chunk.text).hex()
            base: dict[str, Any] = {
                "source_file": path,
                "chunk_number": number,
                "content_chunk": chunk.text,
                "chunk_start": chunk.start,
                "chunk_end": chunk.end,
                "content_hash": digest,
            }
            known = {"page": chunk.page, "heading": chunk.heading, "title": title, "row": chunk.row}
            base |= {key: value for key, value in known.items() if value is not None}
            of_chunk = {
                **names,
                **{key: "" if value is None else value for key, value in known.items()},
                "chunk_num": number,
                "chunk_count": len(chunks),
                "content_hash": digest,
                "start": chunk.start,
                "end": chunk.end,
            }
            described.append({**document.metadata, **chunk.fields, **given, **base, **self._filled(of_chunk)})
        return described

    def _filled(self, names: Mapping[str, object]) -> dict[str, Any]:
        def value(found: re.Match[str]) -> str:
            return str(names.get(found[1], ""))

        return {key: _PLACE.sub(value, text) if isinstance(text, str) else text for key, text in self._template.items()}


def check_template(template: object) -> dict[str, Any]:
    """Return a template that can be filled in. Raises ConfigError."""
    if not isinstance(template, Mapping):
        raise ConfigError(f"expected a metadata template as a mapping, got {template!r:.80}")
    for key, text in template.items():
        if not isinstance(key, str) or not key:
            raise ConfigError(f"expected names of metadata as texts, got {key!r:.80}")
        if not isinstance(text, str | int | float | bool):
            raise ConfigError(f"expected a text, number or boolean for {key!r:.80}, got {text!r:.80}")
        for name in _PLACE.findall(text) if isinstance(text, str) else ():
            if name not in NAMES:
                raise ConfigError(f"{key!r:.80} asks for {{{{{name:.80}}}}}, expected one of {', '.join(NAMES)}")
    return dict(template)
