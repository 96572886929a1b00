"""How do the rows of a table become text, each for itself?

A row is written as ``column: value``, a line for each column that has a value. So an embedder sees what a number means.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from kektordb.documents.document import MAX_TITLE, Document, Row
from kektordb.errors import DocumentError

__all__ = ["parse_csv", "parse_jsonl"]

# A million rows are 1 GB of Python objects.
MAX_ROWS = 1_000_000
MAX_COLUMNS = 1_000
MAX_FIELDS = 100
# The limit of the csv module is one for the whole process, and others may have changed it.
MAX_CELL = 131_072
# A longer text is in the chunks, and not in the fields of each of them again.
MAX_VALUE = 1_000
INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,15})")
DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,15})\.\d{1,15}")
BLANK = re.compile(r"[\t\n\r ]*")


def parse_csv(text: str, encoding: str | None = None) -> Document:
    """Return a document of the rows of a table with commas, semicolons, tabs or bars.

    The first row names the columns when its cells are all different, not empty, and no numbers. A column whose values
    are all numbers has numbers as fields.

    Raises
    ------
    DocumentError
        Too many rows or columns, or a cell of more than 131,072 characters.
    """
    rows = _cells(text)
    header: list[str] = []
    if rows and _is_header(rows[0][1]):
        header = [cell.strip()[:MAX_TITLE] for cell in rows.pop(0)[1]]
    width = max((len(cells) for _, cells in rows), default=0)
    names = header + [f"column {number + 1}" for number in range(len(header), width)]
    types = [_type_of(cells[column] for _, cells in rows if column < len(cells)) for column in range(width)]
    return _document("csv", _csv_rows(rows, names, types), encoding)


def _csv_rows(
    rows: list[tuple[int, list[str]]], names: list[str], types: list[type]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for _, cells in rows:
        filled = [(name, kind, cell.strip()) for name, kind, cell in zip(names, types, cells, strict=False)]
        filled = [one for one in filled if one[2]]
        text = "\n".join(f"{name}: {value}" for name, _, value in filled)
        yield text, {name: kind(value) for name, kind, value in filled[:MAX_FIELDS] if len(value) <= MAX_VALUE}


def _cells(text: str) -> list[tuple[int, list[str]]]:
    """Return the line and cells of each row that is not empty."""
    delimiter = _delimiter(text)
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
        found = []
        try:
            for cells in reader:
                if max(map(len, cells), default=0) > MAX_CELL:
                    raise csv.Error(f"a cell of more than {MAX_CELL:,} characters")
                if any(map(str.strip, cells)):
                    found.append((reader.line_num, cells))
                if len(found) > MAX_ROWS or len(cells) > MAX_COLUMNS:
                    break
        except csv.Error as error:
            # Most often a quote that is never closed: then quotes are no quotes there.
            if quoting == csv.QUOTE_NONE:
                raise DocumentError(f"line {reader.line_num}: {error}") from error
            continue
        break
    if len(found) > MAX_ROWS:
        raise DocumentError(f"it has more than {MAX_ROWS:,} rows")
    if any(len(cells) > MAX_COLUMNS for _, cells in found):
        raise DocumentError(f"line {found[-1][0]} has more than {MAX_COLUMNS:,} columns")
    return found


def _delimiter(text: str) -> str:
    """Return the one that is in the same number in most of the first lines."""
    lines = [line for line in text[:20_000].splitlines()[:50] if line.strip()]

    def agreement(mark: str) -> tuple[int, int]:
        counts = [line.count(mark) for line in lines]
        usual = max(set(counts) - {0}, key=counts.count, default=0)
        return counts.count(usual) if usual else 0, usual

    return max(",;\t|", key=agreement)


def _is_header(cells: list[str]) -> bool:
    names = [cell.strip() for cell in cells]
    return len(set(names)) == len(names) and all(
        name and not INTEGER.fullmatch(name) and not DECIMAL.fullmatch(name) for name in names
    )


def _type_of(cells: Iterable[str]) -> type:
    found: type = int
    for cell in cells:
        value = cell.strip()
        if value and not INTEGER.fullmatch(value):
            if not DECIMAL.fullmatch(value):
                return str
            found = float
    return found


def parse_jsonl(text: str, encoding: str | None = None) -> Document:
    """Return a document of the values that stand in each line.

    Raises
    ------
    DocumentError
        A line is no JSON, or there are too many.
    """
    return _document("jsonl", _jsonl_rows(text), encoding)


def _jsonl_rows(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if BLANK.fullmatch(line):
            continue
        try:
            value = msgspec.json.decode(line)
            yield _json_text(value), _json_fields(value)
        except (msgspec.DecodeError, RecursionError) as error:
            raise DocumentError(f"line {number}: {error}") from error


def _json_text(value: object) -> str:
    if not isinstance(value, dict):
        return _shown(value)
    filled = ((name, one) for name, one in value.items() if one is not None and one not in ("", [], {}))
    return "\n".join(f"{name}: {_shown(one)}" for name, one in filled)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _json_fields(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    names = list(value)[:MAX_FIELDS]
    return {name: value[name] for name in names if name and len(name) <= MAX_TITLE and _is_field(value[name])}


def _is_field(value: object) -> bool:
    if isinstance(value, list):
        return 0 < len(value) <= MAX_VALUE and all(isinstance(one, str) and _is_field(one) for one in value)
    if isinstance(value, str):
        return len(value) <= MAX_VALUE
    return isinstance(value, bool) or (isinstance(value, (int, float)) and abs(value) < 1 << 53)


def _document(kind: str, rows: Iterable[tuple[str, dict[str, Any]]], encoding: str | None) -> Document:
    parts: list[str] = []
    found: list[Row] = []
    at = 0
    for number, (text, fields) in enumerate(rows, 1):
        if number > MAX_ROWS:
            raise DocumentError(f"it has more than {MAX_ROWS:,} rows")
        found.append(Row(at, at + len(text), number, fields))
        parts.append(text)
        at += len(text) + 2
    return Document(text="\n\n".join(parts), kind=kind, rows=tuple(found), encoding=encoding)
