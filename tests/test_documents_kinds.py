"""What each kind of file says: its text, headings, pages, rows, and what it says about itself."""

from __future__ import annotations

import io
import random
import sys
import zipfile
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import office
import pytest

from kektordb.documents import Chunking, Document, load, parse, split
from kektordb.errors import DocumentError


def headings(document: Document) -> list[tuple[int, str]]:
    for heading in document.headings:
        assert 0 <= heading.start < heading.end <= len(document.text)
    return [(heading.level, heading.title) for heading in document.headings]


# ------------------------------------------------------------------------------------------------------------ Markdown

MARKDOWN = """\
---
title: "The Guide"
tags: [one, two]
authors:
  - Ann
  - Bob
draft: false
weight: 3
---
Before any heading.

# Guide to *everything* #

Some text
is here.

Second
------

```python
# no heading
```

~~~~
## none either
~~~
~~~~

<!--
# not shown
-->

### Deep [link](http://example.org) `code` {#anchor}

- item
---
    # indented code

#hashtag
####### seven
   ## Indented

| a |
|---|
"""


def test_markdown_has_headings_and_front_matter() -> None:
    document = parse(MARKDOWN.encode(), "guide.md")

    assert headings(document) == [
        (1, "Guide to *everything*"),
        (2, "Second"),
        (3, "Deep link code"),
        (2, "Indented"),
    ]
    assert document.text == MARKDOWN
    assert document.title == "The Guide"
    assert document.metadata == {
        "title": "The Guide",
        "tags": ["one", "two"],
        "authors": ["Ann", "Bob"],
        "draft": False,
        "weight": 3,
    }
    assert MARKDOWN[document.body :].startswith("Before any")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_markdown_is_understood_with_any_line_ends(newline: str) -> None:
    document = parse(MARKDOWN.replace("\n", newline).encode(), "guide.md")

    assert len(document.headings) == 4
    assert document.metadata["weight"] == 3


def test_front_matter_in_toml_and_what_is_none() -> None:
    toml = parse(b'+++\ntitle = "T"\ndate = 2020-01-01\nn = 2\n[more]\na = 1\n+++\ntext', "a.md")
    assert (toml.title, toml.metadata) == ("T", {"title": "T", "n": 2})
    assert toml.text[toml.body :] == "text"
    for text in ("---\na: 1\n", "--- \nx", "----\na: 1\n---\n", "text\n---\na: 1\n---\n", "+++\n=\n+++\n"):
        assert parse(text.encode(), "a.md").metadata == {}


def test_a_chunk_of_markdown_has_one_heading_and_fenced_code_is_kept_whole() -> None:
    code = "```\n" + "x = 1\n\n" * 30 + "```\n"
    text = f"# A\n\n## B\n\n{'Words are here. ' * 20}\n\n{code}\n# C\n\nshort\n"

    chunks = split(parse(text.encode(), "a.md"), Chunking(strategy="markdown", size=300, overlap=30))

    assert chunks[0].heading == "A > B"
    assert chunks[0].text.startswith("# A\n\n## B\n\nWords")
    assert chunks[-1].text == "# C\n\nshort"
    assert chunks[-1].heading == "C"
    assert any(code.strip() in chunk.text for chunk in chunks)
    for chunk in chunks:
        assert chunk.text.count("# C") == 0 or chunk is chunks[-1], "nothing of the section before"


def test_chunks_begin_behind_front_matter() -> None:
    chunks = split(parse(MARKDOWN.encode(), "guide.md"), Chunking(size=100, overlap=10))

    assert chunks[0].text.startswith("Before any")


# ---------------------------------------------------------------------------------------------------------------- HTML

HTML = """<!DOCTYPE html>
<html><head><title> The &amp; Page </title><meta charset="utf-8">
<style>p > b { color: red }</style><script>if (a < b) document.write("<h1>no</h1>")</script></head>
<body><!-- hidden <h1>no</h1> --><h1 class='a>b' title="x > y">Top &lt;one&gt;</h1>
<p>Some <b>bold</b>&nbsp;text,
 on two   lines.<br>And a third.</p><noscript>Enable it</noscript>
<ul><li>first<li>second <a href=x>link</a></ul>
<h2><a href="#">Sub<br>head</a></h2>
<table><tr><th>Name<th>Price<tr><td>Chair<td>5 &euro;</table>
<pre>
<i>def</i> f():
    <b>return</b> 1 &lt; 2

x
</pre>1 < 2 & 3 &copy; &#128512; &unknown; &#99999999999;
</body></html>
"""


def test_html_is_read_without_markup() -> None:
    document = parse(HTML.encode(), "page.html")

    assert document.title == "The & Page"
    assert headings(document) == [(1, "Top <one>"), (2, "Sub head")]
    assert document.text == (
        "Top <one>\n\nSome bold text, on two lines.\nAnd a third.\n\n- first\n- second link\n\nSub\nhead\n\n"
        "Name | Price\nChair | 5 €\n\ndef f():\n    return 1 < 2\n\nx\n\n1 < 2 & 3 © 😀 &unknown; \ufffd"
    )


class Words(HTMLParser):
    """The words that the parser of the standard library sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.hidden = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.hidden += tag in ("script", "style", "title", "noscript")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style", "title", "noscript")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.words += data.split()


def test_html_has_the_words_that_another_parser_finds() -> None:
    parts = ["<p>", "</p>", "<b>", "</b>", " and ", "one", "two ", "&amp;", "<!-- x -->", '<i a="b>c">', "\n", "<br/>"]
    parts += ["<script>x<y</script>", "<style>z</style>", "<div>", "</div>", "<hr>", "é&eacute;", "<h2>", "</h2>"]
    rng = random.Random(3)
    for _ in range(300):
        html = "".join(rng.choices(parts, k=40))

        found = parse(html.encode(), "a.html").text

        assert "".join(found.split()) == "".join(Words(html).words)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("a<!-- never closed <p>b", "a"),
        ("a<script>never closed", "a"),
        ("a<noscript>never closed", "anever closed"),
        ("a <p title='never closed>b", "a\n\nb"),
        ("a<p", "a"),
        ("a</", "a"),
        ("</p></pre></h1>a</td>", "a"),
        ("<h1>a<h2>b", "a\n\nb"),
        ("<title>never closed", "never closed"),
        ("", ""),
    ],
)
def test_broken_html_is_read_as_browsers_do(html: str, text: str) -> None:
    assert parse(html.encode(), "a.htm").text == text


def test_html_and_source_code_say_their_encoding() -> None:
    page = '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-2"><p>Dvořák</p>'
    assert parse(page.encode("iso-8859-2"), "a.html").text == "Dvořák"
    assert parse(page.encode(), "a.html").text == "Dvořák", "UTF-8 whatever it says"
    japanese = '<meta charset="iso-2022-jp">日本'
    assert parse(japanese.encode("iso-2022-jp"), "a.html").text == "日本"
    assert parse("# -*- coding: koi8-r -*-\n# Привет".encode("koi8-r"), "a.py").text.endswith("Привет")
    for codec in ("zip", "hex", "idna", "punycode", "unicode_escape", "rot13", "utf-7", "no-such", "undefined"):
        assert parse(f"<meta charset={codec}>gr\xfc\xdfe".encode("cp1252"), "a.html").text == "grüße"


# --------------------------------------------------------------------------------------------------------- source code

PYTHON = '''\
"""A module."""

import os


class Shop:
    """Sells."""

    @property
    def name(self):
        return "x"

    # What it costs.
    async def price(self, item):
        total = 0
        return total


def main():
    Shop()
'''


def test_source_code_has_its_definitions_as_headings() -> None:
    document = parse(PYTHON.encode(), "shop.py")

    assert headings(document) == [(0, "Shop"), (4, "name"), (4, "price"), (0, "main")]
    assert document.language == "python"


@pytest.mark.parametrize(
    ("name", "line", "title"),
    [
        ("a.go", "func (s *Server) Start(ctx context.Context) error {", "Start"),
        ("a.rs", "pub(crate) async fn run<T>(t: T) {", "run"),
        ("a.rs", "impl<T> Tree for Node<T> {", "Tree"),
        ("a.js", "export default async function load() {", "load"),
        ("a.ts", "  export interface Options {", "Options"),
        ("a.java", "public static final class Node {", "Node"),
        ("a.c", "static int *find(const char *name)", "find"),
        ("a.cpp", "std::string Shop::name() {", "Shop::name"),
        ("a.pyx", "    cdef inline int push(self, int a) except -1:", "push"),
        ("a.rb", "  def size?", "size?"),
        ("a.sql", "CREATE OR REPLACE FUNCTION total(a int)", "total"),
        ("a.proto", "message Item {", "Item"),
        ("a.kt", "data class Point(val x: Int)", "Point"),
    ],
)
def test_definitions_are_found_in_many_languages(name: str, line: str, title: str) -> None:
    text = f"x = 1;\n{line}\n  y\n"

    document = parse(text.encode(), name)

    assert [heading.title for heading in document.headings] == [title]
    assert text[document.headings[0].start :].startswith(line)


@pytest.mark.parametrize("strategy", ["code", "recursive"])
def test_source_code_is_cut_before_definitions_and_keeps_its_indentation(strategy: str) -> None:
    chunks = split(parse(PYTHON.encode(), "shop.py"), Chunking(strategy=strategy, size=100, overlap=0))

    assert [chunk.text.split("\n")[0] for chunk in chunks] == [
        '"""A module."""',
        "    @property",
        "    # What it costs.",
        "def main():",
    ]
    assert [chunk.heading for chunk in chunks] == [None, "Shop > name", "Shop > price", "main"]


# ---------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_rows_of_a_table_are_units_with_their_columns(delimiter: str) -> None:
    lines = [["name", "price", "code", "note"], ["Chair", "5", "007", ""], [], ["Table", "7.5", "12", '"two\nlines"']]
    text = "\r\n".join(delimiter.join(line) for line in lines)

    chunks = split(parse(text.encode(), "a.tsv"), Chunking(size=500, overlap=50))

    assert [(chunk.row, chunk.text) for chunk in chunks] == [
        (1, "name: Chair\nprice: 5\ncode: 007"),
        (2, "name: Table\nprice: 7.5\ncode: 12\nnote: two\nlines"),
    ]
    assert chunks[0].fields == {"name": "Chair", "price": 5.0, "code": "007"}
    assert chunks[1].fields == {"name": "Table", "price": 7.5, "code": "12", "note": "two\nlines"}


def test_tables_without_names_and_with_open_quotes_are_read() -> None:
    assert parse(b"1,2\n3,4,5\n", "a.csv").text == "column 1: 1\ncolumn 2: 2\n\ncolumn 1: 3\ncolumn 2: 4\ncolumn 3: 5"
    text = 'a,b\n"x,1\n' + "y,2\n" * 100_000
    assert len(parse(text.encode(), "a.csv").rows) == 100_001
    assert parse(b"", "a.csv").rows == parse(b"\n\n,,\n", "a.csv").rows == ()


def test_a_long_row_becomes_several_chunks_with_the_same_fields() -> None:
    text = "title,body\nT,%s\nU,short\n" % ("word " * 300)

    chunks = split(parse(text.encode(), "a.csv"), Chunking(size=400, overlap=40))

    assert len(chunks) > 4
    assert {chunk.row for chunk in chunks[:-1]} == {1}
    assert all(chunk.fields == {"title": "T"} for chunk in chunks[:-1]), "a text so long is no field"
    assert chunks[-1].text == "title: U\nbody: short"


def test_lines_of_json_are_rows() -> None:
    lines = ['{"text": "One\\nmore.", "n": 1, "tags": ["a", "b"], "deep": {"x": [1]}, "none": null, "ok": true}']
    lines += ["", '"only text"', "[1, 2]", f'{{"large": {1 << 60}}}']

    document = parse("\r\n".join(lines).encode(), "a.jsonl")

    chunks = split(document)
    assert [chunk.text for chunk in chunks] == [
        'text: One\nmore.\nn: 1\ntags: ["a","b"]\ndeep: {"x":[1]}\nok: true',
        "only text",
        "[1,2]",
        f"large: {1 << 60}",
    ]
    assert [chunk.fields for chunk in chunks] == [
        {"text": "One\nmore.", "n": 1, "tags": ["a", "b"], "ok": True},
        {},
        {},
        {},
    ]
    for wrong in ("{", "[" * 100_000, '{"a": 1}\n{"a"}', '"\\ud800"', "NaN"):
        with pytest.raises(DocumentError, match="line"):
            parse(wrong.encode(), "a.jsonl")


def test_a_table_too_large_is_refused() -> None:
    with pytest.raises(DocumentError, match="columns"):
        parse(b"a," * 1_001, "a.csv")
    with pytest.raises(DocumentError, match="line 1"):
        parse(b"a\t" + b"b" * 200_000, "a.csv")


# -------------------------------------------------------------------------------------------------------- PDF and DOCX


def test_a_pdf_has_pages(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    path = tmp_path / "a.pdf"
    path.write_bytes(office.pdf(["First page.\nMore.", "", "Third page."], title="The Paper"))

    document = load(path)

    assert document.text == "First page.\nMore.\n\n\n\nThird page."
    assert document.title == "The Paper"
    assert document.metadata == {"n_pages": 3}
    assert [document.page_at(document.text.index(word)) for word in ("First", "More", "Third")] == [1, 1, 3]
    chunks = split(document, Chunking(size=20, overlap=0))
    assert [(chunk.page, chunk.text) for chunk in chunks] == [(1, "First page.\nMore."), (3, "Third page.")]


def test_a_docx_has_headings_and_tables(tmp_path: Path) -> None:
    pytest.importorskip("docx")
    row = "<w:tr><w:tc>{}</w:tc><w:tc><w:tcPr><w:gridSpan w:val='999999999'/></w:tcPr>{}</w:tc></w:tr>"
    rows = [row.format(office.p(one), office.p(other)) for one, other in [("Name", "Price"), ("Chair", "5")]]
    table = f"<w:tbl>{''.join(rows)}</w:tbl>"
    body = [
        office.p("The Report", "Title"),
        office.p("Intro", "heading1"),
        office.p("Some text."),
        "<w:p/>",
        f"<w:sdt><w:sdtContent>{office.p('Inside.')}</w:sdtContent></w:sdt>",
        office.p("Part", "heading2"),
        table,
        "<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:delText>gone</w:delText><w:t>c</w:t></w:r></w:p>",
    ]
    path = tmp_path / "a.docx"
    path.write_bytes(office.docx("".join(body)))

    document = load(path)

    assert document.text == (
        "The Report\n\nIntro\n\nSome text.\n\nInside.\n\nPart\n\nName | Price\nChair | 5\n\na\tb\nc"
    )
    assert document.title == "The Report"
    assert headings(document) == [(1, "Intro"), (2, "Part")]


def test_a_docx_that_unpacks_to_too_much_is_refused() -> None:
    pytest.importorskip("docx")
    for more in ({"word/media/a.png": bytes(3_000_000)}, {"word/more.xml": b" " * 600_000}):
        with pytest.raises(DocumentError, match="unpacks"):
            parse(office.docx(office.p("text"), **more), "a.docx", limit_bytes=2_000_000)
    many = {f"part{number}": b"" for number in range(10_001)}
    with pytest.raises(DocumentError, match="parts"):
        parse(office.docx(office.p("text"), **many), "a.docx")


def test_entities_of_a_docx_are_not_unfolded() -> None:
    pytest.importorskip("docx")
    data = office.docx("@")
    entities = "".join(f"<!ENTITY {new} '{f'&{old};' * 10}'>" for old, new in pairwise("abcdefghi"))
    bomb = f"<!DOCTYPE w:document [<!ENTITY a '{'lol' * 100}'>{entities}]>"
    inside = f'<w:document xmlns:w="{office.WORD}"><w:body>{office.p("&i;")}</w:body></w:document>'
    file, changed = io.BytesIO(), zipfile.ZipFile(io.BytesIO(data))
    with zipfile.ZipFile(file, "w") as archive:
        for name in changed.namelist():
            archive.writestr(name, bomb + inside if name == "word/document.xml" else changed.read(name))

    try:
        document = parse(file.getvalue(), "a.docx")
    except DocumentError:
        return
    assert len(document.text) < 1_000


@pytest.mark.parametrize(("name", "package"), [("a.pdf", "pypdf"), ("a.docx", "docx")])
def test_without_its_package_the_error_names_the_extra(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(DocumentError, match=r"pip install kektordb\[documents\]"):
        parse(b"", name)


@pytest.mark.parametrize("name", ["a.pdf", "a.docx"])
def test_what_is_no_pdf_or_docx_is_refused(name: str) -> None:
    pytest.importorskip("pypdf")
    pytest.importorskip("docx")
    for data in (b"", b"text", b"%PDF-1.7", b"PK\x03\x04", bytes(1_000), office.docx("")[:700]):
        with pytest.raises(DocumentError):
            parse(data, name)
