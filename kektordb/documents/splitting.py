"""How does a document become chunks?"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise

import msgspec
import xxhash

from kektordb.documents.code import code_kinds, parse_code
from kektordb.documents.cutting import LINES, Plan, cuts, prose, separated
from kektordb.documents.document import Chunk, Chunking, Document, Row, as_chunking, heading_paths
from kektordb.documents.markdown import parse_markdown, structure
from kektordb.documents.tokens import Ruler, ruler
from kektordb.errors import ConfigError

__all__ = ["split"]

Piece = tuple[int, int, int]  # start, where what is new begins, end

BLANK_LINES = re.compile(r"(?:[^\S\r\n]*(?>\r\n?|\n))*")
WORD_START = re.compile(r"(?<=\s)\S|(?<=\s)\Z")
LINE_START = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")
# How often a piece of the caller's function is looked for in the whole text, when it is not near.
MAX_FULL_SEARCHES = 100
NEAR = 10_000


def split(document: Document | str, chunking: Chunking | Callable[[str], list[str]] | None = None) -> list[Chunk]:
    """Cut a document into chunks.

    The same document and chunking give the same chunks. Every character is in a chunk, but for white space between
    them. With the strategies ``recursive``, ``markdown`` and ``code`` an edit changes the chunks around it, and those
    far away have the `content_hash` that they had.

    Parameters
    ----------
    document : Document or str
        A string is a document of kind ``markdown`` for that strategy, else ``text``.
    chunking : Chunking, mapping, str, callable or None
        As `as_chunking` takes it, or a function from a text to its pieces. A function gets each row of a table.

    Raises
    ------
    ConfigError
        The chunking is impossible, or the function returned something else than a list of str. What the function
        raises comes through.
    """
    asked = None if callable(chunking) else as_chunking(chunking)
    if isinstance(document, str):
        document = _understood(document, asked.strategy if asked else "")
    if callable(chunking):
        return _number(document, _called(document, chunking))
    assert asked is not None
    return _number(document, _pieces(document, asked))


def _understood(text: str, strategy: str) -> Document:
    """Return a text as what a strategy is for."""
    if strategy == "markdown":
        return parse_markdown(text)
    return parse_code(text) if strategy == "code" else Document(text=text)


def _number(document: Document, pieces: Iterator[tuple[Piece, Row | None, str | None]]) -> list[Chunk]:
    starts = [heading.start for heading in document.headings]
    paths = heading_paths(document.headings)
    chunks: list[Chunk] = []
    for (start, new, end), row, made in pieces:
        text = document.text[start:end] if made is None else made
        above = _under(document, bisect_right(starts, new), end)
        heading = paths[above - 1] if above else None
        page = document.page_at(new)
        fields = row.fields if row else {}
        content_hash = _content_hash(text, page, heading, fields)
        number = row.number if row else None
        chunks.append(Chunk(len(chunks), text, start, end, page, heading, content_hash, number, fields))
    return chunks


def _under(document: Document, above: int, end: int) -> int:
    """Go on over headings that follow each other with nothing between."""
    headings = document.headings
    while 0 < above < len(headings) and headings[above].start < end:
        if document.text[headings[above - 1].end : headings[above].start].strip():
            break
        above += 1
    return above


def _content_hash(text: str, page: int | None, heading: str | None, fields: dict[str, object]) -> str:
    beside = msgspec.json.encode([page, heading, fields], order="sorted")
    # The length comes first, so that no text can pass for another one with something beside it.
    data = text.encode("utf-8", "surrogatepass")
    return xxhash.xxh3_128_hexdigest(b"%d:%b%b" % (len(data), data, beside))


def _pieces(document: Document, chunking: Chunking) -> Iterator[tuple[Piece, Row | None, str | None]]:
    plan = _plan(document, chunking)
    measure = ruler(document.text, chunking.unit)
    by_headings = chunking.strategy == "markdown" and document.kind != "code"
    for start, end, row in _sections(document) if by_headings else _units(document):
        if plan is None:
            found = _windows(document.text, start, end, measure, chunking)
        else:
            found = _overlapped(document, start, end, plan, measure, chunking)
        for piece in found:
            yield piece, row, None


def _units(document: Document) -> Iterator[tuple[int, int, Row | None]]:
    """Name the parts that no chunk goes beyond."""
    if document.rows:
        yield from ((row.start, row.end, row) for row in document.rows)
        return
    yield document.body, len(document.text), None


def _sections(document: Document) -> Iterator[tuple[int, int, Row | None]]:
    """Name the parts under one heading each. A heading with nothing under it goes with the next one."""
    headings = document.headings
    for start, end, row in _units(document):
        for number, heading in enumerate(headings):
            behind = headings[number - 1].end if number else start
            if start < heading.start < end and document.text[max(start, behind) : heading.start].strip():
                yield start, heading.start, row
                start = heading.start
        yield start, end, row


def _plan(document: Document, chunking: Chunking) -> Plan | None:
    """Return where to cut; None for windows."""
    if chunking.strategy == "fixed_size":
        return None
    if chunking.strategy == "lines":
        return LINES
    if chunking.separators is not None:
        return separated(chunking.separators)
    if _is_code(document, chunking):
        return Plan(code_kinds(document))
    fences = structure(document.text, document.body).fences if document.kind == "markdown" else []
    return prose([heading.start for heading in document.headings], fences)


def _is_code(document: Document, chunking: Chunking) -> bool:
    return chunking.strategy == "code" or (document.kind == "code" and chunking.strategy in ("recursive", "markdown"))


def _windows(text: str, start: int, end: int, measure: Ruler, chunking: Chunking) -> Iterator[Piece]:
    new = unit = start
    while new < end:
        last = min(measure.after(start, chunking.size), end)
        last = max(last, new + 1)
        if not text[new:last].isspace():
            yield start, new, last
        new, start = last, max(unit, measure.before(last, chunking.overlap))


def _overlapped(
    document: Document, start: int, end: int, plan: Plan, measure: Ruler, chunking: Chunking
) -> Iterator[Piece]:
    """Cut, let each piece but the first begin with the end of what is before it, and take white space off."""
    text = document.text
    by_lines = chunking.strategy == "lines" or _is_code(document, chunking)
    places = cuts(text, start, end, plan, measure, (chunking.size, chunking.size - chunking.overlap))
    for new, last in pairwise(places):
        first = new
        if chunking.overlap and new > start:
            first = _overlap_start(text, max(start, measure.before(new, chunking.overlap)), new, by_lines)
        piece = _trimmed(text, first, new, last, by_lines)
        if piece is not None:
            yield piece


def _overlap_start(text: str, first: int, new: int, by_lines: bool) -> int:
    """Return where a whole word or line begins from `first` on; there may be none before `new`."""
    if first == 0:
        return first
    match = (LINE_START if by_lines else WORD_START).search(text, first, new)
    if match:
        return match.start()
    return new if by_lines else first


def _trimmed(text: str, first: int, new: int, last: int, by_lines: bool) -> Piece | None:
    """Take white space off both ends; of lines only empty ones, for indentation has a meaning."""
    kept = text[new:last].rstrip()
    if not kept:
        return None
    last = new + len(kept)
    if by_lines:
        blank = BLANK_LINES.match(text, first, last)
        first = blank.end() if blank else first
    else:
        first = last - len(text[first:last].lstrip())
    if new < first:
        new = first
    return first, new, last


def _called(document: Document, function: Callable[[str], list[str]]) -> Iterator[tuple[Piece, Row | None, str | None]]:
    text = document.text
    searches = MAX_FULL_SEARCHES
    for start, end, row in _units(document):
        pieces = function(text[start:end])
        if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
            raise ConfigError(f"expected a list of str from the chunking function, got {pieces!r:.80}")
        search_from = done = start
        for piece in pieces:
            if not piece or piece.isspace():
                continue
            at = text.find(piece, search_from, min(end, done + len(piece) + NEAR))
            if at < 0 and searches:
                at = text.find(piece, search_from, end)
                searches -= at < 0
            if at < 0:
                yield (done, done, done), row, piece
                continue
            new = min(max(at, done), at + len(piece))
            search_from, done = at + 1, max(done, at + len(piece))
            yield (at, new, at + len(piece)), row, None
