"""In which encoding is a text file written?

A file does not say. What we go by, the surest first:

1. A byte order mark.
2. It decodes as UTF-8: text in any other encoding of more than a few letters does not.
3. What HTML or source code declares. It comes after UTF-8, for files are converted more often than their declarations;
   but before it when it is one of the seven-bit encodings, which UTF-8 cannot be told from.
4. Zeros at every other byte: UTF-16 without a mark.
5. charset-normalizer, when it is installed (the extra ``documents``), on the beginning of the file, for it is slow. It
   tells scripts apart very well, Latin encodings of each other less: cp1252 wins unless another one is clearly better.
6. cp1252, which most files are that come here, and Latin-1 where a byte has no meaning in it: never an error. A wrong
   guess costs some accented letters; an error would cost the file.

A file with zero bytes that is not UTF-16 or UTF-32 is no text at all, nor is one with many control characters.
"""

from __future__ import annotations

import codecs
import re

from kektordb.errors import DocumentError

__all__ = ["decode"]

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # it begins with the one of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Python has codecs that are no encodings of text, or take quadratic time: what a file declares is not looked up freely.
KNOWN = re.compile(
    r"(us-)?ascii|latin[-_]?\d{1,2}|iso[-_]?8859[-_]?\d{1,2}|windows[-_]?\d{3,4}|(cp|ibm)\d{3,4}|koi8[-_][rtu]"
    r"|mac[-_]?\w{4,12}|macintosh|(shift|x)[-_]?s?jis(_2004|x0213)?|s[-_]?jis|euc[-_]?(jp|kr|cn|jis_2004)"
    r"|gb2312|gbk|gb18030|big5([-_]?hkscs)?|johab|tis[-_]?620|hz(-gb-2312)?|iso[-_]?2022[-_]?(jp|kr)([-_]\w{1,4})?",
    re.IGNORECASE,
)
SEVEN_BIT = re.compile(r"iso[-_]?2022|hz", re.IGNORECASE)
# What files have that come from systems in use. The rest of what charset-normalizer knows are mostly wrong guesses.
GUESSED = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "koi8_r", "cp874"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
# Not tab, line ends, form feed, backspace, and the escape of coloured logs.
CONTROL = bytes({*range(32), 127} - {8, 9, 10, 12, 13, 27})
# What charset-normalizer sees: in 32 kB it has met the letters that tell encodings apart, in some 20 ms.
SAMPLE_BYTES = 32_768


def decode(data: bytes, declared: str | None = None) -> tuple[str, str]:
    """Return the text of a file without its byte order mark, and the name of its encoding.

    Parameters
    ----------
    declared : str or None
        The encoding that the file says it has.

    Raises
    ------
    DocumentError
        It is no text.
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return _marked(data[len(mark) :], encoding), encoding
    codec = _codec(declared)
    if codec and SEVEN_BIT.match(codec) and (text := _try(data, codec)) is not None:
        return text, codec
    if b"\0" in data:
        return _with_zeros(data)
    head = data[:SAMPLE_BYTES]
    if len(head) - len(head.translate(None, CONTROL)) > len(head) // 20:
        raise DocumentError("it is no text: it has many control characters")
    for name in ("utf-8", codec):
        if name and (text := _try(data, name)) is not None:
            return text, name
    for name in (_guessed(data), "cp1252"):
        if name and (text := _try(data, name)) is not None:
            return text, name
    return data.decode("latin-1"), "latin-1"


def _marked(data: bytes, encoding: str) -> str:
    text = data.decode(encoding, "replace")
    # Some damage is shown as it is; a file of it is not what its mark says.
    if text.count("\ufffd") > len(text) // 10 + 1:
        raise DocumentError(f"it begins with the mark of {encoding}, and is not written in it")
    return text


def _codec(declared: str | None) -> str | None:
    if declared is None or not KNOWN.fullmatch(declared):
        return None
    try:
        return codecs.lookup(declared).name
    except LookupError:
        return None


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeError:
        return None


def _with_zeros(data: bytes) -> tuple[str, str]:
    pairs = len(data) // 2
    even, odd = data[::2].count(0), data[1::2].count(0)
    # In UTF-16 the letters, spaces and line ends of most files are pairs of a zero and a byte that is none.
    if len(data) % 2 == 0 and max(even, odd) > pairs // 5 and min(even, odd) <= pairs // 100:
        encoding = "utf-16-le" if odd > even else "utf-16-be"
        text = _try(data, encoding)
        if text is not None and "\0" not in text:
            return text, encoding
    raise DocumentError("it is no text: it has bytes of zero")


def _guessed(data: bytes) -> str | None:
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return None
    found = from_bytes(data[:SAMPLE_BYTES], cp_isolation=list(GUESSED))
    best = found.best()
    if best is None:
        return None
    # In a few accented letters its Latin encodings hardly differ, and the first of them is not the most common one.
    western = next((one for one in found if "cp1252" in one.could_be_from_charset), None)
    return "cp1252" if western and western.chaos <= best.chaos + 0.02 else _codec(best.encoding)
