"""Files are read as what they are: text of any encoding; and what cannot be read says why."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from kektordb.documents import load, parse
from kektordb.errors import DocumentError

TEXT = "Ein naïver Satz, größer als nötig: “so” ab 5 €.\r\nDie zweite Zeile.\n" * 5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("charset_normalizer", [True, False])
def test_the_encoding_of_text_is_found(
    encoding: str, charset_normalizer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not charset_normalizer:
        monkeypatch.setitem(sys.modules, "charset_normalizer", None)

    document = parse(TEXT.encode(encoding), "a.txt")

    assert document.text == TEXT
    assert document.kind == "text"
    assert document.encoding is not None


def test_text_in_cyrillic_and_japanese_encodings_is_guessed_when_there_is_a_package_for_it() -> None:
    pytest.importorskip("charset_normalizer")
    for text, encoding in [
        ("Съешь же ещё этих мягких французских булок, да выпей чаю. " * 20, "cp1251"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 20, "shift_jis"),
    ]:
        assert parse(text.encode(encoding), "a.txt").text == text


def test_every_byte_can_be_read_but_zero_and_many_control_characters() -> None:
    data = bytes(range(1, 256)) + b"text " * 100

    assert len(parse(data, "a.txt").text) == len(data)
    for data in (
        random.Random(1).randbytes(9_000).replace(b"\0", b"\1"),
        b"\x7fELF\x02\x01\0\0\0",
        b"a\0b",
        b"\0",
        b"\xff\xfe" + bytes(range(0xD8, 0xE0)) * 50,
    ):
        with pytest.raises(DocumentError):
            parse(data, "a.txt")


def test_files_are_read_by_their_suffix_and_line_ends_stay(tmp_path: Path) -> None:
    path = tmp_path / "Notes.TXT"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")

    assert load(path).text == "one\r\ntwo\rthree\n"
    assert load(str(path)) == load(path)
    assert load(path).encoding == "utf-8"


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.txt")
    with pytest.raises((DocumentError, OSError)):
        load(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.txt")
        with pytest.raises(DocumentError, match=r"pipe\.txt: it is no file"):
            load(tmp_path / "pipe.txt")


def test_too_large_a_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text("x" * 101)

    with pytest.raises(DocumentError, match="101 bytes, more than 100"):
        load(path, limit_bytes=100)
    assert len(load(path, limit_bytes=101).text) == 101
    # Sparse: it has no content to read.
    os.truncate(path, 1 << 40)
    with pytest.raises(DocumentError, match="more than"):
        load(path)
