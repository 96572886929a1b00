"""What is a document, what is a chunk of one, and how may it be asked to be cut?"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kektordb.errors import ConfigError

__all__ = ["STRATEGIES", "Chunk", "Chunking", "Document", "Heading", "Row", "as_chunking", "heading_paths"]

STRATEGIES = ("recursive", "fixed_size", "lines", "markdown", "code")
UNITS = ("characters", "tokens")
# The largest chunk: far above what any embedder reads, and small enough that the search for one cut ends soon.
MAX_SIZE = 1_000_000
MAX_SEPARATORS = 100
# A line of prose taken for a heading shall not be stored a thousand times.
MAX_TITLE = 200
# What has more is no prose and no code; the rest of its headings are not seen. Each is 200 bytes of memory.
MAX_HEADINGS = 100_000
# Of a deeper nest the innermost ones are named.
MAX_PATH = 8


class Heading(msgspec.Struct, frozen=True):
    """A heading, or the beginning of a definition in source code.

    Attributes
    ----------
    start, end : int
        Where its line begins and ends, in code points. A definition begins with the comments and decorators above it.
    level : int
        What is under it has a larger one: 1 to 6 in prose, the columns of indentation in source code.
    title : str
    """

    start: int
    end: int
    level: int
    title: str


class Row(msgspec.Struct, frozen=True):
    """A row of a table: no chunk goes beyond it.

    Attributes
    ----------
    start, end : int
        Where it is in the text of the document.
    number : int
        From 1; the header and empty lines are not counted.
    fields : dict
        Its columns that are text, numbers, booleans, or lists of these.
    """

    start: int
    end: int
    number: int
    fields: dict[str, Any]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a file, and what is known about its parts. All offsets are code points in `text`.

    Attributes
    ----------
    text : str
        Of a text file what the file says, without byte order mark; line ends as they are there.
    kind : str
        ``text``, ``markdown``, ``html``, ``pdf``, ``docx``, ``code``, ``csv`` or ``jsonl``.
    title : str or None
    metadata : dict
        What the file says about itself, such as the front matter of Markdown; JSON types.
    body : int
        Where the part begins that is cut into chunks: front matter is before it.
    pages : tuple of int
        Where each page begins; empty when there are none.
    headings : tuple of Heading
        By offset.
    rows : tuple of Row
        By offset; empty when the document is no table.
    language : str or None
        Of source code.
    encoding : str or None
        In which the file was written, when it is a text file.
    """

    text: str
    kind: str = "text"
    title: str | None = None
    metadata: dict[str, Any] = {}
    body: int = 0
    pages: tuple[int, ...] = ()
    headings: tuple[Heading, ...] = ()
    rows: tuple[Row, ...] = ()
    language: str | None = None
    encoding: str | None = None

    def page_at(self, offset: int) -> int | None:
        """Return the page at an offset, from 1; None when there are no pages."""
        return max(1, bisect_right(self.pages, offset)) if self.pages else None


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a document.

    Attributes
    ----------
    number : int
        From 0, in the order of the document.
    text : str
    start, end : int
        ``document.text[start:end] == text``, in code points. Where a function of the caller's made a text that is not
        in the document, both are where the piece before it ended.
    page : int or None
        The page, from 1, on which that part begins that is not in the chunk before.
    heading : str or None
        The headings above that place, ``"A > B"``.
    content_hash : str
        xxh3_128 in hex, of the text, page, heading and fields. Numbers and offsets, which every edit before a chunk
        changes, have no part in it. Two chunks of one document may have the same.
    row : int or None
        The number of the row of a table, from 1.
    fields : dict
        The fields of that row.
    """

    number: int
    text: str
    start: int
    end: int
    page: int | None
    heading: str | None
    content_hash: str
    row: int | None = None
    fields: dict[str, Any] = {}


class Chunking(msgspec.Struct, frozen=True):
    """How documents are cut. It is checked where it is used.

    Attributes
    ----------
    strategy : str
        ``recursive``: at headings, else between paragraphs, else sentences, else lines, else words.
        ``fixed_size``: windows of the same size. ``lines``: whole lines, as many as fit. ``markdown``: a chunk has one
        heading, and is cut like ``recursive`` when it is too long. ``code``: between definitions and blocks.
    size : int
        The most that a chunk has, overlap included.
    overlap : int
        The most that a chunk repeats of what is before it, at most half of `size`. It begins with a whole word
        (``lines``, ``code``: a whole line). Chunks of different rows, or of different sections in ``markdown``,
        repeat nothing.
    unit : str
        ``characters`` (code points), or ``tokens``: about as many as those of common models, see `documents.tokens`.
    separators : tuple of str or None
        For ``recursive``: where to cut instead, the best first. A separator stays with the chunk before it.
    """

    strategy: str = "recursive"
    size: int = 500
    overlap: int = 50
    unit: str = "characters"
    separators: tuple[str, ...] | None = None


def as_chunking(given: Chunking | Mapping[str, object] | str | None) -> Chunking:
    """Return a chunking that can be followed.

    Parameters
    ----------
    given : Chunking, mapping, str or None
        A mapping has the names of `Chunking`; a string is a strategy; None is the default.

    Raises
    ------
    ConfigError
    """
    if isinstance(given, Chunking):
        return _checked(given)
    if given is None:
        return Chunking()
    if isinstance(given, str):
        return _checked(Chunking(strategy=given))
    if not isinstance(given, Mapping):
        raise ConfigError(f"expected a Chunking, got {given!r:.80}")
    unknown = set(map(str, given)) - set(Chunking.__struct_fields__)
    if unknown:
        known = ", ".join(Chunking.__struct_fields__)
        raise ConfigError(f"chunking has no option {min(unknown)!r:.80}, only {known}")
    options: dict[str, Any] = {str(name): value for name, value in given.items()}
    if isinstance(options.get("separators"), list):
        options["separators"] = tuple(options["separators"])
    return _checked(Chunking(**options))


def _checked(chunking: Chunking) -> Chunking:
    if chunking.strategy not in STRATEGIES:
        raise ConfigError(f"expected a strategy of {', '.join(STRATEGIES)}, got {chunking.strategy!r:.80}")
    if chunking.unit not in UNITS:
        raise ConfigError(f"expected a unit of {', '.join(UNITS)}, got {chunking.unit!r:.80}")
    size, overlap = chunking.size, chunking.overlap
    if type(size) is not int or not 1 <= size <= MAX_SIZE:
        raise ConfigError(f"expected a chunk size from 1 to {MAX_SIZE:,}, got {size!r:.80}")
    # With more, a text of n characters would become chunks of many times n.
    if type(overlap) is not int or not 0 <= overlap <= size // 2:
        raise ConfigError(f"expected an overlap from 0 to half of the size ({size}), got {overlap!r:.80}")
    _check_separators(chunking)
    return chunking


def _check_separators(chunking: Chunking) -> None:
    separators = chunking.separators
    if separators is None:
        return
    if not isinstance(separators, tuple) or not all(isinstance(one, str) for one in separators):
        raise ConfigError(f"expected separators as a tuple of str, got {separators!r:.80}")
    if chunking.strategy != "recursive":
        raise ConfigError(f"separators are for the strategy recursive, not for {chunking.strategy}")
    if not 1 <= len(separators) <= MAX_SEPARATORS:
        raise ConfigError(f"expected 1 to {MAX_SEPARATORS} separators, got {len(separators)}")


def heading_paths(headings: Sequence[Heading]) -> list[str]:
    """Return for each heading itself below those that it belongs to, as ``"A > B"``; at most eight."""
    above: list[Heading] = []
    paths = []
    for heading in headings:
        while above and above[-1].level >= heading.level:
            above.pop()
        above.append(heading)
        paths.append(" > ".join(one.title for one in above[-MAX_PATH:]))
    return paths
