"""How are the systems that search texts measured? Each gets the same terms, and a query in the form it likes best."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import kektordb
from benchmarks.options import NO_AUTOSAVE
from kektordb._metadata import MetadataStore, encode_many
from kektordb.operations import IndexConfig
from kektordb.reserving import SLICE_LISTS
from kektordb.text import Analyzer
from kektordb.text.fields import Counted, TextFields

__all__ = ["LANGUAGE", "TEXT_NAMES", "Bm25s", "Kektordb", "Tantivy", "TextParts", "TextSystem", "available_texts"]

LANGUAGE = "english"
K1, B = 1.2, 0.75
FIELD = "text"
# The graph is not what is measured here: its vectors are short.
DIM = 8
HEAP = 256 << 20


class TextSystem(ABC):
    """A system that holds some texts; text i of those it was made of is number i."""

    name: ClassVar[str]
    package: ClassVar[str]
    # May texts be added and deleted one by one?
    changes: ClassVar[bool] = True

    @abstractmethod
    def searchers(self, k: int) -> dict[str, Callable[[str], Callable[[], Any]]]:
        """Return, by the name of a row, what makes of a query a call to be timed."""

    def add(self, text: str) -> None:
        """Add a text and make it visible; with `changes` only."""
        raise NotImplementedError

    def delete(self) -> None:
        """Delete the text that was added first of those that are left."""
        raise NotImplementedError

    @staticmethod
    @abstractmethod
    def index(texts: list[str]) -> Any:
        """Index raw texts on one thread, from the first letter on."""

    def close(self) -> None:
        """Let go of everything."""
        return


class Kektordb(TextSystem):
    """The public calls, of a durable database."""

    name = package = "kektordb"

    def __init__(self, texts: list[str], _terms: list[list[str]], folder: Path) -> None:
        self.db = kektordb.open(folder, **NO_AUTOSAVE)
        self.items = self.db.create_index("texts", dim=DIM, text_language=LANGUAGE, k1=K1, b=B)
        self.vectors = np.random.default_rng(1).standard_normal((len(texts), DIM), dtype=np.float32)
        self.n_deleted, self.n = 0, len(texts)
        self.items.add_batch(list(map(str, range(self.n))), self.vectors, [{FIELD: text} for text in texts])

    def searchers(self, k: int) -> dict[str, Callable[[str], Callable[[], Any]]]:
        search = self.items.search
        return {self.name: lambda query: lambda: search(text=query, k=k)}

    def add(self, text: str) -> None:
        self.items.add(str(self.n), self.vectors[self.n % len(self.vectors)], {FIELD: text})
        self.n += 1

    def delete(self) -> None:
        self.items.delete(str(self.n_deleted))
        self.n_deleted += 1

    @staticmethod
    def index(texts: list[str]) -> Any:
        return TextParts(texts, [], Path())

    def scores(self, query: str, k: int) -> dict[int, float]:
        """Return text number and score of the best."""
        return {int(hit.id): hit.score for hit in self.items.search(text=query, k=k)}

    def close(self) -> None:
        self.db.close()


class LeastGraph(Kektordb):
    """The public calls, of a database in memory whose vectors say nothing: for those who only search texts."""

    name = "kektordb-least"

    def __init__(self, texts: list[str], _terms: list[list[str]], _folder: Path) -> None:
        self.db = kektordb.open(":memory:")
        self.items = self.db.create_index("texts", dim=1, m=2, ef_construction=2, text_language=LANGUAGE, k1=K1, b=B)
        self.vectors = np.ones((len(texts), 1), np.float32)
        self.n_deleted, self.n = 0, len(texts)
        self.items.add_batch(list(map(str, range(self.n))), self.vectors, [{FIELD: text} for text in texts])

    def searchers(self, k: int) -> dict[str, Callable[[str], Callable[[], Any]]]:
        return {}


class TextParts(TextSystem):
    """The text index alone: no vectors, ids, log."""

    name = "kektordb-text"
    package = "kektordb"

    def __init__(self, texts: list[str], _terms: list[list[str]], _folder: Path) -> None:
        self.fields = TextFields(IndexConfig(text_language=LANGUAGE, k1=K1, b=B), MetadataStore())
        encoded = encode_many([{FIELD: text} for text in texts], list(map(str, range(len(texts)))))
        self.n_deleted, self.n = 0, 0
        self._put(self.fields.count(encoded))

    def _put(self, counted: list[list[Counted]]) -> None:
        """Do what a collection does: get all memory first."""
        room = self.fields.room(self.n, counted, [])
        while room.make(SLICE_LISTS):
            pass
        for text in counted:
            self.fields.add(self.n, text)
            self.n += 1

    def searchers(self, k: int) -> dict[str, Callable[[str], Callable[[], Any]]]:
        find = self.fields.index.search

        def prepared(query: str) -> Callable[[], Any]:
            terms = self.fields.query(query)
            return lambda: find(terms, k)

        return {self.name: prepared}

    def add(self, text: str) -> None:
        self._put(self.fields.count(encode_many([{FIELD: text}], [""])))

    def delete(self) -> None:
        self.fields.remove(self.n_deleted)
        self.fields.tidy(1)
        self.n_deleted += 1

    @staticmethod
    def index(texts: list[str]) -> Any:
        return TextParts(texts, [], Path())


class Tantivy(TextSystem):
    """In memory, one segment, no positions; and as a folder of files, for changes."""

    name = package = "tantivy"

    def __init__(self, texts: list[str], terms: list[list[str]], _folder: Path) -> None:
        self._index, self._writer = self._made([" ".join(words) for words in terms], "whitespace", None)
        self.n_deleted, self.n = 0, len(texts)
        self._analyzer = Analyzer(LANGUAGE)

    @staticmethod
    def _made(texts: Iterable[str], tokenizer: str, folder: Path | None) -> tuple[Any, Any]:
        import tantivy

        schema = tantivy.SchemaBuilder()
        schema.add_text_field(FIELD, stored=False, tokenizer_name=tokenizer, index_option="freq")
        schema.add_integer_field("number", stored=True, indexed=True)
        index = tantivy.Index(schema.build(), *([] if folder is None else [str(folder)]))
        writer = index.writer(HEAP, 1)
        for number, text in enumerate(texts):
            document = tantivy.Document()
            document.add_text(FIELD, text)
            document.add_integer("number", number)
            writer.add_document(document)
        writer.commit()
        index.reload()
        return index, writer

    def searchers(self, k: int) -> dict[str, Callable[[str], Callable[[], Any]]]:
        searcher, parse = self._index.searcher(), self._index.parse_query

        def prepared(query: str) -> Callable[[], Any]:
            parsed = parse(" ".join(self._analyzer.analyse(query)), [FIELD])
            return lambda: searcher.search(parsed, k, count=False)

        def whole(query: str) -> Callable[[], Any]:
            text = " ".join(self._analyzer.analyse(query))
            return lambda: searcher.search(parse(text, [FIELD]), k, count=False)

        return {"tantivy, parsed before": prepared, "tantivy": whole}

    def add(self, text: str) -> None:
        import tantivy

        document = tantivy.Document()
        document.add_text(FIELD, text)
        document.add_integer("number", self.n)
        self._writer.add_document(document)
        self._show()
        self.n += 1

    def delete(self) -> None:
        self._writer.delete_documents("number", self.n_deleted)
        self._show()
        self.n_deleted += 1

    def _show(self) -> None:
        self._writer.commit()
        self._index.reload()

    @staticmethod
    def index(texts: list[str]) -> Any:
        return Tantivy._made(texts, "en_stem", None)


class TantivyFiles(Tantivy):
    """The same as a folder of files."""

    name = "tantivy-files"

    def __init__(self, texts: list[str], terms: list[list[str]], folder: Path) -> None:
        self._index, self._writer = self._made([" ".join(words) for words in terms], "whitespace", folder)
        self.n_deleted, self.n = 0, len(texts)

    def searchers(self, k: int) -> dict[str, Callable[[str], Callable[[], Any]]]:
        return {}


class Bm25s(TextSystem):
    """With compiled scoring where numba is installed, and NumPy's."""

    name = package = "bm25s"
    changes = False

    def __init__(self, _texts: list[str], terms: list[list[str]], _folder: Path) -> None:
        self._analyzer = Analyzer(LANGUAGE)
        self._found = {"bm25s": self._made(terms, "numpy")}
        try:
            import numba  # noqa: F401

            self._found["bm25s, numba"] = self._made(terms, "numba")
        except ImportError as error:
            print(f"left out: bm25s with numba ({error})", flush=True)

    @staticmethod
    def _made(terms: Any, backend: str) -> Any:
        import bm25s

        made = bm25s.BM25(method="lucene", k1=K1, b=B, backend=backend)
        made.index(terms, show_progress=False)
        return made

    def searchers(self, k: int) -> dict[str, Callable[[str], Callable[[], Any]]]:
        def prepare(index: Any) -> Callable[[str], Callable[[], Any]]:
            def prepared(query: str) -> Callable[[], Any]:
                terms = [self._analyzer.analyse(query)]
                return lambda: index.retrieve(terms, k=k, show_progress=False)

            return prepared

        return {f"{name}, cut before": prepare(index) for name, index in self._found.items()}

    def scores(self, query: str) -> Any:
        """Return the scores of all texts, float32 (n,)."""
        return self._found["bm25s"].get_scores(self._analyzer.analyse(query))

    @staticmethod
    def index(texts: list[str]) -> Any:
        import bm25s
        import Stemmer

        stemmer = Stemmer.Stemmer(LANGUAGE)
        return Bm25s._made(bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), "numpy")


CLASSES: tuple[type[TextSystem], ...] = (Kektordb, LeastGraph, TextParts, Tantivy, TantivyFiles, Bm25s)
TEXT_NAMES = tuple(kind.name for kind in CLASSES)


def available_texts(names: Iterable[str]) -> list[type[TextSystem]]:
    """Return the systems of these names whose packages can be imported; a line tells which one cannot, and why."""
    import importlib

    wanted, found = set(names), []
    for kind in CLASSES:
        if kind.name not in wanted:
            continue
        try:
            importlib.import_module(kind.package)
        except Exception as error:  # whatever another project's import raises, the others are measured
            print(f"left out: {kind.name} ({type(error).__name__}: {error})", flush=True)
            continue
        found.append(kind)
    return found
