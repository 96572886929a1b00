"""Files become documents, and documents become chunks::

    load(path)               reading.py     what is in the file?
      decode(bytes)          encodings.py   text, of any encoding
    split(document, how)     splitting.py   list of Chunk
      cuts(text, plan)       cutting.py     where?
      ruler(text, unit)      tokens.py      how long?

Nothing here knows of databases or embedders. Files are the work of strangers: time and memory are bounded for all of
them.
"""

from kektordb.documents.document import STRATEGIES, Chunk, Chunking, Document, Heading, Row, as_chunking
from kektordb.documents.kinds import SUFFIXES, kind_of
from kektordb.documents.reading import LIMIT_BYTES, load, parse
from kektordb.documents.splitting import split
from kektordb.documents.tokens import count_tokens

__all__ = [
    "LIMIT_BYTES",
    "STRATEGIES",
    "SUFFIXES",
    "Chunk",
    "Chunking",
    "Document",
    "Heading",
    "Row",
    "as_chunking",
    "count_tokens",
    "kind_of",
    "load",
    "parse",
    "split",
]
