"""What a notebook shows: tables in which nothing that users wrote is markup, of a size that is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from live import live

import kektordb
from kektordb import markup

EVIL = '<script>alert("1")</script>\'&amp;<b onclick="x()">'
TAGS = {"table", "thead", "tbody", "tr", "th", "td", "b", "code", "pre"}
LARGEST = 60_000


class Reader(HTMLParser):
    """Reads what is shown; fails on tags and attributes that are not ours, and on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.bold: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attributes} <= {"style", "colspan"}
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        if self.open[-1:] == ["b"]:
            self.bold.append(data)


def shown(value: Any) -> Reader:
    html = value._repr_html_()
    assert len(html) < LARGEST
    return Reader(html)


@pytest.fixture(params=["embedded", "remote"])
def database(request: pytest.FixtureRequest) -> Iterator[Any]:
    with kektordb.open(":memory:") as embedded:
        index = embedded.create_index(EVIL, metric="euclidean", text_language="english")
        rows = np.random.default_rng(9).standard_normal((50, 3))
        metadata = [{"n": i, EVIL: [EVIL, {"deep": None}], "text": f"a fox {EVIL} {i}"} for i in range(50)]
        index.add_batch([f"{EVIL} {i}" for i in range(50)], rows, metadata)
        if request.param == "embedded":
            yield embedded
            return
        with live(embedded) as url, kektordb.connect(url) as remote:
            yield remote


def test_results(database: Any) -> None:
    hits = database[EVIL].search([1.0, 0.0, 0.0], k=30)
    found = shown(hits)
    assert found.rows[0] == ["id", "score", "distance", "metadata"]
    assert found.rows[1][:2] == [hits[0].id, f"{hits[0].score:.6g}"]
    assert EVIL in found.rows[1][3]
    assert "deep: null" in found.rows[1][3]
    assert len(found.rows) == 1 + markup.MAX_ROWS + 1
    assert found.rows[-1] == ["… 10 more"]


def test_words_that_match_are_bold_and_nothing_else(database: Any) -> None:
    hits = database[EVIL].search(text="foxes", k=2, snippet=True)
    found = shown(hits)
    assert found.rows[0] == ["id", "score", "text_score", "snippet", "metadata"]
    assert set(found.bold) == {"fox"}
    assert "alert" in found.rows[1][3]


def test_no_results(database: Any) -> None:
    assert shown(database[EVIL].search([1.0, 0.0, 0.0], filter="n > 1000")).rows == [["id", "score"]]


def test_index_and_database(database: Any) -> None:
    assert ["n_items", "50"] in shown(database[EVIL]).rows
    found = shown(database)
    assert found.rows[0][0] == "index"
    assert found.rows[1][:4] == [EVIL, "50", "3", "euclidean"]
    handle = database[EVIL]
    database.drop_index(EVIL)
    assert shown(handle).rows == []
    database.close()
    assert "closed" in shown(database).text


def test_stats(database: Any) -> None:
    found = shown(database[EVIL].stats())
    assert ["n_items", "50"] in found.rows
    assert any("total" in row[0] for row in found.rows)
    assert any(EVIL in row[0] for row in shown(database.stats()).rows)


def test_plan_and_reasons() -> None:
    with kektordb.open(":memory:") as database:
        index = database.create_index("a", text_language="english")
        index.add("x", [1.0, 0.0], {"n": 1, "text": "fox <i>"})
        plan = index.explain("n > 0 AND (n = 1 OR text LIKE '<script>%')")
        found = shown(plan)
        assert found.rows[0] == ["step", "estimated", "found"]
        assert [row[0].strip("\u2003") for row in found.rows[1:]] == [step.describe() for step in steps(plan)]
        assert "<script>" in found.text
        wide = index.explain(" OR ".join(f"n = {i}" for i in range(0, 600, 2)))
        assert len(shown(wide).rows) <= markup.MAX_LINES + 2
        hit = index.search([1.0, 0.0], text="fox", explain=True)[0]
        assert str(hit.explanation) == shown(hit.explanation).text


def steps(plan: Any) -> Iterator[Any]:
    yield plan
    for child in plan.children:
        yield from steps(child)


def test_what_is_large_is_cut() -> None:
    deep: Any = {}
    for _ in range(30):
        deep = {"a" * 500: [deep] * 3}
    with kektordb.open(":memory:") as database:
        for i in range(30):
            database.create_index(f"{i}" + "i" * 250, dim=2)
        index = database["0" + "i" * 250]
        huge = {"text": "<" * 10**6, "list": list(range(10**5)), "deep": {"a" * 500: ["<" * 1000] * 50}}
        index.add_batch([f"{i}" * 500 for i in range(10)], np.ones((10, 2)), [huge] * 10)
        for value in (index.search([1.0, 1.0]), index, database, index.stats(), database.stats()):
            shown(value)
    assert len(markup._short(deep)) < 10_000
    assert len(shown(markup.Stats({str(i): {"x": i} for i in range(1000)})).rows) == markup.MAX_LINES + 1


def test_stats_are_dicts() -> None:
    with kektordb.open(":memory:") as database:
        index = database.create_index("a", dim=2)
        assert index.stats() == dict(index.stats())
        assert isinstance(index.stats(graph=True)["graph"], dict)
