"""Files of strangers: whatever is in them, reading and cutting ends soon, with chunks or with a DocumentError."""

from __future__ import annotations

import os
import random
import time

import office
import pytest
from prose import prose
from test_documents_kinds import HTML, MARKDOWN, PYTHON

from kektordb.documents import STRATEGIES, Chunking, count_tokens, parse, split
from kektordb.errors import DocumentError

CSV = "name,price,note\n" + "".join(f'"Chair {n}",{n}.5,"of ""oak"", {n}"\n' for n in range(20))
JSONL = "".join(f'{{"n": {n}, "text": "No. {n}\\u00e9", "tags": ["a", [1, {{"b": null}}]]}}\n' for n in range(20))
BODY = office.p("Intro", "heading1") + office.p("Some text.") * 3 + "<w:tbl><w:tr><w:tc/></w:tr></w:tbl>"
SEEDS = {
    "a.txt": prose(1, 6).encode(),
    "b.txt": prose(2, 6).encode("utf-16"),
    "c.txt": prose(3, 6).encode("shift_jis", "ignore"),
    "a.md": MARKDOWN.encode(),
    "a.html": HTML.encode(),
    "a.py": PYTHON.encode(),
    "a.c": b"#include <a.h>\nint f(int a,\n  int b) {\n  return a;\n}\n\nstruct s {\n};\n" * 3,
    "a.csv": CSV.encode(),
    "a.jsonl": JSONL.encode(),
    "a.pdf": office.pdf(["First page.\nMore.", "Second."], title="T"),
    "a.docx": office.docx(BODY),
}
PIECES = [
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"<!--",
    b"<a b='",
    b"```\n",
    b"---\n",
    b'"',
    b"\n\n",
    b"\r",
    b"#",
]
PIECES += [b"&#xD800;", b"&#9999999999;", b"\\ud800", b"999999999999", b"{[", b"\xe2\x80\xa8", b"/Length -1", b"1e999"]


def mutant(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(changed) + 1)
        end = min(len(changed), at + rng.choice([0, 1, 2, 10, 100]))
        how = rng.randrange(5)
        if how == 0:
            changed[at:end] = rng.randbytes(end - at)
        elif how == 1:
            changed[at:end] = b""
        elif how == 2:
            changed[at:at] = rng.choice(PIECES) * rng.choice([1, 1, 3, 50])
        elif how == 3:
            changed[at:at] = changed[at:end] * rng.choice([1, 10])
        else:
            other = rng.randrange(len(changed) + 1)
            changed[at:end] = changed[other : other + end - at]
    return bytes(changed)


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.filterwarnings("ignore")  # of pypdf
def test_a_damaged_file_gives_chunks_or_a_document_error(name: str) -> None:
    rng = random.Random(name)
    n_read = 0
    for _ in range(60 if name.endswith(("pdf", "docx")) else 150):
        data = mutant(SEEDS[name], rng)
        try:
            document = parse(data, name)
        except DocumentError:
            continue
        n_read += 1
        document.text.encode()
        assert list(document.headings) == sorted(document.headings, key=lambda heading: heading.start)
        strategy, unit = rng.choice(STRATEGIES), rng.choice(["characters", "tokens"])
        covered = document.body
        for chunk in split(document, Chunking(strategy=strategy, size=60, overlap=15, unit=unit)):
            assert document.text[chunk.start : chunk.end] == chunk.text
            assert (len(chunk.text) if unit == "characters" else count_tokens(chunk.text)) <= 60
            assert not document.text[covered : chunk.start].strip()
            covered = chunk.end
        assert not document.text[covered:].strip()

    assert n_read > 0, "else nothing was tried"


REPEATED = [
    "<",
    "<!",
    "</",
    "<!--",
    '<a ="',
    "<a b='\"",
    "&#",
    "&#9",
    "<script>",
    "<svg>",
    "<title>",
    "<h1>",
    "<li>",
    "<pre>",
]
REPEATED += [
    "#",
    "# ",
    "\n#",
    "```\n",
    "~",
    "a\n===\n",
    "\n",
    "\r",
    " ",
    "\t",
    "a ",
    " \n",
    "[",
    "[a](",
    "{#a",
    "<!--\n",
    "<b> ",
]
REPEATED += [
    "public ",
    "@a\n",
    "#a\n",
    "def a\n",
    "impl<",
    "int f(\n",
    "cdef int ",
    "a:b<",
    '"',
    '"a",',
    '""\n',
    "[",
    '{"a":',
]
REPEATED += [".", ". ", "\u3002", "\u0301", "\u200d", "\U0001f642", "x", "9", "---\na: ", "a;"]


# Under `make debug` every allocation of Python is watched.
LIMIT_S = 2.0 if "KEKTORDB_SANITIZE" in os.environ else 0.5


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.py", "a.c", "a.csv", "a.jsonl"])
def test_no_repetition_takes_more_than_linear_time(name: str) -> None:
    """What takes half a second for 30 kB, where a linear time takes some 10 ms, would take hours for a large file."""
    for repeated in REPEATED:
        data = (repeated * (30_000 // len(repeated))).encode()
        started = time.process_time()
        try:
            document = parse(data, name)
        except DocumentError:
            continue
        if not document.rows:
            split(document, Chunking())
        assert time.process_time() - started < LIMIT_S, repeated


def test_a_nest_of_a_thousand_definitions_has_short_paths() -> None:
    text = "".join(f"{' ' * depth}def {'f' * 90}\n" for depth in range(1_000))

    chunks = split(parse(text.encode(), "a.py"), Chunking(size=1_000, overlap=0))

    assert 90 < max(len(chunk.heading or "") for chunk in chunks) < 1_000


def test_no_more_headings_are_kept_than_any_book_has() -> None:
    for name, heading in [("a.md", "# a\n"), ("a.py", "def a\n"), ("a.html", "<h1>a</h1>")]:
        assert len(parse(heading.encode() * 100_001, name).headings) == 100_000
