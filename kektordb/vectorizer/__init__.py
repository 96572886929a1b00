"""An index in step with a folder, or with what Python code hands over::

Vectorizer               vectorizer.py   passes one at a time, and how they went
  Source.scan, .read     sources.py, folder.py, patterns.py   which documents are there?
  Sync                   syncing.py      one pass: reading, embedding and storing side by side
    Planner              planning.py, describing.py   what must happen to the items of a document?
    embed                embedding.py    vectors for the texts of many documents
    store                storing.py      chunks and record of a document in one batch
    Failures             failures.py     when is it tried again?
  Ledger               ledger.py       what is known of each document
"""

from kektordb.vectorizer.folder import FolderSource
from kektordb.vectorizer.sources import Entry, IterableSource, Scan, Source
from kektordb.vectorizer.syncing import Counts
from kektordb.vectorizer.vectorizer import FailedDocument, Status, Vectorizer

__all__ = [
    "Counts",
    "Entry",
    "FailedDocument",
    "FolderSource",
    "IterableSource",
    "Scan",
    "Source",
    "Status",
    "Vectorizer",
]
