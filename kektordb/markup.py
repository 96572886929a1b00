"""How do things look in a notebook? As small tables of HTML: what users wrote is escaped, what is long is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kektordb.errors import KektorError

if TYPE_CHECKING:
    from kektordb.query.plan import Explanation
    from kektordb.results import Hit, HitExplanation

__all__ = ["Stats", "explanation_html", "index_html", "indexes_html", "plan_html", "results_html"]

# Rows of a table, characters of a cell, parts of a list or object, and levels of these.
MAX_ROWS = 20
MAX_LINES = 100
MAX_TEXT = 200
MAX_PARTS = 10
MAX_DEPTH = 3

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_MARKS = (("&lt;b&gt;", "<b>"), ("&lt;/b&gt;", "</b>"))
_RIGHT = ' style="text-align: right"'
_LEFT = ' style="text-align: left"'


class Stats(dict[str, Any]):
    """Counts and bytes by name; in a notebook a table."""

    def _repr_html_(self) -> str:
        lines = list(_lines(self, 0))
        return _table(("", ""), lines[:MAX_LINES], len(lines) - MAX_LINES)


class _Marked(str):
    """Text that is HTML already."""


# ----------------------------------------------------------------------------------------------------------- for users


def results_html(hits: Sequence[Hit]) -> str:
    """Return the first hits of a search as a table."""
    shown = [hits[i] for i in range(min(len(hits), MAX_ROWS))]
    columns: dict[str, Callable[[Hit], object]] = {"id": lambda hit: hit.id, "score": lambda hit: hit.score}
    for name in ("distance", "text_score"):
        if any(getattr(hit, name) is not None for hit in shown):
            columns[name] = lambda hit, name=name: getattr(hit, name)  # type: ignore[misc]
    if any(hit.snippet is not None for hit in shown):
        columns["snippet"] = lambda hit: _marked(hit.snippet or "")
    if any(hit.metadata is not None for hit in shown):
        columns["metadata"] = lambda hit: hit.metadata
    rows = [[value(hit) for value in columns.values()] for hit in shown]
    return _table(list(columns), rows, len(hits) - len(shown))


def plan_html(plan: Explanation) -> str:
    """Return the steps of a plan as a table, each further to the right than the one it is a part of."""
    rows: list[list[object]] = []
    n_steps = 0

    def walk(step: Explanation, depth: int) -> None:
        nonlocal n_steps
        n_steps += 1
        if len(rows) < MAX_LINES:
            rows.append([_indented(step.describe(), depth), step.estimated, step.actual])
        for child in step.children:
            walk(child, depth + 1)

    walk(plan, 0)
    return _table(("step", "estimated", "found"), rows, n_steps - len(rows))


def explanation_html(explanation: HitExplanation) -> str:
    """Return the reasons for a score as they are printed."""
    return f"<pre>{_escaped(_cut(str(explanation), MAX_LINES * MAX_TEXT))}</pre>"


def index_html(label: str, stats: Callable[[], Mapping[str, Any]]) -> str:
    """Return what an index is; only its label when it cannot be asked any more."""
    try:
        found = stats()
    except KektorError:
        return f"<code>{_escaped(label)}</code>"
    names = ("n_items", "n_tombstones", "dim", "metric", "stored_precision", "text_language")
    lines = {name: found[name] for name in names if found.get(name) not in (None, "")}
    lines["memory_bytes"] = found.get("memory_bytes", {}).get("total")
    return f"<code>{_escaped(label)}</code>{_table(('', ''), list(map(list, lines.items())), 0)}"


def indexes_html(label: str, stats: Callable[[], Mapping[str, Any]]) -> str:
    """Return the indexes of a database; only its label when it cannot be asked any more."""
    try:
        indexes = stats()["indexes"]
    except KektorError:
        return f"<code>{_escaped(label)}</code>"
    names = ("n_items", "dim", "metric", "stored_precision")
    rows = [[name, *(of.get(key) for key in names), of["memory_bytes"]["total"]] for name, of in indexes.items()]
    shown = _table(("index", *names, "memory_bytes"), rows[:MAX_ROWS], len(rows) - MAX_ROWS)
    return f"<code>{_escaped(label)}</code>{shown}"


# --------------------------------------------------------------------------------------------------------------- tables


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], n_more: int) -> str:
    parts = ["<table>"]
    if any(head):
        parts.append(f"<thead><tr>{''.join(f'<th>{_escaped(name)}</th>' for name in head)}</tr></thead>")
    parts.append("<tbody>")
    for row in rows:
        parts.append(f"<tr>{''.join(map(_cell, row))}</tr>")
    if n_more > 0:
        parts.append(f'<tr><td colspan="{len(head)}">… {n_more:,} more</td></tr>')
    return "".join([*parts, "</tbody></table>"])


def _cell(value: object) -> str:
    if isinstance(value, _Marked):
        return f"<td{_LEFT}>{value}</td>"
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = "" if value is None else value if isinstance(value, str) else _short(value)
        return f"<td{_LEFT}>{_escaped(_cut(text))}</td>"
    return f"<td{_RIGHT}>{value:,}</td>" if isinstance(value, int) else f"<td{_RIGHT}>{value:.6g}</td>"


def _lines(values: Mapping[str, Any], depth: int) -> Iterator[list[object]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value and depth < MAX_DEPTH:
            yield [_indented(str(name), depth), None]
            yield from _lines(value, depth + 1)
        else:
            yield [_indented(str(name), depth), value]


def _indented(text: str, depth: int) -> _Marked:
    return _Marked("&emsp;" * depth + _escaped(_cut(text)))


def _marked(snippet: str) -> _Marked:
    """Return a snippet with its words that match in bold, and nothing else that it may hold."""
    text = _escaped(_cut(snippet, 5 * MAX_TEXT))
    for escaped, mark in _MARKS:
        text = text.replace(escaped, mark)
    return _Marked(text)


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _cut(text: str, limit: int = MAX_TEXT) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _short(value: Any, depth: int = 0) -> str:
    """Return a value of metadata in the way of JSON; what is not shown is not looked at."""
    if isinstance(value, str):
        return '"' + _cut(value) + '"'
    if isinstance(value, Mapping | list | tuple):
        left, right = "{}" if isinstance(value, Mapping) else "[]"
        if depth == MAX_DEPTH:
            return f"{left}…{right}"
        first = [item for item, _ in zip(value, range(MAX_PARTS), strict=False)]
        if isinstance(value, Mapping):
            parts = [f"{_cut(str(key))}: {_short(value[key], depth + 1)}" for key in first]
        else:
            parts = [_short(one, depth + 1) for one in first]
        return left + ", ".join([*parts, *(["…"] if len(value) > MAX_PARTS else [])]) + right
    named = {None: "null", True: "true", False: "false"}
    return named[value] if value is None or isinstance(value, bool) else str(value)
